"""The piece of an image that a single-person model looks at, and the way back from its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Crop:
    """A rectangle of an image, scaled to a network's input.

    Coordinates are continuous: pixel (0, 0) covers 0..1, as in the labels. What lies outside the image is black.

    Attributes:
        left, top: the rectangle's upper left corner in image pixels; may lie outside.
        scale: crop pixels for each image pixel.
        size: width and height of the crop in pixels.
    """

    left: float
    top: float
    scale: float
    size: tuple[int, int]

    @classmethod
    def around(cls, box: np.ndarray, factor: float, size: tuple[int, int]) -> Crop:
        """The smallest rectangle of the input's shape that holds the box enlarged by `factor`, centred on it.

        Args:
            box: x1, y1, x2, y2 in image pixels.
            factor: of both sides of the box.
            size: width and height of the network's input; a square input gives a square rectangle.
        """
        x1, y1, x2, y2 = (float(v) for v in box)
        scale = min(size[0] / max(factor * (x2 - x1), 1e-6), size[1] / max(factor * (y2 - y1), 1e-6))
        return cls((x1 + x2) / 2 - size[0] / scale / 2, (y1 + y2) / 2 - size[1] / scale / 2, scale, size)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """(h, w, 3) crop of an (H, W, 3) image; one that shrinks to less than half is averaged over areas first."""
        height, width = image.shape[:2]
        own = np.ones(2)  # crop pixels for each pixel of the (shrunk) image
        if self.scale < 0.5:
            smaller = max(round(width * self.scale), 1), max(round(height * self.scale), 1)
            image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
            own = np.divide(smaller, (width, height))
        zoom = self.scale / own
        # Labels count from pixel corners, OpenCV from pixel centres: hence the halves.
        shift = -self.scale * np.array([self.left, self.top]) + 0.5 * zoom - 0.5
        matrix = np.array([[zoom[0], 0, shift[0]], [0, zoom[1], shift[1]]])
        return cv2.warpAffine(image, matrix, self.size, flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0))

    def forward(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) image pixels as crop pixels."""
        return (np.asarray(points, float) - (self.left, self.top)) * self.scale

    def back(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) crop pixels as image pixels."""
        return np.asarray(points, float) / self.scale + (self.left, self.top)
