"""Which part a subject's images go to: never to two."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from dpose_yolo.errors import DPoseError


def assign(sizes: Mapping[str, int], val: float, test: float, seed: int) -> dict[str, str]:
    """Part of each subject, so that the parts come near to shares of the images.

    Subjects are taken in an order that depends on their names and the seed only. A part that is asked for gets one
    subject at least; the training part keeps one.

    Args:
        sizes: images of each subject.
        val: share of the validation part.
        test: share of the test part.
        seed: of the order.
    """
    order = sorted(
        sizes, key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogateescape")).digest()
    )
    total = sum(sizes.values())
    parts = dict.fromkeys(order, "train")
    free = list(order)
    for part, share in (("test", test), ("val", val)):
        has = 0
        while share > 0 and len(free) > 1 and has < share * total:
            # the subject that brings the part nearest to its share; the first comes in any case
            if has and abs(has + sizes[free[0]] - share * total) >= abs(has - share * total):
                break
            has += sizes[free[0]]
            parts[free.pop(0)] = part
    return {name: parts[name] for name in sizes}


def refuse_shared(pairs: Iterable[tuple[str, str]], where: str) -> dict[str, str]:
    """Part of each subject, from (subject, part) pairs of somebody else's split.

    Raises:
        DPoseError: for a subject in two parts.
    """
    parts: dict[str, str] = {}
    for subject, part in pairs:
        if parts.setdefault(subject, part) != part:
            raise DPoseError(
                f"{where} has subject {subject} in {parts[subject]} and in {part}: a subject may be in one part only"
            )
    return parts


def describe(parts: Mapping[str, str]) -> str:
    """A sentence about who is in which part."""
    words = []
    for part in ("train", "val", "test"):
        members = sorted((s for s in parts if parts[s] == part), key=lambda s: (len(s), s))
        if members:
            few = ", ".join(members[:20]) + (" ..." if len(members) > 20 else "")
            words.append(f"{part} {len(members)} ({few})")
    return "subjects: " + "; ".join(words)
