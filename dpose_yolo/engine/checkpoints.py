"""Reading checkpoints (`.pt`), which are pickles: loading one can run any program, so that only known layers are built.

The engine's restricted loader does it (`ULTRALYTICS_SAFE_LOAD`, docs/reliability.md). Whatever of this package reads a
checkpoint goes through it; what it says about files that it does not take is told here in one line.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.nn.tasks import torch_safe_load

from dpose_yolo.engine.ready import ready_engine
from dpose_yolo.engine.words import one_line
from dpose_yolo.errors import DPoseError

ready_engine()

READERS = ("torch.serialization", "torch._weights_only_unpickler")
READING = ("load", "get_unsafe_globals_in_checkpoint")  # functions of theirs
DAMAGED = "it is cut off or damaged"
NO_CHECKPOINT = "it is no PyTorch checkpoint"


class RefusedCheckpointError(DPoseError):
    """A checkpoint that can be read but holds more than a model."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint, by the engine's restricted loader.

    Raises:
        RefusedCheckpointError: for one that holds more than a model.
        DPoseError: for a file that is not there, cut off, or no checkpoint.
    """
    try:
        return torch_safe_load(str(path))[0]
    except Exception as error:  # a damaged file shows in many ways
        reason = why_unreadable(error) or one_line(error)
        kind = RefusedCheckpointError if refused(error) else DPoseError
        raise kind(f"{path} cannot be read as a checkpoint: {reason}") from error


def unfinished(content: Mapping[str, Any]) -> bool:
    """Whether the content of a checkpoint is that of a training with epochs to come: it still has its epoch."""
    return content.get("epoch", -1) >= 0


def models_of(content: Mapping[str, Any]) -> list[nn.Module]:
    """The models in the content of a checkpoint; of an unfinished distillation, the one that learns."""
    models = [content[k] for k in ("model", "ema") if isinstance(content.get(k), nn.Module)]
    return [learner(model) for model in models]


def learner(model: Any) -> Any:
    """The model that learns, where another is distilled into it; else the model itself."""
    return getattr(model, "student_model", model)


def why_unreadable(error: BaseException) -> str | None:
    """Why the loader did not take a file; None for errors that are not about that.

    Torch's own words advise to load it without restriction, or are a number: the first byte that is no pickle's.
    """
    foreign = refused(error)
    if foreign is not None:
        return f"it holds {foreign}, which is no part of a model: refused, since loading it could run a program"
    cause = _of_reader(error)
    if cause is None:
        return NO_CHECKPOINT if isinstance(error, AttributeError) and _last_name(error) == "torch_safe_load" else None
    text = str(cause)
    if "TorchScript" in text:
        return "it is a TorchScript archive: give the .pt file that it was exported from"
    return DAMAGED if "PytorchStreamReader" in text or isinstance(cause, EOFError) else NO_CHECKPOINT


def refused(error: BaseException) -> str | None:
    """What a checkpoint holds that is not built; None for other errors."""
    cause = _of_reader(error)
    said = str(cause or "").rpartition("WeightsUnpickler error:")[2]
    named = re.search(r"GLOBAL ([\w.]*\w\.\w+) ", said)
    if named:
        return named[1]
    return "something unknown" if re.search(r"allowlisted|unrecognized function|is blocked", said) else None


def _of_reader(error: BaseException) -> BaseException | None:
    """The error that torch's reader has raised over the content, itself or the cause of the engine's."""
    for one in (error.__cause__, error):
        if one is None or isinstance(one, OSError):  # a file that may not be read, say
            continue
        trace = one.__traceback__
        while trace is not None:
            frame = trace.tb_frame
            if frame.f_code.co_name in READING and frame.f_globals.get("__name__") in READERS:
                return one
            trace = trace.tb_next
    return None


def _last_name(error: BaseException) -> str:
    """The function that has raised an error."""
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1].name if frames else ""
