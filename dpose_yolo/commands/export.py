"""`dpose export`, through the engine's exporters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpose_yolo.commands.common import engine_model, refuse_non_engine
from dpose_yolo.commands.usage import require
from dpose_yolo.errors import DPoseError


def main(settings: dict[str, Any]) -> None:
    """Export a checkpoint and say where the file is."""
    path = require(settings, "model", "export")
    refuse_non_engine(settings, "export")
    if Path(str(path)).suffix != ".pt":
        raise DPoseError(f"model={path} is not a .pt checkpoint: export starts from one")
    settings = {"format": "onnx", **settings}
    model = engine_model(path)
    try:
        written = model.export(**{k: v for k, v in settings.items() if k != "model"})
    except (ImportError, ModuleNotFoundError) as error:
        raise DPoseError(
            f"format={settings['format']} needs a package that is missing ({error}): pip install 'dpose_yolo[export]' "
            "brings what ONNX needs"
        ) from error
    except ValueError as error:
        raise DPoseError(f"export failed: {' '.join(str(error).split())}") from error
    print(f"\nwritten to {written}")
