"""Fingerprints of images: equal files by content, alike pictures by difference hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

CELLS = 2**18  # distances at a time: 2 MB, which processors have near


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


def nearest(queries: np.ndarray, pool: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """For each hash the nearest of a pool, the first of equally near ones.

    Every pair is looked at, a block of pairs at a time.

    Args:
        queries: (N,) uint64.
        pool: numbers and hashes (uint64) of images, some at a time.

    Returns:
        (N,) numbers, and (N,) bits that differ: more than 64 without a pool.
    """
    where, bits = np.zeros(len(queries), np.int64), np.full(len(queries), 255, np.uint8)
    for numbers, hashes in pool:
        rows = max(1, CELLS // len(hashes))
        for at in range(0, len(queries), rows):
            distance = bit_counts(queries[at : at + rows, None] ^ hashes[None])
            best = distance.argmin(1)
            found = distance[np.arange(len(best)), best]
            nearer = found < bits[at : at + rows]
            where[at : at + rows][nearer] = numbers[best[nearer]]
            bits[at : at + rows][nearer] = found[nearer]
    return where, bits
