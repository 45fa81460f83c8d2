"""Reading pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from dpose_yolo.errors import DPoseError


def read_image(file: str | Path) -> np.ndarray:
    """(H, W, 3) BGR picture, uint8, as the engine reads it.

    Raises:
        DPoseError: when it cannot be read.
    """
    try:
        image = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)  # cv2.imread crashes on some names
    except (OSError, cv2.error):
        image = None
    if image is None:
        raise DPoseError(f"{file} cannot be read as an image: mend or remove it")
    return image
