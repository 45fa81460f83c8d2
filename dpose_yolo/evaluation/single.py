"""Detections of a file that ends in one driver (`dpose export single=True`), by the runtime that cars use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.evaluation.data import EvaluationPart
from dpose_yolo.images import read_image
from dpose_yolo.metrics.samples import Detections
from dpose_yolo.runtime import DriverPose
from dpose_yolo.runtime.card import open_session, read_card

LEAST = 0.001  # confidence behind AP, as the engine's validation has it


def ends_in_one_driver(path: Any) -> bool:
    """Whether a model file is an ONNX graph that ends in one driver; False also for files that cannot be read."""
    file = Path(str(path))
    if file.suffix.lower() != ".onnx" or not file.is_file():
        return False
    try:
        return read_card(open_session(file), file).kind == "single"
    except DPoseError:  # told by whoever takes the file for another kind
        return False


def evaluate_single(
    path: str | Path,
    part: EvaluationPart,
    *,
    keypoints: Sequence[int] | None = None,
    read: Callable[[str], np.ndarray] = read_image,
    **engine: Any,
) -> tuple[Detections, dict[str, Any]]:
    """Run a file that ends in one driver over a data part.

    With one person in every picture AP is that of the plain file as far as its likeliest person goes: what that finds
    besides counts there, and is no more here.

    Args:
        path: the .onnx file.
        part: the labels.
        keypoints: for each of the data's K keypoints the index of the model's, -1 where it has none (its points are
            then 0 with confidence 0); None takes them one by one.
        read: gives the (H, W, 3) BGR picture of a path.
        **engine: settings of a validation: `imgsz` has to be the file's, `device` and `conf` count, others do not.

    Returns:
        The detections in original pixels, clipped to the picture, one an image at most; and the figures that the
        engine gives of other models: `imgsz`, and None for `AP`, `AP50`, `box_AP`, `box_AP50`.

    Raises:
        DPoseError: for a file, setting or picture that cannot be used.
    """
    pose = DriverPose(path, conf=float(engine.get("conf") or LEAST), device=engine.get("device") or "cpu")
    size = max(pose.card.frame or pose.card.size)
    _require_size(path, pose, engine.get("imgsz"))
    count, labelled = pose.card.kpt_shape[0], len(part.truth.names)
    if keypoints is None and count != labelled:
        raise DPoseError(f"the model gives {count} keypoints, but the data has {labelled}: use a model of this data")
    chosen = np.arange(count) if keypoints is None else np.asarray(keypoints)
    image, score, boxes, points = (list[Any]() for _ in range(4))
    for i, file in enumerate(part.truth.files):
        driver = pose(read(file))
        if driver is None:
            continue
        own = np.concatenate([driver.keypoints, driver.scores[:, None]], 1)
        image.append(i)
        score.append(driver.score)
        boxes.append(driver.box)
        points.append(np.concatenate([own, np.zeros_like(own[:1])])[chosen])
    found = Detections(
        np.array(image, np.int64),
        np.array(score, np.float64),
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(points, np.float64).reshape(-1, len(chosen), 3),
    )
    return found, {**dict.fromkeys(("AP", "AP50", "box_AP", "box_AP50")), "imgsz": size}


def _require_size(path: str | Path, pose: DriverPose, asked: Any) -> None:
    """Refuse another input size than the file has: its shapes are fixed."""
    own = pose.card.frame or pose.card.size
    sizes = [asked] if isinstance(asked, int) else list(asked or ())
    if sizes and sizes not in ([max(own)], list(own)):
        raise DPoseError(
            f"imgsz={asked}, but {path} takes {own[1]}x{own[0]}: leave imgsz out, or export it at that size"
        )
