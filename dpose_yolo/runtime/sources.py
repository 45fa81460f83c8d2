"""Frames of pictures, folders, videos and cameras, one at a time; what is broken is counted and left out."""

from __future__ import annotations

import glob
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dpose_yolo.errors import NOT_TEXT, DPoseError
from dpose_yolo.folders import is_text
from dpose_yolo.runtime.card import PICTURES, VIDEOS
from dpose_yolo.runtime.frames import Frame, Source

COUNTED = {"avi", "m4v", "mov", "mp4"}  # hold the number of their frames; of others OpenCV guesses it from the length
MOST = 1_000_000  # frames, 9 hours at 30 a second; a header that tells more makes no sense
TRIES = 30  # failing reads in a row, after which a video is over that does not say how long it is
MISSES = 5  # failing reads of a camera in a row, after which it is opened again
PAUSES = (0.1, 2.0)  # shortest and longest wait before a camera is opened again, seconds
if "OPENCV_LOG_LEVEL" not in os.environ:  # sources that cannot be opened get one error line of ours, not OpenCV's
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
READ = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH  # turned upright as the file says, 16 bits kept


def open_source(source: Any, *, patience: float = 30.0, capture: Callable[[Any], Any] = cv2.VideoCapture) -> Source:
    """Open whatever shows a driver.

    Args:
        source: picture or video file, folder with all below it, pattern (`drive/*.png`), camera number, URL of a stream
            or of a video file, one array, or an iterable of arrays.
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
    number = (isinstance(source, int) and source >= 0) or (
        text.isdecimal() and not Path(text).exists()
    )  # a folder may be called 007
    if number or "://" in text:
        where = int(text) if number else text
        return Source(text, "camera", lambda own: camera_frames(own, where, patience, capture))
    if not text or (re.fullmatch(r"-\d+", text) and not Path(text).exists()):
        raise DPoseError(f"source={text!r} is no picture, folder, video, camera number from 0 or URL")
    files = _files(text)
    return Source(text, "pictures", lambda own: file_frames(own, files, capture), total=len(files))


def _files(text: str) -> list[Path]:
    """Picture and video files that a path or pattern names, in order of name."""
    path = Path(text)
    if path.is_file():
        if _ending(path) not in PICTURES | VIDEOS:
            raise DPoseError(f"{path} is no picture or video: expected a file ending in {_endings()}")
        return [path]
    if path.is_dir():
        found = sorted(path.rglob("*"))
    elif glob.has_magic(text):
        found = sorted(Path(f) for f in glob.glob(text, recursive=True))
    else:
        raise DPoseError(f"no image, folder or video {text}: set source= to a path that exists, or a camera number")
    files = [f for f in found if _ending(f) in PICTURES | VIDEOS and f.is_file()]
    if not files:
        raise DPoseError(f"no pictures or videos in {text}: expected files ending in {_endings()}")
    return files


def _ending(name: str | Path) -> str:
    """Ending of a file or of a URL's path, in lower case and without the dot."""
    text = str(name)
    if "://" in text:
        text = re.split("[?#]", text.partition("://")[2])[0].partition("/")[2]
    return Path(text).suffix[1:].lower()


def _endings() -> str:
    return ", ".join(sorted(PICTURES | VIDEOS))


def file_frames(own: Source, files: list[Path], capture: Callable[[Any], Any]) -> Iterator[Frame]:
    """Frames of picture and video files.

    Raises:
        DPoseError: for a single file that cannot be read; among several it is counted and passed over.
    """
    for path in files:
        if not is_text(path):
            if len(files) == 1:
                raise DPoseError(f"{path} cannot be used: {NOT_TEXT}")
            own.lose(str(path), NOT_TEXT)
            continue
        if _ending(path) in VIDEOS:
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
    """Frames of a video file with their time.

    Raises:
        DPoseError: for one that cannot be opened, if `alone`; otherwise it is counted.
    """
    video = capture(str(path))
    try:
        if video.isOpened():
            yield from _played(own, str(path), video)
        elif alone:
            raise DPoseError(f"{path} cannot be read as a video: it is cut short, or of a kind OpenCV cannot read")
        else:
            own.lose(str(path), "cannot be read as a video")
    finally:
        video.release()


def _played(own: Source, name: str, video: Any) -> Iterator[Frame]:
    """Frames of an opened video; those that cannot be decoded or never come are counted, the next one is tried."""
    fps = _positive(video.get(cv2.CAP_PROP_FPS))
    announced = _announced(name, video)
    number = failed = 0
    last = -1.0
    while failed < TRIES or number + failed < announced:
        image = _read(video)
        if image is None:
            failed += 1
            continue
        if failed:  # the end is a row of failures too, so they count only once the video goes on
            own.lose(f"{name}, frame {number}", "cannot be decoded", failed)
            number += failed
            failed = 0
        at = float(video.get(cv2.CAP_PROP_POS_MSEC)) / 1000
        if not at > last:  # some containers tell no time
            at = number / fps if fps else last + 0.04
        last = at
        yield Frame(image, name, number, at, fps=fps)
        number += 1
    if number < announced:  # a cut end, or damage that OpenCV has passed over without a word
        own.lose(name, f"{announced - number} of the {announced} frames it announces never come", announced - number)
    elif not number:
        own.lose(name, "there is no frame in it")


def _announced(name: str, video: Any) -> int:
    """Number of frames that stands in a video file; 0 where none does, or none that makes sense."""
    if _ending(name) not in COUNTED or video.getBackendName() != "FFMPEG":  # GStreamer and the systems' own guess
        return 0
    count = float(video.get(cv2.CAP_PROP_FRAME_COUNT))
    return int(count) if 0 < count <= MOST else 0


def _read(video: Any) -> np.ndarray | None:
    """The next picture of an open video or camera; None where there is none, whatever OpenCV says about it."""
    try:
        good, image = video.read()
    except cv2.error:
        return None
    return image if good and image is not None and image.size else None


def camera_frames(own: Source, where: int | str, patience: float, capture: Callable[[Any], Any]) -> Iterator[Frame]:
    """Frames of a camera or stream, until it is gone for `patience` seconds; a video file behind a URL is played once.

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
            if camera and first is None and _ending(str(where)) in VIDEOS and camera.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
                own.kind, own.total = "pictures", 1  # to open it again would be to begin it again
                yield from _played(own, str(where), camera)
                return
            image = _read(camera) if camera else None
            if image is not None:
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
