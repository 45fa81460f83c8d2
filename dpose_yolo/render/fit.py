"""Fit cameras to the labels of a data set: its box sizes, places, lean and roll."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.metrics.samples import OKS_AREA
from dpose_yolo.render.coverage import nearest
from dpose_yolo.render.labels import LabelSet
from dpose_yolo.render.plan import SIGMAS, whole_shares
from dpose_yolo.render.scene import SceneSpec

FIRST, ELITE, CHILDREN = 128, 24, 48  # cameras of the first round, those chosen in a round, new ones of the next
LABELS = 10  # drawn with each camera in a round
CAMERAS = 64  # of the result
ROUNDS = 6
BLUR = (8.0, 1.0)  # factor of the OKS area in the first and in the last round: near misses count at first
STEP = 0.5  # spread of the children, in standard deviations of the kept cameras
MARGIN = 0.1  # beyond the range of the first cameras, in shares of it
MOST = 1000  # real labels that are looked at


def fit_cameras(
    real: LabelSet,
    sample: Callable[[np.random.Generator], Any],
    draw: Callable[[Sequence[SceneSpec]], tuple[LabelSet, np.ndarray]],
    postures: Sequence[str],
    base: Mapping[str, Any],
    seed: int = 0,
    tick: Callable[[int], None] = lambda steps: None,
) -> tuple[Any, ...]:
    """Search for cameras whose labels together cover the real ones (an evolution strategy).

    In each round labels of the same persons and postures are drawn with all cameras. Cameras are then chosen one by
    one, each the one that adds most to the mean OKS of the real labels with the nearest label of a chosen camera.
    Around them the cameras of the next round are drawn, at a spread that follows theirs.

    Args:
        real: real labels.
        sample: draws a camera, a dataclass; its fields of numbers are fitted, all others stay together with them.
        draw: labels of scenes without rendering, and which scenes have one.
        postures: names of the postures to draw.
        base: fields of `SceneSpec` that all scenes have: look, size, licence.
        seed: of the search.
        tick: told the number of labels drawn.

    Returns:
        `CAMERAS` cameras, one of which is drawn for each image: a chosen camera stands there as often as its share of
        the real labels that it is nearest to asks for.
    """
    rng = np.random.default_rng([seed, 3])
    real = real.select(real.labelled())
    if len(real) > MOST:
        real = real.select(np.sort(rng.choice(len(real), MOST, replace=False)))
    cameras = [sample(rng) for _ in range(FIRST)]
    first = np.array([vector_of(camera) for camera in cameras])
    margin = MARGIN * np.ptp(first, axis=0)
    limits = first.min(0) - margin, first.max(0) + margin
    counts = np.zeros(0, np.int64)
    for number in range(ROUNDS):
        if number:
            cameras += _children(cameras, counts, limits, rng)
        area = OKS_AREA * BLUR[0] * (BLUR[1] / BLUR[0]) ** (number / (ROUNDS - 1))
        reached = _reached(cameras, real, draw, postures, base, area, rng)
        tick(len(cameras) * LABELS)
        chosen, counts = _cover(reached)
        cameras = [cameras[c] for c in chosen]
    return tuple(camera for camera, count in zip(cameras, counts, strict=True) for _ in range(count))


def _reached(
    cameras: Sequence[Any],
    real: LabelSet,
    draw: Callable[[Sequence[SceneSpec]], tuple[LabelSet, np.ndarray]],
    postures: Sequence[str],
    base: Mapping[str, Any],
    area: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """(C, P) OKS of each real label with the nearest label of each camera; 0 for one that misses a driver."""
    names = [postures[i] for i in rng.integers(len(postures), size=LABELS)]
    seeds = rng.integers(2**62, size=LABELS)
    reached = np.zeros((len(cameras), len(real)), np.float32)
    pairs = list(zip(names, seeds, strict=True))
    labels, seen = draw([SceneSpec(int(s), name, camera, **base) for camera in cameras for name, s in pairs])
    owner = np.repeat(np.arange(len(cameras)), LABELS)[seen]
    for number in np.flatnonzero(seen.reshape(-1, LABELS).all(1)):
        reached[number] = nearest(real, labels.select(owner == number), SIGMAS, area)[0]
    return reached


def _cover(reached: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Choose cameras greedily from (C, P) OKS; their indices, and how many of `CAMERAS` each of them gets."""
    chosen: list[int] = []
    best = np.zeros(reached.shape[1], np.float32)
    while len(chosen) < ELITE:
        gain = np.maximum(reached, best).mean(1)
        gain[chosen] = -1.0
        chosen.append(int(gain.argmax()))
        best = np.maximum(best, reached[chosen[-1]])
    wins = np.bincount(reached[chosen].argmax(0), minlength=ELITE)
    return chosen, whole_shares(wins / wins.sum(), CAMERAS)


def _children(
    parents: Sequence[Any], counts: np.ndarray, limits: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
) -> list[Any]:
    """Cameras around the chosen ones, by their counts; their numbers within limits."""
    vectors = np.array([vector_of(camera) for camera in parents])
    shares = counts / counts.sum()
    middle = shares @ vectors
    spread = STEP * np.sqrt(shares @ (vectors - middle) ** 2)
    of = rng.choice(len(parents), size=CHILDREN, p=shares)
    noise = rng.normal(size=(CHILDREN, vectors.shape[1])) * spread
    return [with_vector(parents[i], np.clip(vectors[i] + noise[n], *limits)) for n, i in enumerate(of)]


def vector_of(camera: Any) -> np.ndarray:
    """(D,) numbers of a camera: its fields that are numbers, or tuples or arrays of numbers, in order."""
    if not is_dataclass(camera):
        raise DPoseError(f"a camera of type {type(camera).__name__} cannot be fitted")
    return np.concatenate([np.zeros(0), *(np.ravel(getattr(camera, name)) for name in _numeric(camera))])


def with_vector(camera: Any, vector: np.ndarray) -> Any:
    """A camera with other numbers, in the order of `vector_of`."""
    values, at = {}, 0
    for name in _numeric(camera):
        before = getattr(camera, name)
        size = np.size(before)
        part = vector[at : at + size]
        at += size
        if isinstance(before, np.ndarray):
            values[name] = part.reshape(before.shape)
        else:
            values[name] = tuple(part.tolist()) if isinstance(before, tuple) else float(part[0])
    return replace(camera, **values)


def _numeric(camera: Any) -> list[str]:
    """Names of the fields that hold floating-point numbers."""
    names = []
    for field in fields(camera):
        value = getattr(camera, field.name)
        parts = np.ravel(value).tolist() if isinstance(value, tuple | np.ndarray) else [value]
        if parts and all(isinstance(v, float) for v in parts):
            names.append(field.name)
    return names
