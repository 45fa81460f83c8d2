"""What keypoint names tell: the side and part of the body, the partner in a mirrored image, the OKS sigma."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError

# COCO's OKS sigmas (pycocotools/cocoeval.py), the same for both sides.
COCO_SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062,
    "hip": 0.107, "knee": 0.087, "ankle": 0.089,
}  # fmt: skip
COCO_NAMES = ["nose", *(f"{side}_{part}" for part in list(COCO_SIGMAS)[1:] for side in ("left", "right"))]


def side_of(name: str) -> tuple[str, str]:
    """Side ("left", "right" or "") and body part of a keypoint name: left_wrist, l-wrist, wrist_r, LWrist."""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=^[LR])(?=[A-Z])", "_", name)
    words = [w for w in re.split(r"[\s_.-]+", plain.lower()) if w]
    for at in (0, -1):
        side = {"left": "left", "l": "left", "right": "right", "r": "right"}.get(words[at]) if words else None
        if side and len(words) > 1:
            return side, "_".join(words[1:] if at == 0 else words[:-1])
    return "", "_".join(words)


def full_names(names: Sequence[str]) -> list[str]:
    """`names`, or COCO's where 17 keypoints have only numbers: the engine draws them as COCO's, too."""
    numbered = all(name.isdigit() for name in names)
    return list(COCO_NAMES) if numbered and len(names) == len(COCO_NAMES) else list(names)


def names_of(given: Any, count: int) -> list[str]:
    """Keypoint names of a data YAML or of a model's metadata: a list, or a dict by class of which the first counts.

    Args:
        given: `kpt_names`, or None.
        count: K, keypoints of a label.

    Returns:
        K names. Without K names these are numbers, and for 17 keypoints COCO's: its order is what all public sets and
        models of 17 keypoints have.
    """
    names = next(iter(given.values()), None) if isinstance(given, dict) else given
    if not isinstance(names, list | tuple) or len(names) != count:
        names = range(count)
    return full_names([str(name) for name in names])


def partners(names: Sequence[str]) -> list[int | None]:
    """K indices: what each keypoint becomes in a mirrored image, by name; None where the other side is not there."""
    parts = [side_of(name) for name in names]
    other = {"left": "right", "right": "left", "": ""}
    at = {part: k for k, part in enumerate(parts)}
    return [at.get((other[side], part)) if side else k for k, (side, part) in enumerate(parts)]


def coco_sigmas(names: Sequence[str]) -> list[float]:
    """K sigmas: COCO's of the body part, and for parts that COCO has not 1/K, the engine's value."""
    return [COCO_SIGMAS.get(side_of(name)[1], 1 / len(names)) for name in full_names(names)]


def sigmas_of(names: Sequence[str], given: Any = None) -> np.ndarray:
    """(K,) sigmas: those given in a data YAML, else `coco_sigmas`; errors are those of `checked_sigmas`."""
    return checked_sigmas(given, len(names)) if given else np.array(coco_sigmas(names))


def checked_sigmas(given: Any, count: int) -> np.ndarray:
    """(K,) `kpt_oks_sigmas` of a data YAML.

    Raises:
        DPoseError: for those that are not K numbers above 0.
    """
    try:
        sigmas = np.array(given, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        sigmas = np.zeros(0)
    if len(sigmas) != count or not (sigmas > 0).all():
        raise DPoseError(f"kpt_oks_sigmas of the data must be {count} numbers above 0, not {given}")
    return sigmas
