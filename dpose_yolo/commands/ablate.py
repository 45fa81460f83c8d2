"""`dpose ablate`: what balance and attention bring, each alone and together (paper Table 1)."""

from __future__ import annotations

from typing import Any

from dpose_yolo.study.command import study_command
from dpose_yolo.study.plan import ablate_plan


def main(settings: dict[str, Any]) -> int:
    """Run the study, or with `report=True` only make its tables again; 1 if a training failed."""
    return study_command("ablate", ablate_plan, settings)
