"""Lightweight OpenPose (Osokin 2018, arXiv:1811.12004) as ONNX, recognised by its heatmaps and part affinity fields.

Input: BGR, (v - 128) / 256, (1, 3, h, w); outputs of each stage: 19 heatmaps (18 keypoints and the background) and 38
fields at an eighth of the input. Within one person's box the fields are not needed: the peak of each heatmap counts.
"""

from __future__ import annotations

import numpy as np

from dpose_yolo.peers.base import Network, Peer

NAMES = [
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
]  # fmt: skip
HEATMAPS, FIELDS = 19, 38
OPEN_SIZE = 368  # input where the file leaves it open: the size that it was trained at


class LightweightOpenPose(Peer):
    """Lightweight OpenPose on the piece of the image around a box."""

    kind = "Lightweight OpenPose"
    keypoint_names = NAMES

    @staticmethod
    def fits(network: Network) -> bool:
        """Whether a file has the input and outputs of Lightweight OpenPose."""
        channels = [s[1] for s in network.output_shapes.values() if len(s) == 4]
        return len(network.input_shape) == 4 and network.input_shape[1] == 3 and {HEATMAPS, FIELDS} <= set(channels)

    def prepare(self, crop: np.ndarray) -> np.ndarray:
        """(1, 3, h, w) BGR, about -0.5..0.5."""
        return ((crop.astype(np.float32) - 128) / 256).transpose(2, 0, 1)[None]

    def read(self, outputs: dict[str, np.ndarray], box: np.ndarray) -> np.ndarray:
        """(18, 3) x, y in crop pixels and peak value, from the last stage's heatmaps within the enlarged box."""
        maps = [v for v in outputs.values() if v.ndim == 4 and v.shape[1] == HEATMAPS][-1][0, :-1]
        stride = np.divide(self.size, maps.shape[:0:-1])
        middle, half = box.mean(0), self.factor * (box[1] - box[0]) / 2
        low = np.floor((middle - half) / stride).astype(int).clip(0)
        high = np.ceil((middle + half) / stride).astype(int).clip(low + 1)
        points = np.array([peak(m[low[1] : high[1], low[0] : high[0]]) for m in maps])
        points[:, :2] = (points[:, :2] + low + 0.5) * stride  # a cell's value belongs to its middle
        points[:, 2] = points[:, 2].clip(0, 1)
        return points


def peak(heatmap: np.ndarray) -> tuple[float, float, float]:
    """Column, row and value of the highest cell of an (h, w) map, moved to the top of a parabola through neighbours."""
    row, column = (int(at) for at in np.unravel_index(heatmap.argmax(), heatmap.shape))
    return column + _top(heatmap[row], column), row + _top(heatmap[:, column], row), float(heatmap[row, column])


def _top(line: np.ndarray, at: int) -> float:
    """Offset (-0.5..0.5) of a parabola's top from the highest of three neighbouring values; 0 at an end."""
    if not 0 < at < len(line) - 1:
        return 0.0
    before, here, after = (float(v) for v in line[at - 1 : at + 2])
    bend = before - 2 * here + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
