"""Fit cameras to the labels of a data set: its box sizes, places, lean and roll."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.metrics.samples import OKS_AREA
from dpose_yolo.render.coverage import nearest
from dpose_yolo.render.labels import LabelSet, from_drawn
from dpose_yolo.render.plan import SIGMAS
from dpose_yolo.render.scene import SceneSpec

POPULATION, ELITE, LABELS = 64, 16, 6  # cameras of a round, those kept, labels drawn with each
ROUNDS = 8
BLUR = (16.0, 1.0)  # factor of the OKS area in the first and in the last round: near misses count at first
STEP = 0.5  # spread of the children, in standard deviations of the kept cameras
MOST = 1000  # real labels that are looked at


def fit_cameras(
    real: LabelSet,
    sample: Callable[[np.random.Generator], Any],
    draw: Callable[[SceneSpec], Any],
    postures: Sequence[str],
    base: Mapping[str, Any],
    seed: int = 0,
    tick: Callable[[int], None] = lambda steps: None,
) -> tuple[Any, ...]:
    """Search for cameras whose labels look like the real ones (an evolution strategy).

    A camera is as good as the mean OKS of its labels with the nearest real label in the same place of the image. In
    each round the best cameras are kept, and new ones are drawn around them, at a spread that follows theirs.

    Args:
        real: real labels.
        sample: draws a camera, a dataclass; its fields of numbers are fitted, all others stay together with them.
        draw: draws a label without rendering.
        postures: names of the postures to draw.
        base: fields of `SceneSpec` that all scenes have: look, size, licence.
        seed: of the search.
        tick: told the number of labels drawn.

    Returns:
        The cameras that are kept, best first: together they are the fitted distribution.
    """
    rng = np.random.default_rng([seed, 3])
    real = real.select(real.labelled())
    if len(real) > MOST:
        real = real.select(np.sort(rng.choice(len(real), MOST, replace=False)))
    cameras = [sample(rng) for _ in range(POPULATION)]
    kept: list[tuple[float, Any]] = []
    for number in range(ROUNDS):
        area = OKS_AREA * BLUR[0] * (BLUR[1] / BLUR[0]) ** (number / (ROUNDS - 1))
        if number:
            cameras = [camera for _, camera in kept] + _children([camera for _, camera in kept], rng)
        scores = _scores(cameras, real, draw, postures, base, area, rng)
        tick(len(cameras) * LABELS)
        best = np.argsort(-scores, kind="stable")[:ELITE]
        kept = [(float(scores[i]), cameras[i]) for i in best]
    return tuple(camera for _, camera in kept)


def _scores(
    cameras: Sequence[Any],
    real: LabelSet,
    draw: Callable[[SceneSpec], Any],
    postures: Sequence[str],
    base: Mapping[str, Any],
    area: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """(C,) mean OKS of each camera's labels with the nearest real one; -1 for a camera that shows no driver."""
    drawn, owner = [], []
    # The same postures and persons for all cameras: they differ in the camera alone.
    names = [postures[i] for i in rng.integers(len(postures), size=LABELS)]
    seeds = rng.integers(2**62, size=LABELS)
    for number, camera in enumerate(cameras):
        for name, seed in zip(names, seeds, strict=True):
            try:
                drawn.append(draw(SceneSpec(int(seed), name, camera, **base)))
            except DPoseError:  # the driver is not in the picture
                continue
            owner.append(number)
    labels = from_drawn(drawn, base["size"])
    good = labels.labelled()
    oks = np.zeros(len(labels))
    if good.any():
        own = labels.select(good)
        own.boxes[:, 2:] = np.median(real.boxes[:, 2:], 0)  # one unit for all: a large box forgives more
        oks[good], index = nearest(own, real, SIGMAS, area)
        shown, wanted = ((part.keypoints[..., 2] > 0).sum(1) for part in (own, real.select(index)))
        oks[good] *= np.minimum(1.0, shown / wanted)  # nor is it better to show less of the driver
    return np.bincount(owner, oks, len(cameras)) / LABELS - (np.bincount(owner, good, len(cameras)) == 0)


def _children(parents: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    """Cameras around the kept ones."""
    vectors = np.array([vector_of(camera) for camera in parents])
    spread = STEP * vectors.std(0)
    chosen = rng.integers(len(parents), size=POPULATION - len(parents))
    noise = rng.normal(size=(len(chosen), vectors.shape[1])) * spread
    return [with_vector(parents[i], vectors[i] + noise[n]) for n, i in enumerate(chosen)]


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
