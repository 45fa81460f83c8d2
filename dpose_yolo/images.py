"""Reading pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.runtime.pictures import plain_picture, with_channels
from dpose_yolo.runtime.sources import read_picture


def read_image(file: str | Path) -> np.ndarray:
    """(H, W, 3) BGR picture, uint8; 16-bit files by their used bits, as in training and in the runtime.

    Raises:
        DPoseError: when it cannot be read.
    """
    try:
        return with_channels(plain_picture(read_picture(file)), 3)
    except DPoseError as error:
        raise DPoseError(f"{file} cannot be read as an image: mend or remove it") from error
