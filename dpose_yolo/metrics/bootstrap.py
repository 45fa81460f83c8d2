"""Bootstrap intervals of metrics over images, or over subjects, and of differences between models over seeds.

Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13: percentile intervals. A replicate is a row of
image multiplicities, so that all metrics, and all models, can be computed on the same replicates.

AP of few images is too high: of simulated detections on the sample set's labels it was on average 0.03 (20 images) and
0.013 (100 images) above that of 7,680 images, and intervals of 95 % held the latter in 87 and 92 % of the tries. The
differences of two models on the same images have about a tenth of this error, and their intervals held in 95 %
(`tests/test_metrics_bootstrap.py`, slow). So compare small parts between models, not with larger parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dpose_yolo.errors import DPoseError
from dpose_yolo.metrics.matching import Matches

Measure = Callable[[Matches, "np.ndarray | None"], np.ndarray]  # weights (B, N), or None for B = 1 -> (B,) values


class Difference(NamedTuple):
    """A difference of two models and its interval.

    Attributes:
        mean: on the images as they are.
        low: lower end of the interval.
        high: upper end.
    """

    mean: float
    low: float
    high: float


def bootstrap_weights(
    n_images: int, groups: Sequence[Any] | None = None, replicates: int = 1000, seed: int = 0
) -> np.ndarray:
    """How often each image is drawn in each replicate: as many draws as there are images (groups), put back each time.

    Images of one subject are alike, so an interval over single images would be too narrow. With `groups` whole
    subjects are drawn; with few of them the interval is rough, and rather too narrow.

    Args:
        n_images: N.
        groups: subject of each image; None, "" or NaN for an image that stands for itself.
        replicates: B.
        seed: of the draws.

    Returns:
        (B, N) float64 whole numbers; a row sums to N where there are no groups.

    Raises:
        DPoseError: no images, no replicates, or groups of another number of images.
    """
    if n_images < 1 or replicates < 1:
        raise DPoseError(f"a bootstrap needs images and replicates: there are {n_images} and bootstrap={replicates}")
    member = np.arange(n_images) if groups is None else group_numbers(groups)
    if len(member) != n_images:
        raise DPoseError(f"there are {n_images} images, but subjects of {len(member)}")
    count = int(member.max()) + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=replicates)
    return draws[:, member].astype(np.float64)


def group_numbers(groups: Sequence[Any]) -> np.ndarray:
    """(N,) numbers from 0 of the images' subjects; an image without one (None, "", NaN) is a group of its own."""
    keys = [("image", i) if pd.isna(name) or name == "" else ("subject", str(name)) for i, name in enumerate(groups)]
    number = {key: at for at, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], np.int64)


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the replicates' values.

    Args:
        values: (B,); NaN (a replicate without any person) is left out.
        level: share of the values inside, above 0 and below 1.

    Returns:
        low and high; NaN where there are no values.

    Raises:
        DPoseError: a level that is none.
    """
    if not 0 < level < 1:
        raise DPoseError(f"level={level} of an interval is not between 0 and 1: 0.95 is usual")
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired(
    arm: Matches,
    base: Matches,
    weights: np.ndarray,
    images: np.ndarray | None = None,
    measure: str | Measure = "AP",
    level: float = 0.95,
) -> Difference:
    """Difference `arm` - `base` of two models on the same images, with its interval over replicates of these.

    Both models are measured on the same replicates: what makes an image hard for both cancels out.

    Args:
        arm: matches of one model.
        base: matches of the other one.
        weights: (B, N) from `bootstrap_weights`.
        images: (N,) mask of the images that count (`postures.third_mask`), all by default.
        measure: "AP", "AP50", "AP75", "AR", or a function such as `postures.macro_average_precision` gives.
        level: of the interval.

    Raises:
        DPoseError: models evaluated on different labels or settings, weights of other images, an unknown measure.
    """
    return seed_mean_difference([arm], [base], weights, images=images, measure=measure, level=level)


def seed_mean_difference(
    arms: Sequence[Matches],
    bases: Sequence[Matches],
    weights: np.ndarray,
    seed: int = 0,
    images: np.ndarray | None = None,
    measure: str | Measure = "AP",
    level: float = 0.95,
) -> Difference:
    """Mean over S seeds of the difference `arms[s]` - `bases[s]`, with its interval over images and seeds.

    Each replicate draws images, the same for all models, and pairs of seeds. Of S pairs S - 1 are drawn with
    replacement, which gives the mean's variance over seeds its unbiased size (Rao and Wu, JASA 83, 1988); S draws
    would give (S - 1) / S of it. Still, no interval from a few seeds can reach beyond the differences that were seen:
    where seeds vary more than images do, three of them give about 75 % instead of 95 %.

    Args:
        arms: matches of S models of one arm, one a seed.
        bases: matches of S models of the reference, in the order of the same seeds.
        weights: (B, N) from `bootstrap_weights`.
        seed: of the draws of seeds.
        images: (N,) mask of the images that count, all by default.
        measure: as in `paired`.
        level: of the interval.

    Raises:
        DPoseError: as `paired`; also no seeds, or not as many of both.
    """
    if not arms or len(arms) != len(bases):
        raise DPoseError(f"{len(arms)} and {len(bases)} models to compare: give the same seeds, at least one, of both")
    if np.ndim(weights) != 2 or not len(weights):
        raise DPoseError(f"weights have shape {np.shape(weights)}: expected (replicates, images)")
    for other in [*arms, *bases]:
        require_comparable(arms[0], other)
    value = _measure(measure)
    mask = np.ones(len(arms[0].truths)) if images is None else np.asarray(images, np.float64)
    if mask.shape != (len(arms[0].truths),):
        raise DPoseError(f"a mask of {mask.shape} images for {len(arms[0].truths)}")
    pairs = list(zip(arms, bases, strict=True))
    mean = float(np.mean([value(a, mask) - value(b, mask) for a, b in pairs]))
    replicates = weights * mask
    table = np.stack([value(a, replicates) - value(b, replicates) for a, b in pairs])  # (S, B)
    count = len(pairs)
    drawn = np.random.default_rng(seed).integers(count, size=(max(1, count - 1), table.shape[1]))
    low, high = interval(np.take_along_axis(table, drawn, axis=0).mean(0), level)
    return Difference(mean, low, high)


def require_comparable(first: Matches, second: Matches) -> None:
    """Refuse to compare models that were not evaluated on the same persons with the same settings.

    Raises:
        DPoseError: other labels, another `oks_area` or another limit of detections.
    """
    if not np.array_equal(first.truths, second.truths):
        raise DPoseError("the models were evaluated on different labels: evaluate both on the same part")
    for name in ("oks_area", "max_detections"):
        a, b = getattr(first, name), getattr(second, name)
        if a != b:
            raise DPoseError(f"the models were evaluated with {name}={a} and {b}: evaluate both with the same")


def _measure(measure: str | Measure) -> Measure:
    if not isinstance(measure, str):
        return measure
    known: dict[str, Measure] = {
        "AP": lambda matches, weights: matches.average_precision(weights)[0],
        "AP50": lambda matches, weights: matches.average_precision(weights)[1],
        "AP75": lambda matches, weights: matches.average_precision(weights)[2],
        "AR": lambda matches, weights: matches.average_recall(weights),
    }
    if measure not in known:
        raise DPoseError(f"there is no measure {measure!r}: it is one of {', '.join(known)}")
    return known[measure]
