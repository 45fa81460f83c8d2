"""The driver drawn on a picture, and where drawn pictures and videos go."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dpose_yolo.errors import NOT_TEXT, DPoseError
from dpose_yolo.folders import is_text
from dpose_yolo.keypoints import side_of
from dpose_yolo.report.drawing import SIDE_COLOURS, limbs, replacing
from dpose_yolo.runtime.driver import Driver
from dpose_yolo.runtime.frames import Frame
from dpose_yolo.runtime.pictures import plain_picture, with_channels

SURE = 0.5  # keypoints below this confidence are hidden or guessed, and not drawn
WRITABLE = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
LONGEST = 200  # bytes of a name, which may get a number and an ending; file systems take 255
FPS = 25.0  # of a video whose source tells none
FASTEST = 240.0  # frames a second of a drawn video
LONGEST_STILL = 60.0  # seconds that a frame is repeated at most


def draw_driver(picture: np.ndarray, driver: Driver | None, names: Sequence[str], text: str = "") -> np.ndarray:
    """A copy of a picture with box, limbs and keypoints.

    Args:
        picture: (H, W, 3) BGR or (H, W), uint8.
        driver: None draws only the text.
        names: K keypoint names.
        text: written in the upper left corner.

    Returns:
        (H, W, 3) BGR, uint8.
    """
    drawn = with_channels(picture, 3).copy()
    thick = max(1, round(max(drawn.shape[:2]) / 400))
    if driver is not None:
        (x1, y1), (x2, y2) = driver.box.reshape(2, 2).round().astype(int).tolist()
        cv2.rectangle(drawn, (x1, y1), (x2, y2), (200, 200, 200), thick, cv2.LINE_AA)
        points = [tuple(p) for p in driver.keypoints.round().astype(int).tolist()]
        sides = [side_of(name)[0] for name in names]
        seen = driver.scores >= SURE
        for a, b in limbs(names):
            if seen[a] and seen[b]:
                colour = _bgr(SIDE_COLOURS[sides[a] if sides[a] == sides[b] else ""])
                cv2.line(drawn, points[a], points[b], colour, 2 * thick, cv2.LINE_AA)
        for k, point in enumerate(points):
            if seen[k]:
                cv2.circle(drawn, point, 2 * thick + 1, _bgr(SIDE_COLOURS[sides[k]]), -1, cv2.LINE_AA)
    if text:
        scale = 0.5 * thick
        for colour, width in (((0, 0, 0), 3 * thick), ((255, 255, 255), thick)):
            place = (round(8 * thick), round(20 * thick))
            cv2.putText(drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, width, cv2.LINE_AA)
    return drawn


def _bgr(colour: str) -> tuple[int, int, int]:
    """Blue, green, red of `#rrggbb`."""
    return int(colour[5:7], 16), int(colour[3:5], 16), int(colour[1:3], 16)


class Gallery:
    """Writes drawn frames: a picture for a picture, a video for a video or camera; to be used in a `with` block.

    Videos appear under their name when the next one begins or the block ends well.

    Attributes:
        folder: where the files go.
        files: names used so far, the largest share of what this keeps in memory.
    """

    def __init__(self, folder: str | Path, names: Sequence[str], bits: int | None = None):
        """See the class; `names` and `bits` are the model's keypoint names and the used bits of 16-bit pictures."""
        if not is_text(folder):
            raise DPoseError(f"{folder} cannot be written to by OpenCV: {NOT_TEXT}, or set save=False")
        self.folder, self.names, self.bits = Path(folder), list(names), bits
        self.files: dict[str, int] = {}
        self._stack, self._source = ExitStack(), ""
        self._video: cv2.VideoWriter | None = None
        self._file, self._rate, self._start = Path(), FPS, 0.0
        self._position = self._written = 0  # frames of the video by time, and frames given to its writer
        self._size = (0, 0)

    def __enter__(self) -> Gallery:
        """Begin."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Put the last video in place, unless the block failed or the video is cut short."""
        try:
            self._release(whole=error[0] is None)
        except DPoseError:
            error = sys.exc_info()
            raise
        finally:
            self._stack.__exit__(*error)

    def add(self, frame: Frame, driver: Driver | None, text: str = "") -> None:
        """Draw and write one frame.

        Raises:
            DPoseError: where a file cannot be written.
        """
        drawn = draw_driver(plain_picture(frame.image, self.bits), driver, self.names, text)
        if frame.seconds is None:
            path = Path(frame.name)
            suffix = path.suffix if path.suffix.lower() in WRITABLE else ".jpg"
            stem = path.stem if path.suffix else f"{path.stem}_{frame.number:06d}"
            with replacing(self.folder / self._free(stem, suffix)) as temporary:
                temporary.write_bytes(cv2.imencode(suffix.lower(), drawn)[1].tobytes())
            return
        if self._video is None or frame.name != self._source:
            self._video = self._begin(frame, (drawn.shape[1], drawn.shape[0]))
        if drawn.shape[1::-1] != self._size:  # a camera that was opened again may give another size
            drawn = cv2.resize(drawn, self._size)
        # a frame is repeated until the next one is due, so that the video is as long as its source; none is left out
        due = max(round((frame.seconds - self._start) * self._rate) + 1 - self._position, 1)
        self._position += due
        for _ in range(min(due, round(LONGEST_STILL * self._rate))):
            self._video.write(drawn)
            self._written += 1

    def _begin(self, frame: Frame, size: tuple[int, int]) -> cv2.VideoWriter:
        """End the video before, and start that of a new source."""
        self._release()
        self._stack.close()
        stem = f"camera_{frame.name}" if frame.name.isdigit() else Path(frame.name).stem
        name = self._free(re.sub(r"[^\w.-]+", "_", stem) or "stream", ".mp4")  # a URL may hold anything
        self._file = temporary = self._stack.enter_context(replacing(self.folder / name))
        code = cv2.VideoWriter.fourcc(*"mp4v")
        self._rate, self._start = min(frame.fps or FPS, FASTEST), frame.seconds or 0.0
        self._position = self._written = 0
        video = cv2.VideoWriter(str(temporary), code, self._rate, size)
        if not video.isOpened():
            raise DPoseError(f"this OpenCV cannot write a video of {frame.name}: set save=False")
        self._source, self._size = frame.name, size
        return video

    def _release(self, whole: bool = True) -> None:
        """End a video; OpenCV does not say that a disk is full, so what was to be `whole` is counted."""
        if self._video is None:
            return
        self._video.release()
        self._video, source, self._source = None, self._source, ""
        if whole:
            written = cv2.VideoCapture(str(self._file))
            frames = int(written.get(cv2.CAP_PROP_FRAME_COUNT)) if written.isOpened() else 0
            written.release()
            if frames < self._written:
                raise DPoseError(
                    f"the drawn video of {source} is cut short after {frames} of {self._written} frames: make room in "
                    f"{self.folder}, or set save=False"
                )

    def _free(self, stem: str, suffix: str) -> str:
        """A file name not used before: pictures of several folders may have the same."""
        while len(os.fsencode(stem)) > LONGEST:
            stem = stem[:-1]
        first = name = f"{stem}{suffix}"
        while name in self.files:
            self.files[first] += 1
            name = f"{stem}_{self.files[first]}{suffix}"
        self.files[name] = 1
        return name
