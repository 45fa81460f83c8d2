"""What a checkpoint of the engine leaves out of a training, in a file beside it, so that a broken run goes on exactly.

The engine's `last.pt` holds the averaged weights in half precision; it lacks the live weights, gradients that wait for
the next optimizer step, and all random states. The file beside it is named after the checkpoint's content: one that
belongs to another checkpoint is never taken. It holds tensors and plain values only and is read as such.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from ultralytics.utils import LOGGER, YAML

from dpose_yolo.engine.checkpoints import read_checkpoint, unfinished
from dpose_yolo.settings import specification

FORMAT, VERSION = "dpose-resume", 1
TEACHER = "teacher_model."  # of a distillation: frozen, and loaded from its own file again


def of_finetuning(checkpoint: Mapping[str, Any]) -> bool:
    """Whether the content of a checkpoint is that of a fine-tuning, which knows the model it started from.

    A finished one has lost DPOSE's settings in its `train_args`; its model still brings them.
    """
    settings = checkpoint.get("train_args") or {}
    own = getattr(checkpoint.get("ema") or checkpoint.get("model"), "dpose", {})
    return bool(settings.get("start") or own.get("start"))


@dataclass
class TrainedRun:
    """A fine-tuning whose training is done, as its folder tells of it: what its table needs of a trainer.

    Attributes:
        save_dir: its folder.
        args: all its settings.
        dpose: DPOSE's among them.
    """

    save_dir: Path
    args: SimpleNamespace
    dpose: dict[str, Any]

    @property
    def last(self) -> Path:
        """The checkpoint of the last epoch."""
        return self.save_dir / "weights" / "last.pt"

    @property
    def best(self) -> Path:
        """The result."""
        return self.save_dir / "weights" / "best.pt"


def trained_run(checkpoint: Path) -> TrainedRun | None:
    """The fine-tuning whose training ended with a checkpoint; None for any other checkpoint, or none at all.

    Raises:
        DPoseError: for a file that cannot be read as a checkpoint.
    """
    folder = checkpoint.absolute().parent.parent
    record = folder / "args.yaml"
    if checkpoint.absolute().parent.name != "weights" or not (checkpoint.is_file() and record.is_file()):
        return None
    content = read_checkpoint(checkpoint)
    if unfinished(content) or not of_finetuning(content):
        return None
    args = YAML.load(record)
    own = {name: args.get(name, setting.default) for name, setting in specification("finetune").items()}
    return TrainedRun(folder, SimpleNamespace(**args), own)


def state_file(checkpoint: Path) -> Path:
    """Path of the file that belongs to a checkpoint as it is now."""
    return checkpoint.with_name(f"resume-{hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16]}.pt")


def as_bytes(content: dict[str, Any]) -> bytes:
    """A state as the content of its file."""
    buffer = io.BytesIO()  # a full disk is then met by a plain write, which says so
    torch.save(plain({"format": FORMAT, "version": VERSION, **content}), buffer)
    return buffer.getvalue()


def read(checkpoint: Path) -> dict[str, Any] | None:
    """The state that belongs to a checkpoint, or None where there is none that can be used; says which."""
    path = state_file(checkpoint)
    if not path.is_file():
        LOGGER.warning(
            f"Resume: no {path.name} beside {checkpoint}: goes on from the engine's checkpoint alone, from rounded "
            "weights and with new random numbers, so not as the unbroken run would have"
        )
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] == FORMAT and content["version"] == VERSION:
            return content
        reason = f"is of version {content['version']}"
    except Exception as error:  # cut off or damaged, which shows in many ways
        reason = f"cannot be read ({type(error).__name__})"
    LOGGER.warning(f"Resume: {path} {reason}: goes on from the engine's checkpoint alone, not as the unbroken run")
    return None


def plain(value: Any) -> Any:
    """Numpy's numbers as Python's, at any depth: what is read without unpickling knows no numpy."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(v) for v in value)
    return value.item() if isinstance(value, np.generic | np.ndarray) else value


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """All tensors of a model in full precision, without a teacher's."""
    return {k: v for k, v in model.state_dict().items() if not k.startswith(TEACHER)}


def load_weights(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Load what `weights_of` gave."""
    missing = [k for k in model.state_dict() if k not in weights and not k.startswith(TEACHER)]
    wrong = missing or model.load_state_dict(weights, strict=False).unexpected_keys
    assert not wrong, f"the model does not fit its resume file: {wrong[0]}"


def fits(model: nn.Module, weights: dict[str, torch.Tensor]) -> bool:
    """Whether weights are those of such a model."""
    return {k: v.shape for k, v in weights_of(model).items()} == {k: v.shape for k, v in weights.items()}


def gradients_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Gradients that wait for the next optimizer step."""
    return {k: p.grad for k, p in model.named_parameters() if p.grad is not None}


def load_gradients(model: nn.Module, gradients: dict[str, torch.Tensor]) -> None:
    """Put gradients back in place, in the memory layout of their parameters, as backward would."""
    for name, parameter in model.named_parameters():
        if name in gradients:
            parameter.grad = torch.empty_like(parameter).copy_(gradients[name])


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimizer's state; which kernel runs is a matter of this machine."""
    for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=True):
        saved.update({k: group[k] for k in ("fused", "foreach") if k in group})
    optimizer.load_state_dict(state)
