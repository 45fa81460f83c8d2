"""Posture features: keypoints relative to the body box (paper section 3.2, Eq. 2)."""

import numpy as np

from dpose_yolo.errors import DPoseError

SCALES = ("box", "none")


def posture_features(keypoints: np.ndarray, boxes: np.ndarray, scale: str = "box") -> np.ndarray:
    """Normalise poses so that a posture does not depend on where (and how big) the person is in the image.

    Eq. 2 subtracts the box centre. It says nothing of size; with `scale="box"` the offset is also divided by
    sqrt(w * h), so that the same posture near to and far from the camera is one posture and data sets of
    different resolutions share one unit. One common divisor for x and y keeps the pose's proportions.

    Args:
        keypoints: (N, K, 3) pixels and visibility flag [x, y, v], or (N, K, 2) without flags (all labelled).
        boxes: (N, 4) pixels [cx, cy, w, h].
        scale: "box" for units of box size, "none" for pixels as in Eq. 2 to the letter.

    Returns:
        (N, 2K) float32 [x0, y0, x1, y1, ...]; both coordinates of an unlabelled keypoint (v = 0) are NaN, and
        a box without extent (w or h <= 0, or not finite) makes its whole row NaN: there is no size to measure
        in.

    Raises:
        DPoseError: on wrong shapes or an unknown scale.
    """
    keypoints, boxes = np.asarray(keypoints), np.asarray(boxes)
    if scale not in SCALES:
        raise DPoseError(f"posture scale '{scale}' is unknown: set it to 'box' or 'none'")
    if keypoints.ndim != 3 or keypoints.shape[2] not in (2, 3) or keypoints.shape[1] == 0:
        raise DPoseError(f"keypoints have shape {keypoints.shape}: expected (poses, keypoints, 2 or 3)")
    if boxes.shape != (len(keypoints), 4):
        raise DPoseError(f"boxes have shape {boxes.shape}: expected ({len(keypoints)}, 4) for {len(keypoints)} poses")
    offsets = keypoints[:, :, :2].astype(np.float64)  # copy; float32 pixels lose digits in the subtraction
    boxes = boxes.astype(np.float64)
    offsets -= boxes[:, None, :2]  # Eq. 2
    whole = np.isfinite(boxes).all(1) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    if scale == "box":
        offsets /= np.sqrt(np.where(whole, boxes[:, 2] * boxes[:, 3], 1.0))[:, None, None]
    if keypoints.shape[2] == 3:
        offsets[keypoints[:, :, 2] == 0] = np.nan
    offsets[~whole] = np.nan
    return offsets.reshape(len(keypoints), 2 * keypoints.shape[1]).astype(np.float32)
