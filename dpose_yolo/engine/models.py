"""A model of the engine by its file; the engine is loaded only then."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dpose_yolo.engine.compat import require_engine
from dpose_yolo.errors import DPoseError
from dpose_yolo.hints import missing_model, not_a_pose_model
from dpose_yolo.runtime.card import open_session, told_task
from dpose_yolo.settings import model_file


def engine_model(path: Any) -> Any:
    """The engine's `YOLO` object of a model file that exists; nothing is downloaded.

    Raises:
        DPoseError: when the file is missing or not a pose model.
    """
    require_engine()
    shipped = model_file(str(path))
    if shipped is None and not Path(str(path)).exists():
        raise DPoseError(missing_model(path, "give the path of a model, or dpose-125.yaml / dpose-250.yaml"))
    if Path(str(path)).suffix.lower() == ".onnx":
        told = told_task(open_session(path))  # the engine takes any file for what it is asked to be
        if told not in (None, "pose"):  # files of other exporters may not say
            raise DPoseError(not_a_pose_model(path, told))
    from ultralytics import YOLO

    from dpose_yolo.engine.checkpoints import why_unreadable
    from dpose_yolo.engine.ready import ready_engine
    from dpose_yolo.engine.words import one_line

    ready_engine()
    try:  # a full path, since YOLO() removes blanks at the ends
        model = YOLO(os.path.abspath(shipped or path), task="pose")
        task = getattr(getattr(model, "model", None), "task", model.task)
    except DPoseError:
        raise
    except Exception as error:
        raise DPoseError(f"{path} cannot be loaded as a model: {why_unreadable(error) or one_line(error)}") from error
    if task != "pose":
        raise DPoseError(not_a_pose_model(path, task))
    return model
