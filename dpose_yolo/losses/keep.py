"""Distillation from the model that fine-tuning starts from (learning without forgetting)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

EPS = 1e-6


def keep_loss(
    student: dict[str, torch.Tensor], teacher: dict[str, torch.Tensor], keypoints: tuple[int, int] = (17, 3)
) -> torch.Tensor:
    """How far the raw outputs of a pose head have moved from those of the starting model, as a scalar.

    The sum of two means over cells: the squared difference of the class scores, and that of the raw keypoint
    coordinates (in units of two cells) and logits, where cells count by the teacher's score. So the answer is held
    where the teacher is sure that there is a person, and left to the labels where it is not.

    Args:
        student: raw head outputs: `scores` (B, classes, cells) logits, `kpts` (B, K * dims, cells).
        teacher: those of the starting model on the same images; no gradient goes there.
        keypoints: number K and dims of the keypoints.
    """
    sure = teacher["scores"].detach().sigmoid().amax(1)  # (B, cells)
    scores = (student["scores"].sigmoid() - teacher["scores"].detach().sigmoid()).square().sum(1)
    shape = (sure.shape[0], *keypoints, sure.shape[1])
    moved = student["kpts"].view(shape) - teacher["kpts"].detach().view(shape)
    moved = torch.sqrt(moved.square().mean((1, 2)) + EPS) - EPS**0.5  # (B, cells)
    weight = sure.sum().clamp(min=EPS)
    return scores.sum() / weight + (sure * moved).sum() / weight


def feature_loss(student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor]) -> torch.Tensor:
    """How far feature maps have moved, mean over levels: squared, relative to the teacher's mean square.

    Args:
        student: maps (B, C, h, w) of each level.
        teacher: those of the starting model on the same images; no gradient goes there.
    """
    moved = [
        (s - t.detach()).square().mean() / t.detach().square().mean().clamp(min=EPS)
        for s, t in zip(student, teacher, strict=True)
    ]
    return torch.stack(moved).mean()
