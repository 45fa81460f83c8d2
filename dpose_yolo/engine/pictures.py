"""How the engine reads picture files: those of 16 bits by their used bits, as all other commands and the runtime do."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from ultralytics.data import base, dataset, loaders, utils
from ultralytics.utils import patches

from dpose_yolo.runtime.pictures import plain_picture, with_channels

_engine_imread = patches.imread


def imread(filename: str | Path, flags: int = cv2.IMREAD_COLOR) -> np.ndarray | None:
    """Read a picture as `ultralytics.utils.patches.imread`, which keeps the highest 8 of 16 bits, used or not.

    Args:
        filename: the file.
        flags: `cv2.IMREAD_COLOR` or `cv2.IMREAD_GRAYSCALE`; others go to the engine's reader as they are.

    Returns:
        (H, W, 3) BGR or (H, W, 1) uint8; None for a file that cannot be read.
    """
    if flags not in (cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE):
        return _engine_imread(filename, flags)
    image = _engine_imread(filename, flags | cv2.IMREAD_ANYDEPTH)
    if image is None or image.dtype not in (np.uint8, np.uint16):
        return image
    image = with_channels(plain_picture(image), 3 if flags == cv2.IMREAD_COLOR else 1)
    return image[..., None] if image.ndim == 2 else image


def read_deep_pictures() -> None:
    """Have the engine read by `imread`, wherever it reads pictures."""
    for module in (base, dataset, loaders, utils):
        module.imread = imread
