"""What a renderer is asked for and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class SceneSpec:
    """A scene to render.

    Attributes:
        seed: of everything that is not given.
        posture: name of a posture.
        camera: a camera, or None for a random one.
        look: colour, infrared or mixed.
        size: width and height of the image, pixels.
        licence: any, or cc0 for items under CC0 only.
        target: (17, 3) keypoints to show, x and y in shares of the box, and visibility; None for none.
    """

    seed: int
    posture: str
    camera: Any | None = None
    look: str = "colour"
    size: tuple[int, int] = (640, 480)
    licence: str = "any"
    target: np.ndarray | None = None


@dataclass(frozen=True)
class Sample:
    """A rendered image and its label.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        keypoints: (17, 3) x, y in pixels, and visibility 0 (outside), 1 (hidden), 2 (visible).
        box: (4,) x1, y1, x2, y2 in pixels.
        about: posture, camera, body, interior, light, seed, side; `items` maps what is shown to its licence.
    """

    image: np.ndarray
    keypoints: np.ndarray
    box: np.ndarray
    about: dict[str, Any]
