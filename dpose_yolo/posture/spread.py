"""A few images that show all postures: what a checkpoint carries of its training data."""

from __future__ import annotations

import numpy as np


def spread(cluster: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Choose images evenly over their clusters, at random within each.

    Clusters take turns in a random order until enough images are chosen, so that their counts differ by one at most,
    but for those that have no more images.

    Args:
        cluster: (N,) cluster of each image.
        count: images to choose; all where there are no more.
        seed: of the choice.

    Returns:
        (min(N, count),) sorted indices.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(cluster))
    names = random.permutation(np.unique(cluster))
    turn = np.empty(len(cluster), np.int64)  # of an image among those of its cluster
    place = np.empty(len(cluster), np.int64)  # of its cluster in a turn
    for at, name in enumerate(names):
        own = order[cluster[order] == name]
        turn[own], place[own] = np.arange(len(own)), at
    return np.sort(np.lexsort((place, turn))[:count])
