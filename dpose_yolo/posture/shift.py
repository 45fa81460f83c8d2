"""Two data sets by one posture mixture: shares, postures that only one of them has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from dpose_yolo.posture.mixture import PostureMixture
from dpose_yolo.posture.usual import Usual

# The new set lacks a posture when it has less than a tenth of the old share of it, and chance alone would leave so few
# among as many poses in less than one of a thousand cases.
LACK_RATIO, LACK_CHANCE = 0.1, 1e-3
POSES_A_POSTURE, MOST_POSTURES = 5, 8  # of the poses that are unlike all old ones
SAME = 25.0  # times the floor of the covariances: what differs by 5 % of the box only is one new posture


@dataclass
class Shift:
    """What has changed from an old set of poses to a new one, by the old one's mixture.

    Attributes:
        old: (C,) old poses of each posture, by their likeliest.
        new: (C,) new poses of each posture; those unlike all old ones count in `fresh` only.
        lacking: (C,) whether the new set lacks the posture.
        old_cluster: (P,) posture of each old pose, -1 for one without a keypoint in use.
        cluster: (Q,) posture of each new pose, -1 for one without a keypoint in use or unlike all old ones.
        spreads: (Q,) how unlike the old poses each new one is, see `Usual.scores`.
        group: (Q,) new posture of each new pose, -1 for poses like old ones.
        fresh: (F,) new poses of each new posture.
        mixture: of the new postures, or None if there are none.
    """

    old: np.ndarray
    new: np.ndarray
    lacking: np.ndarray
    old_cluster: np.ndarray
    cluster: np.ndarray
    spreads: np.ndarray
    group: np.ndarray
    fresh: np.ndarray
    mixture: PostureMixture | None

    @property
    def old_shares(self) -> np.ndarray:
        """(C,) share of each posture in the old poses; sums to 1."""
        return self.old / max(self.old.sum(), 1)

    @property
    def new_shares(self) -> np.ndarray:
        """(C + F,) share of each posture, old ones first, in the new poses; sums to 1."""
        counts = np.concatenate([self.new, self.fresh])
        return counts / max(counts.sum(), 1)


def compare_postures(
    mixture: PostureMixture, usual: Usual, old: np.ndarray, new: np.ndarray, seed: int = 0, reg_covar: float = 1e-4
) -> Shift:
    """Count the postures of two sets, and gather what the old one does not have.

    Args:
        mixture: postures, fitted to the old training part.
        usual: what is usual there (`fit_usual`), which says which new poses are unlike all old ones.
        old: (P, 2K) posture features of the old set.
        new: (Q, 2K) of the new set, the same keypoints.
        seed: of the mixture of new postures.
        reg_covar: of that mixture.
    """
    count = len(mixture.weights_)
    old_cluster, cluster = mixture.assign(old), mixture.assign(new)
    spreads, unlike = usual.scores(new), usual.unlike(new)
    cluster[unlike] = -1
    group, fresh, gathered = np.full(len(new), -1), np.zeros(0, np.int64), None
    if unlike.any():
        gathered, group[unlike] = _gather(new[unlike], seed, reg_covar)
        fresh = np.bincount(group[unlike], minlength=len(gathered.weights_))
    counts = [np.bincount(c[c >= 0], minlength=count) for c in (old_cluster, cluster)]
    lacking = _lacking(counts[0], counts[1], int(counts[1].sum() + fresh.sum()))
    return Shift(counts[0], counts[1], lacking, old_cluster, cluster, spreads, group, fresh, gathered)


def _gather(features: np.ndarray, seed: int, reg_covar: float) -> tuple[PostureMixture, np.ndarray]:
    """Postures among a few poses, and which pose belongs to which: one for each five at most, as many as BIC finds.

    Coordinates are independent: full covariances of as few poses would always make one posture of them. A wide floor of
    the variances keeps correlated small movements from being split; it is taken off again, to show the true spread.
    """
    most = int(np.clip(len(features) // POSES_A_POSTURE, 1, MOST_POSTURES))
    mixture = PostureMixture(
        "auto", covariance_type="diag", component_range=(1, most), reg_covar=SAME * reg_covar, random_state=seed
    ).fit(features, source="the new postures")
    group = mixture.predict(features)
    mixture.covariances_ = mixture.covariances_ - (SAME - 1) * reg_covar
    return mixture, group


def _lacking(old: np.ndarray, new: np.ndarray, total: int) -> np.ndarray:
    share = old / max(old.sum(), 1)
    rare = new < LACK_RATIO * share * total
    return rare & (binom.cdf(new, total, share) < LACK_CHANCE)
