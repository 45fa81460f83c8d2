"""Keypoint Grad-CAM: from one score an image to an attention map over backbone features (paper 3.3, Eq. 4-6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def score_gradients(
    scores: torch.Tensor, features: Sequence[torch.Tensor], differentiable: bool = False
) -> list[torch.Tensor]:
    """Gradient of every image's keypoint score with respect to that image's feature maps (Eq. 4).

    The constant label c_k in Eq. 4 drops out of the derivative, so the score alone is differentiated. One backward pass
    serves the whole batch: the scores are summed, and as long as no layer mixes images (batch norm in training mode
    does) the gradient of the sum at image b is the gradient of score b.

    Args:
        scores: (B,) keypoint confidence (or its logit), connected by autograd to `features`; leave an image out by
            multiplying its score by zero.
        features: feature maps, each (B, C, H, W).
        differentiable: False holds the gradient constant (first order: the loss reaches the weights only through the
            maps themselves); True keeps its graph (second order: the loss also changes what the gradient is).

    Returns:
        One tensor like each feature map. A map the scores do not depend on yields zeros.
    """
    gradients = torch.autograd.grad(
        scores.sum(), list(features), create_graph=differentiable, retain_graph=True, allow_unused=True
    )
    return [torch.zeros_like(f) if g is None else g for f, g in zip(features, gradients, strict=True)]


def keypoint_cam(features: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Class activation map of one layer: ReLU of the channel sum of gradient times feature (Eq. 5).

    The product is taken cell by cell, as in the paper, without Grad-CAM's spatial pooling of the gradient: a pooled
    weight has forgotten where the keypoint is.

    Args:
        features: (B, C, H, W).
        gradients: (B, C, H, W), from `score_gradients`.

    Returns:
        (B, H, W), not negative.
    """
    return (gradients * features).sum(1).relu()


def attention_map(cam: torch.Tensor, omega: float, sigma: float) -> torch.Tensor:
    """Squash a class activation map into (0, 1) with the thermal sigmoid (Eq. 6).

    Each image's map is first divided by its own maximum, never by one over the batch, so that `sigma` means the share
    of the peak at which a cell counts as attended, whatever the scale of this image's gradient.

    Args:
        cam: (B, H, W), not negative.
        omega: contrast of the sigmoid.
        sigma: threshold as a share of the image's maximum.

    Returns:
        (B, H, W) in (0, 1). An image whose map is zero everywhere gets the constant sigmoid(-omega * sigma).
    """
    peak = cam.flatten(1).amax(1)
    scale = torch.where(peak > 0, peak, torch.ones_like(peak))[:, None, None]
    return torch.sigmoid(omega * (cam / scale - sigma))
