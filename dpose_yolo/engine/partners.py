"""Partner images of mosaic, mixup and cutmix: drawn like the postures, and counted."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info
from ultralytics.data.augment import BaseMixTransform, Compose, CutMix, MixUp, Mosaic


class PartnerDraw:
    """Draws the partners of one mixing transform, in place of the engine's `get_indexes`.

    A mosaic has three partners to each drawn image. The engine takes them uniformly from the whole set when images are
    cached in memory, which would undo three quarters of the balance; from a buffer of recently drawn images otherwise,
    which follows the sampler by itself.

    Args:
        transform: the engine's transform.
        expected: (N,) expected draws an epoch.
        counts: (workers + 1, N) shared counters: a row for each worker, so that none overwrites another's.
    """

    def __init__(self, transform: BaseMixTransform, expected: np.ndarray, counts: torch.Tensor):
        """See the class."""
        self.original: Callable[[], int | list[int]] = transform.get_indexes
        self.single = not isinstance(transform, Mosaic)
        self.from_buffer = getattr(transform, "buffer_enabled", False)
        self.partners = 1 if self.single else transform.n - 1
        self.cumulative = (np.cumsum(expected) / expected.sum()).tolist()
        self.counts = counts

    def __call__(self) -> int | list[int]:
        """Index of the partner, or a list of them for a mosaic."""
        if self.from_buffer:
            drawn = self.original()
        else:
            last = len(self.cumulative) - 1
            drawn = [min(bisect_right(self.cumulative, random.random()), last) for _ in range(self.partners)]
            drawn = drawn[0] if self.single else drawn
        worker = get_worker_info()
        row = self.counts[0 if worker is None else worker.id + 1]
        for i in [drawn] if isinstance(drawn, int) else drawn:
            row[i] += 1
        return drawn


def _mixing(transform: Any) -> Iterator[BaseMixTransform]:
    """Mixing transforms with a chance to run, wherever the engine has put them."""
    if isinstance(transform, Compose):
        for inner in transform.transforms:
            yield from _mixing(inner)
    elif isinstance(transform, BaseMixTransform):
        if isinstance(transform, Mosaic | MixUp | CutMix) and transform.p > 0:
            yield transform
        if transform.pre_transform is not None and transform.p > 0:
            yield from _mixing(transform.pre_transform)


def balance_partners(dataset: Any, expected: np.ndarray, workers: int) -> torch.Tensor:
    """Make the dataset's mixing transforms draw partners by `expected`.

    Returns:
        (workers + 1, N) shared int64 counters of the partners drawn.
    """
    counts = torch.zeros(workers + 1, len(expected), dtype=torch.int64).share_memory_()
    for transform in {id(t): t for t in _mixing(dataset.transforms)}.values():
        transform.get_indexes = PartnerDraw(transform, expected, counts)
    return counts
