"""`dpose val`: how good a model is, by keypoint and by posture, and where it looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dpose_yolo.commands.common import leave_none, output_folder, refuse_non_engine
from dpose_yolo.commands.usage import require, whole
from dpose_yolo.errors import DPoseError
from dpose_yolo.settings import specification

if TYPE_CHECKING:
    from pathlib import Path

    from dpose_yolo.evaluation.evaluate import Evaluation

MIXTURE = ("clusters", "refits", "covariance", "min_labelled", "posture_scale")  # settings of a mixture to be fitted
OWN = (
    *MIXTURE, "skip_bad", "outside", "att_layers", "att_radius",
    "names", "mixture", "oks_area", "bootstrap", "attention", "cam_limit",
)  # fmt: skip


def main(settings: dict[str, Any]) -> None:
    """Measure a model and write figures and plots."""
    path = require(settings, "model", "val")
    data = require(settings, "data", "val")
    refuse_non_engine(settings, "val", OWN)
    own = own_settings(settings)
    plots = settings.get("plots", True)
    if plots not in (True, False, "all"):
        raise DPoseError(f"plots={plots} is not allowed: plots takes True, False or all (the engine's plots too)")
    engine = {k: v for k, v in settings.items() if k not in (*OWN, "model", "data", "split", "plots")}
    from dpose_yolo.evaluation.evaluate import evaluate
    from dpose_yolo.report.evaluation import print_evaluation, save_evaluation

    folder = output_folder(settings, "val")
    try:
        evaluation = evaluate(
            path, data, str(settings.get("split", "val")), folder=folder, plots=plots == "all", **own, **engine
        )
    except BaseException:
        leave_none(folder)
        raise
    written = save_evaluation(evaluation, folder)
    if plots:
        written += save_plots(evaluation, folder)
    print_evaluation(evaluation)
    print(f"\n{', '.join(written)} in {folder}")


def own_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of an evaluation besides the engine's, checked, as `evaluate` takes them; defaults left out.

    Raises:
        DPoseError: for a value that is not allowed.
    """
    spec = specification()
    found: dict[str, Any] = {k: settings[k] for k in ("names", "mixture") if settings.get(k) is not None}
    found |= {
        k: spec[k].check(settings[k]) for k in ("skip_bad", "outside", "att_layers", "att_radius") if k in settings
    }
    found["postures"] = {k: spec[k].check(settings[k]) for k in MIXTURE if k in settings}
    if "oks_area" in settings:
        area = settings["oks_area"]
        if isinstance(area, bool) or not isinstance(area, int | float) or not 0 < area <= 1:
            raise DPoseError(f"oks_area={area} is not allowed: give a share of the box area above 0, 1 at most")
        found["oks_area"] = float(area)
    if "bootstrap" in settings:
        found["bootstrap"] = whole(settings, "bootstrap", 1000) if settings["bootstrap"] not in (0, False) else 0
    if "cam_limit" in settings:
        found["cam_limit"] = whole(settings, "cam_limit", 100)
    if "attention" in settings:
        if not isinstance(settings["attention"], bool):
            raise DPoseError(f"attention={settings['attention']} is not allowed: attention takes True or False")
        found["attention"] = settings["attention"]
    return found


def save_plots(evaluation: Evaluation, folder: Path) -> list[str]:
    """Draw keypoints, postures and the worst images; names of the files. What has nothing to show is left out."""
    from dpose_yolo.metrics.similarity import assign_by_box
    from dpose_yolo.report.evaluation_charts import save_keypoint_chart, save_posture_chart
    from dpose_yolo.report.worst import save_worst_sheet

    part, metrics = evaluation.part, evaluation.metrics
    truth, found = part.truth, assign_by_box(part.truth, evaluation.detections)
    title = f"{metrics['split']} part, {metrics['images']} images, AP {metrics['AP']:.3f}"
    tables = {"by posture cluster": evaluation.postures, "by name": evaluation.names}
    drawn = ["keypoints.png", "worst.jpg"]
    save_keypoint_chart(evaluation.keypoints, folder / "keypoints.png", f"AP by keypoint: {title}")
    if any(t is not None and t["AP"].notna().any() for t in tables.values()):
        save_posture_chart(tables, folder / "postures.png", metrics["AP"], f"AP and posture frequency: {title}")
        drawn.insert(1, "postures.png")
    skeleton = part.data.get("skeleton")
    oks = evaluation.person_oks
    save_worst_sheet(truth, evaluation.detections, oks, found, folder / "worst.jpg", skeleton, part.names)
    return drawn
