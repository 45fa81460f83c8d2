"""The engine's criterion with a distillation from the starting model beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from dpose_yolo.engine.graph import EngineModel
from dpose_yolo.losses.keep import feature_loss, keep_loss


def frozen_teacher(model: EngineModel, device: torch.device, channels_last: bool) -> EngineModel:
    """A model that only answers: in evaluation mode, without gradients, in single precision, as quick as it can be.

    Args:
        model: the starting model; it is changed.
        device: of the student.
        channels_last: the student's weights lie so.
    """
    teacher = model.float().to(device).eval()
    for parameter in teacher.parameters():
        parameter.requires_grad = False
    if not getattr(teacher.model[-1], "end2end", False):  # where fusing takes off the branch that is compared
        teacher.fuse(verbose=False)
    return teacher.to(memory_format=torch.channels_last) if channels_last else teacher


class KeepCriterion:
    """Engine criterion plus a weighted term that holds what the starting model answers.

    The teacher sees the augmented images that the student sees, in evaluation mode. In validation the term is 0.
    Everything else about the criterion (its assigner, `update` of an end-to-end one) is the base's.

    Args:
        base: the engine's criterion, or one around it.
        teacher: the starting model.
        weight: of the term.
        old: tells which images of a batch are old ones, by index; only those are held then. None: all are.
    """

    def __init__(
        self,
        base: Any,
        teacher: EngineModel,
        weight: float,
        old: Callable[[dict[str, Any]], list[int]] | None = None,
    ):
        """See the class."""
        self.base = base
        self.teacher = teacher
        self.weight = weight
        self.old = old
        self.shape = tuple(teacher.model[-1].kpt_shape)

    def __call__(self, preds: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss vector times batch size, and the items, with `keep_loss` as the last of both."""
        loss, items = self.base(preds, batch)
        term = loss.new_zeros(())
        rows: Any = slice(None) if self.old is None else self.old(batch)
        if torch.is_grad_enabled() and rows != []:
            with torch.no_grad():
                found = self.teacher(batch["img"][rows])[1]
            raw, teacher = preds.get("one2many", preds), found.get("one2many", found)
            student = {"feats": [f[rows] for f in raw["feats"]], **{k: raw[k][rows] for k in ("scores", "kpts")}}
            term = keep_loss(student, teacher, self.shape) + feature_loss(student["feats"], teacher["feats"])
            term = (self.weight * term).to(loss.dtype)
        return torch.cat([loss, term[None] * batch["img"].shape[0]]), {**items, "keep_loss": term.detach()}

    def __getattr__(self, name: str) -> Any:
        """The base's."""
        if name.startswith("__") or name == "base":
            raise AttributeError(name)
        return getattr(self.base, name)

    def __deepcopy__(self, memo: dict) -> KeepCriterion:
        """Copies of a model (its average, its checkpoint) share the teacher, which never changes."""
        from copy import deepcopy

        return KeepCriterion(deepcopy(self.base, memo), self.teacher, self.weight, self.old)
