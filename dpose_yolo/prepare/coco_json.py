"""COCO keypoint JSON: read as data, every field checked before it is believed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dpose_yolo.dataset.card import checked_names
from dpose_yolo.errors import DPoseError
from dpose_yolo.keypoints import COCO_NAMES
from dpose_yolo.prepare.card import KeypointSet, keypoint_set

LARGEST = 2_000_000_000  # bytes; COCO's largest has a quarter of that
MOST_KEYPOINTS = 1000
CROWD = {"0": False, "False": False, "false": False, "None": False, "1": True, "True": True, "true": True}


@dataclass
class Annotated:
    """A JSON file: images and, for each, the persons in it.

    Attributes:
        file: the JSON.
        keypoints: names and limbs of the category.
        images: records of the images, in the order of the file.
        persons: annotations by image id; crowds are left out.
        crowds: ids of images with crowds.
    """

    file: Path
    keypoints: KeypointSet
    images: list[dict[str, Any]]
    persons: dict[Any, list[dict[str, Any]]]
    crowds: set[Any] = field(default_factory=set)


@dataclass
class Counts:
    """Persons and keypoints that could not be taken as they are.

    Attributes:
        boxes: persons whose box lies outside the image.
        points: keypoints outside the image.
        mended: persons without a box of any extent, which is drawn around their keypoints.
        bare: persons without keypoints.
    """

    boxes: int = 0
    points: int = 0
    mended: int = 0
    bare: int = 0


def read(file: Path, category: str | None) -> Annotated:
    """Read a file.

    Raises:
        DPoseError: for what is no COCO keypoint JSON.
    """
    raw = _load(file)
    images, annotations, categories = (_records(raw, name, file) for name in ("images", "annotations", "categories"))
    chosen = _category(categories, category, file)
    keypoints = _keypoints(chosen, file)
    found = Annotated(file, keypoints, images, {})
    known: set[Any] = set()
    for number, image in enumerate(images):
        key = image["id"] = _id(image.get("id"))
        if key is None or key in known:
            raise DPoseError(f"image {number} of {file} has the id {key!r}: every image needs one of its own")
        known.add(key)
    kinds = {_id(category.get("id")) for category in categories}
    for number, annotation in enumerate(annotations):
        key, kind = _id(annotation.get("image_id")), _id(annotation.get("category_id"))
        if key is None or key not in known:
            raise DPoseError(f"annotation {number} of {file} belongs to image {key!r}, which the file does not have")
        if kind not in kinds and not (kind is None and len(categories) == 1):
            raise DPoseError(
                f"annotation {number} of {file} has the category_id {annotation.get('category_id')!r}, which no "
                "category of the file has: correct it, or add the category"
            )
        if kind is not None and kind != _id(chosen.get("id")):
            continue
        crowd = annotation.get("iscrowd", 0)
        if str(crowd) not in CROWD:
            raise DPoseError(f"annotation {number} of {file} has iscrowd {crowd!r}: write 0 or 1")
        if CROWD[str(crowd)]:
            found.crowds.add(key)
            continue
        found.persons.setdefault(key, []).append(annotation)
    return found


def _id(value: Any) -> int | str | None:
    """An id; a whole number may be written as text or with a decimal point."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isdecimal() and value.isascii() and len(value) < 20:
        return int(value)
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _load(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > LARGEST:
            raise DPoseError(f"{file} has more than {LARGEST // 1_000_000} MB: split it")
        raw = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DPoseError(f"{file} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DPoseError(f"{file} is not readable JSON: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(raw, dict):
        raise DPoseError(f"{file} is no COCO JSON: it holds no images, annotations and categories")
    return raw


def _records(raw: dict[str, Any], name: str, file: Path) -> list[dict[str, Any]]:
    records = raw.get(name)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DPoseError(f"{file} is no COCO JSON: {name} must be a list of records")
    return records


def _category(categories: list[dict[str, Any]], wanted: str | None, file: Path) -> dict[str, Any]:
    able = [c for c in categories if isinstance(c.get("keypoints"), list) and c["keypoints"]]
    if wanted is not None:
        able = [c for c in able if c.get("name") == wanted]
    if len(able) == 1:
        return able[0]
    names = ", ".join(repr(c.get("name")) for c in able[:10])
    if able:
        raise DPoseError(f"{file} has several categories with keypoints ({names}): name one with category=")
    if wanted is None and len(categories) == 1:  # a file of one class whose keypoints are COCO's, unnamed
        return {**categories[0], "keypoints": list(COCO_NAMES)}
    what = f"{wanted!r}" if wanted is not None else "any name"
    raise DPoseError(f"{file} has no category of {what} with `keypoints`: these name the keypoints of a person")


def _keypoints(category: dict[str, Any], file: Path) -> KeypointSet:
    names = category["keypoints"]
    if len(names) > MOST_KEYPOINTS or not all(isinstance(n, str) and n for n in names) or len(set(names)) < len(names):
        raise DPoseError(f"the keypoints of {file} must be at most {MOST_KEYPOINTS} different names")
    checked_names(names, len(names), file)
    if list(names) == COCO_NAMES:
        return keypoint_set(names, None)
    skeleton = category.get("skeleton")
    if not skeleton:
        return keypoint_set(names, None)
    pairs: list[Any] = skeleton if isinstance(skeleton, list) else [None]
    for pair in pairs:
        if not (
            isinstance(pair, list) and len(pair) == 2 and all(type(k) is int and 1 <= k <= len(names) for k in pair)
        ):
            raise DPoseError(f"the skeleton of {file} has the entry {pair}: pairs of numbers from 1 to {len(names)}")
    return keypoint_set(names, [(a - 1, b - 1) for a, b in pairs])


def rows(
    persons: list[dict[str, Any]], size: tuple[float, float], count: int, where: str, counts: Counts
) -> np.ndarray:
    """Label rows of the persons of an image.

    Boxes are cut at the edge of the image; one without extent is drawn around the keypoints. A keypoint outside
    the image becomes unlabelled. A person without keypoints has its box only.

    Args:
        persons: annotations.
        size: (width, height) pixels.
        count: keypoints of a person, K.
        where: names the image in errors.
        counts: is told of boxes and points that were lost.

    Returns:
        (P, 5 + 3K) class, box centre and size, keypoints; shares of the image.

    Raises:
        DPoseError: for boxes and keypoints that are not numbers of the right count, and a person of whom neither tells
            where it is.
    """
    width, height = size
    found = []
    for person in persons:
        box = _numbers(person.get("bbox") or [0] * 4, 4, f"bbox of {where}")
        given = person.get("keypoints") or [0] * (3 * count)
        points = _numbers(given, 3 * count, f"keypoints of {where}").reshape(count, 3)
        flags = points[:, 2]
        if not np.isin(flags, (0, 1, 2)).all():
            raise DPoseError(f"keypoints of {where} have a flag other than 0, 1 and 2")
        if (box[2:] <= 0).any():
            if not (flags > 0).any() or not (np.ptp(points[flags > 0, :2], axis=0) > 0).all():
                raise DPoseError(f"bbox of {where} has no extent, and no keypoints tell where the person is")
            low, high = points[flags > 0, :2].min(0), points[flags > 0, :2].max(0)
            box = np.concatenate([low, high - low])
            counts.mended += 1
        left, top = np.clip(box[:2], 0, (width, height))
        right, bottom = np.clip(box[:2] + box[2:], 0, (width, height))
        if right - left <= 0 or bottom - top <= 0:
            counts.boxes += 1
            continue
        counts.bare += not (flags > 0).any()
        outside = (flags > 0) & ~((points[:, :2] >= 0) & (points[:, :2] <= (width, height))).all(1)
        counts.points += int(outside.sum())
        points[outside] = 0
        points[:, :2] /= (width, height)
        centre = ((left + right) / 2 / width, (top + bottom) / 2 / height)
        found.append([0, *centre, (right - left) / width, (bottom - top) / height, *points.ravel()])
    return np.array(found) if found else np.zeros((0, 5 + 3 * count))


def _numbers(values: Any, count: int, where: str) -> np.ndarray:
    whole = isinstance(values, list) and len(values) == count
    if not whole or not all(type(v) in (int, float) and math.isfinite(v) and abs(v) < 1e9 for v in values):
        raise DPoseError(f"{where} must be {count} numbers")
    return np.array(values, np.float64)


def size_of(image: dict[str, Any]) -> tuple[int, int] | None:
    """Width and height that a record gives, or None."""
    width, height = image.get("width"), image.get("height")
    if type(width) is int and type(height) is int and 0 < width < 10**6 and 0 < height < 10**6:
        return width, height
    return None
