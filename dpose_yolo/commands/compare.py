"""`dpose compare`: several models, and peers of other projects, in one table (paper Table 3)."""

from __future__ import annotations

from typing import Any

from dpose_yolo.commands.common import leave_none, output_folder, refuse_foreign
from dpose_yolo.commands.usage import require, whole
from dpose_yolo.errors import DPoseError

OWN = ("models", "data", "split", "keypoints", "box_factor", "rounds", "project", "name", "exist_ok")
MEASURE = ("skip_bad", "outside", "names", "mixture", "oks_area", "bootstrap")
ENGINE = ("imgsz", "batch", "device", "workers", "conf", "iou", "max_det", "quantize")


def main(settings: dict[str, Any]) -> None:
    """Evaluate and time the models; write table, figures and plot."""
    refuse_foreign(settings, (*OWN, *MEASURE, *ENGINE), "compare")
    paths = [str(path) for path in settings.get("models") or []]
    if not paths:
        raise DPoseError("dpose compare needs models: dpose compare a.pt b.onnx movenet_lightning.onnx data=...")
    data = require(settings, "data", "compare")
    keypoints = settings.get("keypoints", "all")
    if keypoints not in ("all", "common"):
        raise DPoseError(f"keypoints={keypoints} is not allowed: keypoints takes all or common")
    rounds = whole(settings, "rounds", 10) if settings.get("rounds") != 0 else 0
    factor = _factor(settings)
    from dpose_yolo.commands.val import own_settings

    own = own_settings({k: settings[k] for k in MEASURE if k in settings})
    reading = {k: own.pop(k) for k in ("names", "skip_bad", "outside") if k in own}
    own.pop("postures", None)
    from dpose_yolo.evaluation.data import load_part
    from dpose_yolo.peers.compare import compare
    from dpose_yolo.peers.contestants import load_contestant
    from dpose_yolo.report.comparison import print_comparison, save_comparison

    engine = {k: settings[k] for k in ENGINE if k in settings}
    contestants = [load_contestant(path, {"verbose": False, **engine}, factor) for path in paths]
    part = load_part(data, str(settings.get("split", "val")), **reading)
    # Made before the work, so that a place that cannot be written costs nothing; taken away again if the work fails.
    folder = output_folder(settings, "compare")
    try:
        comparison = compare(contestants, part, keypoints=keypoints, rounds=rounds, **own)
    except BaseException:
        leave_none(folder)
        raise
    written = save_comparison(comparison, folder)
    print_comparison(comparison.result)
    print(f"\n{', '.join(written)} in {folder}")


def _factor(settings: dict[str, Any]) -> float | None:
    factor = settings.get("box_factor")
    if factor is None:
        return None
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor <= 4:
        raise DPoseError(f"box_factor={factor} is not allowed: give a number from 1 (the box itself) to 4")
    return float(factor)
