"""`fix=True`: new lists without what cannot be used, beside the data; no file is changed, none deleted."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import yaml

from dpose_yolo.dataset.card import Card
from dpose_yolo.dataset.files import part_images
from dpose_yolo.dataset.hashes import text_hash
from dpose_yolo.dataset.scan import Scan
from dpose_yolo.errors import DPoseError
from dpose_yolo.report.drawing import replacing


def write_lists(card: Card, found: Scan) -> tuple[Path, dict[str, tuple[int, int]]]:
    """Write a list of the good images of each part, and a data YAML that names the lists.

    They get names of their own (`data_checked.yaml`, `data_checked_train.txt`; numbered if these exist) in the data
    folder, so that paths stay relative and the folder can be moved.

    Returns:
        The YAML, and for each part how many images were taken and left out.

    Raises:
        DPoseError: when a part would be empty, when the folder changed meanwhile, or when it cannot be written to.
    """
    stem = _free_name(Path(card.root), card.file.stem)
    left_out = _by_hash(found)
    written: dict[str, tuple[int, int]] = {}
    raw = {k: v for k, v in card.raw.items() if k != "path"}
    made: dict[tuple[str, ...], str] = {}
    for part, places in card.parts.items():
        if places not in made:
            made[places] = f"{stem}_{part}.txt"
            number = found.parts.index(part)
            paths = sorted(set(part_images(card, part)))
            keep = [path for path in paths if not left_out.get((number, text_hash(path)), True)]
            if not keep:
                raise DPoseError(f"no image of the {part} part can be used: nothing is written, see check.csv")
            with replacing(Path(card.root) / made[places]) as temporary:
                lines = (f"./{os.path.relpath(path, card.root)}\n" for path in keep)
                temporary.write_text("".join(lines), encoding="utf-8")
            written[part] = (len(keep), len(paths) - len(keep))
        raw[part] = made[places]
    file = Path(card.root) / f"{stem}.yaml"
    with replacing(file) as temporary:
        text = f"# {card.file.name} without the images that dpose check found unusable\n"
        temporary.write_text(text + yaml.safe_dump(raw, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return file, written


def _by_hash(found: Scan) -> dict[tuple[int, int], bool]:
    """Whether an image is left out, by part and hash of its path; a second listing of one file is left out, too."""
    table: dict[tuple[int, int], bool] = {}
    for number, path, out in zip(found.part, found.path, found.left_out, strict=True):
        key = (number, path)
        table[key] = table.get(key, True) and bool(out)
    return table


def _free_name(folder: Path, stem: str) -> str:
    base = f"{stem}_checked"
    names = (base if n == 1 else f"{base}{n}" for n in count(1))
    return next(name for name in names if not any(folder.glob(f"{name}[._]*")))
