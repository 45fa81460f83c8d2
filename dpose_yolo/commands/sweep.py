"""`dpose sweep`: one or several settings at several values each (paper Table 2)."""

from __future__ import annotations

from typing import Any

from dpose_yolo.study.command import RUNNING, report, run_study, study_folder
from dpose_yolo.study.plan import flag, sweep_plan
from dpose_yolo.study.runner import slots


def main(settings: dict[str, Any]) -> int:
    """Run the study, or with `report=True` only make its tables again; 1 if a training failed."""
    study = study_folder(settings, "sweep")
    if flag(settings.get("report", False), "report"):
        report(study)
        return 0
    places = slots(settings.get("parallel"), settings.get("devices"))
    return run_study(sweep_plan({k: v for k, v in settings.items() if k not in RUNNING}), study, places)
