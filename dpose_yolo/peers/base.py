"""What every adapter of another model offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

import cv2
import numpy as np

from dpose_yolo.peers.crop import Crop


class Network(Protocol):
    """A loaded file: one image in, all outputs out."""

    input_shape: tuple[int | None, ...]
    input_type: np.dtype
    output_shapes: dict[str, tuple[int | None, ...]]
    metadata: dict[str, str]  # what the file says about itself

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name for an input of `input_shape`."""
        ...


class Peer(ABC):
    """A pose model of one person in a given box.

    Attributes:
        kind: what the model is called in tables.
        keypoint_names: K names, COCO's where COCO has the point.
        factor: how much the box is enlarged before it is cropped; each adapter knows a good value.
        size: width and height of the network's input in pixels.
    """

    kind: ClassVar[str] = ""
    keypoint_names: ClassVar[Sequence[str]] = ()
    factor: float = 1.25

    def __init__(self, network: Network, size: tuple[int, int], factor: float | None = None):
        self.network = network
        self.size = size
        self.factor = factor or self.factor

    @staticmethod
    @abstractmethod
    def fits(network: Network) -> bool:
        """Whether a file has this model's inputs and outputs."""

    def predict(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Keypoints of the person in a box.

        Args:
            image: (H, W, 3) BGR, uint8.
            box: x1, y1, x2, y2 in image pixels.

        Returns:
            (K, 3) x and y in image pixels, confidence in 0..1.
        """
        crop = Crop.around(box, self.factor, self.size)
        outputs = self.network(self.prepare(crop.cut(image)))
        points = self.read(outputs, crop.forward(np.asarray(box, float).reshape(2, 2)))
        points[:, :2] = crop.back(points[:, :2])
        return points

    @abstractmethod
    def prepare(self, crop: np.ndarray) -> np.ndarray:
        """Network input of an (h, w, 3) BGR uint8 crop."""

    @abstractmethod
    def read(self, outputs: dict[str, np.ndarray], box: np.ndarray) -> np.ndarray:
        """(K, 3) x, y in crop pixels and confidence, from the network's outputs.

        Args:
            outputs: arrays by name.
            box: (2, 2) upper left and lower right corner of the given box in crop pixels.
        """


def rgb(crop: np.ndarray) -> np.ndarray:
    """(h, w, 3) RGB of a BGR crop."""
    return cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Logistic function; both tails stay finite."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(x, np.float64)))
