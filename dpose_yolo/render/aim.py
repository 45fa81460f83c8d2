"""Aim: which postures a data set lacks, how many images of each even it out, and what each should look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dpose_yolo.engine.postures import covariance_floor
from dpose_yolo.errors import DPoseError
from dpose_yolo.posture.mixture import PostureMixture
from dpose_yolo.posture.shift import compare_postures
from dpose_yolo.posture.usual import fit_usual
from dpose_yolo.posture.weights import component_masses
from dpose_yolo.render.coverage import oks_matrix
from dpose_yolo.render.labels import LabelSet, joined
from dpose_yolo.render.plan import SIGMAS, spread_out, whole_shares
from dpose_yolo.render.real import ReadSet
from dpose_yolo.render.scene import SceneSpec

MOST_TARGETS = 128  # of a posture
NEAR = 5  # scenes of the first pool that a target's further scenes are like


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
        targets: poses to show, in the place of the image where the data has them.
    """

    name: str
    natural: float
    images: int
    targets: LabelSet


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
        Lacking(name, poses, int(count), targets_of(source.labels.select(rows), rng))
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


def targets_of(labels: LabelSet, rng: np.random.Generator) -> LabelSet:
    """Targets of a posture: its poses, and poses between two of them, so that few poses give many images.

    Args:
        labels: persons that show the posture.
        rng: chooses.

    Returns:
        Four times as many labels, `MOST_TARGETS` at most: first poses as they are. A keypoint is labelled where both
        poses label it.
    """
    labels = labels.select(labels.labelled())
    count = min(MOST_TARGETS, 4 * len(labels))
    whole = min(count, len(labels))
    first = np.concatenate([rng.permutation(len(labels)) for _ in range(-(-count // len(labels)))])[:count]
    second, mix = rng.integers(len(labels), size=count), rng.uniform(0, 0.5, count)
    mix[:whole] = 0.0
    found, other = labels.select(first), labels.select(second)
    both = (found.keypoints[..., 2] > 0) & ((other.keypoints[..., 2] > 0) | (mix[:, None] == 0))
    enough = both.any(1)
    mix = np.where(enough, mix, 0.0)
    both |= ~enough[:, None] & (found.keypoints[..., 2] > 0)
    found.keypoints[..., :2] += mix[:, None, None] * (other.keypoints[..., :2] - found.keypoints[..., :2])
    found.keypoints[~both] = 0.0
    found.boxes += mix[:, None] * (other.boxes - found.boxes)
    return found


def aim_scenes(
    postures: Sequence[Lacking],
    first: Sequence[SceneSpec],
    draw: Callable[[Sequence[SceneSpec]], tuple[LabelSet, np.ndarray]],
    tries: int,
    seed: int = 0,
) -> tuple[list[SceneSpec], list[str], dict[str, float]]:
    """Choose scenes whose labels are nearest to the targets.

    Labels of a first pool of scenes are drawn. For each image, more are drawn with posture and camera of one of the
    scenes that are nearest to its target. Then each image takes the nearest scene that no other image has taken.

    Args:
        postures: what is wanted.
        first: the first pool, of all postures and cameras.
        draw: labels of scenes without rendering, and which scenes have one.
        tries: scenes that are drawn for an image in the second step.
        seed: of the choice.

    Returns:
        Scene and posture of each image, and the mean OKS of the scenes' labels with their targets by posture.
    """
    rng = np.random.default_rng([seed, 2])
    labels, seen = draw(first)
    pool = [scene for scene, one in zip(first, seen, strict=True) if one]
    more = []
    for posture in postures:
        near = np.argsort(-oks_matrix(posture.targets, labels, SIGMAS), axis=1, kind="stable")[:, :NEAR]
        for i in range(posture.images * tries):
            like = pool[near[i % len(near), rng.integers(near.shape[1])]]
            more.append(replace(like, seed=int(rng.integers(2**62))))
    if more:
        extra, seen = draw(more)
        pool += [scene for scene, one in zip(more, seen, strict=True) if one]
        labels = joined([labels, extra])
    if len(pool) < sum(posture.images for posture in postures):
        raise DPoseError(
            f"the camera sees the driver in {len(pool)} scenes only: move or widen it, or give fewer images="
        )
    free = np.ones(len(pool), bool)
    taken: list[list[int]] = []
    reached = {}
    for posture in postures:
        oks, values, own = oks_matrix(posture.targets, labels, SIGMAS), [], []
        for i in range(posture.images):
            row = np.where(free, oks[i % len(oks)], -1.0)
            own.append(int(row.argmax()))
            values.append(float(row[own[-1]]))
            free[own[-1]] = False
        taken.append(own)
        reached[posture.name] = float(np.mean(values))
    order = spread_out([len(own) for own in taken])
    turn = [iter(own) for own in taken]
    scenes = [pool[next(turn[g])] for g in order]
    return scenes, [postures[g].name for g in order], reached
