"""Models side by side, whichever project they come from: what they detect, cost, and how long they take."""

from __future__ import annotations

import ast
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from dpose_yolo.engine.explain import load_pose_model, model_keypoint_names
from dpose_yolo.engine.models import engine_model
from dpose_yolo.engine.postures import keypoint_names
from dpose_yolo.errors import DPoseError
from dpose_yolo.evaluation.data import EvaluationPart
from dpose_yolo.evaluation.predict import evaluate_engine_model
from dpose_yolo.evaluation.single import ends_in_one_driver, evaluate_single
from dpose_yolo.hints import missing_model
from dpose_yolo.images import read_image
from dpose_yolo.metrics.samples import Detections
from dpose_yolo.peers.base import Peer
from dpose_yolo.peers.cost import Cost, file_cost
from dpose_yolo.peers.latency import Run
from dpose_yolo.peers.networks import load_network
from dpose_yolo.peers.recognise import adapter_of, load_peer
from dpose_yolo.runtime import DriverPose


class Contestant(ABC):
    """One row of the table.

    Attributes:
        path: the file or folder.
        kind: what sort of model it is.
        factor: enlargement of the box prior, None for a model that finds the person itself.
        names: names of its keypoints, None where it does not tell.
    """

    path: Path
    kind: str
    factor: float | None = None
    names: list[str] | None = None

    @abstractmethod
    def detect(self, part: EvaluationPart, chosen: Sequence[int]) -> Detections:
        """Detections in original pixels, with the data's keypoints (`chosen` among the model's, -1 = 0, 0, 0)."""

    @abstractmethod
    def input_size(self) -> tuple[int, int] | None:
        """Width and height of the network's input; known after `detect`."""

    @abstractmethod
    def cost(self) -> Cost:
        """Weights and operations at the input size."""

    @abstractmethod
    def runner(self) -> Run:
        """A fresh copy for timing: image and box to keypoints, on the CPU."""


class EngineContestant(Contestant):
    """A pose model of the engine, as a checkpoint or exported."""

    def __init__(self, path: str | Path, names: list[str] | None, settings: dict[str, Any]):
        """See `Contestant`; `settings` are those of the engine's validation."""
        self.path, self.names, self.settings = Path(path), names, settings
        self.kind = "YOLO" if self.path.suffix == ".pt" else f"YOLO, {self.path.suffix[1:] or 'folder'}"
        self.figures: dict[str, float] = {}

    def detect(self, part: EvaluationPart, chosen: Sequence[int]) -> Detections:
        """See `Contestant`."""
        straight = list(chosen) == list(range(len(self.names or chosen)))
        detections, self.figures = evaluate_engine_model(
            self.path, part=part, keypoints=None if straight else chosen, **self.settings
        )
        return detections

    def input_size(self) -> tuple[int, int] | None:
        """See `Contestant`; pictures are padded to a square."""
        size = self.figures.get("imgsz")
        return (int(size), int(size)) if size else None

    def cost(self) -> Cost:
        """See `Contestant`; of a checkpoint by the engine's counter, before fusing."""
        size = int(self.figures["imgsz"])
        if self.path.suffix != ".pt":
            return file_cost(self.path, size)
        from ultralytics.utils.torch_utils import get_flops, get_num_params

        model = load_pose_model(self.path)
        return Cost(get_num_params(model), get_flops(model, size) or None)

    def runner(self) -> Run:
        """See `Contestant`."""
        model = engine_model(self.path)
        size = int(self.figures["imgsz"])

        def run(image: np.ndarray, box: np.ndarray) -> Any:
            # Square, as accuracy is measured and operations are counted.
            return model.predict(image, imgsz=size, rect=False, device="cpu", verbose=False, save=False)

        return run


class SingleContestant(Contestant):
    """A file that ends in one driver, run as in the car."""

    def __init__(self, path: str | Path, names: list[str] | None, settings: dict[str, Any]):
        """See `Contestant`; `settings` are those of the engine's validation."""
        self.path, self.names, self.settings = Path(path), names, settings
        self.kind = "one driver, onnx"
        self.size = DriverPose(path).card.size

    def detect(self, part: EvaluationPart, chosen: Sequence[int]) -> Detections:
        """See `Contestant`."""
        settings = {k: v for k, v in self.settings.items() if k != "imgsz"}  # the file's own, as with peers
        return evaluate_single(self.path, part, keypoints=chosen, **settings)[0]

    def input_size(self) -> tuple[int, int] | None:
        """See `Contestant`."""
        return self.size[1], self.size[0]

    def cost(self) -> Cost:
        """See `Contestant`."""
        return file_cost(self.path, max(self.size))

    def runner(self) -> Run:
        """See `Contestant`."""
        pose = DriverPose(self.path, threads=1)
        return lambda image, box: pose(image)


class PeerContestant(Contestant):
    """A model that an adapter reads, with the labelled box as prior."""

    def __init__(self, path: str | Path, factor: float | None = None):
        """See `Contestant`."""
        self.path = Path(path)
        self.peer: Peer = load_peer(path, factor=factor)
        self.kind, self.factor, self.names = self.peer.kind, self.peer.factor, list(self.peer.keypoint_names)

    def detect(self, part: EvaluationPart, chosen: Sequence[int]) -> Detections:
        """See `Contestant`."""
        return peer_detections(self.peer, part, chosen)

    def input_size(self) -> tuple[int, int] | None:
        """See `Contestant`."""
        return self.peer.size

    def cost(self) -> Cost:
        """See `Contestant`."""
        return file_cost(self.path, self.peer.size[0])

    def runner(self) -> Run:
        """See `Contestant`."""
        return load_peer(self.path, threads=1, factor=self.factor).predict


def load_contestant(path: str | Path, settings: dict[str, Any], factor: float | None = None) -> Contestant:
    """Load a model of the engine or of another project, told apart by what is in the file.

    Args:
        path: checkpoint, exported model, or a file that an adapter reads.
        settings: of the engine's validation.
        factor: enlargement of the box prior; None is the adapter's own.

    Raises:
        DPoseError: for a file that is missing, or that nothing here reads.
    """
    path = Path(path)
    if path.suffix in (".yaml", ".yml"):
        raise DPoseError(f"{path} is a model without weights: give a checkpoint, e.g. runs/train/weights/best.pt")
    if not path.exists():
        raise DPoseError(missing_model(path, "give the path of a checkpoint, an exported model or a peer's file"))
    if path.suffix.lower() in (".onnx", ".tflite"):
        network = load_network(path)
        if adapter_of(network) or not _engine_export(path, network):
            return PeerContestant(path, factor)
        kind = SingleContestant if ends_in_one_driver(path) else EngineContestant
        return kind(path, _exported_names(network), settings)
    if path.suffix != ".pt":
        return EngineContestant(path, None, settings)
    return EngineContestant(path, model_keypoint_names(load_pose_model(path)), settings)


def _engine_export(path: Path, network: Any) -> bool:
    """Whether the engine wrote a file: it leaves its metadata in ONNX files, and as a zip archive behind TFLite's."""
    return "kpt_shape" in network.metadata or (path.suffix.lower() == ".tflite" and zipfile.is_zipfile(path))


def _exported_names(network: Any) -> list[str] | None:
    if "kpt_shape" not in network.metadata:
        return None
    told = {k: ast.literal_eval(network.metadata.get(k) or "None") for k in ("kpt_names", "kpt_shape")}
    return keypoint_names(told)


def peer_detections(
    peer: Peer,
    part: EvaluationPart,
    chosen: Sequence[int],
    read: Callable[[str], np.ndarray] = read_image,
) -> Detections:
    """One detection for each labelled person, from its box.

    Its score is the mean confidence of its keypoints; points are clipped to the image, as the engine's are. Persons
    without a labelled keypoint are passed over: they count in no figure.

    Args:
        peer: the model.
        part: labels; their boxes are the prior.
        chosen: for each of the data's keypoints the peer's, -1 where it has none (its points are 0, 0, 0).
        read: gives the (H, W, 3) BGR picture of a path.

    Raises:
        DPoseError: for an image that cannot be read.
    """
    truth = part.truth
    counted = np.flatnonzero(truth.labelled().any(1))
    keypoints = np.zeros((len(counted), len(chosen), 3))
    has = np.flatnonzero(np.asarray(chosen) >= 0)
    file, image = "", np.zeros((1, 1, 3), np.uint8)
    for row, p in enumerate(track(counted, description=peer.kind, transient=True)):
        if truth.files[truth.image[p]] != file:
            file = truth.files[truth.image[p]]
            image = read(file)
        points = peer.predict(image, truth.boxes[p])
        keypoints[row, has] = points[np.asarray(chosen)[has]]
        keypoints[row, :, :2] = keypoints[row, :, :2].clip(0, truth.sizes[truth.image[p]])
    score = keypoints[:, has, 2].mean(1) if len(has) else np.zeros(len(counted))
    return Detections(truth.image[counted], score, truth.boxes[counted], keypoints)
