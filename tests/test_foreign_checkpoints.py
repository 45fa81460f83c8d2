"""Checkpoints of strangers, in the folders of a training and of a study: refused before anything in them runs."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from engine_models import tiny_model
from resume_cases import Watched, make_folder, short_run
from ultralytics.nn.tasks import load_checkpoint

from dpose_yolo import DPoseError, DPoseTrainer


@pytest.fixture
def folder(tmp_path) -> Path:
    """A small data set of its own."""
    return make_folder(tmp_path / "case")


class Danger:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def stranger(path: Path, epoch: int = 3) -> Path:
    """A checkpoint that leaves a file `executed` beside itself when it is unpickled."""
    torch.save({"model": Danger(path.with_name("executed")), "epoch": epoch}, path)
    return path


def test_checkpoint_with_a_program_in_it(folder, tmp_path):
    file = stranger(tmp_path / "stranger.pt")
    for settings, line in (({"model": str(file)}, "cannot be loaded"), ({"resume": str(file)}, "cannot be read")):
        with pytest.raises(
            DPoseError, match=rf"stranger.pt {line}.*: it holds pathlib.Path, which is no part of a model"
        ):
            DPoseTrainer(**{**short_run(folder), **settings}).train()
    assert not (tmp_path / "executed").exists()


def test_program_in_best_beside_a_good_last(folder):
    """Of a run that was broken off after its last epoch, which only has to be brought to its end."""
    trainer = Watched(**{**short_run(folder), "epochs": 1}, name="run")
    trainer.stop_at = ("on_model_save", 0, -1)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    stranger(trainer.best)
    with pytest.raises(DPoseError, match=r"best.pt cannot be read as a checkpoint: it holds pathlib.Path.*refused"):
        Watched(resume=str(trainer.last)).train()
    assert not (trainer.wdir / "executed").exists()
    assert load_checkpoint(trainer.last)[1]["optimizer"]  # as before: without that best.pt, the run can be ended
    trainer.best.unlink()
    Watched(resume=str(trainer.last)).train()
    assert load_checkpoint(trainer.last)[1]["optimizer"] is None


def plain_model() -> torch.nn.Module:
    """A tiny model as checkpoints have it: its settings are a dictionary."""
    model = tiny_model()
    model.args = vars(model.args)
    return model


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_program_in_a_training_of_a_study(tmp_path, name):
    """A study's folder that was copied from someone else."""
    from dpose_yolo.study.arm import train, trained_epochs

    weights = tmp_path / "runs" / "both-s0" / "weights"
    weights.mkdir(parents=True)
    for file in ("last.pt", "best.pt"):
        torch.save({"model": plain_model(), "epoch": 1}, weights / file)
    assert trained_epochs(weights / "last.pt") == 2
    stranger(weights / name, epoch=1)
    with pytest.raises(DPoseError, match=rf"{name} cannot be read as a checkpoint: it holds pathlib.Path"):
        train(weights.parent, {"train": {"data": "x.yaml", "epochs": 2}})
    assert not (weights / "executed").exists() and (weights / name).is_file()


def test_a_study_trains_again_what_is_damaged_and_keeps_what_it_cannot_read(tmp_path, monkeypatch):
    from dpose_yolo.engine import checkpoints
    from dpose_yolo.study.arm import trained_epochs

    last = tmp_path / "weights" / "last.pt"
    last.parent.mkdir()
    torch.save({"model": plain_model(), "epoch": 1}, last)
    sound = last.read_bytes()
    last.write_bytes(sound[: len(sound) // 2])
    assert trained_epochs(last) is None
    last.write_bytes(sound)

    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(checkpoints, "torch_safe_load", fail)
    with pytest.raises(
        DPoseError, match=r"cannot be read as a checkpoint: .*Input/output error; remove .*weights to tr"
    ):
        trained_epochs(last)
    assert last.read_bytes() == sound
