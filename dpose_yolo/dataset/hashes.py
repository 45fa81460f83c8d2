"""Fingerprints of images: equal files by content, alike pictures by difference hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

CELLS = 2_000_000  # distances at a time: 16 MB


def text_hash(text: str) -> int:
    """64 bits that stand for a path."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


def content_hash(content: bytes) -> int:
    """64 bits that stand for the bytes of a file; two of 100,000 different files collide with a chance of 3e-10."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def difference_hash(grey: np.ndarray) -> int:
    """64 bits that stand for a picture: whether each of 8 x 8 cells is brighter than its left neighbour (dHash).

    Args:
        grey: (8, 9) numbers, the picture shrunk.

    Returns:
        The bits as a number; 0 for a picture of one colour.
    """
    bits = (grey[:, 1:] > grey[:, :-1]).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def bit_counts(numbers: np.ndarray) -> np.ndarray:
    """How many bits are set in each uint64."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.bitwise_count(numbers)
    table = np.array([bin(n).count("1") for n in range(256)], np.uint8)
    return table[numbers[..., None].view(np.uint8)].sum(-1, dtype=np.uint8)


def nearest(queries: np.ndarray, pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each hash the nearest of a pool: its index and the number of bits that differ.

    Every pair is looked at, a block of pairs at a time.

    Args:
        queries: (N,) uint64.
        pool: (M,) uint64, M > 0.
    """
    where, bits = np.zeros(len(queries), np.intp), np.zeros(len(queries), np.uint8)
    rows = max(1, CELLS // len(pool))
    for at in range(0, len(queries), rows):
        distance = bit_counts(queries[at : at + rows, None] ^ pool[None])
        best = distance.argmin(1)
        where[at : at + rows] = best
        bits[at : at + rows] = distance[np.arange(len(best)), best]
    return where, bits


def groups_of_equals(numbers: np.ndarray) -> Iterator[np.ndarray]:
    """Indices (in rising order) of each number that occurs more than once."""
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=~numbers[order[:1]]))
    ends = np.append(starts[1:], len(order))
    # np.split would make an array object of every number: more memory than all that is kept of the images
    for start, end in zip(*((at[ends - starts > 1]) for at in (starts, ends)), strict=True):
        yield order[start:end]
