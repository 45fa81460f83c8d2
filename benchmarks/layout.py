"""A set with COCO's 17 keypoints out of one with others, so that public COCO weights can start it, head and all.

    python benchmarks/layout.py data=lspet_pose/data.yaml dst=lspet_coco

Keypoints of the same name are kept, others are dropped (LSP's neck and top of the head), and those of COCO's that the
set lacks (nose, eyes, ears) are unlabelled. Boxes and all else stay as they are; images are linked, or copied where the
file system has no links. For another number of keypoints an engine's model gets a new head, which needs many epochs to
say anything.
"""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import yaml

from dpose_yolo.cli import parse_arguments
from dpose_yolo.dataset.card import Card, read_card
from dpose_yolo.dataset.files import label_of, part_images
from dpose_yolo.dataset.label_text import label_text
from dpose_yolo.dataset.labels import read_label
from dpose_yolo.errors import DPoseError
from dpose_yolo.keypoints import COCO_NAMES, partners, side_of


def sources(names: list[str]) -> list[int | None]:
    """For each of COCO's keypoints the one of the same name; None without.

    Raises:
        DPoseError: if there is none at all.
    """
    at = {side_of(name): k for k, name in enumerate(names)}
    found = [at.get(side_of(name)) for name in COCO_NAMES]
    if all(k is None for k in found):
        raise DPoseError(f"none of the keypoints {', '.join(names)} is called as one of COCO's: write kpt_names")
    return found


def moved(rows: np.ndarray, dims: int, found: list[int | None]) -> np.ndarray:
    """(M, 5 + K dims) label rows as (M, 5 + 17 * 3)."""
    points = rows[:, 5:].reshape(len(rows), -1, dims)
    if dims == 2:
        points = np.concatenate([points, 2.0 * (points != 0).any(-1, keepdims=True)], axis=-1)
    new = np.zeros((len(rows), len(found), 3))
    for k, source in enumerate(found):
        if source is not None:
            new[:, k] = points[:, source]
    return np.concatenate([rows[:, :5], new.reshape(len(rows), -1)], axis=1)


def write_part(card: Card, part: str, found: list[int | None], dst: Path) -> int:
    """Write images and labels of a part; the number of images."""
    for kind in ("images", "labels"):
        (dst / kind / part).mkdir(parents=True, exist_ok=True)
    images = sorted(part_images(card, part))
    if len({Path(image).stem for image in images}) < len(images):
        raise DPoseError(f"the {part} part of {card.file} has two images of one name: rename one, all go in one folder")
    for image in images:
        target = dst / "images" / part / Path(image).name
        if not target.exists():
            try:
                os.link(image, target)
            except OSError:
                shutil.copyfile(image, target)
        if os.path.exists(label_of(image)):
            read = read_label(label_of(image), card.count, card.dims, card.classes)
            if read.problems:
                raise DPoseError(f"{label_of(image)}: {read.problems[0].text}; mend it first (dpose check)")
            label = dst / "labels" / part / f"{target.stem}.txt"
            label.write_text(label_text(moved(read.rows, card.dims, found)), encoding="utf-8")
    return len(images)


def main(words: list[str]) -> None:
    """Write the set and say what it has."""
    given = parse_arguments(words)
    if not given.get("data") or not given.get("dst"):
        raise DPoseError("benchmarks/layout.py needs data= (a data YAML) and dst= (a folder for the new set)")
    card, dst = read_card(str(given["data"])), Path(str(given["dst"]))
    found = sources(card.names)
    counts = {part: write_part(card, part, found, dst) for part in card.parts}
    content = {part: f"images/{part}" for part in counts}
    content |= {"kpt_shape": [len(COCO_NAMES), 3], "flip_idx": partners(COCO_NAMES)}
    content |= {"names": card.raw["names"], "kpt_names": {0: list(COCO_NAMES)}}
    (dst / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    kept = sum(k is not None for k in found)
    print(f"{dst / 'data.yaml'}: {counts} images, {kept} of COCO's {len(found)} keypoints, {card.count - kept} dropped")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DPoseError as error:
        sys.exit(f"error: {error}")
