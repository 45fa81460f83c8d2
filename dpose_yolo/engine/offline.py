"""Keeps the engine from reaching for the network where it does so without being asked."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ultralytics
from matplotlib import get_data_path
from ultralytics import utils
from ultralytics.data import utils as data_utils
from ultralytics.engine import trainer as engine_trainer
from ultralytics.utils import checks, events, plotting


def local_font(font: str = "") -> Path:
    """A font that is on the machine, in place of the engine's download of Arial."""
    return Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def _local_amp_check(engine_check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def check(model: Any) -> bool:
        """The engine's mixed-precision check; where it would download a model to check with, it is told it cannot.

        It still knows the graphics cards that fail, and goes on with a warning otherwise, as it does without network.
        """
        if (utils.WEIGHTS_DIR / "yolo26n.pt").is_file():
            return engine_check(model)

        def absent(*args: Any, **kwargs: Any) -> None:
            raise ConnectionError("offline")

        before = ultralytics.YOLO
        ultralytics.YOLO = absent  # imported by name inside the engine's check
        try:
            return engine_check(model)
        finally:
            ultralytics.YOLO = before

    return check


def keep_offline() -> None:
    """Feed the engine local files where it would download unasked, unless the environment says `YOLO_OFFLINE=false`.

    The engine looks at that switch once, when it is first imported, which may have been before `dpose_yolo` set it; so
    what it concluded then is corrected here: no update checks, usage events, crash reports.
    """
    if os.environ.get("YOLO_OFFLINE", "").lower() not in ("1", "true", "yes", "on"):
        return
    if getattr(engine_trainer.check_amp, "_dpose", False):
        return
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "ultralytics" and getattr(module, "ONLINE", False) is True:
            module.ONLINE = False  # type: ignore[attr-defined]
    events.events.enabled = False
    for module in (checks, plotting, data_utils):
        module.check_font = local_font
    check = _local_amp_check(engine_trainer.check_amp)
    check._dpose = True  # type: ignore[attr-defined]
    engine_trainer.check_amp = check
