"""A run's own files: checkpoints that are read and stripped, `args.yaml`, and paths that hold from other folders."""

from __future__ import annotations

import errno
import os
import pickletools
import re
import zipfile
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from engine_models import tiny_model
from resume_cases import Watched, make_folder, short_run
from ultralytics.nn.tasks import torch_safe_load
from ultralytics.utils import DEFAULT_CFG_DICT, YAML, torch_utils

import dpose_yolo
from dpose_yolo import DPoseError, DPoseTrainer
from dpose_yolo.engine import checks
from dpose_yolo.engine.checkpoints import RefusedCheckpointError, read_checkpoint
from dpose_yolo.engine.files import strip_checkpoint
from dpose_yolo.engine.readout import READOUT
from dpose_yolo.engine.run_files import with_whole_paths

PACKAGE = Path(dpose_yolo.__file__).parent


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Watched:
    """A run that was broken off after its first epoch of three."""
    trainer = Watched(**short_run(make_folder(tmp_path_factory.mktemp("begun") / "case")), name="run")
    trainer.stop_at = ("on_model_save", 0, -1)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    return trainer


# Checkpoints


def plain_model() -> torch.nn.Module:
    """A tiny model as checkpoints have it: its settings are a dictionary."""
    model = tiny_model()
    model.args = vars(model.args)
    return model


def records(path: Path) -> dict[str, Any]:
    """What is in a checkpoint, byte for byte, without the folder's name, which is the file's, and its random number."""
    with zipfile.ZipFile(path) as file:
        found = {name.split("/", 1)[1]: file.read(name) for name in file.namelist()}
    found.pop(".data/serialization_id")
    return {**found, "data.pkl": steps(found["data.pkl"])}


def steps(pickled: bytes) -> list[tuple[str, Any]]:
    """The steps of a pickle; equal strings are the same, whether they were one object in memory or several."""
    memo: dict[int, tuple[str, Any]] = {}
    found: list[tuple[str, Any]] = []
    objects = 0
    for step, value, _ in pickletools.genops(pickled):
        if "PUT" in step.name:
            objects += found[-1][0] != "BINUNICODE"
            memo[value] = found[-1] if found[-1][0] == "BINUNICODE" else ("object", objects)
        else:
            found.append(memo[value] if "GET" in step.name else (step.name, value))
    return found


def test_stripped_as_by_the_engine(begun, tmp_path, monkeypatch):
    """To the byte, though it is read by the restricted loader, and but for the readout of the attention term."""
    now = SimpleNamespace(now=lambda: datetime(2026, 1, 1))
    monkeypatch.setattr(torch_utils, "datetime", now)
    updates = {"train_results": {"epoch": [1, 2]}}
    engine = torch_utils.strip_optimizer(begun.last, str(tmp_path / "engine.pt"), updates)
    delattr(engine["model"], READOUT)  # the one thing of a training that the engine does not know
    torch.save(engine, tmp_path / "engine.pt")
    found = strip_checkpoint(begun.last, str(tmp_path / "ours.pt"), updates)
    assert found.keys() == engine.keys() and found["epoch"] == -1 and found["optimizer"] is None
    ours, theirs = records(tmp_path / "ours.pt"), records(tmp_path / "engine.pt")
    assert ours.keys() == theirs.keys() and len(ours) > 50
    assert not [name for name in ours if ours[name] != theirs[name]]
    one, other = (torch_safe_load(str(tmp_path / name))[0] for name in ("ours.pt", "engine.pt"))
    models = [one.pop("model"), other.pop("model")]
    assert one == other
    states = [m.state_dict() for m in models]
    assert states[0].keys() == states[1].keys() and all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    assert vars(models[0]).keys() == vars(models[1]).keys() and models[0].args == models[1].args
    assert not list(tmp_path.glob(".*"))


def test_nothing_is_loaded_without_restriction():
    """A call that loads any pickle has to be thought about: this list names the files that may read one."""
    loads = re.compile(r"\b(torch\.load|torch_load|pickle\.loads?|joblib\.load|allow_pickle=True|weights_only=False)\b")
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        lines = [line.strip() for line in file.read_text().splitlines() if loads.search(line)]
        if lines:
            found[str(file.relative_to(PACKAGE))] = lines
    assert found.pop("engine/resume.py") == [
        'content = torch.load(path, map_location="cpu", weights_only=True)'
    ]  # tensors and plain values
    stripping = found.pop("engine/files.py")  # the engine's own is put out of use there
    assert stripping and all("torch_utils.torch_load" in line for line in stripping)
    assert not found


CONTENTS = {
    "notes": (b"important notes\n", "it is no PyTorch checkpoint"),
    "a bracket": (b"(hello\n", "it is no PyTorch checkpoint"),
    "a name": (b"cabin\n", "it is no PyTorch checkpoint"),
    "nothing": (b"", "it is cut off or damaged"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(50), "it is no PyTorch checkpoint"),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_files_that_are_no_checkpoint(tmp_path, case):
    file, (content, line) = tmp_path / "notes.pt", CONTENTS[case]
    file.write_bytes(content)
    with pytest.raises(DPoseError) as error:
        DPoseTrainer(resume=str(file))
    assert str(error.value) == f"{file} cannot be read as a checkpoint: {line}"
    with pytest.raises(DPoseError) as error:
        read_checkpoint(file)
    assert str(error.value) == f"{file} cannot be read as a checkpoint: {line}"


def test_checkpoints_that_are_damaged_or_something_else(tmp_path):
    file = tmp_path / "last.pt"
    torch.save({"model": plain_model(), "epoch": 1}, file)
    assert read_checkpoint(file)["epoch"] == 1
    file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises(DPoseError, match=r"last.pt cannot be read as a checkpoint: it is cut off or damaged$") as error:
        read_checkpoint(file)
    assert not isinstance(error.value, RefusedCheckpointError)
    torch.save([1, 2], file)
    for read in (read_checkpoint, checks.require_checkpoint):
        with pytest.raises(DPoseError, match=r"it is no PyTorch checkpoint$"):
            read(str(file))
    torch.save({"model": os.system}, file)
    with pytest.raises(RefusedCheckpointError, match=r"it holds \w+.system, which is no part of a model: refused"):
        read_checkpoint(file)
    with pytest.raises(AttributeError), checks.engine_errors("a fault of ours"):
        plain_model().no_such_part  # noqa: B018


# args.yaml


def test_arguments_are_whole_or_as_before(begun, monkeypatch):
    """Also where the engine writes them, at every start, before DPOSE does."""
    file = begun.save_dir / "args.yaml"
    before = file.read_bytes()
    assert b"clusters: 3" in before
    save, written = YAML.save, []

    def full(path: str | Path, data: dict, header: str = "") -> None:
        written.append(Path(path).name)
        Path(path).write_text("task: pose\nmode: tr")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(YAML, "save", full)
    with pytest.raises(DPoseError, match=r"cannot write .*args.yaml: No space left on device"):
        DPoseTrainer(resume=str(begun.last))
    assert len(written) == 1 and file.read_bytes() == before and not list(begun.save_dir.glob(".args*"))
    monkeypatch.setattr(YAML, "save", save)
    DPoseTrainer(resume=str(begun.last))
    assert yaml.safe_load(file.read_text())["clusters"] == 3
    from ultralytics.engine import trainer as engine_trainer

    assert engine_trainer.YAML is YAML  # only while a trainer is built


# Paths


def test_a_resumed_run_writes_where_its_checkpoint_lies_or_where_the_user_says(begun, tmp_path):
    """A checkpoint that was copied names the folder of the run that it came from."""
    copy = tmp_path / "last.pt"
    copy.write_bytes(begun.last.read_bytes())
    before = {f: f.read_bytes() for f in begun.save_dir.rglob("*") if f.is_file() and f.name != ".lock"}
    with pytest.raises(DPoseError, match=r"last.pt does not lie in the folder weights of a run.*set save_dir="):
        DPoseTrainer(resume=str(copy))
    assert DPoseTrainer(resume=str(copy), save_dir=str(tmp_path / "mine")).save_dir == tmp_path / "mine"
    assert before == {f: f.read_bytes() for f in before}


def test_a_run_is_resumed_from_another_folder(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "case")
    monkeypatch.chdir(folder)
    trainer = Watched(**{**short_run(folder), "data": "mini/data.yaml", "model": "tiny.yaml", "epochs": 2}, name="run")
    trainer.stop_at = ("on_model_save", 0, -1)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    data = str(folder / "mini" / "data.yaml")
    assert yaml.safe_load((trainer.save_dir / "args.yaml").read_text())["data"] == data
    assert torch_safe_load(str(trainer.last))[0]["train_args"]["data"] == data
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = Watched(resume=str(trainer.last))
    again.train()
    assert sorted(again.digests) == [1] and again.args.data == data
    monkeypatch.chdir(folder)  # other data that is named where a run goes on becomes whole, too
    torch.save({**torch_safe_load(str(again.last))[0], "epoch": 0}, again.last)
    assert DPoseTrainer(resume=str(again.last), data="mini/data.yaml").args.data == data


def test_whole_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "card.yaml").write_text("")
    (tmp_path / "link.yaml").symlink_to("card.yaml")
    for given, wanted in (
        ("card.yaml", str(tmp_path / "card.yaml")),
        (Path("link.yaml"), str(tmp_path / "link.yaml")),  # its folder counts, not that of what it stands for
        ("coco8-pose.yaml", "coco8-pose.yaml"),  # a name that the engine knows
        (None, None),
    ):
        assert with_whole_paths({"data": given, "epochs": 3}) == {"data": wanted, "epochs": 3}
    assert with_whole_paths({"distill_model": "card.yaml"}) == {"distill_model": str(tmp_path / "card.yaml")}
    assert with_whole_paths({"epochs": 3}) == {"epochs": 3}
    assert {"data", "distill_model"} <= set(DEFAULT_CFG_DICT)


def test_a_data_file_that_is_missing_is_told_by_the_name_of_its_setting():
    for name in ("data", "replay"):
        with pytest.raises(DPoseError, match=rf"^no data file nothere.yaml: set {name}= to the path of a data YAML"):
            checks.require_data_file("nothere.yaml", name)
        with pytest.raises(DPoseError, match=rf"^{name}=3 is not a path: set {name}= to one data YAML"):
            checks.require_data_file(3, name)
