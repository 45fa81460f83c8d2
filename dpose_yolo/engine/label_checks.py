"""Labels that the engine would silently leave out, or from which nothing can be learned; told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ultralytics.data.utils import IMG_FORMATS, img2label_paths

from dpose_yolo.dataset.kinds import KINDS
from dpose_yolo.dataset.labels import read_label
from dpose_yolo.engine.caches import verify_image_label
from dpose_yolo.engine.words import one_line
from dpose_yolo.errors import DPoseError


def unusable_files(dataset: Any) -> list[tuple[Path, str]]:
    """Images that the engine silently left out of a dataset, each with the reason.

    Args:
        dataset: the engine's `YOLODataset`; `label_files` names what it looked at, `im_files` what it kept.
    """
    kept = set(img2label_paths(dataset.im_files))
    data = dataset.data
    count, dims = data["kpt_shape"]
    found = []
    for label in (Path(file) for file in dataset.label_files if file not in kept):
        image = _image_of(label)
        result = verify_image_label((str(image), str(label), "", True, len(data["names"]), count, dims, False))
        reason = label_problem(label, count, dims, len(data["names"])) or one_line(
            result[-1].split("corrupt image/label: ")[-1]
        )
        found.append((image, reason))
    return found


def _image_of(label: Path) -> Path:
    """The image a label file belongs to, by the engine's rule: the last folder `labels` stands for `images`."""
    parts = list(label.parent.parts)
    if "labels" in parts:
        parts[len(parts) - 1 - parts[::-1].index("labels")] = "images"
    folder = Path(*parts)
    for candidate in sorted(folder.glob(f"{label.stem}.*")):
        if candidate.suffix[1:].lower() in IMG_FORMATS:
            return candidate
    return folder / label.stem


def label_problem(label: Path, count: int, dims: int, classes: int | None = None) -> str | None:
    """What is wrong with the rows of a label file and how to mend it, or None if they are right.

    Args:
        label: the file.
        count: keypoints that a row should have.
        dims: numbers of a keypoint, 2 or 3.
        classes: number of classes, None where it is not known.
    """
    if not label.is_file():
        return None
    try:
        rows = [line.split() for line in label.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        return f"{label.name} is not a text file"
    for number, row in enumerate(rows, 1):
        if len(row) != 5 + count * dims:
            has, rest = divmod(len(row) - 5, dims)
            what = f"{has} keypoints" if rest == 0 and has >= 0 else f"{len(row)} columns"
            boxes_only = ": it is a box without keypoints, the label of a detection data set" if len(row) == 5 else ""
            return (
                f"line {number} of {label.name} has {what}, expected {count} keypoints (5 + {count} x {dims} columns)"
                f"{boxes_only}"
            )
        try:
            values = [float(v) for v in row]
        except ValueError:
            return f"line {number} of {label.name} holds something that is not a number"
        if dims == 3 and any(v not in (0.0, 1.0, 2.0) for v in values[7::3]):
            return f"line {number} of {label.name} has a visibility flag other than 0, 1 or 2"
        if max(values[1:5]) > 2:  # a little more than 1 is a box that reaches beyond the image
            return (
                f"line {number} of {label.name} has its box at {row[1]}, {row[2]}: these are pixels, write shares of "
                "the image, all x and widths divided by its width, all y and heights by its height"
            )
    found = read_label(str(label), count, dims, classes or 10**9).problems
    return next((f"{label.name} {p.text} ({KINDS[p.kind].mend})" for p in found if KINDS[p.kind].left_out), None)


def refuse_unusable(dataset: Any, part: str) -> None:
    """Raise `DPoseError` if the engine had to leave images out, naming the first of them."""
    bad = unusable_files(dataset)
    if bad:
        image, reason = bad[0]
        what = "1 image" if len(bad) == 1 else f"{len(bad)} images"
        first = "" if len(bad) == 1 else "the first is "
        raise DPoseError(
            f"{what} of the {part} part cannot be used: {first}{image}: {reason}. Mend or remove it, or set "
            "skip_bad=True to go on without"
        )


def require_persons(labels: list[dict[str, Any]], part: str) -> None:
    """Raise `DPoseError` if no image of a data part has a labelled person, and say what its label files are."""
    if not labels or any(len(lb["bboxes"]) for lb in labels):
        return
    files = img2label_paths([lb["im_file"] for lb in labels])
    there = [file for file in files if Path(file).is_file()]
    if there:
        raise DPoseError(
            f"all {len(there)} label files of the {part} part are empty, e.g. {there[0]}: write a line for each "
            "driver, class, box and keypoints (docs/data.md)"
        )
    raise DPoseError(
        f"none of the {len(files)} images of the {part} part has a label: the first is looked for at {files[0]} (the "
        "last folder images of a path becomes labels)"
    )


def require_keypoints(labels: list[dict[str, Any]], part: str) -> int:
    """Highest visibility flag of a data part.

    Raises:
        DPoseError: if every keypoint is unlabelled.
    """
    require_persons(labels, part)
    highest = max((int(lb["keypoints"][..., 2].max()) for lb in labels if lb["keypoints"].size), default=0)
    if highest == 0:
        raise DPoseError(
            f"no keypoint is labelled in the {part} part: every visibility flag is 0, so there is nothing to learn; "
            "check that the labels are in YOLO-pose format with visibility 1 or 2"
        )
    return highest
