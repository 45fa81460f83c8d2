"""Partner images of mosaic, mixup and cutmix: drawn like the postures, and reported with the image they joined."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ultralytics.data.augment import BaseMixTransform, Compose, CutMix, MixUp, Mosaic

# Key of a sample (and then of the batch): indices of the images that were mixed into it.
PARTNERS = "posture_partners"


class PartnerDraw:
    """Draws the partners of one mixing transform, in place of the engine's `get_indexes`.

    A mosaic has three partners to each drawn image. The engine takes them uniformly from the whole set when images are
    cached in memory, which would undo three quarters of the balance; from a buffer of recently drawn images otherwise,
    which follows the sampler by itself.

    Args:
        transform: the engine's transform.
        expected: (N,) expected draws an epoch.
        drawn: list that the indices are added to.
    """

    def __init__(self, transform: BaseMixTransform, expected: np.ndarray, drawn: list[int]):
        """See the class."""
        self.original: Callable[[], int | list[int]] = transform.get_indexes
        self.single = not isinstance(transform, Mosaic)
        self.from_buffer = getattr(transform, "buffer_enabled", False)
        self.partners = 1 if self.single else transform.n - 1
        self.cumulative = (np.cumsum(expected) / expected.sum()).tolist()
        self.drawn = drawn

    def __call__(self) -> int | list[int]:
        """Index of the partner, or a list of them for a mosaic."""
        if self.from_buffer:
            chosen = self.original()
        else:
            last = len(self.cumulative) - 1
            indices = [min(bisect_right(self.cumulative, random.random()), last) for _ in range(self.partners)]
            chosen = indices[0] if self.single else indices
        self.drawn.extend([chosen] if isinstance(chosen, int) else chosen)
        return chosen


class ReportingCompose(Compose):
    """The engine's transforms; every sample comes out with the indices of its partners.

    They travel with the sample, so that the count is right whatever workers fetch early or throw away.

    Args:
        transforms: the engine's.
        drawn: the list that the `PartnerDraw`s of these transforms add to.
    """

    def __init__(self, transforms: list[Any], drawn: list[int]):
        """See the class."""
        super().__init__(transforms)
        self.drawn = drawn

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Transform one sample."""
        self.drawn.clear()
        return {**super().__call__(data), PARTNERS: list(self.drawn)}


def _mixing(transform: Any) -> Iterator[BaseMixTransform]:
    """Mixing transforms with a chance to run, wherever the engine has put them."""
    if isinstance(transform, Compose):
        for inner in transform.transforms:
            yield from _mixing(inner)
    elif isinstance(transform, BaseMixTransform) and transform.p > 0:
        if isinstance(transform, Mosaic | MixUp | CutMix):
            yield transform
        if transform.pre_transform is not None:
            yield from _mixing(transform.pre_transform)


def balance_partners(dataset: Any, expected: np.ndarray) -> None:
    """Make the dataset's mixing transforms draw partners by `expected`, and its samples name them, if any.

    Every sample has the field, so that batches can be made of several sets of which only one mixes.

    The engine builds new transforms, without partners, when it closes mosaic; then there is nothing left to balance.
    """
    drawn: list[int] = []
    for transform in {id(t): t for t in _mixing(dataset.transforms)}.values():
        transform.get_indexes = PartnerDraw(transform, expected, drawn)
    dataset.transforms = ReportingCompose(dataset.transforms.transforms, drawn)
