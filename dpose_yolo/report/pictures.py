"""Small pictures of labelled persons for pages and atlases."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.images import read_image
from dpose_yolo.keypoints import side_of
from dpose_yolo.report.drawing import GREEN, SIDE_COLOURS


def read_picture(path: str) -> np.ndarray | None:
    """A BGR picture, or None where the file cannot be read; any name that the system allows will do."""
    try:
        return read_image(path)
    except DPoseError:
        return None


def cut_person(image: np.ndarray, box: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Square cut around a person, moved into the image rather than padded.

    Args:
        image: (H, W, 3).
        box: (4,) centre and size, pixels.
        side: longest side of the cut after shrinking; it is never enlarged.

    Returns:
        The cut, and (2, 3) what takes image pixels to its pixels; None where nothing of the box lies in the image.
    """
    cx, cy, w, h = box
    half = 0.55 * max(w, h)
    height, width = image.shape[:2]
    cx, cy = (min(max(c, half), max(size - half, size / 2)) for c, size in ((cx, width), (cy, height)))
    x0, x1 = max(0, int(cx - half)), min(width, math.ceil(cx + half))
    y0, y1 = max(0, int(cy - half)), min(height, math.ceil(cy + half))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    cut = image[y0:y1, x0:x1]
    zoom = min(1.0, side / max(cut.shape[:2]))
    if zoom < 1:
        cut = cv2.resize(cut, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    return cut, np.array([[zoom, 0, -x0 * zoom], [0, zoom, -y0 * zoom]])


def draw_pose(
    image: np.ndarray,
    pose: np.ndarray,
    names: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    box: np.ndarray | None = None,
) -> None:
    """Draw the labelled keypoints of a pose, its limbs and its box into a BGR picture, in the colours of the sides.

    Args:
        image: drawn into.
        pose: (K, 3) pixels and flag.
        names: K keypoint names.
        pairs: keypoints to join.
        box: (4,) centre and size, pixels.
    """
    if box is not None:
        low, high = np.round(box[:2] - box[2:] / 2).astype(int), np.round(box[:2] + box[2:] / 2).astype(int)
        cv2.rectangle(image, low.tolist(), high.tolist(), _bgr(GREEN), 1)
    points = np.round(np.clip(pose[:, :2], -4000, 4000)).astype(int).tolist()
    for a, b in pairs:  # a dark rim keeps limbs readable on bright pictures
        if pose[a, 2] and pose[b, 2]:
            cv2.line(image, points[a], points[b], (20, 20, 20), 3, cv2.LINE_AA)
    for a, b in pairs:
        if pose[a, 2] and pose[b, 2]:
            side = side_of(names[a])[0]
            colour = _bgr(SIDE_COLOURS[side if side == side_of(names[b])[0] else ""])
            cv2.line(image, points[a], points[b], colour, 1, cv2.LINE_AA)
    for k, point in enumerate(points):
        if pose[k, 2]:
            cv2.circle(image, point, 2, _bgr(SIDE_COLOURS[side_of(names[k])[0]]), -1, cv2.LINE_AA)


def _bgr(colour: str) -> tuple[int, int, int]:
    return int(colour[5:7], 16), int(colour[3:5], 16), int(colour[1:3], 16)
