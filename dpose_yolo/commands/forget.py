"""`dpose forget`: a checkpoint without the training images that it carries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpose_yolo.commands.common import refuse_foreign
from dpose_yolo.commands.usage import require


def main(settings: dict[str, Any]) -> None:
    """Take the images off, in place, and say how many there were."""
    refuse_foreign(settings, ("model",), "forget")
    require(settings, "model", "forget")
    from dpose_yolo.engine.compat import require_engine

    require_engine()
    from dpose_yolo.engine.explain import load_pose_model
    from dpose_yolo.engine.memory import forget_images

    path = Path(str(settings["model"]))
    load_pose_model(path)  # refuses what is no checkpoint of a pose model
    found = forget_images(path)
    print(f"{path}: {found} images taken off" if found else f"{path} carries no images: left as it is")
