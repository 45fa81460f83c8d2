"""What a source hands to the writer: shots with labels, in jobs that are done one at a time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpose_yolo.prepare.card import KeypointSet

PARTS = ("train", "val", "test")
LONGEST = 180  # characters of a file's stem; file systems end at 255 bytes


@dataclass
class Shot:
    """One image of the new set.

    Attributes:
        stem: name of its image and label, without suffix.
        part: train, val or test.
        source: path of the picture or video, relative to the source folder, `#frame` behind a video's.
        file: the picture or video.
        frame: number within the video from 0, or None for a picture.
        subject, view, time, activity: columns of the index; time in seconds since the beginning of
            the video, None for what the file says.
        label: content of its label file, or None for an image without labels.
    """

    stem: str
    part: str
    source: str
    file: Path
    frame: int | None = None
    subject: str = ""
    view: str = ""
    time: float | None = None
    activity: str = ""
    label: str | None = None


@dataclass
class Pictures:
    """A job: pictures to copy."""

    shots: list[Shot]

    @property
    def work(self) -> int:
        """Steps for the progress bar."""
        return len(self.shots)


@dataclass
class Frames:
    """A job: known frames of one video, in order of number."""

    file: Path
    shots: list[Shot]

    @property
    def work(self) -> int:
        """Frames to decode."""
        return 1 + (self.shots[-1].frame or 0) if self.shots else 0


@dataclass
class Stream:
    """A job: frames of one video that are chosen while it is decoded, by how much they differ.

    Attributes:
        shot: what all of them have in common.
        step: every so many frames is a candidate, by their times.
        count: frames that the file says it has; 0 if it does not.
        limit: frames to keep at most, or None.
        apart: least difference between two of them, grey levels.
        fps: frames a second, on average.
        facts: time and activity of a frame number, or None to take the time from the file.
    """

    shot: Shot
    step: int
    count: int
    limit: int | None
    apart: float
    fps: float
    facts: Callable[[int], tuple[float | None, str]] | None = None

    @property
    def file(self) -> Path:
        """The video."""
        return self.shot.file

    @property
    def work(self) -> int:
        """Frames to decode."""
        return self.count

    @property
    def most(self) -> int:
        """Images that can come out at most."""
        candidates = -(-self.count // self.step)
        return candidates if self.limit is None else min(candidates, self.limit)


Job = Pictures | Frames | Stream


@dataclass
class Plan:
    """What is to be written.

    Attributes:
        jobs: in the order of the index.
        keypoints: names, sides and limbs of the card.
        comment: lines at the head of the card.
        said: sentences about how it was decided, for the user and `prepare.json`.
        left_out: what the source could not use: a word for the kind, and a name.
    """

    jobs: list[Job]
    keypoints: KeypointSet
    comment: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def digest(self, src: Path) -> str:
        """Stands for everything that is to be written, the source files' sizes and times among it."""
        sha = hashlib.sha256()
        for job in self.jobs:
            shots = [job.shot] if isinstance(job, Stream) else job.shots
            if isinstance(job, Stream):
                sha.update(repr((job.step, job.limit, job.apart)).encode())
            seen: set[Path] = set()
            for shot in shots:
                if shot.file not in seen:
                    seen.add(shot.file)
                    sha.update(repr(_stamp(shot.file)).encode())
                words = (shot.stem, shot.part, shot.source, shot.frame, shot.subject, shot.view, shot.time)
                sha.update(repr((*words, shot.activity, shot.label)).encode("utf-8", "surrogateescape"))
        return sha.hexdigest()


def _stamp(file: Path) -> tuple[int, int]:
    try:
        stat = file.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


class Names:
    """File stems that no other image has: an image and its label share one, whatever the suffix."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._videos: set[str] = set()

    def video(self, *words: str) -> str:
        """A stem to which frame numbers are added; to be asked for before the stems of pictures."""
        stem = self.free(*words)
        self._videos.add(stem.casefold())
        return stem

    def free(self, *words: str) -> str:
        """A stem made of words, with nothing in it that a file system or the engine minds."""
        plain = (re.sub(r"[^\w.-]+", "_", word) for word in words if word)
        text = "_".join(plain).strip("._-") or "image"
        if len(text.encode("utf-8", "surrogateescape")) > LONGEST:
            mark = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]
            end = text.encode("utf-8", "ignore")[13 - LONGEST :].decode("utf-8", "ignore")
            text = f"{end.strip('._-')}_{mark}"
        stem, number = text, 1
        while stem.casefold() in self._taken or re.sub(r"_\d{6,}$", "", stem.casefold()) in self._videos:
            number += 1
            stem = f"{text}_{number}"
        self._taken.add(stem.casefold())
        return stem


def total_work(jobs: list[Job]) -> int:
    """Steps of all jobs."""
    return sum(job.work for job in jobs)


def in_batches(shots: list[Shot], size: int = 500) -> list[Any]:
    """Jobs of at most so many pictures: what an interruption costs."""
    return [Pictures(shots[at : at + size]) for at in range(0, len(shots), size)]
