"""The labelled persons of an engine batch, image by image."""

from __future__ import annotations

from typing import Any

import torch


def persons_of(batch: dict[str, Any], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Keypoints and boxes of a batch in input pixels, padded to the image with the most persons.

    Args:
        batch: the engine's: one row a person, in shares of the picture, with the index of its image.
        device: where the result shall be.

    Returns:
        (B, M, K, 3) x, y, visibility flag, and (B, M, 4) x1, y1, x2, y2. Missing persons are zeros; keypoints labelled
        without a flag count as visible.
    """
    height, width = batch["img"].shape[2:]
    index = batch["batch_idx"].view(-1).long().to(device)
    count = torch.bincount(index, minlength=len(batch["img"]))
    slot = torch.arange(len(index), device=device) - (count.cumsum(0) - count)[index]
    persons = int(count.max()) if len(index) else 0
    scale = torch.tensor([width, height], device=device, dtype=torch.float32)
    labels = batch["keypoints"].to(device).float()
    if labels.shape[-1] == 2:
        labels = torch.cat([labels, torch.full_like(labels[..., :1], 2.0)], -1)
    keypoints = labels.new_zeros(len(count), persons, *labels.shape[1:])
    keypoints[index, slot] = torch.cat([labels[..., :2] * scale, labels[..., 2:]], -1)
    centre, size = (batch["bboxes"].to(device).float() * scale.repeat(2)).split(2, -1)
    boxes = labels.new_zeros(len(count), persons, 4)
    boxes[index, slot] = torch.cat([centre - size / 2, centre + size / 2], -1)
    return keypoints, boxes
