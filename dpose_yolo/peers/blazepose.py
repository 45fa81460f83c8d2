"""BlazePose, the pose landmark network of MediaPipe (lite, full or heavy), as TFLite or ONNX.

Bazarevsky et al., "BlazePose: On-device Real-time Body Pose Tracking", 2020. Input: RGB 0..1, (1, 256, 256, 3);
outputs: 39 landmarks of x, y, z (input pixels), visibility and presence (before the logistic function), of which the
first 33 are body points; a pose score; heatmaps (1, 64, 64, 39) to sharpen the landmarks with.
"""

from __future__ import annotations

import numpy as np

from dpose_yolo.peers.base import Network, Peer, rgb, sigmoid

_SIDES = ("left", "right")
_EYES = [f"{side}_eye{part}" for side in _SIDES for part in ("_inner", "", "_outer")]
_PARTS = ("shoulder", "elbow", "wrist", "pinky", "index", "thumb", "hip", "knee", "ankle", "heel", "foot_index")
NAMES = [
    "nose",
    *_EYES,
    *(f"{side}_ear" for side in _SIDES),
    *(f"mouth_{side}" for side in _SIDES),
    *(f"{side}_{part}" for part in _PARTS for side in _SIDES),
]
LANDMARKS = 39  # 33 of the body, 6 that serve MediaPipe's tracking
REACH = 3  # cells around a landmark that sharpen it: MediaPipe's kernel of 7
SURE = 0.5  # least heatmap value that moves a landmark


class BlazePose(Peer):
    """BlazePose on the upright square around a box; MediaPipe would turn and place it by its own detector."""

    kind = "BlazePose"
    keypoint_names = NAMES
    factor = 1.6  # it expects room for the whole body around the hips, which a driver's box does not give

    @staticmethod
    def fits(network: Network) -> bool:
        """Whether a file has BlazePose's input and outputs."""
        shapes = list(network.output_shapes.values())
        return network.input_shape == (1, 256, 256, 3) and (1, 5 * LANDMARKS) in shapes

    def prepare(self, crop: np.ndarray) -> np.ndarray:
        """(1, 256, 256, 3) RGB, 0..1."""
        return rgb(crop)[None].astype(np.float32) / 255

    def read(self, outputs: dict[str, np.ndarray], box: np.ndarray) -> np.ndarray:
        """(33, 3) x, y in crop pixels and visibility."""
        values = list(outputs.values())
        landmarks = next(v for v in values if v.shape == (1, 5 * LANDMARKS)).reshape(LANDMARKS, 5).astype(np.float64)
        heatmaps = next((v for v in values if v.ndim == 4 and v.shape[3] == LANDMARKS), None)
        points = landmarks[: len(NAMES), :2]
        if heatmaps is not None:
            stride = self.size[0] / heatmaps.shape[2]
            points = stride * sharpened(points / stride, sigmoid(heatmaps[0, ..., : len(NAMES)]))
        return np.concatenate([points, sigmoid(landmarks[: len(NAMES), 3:4])], 1)


def sharpened(points: np.ndarray, heatmaps: np.ndarray) -> np.ndarray:
    """Landmarks moved to the centre of mass of their heatmap nearby (MediaPipe's refinement).

    Args:
        points: (K, 2) x, y in heatmap cells.
        heatmaps: (h, w, K) probabilities.

    Returns:
        (K, 2); points outside the map, or where it stays below `SURE`, are as given.
    """
    height, width = heatmaps.shape[:2]
    moved = points.copy()
    for k, (x, y) in enumerate(points):
        column, row = int(np.floor(x)), int(np.floor(y))
        if not (0 <= column < width and 0 <= row < height):
            continue
        rows = np.arange(max(row - REACH, 0), min(row + REACH + 1, height))
        columns = np.arange(max(column - REACH, 0), min(column + REACH + 1, width))
        near = heatmaps[rows[:, None], columns, k]
        if near.max() >= SURE:
            moved[k] = np.array([near.sum(0) @ columns, near.sum(1) @ rows]) / near.sum()
    return moved
