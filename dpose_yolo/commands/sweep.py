"""`dpose sweep`: one or several settings at several values each (paper Table 2)."""

from __future__ import annotations

from typing import Any

from dpose_yolo.study.command import study_command
from dpose_yolo.study.plan import sweep_plan


def main(settings: dict[str, Any]) -> int:
    """Run the study, or with `report=True` only make its tables again; 1 if a training failed."""
    return study_command("sweep", sweep_plan, settings)
