"""A fine-tuning that is broken off at any place goes on by its own command, and ends with the same table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from finetune_cases import build_world
from resume_cases import checkpoint_digest
from test_faults import HOLD
from test_resume import kill_runs
from ultralytics.utils import LOGGER

from dpose_yolo import DPoseError, DPoseTrainer
from dpose_yolo.cli import run
from dpose_yolo.engine import finetune as engine
from dpose_yolo.engine.finetune import FineTuneTrainer, data_name
from dpose_yolo.evaluation import change


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> SimpleNamespace:
    """An old and a new data set, a model trained on the old one, and a training of it that was broken off."""
    parts = {"train": 8, "val": 4}
    world = build_world(tmp_path_factory.mktemp("resume"), parts, parts, epochs=2, clusters=2)
    broken = Broken.of(DPoseTrainer)(**world.settings, name="broken")
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    world.broken = broken
    return world


@pytest.fixture
def base(world, tmp_path) -> dict:
    """Settings of a short fine-tuning."""
    return {
        "model": world.start, "data": world.new, "epochs": 2, "batch": 8, "device": "cpu", "verbose": False,
        "refits": 0, "start_share": 0.5, "project": str(tmp_path / "runs"),
    }  # fmt: skip


@pytest.fixture
def said(caplog):
    """What is logged."""
    LOGGER.addHandler(caplog.handler)
    yield caplog
    LOGGER.removeHandler(caplog.handler)


class Broken:
    """Breaks a training off when its first checkpoint is written."""

    def run_callbacks(self, event):
        super().run_callbacks(event)
        if event == "on_model_save" and self.epoch == 0:
            raise KeyboardInterrupt

    @classmethod
    def of(cls, trainer: type) -> type:
        """Such a trainer."""
        return type("BrokenTrainer", (cls, trainer), {})


def words(**settings) -> list[str]:
    return ["finetune", *(f"{k}={v}" for k, v in settings.items())]


def table(folder: Path) -> dict:
    """What the run has said at its end, without what a break may change."""
    result = json.loads((folder / "finetune.json").read_text().replace(str(folder), "RUN"))
    return {k: v for k, v in result.items() if k not in ("seconds", "settings")}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_by_name_it_starts_goes_on_and_ends(base, monkeypatch, said):
    given = words(**base, name="x", resume=True, bootstrap=0)
    monkeypatch.setattr(engine, "FineTuneTrainer", Broken.of(FineTuneTrainer))
    with pytest.raises(KeyboardInterrupt):
        run(given)
    folder = Path(base["project"]) / "x"
    last = folder / "weights" / "last.pt"
    assert f"go on with dpose finetune resume={last}" in said.text  # the line of all faults
    monkeypatch.undo()
    said.clear()
    assert run(given) == 0
    assert not {"finetune.json", "finetune.md", "finetune.csv"} - {f.name for f in folder.iterdir()}
    assert "resume ignores" not in said.text and "Resume ignores" not in said.text
    assert [line.split(",")[0] for line in (folder / "results.csv").read_text().splitlines()] == ["epoch", "1", "2"]
    with pytest.raises(DPoseError, match=r"last.pt is the end of a finished training: there is nothing to resume"):
        run(given)
    with pytest.raises(DPoseError, match="finetune needs a trained model: set model="):
        run(words(project=base["project"], name="y", resume=True))
    with pytest.raises(DPoseError, match="resume needs the run to go on with: name="):
        run(words(resume=True))
    assert [f.name for f in Path(base["project"]).iterdir()] == ["x"]


def test_each_command_goes_on_with_its_own_runs_only(world, base):
    tuning = Broken.of(FineTuneTrainer)(**base)
    with pytest.raises(KeyboardInterrupt):
        tuning.train()
    for trainer, other, line in (
        (tuning, DPoseTrainer, f"{tuning.last} is of a fine-tuning: go on with dpose finetune resume={tuning.last}"),
        (world.broken, FineTuneTrainer, f"of a fine-tuning: go on with dpose train resume={world.broken.last}, or"),
    ):
        before = contents(trainer.save_dir)
        with pytest.raises(DPoseError) as error:
            other(resume=str(trainer.last))
        assert line in str(error.value) and "\n" not in str(error.value)
        assert contents(trainer.save_dir) == before
    place = {"project": world.broken.save_dir.parent, "name": "broken"}
    with pytest.raises(DPoseError, match="of a training, not of a fine-tuning"):
        run(words(**{**base, **place}, resume=True))


def test_ended_before_its_table_it_only_makes_that(world, base, monkeypatch, said, capsys):
    settings = {**base, "epochs": 1, "old": world.old}
    assert run(words(**settings, bootstrap=20)) == 0
    folder = Path(base["project"]) / "finetune"
    whole, weights = table(folder), checkpoint_digest(folder / "weights" / "best.pt")
    assert whole["postures"] and whole["notes"][-1] in capsys.readouterr().out
    for file in folder.glob("finetune.*"):
        file.unlink()
    moved = folder.rename(folder.with_name("moved"))
    last = moved / "weights" / "last.pt"
    (moved / "weights" / "resume-0123456789abcdef.pt").write_bytes(b"left by the kill")

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(change, "evaluate", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(words(resume=last))
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(moved / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout and holder.stdin and holder.stdout.readline() == b"held\n"
        with pytest.raises(DPoseError, match=r"another training .* writes to"):
            run(words(resume=last, bootstrap=20))
        holder.stdin.close()
    assert run(words(**{**settings, "name": "moved"}, resume=True, bootstrap=20)) == 0
    assert table(moved) == whole
    assert whole["advice"]["sentence"] in (moved / "finetune.md").read_text()
    assert checkpoint_digest(moved / "weights" / "best.pt") == weights and not list(moved.rglob("resume-*"))
    with pytest.raises(DPoseError, match="is the end of a finished training"):
        run(words(resume=last))


def test_stopped_while_it_measures_it_says_how_to_go_on(base, monkeypatch, said):
    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(change, "evaluate", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(words(**{**base, "epochs": 1}))
    last = Path(base["project"]) / "finetune" / "weights" / "last.pt"
    assert f"dpose finetune resume={last} makes the table" in said.text


def test_it_goes_on_from_another_folder(world, base, tmp_path, monkeypatch):
    places = {"data": "new/data.yaml", "replay": "old/data.yaml", "old": "old/data.yaml"}
    monkeypatch.chdir(world.folder)
    broken = Broken.of(FineTuneTrainer)(**{**base, **places})
    assert [broken.args.data, broken.dpose["replay"], broken.dpose["old"]] == [world.new, world.old, world.old]
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    monkeypatch.chdir(tmp_path)
    assert run(words(resume=broken.last, bootstrap=0)) == 0
    assert (broken.save_dir / "finetune.json").is_file()


def test_the_sentence_of_postures_names_the_data_by_what_tells_it(world, base, said, tmp_path, monkeypatch):
    card = tmp_path / "night_shift" / "data.yaml"
    card.parent.mkdir()
    card.write_text(yaml.safe_dump(yaml.safe_load(Path(world.new).read_text()) | {"path": str(Path(world.new).parent)}))
    assert run(words(**{**base, "epochs": 1, "data": card}, bootstrap=0)) == 0
    note = table(Path(base["project"]) / "finetune")["notes"][-1]
    assert note.startswith("night_shift") and f"Postures: {note}" in said.text
    monkeypatch.chdir(card.parent)
    assert data_name("data.yaml") == "night_shift" and data_name("sets/cabin.yaml") == "cabin"
    assert data_name(card.parent) == "night_shift"


def test_data_that_does_not_belong(world, base, monkeypatch):
    monkeypatch.chdir(world.folder)
    for same in (world.new, "new/data.yaml", "new"):
        with pytest.raises(DPoseError, match=f"replay={same} is the new data itself: name the old data"):
            FineTuneTrainer(**base, replay=same)
    for part in (0.5, 4, [1.0, 0.5]):
        with pytest.raises(DPoseError, match="fraction is for dpose train: name the images to fine-tune on"):
            FineTuneTrainer(**base, fraction=part)
    assert FineTuneTrainer(**base, fraction=1.0).args.fraction == 1.0


PLACES = {  # each with epochs that were complete before
    "batch:1:3": 1,
    "call:dpose_yolo.engine.averaging.training_ap:2": 2,  # of three, on the new training images
    "call:ultralytics.utils.torch_utils.strip_optimizer:3": 2,  # best.pt is stripped and averaged, last.pt is not
    "call:dpose_yolo.evaluation.change.evaluate:2": 2,  # in the table
    "call:dpose_yolo.report.finetune.replacing:2": 2,  # its first file is written
}


@pytest.mark.slow
def test_killed_anywhere_it_ends_with_the_same_weights_and_table(tmp_path):
    told = kill_runs(tmp_path / "runs", "finetune", *PLACES)
    assert told.splitlines()[-1].startswith(f"{len(PLACES)} of {len(PLACES)} equal, 0 of them not killed")
    for place, epochs in PLACES.items():
        line = next(line for line in told.splitlines() if f" {place}: " in line)
        assert ": SIG" in line and f"after {epochs} epochs" in line


SCRIPT = """
import sys
import test_finetune_resume
from dpose_yolo import cli
from dpose_yolo.engine import finetune
finetune.FineTuneTrainer = test_finetune_resume.TwoProcesses
cli.main()
"""


class TwoProcesses(FineTuneTrainer):
    """Believes that `device=0,1` was given."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if int(os.environ.get("RANK", -1)) == -1:
            self.ddp, self.world_size = True, 2


@pytest.mark.slow
def test_the_table_of_two_processes_tells_of_postures(world, base, tmp_path):
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here.parent), str(here), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words(**{**base, "epochs": 1}, bootstrap=0)],
        capture_output=True, text=True, timeout=600, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    result = table(Path(base["project"]) / "finetune")
    assert result["postures"] and result["notes"][-1].startswith("new") and result["notes"][-1] in done.stdout


def test_what_was_found_travels_in_the_checkpoint_as_plain_values(world, base):
    trainer = FineTuneTrainer(**{**base, "epochs": 1})
    trainer.train()
    told = engine.change_of(trainer.best)
    assert told["sentence"] == trainer.draws.change.sentence("new") and told["lacking"] == trainer.draws.change.lacking
    assert json.loads(json.dumps(told)) == told and engine.change_of(Path(world.start)) is None
