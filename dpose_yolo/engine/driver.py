"""The driver in a picture by a model that Ultralytics runs: a checkpoint, or an export other than ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from dpose_yolo.engine.checks import engine_errors
from dpose_yolo.engine.models import engine_model
from dpose_yolo.keypoints import names_of
from dpose_yolo.runtime.card import class_names, class_of_driver
from dpose_yolo.runtime.driver import Driver, DriverFinder
from dpose_yolo.runtime.pictures import with_channels


class EnginePose(DriverFinder):
    """A driver-pose model that Ultralytics runs, on square input as models are trained and exported."""

    def __init__(
        self,
        model: str | Path,
        *,
        conf: float = 0.25,
        roi: Sequence[float] | None = None,
        bits: int | None = None,
        driver_class: Any = None,
        **engine: Any,
    ):
        """Load a model.

        Args:
            model: its file or folder.
            conf: a driver less likely than this is none.
            roi: region in which the centre of the driver's box has to lie, x1, y1, x2, y2 as shares of the picture.
            bits: used bits of 16-bit pictures, 8 to 16; None finds them in each, as training does.
            driver_class: name or number of the driver's class, see `class_of_driver`.
            **engine: settings of Ultralytics' prediction: `imgsz`, `device`, ...

        Raises:
            DPoseError: for a file that is no pose model, or a setting that is not allowed.
        """
        super().__init__(conf, roi, bits)
        self.path = model
        self.model = engine_model(model)
        checkpoint = isinstance(self.model.model, nn.Module)
        self.grey = checkpoint and self.model.model.yaml.get("channels", 3) == 1
        self.settings = {"rect": False, "verbose": False, "save": False, "conf": max(float(conf), 1e-6), **engine}
        blank = self._results(np.zeros((64, 64, 3), np.uint8))
        self.settings["classes"] = [class_of_driver(class_names(blank.names), driver_class, model)]
        network = self.model.model if checkpoint else self.model.predictor.model
        self.names = names_of(getattr(network, "kpt_names", None), blank.keypoints.data.shape[1])

    def _results(self, picture: np.ndarray) -> Any:
        picture = with_channels(picture, 1)[..., None] if self.grey else with_channels(picture, 3)
        with engine_errors(f"{self.path} cannot predict"):
            return self.model.predict(picture, **self.settings)[0]

    def _find(self, picture: np.ndarray) -> Driver | None:
        """See the base."""
        found = self._results(picture)
        for name, step in (("prepare", "preprocess"), ("network", "inference"), ("read", "postprocess")):
            self.seconds[name] += (found.speed[step] or 0) / 1000
        boxes, scores = found.boxes.xyxy.cpu().numpy(), found.boxes.conf.cpu().numpy()
        if self.roi is not None:
            height, width = picture.shape[:2]
            centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / (width, height)
            inside = ((centres >= self.roi[:2]) & (centres <= self.roi[2:])).all(1)
            scores = np.where(inside, scores, -1)
        if not len(scores) or not scores.max() > self.conf:
            return None
        best = int(scores.argmax())
        score, points = float(scores[best]), found.keypoints.data[best].cpu().numpy()
        sure = points[:, 2] if points.shape[1] == 3 else np.full(len(points), score)
        return Driver(boxes[best].astype(np.float32), points[:, :2].astype(np.float32), sure.astype(np.float32), score)
