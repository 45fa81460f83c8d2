"""`dpose ablate`: what balance and attention bring, each alone and together (paper Table 1)."""

from __future__ import annotations

from typing import Any

from dpose_yolo.study.command import RUNNING, report, run_study, study_folder
from dpose_yolo.study.plan import ablate_plan, flag
from dpose_yolo.study.runner import slots


def main(settings: dict[str, Any]) -> int:
    """Run the study, or with `report=True` only make its tables again; 1 if a training failed."""
    study = study_folder(settings, "ablate")
    if flag(settings.get("report", False), "report"):
        report(study)
        return 0
    places = slots(settings.get("parallel"), settings.get("devices"))
    return run_study(ablate_plan({k: v for k, v in settings.items() if k not in RUNNING}), study, places)
