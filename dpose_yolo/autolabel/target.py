"""Where labels go: a new YOLO-pose set with copies of the images, or beside the images of an existing one."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml

from dpose_yolo.autolabel.journal import Entry, Journal
from dpose_yolo.autolabel.pictures import Item, Pictures
from dpose_yolo.dataset.card import PARTS, Card, read_yaml
from dpose_yolo.dataset.files import label_of, part_images
from dpose_yolo.dataset.label_text import label_text
from dpose_yolo.dataset.mend import list_entry
from dpose_yolo.dataset.new_card import card_text
from dpose_yolo.errors import DPoseError
from dpose_yolo.report.drawing import replacing

REPORTS = "autolabel"  # folder of the journal and the reports in a data set
QUALITY = 95  # of the JPEG of a video's frame
HEADER = "Labels by agreement of models (dpose autolabel); nobody has looked at them yet."


@dataclass(frozen=True)
class Target:
    """The data set that is written.

    Attributes:
        root: its folder.
        part: train, val or test.
        beside: labels go beside the images of an existing set; nothing else of it is touched.
    """

    root: Path
    part: str
    beside: bool

    @property
    def reports(self) -> Path:
        """Folder of the journal and the reports."""
        return self.root / REPORTS / self.part

    def image_of(self, item: Item) -> Path:
        """Where a picture lies in the set."""
        return Path(item.file) if self.beside else self.root / "images" / self.part / item.key

    def label_of(self, item: Item) -> Path:
        """Where its label lies."""
        return Path(label_of(os.path.abspath(self.image_of(item))))

    def has_label(self, item: Item) -> bool:
        """Whether there is a label that may not be overwritten: a file with anything in it."""
        path = self.label_of(item)
        try:
            return path.is_file() and bool(path.read_bytes().strip())
        except OSError as error:
            raise DPoseError(f"{path} cannot be read: {error.strerror or error}") from error

    def write(self, item: Item, image: np.ndarray, label: str) -> None:
        """Copy the picture, then write the label; each in one step."""
        if not self.beside:
            with replacing(self.image_of(item)) as temporary:
                if item.frame is None:
                    shutil.copyfile(item.file, temporary)
                else:
                    done, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
                    temporary.write_bytes(code.tobytes() if done else b"")
        with replacing(self.label_of(item)) as temporary:
            temporary.write_text(label, encoding="utf-8")


def find_target(pictures: Pictures, dst: object) -> Target:
    """The data set that `dst` names.

    Raises:
        DPoseError: for a place that holds something else, or lies in the source.
    """
    if not isinstance(dst, str | Path) or not str(dst):
        raise DPoseError(f"dst={dst!r} is no path: give the folder of the new data set")
    root = Path(dst)
    card = pictures.card
    if pictures.part not in PARTS:
        raise DPoseError(f"split={pictures.part} is not allowed: split takes {', '.join(PARTS)}")
    if card and os.path.realpath(root) in (os.path.realpath(card.root), os.path.realpath(card.file)):
        if card.dims != 3 or card.classes != 1:
            what = f"kpt_shape [{card.count}, {card.dims}] and {card.classes} classes"
            raise DPoseError(
                f"{card.file} has {what}: labels with flags need kpt_shape [{card.count}, 3] and one class"
            )
        return Target(Path(card.root), pictures.part, beside=True)
    if root.exists() and not root.is_dir():
        raise DPoseError(f"dst={root} is a file: give a folder")
    above = pictures.path.is_dir() and os.path.realpath(root).startswith(os.path.realpath(pictures.path) + os.sep)
    if above or os.path.realpath(root) == os.path.realpath(pictures.path):
        raise DPoseError(
            f"dst={root} lies in the source, the next run would label its copies: give another folder, or "
            "source=data.yaml to write labels beside the images"
        )
    if root.is_dir() and any(root.iterdir()) and not _ours(root):
        raise DPoseError(f"dst={root} holds files that autolabel did not write: give a new or empty folder")
    return Target(root, pictures.part, beside=False)


def _ours(root: Path) -> bool:
    """Whether a folder holds a set that an earlier run began, not one that it only wrote labels into."""
    if not (root / REPORTS).is_dir():
        return False
    card = root / "data.yaml"
    return not card.exists() or card.read_text(encoding="utf-8", errors="replace").startswith(f"# {HEADER}")


def pixel_label_text(boxes: np.ndarray, points: np.ndarray, flags: np.ndarray, width: int, height: int) -> str:
    """Rows of a label file, class 0.

    Args:
        boxes: (P, 4) x1, y1, x2, y2 in pixels; cut at the image's edge.
        points: (P, K, 2) pixels.
        flags: (P, K); points of flag 0 become `0 0 0`.
        width: of the image.
        height: of the image.
    """
    size = np.array([width, height], float)
    low, high = np.clip(boxes[:, :2] / size, 0, 1), np.clip(boxes[:, 2:] / size, 0, 1)
    keypoints = np.concatenate([points / size, flags[..., None]], -1).reshape(len(boxes), 3 * points.shape[1])
    return label_text(np.concatenate([np.zeros((len(boxes), 1)), (low + high) / 2, high - low, keypoints], 1))


def write_card(
    target: Target,
    names: Sequence[str],
    sigmas: np.ndarray,
    flip: Sequence[int] | None,
    pairs: Sequence[tuple[int, int]],
) -> Path:
    """`data.yaml` of a new set, with the parts that it has.

    Args:
        target: the set.
        names: K keypoint names.
        sigmas: (K,) OKS sigmas.
        flip: K indices, or None where nobody knows the sides: the engine then does not mirror.
        pairs: keypoints to join with a line.
    """
    parts = [part for part in PARTS if (target.root / "images" / part).is_dir()]
    places = {part: f"images/{part}" for part in parts}
    comment = [HEADER]
    for part in ("train", "val"):  # the engine wants both
        if part not in places:
            places[part] = places[parts[0]]
            comment.append(f"{part} has no images of its own: do not measure on it, or name another folder.")
    ordered = {part: places[part] for part in PARTS if part in places}
    text = card_text(ordered, names, flip, sigmas.tolist(), pairs, comment)
    with replacing(target.root / "data.yaml") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return target.root / "data.yaml"


def write_labelled_list(target: Target, card: Card) -> Path:
    """`<name>_autolabel.yaml` and a list beside an existing data YAML: its images that have a label file.

    The others would train as background, though nobody knows that their driver is absent.
    """
    stem = f"{card.file.stem.removesuffix('_autolabel')}_autolabel"
    name = f"{stem}_{target.part}.txt"
    with replacing(target.root / name) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for image in part_images(card, target.part):
            if os.path.isfile(label_of(image)):
                lines.write(f"{list_entry(image, card)}\n")
    file = target.root / f"{stem}.yaml"
    raw = {k: v for k, v in (read_yaml(file) if file.is_file() else card.raw).items() if k != "path"}
    with replacing(file) as temporary:
        text = yaml.safe_dump({**raw, target.part: name}, sort_keys=False, allow_unicode=True)
        temporary.write_text(
            f"# {card.file.name}, of {target.part} the images that have a label\n{text}", encoding="utf-8"
        )
    return file


def write_index(target: Target) -> None:
    """`index.csv` of a new set: where each image comes from, and what the source's index says of it."""
    with (
        replacing(target.root / "index.csv") as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["file", "split", "subject", "name", "source", "frame", "time_s"])
        for part in PARTS:
            base = target.root / REPORTS / part / "progress.db"
            if base.is_file():
                with Journal(base, {}) as journal:
                    table.writerows(_index_row(e, part) for e in journal.entries() if e.state == "labelled")


def _index_row(entry: Entry, part: str) -> list[object]:
    r = entry.record
    cells = [r.get(name) for name in ("subject", "name", "source", "frame", "time_s")]
    return [f"images/{part}/{entry.key}", part, *("" if c is None else c for c in cells)]
