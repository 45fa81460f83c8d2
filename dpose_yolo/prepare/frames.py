"""Videos, decoded from the beginning to the end without seeking; frames that are not wanted are not converted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

TRIES = 30  # failing reads in a row, after which a video is over
SIDE = 16  # of the small grey picture: 256 cells of +-255, whose squares sum to less than 2^24, exact in float32


class Video:
    """A video file.

    Args:
        path: the file.
        even: whether its times are those of even frames, so that a jump in them tells of frames lost.
        capture: opens it, as `cv2.VideoCapture` does.

    Attributes:
        path: the file.
        fps: frames a second, or 0 if the file does not say.
        count: frames that the file says it has, or 0.
        size: (width, height) pixels.
        number: of the frame that was taken last, from 0.
        lost: frames that could not be decoded.
    """

    def __init__(self, path: Path, even: bool = False, capture: Any = cv2.VideoCapture):
        self.path, self.even = path, even
        self._video = capture(str(path))
        self.good = bool(self._video.isOpened())
        self.fps = _positive(self._video.get(cv2.CAP_PROP_FPS)) if self.good else 0.0
        self.count = int(_positive(self._video.get(cv2.CAP_PROP_FRAME_COUNT))) if self.good else 0
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        self.size = tuple(int(_positive(self._video.get(side))) for side in sides) if self.good else (0, 0)
        self.number = -1
        self.lost = 0
        self._at = -1.0

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *error: object) -> None:
        self._video.release()

    def __iter__(self) -> Iterator[int]:
        """Numbers of the frames, each after it was taken from the file; `image` converts it.

        A decoder that skips a broken frame would shift all numbers behind it, and with them the labels. Where the time
        of an `even` video jumps by a whole number of frames, these count as lost and their numbers are passed over.
        """
        failed = 0
        while failed < TRIES:
            if not self._video.grab():
                failed += 1
                continue
            step = max(1 + failed, self._frames_since())
            if self.count and self.number + step >= self.count:  # the times are not those of even frames
                step = 1 + failed
            self.lost += step - 1
            self.number += step
            failed = 0
            yield self.number

    def _frames_since(self) -> int:
        """Frames by which the time has moved on, 1 where the times are not even or not told."""
        before, self._at = self._at, float(self._video.get(cv2.CAP_PROP_POS_MSEC)) / 1000
        if not self.even or not self.fps or before < 0 or not math.isfinite(self._at):
            return 1
        frames = (self._at - before) * self.fps
        return round(frames) if frames > 1.5 and abs(frames - round(frames)) < 0.1 else 1

    def image(self) -> np.ndarray | None:
        """(H, W, 3) BGR picture of the frame, or None if it cannot be decoded."""
        good, image = self._video.retrieve()
        return image if good and image is not None and image.size else None

    def seconds(self) -> float:
        """Time of the frame since the beginning of the video."""
        at = self._at
        return at if at > 0 or self.number == 0 else self.number / self.fps if self.fps else 0.04 * self.number


def _positive(value: float) -> float:
    return float(value) if value and math.isfinite(value) and value > 0 else 0.0


def thumbnail(image: np.ndarray) -> np.ndarray:
    """(256,) whole grey levels of a picture shrunk to 16 x 16, its brightness taken away; float32."""
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY) if small.ndim == 3 else small
    return np.rint(grey - grey.mean()).astype(np.float32).ravel()


def jpeg(image: np.ndarray, quality: int) -> bytes:
    """A picture as JPEG."""
    good, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not good:
        raise cv2.error("the picture cannot be written as JPEG")
    return data.tobytes()
