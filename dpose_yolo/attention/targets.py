"""Which keypoint of which driver an image attends to in a step (paper 3.3: one is drawn at random)."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass
class KeypointTarget:
    """One keypoint an image, and the prediction cell that answers for it.

    Attributes:
        keypoint: (B,) long, index of the keypoint.
        anchor: (B,) long, prediction cell that the assigner gave to this driver with the highest score.
        points: (B, 2) label x, y in input pixels.
        size: (B,) person size, the square root of the box area, in input pixels.
        weight: (B,) 1 where the image has such a keypoint, else 0 (the other fields are then arbitrary but valid).
    """

    keypoint: torch.Tensor
    anchor: torch.Tensor
    points: torch.Tensor
    size: torch.Tensor
    weight: torch.Tensor

    def scores(self, keypoint_output: torch.Tensor, logit: bool = True) -> torch.Tensor:
        """Confidence of the chosen keypoint at the chosen cell, zero for images without one.

        Args:
            keypoint_output: (B, K, 3, A) raw head output (x, y, confidence logit) of every prediction cell.
            logit: take the logit itself; False takes its sigmoid, the confidence of Eq. 4.

        Returns:
            (B,).
        """
        batch = torch.arange(len(self.keypoint), device=keypoint_output.device)
        score = keypoint_output[batch, self.keypoint, 2, self.anchor]
        return (score if logit else score.sigmoid()) * self.weight


def choose_keypoints(
    keypoints: torch.Tensor,
    assigned: torch.Tensor,
    assignment_score: torch.Tensor,
    boxes: torch.Tensor,
    draw: torch.Tensor,
    visible: int = 2,
) -> KeypointTarget:
    """Draw one visible keypoint of an assigned driver for each image.

    Args:
        keypoints: (B, M, K, 3) labels x, y in input pixels and visibility flag; M persons, padded with zeros.
        assigned: (B, A) long, index into M of the person a prediction cell answers for, -1 for background.
        assignment_score: (B, A) how well the cell fits its person; the best cell of the drawn person is used.
        boxes: (B, M, 4) x1, y1, x2, y2 in input pixels.
        draw: (B,) uniform in [0, 1): makes the choice, so that the caller owns the randomness and a run can be
            repeated, resumed and split over devices with the same choices.
        visible: lowest visibility flag that may be drawn (2 visible, 1 hidden too).

    Returns:
        The targets; images without persons, without assigned cells or without visible keypoints get weight 0.
    """
    batch_size, persons, n_keypoints = keypoints.shape[:3]
    device = keypoints.device
    if persons == 0:
        zeros = torch.zeros(batch_size, dtype=torch.long, device=device)
        size = keypoints.new_ones(batch_size)
        return KeypointTarget(zeros, zeros, keypoints.new_zeros(batch_size, 2), size, keypoints.new_zeros(batch_size))
    batch = torch.arange(batch_size, device=device)
    # One extra slot collects the background cells.
    seen = torch.zeros(batch_size, persons + 1, dtype=torch.bool, device=device)
    seen[batch[:, None], torch.where(assigned < 0, persons, assigned)] = True
    candidates = (seen[:, :persons, None] & (keypoints[..., 2] >= visible)).flatten(1)  # (B, M * K)
    count = candidates.sum(1)
    # The drawn candidate is the first whose running count exceeds draw * count.
    rank = (draw.to(count.device) * count).long().clamp(max=(count - 1).clamp(min=0))
    chosen = (candidates.cumsum(1) > rank[:, None]).long().argmax(1)
    person, keypoint = chosen // n_keypoints, chosen % n_keypoints
    anchor = assignment_score.masked_fill(assigned != person[:, None], float("-inf")).argmax(1)
    box = boxes[batch, person]
    size = ((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])).clamp(min=1).sqrt()
    return KeypointTarget(keypoint, anchor, keypoints[batch, person, keypoint, :2], size, (count > 0).to(size.dtype))
