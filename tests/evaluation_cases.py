"""Detections made out of labels, for tests of evaluations."""

from __future__ import annotations

import numpy as np

from dpose_yolo.evaluation.data import EvaluationPart
from dpose_yolo.metrics.samples import Detections


def perfect(part: EvaluationPart) -> Detections:
    """The labels themselves, found with falling scores; unlabelled keypoints have confidence 0."""
    truth = part.truth
    keypoints = truth.keypoints.copy()
    keypoints[..., 2] = (keypoints[..., 2] > 0) * 0.9
    return Detections(truth.image, np.linspace(0.9, 0.5, len(truth.image)), truth.boxes, keypoints)


def noisy(part: EvaluationPart, size: float = 0.05, seed: int = 0) -> Detections:
    """The labels with errors of `size` person sizes, a missed person and some false ones."""
    truth, rng = part.truth, np.random.default_rng(seed)
    unit = truth.box_areas()[:, None, None] ** 0.5
    found = perfect(part)
    found.keypoints[..., :2] += size * unit * rng.normal(size=found.keypoints[..., :2].shape)
    found.score = rng.uniform(0.1, 1, len(truth.image))
    keep, false = np.arange(1, len(truth.image)), np.arange(0, len(truth.image), 3)
    place = truth.keypoints[false] + [0.4 * unit.min(), 0, 0]
    return Detections(
        np.concatenate([truth.image[keep], truth.image[false]]),
        np.concatenate([found.score[keep], rng.uniform(0.05, 0.8, len(false))]),
        np.concatenate([found.boxes[keep], truth.boxes[false] + 0.4 * unit.min()]),
        np.concatenate([found.keypoints[keep], place]),
    )
