"""Frames of pictures, folders, videos and cameras, one at a time; what is broken is counted and left out."""

from __future__ import annotations

import glob
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dpose_yolo.errors import DPoseError

PICTURES = {"bmp", "dng", "jp2", "jpeg", "jpeg2000", "jpg", "mpo", "png", "tif", "tiff", "webp", "pgm", "ppm"}
VIDEOS = {"asf", "avi", "gif", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "ts", "wmv", "webm"}
TRIES = 30  # failing reads of a video in a row, after which it is over
MISSES = 5  # failing reads of a camera in a row, after which it is opened again
PAUSES = (0.1, 2.0)  # shortest and longest wait before a camera is opened again, seconds
READ = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH  # turned upright as the file says, 16 bits kept


@dataclass
class Frame:
    """One picture of a source.

    Attributes:
        image: (H, W) or (H, W, C), uint8 or uint16.
        name: file, camera number or URL.
        number: of the frame within the file or camera, from 0.
        seconds: since the beginning of the video or of the camera's first frame; None for a picture.
        utc: time of a camera's frame, ISO 8601; None otherwise.
        fps: frames a second of the video or camera, None if not known.
    """

    image: Any
    name: str
    number: int = 0
    seconds: float | None = None
    utc: str | None = None
    fps: float | None = None


@dataclass
class Counts:
    """What happened while a source was read.

    Attributes:
        frames: pictures handed out.
        broken: pictures that could not be read or used.
        dropouts: times a camera was lost and opened again.
        first_broken: name and reason of the first broken picture.
        ended: why a camera's stream ended, None while it runs.
    """

    frames: int = 0
    broken: int = 0
    dropouts: int = 0
    first_broken: str | None = None
    ended: str | None = None


@dataclass
class Source:
    """A source of frames, to be iterated over once.

    Attributes:
        name: as given.
        kind: `pictures` (files, videos among them), `camera` or `arrays`.
        counts: of what happened so far.
        total: number of files, None for cameras and arrays.
    """

    name: str
    kind: str
    frames: Callable[[Source], Iterator[Frame]] = field(repr=False)
    counts: Counts = field(default_factory=Counts)
    total: int | None = None

    def __iter__(self) -> Iterator[Frame]:
        """Frames in order; memory holds one at a time."""
        for frame in self.frames(self):
            self.counts.frames += 1
            yield frame

    def lose(self, what: str, reason: str, count: int = 1) -> None:
        """Count pictures that cannot be read."""
        self.counts.broken += count
        self.counts.first_broken = self.counts.first_broken or f"{what}: {reason}"

    def refuse(self, frame: Frame, error: Exception) -> None:
        """Count a frame that was handed out but cannot be used."""
        self.counts.frames -= 1
        self.lose(f"{frame.name}, frame {frame.number}", str(error))


def open_source(source: Any, *, patience: float = 30.0, capture: Callable[[Any], Any] = cv2.VideoCapture) -> Source:
    """Open whatever shows a driver.

    Args:
        source: picture or video file, folder of them, pattern (`drive/*.png`), camera number, URL of a stream, one
            array, or an iterable of arrays.
        patience: seconds without a picture after which a camera is given up.
        capture: opens a video or camera, as `cv2.VideoCapture` does.

    Raises:
        DPoseError: where nothing is, or a single file is of no kind that can be read.
    """
    if isinstance(source, np.ndarray):
        source = [source]
    if isinstance(source, Iterable) and not isinstance(source, str | Path):
        return Source("arrays", "arrays", lambda own: (Frame(a, "array", i) for i, a in enumerate(source)))
    if isinstance(source, bool) or not isinstance(source, int | str | Path):
        raise DPoseError(f"source={source!r} is no picture, folder, video, camera number or URL")
    text = str(source)
    if text.isdigit() or "://" in text:
        where = int(text) if text.isdigit() else text
        return Source(text, "camera", lambda own: camera_frames(own, where, patience, capture))
    files = _files(text)
    return Source(text, "pictures", lambda own: file_frames(own, files, capture), total=len(files))


def _files(text: str) -> list[Path]:
    """Picture and video files that a path or pattern names, in order of name."""
    path = Path(text)
    if path.is_file():
        if path.suffix[1:].lower() not in PICTURES | VIDEOS:
            raise DPoseError(f"{path} is no picture or video: expected a file ending in {_endings()}")
        return [path]
    if path.is_dir():
        found = sorted(path.iterdir())
    elif glob.has_magic(text):
        found = sorted(Path(f) for f in glob.glob(text, recursive=True))
    else:
        raise DPoseError(f"no image, folder or video {text}: set source= to a path that exists, or a camera number")
    files = [f for f in found if f.suffix[1:].lower() in PICTURES | VIDEOS and f.is_file()]
    if not files:
        raise DPoseError(f"no pictures or videos in {text}: expected files ending in {_endings()}")
    return files


def _endings() -> str:
    return ", ".join(sorted(PICTURES | VIDEOS))


def file_frames(own: Source, files: list[Path], capture: Callable[[Any], Any]) -> Iterator[Frame]:
    """Frames of picture and video files.

    Raises:
        DPoseError: for a single file that cannot be read; among several it is counted and passed over.
    """
    for path in files:
        if path.suffix[1:].lower() in VIDEOS:
            yield from video_frames(own, path, capture, alone=len(files) == 1)
            continue
        try:
            yield Frame(read_picture(path), str(path))
        except DPoseError as error:
            if len(files) == 1:
                raise
            own.lose(str(path), str(error).removeprefix(f"{path} "))


def read_picture(path: str | Path) -> np.ndarray:
    """(H, W, 3) BGR picture of a file, uint8, or uint16 where the file has 16 bits.

    Raises:
        DPoseError: when it cannot be read.
    """
    try:
        data = np.fromfile(path, np.uint8)  # rather than cv2.imread: paths in any script on any system
        picture = cv2.imdecode(data, READ) if data.size else None
    except (OSError, cv2.error) as error:
        raise DPoseError(f"{path} cannot be read: {' '.join(str(error).split())[:120]}") from error
    if picture is None:
        raise DPoseError(f"{path} cannot be read as a picture: it is empty, cut short or of another kind")
    return picture


def video_frames(own: Source, path: Path, capture: Callable[[Any], Any], alone: bool) -> Iterator[Frame]:
    """Frames of a video with their time; a frame that cannot be decoded is counted, the next one tried."""
    video = capture(str(path))
    try:
        if not video.isOpened():
            if alone:
                raise DPoseError(f"{path} cannot be read as a video: it is cut short, or of a kind OpenCV cannot read")
            own.lose(str(path), "cannot be read as a video")
            return
        fps = _positive(video.get(cv2.CAP_PROP_FPS))
        number = failed = 0
        last = -1.0
        while failed < TRIES:
            good, image = video.read()
            if not good or image is None or not image.size:
                failed += 1
                continue
            if failed:  # the end is a row of failures too, so they count only once the video goes on
                own.lose(f"{path}, frame {number}", "cannot be decoded", failed)
                number += failed
                failed = 0
            at = float(video.get(cv2.CAP_PROP_POS_MSEC)) / 1000
            if not at > last:  # some containers tell no time
                at = number / fps if fps else last + 0.04
            last = at
            yield Frame(image, str(path), number, at, fps=fps)
            number += 1
    finally:
        video.release()


def camera_frames(own: Source, where: int | str, patience: float, capture: Callable[[Any], Any]) -> Iterator[Frame]:
    """Frames of a camera or stream, until it is gone for `patience` seconds.

    Raises:
        DPoseError: for a camera that never gave a picture.
    """
    camera: Any = None
    number = failed = 0
    pause, seen = PAUSES[0], time.monotonic()
    first: float | None = None
    try:
        while True:
            camera = camera or _opened(where, capture)
            good, image = camera.read() if camera else (False, None)
            if good and image is not None and image.size:
                failed, pause, seen = 0, PAUSES[0], time.monotonic()
                first = seen if first is None else first
                now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
                fps = _positive(camera.get(cv2.CAP_PROP_FPS))
                yield Frame(image, str(where), number, seen - first, now, fps)
                number += 1
                continue
            if time.monotonic() - seen > patience:
                if first is None:
                    raise DPoseError(f"camera {where} gives no picture: check that it is there and free")
                own.counts.ended = f"camera {where} gave no picture for {patience:g} s"
                return
            failed += 1
            if camera is not None:
                own.lose(f"camera {where}, frame {number}", "no picture")
                if failed < MISSES:
                    continue
                camera.release()
                camera = None
                own.counts.dropouts += 1
            time.sleep(pause)
            pause = min(2 * pause, PAUSES[1])
    finally:
        if camera is not None:
            camera.release()


def _opened(where: int | str, capture: Callable[[Any], Any]) -> Any:
    """A camera that is open, or None."""
    camera = capture(where)
    if camera.isOpened():
        return camera
    camera.release()
    return None


def _positive(value: float) -> float | None:
    return float(value) if value and np.isfinite(value) and value > 0 else None
