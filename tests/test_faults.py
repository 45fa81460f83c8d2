"""What a fault of the machine, the disk or the data does to a training: the rows of docs/reliability.md."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from resume_cases import Watched, checkpoint_digest, make_folder, short_run
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import LOGGER

from dpose_yolo import DPoseError, DPoseTrainer, cli


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Watched:
    """The run that nothing happens to."""
    trainer = Watched(**short_run(make_folder(tmp_path_factory.mktemp("faults") / "whole")), name="run")
    trainer.train()
    return trainer


@pytest.fixture
def folder(tmp_path) -> Path:
    return make_folder(tmp_path / "case")


class Faulty(Watched):
    """Calls `fault(trainer)` at the start of a batch; by default of the second in the second epoch."""

    fault: Callable[[Any], None]
    when: tuple[int, int] | None = (1, 1)

    def run_callbacks(self, event: str) -> None:
        super().run_callbacks(event)
        if event == "on_train_batch_start" and (self.epoch, self._batch) == self.when:
            self.fault(self)


def broken_by(fault: Callable[[Any], None], folder: Path, **settings: Any) -> tuple[Faulty, str]:
    """A run that ends in one clear line; the trainer and the line."""
    trainer = Faulty(**{**short_run(folder), "name": "run", **settings})
    trainer.fault = fault
    with pytest.raises(DPoseError) as error:
        trainer.train()
    assert "\n" not in str(error.value)
    return trainer, str(error.value)


def goes_on_as(whole: Watched, trainer: Watched) -> None:
    """The run is resumed, and ends as the unbroken one."""
    again = Watched(resume=str(trainer.last))
    again.train()
    assert again.digests == {e: d for e, d in whole.digests.items() if e > 0}
    assert checkpoint_digest(again.best) == checkpoint_digest(whole.best)


@contextmanager
def mounted(place: Path, options: str) -> Iterator[Path]:
    """A small file system in memory."""
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_full_disk(whole, folder, tmp_path):
    with mounted(tmp_path / "disk", "size=24m") as disk:

        def fill(trainer: Any) -> None:
            with pytest.raises(OSError) as full, open(disk / "filler", "wb") as file:
                while True:
                    file.write(bytes(4096))
                    file.flush()
            assert full.value.errno == errno.ENOSPC

        trainer, line = broken_by(fill, folder, project=str(disk))
        assert "No space left on device" in line and f"go on with dpose train resume={trainer.last}" in line
        assert not (trainer.wdir / ".saving").exists() and list(trainer.digests) == [0]
        (disk / "filler").unlink()
        goes_on_as(whole, trainer)


def test_disk_that_is_full_while_a_checkpoint_is_written(whole, folder, monkeypatch):
    from dpose_yolo.engine import durable

    def full(trainer: Any) -> None:
        def refuse(*args: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(durable, "move_into_place", refuse)

    trainer, line = broken_by(full, folder)
    assert line.startswith(f"cannot write the checkpoint of epoch 2 to {trainer.wdir}: No space left on device; every")
    monkeypatch.undo()
    goes_on_as(whole, trainer)


def test_output_folder_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DPoseError, match=r"cannot write to .*: Not a directory: set project= to a folder"):
        DPoseTrainer(**short_run(folder) | {"project": str(tmp_path / "file"), "name": "run"})
    with (
        mounted(tmp_path / "disk", "ro,size=1m") as disk,
        pytest.raises(DPoseError, match=r"cannot write to .*: Read-only file system: set project= to a folder"),
    ):
        DPoseTrainer(**short_run(folder) | {"project": str(disk), "name": "run"})


@pytest.mark.parametrize("workers", [0, 2])
def test_image_that_cannot_be_read_any_more(folder, workers):
    images = folder / "mini" / "images" / "train"

    def spoil(trainer: Any) -> None:
        for image in images.glob("*.png"):
            image.write_bytes(b"no picture")

    trainer = Watched(**short_run(folder), name="run", workers=workers)
    trainer.add_callback("on_train_start", spoil)  # later, mosaic's buffer may hold all twelve
    with pytest.raises(DPoseError) as error:
        trainer.train()
    line = str(error.value)
    assert str(images / "train_00") in line and "cannot be read any more in epoch 1: it was removed or damaged" in line
    assert "no epoch was complete, so the run has to be started again" in line and "\n" not in line


def test_data_that_changes_after_the_label_cache_was_made(folder):
    def labels(**settings: Any) -> list[dict]:
        trainer = DPoseTrainer(**short_run(folder), **settings)
        trainer._setup_train()
        return trainer.train_loader.dataset.labels

    assert len(labels()) == 12
    assert (folder / "mini" / "labels" / "train.cache").is_file()
    file = folder / "mini" / "labels" / "train" / "train_0002.txt"
    values = file.read_text().split()
    values[1] = f"{float(values[1]) + 0.01:.5f}"  # as long as before
    file.write_text(" ".join(values) + "\n")
    assert labels()[2]["bboxes"][0, 0] == pytest.approx(float(values[1]))
    (folder / "mini" / "images" / "train" / "train_0005.png").unlink()
    assert len(labels()) == 11
    listed = folder / "mini" / "train.txt"
    listed.write_text("".join(f"./images/train/train_{i:04d}.png\n" for i in range(12)))
    data = folder / "mini" / "data.yaml"
    data.write_text(data.read_text().replace("train: images/train", "train: train.txt"))
    with pytest.raises(DPoseError, match=r"1 image of the training part cannot be used: .*train_0005"):
        labels()


def test_data_that_changes_before_a_run_is_resumed(folder, caplog):
    trainer = Watched(**short_run(folder), name="run")
    trainer.stop_at = ("on_model_save", 1, -1)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    (folder / "mini" / "images" / "train" / "train_0005.png").unlink()
    caplog.set_level("WARNING", logger=LOGGER.name)
    LOGGER.addHandler(caplog.handler)
    again = Watched(resume=str(trainer.last))
    again.train()
    LOGGER.removeHandler(caplog.handler)
    assert "something has changed (images and labels): goes on from the exact weights" in caplog.text
    assert list(again.digests) == [2] and len(again.train_loader.dataset.labels) == 11


def test_data_folder_that_cannot_be_written(tmp_path, caplog):
    with mounted(tmp_path / "disk", "size=8m") as disk:
        folder = make_folder(disk / "case")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        LOGGER.addHandler(caplog.handler)
        trainer = DPoseTrainer(**{**short_run(folder), "project": str(tmp_path)}, name="run")
        trainer._setup_train()
        LOGGER.removeHandler(caplog.handler)
        assert "train.cache: Read-only file system; the labels will be scanned again next time" in caplog.text
        assert "Read-only file system; it will be fitted again next time" in caplog.text
        assert len(trainer.train_loader.dataset.labels) == 12 and trainer.draws


def out_of_memory(trainer: Any, text: str = "CUDA out of memory. Tried to allocate 2.00 GiB") -> None:
    """The next batch does not fit, once."""
    trainer.when = None
    original = type(trainer).preprocess_batch

    def refuse(batch: dict) -> dict:
        del trainer.preprocess_batch  # once
        original(trainer, batch)
        raise RuntimeError(text)

    trainer.preprocess_batch = refuse


def test_out_of_memory_in_the_first_epoch_halves_the_batch(folder):
    trainer = Faulty(**short_run(folder), name="run")
    trainer.fault, trainer.when = out_of_memory, (0, 1)
    trainer.train()
    assert trainer.batch_size == 2 and len(trainer.train_loader) == 6 and list(trainer.digests) == [0, 1, 2]


def test_out_of_memory_later(whole, folder):
    trainer, line = broken_by(out_of_memory, folder)
    assert line.startswith(
        "out of memory in epoch 2 with batch=4 imgsz=64: set a smaller batch= or imgsz=; every epoch"
    )
    assert line.endswith(f"resume={trainer.last} batch=2")
    goes_on_as(whole, trainer)


def test_out_of_memory_on_the_cpu(folder):
    trainer = Faulty(**short_run(folder), name="run")
    trainer.fault = partial(out_of_memory, text="DefaultCPUAllocator: can't allocate memory: you tried to allocate")
    trainer.when = (0, 1)
    with pytest.raises(
        DPoseError, match=r"out of memory in epoch 1 with batch=4 .*; no epoch was complete, so the run"
    ):
        trainer.train()


def poison(trainer: Any) -> None:
    """A weight becomes no number."""
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(float("nan"))


def test_weights_that_are_no_numbers(folder):
    trainer = Faulty(**short_run(folder), name="first")
    trainer.fault, trainer.when = poison, (0, 2)
    with pytest.raises(DPoseError, match=r"the weights are no numbers after epoch 1: lower lr0=.*; nothing is kept"):
        trainer.train()
    assert not trainer.last.exists()
    # Later, the engine goes back to the checkpoint before, three times.
    trainer, line = broken_by(poison, folder, name="later")
    assert line.startswith("the loss is no number again and again in epoch 2: lower lr0=")
    assert line.endswith(f"{trainer.last} is that of the last good epoch")
    model, checkpoint = load_checkpoint(trainer.last)
    assert checkpoint["epoch"] == 0 and all(torch.isfinite(p).all() for p in model.parameters())


HOLD = """
import fcntl, os, sys
file = open(sys.argv[1], "a+")
fcntl.lockf(file, fcntl.LOCK_EX)
file.truncate(0)
file.write(str(os.getpid()))
file.flush()
print("held", flush=True)
sys.stdin.read()
"""


def test_two_runs_in_one_folder(folder):
    run = folder / "run"
    run.mkdir()
    (run / "results.csv").write_text("of the other")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout and other.stdin and other.stdout.readline() == b"held\n"
        with pytest.raises(DPoseError, match=rf"another training \(process {other.pid}\) writes to .*run: wait for it"):
            DPoseTrainer(**short_run(folder), name="run", exist_ok=True)
        assert sorted(p.name for p in run.iterdir()) == [".lock", "results.csv"]
        assert DPoseTrainer(**short_run(folder), name="run").save_dir.name == "run-2"  # a folder of its own
        other.stdin.close()
    assert DPoseTrainer(**short_run(folder), name="run", exist_ok=True).save_dir == run


@pytest.mark.parametrize(("number", "free"), [(errno.EAGAIN, False), (errno.EACCES, False), (errno.ENOLCK, True)])
def test_a_disk_without_locks_is_no_other_training(folder, monkeypatch, caplog, number, free):
    """NFS without its daemon, Lustre without `flock`."""
    import fcntl

    def refuse(*_):
        raise OSError(number, "no")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    LOGGER.addHandler(caplog.handler)
    if free:
        assert DPoseTrainer(**short_run(folder), name="unlocked").save_dir.name == "unlocked"
        assert "cannot be locked (no): see that no other training writes there" in caplog.text
    else:
        with pytest.raises(DPoseError, match="another training"):
            DPoseTrainer(**short_run(folder), name="locked", exist_ok=True)
    LOGGER.removeHandler(caplog.handler)


def test_a_refusal_leaves_what_is_not_its_own(folder, whole):
    """A finished checkpoint that lies in a folder called `weights`, beside the user's files."""
    weights = folder / "project" / "weights"
    (folder / "project" / "carried").mkdir(parents=True)
    weights.mkdir()
    (weights / "m.pt").write_bytes(whole.last.read_bytes())
    (weights / "resume-backup.pt").write_text("the user's")
    before = sorted(folder.joinpath("project").rglob("*"))
    with pytest.raises(DPoseError, match="there is nothing to resume"):
        DPoseTrainer(resume=str(weights / "m.pt"))
    assert sorted(folder.joinpath("project").rglob("*")) == before


def test_ctrl_c_says_how_to_go_on(whole, folder, caplog):
    trainer = Watched(**short_run(folder), name="run")
    trainer.stop_at = ("on_train_batch_end", 1, 0)
    LOGGER.addHandler(caplog.handler)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    LOGGER.removeHandler(caplog.handler)
    assert f"Stopped in epoch 2; every epoch before this one is kept: go on with dpose train resume={trainer.last}" in (
        caplog.text
    )
    goes_on_as(whole, trainer)


def test_ctrl_c_at_the_command_line(monkeypatch, capsys):
    def stop(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", stop)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130 and capsys.readouterr().err == "dpose: stopped\n"
