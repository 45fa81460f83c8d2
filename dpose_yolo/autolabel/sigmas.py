"""OKS sigmas of keypoints told by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.report.drawing import full_names, side_of

# COCO's (pycocotools/cocoeval.py).
_BY_PART = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062,
    "hip": 0.107, "knee": 0.087, "ankle": 0.089,
}  # fmt: skip


def sigmas_of(names: Sequence[str], given: Any = None) -> np.ndarray:
    """(K,) sigmas.

    Args:
        names: of the keypoints.
        given: `kpt_oks_sigmas` of a data YAML, which win; None takes COCO's of the body part, and for parts that
            COCO has not 1/K, the engine's value.

    Raises:
        DPoseError: for given ones that are not K numbers above 0.
    """
    if not given:
        return np.array([_BY_PART.get(side_of(name)[1], 1 / len(names)) for name in full_names(names)])
    try:
        sigmas = np.array(given, float).ravel()
    except (TypeError, ValueError):
        sigmas = np.zeros(0)
    if len(sigmas) != len(names) or not (sigmas > 0).all():
        raise DPoseError(f"kpt_oks_sigmas of the data must be {len(names)} numbers above 0, not {given}")
    return sigmas
