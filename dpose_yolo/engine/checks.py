"""Checks of the user's data before anything is trained, told in one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ultralytics.data.utils import IMG_FORMATS, img2label_paths, verify_image_label

from dpose_yolo.errors import DPoseError


def one_line(error: BaseException | str) -> str:
    """The text of an error without line breaks and engine decorations."""
    text = " ".join(str(error).replace("❌", "").split())
    return text.removesuffix(".")


def unusable_files(dataset: Any) -> list[tuple[Path, str]]:
    """Images that the engine silently left out of a dataset, each with the reason.

    Args:
        dataset: the engine's `YOLODataset`; `label_files` names what it looked at, `im_files` what it kept.
    """
    kept = set(img2label_paths(dataset.im_files))
    data = dataset.data
    count, dims = data["kpt_shape"]
    found = []
    for label in map(Path, dataset.label_files):
        if str(label) in kept:
            continue
        image = _image_of(label)
        result = verify_image_label((str(image), str(label), "", True, len(data["names"]), count, dims, False))
        reason = _label_problem(label, count, dims) or one_line(result[-1].split("corrupt image/label: ")[-1])
        found.append((image, reason))
    return found


def _image_of(label: Path) -> Path:
    """The image a label file belongs to, by the engine's rule (labels -> images)."""
    folder = Path(str(label.parent)[::-1].replace("labels"[::-1], "images"[::-1], 1)[::-1])
    for candidate in sorted(folder.glob(f"{label.stem}.*")):
        if candidate.suffix[1:].lower() in IMG_FORMATS:
            return candidate
    return folder / label.stem


def _label_problem(label: Path, count: int, dims: int) -> str | None:
    """What is wrong with the rows of a label file, or None if their form is right."""
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
            return (
                f"line {number} of {label.name} has {what}, expected {count} keypoints (5 + {count} x {dims} columns)"
            )
        try:
            values = [float(v) for v in row]
        except ValueError:
            return f"line {number} of {label.name} holds something that is not a number"
        if dims == 3 and any(v not in (0.0, 1.0, 2.0) for v in values[7::3]):
            return f"line {number} of {label.name} has a visibility flag other than 0, 1 or 2"
    return None


def refuse_unusable(dataset: Any, part: str) -> None:
    """Raise `DPoseError` if the engine had to leave images out, naming the first of them."""
    bad = unusable_files(dataset)
    if bad:
        image, reason = bad[0]
        what = "1 image" if len(bad) == 1 else f"{len(bad)} images, the first"
        raise DPoseError(
            f"{what} of the {part} part cannot be used: {image}: {reason}. Mend or remove it, or set skip_bad=True to "
            "go on without"
        )


def require_data_file(data: Any) -> None:
    """Raise `DPoseError` unless `data` names a file (or folder) that exists; nothing is downloaded."""
    if not data:
        raise DPoseError("no data given: set data= to a data YAML, e.g. data=data/cabin_mini.yaml")
    if not isinstance(data, str | Path):
        raise DPoseError(f"data={data!r} is not a path: set data= to one data YAML")
    if not Path(data).exists():
        raise DPoseError(f"no data file {data}: set data= to the path of a data YAML")


def require_keypoints(labels: list[dict[str, Any]], part: str) -> int:
    """Highest visibility flag of a data part.

    Raises:
        DPoseError: if every keypoint is unlabelled.
    """
    highest = max((int(lb["keypoints"][..., 2].max()) for lb in labels if lb["keypoints"].size), default=0)
    if highest == 0:
        raise DPoseError(
            f"no keypoint is labelled in the {part} part: every visibility flag is 0, so there is nothing to learn; "
            "check that the labels are in YOLO-pose format with visibility 1 or 2"
        )
    return highest
