"""Faults of the machine, the disk and the data in a training, told in one line: what, what is kept, how to go on."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from ultralytics.utils import LOGGER, RANK
from ultralytics.utils.torch_utils import unwrap_model

from dpose_yolo.engine.files import LAUNCHED
from dpose_yolo.errors import DPoseError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG)


def how_to_go_on(trainer: Any, settings: str = "") -> str:
    """Last part of a line: what is kept and the command that goes on from it.

    Args:
        trainer: the trainer.
        settings: to add to that command.
    """
    if not trainer.last.is_file():
        return "no epoch was complete, so the run has to be started again"
    words = f"resume={trainer.last}{' ' if settings else ''}{settings}"
    if RANK != -1 and LAUNCHED not in os.environ:  # torchrun's, or another launcher's
        return f"every epoch before this one is kept: go on with the same command on every machine, and {words} in it"
    command = ["train", *getattr(trainer, "COMMANDS", ())][-1]  # of the trainer: each goes on with its own runs only
    return f"every epoch before this one is kept: go on with dpose {command} {words}"


@contextmanager
def told(trainer: Any) -> Iterator[None]:
    """Tell faults of the machine, the disk and the data in one line.

    Raises:
        DPoseError: in place of the engine's and torch's errors.
    """
    try:
        yield
    except KeyboardInterrupt:
        LOGGER.warning(f"Stopped{when(trainer)}; {how_to_go_on(trainer)}")
        raise
    except DPoseError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in NO_ROOM and how_to_go_on(trainer) not in str(error):
            raise DPoseError(f"{error}{when(trainer)}; {how_to_go_on(trainer)}") from cause
        raise
    except (RuntimeError, OSError, MemoryError) as error:
        line = _line(error, trainer)
        if line is None:
            raise
        raise DPoseError(line) from error


def when(trainer: Any) -> str:
    """In which epoch."""
    return f" in epoch {trainer.epoch + 1}" if hasattr(trainer, "epoch") else " before the first epoch"


def _line(error: Exception, trainer: Any) -> str | None:
    """The line for an error, or None for one that nobody foresaw."""
    text = str(error)
    lost = re.findall(r"Image Not Found (.+)", text)  # of a worker, at the end of its own traceback
    if lost:
        return (
            f"{lost[-1].strip()} cannot be read any more{when(trainer)}: it was removed or damaged since the start. "
            f"Bring it back, and {how_to_go_on(trainer)}"
        )
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        where = f" {error.filename}" if error.filename else ""
        return f"cannot write{where}{when(trainer)}: {error.strerror}; {how_to_go_on(trainer)}"
    if "PytorchStreamWriter" in text or "inline_container" in text:
        return f"cannot write a checkpoint to {trainer.wdir}: the disk may be full; {how_to_go_on(trainer)}"
    if isinstance(error, MemoryError) or re.search(r"out of memory|can't allocate memory", text, re.IGNORECASE):
        smaller = max(1, int(trainer.batch_size) // 2)
        return (
            f"out of memory{when(trainer)} with batch={trainer.batch_size} imgsz={trainer.args.imgsz}: "
            f"set a smaller batch= or imgsz=; {how_to_go_on(trainer, f'batch={smaller}')}"
        )
    if "NaN" in text:
        return f"the loss is no number again and again{when(trainer)}: lower lr0=, or set amp=False; {_kept(trainer)}"
    return None


def _kept(trainer: Any) -> str:
    return f"{trainer.last} is that of the last good epoch" if trainer.last.is_file() else "nothing is kept"


def refuse_broken_weights(trainer: Any, epoch: int) -> None:
    """Stop where the engine would train on with weights that are no numbers, having nothing to go back to.

    Raises:
        DPoseError: when that is so.
    """
    if epoch != trainer.start_epoch:
        return  # the engine goes back to the checkpoint before
    if all(torch.isfinite(p).all() for p in unwrap_model(trainer.model).parameters()):
        return
    raise DPoseError(
        f"the weights are no numbers after epoch {epoch + 1}: lower lr0=, or set amp=False, and look at the "
        f"labels with dpose check; {_kept(trainer)}"
    )
