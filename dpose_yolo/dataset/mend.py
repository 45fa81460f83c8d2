"""`fix=True`: new lists without what cannot be used, beside the data; no file is changed, none deleted."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import yaml

from dpose_yolo.dataset.card import Card
from dpose_yolo.dataset.files import label_of, told
from dpose_yolo.dataset.scan import Scan
from dpose_yolo.dataset.spool import as_text
from dpose_yolo.errors import DPoseError
from dpose_yolo.report.drawing import replacing, sweep_killed


def write_lists(card: Card, found: Scan) -> tuple[Path, dict[str, tuple[int, int]]]:
    """Write a list of the good images of each part, and a data YAML that names the lists.

    They get names of their own (`data_checked.yaml`, `data_checked_train.txt`; numbered if these exist) in the data
    folder, so that paths stay relative and the folder can be moved.

    Returns:
        The YAML, and for each part how many images were taken and left out.

    Raises:
        DPoseError: when a part would be empty, when lists cannot name its images, or when it cannot be written to.
    """
    sweep_killed(Path(card.root), f"{card.file.stem}_checked")
    stem = _free_name(Path(card.root), card.file.stem)
    written: dict[str, tuple[int, int]] = {}
    raw = {k: v for k, v in card.raw.items() if k != "path"}
    made: dict[tuple[str, ...], str] = {}
    for part, places in card.parts.items():
        if places not in made:
            made[places] = f"{stem}_{part}.txt"
            written[part] = _write_list(Path(card.root) / made[places], card, found, part)
        raw[part] = made[places]
    file = Path(card.root) / f"{stem}.yaml"
    with replacing(file) as temporary:
        text = f"# {card.file.name} without the images that dpose check found unusable\n"
        temporary.write_text(text + yaml.safe_dump(raw, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return file, written


def _write_list(file: Path, card: Card, found: Scan, part: str) -> tuple[int, int]:
    """Write the good images of a part, each once and in the order of their names; how many, and how many are left."""
    query = """
        SELECT path, max(i IN (SELECT i FROM left_out)) FROM images WHERE part = ? GROUP BY path ORDER BY path
    """
    kept = left = 0
    with replacing(file) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for path, out in found.spool.rows(query, found.parts.index(part)):
            if out:
                left += 1
                continue
            kept += 1
            lines.write(f"{list_entry(as_text(path), card)}\n")
        if not kept:
            raise DPoseError(f"no image of the {part} part can be used: nothing is written, see check.csv")
    return kept, left


def list_entry(image: str, card: Card) -> str:
    """Line of a list in the data folder for an image.

    Raises:
        DPoseError: for an image that no list can name.
    """
    line = f"./{_below_root(image, card)}"
    if "\\" in line or len(line.splitlines()) > 1 or line != line.strip():
        raise DPoseError(f"{line!r} cannot stand in a list, which ends there or takes \\ for /: rename the file")
    if any("\ud800" <= letter <= "\udfff" for letter in line):
        raise DPoseError(f"{line!r} cannot stand in a list, its name is no UTF-8: rename the file")
    return line


def drop_images(card: Card, found: Scan, file: Path) -> None:
    """Have `fix=True` leave out the images that a text file names, one a line, as reports show them.

    Raises:
        DPoseError: for a file that cannot be read, and for a name that no image has.
    """
    try:
        names = {line for line in file.read_text(encoding="utf-8-sig").split("\n") if line.strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise DPoseError(f"drop={file} is no readable list of images: {' '.join(str(error).split())}") from error
    names = {name.rstrip("\r") for name in names}
    seen = set()
    for i, path in found.spool.rows("SELECT i, path FROM images"):
        name = told(as_text(path), card).encode("utf-8", "backslashreplace").decode()
        if name in names:
            seen.add(name)
            found.leave_out(i)
    if names - seen:
        raise DPoseError(
            f"drop={file} names {min(names - seen)}, which is no image of {card.file}: name them as bad_images.txt, "
            "relative to the data folder"
        )


def _below_root(image: str, card: Card) -> str:
    """Path of an image from the data folder, as a list there names it.

    Raises:
        DPoseError: when the image is reached through a link that leads out of the data folder, and the engine, which
            does not follow links of a list's lines, would look for its label elsewhere.
    """
    top = os.path.realpath(card.root)
    if image.startswith(top.rstrip(os.sep) + os.sep):
        return os.path.relpath(image, top)
    below = os.path.relpath(card.as_written(image), card.root)
    label, listed = label_of(image), label_of(os.path.join(top, below))
    if os.path.realpath(listed) != os.path.realpath(label):
        raise DPoseError(
            f"{below} is reached through a link, its label is {label}; by a list in {card.root} the engine would look "
            f"for it at {listed}: lay a link to the folder of labels, too, or set path: in {card.file}"
        )
    return below


def _free_name(folder: Path, stem: str) -> str:
    base = f"{stem}_checked"
    names = (base if n == 1 else f"{base}{n}" for n in count(1))
    return next(name for name in names if not any(folder.glob(f"{name}[._]*")))
