"""`dpose info`: one JSON line about a model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dpose_yolo.commands.common import refuse_foreign
from dpose_yolo.commands.usage import whole
from dpose_yolo.errors import DPoseError


def main(settings: dict[str, Any]) -> None:
    """Print `params` and `gflops` by the engine's own counter, before fusing."""
    refuse_foreign(settings, ("model", "imgsz", "channels"), "info")
    os.environ["YOLO_VERBOSE"] = "false"  # the line is for programs: nothing else may stand on standard output
    name = str(settings.get("model", "dpose-125.yaml"))
    imgsz = settings.get("imgsz", 640)
    if not isinstance(imgsz, int) or imgsz < 32 or imgsz % 32:
        raise DPoseError(f"imgsz={imgsz} must be a multiple of 32, e.g. 640")
    from dpose_yolo.engine.compat import require_engine

    require_engine()
    from ultralytics.nn.tasks import PoseModel
    from ultralytics.utils.torch_utils import get_flops, get_num_params

    from dpose_yolo.engine.checks import engine_errors, require_model_file
    from dpose_yolo.engine.explain import load_pose_model
    from dpose_yolo.engine.memory import carried_images

    channels = whole(settings, "channels", 3)
    path = Path(require_model_file(name))
    if path.suffix in (".yaml", ".yml"):
        with engine_errors(f"{name} cannot be built as a pose model"):
            model = PoseModel(str(path), ch=channels, verbose=False)
        carried = 0
    else:
        model = load_pose_model(path)
        carried = carried_images(model)
    head = model.model[-1]
    line = {
        "model": name,
        "imgsz": imgsz,
        "params": get_num_params(model),
        "gflops": round(get_flops(model, imgsz), 3),
        "keypoints": head.kpt_shape[0],
        "strides": [int(s) for s in head.stride],
        "channels": model.yaml.get("channels", channels),
        **({"carried_images": carried} if carried else {}),
    }
    print(json.dumps(line))
