"""The postures that a model was trained on, small enough to travel in its checkpoint, and what new data adds to them.

A checkpoint has to load where this package is not installed, so that a mixture travels as plain arrays and words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.posture.fitting import MixtureFit
from dpose_yolo.posture.mixture import PostureMixture

VERSION = 1
QUANTILE = 0.01  # share of a model's own kind of poses that may be called unlike them
CERTAIN = 0.05  # chance at which a posture that is not there is called lacking
MOST = 0.5  # share of foreign poses from which a whole cluster, or a whole data set, is new
FEWEST = 3  # poses of a new posture


@dataclass
class CarriedPostures:
    """The postures of a training part.

    Attributes:
        mixture: its posture mixture.
        scale: unit of the postures, as the setting `posture_scale`.
        counts: (C,) training poses by their likeliest cluster.
        floor: log-likelihood for each observed coordinate below which a pose is unlike these postures.
    """

    mixture: PostureMixture
    scale: str
    counts: np.ndarray
    floor: float


def carry(mixture: PostureMixture, features: np.ndarray, held_out: np.ndarray, scale: str) -> CarriedPostures:
    """What a training part's postures are, with the floor taken from poses that the mixture was not fitted to.

    Args:
        mixture: fitted to the training part.
        features: (P, 2K) posture features of the training part.
        held_out: (Q, 2K) those of the validation part; without any the training part stands in, whose poses are
            likelier than new ones of the same kind.
        scale: unit of the features.
    """
    cluster = mixture.assign(features)
    counts = np.bincount(cluster[cluster >= 0], minlength=len(mixture.weights_))
    scores = unlikeliness(mixture, held_out)
    scores = scores if np.isfinite(scores).any() else unlikeliness(mixture, features)
    floor = float(np.quantile(scores[np.isfinite(scores)], QUANTILE, method="lower"))
    return CarriedPostures(mixture, scale, counts, floor)


def unlikeliness(mixture: PostureMixture, features: np.ndarray) -> np.ndarray:
    """(P,) log-likelihood of poses for each observed coordinate; NaN where nothing is observed."""
    if not len(features):
        return np.zeros(0)
    observed = (~np.isnan(features[:, mixture.used_])).sum(1)
    scores = mixture.score_samples(features) / np.maximum(observed, 1)
    return np.where(observed > 0, scores, np.nan)


def pack(postures: CarriedPostures) -> dict[str, Any]:
    """As plain arrays, numbers and words; full covariances as their lower triangles, float32.

    32 clusters of 17 keypoints take 80 kB.
    """
    mixture = postures.mixture
    covariances = mixture.covariances_
    if mixture.covariance_type in ("full", "tied"):
        rows, columns = np.tril_indices(covariances.shape[-1])
        covariances = covariances[..., rows, columns]
    return {
        "version": VERSION,
        "clusters": mixture.n_components,
        "covariance": mixture.covariance_type,
        "keypoints": list(mixture.keypoint_names_),
        "features": int(mixture.n_features_in_),
        "left_out": [int(k) for k in mixture.left_out_],
        "used": mixture.used_.astype(np.int32),
        "weights": mixture.weights_.astype(np.float32),
        "means": mixture.means_.astype(np.float32),
        "covariances": covariances.astype(np.float32),
        "counts": postures.counts.astype(np.int32),
        "scale": postures.scale,
        "floor": postures.floor,
    }


def unpack(content: Mapping[str, Any]) -> CarriedPostures:
    """The counterpart of `pack`.

    Raises:
        DPoseError: for anything else than what `pack` gives.
    """
    try:
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}, expected {VERSION}")
        array = {k: np.array(content[k]) for k in ("used", "weights", "means", "covariances", "counts")}
        weights = array["weights"].astype(np.float64)
        means, packed = array["means"].astype(np.float64), array["covariances"].astype(np.float64)
        mixture = PostureMixture(content["clusters"], covariance_type=content["covariance"])
        covariances = packed
        if mixture.covariance_type in ("full", "tied"):
            side = means.shape[1]
            rows, columns = np.tril_indices(side)
            covariances = np.zeros((*packed.shape[:-1], side, side))
            covariances[..., rows, columns] = packed
            covariances[..., columns, rows] = packed
        mixture._keep(MixtureFit(weights / weights.sum(), means, covariances, True, 0))
        mixture.used_, mixture.left_out_ = array["used"].astype(np.int64), list(content["left_out"])
        mixture.n_features_in_, mixture.n_fit_ = int(content["features"]), int(array["counts"].sum())
        mixture.bic_curve_, mixture.key_ = {}, ""
        mixture.keypoint_names_ = tuple(content["keypoints"])
        return CarriedPostures(mixture, str(content["scale"]), array["counts"], float(content["floor"]))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DPoseError(f"the postures in the checkpoint cannot be read ({error}): train it again") from error


def joined(old: CarriedPostures, new: CarriedPostures) -> CarriedPostures:
    """The postures of both, the old ones first; the new ones alone where the two are not of one form."""
    a, b = old.mixture, new.mixture
    alike = a.covariance_type == b.covariance_type and old.scale == new.scale and a.keypoint_names_ == b.keypoint_names_
    if not alike or a.covariance_type == "tied" or not np.array_equal(a.used_, b.used_):
        return new
    counts = np.concatenate([old.counts, new.counts])
    shares = np.array([old.counts.sum(), new.counts.sum()]) / max(counts.sum(), 1)
    both = PostureMixture(len(counts), covariance_type=a.covariance_type)
    weights = np.concatenate([a.weights_ * shares[0], b.weights_ * shares[1]])
    means, covariances = np.concatenate([a.means_, b.means_]), np.concatenate([a.covariances_, b.covariances_])
    both._keep(MixtureFit(weights, means, covariances, True, 0))
    both.used_, both.left_out_, both.n_features_in_ = a.used_, a.left_out_, a.n_features_in_
    both.n_fit_, both.bic_curve_, both.key_, both.keypoint_names_ = int(counts.sum()), {}, "", a.keypoint_names_
    return CarriedPostures(both, old.scale, counts, min(old.floor, new.floor))


@dataclass
class PostureChange:
    """How the postures of new data differ from those that a model knows.

    Attributes:
        foreign: (P,) bool, poses of the new data that are unlike all known postures.
        lacking: known clusters that the new data does not show although it would be expected to.
        new: clusters of the new data's own mixture that are foreign for the most part.
        share: of foreign poses.
    """

    foreign: np.ndarray
    lacking: list[int]
    new: list[int]
    share: float

    def sentence(self, what: str) -> str:
        """In words: `new cabin lacks postures 3, 7; has a new one`."""
        if self.share > MOST:
            return (
                f"{what}: {self.share:.0%} of its poses are unlike the old ones (another camera, or other labels); "
                "those count as new"
            )
        words = []
        if self.lacking:
            words.append(f"lacks posture{'s' * (len(self.lacking) > 1)} {', '.join(map(str, self.lacking))}")
        if self.new:
            words.append("has a new one" if len(self.new) == 1 else f"has {len(self.new)} new ones")
        return f"{what} {'; '.join(words)}" if words else f"{what} has the postures of the old data"


def posture_change(old: CarriedPostures, features: np.ndarray, cluster: np.ndarray) -> PostureChange:
    """Compare new data with the postures that a model knows.

    A pose is foreign if its likelihood lies below what 99 of 100 unseen poses of the old data reach. An old posture of
    share pi is lacking among n familiar poses if none shows it although (1 - pi)^n < 5 %: few images lack nothing. A
    cluster of the new data is a new posture if most of its poses, and at least three, are foreign.

    Args:
        old: postures that the model knows.
        features: (P, 2K) posture features of the new data in the unit of the old.
        cluster: (P,) cluster of each pose in the new data's own mixture, -1 for none.

    Raises:
        DPoseError: for features of another number of keypoints.
    """
    scores = unlikeliness(old.mixture, features)
    foreign = scores < old.floor  # NaN is not: a pose without labels is no posture
    known = old.mixture.assign(features)
    familiar = known[(known >= 0) & ~foreign]
    shares = old.counts / max(old.counts.sum(), 1)
    shown = np.bincount(familiar, minlength=len(shares))
    lacking = np.flatnonzero((shown == 0) & ((1 - shares) ** len(familiar) < CERTAIN))
    count = int(cluster.max(initial=-1)) + 1
    poses = np.bincount(cluster[cluster >= 0], minlength=count)
    strange = np.bincount(cluster[foreign & (cluster >= 0)], minlength=count)
    new = np.flatnonzero((strange > MOST * poses) & (strange >= FEWEST))
    share = float(foreign.sum() / max((known >= 0).sum(), 1))
    return PostureChange(foreign, lacking.tolist(), new.tolist(), share)
