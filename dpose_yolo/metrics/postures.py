"""AP by posture: clusters of the training mixture, or names from a table, from the frequent to the rare ones.

A posture belongs to an image, that of its largest person, the driver: detections that match nobody belong to no person,
so only whole images can be told apart. Groups are numbered 0..C-1; -1 is an image without a posture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dpose_yolo.errors import DPoseError
from dpose_yolo.metrics.bootstrap import Measure, interval
from dpose_yolo.metrics.matching import Matches

THIRDS = ("head", "medium", "tail")
WORST_IMAGES = 5  # images that a cluster needs to be called the worst one
NAN = float("nan")


@dataclass
class PostureReport:
    """How good a model is at frequent and at rare postures.

    Attributes:
        rows: one row a group: cluster, name, train_count, train_share, third, images, AP, AP50, low, high (ends of
            AP's interval). A group without images with a labelled person has NaN.
        thirds: for head, medium and tail: AP over all its images together, low, high, images, clusters.
        macro: AP, the mean over the clusters that have one, low, high; clusters (how many have one) and
            without_images (how many do not).
        worst: cluster, name, AP and images of the lowest AP among groups of at least `WORST_IMAGES` images, or None.
    """

    rows: pd.DataFrame
    thirds: dict[str, dict[str, float]]
    macro: dict[str, float]
    worst: dict[str, Any] | None

    def summary(self) -> dict[str, Any]:
        """The numbers for `metrics.json`: head, medium, tail, macro, each with its `_interval`, and worst."""
        parts = {**self.thirds, "macro": self.macro}
        return {
            **{name: part["AP"] for name, part in parts.items()},
            "worst": self.worst,
            **{f"{name}_interval": [part["low"], part["high"]] for name, part in parts.items()},
            **{f"{name}_images": part["images"] for name, part in self.thirds.items()},
            "clusters": len(self.rows),
            "without_images": self.macro["without_images"],
            "worst_needs_images": WORST_IMAGES,
        }


def frequency_thirds(counts: np.ndarray) -> list[str]:
    """Head, medium or tail for each of C postures: thirds of the postures, the most frequent in training first.

    The thirds' sizes differ by at most one: one posture left over goes to the head, two to head and tail (20 are 7, 6
    and 7). Equally frequent ones keep their order.

    Args:
        counts: (C,) poses (or their mass) in the training part.

    Raises:
        DPoseError: counts that are negative or not finite.
    """
    counts = _counts(counts)
    part, rest = divmod(len(counts), 3)
    head, medium = part + (rest > 0), part
    result = [""] * len(counts)
    for rank, c in enumerate(np.argsort(-counts, kind="stable")):
        result[c] = THIRDS[0 if rank < head else 1 if rank < head + medium else 2]
    return result


def third_mask(group_of_image: np.ndarray, train_counts: np.ndarray, third: str) -> np.ndarray:
    """(N,) bool, images whose posture is in a third: the `images` of `bootstrap.paired`.

    Args:
        group_of_image: (N,) posture of each image, -1 for none.
        train_counts: (C,) poses in the training part.
        third: "head", "medium" or "tail".

    Raises:
        DPoseError: groups outside -1..C-1, or a third that is none.
    """
    if third not in THIRDS:
        raise DPoseError(f"there is no third {third!r}: it is one of {', '.join(THIRDS)}")
    own = np.array([name == third for name in frequency_thirds(train_counts)] + [False])
    return own[_groups(group_of_image, len(own) - 1)]


def largest_person_groups(
    person_image: np.ndarray, box_areas: np.ndarray, groups: np.ndarray, n_images: int
) -> np.ndarray:
    """(N,) group of each image's largest person that has one, -1 for an image without any.

    Args:
        person_image: (P,) image of each person, `Truth.image`.
        box_areas: (P,) pixels^2, `Truth.box_areas()`.
        groups: (P,) posture of each person, -1 for none.
        n_images: N.
    """
    result = np.full(n_images, -1)
    order = np.argsort(box_areas, kind="stable")  # the largest one is written last
    order = order[np.asarray(groups)[order] >= 0]
    result[np.asarray(person_image)[order]] = np.asarray(groups)[order]
    return result


def macro_average_precision(group_of_image: np.ndarray) -> Measure:
    """The mean of the postures' APs as a `measure` for `bootstrap.paired`: every posture counts the same.

    Postures without a person in a replicate are left out of its mean.

    Args:
        group_of_image: (N,) posture of each image, -1 for none.
    """
    groups = np.asarray(group_of_image)

    def measure(matches: Matches, weights: np.ndarray | None) -> np.ndarray:
        table = np.ones((1, len(groups))) if weights is None else np.atleast_2d(weights)
        known = np.unique(groups[groups >= 0])
        return _mean([matches.average_precision(table * (groups == c))[0] for c in known], len(table))

    return measure


def posture_metrics(
    matches: Matches,
    group_of_image: np.ndarray,
    train_counts: np.ndarray,
    weights: np.ndarray | None = None,
    names: Sequence[str] | None = None,
) -> PostureReport:
    """AP of each posture, of head, medium and tail, macro AP and the worst posture.

    Args:
        matches: of N images.
        group_of_image: (N,) posture of each image, see `largest_person_groups`; -1 for none.
        train_counts: (C,) poses of each posture in the training part.
        weights: (B, N) of `bootstrap_weights` for the intervals; None gives none (NaN).
        names: C names, the postures' numbers by default.

    Raises:
        DPoseError: groups, counts or names that do not fit each other.
    """
    counts = _counts(train_counts)
    groups = _groups(group_of_image, len(counts))
    if len(groups) != len(matches.truths) or (names is not None and len(names) != len(counts)):
        raise DPoseError(
            f"{len(groups)} postures of images for {len(matches.truths)} images, "
            f"{len(counts if names is None else names)} names for {len(counts)} postures"
        )
    thirds = frequency_thirds(counts)
    titles = [str(c) for c in range(len(counts))] if names is None else [str(name) for name in names]
    rows, replicates = [], []
    for c, count in enumerate(counts):
        part, values = _part(matches, groups == c, weights)
        replicates.append(values)
        row = {"cluster": c, "name": titles[c], "train_count": count, "train_share": count / max(counts.sum(), 1e-12)}
        rows.append({**row, "third": thirds[c], **part})
    columns = ["cluster", "name", "train_count", "train_share", "third", "images", "AP", "AP50", "low", "high"]
    table = pd.DataFrame(rows, columns=columns)
    return PostureReport(table, _thirds(matches, groups, thirds, weights), _macro(table, replicates), _worst(table))


def _thirds(
    matches: Matches, groups: np.ndarray, thirds: Sequence[str], weights: np.ndarray | None
) -> dict[str, dict[str, float]]:
    result = {}
    for third in THIRDS:
        own = [c for c, name in enumerate(thirds) if name == third]
        part, _ = _part(matches, np.isin(groups, own), weights)
        result[third] = {**part, "clusters": len(own)}
    return result


def _part(matches: Matches, mask: np.ndarray, weights: np.ndarray | None) -> tuple[dict[str, float], np.ndarray]:
    """AP, AP50, interval and images of a part of the images, and the replicates' AP (B,)."""
    ap, ap50, _ = matches.average_precision(mask.astype(float))
    values = np.zeros(0) if weights is None else matches.average_precision(weights * mask)[0]
    low, high = interval(values)
    part = {"images": int(mask.sum()), "AP": float(ap[0]), "AP50": float(ap50[0]), "low": low, "high": high}
    return part, values


def _macro(table: pd.DataFrame, replicates: list[np.ndarray]) -> dict[str, float]:
    known = table["AP"].notna()
    low, high = interval(_mean(replicates, len(replicates[0]) if replicates else 0))
    mean = float(table["AP"].mean()) if known.any() else NAN
    return {"AP": mean, "low": low, "high": high, "clusters": int(known.sum()), "without_images": int((~known).sum())}


def _mean(values: list[np.ndarray], size: int) -> np.ndarray:
    """(B,) mean over the postures, NaN left out, of arrays (B,)."""
    table = np.stack(values) if values else np.zeros((0, size))
    known = ~np.isnan(table)
    total = np.where(known, table, 0.0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), NAN)


def _worst(table: pd.DataFrame) -> dict[str, Any] | None:
    able = table[(table["images"] >= WORST_IMAGES) & table["AP"].notna()]
    if able.empty:
        return None
    row = able.loc[able["AP"].idxmin()]
    return {
        "cluster": int(row["cluster"]), "name": str(row["name"]), "AP": float(row["AP"]), "images": int(row["images"])
    }  # fmt: skip


def _counts(counts: np.ndarray) -> np.ndarray:
    counts = np.asarray(counts, np.float64).reshape(-1)
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise DPoseError("training counts of postures have to be finite and at least 0")
    return counts


def _groups(groups: np.ndarray, count: int) -> np.ndarray:
    groups = np.asarray(groups, np.int64).reshape(-1)
    if len(groups) and (groups.min() < -1 or groups.max() >= count):
        raise DPoseError(f"postures of images run from {groups.min()} to {groups.max()}, not from -1 to {count - 1}")
    return groups
