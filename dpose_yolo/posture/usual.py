"""Where the usual ends: poses that a mixture fitted to other poses finds too unlikely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dpose_yolo.posture.mixture import PostureMixture

FEWEST = 100  # poses with at least half of the keypoints: fewer say too little of what is usual
POSES_A_CLUSTER, MOST_CLUSTERS = 150, 8  # few clusters: a mixture that knows its poses by heart finds all others odd
FENCE = 5.0  # spreads below the median (spread: from the median to the 5 % quantile) where a pose is unusual
REG_COVAR = 1e-4  # of `PostureMixture`, for features in units of box size


@dataclass
class Usual:
    """A mixture of usual postures and how their likelihood scatters.

    Attributes:
        mixture: fitted to poses that are taken for usual.
        median: of these poses' log-likelihood for each observed coordinate, nats.
        spread: from the median down to the 5 % quantile.
    """

    mixture: PostureMixture
    median: float
    spread: float

    def scores(self, features: np.ndarray) -> np.ndarray:
        """(N,) log-likelihood for each observed coordinate, in spreads below the median; NaN where nothing is known."""
        return (self.median - per_coordinate(self.mixture, features)) / self.spread

    def unlike(self, features: np.ndarray) -> np.ndarray:
        """(N,) whether a pose is unlike all that the mixture was fitted to."""
        with np.errstate(invalid="ignore"):
            return self.scores(features) > FENCE


def per_coordinate(mixture: PostureMixture, features: np.ndarray) -> np.ndarray:
    """(N,) log-likelihood for each observed coordinate, so that poses with fewer labels compare; NaN for none."""
    observed = (~np.isnan(features[:, mixture.used_])).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(observed > 0, mixture.score_samples(features) / np.maximum(observed, 1), np.nan)


def fit_usual(
    features: np.ndarray, seed: int = 0, source: str = "the training part", reg_covar: float = REG_COVAR
) -> Usual | str:
    """Fit the mixture of usual postures, or say why that cannot be done.

    Args:
        features: (N, 2K) postures, NaN = missing. Those with less than half of the keypoints take no part.
        seed: of the fit.
        source: where the poses come from, for messages.
        reg_covar: see `PostureMixture`.
    """
    whole = (~np.isnan(features)).mean(1) >= 0.5 if len(features) else np.zeros(0, bool)
    if whole.sum() < FEWEST:
        return f"{int(whole.sum())} poses of {source} have half of the keypoints: {FEWEST} are needed"
    features = features[whole]
    clusters = int(np.clip(len(features) // POSES_A_CLUSTER, 1, MOST_CLUSTERS))
    mixture = PostureMixture(clusters, reg_covar=reg_covar, random_state=seed).fit(features, source=source)
    scores = per_coordinate(mixture, features)
    scores = scores[~np.isnan(scores)]
    median = float(np.median(scores))
    return Usual(mixture, median, max(median - float(np.quantile(scores, 0.05)), 1e-3))
