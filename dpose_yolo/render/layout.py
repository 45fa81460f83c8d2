"""Measures of a cabin that the driver's pose depends on: seat, steering wheel, sill, dashboard, passenger seat."""

from dataclasses import dataclass

import numpy as np

from dpose_yolo.render.rotations import rotation_x


@dataclass(frozen=True)
class Layout:
    """Cabin measures in metres about the driver's H-point, of a left-hand drive car (+x is the window side).

    `recline` is the angle of the backrest from vertical and `wheel_tilt` that of the wheel, both in degrees.
    """

    recline: float
    wheel: np.ndarray
    wheel_radius: float
    wheel_tilt: float
    window: float
    sill: float
    roof: float
    dashboard: float
    passenger: float
    floor: float

    def rim(self, angle: float) -> np.ndarray:
        """Point (3,) on the wheel's rim; 0 degrees is the window side, 90 the top, 180 the passenger side."""
        angle = np.radians(angle)
        flat = self.wheel_radius * np.array([np.cos(angle), np.sin(angle), 0.0])
        return self.wheel + rotation_x(self.wheel_tilt) @ flat


def draw_layout(rng: np.random.Generator) -> Layout:
    """Draw the measures of a car."""
    uniform = rng.uniform
    wheel = np.array([uniform(-0.03, 0.03), uniform(0.14, 0.36), uniform(0.29, 0.47)])
    return Layout(
        recline=14 + 30 * rng.beta(1.7, 1.2),
        wheel=wheel,
        wheel_radius=uniform(0.17, 0.2),
        wheel_tilt=uniform(12, 38),
        window=uniform(0.34, 0.46),
        sill=uniform(0.16, 0.4),
        roof=uniform(0.86, 1.02),
        dashboard=float(wheel[2]) + uniform(0.18, 0.3),
        passenger=uniform(-0.8, -0.66),
        floor=uniform(-0.36, -0.24),
    )
