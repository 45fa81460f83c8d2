"""Gaussian target of the attention map (paper 3.3, Eq. 7)."""

from __future__ import annotations

import torch


def keypoint_heatmap(
    points: torch.Tensor, radius: torch.Tensor, size: tuple[int, int], stride: tuple[float, float]
) -> torch.Tensor:
    """Gaussian of peak 1 around each keypoint label, on the cells of a feature map (Eq. 7).

    Args:
        points: (B, 2) keypoint x, y in input pixels.
        radius: (B,) standard deviation in input pixels; scale it to the person, so that near and far drivers are asked
            for the same body part.
        size: (H, W) of the feature map.
        stride: input pixels per cell along (y, x).

    Returns:
        (B, H, W) in [0, 1]. A radius under half a cell is widened to half a cell: a narrower Gaussian would fall
        between the cells and ask for no attention at all.
    """
    height, width = size
    y = (torch.arange(height, device=points.device, dtype=points.dtype) + 0.5) * stride[0]
    x = (torch.arange(width, device=points.device, dtype=points.dtype) + 0.5) * stride[1]
    spread = radius.clamp(min=max(stride) / 2)[:, None, None]
    squared = (x[None, None, :] - points[:, 0, None, None]) ** 2 + (y[None, :, None] - points[:, 1, None, None]) ** 2
    return torch.exp(-squared / (2 * spread**2))
