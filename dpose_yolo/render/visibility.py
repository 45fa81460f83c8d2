"""Labels from the rendered buffers: which keypoints are visible, and the driver's box."""

from dataclasses import dataclass

import numpy as np

from dpose_yolo.render.meshes import DRIVER

# A keypoint lies inside the body, by about this many metres below its surface: face, shoulders, elbows, wrists, hips,
# knees, ankles.
TOLERANCE = np.array([0.05] * 5 + [0.10] * 2 + [0.08] * 2 + [0.07] * 2 + [0.16] * 2 + [0.11] * 4)
DISC, SHARE = 0.012, 0.4  # metres around a keypoint, and the share of that disc that must be free


@dataclass(frozen=True)
class Picture:
    """What the rasterizer drew.

    Attributes:
        colour: (H, W, 3) linear RGB.
        identity: (H, W) uint8.
        fine, depth: identity and depth in metres (2H, 2W) at twice the size, which labels are read from.
    """

    colour: np.ndarray
    identity: np.ndarray
    fine: np.ndarray
    depth: np.ndarray


def visible(pixels: np.ndarray, depths: np.ndarray, focal: float, fine: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Which keypoints are seen: driver pixels not nearer than the tolerance cover enough of a small disc.

    Args:
        pixels: (K, 2) in pixels of the buffers.
        depths: (K,) metres.
        focal: focal length in pixels of the buffers.
        fine, depth: identity and depth buffers (H, W).

    Returns:
        (K,) bool; False outside of the image.
    """
    height, width = fine.shape
    seen = np.zeros(len(pixels), bool)
    for i, ((x, y), distance) in enumerate(zip(pixels, depths, strict=True)):
        if distance <= 0.05 or not (0 <= x < width and 0 <= y < height):
            continue
        radius = max(1, round(DISC * focal / distance))
        column, row = int(x), int(y)
        top, bottom = max(0, row - radius), min(height, row + radius + 1)
        left, right = max(0, column - radius), min(width, column + radius + 1)
        window = np.s_[top:bottom, left:right]
        rows, columns = np.ogrid[window]
        disc = (rows - row) ** 2 + (columns - column) ** 2 <= radius * radius
        free = (fine[window] == DRIVER) & (depth[window] > distance - TOLERANCE[i])
        seen[i] = free[disc].mean() >= SHARE
    return seen


def driver_box(fine: np.ndarray) -> np.ndarray | None:
    """Box (4,) x1, y1, x2, y2 of the driver's pixels in pixels of the buffer, None without enough of them.

    Single pixels at the rim do not widen it: a row or column counts from two pixels on.
    """
    mask = fine == DRIVER
    columns, rows = np.flatnonzero(mask.sum(0) > 1), np.flatnonzero(mask.sum(1) > 1)
    if len(columns) < 4 or len(rows) < 4:
        return None
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)
