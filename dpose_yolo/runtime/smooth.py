"""One Euro filter: steady keypoints while the driver sits still, no lag while an arm moves.

Casiez, Roussel and Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive
Systems", CHI 2012.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.runtime.driver import Driver


class OneEuro:
    """Smooths the drivers of one stream; speeds are measured in box diagonals, so that the picture's size is no matter.

    Attributes:
        min_cutoff: Hz, cut-off of the low pass at rest; lower is steadier.
        beta: how much the cut-off rises with speed, Hz for one box diagonal a second; higher lags less.
        forget: seconds without a driver after which the next one starts afresh.
    """

    def __init__(self, min_cutoff: float = 1.0, beta: float = 10.0, speed_cutoff: float = 1.0, forget: float = 0.5):
        """See the class; `speed_cutoff` in Hz is that of the low pass over the speed.

        Raises:
            DPoseError: for a number out of its range.
        """
        values = (min_cutoff, beta, speed_cutoff, forget)
        if not (min_cutoff > 0 and speed_cutoff > 0 and beta >= 0 and forget >= 0 and np.isfinite(values).all()):
            raise DPoseError(
                f"min_cutoff={min_cutoff} and speed_cutoff={speed_cutoff} have to be above 0, beta={beta} and "
                f"forget={forget} not below, and none of them infinite"
            )
        self.min_cutoff, self.beta, self.speed_cutoff, self.forget = min_cutoff, beta, speed_cutoff, forget
        self._time: float | None = None
        self._points = np.zeros((0, 2))
        self._speed = np.zeros((0, 2))

    def __call__(self, driver: Driver | None, seconds: float) -> Driver | None:
        """The smoothed driver of the next frame.

        Args:
            driver: as the network sees it, None for nobody; None is given back as it is.
            seconds: time of the frame, from any start.

        Returns:
            The driver with smoothed box and keypoints; confidences stay as they are.
        """
        if driver is None:
            return None
        points = np.concatenate([driver.box.reshape(2, 2), driver.keypoints]).astype(np.float64)
        step = None if self._time is None else seconds - self._time
        if step is None or step > self.forget or step < 0 or len(points) != len(self._points):
            self._points, self._speed = points, np.zeros_like(points)
        elif step > 0:
            size = max(float(np.hypot(*(points[1] - points[0]))), 1.0)
            speed = (points - self._points) / step
            self._speed = self._speed + _weight(self.speed_cutoff, step) * (speed - self._speed)
            fast = np.hypot(self._speed[:, :1], self._speed[:, 1:]) / size
            self._points = self._points + _weight(self.min_cutoff + self.beta * fast, step) * (points - self._points)
        self._time = seconds
        smooth = self._points.astype(np.float32)
        return replace(driver, box=smooth[:2].reshape(4), keypoints=smooth[2:])


def _weight(cutoff: np.ndarray | float, step: float) -> np.ndarray | float:
    """Share of the new value in a first-order low pass, for a cut-off in Hz and a time step in seconds."""
    turn = 2 * np.pi * cutoff * step
    return turn / (turn + 1)
