"""Several votes on where a keypoint lies: one point, a visibility flag and a certainty. Knows no engine.

A vote is one teacher's answer on one view of the image (as it is, or mirrored). Per keypoint k, in steps:

1. A vote takes part if its confidence is at least `least`; else it abstains. All views of a teacher together weigh 1.
2. The distance of two votes is d / (2 sigma_k sqrt(area)), the unit of OKS: at 1 the similarity is exp(-1/2) = 0.61.
3. The vote with the most weight within the distance `agree` of it leads; those votes are the supporters, the others
   that take part are against it.
4. The point is the weighted median of the supporters, by weight x confidence, x and y apart.
5. certainty = (weight of the supporters / T) x (their mean OKS similarity to the point) x
   (their mean confidence)^(1/T), T being the teachers that know the keypoint. Votes that abstain lower the first
   factor: a teacher that sees nothing says something. Confidences of different models are no common measure, so the
   more teachers can agree, the less they count (docs/autolabel.md); of a single teacher they count in full.
6. A person needs `fewest` labelled keypoints (all, where it has less); else nobody knows who sits there.
7. flag 0 if as much weight is against the point as for it (two against two: nobody knows which) or the certainty is
   below `weak`; 2 from `sure` on; 1 between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dpose_yolo.errors import DPoseError


@dataclass(frozen=True)
class Rules:
    """Thresholds of the vote, see the module; docs/autolabel.md tells how the defaults were chosen.

    Raises:
        DPoseError: for a value that makes no sense.
    """

    fewest: int = 3
    least: float = 0.3
    agree: float = 0.5
    sure: float = 0.7
    weak: float = 0.5

    def __post_init__(self) -> None:
        for name in ("least", "sure", "weak"):
            if not 0 <= getattr(self, name) <= 1:
                raise DPoseError(f"{name}={getattr(self, name)} is not allowed: give a number from 0 to 1")
        if not 0 < self.agree <= 5:
            raise DPoseError(f"agree={self.agree} is not allowed: give a number above 0, 5 at most (0.5 is usual)")
        if self.weak > self.sure:
            raise DPoseError(f"weak={self.weak} is above sure={self.sure}: weak points are the less certain ones")


@dataclass(frozen=True)
class Verdict:
    """What the votes decided on a person's K keypoints.

    Attributes:
        points: (K, 2) x, y in the unit of the votes; 0, 0 where nobody voted.
        flags: (K,) 2 agreed, 1 weak, 0 none.
        certainty: (K,) 0..1.
        support: (K,) weight of the supporters, in teachers.
        against: (K,) weight of the votes that lie elsewhere, in teachers.
        spread: (K,) root mean square distance of the supporters to the point, in the unit of `agree`.
    """

    points: np.ndarray
    flags: np.ndarray
    certainty: np.ndarray
    support: np.ndarray
    against: np.ndarray
    spread: np.ndarray


def decide(
    points: np.ndarray, confidence: np.ndarray, teacher: np.ndarray, tolerance: np.ndarray, rules: Rules
) -> Verdict:
    """Decide on one person.

    Args:
        points: (V, K, 2) votes.
        confidence: (V, K) 0..1; NaN where the teacher does not know the keypoint at all.
        teacher: (V,) number of the teacher of each vote.
        tolerance: (K,) 2 sigma_k sqrt(area) in the unit of the points.
        rules: thresholds.
    """
    points, confidence = np.asarray(points, float), np.asarray(confidence, float)
    knows = ~np.isnan(confidence)
    _, number, views = np.unique(teacher, return_inverse=True, return_counts=True)
    weight = 1 / views[number]
    count = confidence.shape[1]
    able = np.where(knows, weight[:, None], 0).sum(0)  # teachers that know each keypoint
    taking = np.where(knows, confidence, 0) >= max(rules.least, 1e-9)
    taking &= np.isfinite(points).all(-1)
    at, numbers = np.zeros((count, 2)), np.zeros((4, count))
    for k in np.flatnonzero(taking.any(0)):
        on = taking[:, k]
        at[k], numbers[:, k] = _one(points[on, k] / tolerance[k], confidence[on, k], weight[on], able[k], rules.agree)
        at[k] *= tolerance[k]
    certainty, support, against, spread = numbers
    flags = np.where(certainty >= rules.sure, 2, np.where(certainty >= rules.weak, 1, 0))
    flags[(support <= against + 1e-9) | ~taking.any(0)] = 0
    return Verdict(at, flags, certainty, support, against, spread)


def _one(
    points: np.ndarray, confidence: np.ndarray, weight: np.ndarray, able: float, agree: float
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """The point of one keypoint, and its certainty, support, opposition and spread; distances in tolerances."""
    near = np.linalg.norm(points[:, None] - points[None], axis=-1) <= agree
    # the most weight; among equals the more confident side, so that the order of the teachers does not matter
    lead = int((near @ weight + 1e-6 * (near @ (weight * confidence))).argmax())
    on = near[lead]
    point = np.array([weighted_median(points[on, i], (weight * confidence)[on]) for i in (0, 1)])
    share = weight[on] / weight[on].sum()
    square = ((points[on] - point) ** 2).sum(1)
    support = float(weight[on].sum())
    certainty = support / able * (share @ np.exp(-square / 2)) * (share @ confidence[on]) ** (1 / max(able, 1.0))
    return point, (float(certainty), support, float(weight[~on].sum()), float(np.sqrt(share @ square)))


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """Median of values that count as much as their weight, interpolated: of two equal ones it is their mean.

    Args:
        values: (N,) at least one.
        weights: (N,) above 0.
    """
    order = np.argsort(values, kind="stable")
    values, weights = np.asarray(values, float)[order], np.asarray(weights, float)[order]
    middle = (weights.cumsum() - weights / 2) / weights.sum()
    return float(np.interp(0.5, middle, values))
