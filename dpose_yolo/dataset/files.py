"""Which images a part has, as the engine finds them, one at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator

from dpose_yolo.dataset.card import Card
from dpose_yolo.dataset.paths import inside
from dpose_yolo.errors import DPoseError
from dpose_yolo.hints import windows_path

# What the engine takes for an image (ultralytics/data/utils.py, IMG_FORMATS).
IMAGE_SUFFIXES = frozenset(
    ("avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp")
)
VIDEO_SUFFIXES = frozenset(("asf", "avi", "gif", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "ts", "webm", "wmv"))
DEEPEST = 40  # folders below each other; a link into its own parent would go on for ever


def is_image(name: str) -> bool:
    """Whether the engine takes a file of this name for an image."""
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES


def walk(folder: str, depth: int = 0) -> Iterator[str]:
    """Files below a folder, hidden ones left out (as the engine's `glob` does), in the order of the file system.

    Not sorted: sorting would hold all names in memory.
    """
    folders = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.path)
                elif not entry.is_file() and os.path.exists(entry.path):  # a broken link is reported as missing
                    raise DPoseError(f"{entry.path} is a pipe or a device, no file: remove it")
                else:
                    yield entry.path
    except OSError as error:
        raise DPoseError(f"{folder} cannot be read: {error.strerror or error}") from error
    if depth >= DEEPEST:
        raise DPoseError(f"{folder} lies {DEEPEST} folders deep: is there a link that leads to its own parent?")
    for path in sorted(folders):
        yield from walk(path, depth + 1)


def listed(path: str, root: str) -> Iterator[str]:
    """Images that a text file lists, one a line; `./` starts at the list, other relative paths at the working folder.

    Args:
        path: the list, as the data YAML writes it.
        root: data folder, which the lines must not leave; links to folders that the user laid in it are followed.

    Raises:
        DPoseError: for a file that is not text, and for a path outside the data folder.
    """
    beside, real = os.path.dirname(path), os.path.dirname(os.path.realpath(path))
    if real != os.path.realpath(beside):
        beside = real  # the list itself is a link: the engine follows it before it looks beside it
    try:
        with open(path, encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                entry = line.strip()
                if len(line.splitlines()) > 1:
                    raise DPoseError(
                        f"line {number} of {path} holds a line separator that is no newline, at which the engine would "
                        "begin a new line: write one image a line"
                    )
                if is_image(entry):
                    if not is_image(line.rstrip("\r\n")):
                        raise DPoseError(
                            f"line {number} of {path} ends in a blank, with which no image is found: cut it"
                        )
                    if "\\" in entry and (hint := windows_path(entry)) and not os.path.exists(entry):
                        raise DPoseError(f"line {number} of {path} names {entry}, which does not exist{hint}")
                    near = entry.startswith("./")
                    taken = inside(root, entry, f"line {number} of {path}", beside if near else os.getcwd())
                    yield os.path.normpath(os.path.join(real, entry)) if near and real != beside else taken
    except (OSError, UnicodeDecodeError) as error:
        raise DPoseError(f"{path} is no readable list of images: {' '.join(str(error).split())}") from error


def part_images(card: Card, part: str) -> Iterator[str]:
    """Full paths of the images of a part, those that the engine finds: links that the YAML names are followed."""
    for place, written in zip(card.parts[part], card.written[part], strict=True):
        if os.path.isdir(place):
            yield from (path for path in walk(place) if is_image(path))
        elif is_image(place):
            yield place
        else:
            yield from listed(written, card.root)


def label_of(image: str) -> str:
    """Path of an image's label, by the engine's rule: the last folder `images` becomes `labels`, the suffix .txt."""
    before, found, after = image.rpartition(f"{os.sep}images{os.sep}")
    path = f"{before}{os.sep}labels{os.sep}{after}" if found else image
    return path.rpartition(".")[0] + ".txt"


def label_folders(card: Card, part: str) -> list[str]:
    """Folders of labels that belong wholly to a part: those of its image folders; a list names no folder."""
    found = []
    for place in card.parts[part]:
        if os.path.isdir(place):
            folder = os.path.dirname(label_of(os.path.join(place, "x.jpg")))
            if folder != place and os.path.isdir(folder):
                found.append(folder)
    return found


def told(path: str, card: Card) -> str:
    """A path as reports on a data set show it: as the user wrote it, relative to the data folder."""
    return shown(card.as_written(path), card.root)


def shown(path: str, root: str) -> str:
    """A path as reports show it: relative to the data folder where it lies in it."""
    relative = os.path.relpath(path, root)
    return path if relative.startswith("..") else relative.replace(os.sep, "/")
