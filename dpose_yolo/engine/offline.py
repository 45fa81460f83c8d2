"""Keeps the engine from reaching for the network where it does so without being asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib import get_data_path
from ultralytics import utils
from ultralytics.data import utils as data_utils
from ultralytics.engine import trainer as engine_trainer
from ultralytics.utils import checks, plotting


def local_font(font: str = "") -> Path:
    """A font that is on the machine, in place of the engine's download of Arial."""
    return Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def _local_amp_check(engine_check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def check(model: Any) -> bool:
        """The engine's mixed-precision check, unless it would first download the model it checks with."""
        on_accelerator = next(model.parameters()).device.type not in ("cpu", "mps")
        if on_accelerator and not (utils.WEIGHTS_DIR / "yolo26n.pt").is_file():
            utils.LOGGER.info(
                "AMP: check skipped, its model is not on this machine (offline); amp=False if losses are NaN"
            )
            return True
        return engine_check(model)

    return check


def keep_offline() -> None:
    """Feed the engine local files where it would download unasked; nothing is changed when it may go online.

    Update checks, usage events and crash reports follow the engine's own switch, `YOLO_OFFLINE`, which `dpose_yolo`
    sets when it is imported.
    """
    if utils.ONLINE or getattr(engine_trainer.check_amp, "_dpose", False):
        return
    for module in (checks, plotting, data_utils):
        module.check_font = local_font
    check = _local_amp_check(engine_trainer.check_amp)
    check._dpose = True  # type: ignore[attr-defined]
    engine_trainer.check_amp = check
