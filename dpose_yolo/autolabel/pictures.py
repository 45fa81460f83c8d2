"""The pictures of a source, one at a time, each with the name that it gets in the new data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dpose_yolo.dataset.card import Card, read_card
from dpose_yolo.dataset.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, part_images, told, walk
from dpose_yolo.dataset.images import look
from dpose_yolo.errors import DPoseError
from dpose_yolo.folders import is_text
from dpose_yolo.images import read_image
from dpose_yolo.runtime.pictures import plain_picture, with_channels
from dpose_yolo.runtime.sources import Source, video_frames


class BrokenPicture(Exception):
    """Why a picture cannot be used."""


@dataclass(frozen=True)
class Item:
    """One picture of a source.

    Attributes:
        key: path of the picture below `images/<part>/` of a new set; unique, the same in every run.
        file: path of the image or video.
        frame: number of a video's frame, None for an image.
        seconds: of that frame since the beginning.
        pixels: of a video's frame.
    """

    key: str
    file: str
    frame: int | None = None
    seconds: float | None = None
    pixels: Any = None

    def read(self) -> np.ndarray:
        """(H, W, 3) BGR, uint8.

        Raises:
            BrokenPicture: when it cannot be read whole.
        """
        try:
            if self.pixels is not None:
                return with_channels(plain_picture(self.pixels), 3)
            problem = look(self.file).problem  # decodes all of it, which OpenCV does not insist on
            if problem:
                raise BrokenPicture(problem)
            return read_image(self.file)
        except DPoseError as error:
            raise BrokenPicture(str(error).removeprefix(f"{self.file} ")) from error


class Pictures:
    """A source: an image, a folder with all folders below it, a video, or a part of a data set.

    Attributes:
        path: as given.
        card: the data YAML, if the source is one.
        part: of the data set, or the name of the new one's.
        every: of a video, each n-th frame.
    """

    def __init__(self, source: Any, part: str = "train", every: int = 10):
        """See the class.

        Raises:
            DPoseError: where nothing is, or nothing that shows a picture.
        """
        if not isinstance(source, str | Path) or not str(source):
            raise DPoseError(f"source={source!r} is no path: give an image, a folder, a video or a data YAML")
        self.path, self.part, self.every = Path(source), part, every
        self.card: Card | None = None
        if self.path.suffix.lower() in (".yaml", ".yml"):
            self.card = read_card(self.path)
            if part not in self.card.parts:
                raise DPoseError(f"{self.path} has no part {part}: set split= to {' or '.join(self.card.parts)}")
            for _ in self:  # a list with a path outside the data folder is refused before anything is written
                pass
        elif not self.path.exists():
            raise DPoseError(f"no image, folder or video {self.path}: set source= to a path that exists")
        elif self.path.is_file() and _kind(self.path.name) is None:
            endings = ", ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
            raise DPoseError(f"{self.path} is no image, video or data YAML: expected a file ending in {endings}")

    def __len__(self) -> int:
        """Pictures, frames of videos as the files tell them; names are counted, not kept."""
        return sum(1 if _kind(file) == "image" else self._frames(file) for file in self)

    def __iter__(self) -> Iterator[str]:
        """Images and videos, in the order of the file system; memory holds one at a time."""
        if self.card:
            yield from part_images(self.card, self.part)
        elif self.path.is_file():
            yield str(self.path)
        else:
            yield from (f for f in walk(str(self.path)) if _kind(f) and is_text(f))

    def unnamed(self) -> int:
        """Number of files in a folder that are left out because their names are not UTF-8."""
        return 0 if self.card or self.path.is_file() else sum(not is_text(f) for f in walk(str(self.path)) if _kind(f))

    def _frames(self, file: str) -> int:
        video = cv2.VideoCapture(file)
        frames = video.get(cv2.CAP_PROP_FRAME_COUNT) if video.isOpened() else 0
        video.release()
        return max(1, -int(-frames // self.every)) if 0 < frames < 1e9 else 1

    def shown(self, file: str) -> str:
        """A file's path below the source's folder."""
        if self.card:
            return told(file, self.card)
        top = self.path.parent if self.path.is_file() else self.path
        return os.path.relpath(file, top).replace(os.sep, "/")

    def items_of(self, file: str, wanted: Callable[[str], bool] = lambda key: True) -> Iterator[Item | None]:
        """The pictures of a file: itself, or a video's frames; None for those that are not wanted.

        Args:
            file: an image or a video.
            wanted: whether the picture of a key is; other frames are only decoded.

        Raises:
            BrokenPicture: for a video that cannot be read.
        """
        key = self.key_of(file)
        if _kind(file) == "image":
            yield Item(key, file) if wanted(key) else None
            return
        source = Source(file, "pictures", lambda own: iter(()))
        seen = False
        for frame in video_frames(source, Path(file), cv2.VideoCapture, alone=False):
            seen = True
            if frame.number % self.every == 0:
                name = f"{key.rpartition('.')[0]}_{frame.number:06d}.jpg"
                item = Item(name, file, frame.number, frame.seconds, frame.image)
                yield item if wanted(name) else None
        if not seen:
            raise BrokenPicture("cannot be read as a video: it is cut short, or of a kind OpenCV cannot read")

    def key_of(self, file: str) -> str:
        """Path below the source's folder; of two files that differ only in their ending, the ending becomes part of it.

        Their labels would have one name. Whether there is another is seen beside the file itself, so that the key does
        not depend on what came before.
        """
        relative = self.shown(file)
        if self.card:
            relative = relative.removeprefix("images/").removeprefix(f"{self.part}/")
        stem, _, ending = relative.rpartition(".")
        beside = os.path.splitext(file)[0]
        others = (f"{beside}.{e}" for suffix in sorted(IMAGE_SUFFIXES) for e in (suffix, suffix.upper()))
        if _kind(file) == "image" and any(other != file and os.path.exists(other) for other in others):
            return f"{stem}_{ending}.{ending}"
        return relative


def _kind(name: str) -> str | None:
    ending = name.rpartition(".")[2].lower()
    return "image" if ending in IMAGE_SUFFIXES else "video" if ending in VIDEO_SUFFIXES else None
