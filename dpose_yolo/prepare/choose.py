"""Which frames to take: as different as can be, evenly, or at random; and how many of whom."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

MODES = ("variety", "even", "random")


class Variety:
    """Keeps the pictures of a stream that differ most, without knowing what is to come.

    A picture is kept if it lies at least `apart` from all that are kept. If more than `limit` are kept, the later one
    of the two nearest goes, and from then on their distance is the least one to be kept: what is left is always spread
    about as wide as the limit allows.

    Args:
        limit: pictures to keep at most, or None.
        apart: root mean square difference of two thumbnails in grey levels.
    """

    def __init__(self, limit: int | None, apart: float):
        self.limit = limit
        self._least = float(apart) ** 2
        size = 64 if limit is None else limit + 1
        self._pictures = np.zeros((size, 0), np.float32)
        self._square = np.zeros(size)
        self._near = np.full(size, np.inf)
        self._partner = np.full(size, -1)
        self._keys: list[int] = []

    def offer(self, key: int, picture: np.ndarray) -> tuple[bool, int | None]:
        """Offer a picture under a key that rises.

        Returns:
            Whether it is kept, and the key of a picture that goes for it.
        """
        if self.limit == 0:
            return False, None
        n = len(self._keys)
        if n == 0:
            self._pictures = np.zeros((len(self._square), len(picture)), np.float32)
        if n == len(self._square):
            self._grow()
        square = float((picture.astype(np.float64) ** 2).sum())
        distance = (self._square[:n] + square - 2.0 * (self._pictures[:n] @ picture).astype(np.float64)) / len(picture)
        nearest = int(distance.argmin()) if n else -1
        if n and (distance[nearest] < self._least or distance[nearest] == 0):
            return False, None
        self._pictures[n], self._square[n] = picture, square
        self._near[n], self._partner[n] = (distance[nearest], nearest) if n else (np.inf, -1)
        closer = np.flatnonzero(distance < self._near[:n])
        self._near[closer], self._partner[closer] = distance[closer], n
        self._keys.append(key)
        if self.limit is None or n < self.limit:
            return True, None
        at = int(self._near[: n + 1].argmin())
        self._least = max(self._least, float(self._near[at]))
        goes = max(at, int(self._partner[at]), key=lambda i: self._keys[i])
        gone = self._keys[goes]
        self._drop(goes)
        return gone != key, None if gone == key else gone

    def kept(self) -> list[int]:
        """Keys of the pictures that are kept, rising."""
        return sorted(self._keys)

    def _grow(self) -> None:
        more = len(self._square)
        self._pictures = np.concatenate([self._pictures, np.zeros_like(self._pictures)])
        self._square = np.concatenate([self._square, np.zeros(more)])
        self._near = np.concatenate([self._near, np.full(more, np.inf)])
        self._partner = np.concatenate([self._partner, np.full(more, -1)])

    def _drop(self, goes: int) -> None:
        """Take one out; the last takes its place."""
        last = len(self._keys) - 1
        orphans = np.flatnonzero(self._partner[: last + 1] == goes)
        for values in (self._pictures, self._square, self._near, self._partner, self._keys):
            values[goes] = values[last]
        self._keys.pop()
        self._partner[:last][self._partner[:last] == last] = goes
        for i in {goes if i == last else int(i) for i in orphans if i != goes}:
            products = (self._pictures[:last] @ self._pictures[i]).astype(np.float64)
            distance = (self._square[:last] + self._square[i] - 2.0 * products) / self._pictures.shape[1]
            distance[i] = np.inf
            self._partner[i] = int(distance.argmin()) if last > 1 else -1
            self._near[i] = distance[self._partner[i]] if last > 1 else np.inf


def farthest(features: np.ndarray, count: int) -> np.ndarray:
    """Rows that cover all others best: each next is the farthest from those taken before (k-centre, greedy).

    Args:
        features: (N, D) postures; NaN for a missing coordinate. The distance of two postures is the root mean square
            over the coordinates that both have; where they share none, it is unknown and taken for infinite.
        count: rows to take.

    Returns:
        (min(count, N),) rows in the order they were taken, the most usual posture first.
    """
    known = ~np.isnan(features)
    values = np.where(known, features, 0.0).astype(np.float64)
    weight = known.astype(np.float64)
    squares = values**2
    if not len(features) or count < 1:
        return np.zeros(0, np.intp)

    def distance(row: int) -> np.ndarray:
        shared = weight @ weight[row]
        total = squares @ weight[row] + weight @ squares[row] - 2.0 * (values @ values[row])
        return np.where(shared > 0, np.maximum(total, 0.0) / np.maximum(shared, 1.0), np.inf)

    middle = np.array(
        [np.median(column[mask]) if mask.any() else 0.0 for column, mask in zip(values.T, known.T, strict=True)]
    )
    off = (weight * (values - middle) ** 2).sum(1) / np.maximum(weight.sum(1), 1.0)
    taken = [int(np.where(weight.any(1), off, np.inf).argmin())]
    near = distance(taken[0])
    near[taken[0]] = -1.0
    while len(taken) < min(count, len(features)):
        row = int(near.argmax())
        taken.append(row)
        near = np.minimum(near, distance(row))
        near[row] = -1.0
    return np.array(taken, np.intp)


def evenly(size: int, count: int) -> np.ndarray:
    """`count` of `size` places, as even as can be, rising."""
    if count >= size:
        return np.arange(size)
    return np.floor((np.arange(count) + 0.5) * size / count).astype(np.intp) if count > 0 else np.zeros(0, np.intp)


def randomly(size: int, count: int, seed: int) -> np.ndarray:
    """`count` of `size` places, drawn without putting back, rising."""
    return np.sort(np.random.default_rng(seed).permutation(size)[: max(0, count)])


def pick(size: int, count: int, mode: str, seed: int, features: np.ndarray | None = None) -> np.ndarray:
    """`count` of `size` candidates by one of the modes, rising; variety needs (size, D) features."""
    if mode == "variety" and features is not None and count < size:
        return np.sort(farthest(features, count))
    return randomly(size, count, seed) if mode == "random" else evenly(size, count)


def equal_shares(total: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """A total dealt out equally, nobody more than they have; what some cannot use goes to the others."""
    shares: dict[str, int] = {}
    left = total
    for at, (name, size) in enumerate(sorted(sizes.items(), key=lambda pair: (pair[1], pair[0]))):
        shares[name] = min(size, left // (len(sizes) - at))
        left -= shares[name]
    return shares


def weighted_shares(total: int, sizes: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, int]:
    """A total dealt out by weight, nobody more than they have; rounded so that nothing is lost."""
    names = [name for name in sizes if weights.get(name, 0.0) > 0]
    sum_of = sum(weights[name] for name in names)
    if not names:
        return dict.fromkeys(sizes, 0)
    exact = {name: total * weights[name] / sum_of for name in names}
    shares = {name: int(exact[name]) for name in names}
    for name in sorted(names, key=lambda n: (int(exact[n]) - exact[n], n))[: total - sum(shares.values())]:
        shares[name] += 1
    return {name: min(sizes[name], shares.get(name, 0)) for name in sizes}
