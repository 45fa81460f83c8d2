"""MoveNet SinglePose, Lightning (192 x 192) or Thunder (256 x 256), as ONNX or TFLite.

Votel and Li, "Next-generation pose detection with MoveNet and TensorFlow.js", 2021. Input: whole RGB numbers 0..255,
(1, S, S, 3); output (1, 1, 17, 3): y, x as shares of the input, confidence; COCO's 17 keypoints.
"""

from __future__ import annotations

import numpy as np

from dpose_yolo.keypoints import COCO_NAMES
from dpose_yolo.peers.base import Network, Peer, rgb


class MoveNet(Peer):
    """MoveNet on the square around a box."""

    kind = "MoveNet"
    keypoint_names = COCO_NAMES
    factor = 1.1  # best of 1.0 .. 1.9 on the training parts of rendered and of real drivers (docs/compare.md)

    @staticmethod
    def fits(network: Network) -> bool:
        """Whether a file has MoveNet's input and output."""
        shape = network.input_shape
        return (
            len(shape) == 4
            and shape[3] == 3
            and shape[1] == shape[2] is not None
            and list(network.output_shapes.values()) == [(1, 1, 17, 3)]
        )

    def prepare(self, crop: np.ndarray) -> np.ndarray:
        """(1, S, S, 3) RGB, 0..255."""
        return rgb(crop)[None]

    def read(self, outputs: dict[str, np.ndarray], box: np.ndarray) -> np.ndarray:
        """(17, 3) x, y in crop pixels and confidence."""
        y, x, confidence = next(iter(outputs.values())).reshape(17, 3).astype(np.float64).T
        return np.stack([x * self.size[0], y * self.size[1], confidence], 1)
