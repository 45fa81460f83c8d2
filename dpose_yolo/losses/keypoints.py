"""A keypoint loss that still pulls where the OKS loss has gone flat."""

from __future__ import annotations

import torch


def far_keypoint_loss(
    predicted: torch.Tensor, label: torch.Tensor, mask: torch.Tensor, area: torch.Tensor, sigmas: torch.Tensor
) -> torch.Tensor:
    """Pseudo-Huber distance of keypoints in units of OKS, sqrt(1 + e) - 1, averaged as the engine does its OKS loss.

    With the e of COCO, d^2 / (2 area (2 sigma)^2), the OKS loss 1 - exp(-e) has the gradient exp(-e) grad(e): it fades
    just where the error is largest, as for the hands of a rare posture. This term grows with the distance itself: near
    the label it is e / 2, far from it it pulls with constant force.

    Args:
        predicted: (M, K, 2 or more) x, y, any unit of length.
        label: (M, K, 2 or more) in the same unit.
        mask: (M, K) true or 1 where the keypoint is labelled.
        area: (M, 1) person area, that unit squared.
        sigmas: (K,) OKS sigmas.

    Returns:
        (), zero gradient for unlabelled keypoints. A person counts as much whatever number of its keypoints is
        labelled.
    """
    squared = (predicted[..., :2] - label[..., :2]).pow(2).sum(-1)
    e = squared / ((2 * sigmas).pow(2) * (area + 1e-9) * 2)
    mask = mask.to(e.dtype)
    share = mask.shape[1] / (mask.sum(1, keepdim=True) + 1e-9)
    # sqrt(1 + e) - 1, written so that small e keeps its digits in half precision too.
    return (share * mask * (e / (torch.sqrt(1 + e) + 1))).mean()
