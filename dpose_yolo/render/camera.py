"""Cameras: pinhole with radial distortion, mounts of a cabin with their ranges, the user's own camera file.

Positions are in metres about the driver's H-point: x towards the driver's window, y up, z forward, so that one camera
description serves left- and right-hand drive cars.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from dpose_yolo.errors import DPoseError
from dpose_yolo.render.rotations import unit

NEAR, FAR = 0.04, 60.0


@dataclass(frozen=True)
class Camera:
    """One camera.

    Attributes:
        position, look_at: (3,) metres.
        roll: degrees; positive turns the image's content anticlockwise.
        fov: vertical field of view of the undistorted image in degrees.
        distortion: radial coefficients k1, k2 in units of the focal length; negative k1 is a barrel.
        name: mount or file it comes from.
        drive: "left" or "right" when the camera is that of a left- or right-hand drive car, else "any".
    """

    position: tuple[float, float, float]
    look_at: tuple[float, float, float]
    roll: float = 0.0
    fov: float = 50.0
    distortion: tuple[float, float] = (0.0, 0.0)
    name: str = "camera"
    drive: str = "any"

    def axes(self) -> np.ndarray:
        """Rows (3, 3): right, up and forward direction of the camera."""
        forward = unit(np.subtract(self.look_at, self.position))
        vertical = np.array([0.0, 0.0, 1.0]) if abs(forward[1]) > 0.999 else np.array([0.0, 1.0, 0.0])
        right = unit(np.cross(forward, vertical))
        up = np.cross(right, forward)
        cosine, sine = np.cos(np.radians(self.roll)), np.sin(np.radians(self.roll))
        return np.stack([cosine * right - sine * up, cosine * up + sine * right, forward])

    def focal(self, height: int) -> float:
        """Focal length in pixels of an image `height` pixels high."""
        return 0.5 * height / float(np.tan(np.radians(self.fov) / 2))

    def project(self, points: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Project points.

        Args:
            points: (N, 3) metres.
            size: (width, height) pixels.

        Returns:
            (N, 2) pixels, where (0, 0) is the outer corner of the first pixel, and (N,) depth in metres along the
            viewing direction; pixels of points behind the camera mean nothing.
        """
        width, height = size
        local = (points - np.array(self.position)) @ self.axes().T
        depth = local[:, 2]
        flat = local[:, :2] / np.where(abs(depth) < 1e-6, 1e-6, depth)[:, None]
        flat = distort(flat, self.distortion)
        focal = self.focal(height)
        return np.stack([width / 2 + focal * flat[:, 0], height / 2 - focal * flat[:, 1]], 1), depth


def distort(points: np.ndarray, coefficients: tuple[float, float]) -> np.ndarray:
    """Radial distortion of normalised image points (N, 2): p (1 + k1 r^2 + k2 r^4), held monotonic beyond its range."""
    k1, k2 = coefficients
    if not (k1 or k2):
        return points
    square = (points**2).sum(-1, keepdims=True)
    square = np.minimum(square, _monotonic_limit(coefficients))
    return points * (1 + k1 * square + k2 * square**2)


def undistort(points: np.ndarray, coefficients: tuple[float, float]) -> np.ndarray:
    """Inverse of `distort` for points (N, 2), from a table of radii: exact to 1e-5 within its monotonic range."""
    k1, k2 = coefficients
    if not (k1 or k2):
        return points
    plain = np.linspace(0, np.sqrt(_monotonic_limit(coefficients)), 4096)
    bent = plain * (1 + k1 * plain**2 + k2 * plain**4)
    radius = np.sqrt((points**2).sum(-1, keepdims=True))
    return points * np.where(radius > 1e-9, np.interp(radius, bent, plain) / np.maximum(radius, 1e-9), 1.0)


def _monotonic_limit(coefficients: tuple[float, float]) -> float:
    """Squared radius up to which the distorted radius grows: root of 1 + 3 k1 s + 5 k2 s^2, at most 4."""
    k1, k2 = coefficients
    roots = np.roots([5 * k2, 3 * k1, 1.0]) if k2 else np.array([-1 / (3 * k1)]) if k1 else np.array([4.0])
    real = [float(root.real) for root in np.atleast_1d(roots) if abs(np.imag(root)) < 1e-9 and root.real > 0]
    return min([*real, 4.0]) * 0.98


Limits = tuple[float, float]
Box = tuple[Limits, Limits, Limits]


@dataclass(frozen=True)
class CameraRange:
    """Ranges from which cameras of one mount are drawn.

    `fov` in degrees; where `view` is given it takes the place of `fov`: half the height in metres of what is seen at
    the distance of `look_at`, which keeps the framing when the position varies.
    """

    name: str
    position: Box
    look_at: Box
    roll: Limits = (0.0, 0.0)
    fov: Limits = (45.0, 70.0)
    view: Limits | None = None
    distortion: Limits = (-0.08, 0.02)
    weight: float = 1.0
    drive: str = "any"

    def draw(self, rng: np.random.Generator) -> Camera:
        """Draw one camera; the middle of each range is likelier than its ends."""
        between = lambda limits: float(limits[0] + (limits[1] - limits[0]) * rng.beta(1.6, 1.6))  # noqa: E731
        position, look_at = [between(limits) for limits in self.position], [between(limits) for limits in self.look_at]
        fov = between(self.fov)
        if self.view is not None:
            distance = float(np.linalg.norm(np.subtract(look_at, position)))
            fov = 2 * float(np.degrees(np.arctan(between(self.view) / distance)))
        return Camera(
            position=(position[0], position[1], position[2]),
            look_at=(look_at[0], look_at[1], look_at[2]),
            roll=between(self.roll),
            fov=fov,
            distortion=(between(self.distortion) if rng.random() < 0.5 else 0.0, 0.0),
            name=self.name,
            drive=self.drive,
        )


MOUNTS: dict[str, CameraRange] = {
    mount.name: mount
    for mount in (
        CameraRange(
            *(
                "passenger_side",
                ((-1.05, -0.56), (0.5, 0.95), (-0.02, 0.6)),
                ((-0.11, 0.13), (0.27, 0.46), (-0.13, 0.15)),
            ),
            roll=(4, 34),
            view=(0.4, 0.6),
            weight=2.5,
        ),
        CameraRange(
            *(
                "passenger_far",
                ((-1.25, -0.6), (0.45, 0.95), (-0.1, 0.75)),
                ((-0.12, 0.14), (0.22, 0.5), (-0.12, 0.22)),
            ),
            roll=(-10, 26),
            fov=(38, 72),
            weight=0.7,
        ),
        CameraRange(
            *("dashboard", ((-0.35, 0.15), (0.3, 0.55), (0.55, 0.85)), ((-0.08, 0.08), (0.25, 0.5), (-0.1, 0.1))),
            roll=(-8, 8),
            fov=(42, 75),
        ),
        CameraRange(
            *("column", ((-0.05, 0.05), (0.28, 0.45), (0.45, 0.6)), ((-0.05, 0.05), (0.35, 0.6), (-0.1, 0.1))),
            roll=(-5, 5),
            fov=(45, 80),
        ),
        CameraRange(
            *("a_pillar", ((0.25, 0.45), (0.45, 0.8), (0.45, 0.85)), ((-0.15, 0.1), (0.15, 0.45), (-0.1, 0.15))),
            roll=(-20, 20),
            fov=(45, 80),
        ),
        CameraRange(
            *("a_pillar_far", ((-1.1, -0.75), (0.4, 0.8), (0.5, 0.9)), ((-0.15, 0.1), (0.15, 0.45), (-0.1, 0.2))),
            roll=(-20, 20),
            fov=(38, 65),
        ),
        CameraRange(
            *("mirror", ((-0.5, -0.25), (0.6, 0.85), (0.45, 0.7)), ((-0.12, 0.1), (0.1, 0.42), (-0.08, 0.2))),
            roll=(-15, 15),
            fov=(50, 85),
        ),
        CameraRange(
            *("ceiling", ((-0.5, 0.05), (0.78, 0.95), (0.1, 0.6)), ((-0.1, 0.08), (0.0, 0.25), (0.0, 0.35))),
            roll=(-40, 40),
            fov=(65, 100),
        ),
        CameraRange(  # wild: anywhere in front of the driver or beside him
            *("wild", ((-1.2, 0.45), (0.2, 1.0), (-0.2, 0.95)), ((-0.2, 0.2), (0.05, 0.55), (-0.2, 0.3))),
            roll=(-45, 45),
            fov=(35, 105),
            distortion=(-0.2, 0.05),
        ),
    )
}


def draw_camera(rng: np.random.Generator) -> Camera:
    """Draw a mount by its weight, then a camera of it."""
    mounts = list(MOUNTS.values())
    weights = np.array([mount.weight for mount in mounts])
    return mounts[rng.choice(len(mounts), p=weights / weights.sum())].draw(rng)


def load_camera(path: str | Path) -> CameraRange:
    """Read a camera file.

    YAML keys: `position` and `look_at` (three metres each), `fov` (vertical, degrees), optional `roll` (degrees),
    `distortion` (k1), `name` and `drive` (left or right, for a left- or right-hand drive car). Every number may be a
    pair [low, high], which is then drawn for each image.

    Raises:
        DPoseError: an unreadable file, missing or unknown keys, numbers that make no camera.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DPoseError(f"{path}: not a readable camera file: {str(error).splitlines()[0]}") from error
    known = {"position", "look_at", "fov", "roll", "distortion", "name", "drive"}
    if not isinstance(content, dict) or not {"position", "look_at", "fov"} <= set(content) <= known:
        raise DPoseError(
            f"{path}: a camera file has position, look_at and fov, and may have roll, distortion, name, drive"
        )
    try:
        range_ = CameraRange(
            name=str(content.get("name", path.stem)),
            position=_box(content["position"]),
            look_at=_box(content["look_at"]),
            roll=_limits(content.get("roll", 0.0)),
            fov=_limits(content["fov"]),
            distortion=_limits(content.get("distortion", 0.0)),
            drive=str(content.get("drive", "any")),
        )
    except (TypeError, ValueError) as error:
        raise DPoseError(
            f"{path}: {error}: give numbers or [low, high] pairs, three for position and look_at"
        ) from error
    if not 5 <= range_.fov[0] <= range_.fov[1] <= 150:
        raise DPoseError(f"{path}: fov is {range_.fov[0]:g} to {range_.fov[1]:g} degrees: expected 5 to 150")
    if range_.drive not in ("left", "right", "any"):
        raise DPoseError(f"{path}: drive is '{range_.drive}': set it to left or right")
    if not -0.5 <= range_.distortion[0] <= range_.distortion[1] <= 0.5:
        raise DPoseError(f"{path}: distortion is outside of -0.5 to 0.5")
    if all(np.allclose(a, b) for a, b in zip(range_.position, range_.look_at, strict=True)):
        raise DPoseError(f"{path}: position and look_at are the same point")
    return range_


def _limits(value) -> Limits:
    low, high = (value, value) if isinstance(value, int | float) else value
    low, high = float(low), float(high)
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ValueError(f"{value} is no range")
    return low, high


def _box(value) -> Box:
    x, y, z = value
    return _limits(x), _limits(y), _limits(z)
