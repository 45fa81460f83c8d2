"""Label caches (`labels/*.cache`) as plain arrays in place of the engine's pickles, and how labels get into them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.data import base as engine_base
from ultralytics.data import dataset as engine_dataset
from ultralytics.data import utils as engine_utils
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils import LOGGER

from dpose_yolo.arrays import read_arrays
from dpose_yolo.dataset.kinds import KINDS
from dpose_yolo.dataset.labels import labelled, read_label
from dpose_yolo.errors import NOT_TEXT, DPoseError
from dpose_yolo.folders import is_text
from dpose_yolo.report.drawing import replacing

ABOUT = ("hash", "version", "results", "msgs")
NUMBERS = ("cls", "bboxes", "keypoints")  # of an image's persons, rows of one array each

_engine_verify = engine_utils.verify_image_label


def load_label_cache(path: Path) -> dict[str, Any]:
    """Replace Ultralytics' `load_dataset_cache_file`, which loads any pickle: read arrays and JSON only.

    Args:
        path: the cache.

    Raises:
        Exception: when there is no such file or `save_label_cache` did not write it, told by a warning; the engine then
            reads the labels and makes the cache again.
    """
    try:
        arrays = read_arrays(path)
        about = json.loads(bytes(arrays.pop("about")))
        files, counts = about.pop("files"), arrays["counts"]
        if {*ABOUT} != {*about} or not (len(files) == len(counts) == len(arrays["shapes"])) or (counts < 0).any():
            raise ValueError("parts of it are missing")
        if any(len(arrays[name]) != counts.sum() for name in NUMBERS):
            raise ValueError("it has other numbers of persons than of labels")
        persons = {name: np.split(arrays[name], counts.cumsum()[:-1]) for name in NUMBERS}
        fixed = {"segments": [], "normalized": True, "bbox_format": "xywh"}
        labels = [
            {"im_file": file, "shape": tuple(shape), **{name: persons[name][i] for name in NUMBERS}, **fixed}
            for i, (file, shape) in enumerate(zip(files, arrays["shapes"].tolist(), strict=True))
        ]
        return {"labels": labels, **about, "results": tuple(about["results"])}
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever broken or hostile bytes lead to
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        LOGGER.warning(f"{path} is not a plain label cache ({reason}): it is left aside, the labels are read again")
        raise


def save_label_cache(prefix: str, path: Path, x: dict[str, Any], version: str) -> None:
    """The engine's `save_dataset_cache_file` in one step; a data folder that cannot be written to is no error."""
    x["version"] = version
    labels = x["labels"]
    if not path.parent.is_dir():  # images without any labels: no folder is made for them
        return
    if any(label["segments"] or label["keypoints"] is None for label in labels):  # not of a pose data set
        return
    about = {"files": [str(label["im_file"]) for label in labels], **{name: x[name] for name in ABOUT}}
    arrays = {name: np.concatenate([label[name] for label in labels]) for name in NUMBERS}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    arrays["shapes"] = np.array([label["shape"] for label in labels])
    arrays["counts"] = np.array([len(label["cls"]) for label in labels])
    try:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except DPoseError as error:
        LOGGER.warning(f"{prefix}{error}; the labels will be scanned again next time")
        return
    LOGGER.info(f"{prefix}New cache created: {path}")


def _load_or_scan(self: YOLODataset, cache_path: Path, cache_hash: str) -> tuple[dict[str, Any], bool]:
    """Run Ultralytics' `_load_or_scan_cache` without a cache that names images outside the split."""
    try:
        cache = engine_dataset.load_dataset_cache_file(cache_path)
        if cache["version"] == engine_dataset.DATASET_CACHE_VERSION and cache["hash"] == cache_hash:
            foreign = {label["im_file"] for label in cache["labels"]}.difference(self.im_files)
            if not foreign:
                return cache, True
            LOGGER.warning(
                f"{cache_path} names images that are not of this part, e.g. {min(foreign)}: the labels are read again"
            )
    except Exception:  # missing, or told by the reader
        pass
    return self.cache_labels(cache_path), False


def verify_image_label(args: tuple[Any, ...]) -> list[Any] | tuple[Any, ...]:
    """Run Ultralytics' `verify_image_label`; keypoints without flags (`kpt_shape: [K, 2]`) may be missing.

    The engine refuses labels with negative numbers, and learns the corner from a point at (0, 0). Both are how label
    tools write a missing point, and get the flag 0 here, as in `dpose check`. Names that are not UTF-8 are left out.
    """
    image, file, prefix, keypoint, classes, count, dims, single = args
    if not is_text(image):
        return _unusable(image, prefix, NOT_TEXT)
    for path in (image, file):
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would never end
            return _unusable(image, prefix, f"{path} is no regular file")
    if not keypoint or dims != 2 or not os.path.isfile(file):
        return _engine_verify(args)
    found = list(_engine_verify((image, "", *args[2:])))
    if found[0] is None:  # the image itself is broken
        return found
    label = read_label(file, count, 2, 10**9 if single else classes)
    bad = next((problem for problem in label.problems if KINDS[problem.kind].left_out), None)
    if bad is not None:
        return _unusable(image, prefix, bad.text)
    points = label.rows[:, 5:].reshape(-1, count, 2)
    flags = labelled(points)[..., None]
    keypoints = np.concatenate([points * flags, flags], -1).astype(np.float32)
    there = len(label.rows) > 0
    found[1], found[4] = label.rows[:, :5].astype(np.float32), keypoints
    found[5:8] = 0, int(there), int(not there)
    return found


def _unusable(image: str, prefix: str, reason: str) -> list[Any]:
    """What the engine's `verify_image_label` answers for an image that is left out."""
    return [None] * 5 + [0, 0, 0, 1, f"{prefix}{image}: ignoring corrupt image/label: {reason}"]


def guard_caches() -> None:
    """Make the engine keep its label caches as plain arrays, and read labels by the rules of `dpose check`.

    To be called wherever the engine is about to read a data set; calling it again does no harm.
    """
    for module in (engine_dataset, engine_utils):
        module.load_dataset_cache_file = load_label_cache
        module.save_dataset_cache_file = save_label_cache
        module.verify_image_label = verify_image_label
    YOLODataset._load_or_scan_cache = _load_or_scan
    engine_base.check_file_speeds = lambda files, *_, **__: None  # opens images before they are looked at
