"""Files of a training: one run a folder, checkpoints that are whole at any moment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import torch
from ultralytics.utils import LOGGER, torch_utils

from dpose_yolo.engine.checkpoints import read_checkpoint
from dpose_yolo.engine.readout import strip_readout
from dpose_yolo.errors import DPoseError
from dpose_yolo.folders import locked_by_another
from dpose_yolo.settings import CARRIED

# Tells the processes that the engine starts for several GPUs that the one that started them holds the folder.
HELD_BY_PARENT = "DPOSE_RUN_FOLDER"
# Tells them that this package has started them, and so tells the user how they ended.
LAUNCHED = "DPOSE_LAUNCHED"
ENDED = ".ended"  # in the run's folder: why several processes ended, by the first that knew
STAGING = ".saving"  # folder beside the checkpoints
_held: dict[Path, IO[str]] = {}


def hold_folder(folder: Path) -> None:
    """Keep other processes' trainings out of a folder until `release_folder` or the end of this process.

    Raises:
        DPoseError: when another training is at work there, or the folder cannot be written to.
    """
    if folder in _held or os.environ.get(HELD_BY_PARENT) == str(folder):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "a+", encoding="utf-8")  # noqa: SIM115 - open as long as the folder is held
    except OSError as error:
        raise DPoseError(
            f"cannot write to {folder}: {error.strerror}: set project= to a folder that can be written to"
        ) from error
    if not lock_file(file):
        file.seek(0)
        owner = file.read().strip() or "?"
        file.close()
        raise DPoseError(f"another training (process {owner}) writes to {folder}: wait for it, or choose another name=")
    with suppress(OSError):  # a full disk; the lock holds all the same
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
    _held[folder] = file
    os.environ[HELD_BY_PARENT] = str(folder)


def lock_file(file: IO[str]) -> bool:
    """Lock a file for this process alone: the lock ends with it, and its loader's workers do not inherit it."""
    try:
        import fcntl
    except ImportError:  # Windows: two trainings at once are the user's to avoid
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if locked_by_another(error):
            return False
        LOGGER.warning(f"{file.name} cannot be locked ({error.strerror}): see that no other training writes there")
    return True


def release_folder(folder: Path) -> None:
    """Let other trainings in again."""
    file = _held.pop(folder, None)
    if file is not None:
        file.close()
        os.environ.pop(HELD_BY_PARENT, None)


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Hold a folder for a block, as `hold_folder`."""
    before = folder in _held
    hold_folder(folder)
    try:
        yield
    finally:
        if not before:
            release_folder(folder)


def sweep(folder: Path) -> None:
    """Remove what a killed training left half-written in its folder, which has to be held."""
    shutil.rmtree(folder / "weights" / STAGING, ignore_errors=True)
    (folder / ENDED).unlink(missing_ok=True)
    for place in (folder, folder / "weights"):
        for file in place.glob(".*.tmp*"):  # of `replacing`
            file.unlink(missing_ok=True)


def sweep_finished(folder: Path) -> None:
    """Remove what only an unfinished training needs, which may have been killed at its very end."""
    sweep(folder)
    for left in (folder / "weights").glob(f"resume-{'[0-9a-f]' * 16}.pt"):
        left.unlink()
    shutil.rmtree(folder / CARRIED, ignore_errors=True)  # pictures of persons


@contextmanager
def staging(weights: Path) -> Iterator[Path]:
    """An empty folder beside the checkpoints to write them in; gone afterwards, with all that is still in it."""
    folder = weights / STAGING
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_into_place(file: Path, folder: Path) -> None:
    """Put a complete file in the place of the old one, in one step that a power cut does not undo either."""
    with open(file, "rb") as content:
        os.fsync(content.fileno())
    os.replace(file, folder / file.name)


def strip_checkpoint(checkpoint: str | Path, s: str = "", updates: dict[str, Any] | None = None) -> dict[str, Any]:
    """The engine's `strip_optimizer`, which also takes off the readout of the attention term; whole at any moment.

    Raises:
        DPoseError: for a file that is no checkpoint, or holds more than a model.
    """
    target = Path(s or checkpoint)
    content = read_checkpoint(checkpoint)
    with staging(target.parent) as folder:
        temporary = folder / target.name
        with _loaded(content):
            found = torch_utils.strip_optimizer(checkpoint, str(temporary), updates)
        if found:  # else there is no model in it: the engine has said so, and wrote nothing
            if strip_readout(found):
                torch.save(found, temporary)
            move_into_place(temporary, target.parent)
    return found


@contextmanager
def _loaded(content: dict[str, Any]) -> Iterator[None]:
    """Within it, the engine strips this content, where by itself it loads the file without any restriction."""
    load = torch_utils.torch_load
    torch_utils.torch_load = lambda *args, **kwargs: content
    try:
        yield
    finally:
        torch_utils.torch_load = load
