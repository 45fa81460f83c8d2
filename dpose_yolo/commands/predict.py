"""`dpose predict`: ONNX models in the light runtime, all others in the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpose_yolo.commands.common import refuse_non_engine
from dpose_yolo.commands.usage import require
from dpose_yolo.engine.models import engine_model
from dpose_yolo.errors import DPoseError
from dpose_yolo.folders import absolute_project


def main(settings: dict[str, Any]) -> int | None:
    """Predict, and count frames and drivers."""
    path = require(settings, "model", "predict")
    source = require(settings, "source", "predict")
    if Path(str(path)).suffix.lower() == ".onnx":
        from dpose_yolo.commands.predict_onnx import main as predict_onnx

        return predict_onnx(settings)
    refuse_non_engine(settings, "predict")
    camera = isinstance(source, str) and (source.isdecimal() or "://" in source)
    if isinstance(source, str) and not camera and "*" not in source and not Path(source).exists():
        raise DPoseError(f"no image, folder or video {source}: set source= to a path that exists, or a camera number")
    settings = absolute_project({"name": "predict", "save": True, "rect": False, **settings, "stream": True})
    model = engine_model(path)
    frames = found = 0
    folder = None
    from dpose_yolo.engine.checks import engine_errors

    with engine_errors(f"source={source} cannot be predicted"):
        for result in model.predict(**{k: v for k, v in settings.items() if k != "model"}):
            frames += 1
            found += bool(len(result))
            folder = result.save_dir
    print(f"\n{frames} frames, a driver in {found}" + (f"; drawn in {folder}" if settings["save"] else ""))
    return None
