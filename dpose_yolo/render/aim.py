"""Aim: which postures a data set lacks, how many images of each even it out, and what each should look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpose_yolo.engine.postures import covariance_floor
from dpose_yolo.errors import DPoseError
from dpose_yolo.posture.mixture import PostureMixture
from dpose_yolo.posture.shift import compare_postures
from dpose_yolo.posture.usual import fit_usual
from dpose_yolo.posture.weights import component_masses
from dpose_yolo.render.coverage import nearest
from dpose_yolo.render.labels import LabelSet, from_drawn, in_box, target_labels
from dpose_yolo.render.plan import SIGMAS, Wanted, whole_shares
from dpose_yolo.render.real import ReadSet
from dpose_yolo.render.scene import SceneSpec

MOST_TARGETS = 128  # of a posture
LABELS_A_POSTURE = 8  # drawn to see which named postures are near to a target
STARTS, SHARPNESS = 3, 4.0  # named postures that a target starts from, weighted by OKS to this power


def even_counts(natural: np.ndarray, images: int) -> np.ndarray:
    """How many images of each posture to render so that the union is as even as can be.

    The level L is sought at which sum max(0, L - n_j) is the number of images; postures above it get none. Fractions
    are rounded to the nearest whole numbers that sum to `images`, the largest remainders first.

    Args:
        natural: (G,) poses of each posture in the data, fractions allowed.
        images: to render.

    Returns:
        (G,) whole numbers >= 0 that sum to `images`.
    """
    natural = np.asarray(natural, np.float64)
    order = np.sort(natural)
    levels = (images + order.cumsum()) / np.arange(1, len(order) + 1)  # if the lowest 1, 2, ... are filled up
    level = levels[np.flatnonzero(levels >= order)[-1]]
    missing = np.maximum(level - natural, 0.0)
    return whole_shares(missing / max(missing.sum(), 1e-12), images)


@dataclass
class Lacking:
    """A posture of the data, or one that only the second data set has.

    Attributes:
        name: `cluster 3`, or `missing 0` for a posture of the second set.
        natural: poses of it in the data.
        images: to render.
        targets: (M, 17, 3) its poses, x and y in shares of the box, and visibility.
        ratios: (M,) width by height of their boxes.
    """

    name: str
    natural: float
    images: int
    targets: np.ndarray
    ratios: np.ndarray


def lacking_postures(
    real: ReadSet, mixture: PostureMixture, images: int, seed: int = 0, other: ReadSet | None = None
) -> list[Lacking]:
    """Rare and missing postures, and how many images of each even the data out; those that need none are left out.

    Args:
        real: the training part of the data.
        mixture: its posture mixture.
        images: to render.
        seed: of the choice of targets.
        other: a second data set; postures that are unlike all of the data's count as missing.

    Raises:
        DPoseError: when postures of a second set cannot be compared, for too few poses.
    """
    features = real.table.features()
    natural = component_masses(mixture.predict_proba(features))
    cluster = mixture.assign(features)
    groups = [(f"cluster {j}", float(n), real, np.flatnonzero(cluster == j)) for j, n in enumerate(natural)]
    if other is not None:
        groups += _missing(real, mixture, other, seed)
    groups = [g for g in groups if len(g[3])]
    counts = even_counts(np.array([g[1] for g in groups]), images)
    rng = np.random.default_rng([seed, 1])
    return [
        Lacking(name, poses, int(count), *targets_of(source.labels.select(rows), rng))
        for (name, poses, source, rows), count in zip(groups, counts, strict=True)
        if count
    ]


def _missing(
    real: ReadSet, mixture: PostureMixture, other: ReadSet, seed: int
) -> list[tuple[str, float, ReadSet, np.ndarray]]:
    """Postures of another set that the data has nothing like."""
    floor = covariance_floor(real.table)
    usual = fit_usual(real.table.features(), seed, f"the training part of {real.name}", floor)
    if isinstance(usual, str):
        raise DPoseError(f"compare={other.name} cannot be compared with: {usual}")
    shift = compare_postures(mixture, usual, real.table.features(), other.table.features(), seed, floor)
    return [(f"missing {j}", 0.0, other, np.flatnonzero(shift.group == j)) for j in range(len(shift.fresh))]


def targets_of(labels: LabelSet, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Targets of a posture: its poses, and poses between two of them, so that few poses give many images.

    Args:
        labels: persons that show the posture.
        rng: chooses.

    Returns:
        (M, 17, 3) keypoints in shares of the box, and (M,) width by height of the boxes; M is four times the number of
        poses, `MOST_TARGETS` at most. A keypoint is labelled where both poses label it.
    """
    boxed = in_box(labels)
    points, ratios = boxed.keypoints, boxed.aspect
    count = min(MOST_TARGETS, 4 * len(points))
    first = rng.permutation(np.resize(np.arange(len(points)), count))
    second, mix = rng.integers(len(points), size=count), rng.uniform(0, 0.5, count)
    mix[: min(count, len(points))] = 0.0  # as they are
    first[: min(count, len(points))] = rng.permutation(len(points))[:count]
    targets = points[first].copy()
    step = points[second, :, :2] - targets[..., :2]
    targets[..., :2] += mix[:, None, None] * step
    both = (points[first, :, 2] > 0) & ((points[second, :, 2] > 0) | (mix[:, None] == 0))
    targets[~both] = 0.0
    return targets, ratios[first] ** (1 - mix) * ratios[second] ** mix


def aimed(
    postures: Sequence[Lacking],
    names: Sequence[str],
    draw: Callable[[SceneSpec], Any],
    base: Mapping[str, Any],
    cameras: Sequence[Any],
    seed: int = 0,
) -> tuple[Wanted, ...]:
    """Give each posture the named ones that its targets are nearest to, where the renderer starts from.

    Args:
        postures: from `lacking_postures`.
        names: postures of the renderer.
        draw: draws a label without rendering.
        base: fields of `SceneSpec` that all scenes have: look, size, licence.
        cameras: to draw with.
        seed: of the drawn labels.
    """
    rng = np.random.default_rng([seed, 2])
    drawn = {}
    for name in names:
        scenes = [
            SceneSpec(int(rng.integers(2**62)), name, cameras[int(rng.integers(len(cameras)))], **base)
            for _ in range(LABELS_A_POSTURE)
        ]
        drawn[name] = in_box(from_drawn([draw(scene) for scene in scenes], base["size"]))
    wanted = []
    for posture in postures:
        targets = target_labels(posture.targets, posture.ratios)
        score = np.array([nearest(targets, drawn[name], SIGMAS)[0].mean() for name in names])
        best = np.argsort(-score, kind="stable")[:STARTS]
        weights = np.maximum(score[best], 1e-3) ** SHARPNESS
        weights = weights / weights.sum()
        starts, shares = tuple(names[i] for i in best), tuple(weights.tolist())
        wanted.append(Wanted(posture.name, posture.images, starts, shares, posture.targets, posture.ratios))
    return tuple(wanted)
