"""Whether data sets, and a model, label the same: what a fine-tuning needs of its two cabins and its start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ultralytics.data.utils import check_det_dataset

from dpose_yolo.engine import checks
from dpose_yolo.engine.graph import EngineModel
from dpose_yolo.engine.postures import keypoint_names
from dpose_yolo.errors import DPoseError


def read_data(path: Any, outside: bool = False, name: str = "data") -> dict[str, Any]:
    """The engine's data dictionary of a YAML; nothing is downloaded.

    Args:
        path: the YAML.
        outside: take images outside the data folder, too.
        name: of the setting that gives it, for the message.

    Raises:
        DPoseError: for data that cannot be used.
    """
    with checks.engine_errors(f"{name}={path} cannot be used"):
        data = check_det_dataset(path, autodownload=False)
    checks.require_kpt_shape(data, path)
    if not outside:
        checks.refuse_outside(data)
    return data


def judged_split(path: Any, outside: bool = False) -> str:
    """The part that a fine-tuning is judged by: test where the data has one, else val. Arguments as `read_data`."""
    return "test" if read_data(path, outside).get("test") else "val"


def refuse_unlike(
    new: Mapping[str, Any], new_name: str, old: Mapping[str, Any], old_name: str, classes: bool = True
) -> None:
    """Raise `DPoseError` unless two data sets label the same keypoints and `classes`, naming both."""
    for what, a, b in (
        ("keypoints (kpt_shape)", list(new["kpt_shape"]), list(old["kpt_shape"])),
        ("keypoint names", keypoint_names(dict(new)), keypoint_names(dict(old))),
        ("flip_idx", list(new.get("flip_idx") or []), list(old.get("flip_idx") or [])),
        ("classes", list(new["names"].values()), list(old["names"].values())),
        ("channels", new.get("channels", 3), old.get("channels", 3)),
    ):
        if a != b and (classes or what != "classes"):
            pairs = zip(a, b, strict=False) if isinstance(a, list) else ()
            at = next((i for i, (x, y) in enumerate(pairs) if x != y), None)
            told = f"{a} and {b}" if at is None else f"number {at} is {a[at]} and {b[at]}"
            raise DPoseError(f"{new_name} and {old_name} have different {what}: {told}; give data of the same labels")


def refuse_other_labels(
    model: EngineModel, start: str, data: Mapping[str, Any], name: str, classes: bool = True
) -> None:
    """Raise `DPoseError` unless a model answers with the keypoints and `classes` of a data set and takes its images."""
    shape = list(model.model[-1].kpt_shape)
    if shape != list(data["kpt_shape"]):
        raise DPoseError(
            f"{start} gives keypoints of shape {shape}, but {name} has {data['kpt_shape']}: train a model of this data"
        )
    known = keypoint_names({"kpt_shape": shape, "kpt_names": getattr(model, "kpt_names", None)})
    names = keypoint_names(dict(data))
    numbered = any(all(n.isdigit() for n in one) for one in (known, names))
    if known != names and not numbered:
        at = next(i for i, (a, b) in enumerate(zip(known, names, strict=True)) if a != b)
        told = f"number {at} is {known[at]} and {names[at]}"
        raise DPoseError(f"{start} and {name} have different keypoints: {told}; put them in one order")
    channels, given = int(model.yaml.get("channels", 3)), data.get("channels", 3)
    if channels != given:
        raise DPoseError(
            f"{start} takes images of {channels} channels, but {name} has {given}: set channels: {channels} in the data"
        )
    known, names = list(getattr(model, "names", {}).values()), list(data["names"].values()) if classes else ["item"]
    if len(known) != len(names) or (len(known) > 1 and known != names):  # a single class may have any name
        raise DPoseError(
            f"{start} knows the classes {', '.join(known)}, but {name} has {', '.join(names)}: "
            "give data of the same classes, in the same order"
        )
