"""Labels from 3D poses: which keypoints can be trusted, where they fall in an image, the box around them."""

from __future__ import annotations

import numpy as np

from dpose_yolo.keypoints import COCO_NAMES
from dpose_yolo.prepare.projection import Camera, inside

FEWEST = 5  # labelled keypoints of a usable pose
KNOWN_BONES = 30  # lengths from which a subject's bone is known
SHORT, LONG = 0.5, 1.6  # of the usual length: outside, an end of the bone is misplaced

_AT = {name: k for k, name in enumerate(COCO_NAMES)}
_CHAINS = (("shoulder", "elbow", "wrist", "hand"), ("hip", "knee", "ankle", "foot"))
# (a, b, what is doubted if the bone between them has the wrong length): the outer end and all beyond it
BONES = [
    (_AT[f"{s}_{chain[i]}"], _AT[f"{s}_{chain[i + 1]}"], [_AT[f"{s}_{joint}"] for joint in chain[i + 1 : 3]])
    for s in ("left", "right")
    for chain in _CHAINS
    for i in (0, 1)
]


def doubt_odd_bones(points: np.ndarray, confidence: np.ndarray, least: float) -> np.ndarray:
    """Confidences with those at 0 whose limb is too long or too short to be the subject's.

    A triangulation that mixes up two views moves a joint in space; the length of a bone tells, whatever the posture.

    Args:
        points: (N, 17, 3) metres, all of one subject.
        confidence: (N, 17).
        least: confidence from which a keypoint counts.

    Returns:
        (N, 17).
    """
    kept = confidence.copy()
    for a, b, doubted in BONES:
        both = (confidence[:, a] >= least) & (confidence[:, b] >= least)
        if both.sum() < KNOWN_BONES:
            continue
        length = np.linalg.norm(points[:, a] - points[:, b], axis=1)
        usual = float(np.median(length[both]))
        odd = both & ((length < SHORT * usual) | (length > LONG * usual))
        kept[np.ix_(odd, doubted)] = 0.0
    return kept


def label_rows(
    camera: Camera,
    direction: int,
    points: np.ndarray,
    confidence: np.ndarray,
    conf: tuple[float, float],
    margin: float,
) -> np.ndarray:
    """Rows of labels, one a pose.

    A keypoint in the image is labelled if its confidence reaches the first limit; it is visible (2) from the second
    limit on, else hidden (1). The box holds all keypoints that reach the first limit, cut at the edge of the image:
    a knee below the picture draws it down to the edge. It is widened by a margin on every side, and cut again.

    Args:
        camera: its calibration.
        direction: of its extrinsics.
        points: (N, 17, 3) metres.
        confidence: (N, 17).
        conf: the two limits.
        margin: share of the box's width and height.

    Returns:
        (N, 5 + 51) class, box, keypoints as shares of the image; NaN for a pose with fewer than `FEWEST` keypoints.
    """
    width, height = camera.size
    pixels, good = camera.project(points, direction)
    good = good & (confidence >= conf[0])
    labelled = inside(pixels, good, camera.size)
    keypoints = np.zeros((*pixels.shape[:2], 3))
    keypoints[..., :2] = np.where(labelled[..., None], pixels, 0.0) / (width, height)
    keypoints[..., 2] = np.where(labelled, np.where(confidence >= conf[1], 2, 1), 0)
    rows = np.full((len(points), 5 + keypoints[0].size if len(points) else 56), np.nan)
    usable = labelled.sum(1) >= FEWEST
    if not usable.any():
        return rows
    cut = np.clip(np.where(good[..., None], pixels, np.nan)[usable], 0, (width, height))
    low, high = np.nanmin(cut, axis=1), np.nanmax(cut, axis=1)
    wider = margin * (high - low)
    low, high = (
        np.maximum(low - wider, 0) / (width, height),
        np.minimum(high + wider, (width, height)) / (width, height),
    )
    rows[usable] = np.column_stack(
        [np.zeros(usable.sum()), (low + high) / 2, high - low, keypoints[usable].reshape(usable.sum(), -1)]
    )
    rows[~(rows[:, 3:5] > 0).all(1)] = np.nan
    return rows
