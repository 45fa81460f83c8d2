"""Distance between attention map and heatmap (paper 3.3, Eq. 8)."""

from __future__ import annotations

import torch

NORMS = ("mse", "l2")


def attention_loss(
    attention: torch.Tensor, heatmap: torch.Tensor, weight: torch.Tensor, norm: str = "mse"
) -> torch.Tensor:
    """Loss per image between an attention map and its target (Eq. 8).

    Args:
        attention: (B, H, W) in (0, 1).
        heatmap: (B, H, W) in [0, 1].
        weight: (B,) 1 for images that count, 0 for those without a keypoint to attend.
        norm: `mse`, the mean squared difference over the cells, or `l2`, the paper's Euclidean norm, divided by the
            square root of the number of cells so that its size does not depend on the resolution of the layer.

    Returns:
        (B,) losses, zero where `weight` is zero.

    Raises:
        ValueError: for another `norm`.
    """
    squared = ((heatmap - attention) ** 2).flatten(1).mean(1)
    if norm == "mse":
        return squared * weight
    if norm == "l2":
        # The floor keeps the derivative of the root finite at a perfect match.
        return squared.clamp(min=1e-12).sqrt() * weight
    raise ValueError(f"norm must be one of {NORMS}, not {norm!r}")
