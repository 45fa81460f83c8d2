"""Attention maps that a linear map reads out of a layer, in training only: of all keypoints of all persons at once.

Grad-CAM (Eq. 4, 5) weighs the channels of a layer by a gradient; the class activation map, which it generalises, weighs
them by a linear classifier. Here that classifier is a 1x1 convolution with one map a keypoint, trained with the network
and taken off afterwards. Its maps are asked for the heatmap of Eq. 7, as those of Eq. 6 are.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

# Plain torch modules: a checkpoint that holds them can be loaded where this package is not installed.


def readout_layer(channels: int, keypoints: int, upscale: int) -> nn.Sequential:
    """Linear readout of `keypoints` maps from a layer, `upscale` times as fine as the layer.

    Args:
        channels: of the layer.
        keypoints: K.
        upscale: every cell of the layer answers for upscale x upscale cells of the maps (sub-pixel convolution).
    """
    convolution = nn.Conv2d(channels, keypoints * upscale**2, 1)
    # Flat maps at the start: the gradient then says where each keypoint is, and nothing of a random readout.
    nn.init.normal_(convolution.weight, std=0.01)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return nn.Sequential(convolution, nn.PixelShuffle(upscale))


def readout_target(
    keypoints: torch.Tensor,
    person_size: torch.Tensor,
    radius: float,
    size: tuple[int, int],
    stride: tuple[float, float],
) -> torch.Tensor:
    """Distribution over the cells of a map around the labels of each keypoint (Eq. 7, summed over persons).

    The Gaussian of Eq. 7 is separable, so that it is made of one row and one column a keypoint.

    Args:
        keypoints: (B, M, K, 3) x, y in input pixels and visibility flag; M persons, padded with flag 0.
        person_size: (B, M) square root of the box area, in input pixels.
        radius: standard deviation as a share of the person size; widened to half a cell where it is narrower.
        size: (H, W) of the maps.
        stride: input pixels per cell along (y, x).

    Returns:
        (B, K, H, W), each map with sum 1, or 0 where no person has this keypoint labelled. Labels outside the picture
        count as unlabelled.
    """
    (height, width), (dy, dx) = size, stride
    y = (torch.arange(height, device=keypoints.device, dtype=keypoints.dtype) + 0.5) * dy
    x = (torch.arange(width, device=keypoints.device, dtype=keypoints.dtype) + 0.5) * dx
    spread = (person_size * radius).clamp(min=max(stride) / 2)[..., None, None]  # (B, M, 1, 1)
    row = torch.exp(-((x - keypoints[..., 0, None]) ** 2) / (2 * spread**2))  # (B, M, K, W)
    column = torch.exp(-((y - keypoints[..., 1, None]) ** 2) / (2 * spread**2))  # (B, M, K, H)
    inside = (keypoints[..., 0] >= 0) & (keypoints[..., 0] < width * dx)
    inside &= (keypoints[..., 1] >= 0) & (keypoints[..., 1] < height * dy)
    counts = (inside & (keypoints[..., 2] > 0)).to(keypoints.dtype)[..., None]
    total = torch.einsum("bmkh,bmkw->bkhw", column * counts, row)
    return total / total.sum((2, 3), keepdim=True).clamp(min=1e-9)


def readout_loss(maps: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Divergence of the maps, as distributions over cells, from their targets, per image.

    The softmax over all cells takes the place of the sigmoid of Eq. 6, and Kullback and Leibler's divergence that of
    the Euclidean distance of Eq. 8: a map of a thousand cells with one keypoint in it is nearly all background, which
    a cell-by-cell distance rewards for being flat. Divided by the log of the cell count, so that an even map costs
    about 1 whatever its resolution.

    Args:
        maps: (B, K, H, W) unbounded.
        target: (B, K, H, W) with sum 1, or 0 for keypoints that do not count.

    Returns:
        (B,) mean over the keypoints that count, 0 for images without any.
    """
    cells = target.flatten(2)
    precise = torch.promote_types(maps.dtype, torch.float32)  # under AMP the maps come in half precision
    log_share = functional.log_softmax(maps.flatten(2).to(precise), -1)
    own_entropy = torch.special.entr(cells).sum(-1)
    counts = (cells.sum(-1) > 0).to(cells.dtype)
    divergence = -(cells * log_share).sum(-1) - own_entropy  # (B, K); 0 for empty targets
    mean = divergence.sum(1) / counts.sum(1).clamp(min=1)
    return mean / torch.tensor(float(cells.shape[-1])).log()
