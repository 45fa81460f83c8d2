"""What a PyTorch model and its exports answer to the same picture, brought into one form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from ultralytics.utils.nms import non_max_suppression

from dpose_yolo.engine.explain import load_pose_model
from dpose_yolo.evaluation.predict import MAX_DETECTIONS
from dpose_yolo.runtime import DriverPose
from dpose_yolo.runtime.pictures import Letterbox, Placement, network_input, with_channels

LEAST, IOU = 0.001, 0.7  # confidence and overlap behind AP, those of `dpose val`


@dataclass
class Answer:
    """What a model says about one picture; N candidates or persons, in pixels of the picture, not clipped.

    Attributes:
        scores: (N,).
        centres: (N, 2) of the boxes.
        points: (N, K, D) x, y, and confidence if D is 3.
        persons: (M, 5 + K D) box x1, y1, x2, y2, score and keypoints of the persons behind AP, clipped, falling by
            score.
    """

    scores: np.ndarray
    centres: np.ndarray
    points: np.ndarray
    persons: np.ndarray


@dataclass
class View:
    """One picture as the models see it.

    Attributes:
        picture: (H, W) or (H, W, 3) uint8, with the channels of the model, of the size of the camera's frame where the
            graph was made for one.
        blob: (1, C, h, w) float32 input.
        place: where the picture lies in the input.
        scale: pixels of the original a pixel of `picture`, in x and y.
    """

    picture: np.ndarray
    blob: np.ndarray
    place: Placement
    scale: tuple[float, float]


class Viewer:
    """Prepares pictures: once, so that both models get the same numbers."""

    def __init__(self, size: Sequence[int], channels: int, frame: tuple[int, int] | None = None, grey: bool = False):
        """See the class.

        Args:
            size: height and width of the input.
            channels: 1 or 3.
            frame: width and height of the camera that a graph was made for, None without.
            grey: the camera is grey, whatever the network's channels.
        """
        self.letterbox, self.channels, self.frame, self.grey = Letterbox((size[0], size[1])), channels, frame, grey

    def __call__(self, picture: np.ndarray) -> View:
        """A BGR picture as the models see it."""
        height, width = picture.shape[:2]
        picture = with_channels(with_channels(picture, 1) if self.grey else picture, self.channels)
        if self.frame:
            picture = cv2.resize(picture, self.frame, interpolation=cv2.INTER_LINEAR)
        canvas, place = self.letterbox(picture)
        blob = np.empty((1, self.channels, *self.letterbox.target), np.float32)
        network_input(canvas, blob)
        return View(picture, blob, place, (width / picture.shape[1], height / picture.shape[0]))


@dataclass(frozen=True)
class Layout:
    """How a model of the engine lays out its answer.

    Attributes:
        rows: persons after a selection in the graph, (1, N, 6 + K D), rather than candidates (1, 4 + classes + K D, N).
        classes: number of them.
        kpt_shape: keypoints and numbers of each.
        nms: the graph holds the suppression too, which the PyTorch model lacks.
        conf: least confidence of the persons behind AP.
        driver: class that the scores of candidates are of, for a graph that ends in one driver; None for any.
    """

    rows: bool
    classes: int
    kpt_shape: tuple[int, int]
    nms: bool = False
    conf: float = LEAST
    driver: int | None = None

    def read(self, output: torch.Tensor, view: View, rows: bool) -> Answer:
        """The answer in a network's output."""
        found = output.detach().float().cpu()
        if rows:
            table = found[0]
            boxes, scores, points = table[:, :4], table[:, 4], table[:, 6:]
            centres = (boxes[:, :2] + boxes[:, 2:]) / 2
            kept = table[scores > self.conf][:MAX_DETECTIONS]
        else:
            table = found[0].T
            of_class = table[:, 4 : 4 + self.classes]
            centres, scores = table[:, :2], of_class.amax(1)
            if self.driver is not None:
                scores = torch.where(of_class[:, self.driver] >= scores, scores, -1.0)
            points = table[:, 4 + self.classes :]
            # a copy: suppression works in place
            kept = non_max_suppression(found.clone(), self.conf, IOU, max_det=MAX_DETECTIONS, nc=self.classes)[0]
        persons = kept.numpy().astype(np.float64)
        persons = np.concatenate([persons[:, :5], persons[:, 6:]], 1)
        place, scale = view.place, np.asarray(view.scale)

        def outside(xy: np.ndarray) -> np.ndarray:
            return (xy - place.corner) / place.gain * scale

        def clipped(xy: np.ndarray) -> np.ndarray:
            return place.back(xy) * scale

        marks = points.numpy().astype(np.float64).reshape(-1, *self.kpt_shape)
        marks[..., :2] = outside(marks[..., :2])
        persons[:, :4] = clipped(persons[:, :4].reshape(-1, 2, 2)).reshape(-1, 4)
        joints = persons[:, 5:].reshape(-1, *self.kpt_shape)  # a view, which writes through
        joints[..., :2] = clipped(joints[..., :2])
        return Answer(scores.numpy().astype(np.float64), outside(centres.numpy().astype(np.float64)), marks, persons)


class Checkpoint:
    """The PyTorch model, unfused, in single precision."""

    def __init__(self, path: str | Path, layout: Layout):
        """Load it; `layout.rows` chooses the head without suppression, where the model has one."""
        self.model = load_pose_model(path).float().eval()
        self.layout, self.rows = layout, layout.rows and not layout.nms
        if getattr(self.model.model[-1], "one2one_cv2", None) is not None:
            self.model.end2end = self.rows

    def __call__(self, view: View) -> Answer:
        """Its answer to a picture."""
        with torch.no_grad():
            output = self.model(torch.from_numpy(view.blob))
        return self.layout.read(_first(output), view, self.rows)


class Exported:
    """An exported model in the runtime of its format, as the engine runs it.

    Attributes:
        note: what to know before the model is run elsewhere, empty as a rule.
    """

    def __init__(self, path: str | Path, layout: Layout, device: Any = "cpu"):
        """Load it."""
        self.layout, self.device, self.note = layout, device, ""
        if str(path).endswith("_openvino_model"):
            self.backend, self.note = _openvino(Path(path))
            return
        from ultralytics.nn.autobackend import AutoBackend

        self.backend = AutoBackend(str(path), device=torch.device(device), verbose=False)

    def __call__(self, view: View) -> Answer:
        """Its answer to a picture."""
        output = self.backend(torch.from_numpy(view.blob).to(self.device))
        return self.layout.read(_first(output), view, self.layout.rows)


def _openvino(folder: Path) -> tuple[Any, str]:
    """An OpenVINO model in single precision, and a word where the plugin would choose another.

    The engine takes the plugin's choice, which on processors with bfloat16 is bfloat16: pixels, not rounding. The
    comparison is about the file.
    """
    import openvino

    core = openvino.Core()
    chosen = str(core.get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name())
    model = core.read_model(next(folder.glob("*.xml")))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": openvino.Type.f32})
    note = "" if chosen == "f32" else (
        f"OpenVINO calculates in {chosen} on this processor unless told otherwise, which moves keypoints: compile with "
        "INFERENCE_PRECISION_HINT=f32 to get these figures"
    )  # fmt: skip
    return lambda blob: torch.from_numpy(compiled(blob.numpy())[0]), note


class Single:
    """A graph that ends in one driver, in the light runtime."""

    def __init__(self, path: str | Path):
        """Load it."""
        self.pose = DriverPose(path, conf=LEAST)

    def __call__(self, view: View) -> Answer:
        """Its answer: one person at most."""
        driver = self.pose(view.picture)
        dims, count = self.pose.card.kpt_shape[1], len(self.pose.names)
        if driver is None:
            nothing = np.zeros((0, count, dims))
            return Answer(np.zeros(0), np.zeros((0, 2)), nothing, np.zeros((0, 5 + count * dims)))
        scale = np.asarray(view.scale)
        points = np.column_stack([driver.keypoints * scale, driver.scores])[:, :dims].astype(np.float64)
        box = (driver.box.reshape(2, 2) * scale).astype(np.float64)
        person = np.concatenate([box.ravel(), [driver.score], points.ravel()])[None]
        return Answer(person[:, 4], box.mean(0)[None], points[None], person)


def _first(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, list | tuple) else output
