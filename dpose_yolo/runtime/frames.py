"""What a source hands out and counts, whatever it is: pictures, videos, cameras, arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dpose_yolo.errors import printable


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
        broken: pictures that could not be read or used, and frames that a video announces and does not give.
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
        kind: `pictures` (files, videos among them), `camera` or `arrays`; the URL of a video file is a `camera` until
            it is open, and `pictures` then.
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
        self.counts.first_broken = self.counts.first_broken or printable(f"{what}: {reason}")

    def refuse(self, frame: Frame, error: Exception) -> None:
        """Count a frame that was handed out but cannot be used."""
        self.counts.frames -= 1
        self.lose(f"{frame.name}, frame {frame.number}", str(error))
