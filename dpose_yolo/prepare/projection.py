"""Cameras: points in space to points in the unrectified image, and which way their extrinsics are meant."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

DIRECTIONS = ("reference to camera", "camera to reference")
NEAREST = 0.05  # metres in front of the camera; nearer points are behind it or in its lens


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with distortion.

    Attributes:
        matrix: (3, 3) intrinsics, pixels.
        distortion: (5,) k1, k2, p1, p2, k3, as OpenCV has them.
        size: (width, height) pixels.
        rotation: (3, 3) of its extrinsics.
        translation: (3,) of its extrinsics, metres.
    """

    matrix: np.ndarray
    distortion: np.ndarray
    size: tuple[int, int]
    rotation: np.ndarray
    translation: np.ndarray

    @property
    def is_reference(self) -> bool:
        """Whether it is the camera that the points are given in."""
        return np.allclose(self.rotation, np.eye(3), atol=1e-9) and np.allclose(self.translation, 0, atol=1e-9)

    def project(self, points: np.ndarray, direction: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of points, and which of them the camera can see.

        Args:
            points: (..., 3) metres, in the frame of the reference camera.
            direction: index of `DIRECTIONS`. 0: x_camera = R x + t. 1: x_camera = R' (x - t).

        Returns:
            (..., 2) pixels in the unrectified image, which may lie outside it; NaN for points that cannot be projected,
            and (...) whether they can: they lie in front of the camera, and in the field where the lens model holds.
        """
        flat = np.asarray(points, np.float64).reshape(-1, 3)
        if direction == 0:
            local = flat @ self.rotation.T + self.translation
        else:
            local = (flat - self.translation) @ self.rotation
        good = np.isfinite(local).all(1) & (local[:, 2] > NEAREST)
        radius = np.full(len(local), np.inf)
        radius[good] = np.hypot(local[good, 0], local[good, 1]) / local[good, 2]
        good &= radius < self._fold()
        pixels = np.full((len(local), 2), np.nan)
        if good.any():
            none = np.zeros(3)
            pixels[good] = cv2.projectPoints(local[good, None], none, none, self.matrix, self.distortion)[0][:, 0]
        shape = np.shape(points)[:-1]
        return pixels.reshape(*shape, 2), good.reshape(shape)

    def _fold(self) -> float:
        """Radius (tangent of the angle) where the distortion polynomial turns back: points beyond it would land inside.

        The first root of d/dr r (1 + k1 r^2 + k2 r^4 + k3 r^6) = 1 + 3 k1 r^2 + 5 k2 r^4 + 7 k3 r^6.
        """
        k1, k2, _, _, k3 = self.distortion
        roots = np.roots([7 * k3, 5 * k2, 3 * k1, 1.0])
        real = roots[np.abs(roots.imag) < 1e-9].real
        positive = real[real > 0]
        return float(np.sqrt(positive.min())) if len(positive) else math.inf

    def share_seen(self, points: np.ndarray, direction: int) -> float:
        """Share of points (..., 3) that fall into the image."""
        pixels, good = self.project(points, direction)
        return float(inside(pixels, good, self.size).mean()) if good.size else 0.0


def inside(pixels: np.ndarray, good: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which of the pixels (..., 2) lie in an image."""
    return good & (np.nan_to_num(pixels, nan=-1.0) >= 0).all(-1) & (np.nan_to_num(pixels, nan=np.inf) < size).all(-1)


def rotation_of(quaternion: np.ndarray) -> np.ndarray:
    """(3, 3) rotation of a quaternion w, x, y, z of any length but 0."""
    w, x, y, z = np.asarray(quaternion, np.float64) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
