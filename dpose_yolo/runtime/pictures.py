"""Pictures of any kind as the network takes them: 8 bits, the right channels, letterboxed as the engine does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from dpose_yolo.errors import DPoseError

Size = tuple[int, int]  # height and width, pixels

PADDING = 114  # grey of the letterbox borders, the engine's (ultralytics/data/augment.py, LetterBox)


DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras fill of a 16-bit picture


def used_bits(picture: np.ndarray) -> int:
    """Bits that a uint16 picture uses: the least of `DEPTHS` that hold its brightest value."""
    return next(bits for bits in DEPTHS if int(picture.max()) < 1 << bits)


def plain_picture(picture: Any, bits: int | None = None) -> np.ndarray:
    """A picture of 8 bits, grey or BGR.

    Args:
        picture: (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA; uint8 or uint16.
        bits: bits of a uint16 picture that are used, of which the highest 8 are kept; None finds them by `used_bits`,
            since infrared cameras often fill 10, 12 or 14.

    Returns:
        (H, W) or (H, W, 3) uint8; alpha is dropped.

    Raises:
        DPoseError: for an empty picture, or one of another shape or type.
    """
    if picture is None or not isinstance(picture, np.ndarray) or picture.size == 0:
        raise DPoseError("the picture is empty: give a numpy array of height x width, or height x width x channels")
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[..., 0]
    if picture.ndim == 3 and picture.shape[2] == 4:
        picture = picture[..., :3]
    if picture.ndim != 2 and not (picture.ndim == 3 and picture.shape[2] == 3):
        raise DPoseError(f"a picture of shape {picture.shape} is neither grey, BGR nor BGRA: height comes first")
    if picture.dtype == np.uint16:
        picture = np.minimum(picture >> ((bits or used_bits(picture)) - 8), 255).astype(np.uint8)
    if picture.dtype != np.uint8:
        raise DPoseError(f"a picture of {picture.dtype} numbers: give uint8 (0 to 255) or uint16")
    return np.ascontiguousarray(picture)


def with_channels(picture: np.ndarray, channels: int) -> np.ndarray:
    """A plain picture as grey (H, W), if `channels` is 1, or BGR (H, W, 3); both uint8."""
    if channels == 1:
        return picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    return picture if picture.ndim == 3 else cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in the network's input.

    Attributes:
        size: height and width of the resized picture, pixels.
        gain: input pixels a picture pixel, in x and y. Both sides are rounded to whole pixels, so they differ a little.
        corner: x and y of its upper left corner in the input.
        picture: height and width of the picture.
        input: height and width of the input.
    """

    size: tuple[int, int]
    gain: tuple[float, float]
    corner: tuple[int, int]
    picture: tuple[int, int]
    input: tuple[int, int]

    @classmethod
    def centred(cls, picture: Size, target: Size) -> Placement:
        """The engine's letterbox: as large as fits, in the middle, at least one pixel.

        Args:
            picture: height and width of the picture.
            target: height and width of the input.
        """
        scale = min(target[0] / picture[0], target[1] / picture[1])
        height, width = (max(round(side * scale), 1) for side in picture)
        left, top = round((target[1] - width) / 2 - 0.1), round((target[0] - height) / 2 - 0.1)
        gain = width / picture[1], height / picture[0]
        return cls((height, width), gain, (left, top), picture, target)

    @classmethod
    def stretched(cls, picture: Size, target: Size) -> Placement:
        """A picture that fills the target: each side has its own scale."""
        gain = target[1] / picture[1], target[0] / picture[0]
        return cls(target, gain, (0, 0), picture, target)

    def back(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) x, y in input pixels as picture pixels, clipped to the picture."""
        return np.clip((points - self.corner) / self.gain, 0, self.picture[::-1])

    def forward(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) x, y in picture pixels as input pixels."""
        return np.asarray(points, np.float64) * self.gain + self.corner


class Letterbox:
    """Letterboxes pictures into one buffer, so that a stream of them needs no new memory.

    Attributes:
        target: height and width of the input, pixels.
    """

    def __init__(self, target: tuple[int, int]):
        """See the class."""
        self.target = target
        self._padded: dict[tuple[int, ...], tuple[Placement, np.ndarray]] = {}

    def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, Placement]:
        """The picture on the input's canvas.

        Args:
            picture: (H, W) or (H, W, 3) uint8.

        Returns:
            (h, w) or (h, w, 3) uint8, good until the next call, and where the picture lies in it.
        """
        if picture.shape not in self._padded:
            place = Placement.centred((picture.shape[0], picture.shape[1]), self.target)
            self._padded = {picture.shape: (place, np.full((*self.target, *picture.shape[2:]), PADDING, np.uint8))}
        place, canvas = self._padded[picture.shape]
        (height, width), (left, top) = place.size, place.corner
        inside = canvas[top : top + height, left : left + width]
        if picture.shape[:2] == place.size:
            inside[...] = picture
        else:
            cv2.resize(picture, (width, height), dst=inside, interpolation=cv2.INTER_LINEAR)
        return canvas, place


def network_input(canvas: np.ndarray, blob: np.ndarray) -> None:
    """Fill a network's input with a letterboxed picture, in RGB order and 0..1.

    Args:
        canvas: (h, w) or (h, w, 3) BGR, uint8.
        blob: (1, C, h, w) float32 or float16, C 1 or 3; a grey canvas fills all channels alike.
    """
    planes = [canvas] if canvas.ndim == 2 else list(cv2.split(canvas))[::-1]
    for c in range(blob.shape[1]):
        if c < len(planes):
            np.divide(planes[c], np.float32(255), out=blob[0, c], casting="same_kind")
        else:
            blob[0, c] = blob[0, 0]
