"""dpose_yolo: light driver-pose models with posture-balanced sampling and keypoint attention (the DPOSE paper).

Cabin images are personal data, so the engine and ONNX Runtime are kept offline unless the environment says
`YOLO_OFFLINE=false`.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

try:
    Path.home()
except RuntimeError:  # a user whom the system does not know, as in containers; Ultralytics and others need a home
    os.environ["HOME"] = os.sep

# Read by the engine when it is first imported: no update check, no usage events, no downloads.
os.environ.setdefault("YOLO_OFFLINE", "true")
# Also read there: with network, too, the engine installs no package on its own.
os.environ.setdefault("YOLO_AUTOINSTALL", "false")
if os.environ["YOLO_OFFLINE"].lower() in ("1", "true", "yes", "on"):
    # ONNX Runtime sends usage events to its maker, from 1.29 on Linux too. Its function to switch them off does not
    # stop that (measured with 1.32); this does, where it is set before the runtime is first imported.
    if "onnxruntime" in sys.modules and "ORT_DISABLE_TELEMETRY" not in os.environ:
        warnings.warn(
            "onnxruntime was imported before dpose_yolo, so its usage events stay on: import dpose_yolo first, or set "
            "ORT_DISABLE_TELEMETRY=1 in the environment",
            stacklevel=2,
        )
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Read by the engine too: a checkpoint is a pickle, of which only known layers are built (docs/reliability.md).
os.environ.setdefault("ULTRALYTICS_SAFE_LOAD", "true")

# The engine writes a 1 there when it is imported, which then looks like the user's own (see `engine.threads`).
_ASKED_THREADS = None if "ultralytics" in sys.modules else os.environ.get("OMP_NUM_THREADS")

if TYPE_CHECKING:
    from dpose_yolo.engine.trainer import DPoseTrainer
    from dpose_yolo.errors import DPoseError
    from dpose_yolo.posture.mixture import PostureMixture
    from dpose_yolo.settings import model_file

__all__ = ["DPoseError", "DPoseTrainer", "PostureMixture", "__version__", "model_file"]

_WHERE = {
    "DPoseError": "dpose_yolo.errors",
    "DPoseTrainer": "dpose_yolo.engine.trainer",
    "PostureMixture": "dpose_yolo.posture.mixture",
    "model_file": "dpose_yolo.settings",
}


def __getattr__(name: str) -> Any:
    """Import the public names when first used: `import dpose_yolo` alone must not load torch."""
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'dpose_yolo' has no attribute {name!r}")
