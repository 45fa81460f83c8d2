"""A training that is broken off ends with the weights of the unbroken one, to the bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from resume_cases import Watched, checkpoint_digest, make_folder, short_run
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import LOGGER

from dpose_yolo import DPoseError, DPoseTrainer
from dpose_yolo.engine import resume

# What differs in what a run depends on; 4 epochs of 24 images, 3 batches each, mosaic in all but the last unless said.
RUNS = {
    "defaults": {},  # the gradient of all epochs waits in pieces for the optimizer: nbs=64
    "engine": {"balance": 0, "att": 0, "mosaic": 0.5},
    "uneven": {"balance": 0, "att": 0, "batch": 7, "nbs": 14},
    "gradcam": {"att_map": "gradcam", "att": 1.0, "nbs": 8},
    "adam": {"optimizer": "auto", "warmup_epochs": 2, "nbs": 16, "cos_lr": True},
    "ram": {"cache": "ram", "imgsz": 96, "multi_scale": 0.3, "mixup": 0.5},
    "closing": {"close_mosaic": 2, "nbs": 8},
    "workers": {"workers": 2, "nbs": 8},
    "workers-engine": {"workers": 2, "balance": 0, "att": 0, "batch": 5},
    "workers-closing": {"workers": 3, "close_mosaic": 2, "batch": 6, "balance": 0, "att": 0},
    "workers-closed": {"workers": 2, "close_mosaic": 3},
}
BREAKS = [("on_train_batch_end", 2, 1), ("on_model_save", 1, -1)]  # event, epoch, batch


SLOW = ("gradcam", "closing", "workers", "workers-engine", "workers-closed")
CASES = [
    pytest.param(case, BREAKS[i % 2], marks=[pytest.mark.slow] if case in SLOW else [], id=case)
    for i, case in enumerate(RUNS)
]


@pytest.mark.parametrize(("case", "place"), CASES)
def test_a_broken_run_equals_the_unbroken_one(base, case, place):
    settings: dict[str, Any] = {**base, "epochs": 4, "clusters": 4, "close_mosaic": 1, **RUNS[case]}
    workers = settings.pop("workers", 0)
    whole = Watched(**settings, name="whole", workers=workers)
    whole.train()
    assert len(set(whole.digests.values())) == 4
    broken = Watched(**settings, name="broken", workers=workers)
    broken.stop_at = place
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    resumed = Watched(resume=str(broken.last), workers=workers)
    resumed.train()
    for what in ("seen", "pixels", "digests"):
        assert getattr(resumed, what) == {e: getattr(whole, what)[e] for e in (2, 3)}, what
    for name in ("last", "best"):
        assert checkpoint_digest(getattr(resumed, name)) == checkpoint_digest(getattr(whole, name))
    assert not list(resumed.wdir.glob("resume-*")) and not (resumed.wdir / ".saving").exists()


def kill_runs(folder: Path, *kills: str) -> str:
    """Output of `kill_runs.py`, which must find all equal."""
    script = Path(__file__).with_name("kill_runs.py")
    paths = os.pathsep.join([str(script.parent.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(script), str(folder), *kills],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_killed_in_an_epoch_in_a_checkpoint_and_at_the_end(tmp_path):
    # In the second epoch, in its checkpoint, and in last.pt while it is stripped; .saving is made twice an epoch.
    places = ("batch:1:1", "named:last.pt:2:1000", "named:.saving:8:3000")
    told = kill_runs(tmp_path / "runs", *places)
    assert told.splitlines()[-1].startswith("3 of 3 equal, 0 of them not killed")
    assert (
        all(f"{place}: SIG" in told for place in places)
        and told.count("after 1 epochs") == 2
        and told.count("after 3 epochs") == 1
    )


@pytest.mark.slow
def test_fifty_kills_at_random(tmp_path):
    told = kill_runs(tmp_path / "runs", "50")
    assert told.splitlines()[-1].startswith("50 of 50 equal, 0 of them not killed")


@pytest.fixture
def broken(tmp_path) -> Watched:
    """A run that was broken off after its first epoch."""
    trainer = Watched(**short_run(make_folder(tmp_path / "case")), name="run")
    trainer.stop_at = ("on_model_save", 0, -1)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    return trainer


class Danger:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("damage", ["cut off", "another's", "a program"])
def test_a_file_that_does_not_belong_is_not_taken(broken, damage, caplog, tmp_path):
    beside = resume.state_file(broken.last)
    assert [f.name for f in broken.wdir.glob("resume-*")] == [beside.name]
    content = torch.load(beside, weights_only=True)  # tensors and plain values
    assert content["epoch"] == 0 and content["updates"] == broken.ema.updates
    if damage == "cut off":
        beside.write_bytes(beside.read_bytes()[:-5000])
    elif damage == "another's":
        beside.rename(beside.with_name("resume-0123456789abcdef.pt"))
    else:
        torch.save({**content, "stop": Danger(tmp_path / "executed")}, beside)
    LOGGER.addHandler(caplog.handler)
    again = Watched(resume=str(broken.last))
    again.train()
    LOGGER.removeHandler(caplog.handler)
    assert "goes on from the engine's checkpoint alone" in caplog.text
    assert sorted(again.digests) == [1, 2] and not (tmp_path / "executed").exists()
    assert not list(again.wdir.glob("resume-*"))


def test_resume_by_name_starts_goes_on_and_ends(tmp_path):
    settings = {**short_run(make_folder(tmp_path / "case")), "name": "run", "resume": True, "epochs": 2}
    first = Watched(**settings)
    first.stop_at = ("on_model_save", 1, -1)  # all epochs are done, the end is missing
    with pytest.raises(KeyboardInterrupt):
        first.train()
    assert sorted(first.digests) == [0, 1] and load_checkpoint(first.last)[1]["optimizer"]
    moved = first.save_dir.rename(tmp_path / "moved")
    second = Watched(resume=str(moved / "weights" / "last.pt"))
    second.train()
    assert second.save_dir == moved and not second.digests and not first.save_dir.exists()
    for name in ("last.pt", "best.pt"):
        _, checkpoint = load_checkpoint(moved / "weights" / name)
        assert checkpoint["epoch"] == -1 and checkpoint["optimizer"] is None
    with pytest.raises(DPoseError, match=r"last.pt is the end of a finished training: there is nothing to resume"):
        DPoseTrainer(**{**settings, "project": str(tmp_path), "name": "moved"}).train()
    started = DPoseTrainer(**{k: v for k, v in settings.items() if k != "name"})  # the run of the default name
    assert started.save_dir == Path(settings["project"]) / "train" and not started.resume


def test_results_of_an_epoch_done_again_replace_its_row(broken):
    with broken.csv.open("a") as file:  # killed between the table and the checkpoint
        file.write("2,1.0,9,9\n")
    again = Watched(resume=str(broken.last))
    again.train()
    assert [line.split(",")[0] for line in again.csv.read_text().splitlines()] == ["epoch", "1", "2", "3"]
