"""A first look at a data YAML before anything is built or written: the likeliest mistakes, each in one line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpose_yolo.dataset import card
from dpose_yolo.dataset.files import IMAGE_SUFFIXES, is_image, walk
from dpose_yolo.dataset.paths import inside
from dpose_yolo.errors import DPoseError
from dpose_yolo.hints import windows_path, working_directory

LOOKED_AT = 100  # lines of a list; if none of them names a file, the list is meant for another folder
PURPOSE = {"train": "to learn from", "val": "to validate on", "test": "to test on"}


def first_look(data: Any, needs: Sequence[str], outside: bool = False, datasets: Path | None = None) -> dict[str, int]:
    """Look whether a data YAML says what training and evaluation need, and whether its parts hold images.

    The engine would ask the same later, when a model is built and folders are made, and in other words. Images and
    labels are not read here. Whether a part lies outside the data folder is `contained.refuse_outside`'s to say.

    Args:
        data: path of the YAML, or of a folder that holds one.
        needs: parts that have to be there with images.
        outside: whether parts may lie outside the data folder.
        datasets: folder where the engine looks for a relative `path:` that is not in the working directory.

    Returns:
        Number of images in each part of `needs`, by file names.

    Raises:
        DPoseError: for the first thing that is wrong.
    """
    file = card.data_file(data)
    raw = card.read_yaml(file)
    card.checked_labels(raw, file)
    given = raw.get("path")
    if datasets and isinstance(given, str) and given and not os.path.isdir(given) and (datasets / given).is_dir():
        root = str(datasets / given)
    else:
        root = card.data_folder(raw, file)
    counts = {}
    for part in dict.fromkeys(("train", "val", *needs)):  # the engine wants the first two to be named in any case
        value = raw.get(part) or (raw.get("validation") if part == "val" else None)
        if not value:
            named = ", ".join(p for p in card.PARTS if raw.get(p)) or "none"
            how = f": name the images {PURPOSE[part]}, e.g. {part}: images/{part}" if part in PURPOSE else ""
            raise DPoseError(f"{file} has no part {part!r}: it has {named}{how}")
        if part in needs:
            counts[part] = _require_images(value, root, part, file, outside)
    return counts


def _require_images(value: Any, root: str, part: str, file: Path, outside: bool) -> int:
    """Number of images of a part; raise unless every place of it exists, and one of them holds an image."""
    found = 0
    for entry in value if isinstance(value, list) else [value]:
        where = f"{part} of {file}"
        try:
            place = inside(root, entry, where)
        except DPoseError:
            if not outside or not isinstance(entry, str):
                return found  # said elsewhere, with the ways out
            place = os.path.join(root, entry)
        if not os.path.exists(place) and entry.startswith("../"):
            place = os.path.join(root, entry[3:])  # as the engine has it
        if not os.path.exists(place):
            raise DPoseError(card.no_such_place(where, entry, place))
        if os.path.isdir(place):
            found += sum(is_image(path) for path in walk(place))
        elif is_image(place):
            found += 1
        else:
            found += _listed_images(place)
    if not found:
        raise DPoseError(
            f"no images in the {part} part of {file}: {part}: {value} holds no file that ends in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return found


def _listed_images(path: str) -> int:
    """Number of images that a list names; at least one of the first has to exist.

    Raises:
        DPoseError: naming the first line, if none does.
    """
    first: tuple[int, str] | None = None
    count, exists = 0, False
    try:
        with open(path, encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                entry = line.strip()
                if not is_image(entry):
                    continue
                count += 1
                if exists or number > LOOKED_AT:
                    continue
                base = os.path.dirname(path) if entry.startswith("./") else ""
                exists = os.path.exists(os.path.join(base, entry))
                first = first or (number, entry)
    except (OSError, UnicodeDecodeError) as error:
        raise DPoseError(f"{path} is no readable list of images: {' '.join(str(error).split())}") from error
    if exists or first is None:
        return count
    number, entry = first
    hint = windows_path(entry)
    if not hint:
        hint = ": write ./ before it if it starts at the list" + working_directory(entry)
    raise DPoseError(f"line {number} of {path} names {entry}, which does not exist{hint}")
