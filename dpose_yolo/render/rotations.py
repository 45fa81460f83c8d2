"""Rotation matrices and small vector helpers of the renderer: (3, 3) float64, angles in degrees."""

import numpy as np


def rotation_x(angle: float) -> np.ndarray:
    """Rotate about +x (from +y towards +z)."""
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.array([[1.0, 0, 0], [0, cosine, -sine], [0, sine, cosine]])


def rotation_y(angle: float) -> np.ndarray:
    """Rotate about +y (from +z towards +x)."""
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.array([[cosine, 0, sine], [0, 1.0, 0], [-sine, 0, cosine]])


def rotation_z(angle: float) -> np.ndarray:
    """Rotate about +z (from +x towards +y)."""
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])


def about_axis(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotate by `angle` degrees about a unit `axis` (3,), by Rodrigues' formula."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(angle)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def unit(vector: np.ndarray) -> np.ndarray:
    """Scale a vector to length 1; a zero vector stays zero."""
    return vector / max(float(np.sqrt(vector @ vector)), 1e-9)


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product of two (3,) vectors; several times faster than `np.cross` for single vectors."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def align(source: np.ndarray, target: np.ndarray, share: float = 1.0) -> np.ndarray:
    """Shortest rotation that takes direction `source` to `target`, or `share` of its angle."""
    source, target = unit(source), unit(target)
    axis = cross(source, target)
    sine = float(np.sqrt(axis @ axis))
    if sine < 1e-7:
        return np.eye(3)
    return about_axis(axis / sine, float(np.degrees(np.arctan2(sine, source @ target))) * share)


def angle_about(axis: np.ndarray, source: np.ndarray, target: np.ndarray) -> float:
    """Signed angle in degrees about the unit `axis` that turns `source` towards `target`."""
    source, target = source - axis * (axis @ source), target - axis * (axis @ target)
    return float(np.degrees(np.arctan2(axis @ cross(source, target), source @ target)))


def axis_angle(rotation: np.ndarray) -> tuple[np.ndarray, float]:
    """Unit axis (3,) and angle in degrees, 0 to 180, of a rotation matrix; not defined at exactly 180 degrees."""
    axis = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    angle = float(np.degrees(np.arctan2(np.sqrt(axis @ axis), np.trace(rotation) - 1)))
    return unit(axis), angle
