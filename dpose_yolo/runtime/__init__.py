"""Runs an exported driver-pose model: `DriverPose("best.onnx")(image) -> Driver(box, keypoints, scores)`.

For the computer in the car: needs numpy, OpenCV and onnxruntime, and imports neither torch nor the engine.
"""

from dpose_yolo.runtime.driver import Driver, DriverPose
from dpose_yolo.runtime.frames import Counts, Frame, Source
from dpose_yolo.runtime.smooth import OneEuro
from dpose_yolo.runtime.sources import open_source

__all__ = ["Counts", "Driver", "DriverPose", "Frame", "OneEuro", "Source", "open_source"]
