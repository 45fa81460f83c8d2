"""The models that vote: the engine's, exported ones, and peers that need a person's box."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.keypoints import full_names, partners


@dataclass(frozen=True)
class Found:
    """Persons in one view of an image.

    Attributes:
        boxes: (P, 4) x1, y1, x2, y2 in pixels.
        scores: (P,).
        points: (P, K, 3) x, y in pixels and confidence.
    """

    boxes: np.ndarray
    scores: np.ndarray
    points: np.ndarray

    def mirrored(self, width: int, flip: Sequence[int]) -> Found:
        """The same persons in the mirrored image."""
        boxes = self.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [width, 0, width, 0]
        return Found(boxes, self.scores, mirrored_points(self.points, width, flip))


def mirrored_points(points: np.ndarray, width: int, flip: Sequence[int]) -> np.ndarray:
    """(..., K, 3) keypoints of the mirrored image: pixel 0 covers 0..1, so x becomes width - x."""
    result = np.array(points, float)[..., list(flip), :]
    result[..., 0] = width - result[..., 0]
    return result


def flip_of(names: Sequence[str]) -> list[int] | None:
    """For each keypoint the one that it becomes in a mirrored image, told by its name; None for bare numbers."""
    names = full_names(names)
    if all(name.isdigit() for name in names):
        return None
    return [k if partner is None else partner for k, partner in enumerate(partners(names))]


class Teacher:
    """A model that votes: one that finds persons itself, or one that has to be given a box.

    Attributes:
        path: its file.
        names: its K keypoint names.
    """

    path: Path
    names: list[str]

    @property
    def flip(self) -> list[int] | None:
        """See `flip_of`."""
        return flip_of(self.names)


class Finder(Teacher, ABC):
    """A teacher that finds persons itself."""

    @abstractmethod
    def find(self, views: Sequence[np.ndarray]) -> list[Found]:
        """Persons of each view, (H, W, 3) BGR uint8."""


class Follower(Teacher, ABC):
    """A teacher that looks where others found somebody."""

    @abstractmethod
    def at(self, view: np.ndarray, box: np.ndarray) -> np.ndarray:
        """(K, 3) keypoints of the person in a box."""


class EngineTeacher(Finder):
    """A pose model of the engine, .pt or exported."""

    def __init__(self, path: Path, names: Sequence[str] | None, settings: dict[str, Any]):
        """See `Teacher`; `settings` are those of the engine's prediction."""
        from dpose_yolo.engine.models import engine_model

        self.path, self.settings = path, {k: v for k, v in settings.items() if v is not None}
        self.model = engine_model(path)
        self.batches = path.suffix == ".pt"  # exported files may be made for one picture at a time
        self.grey = self.batches and self.model.model.yaml.get("channels", 3) == 1
        self.names = full_names(list(names)) if names else []
        if not names:
            raise DPoseError(f"{path} does not say how many keypoints it has: give the .pt, or an ONNX file")

    def find(self, views: Sequence[np.ndarray]) -> list[Found]:
        """See the base."""
        from dpose_yolo.engine.checks import engine_errors
        from dpose_yolo.runtime.pictures import with_channels

        plain = [with_channels(v, 1)[..., None] if self.grey else np.ascontiguousarray(v) for v in views]
        results: list[Any] = []
        with engine_errors(f"teacher {self.path} cannot predict"):
            for batch in [plain] if self.batches else [[v] for v in plain]:
                results += self.model.predict(batch, verbose=False, save=False, **self.settings)
        return [self._read(result) for result in results]

    def _read(self, result: Any) -> Found:
        count = len(self.names)
        boxes = result.boxes.xyxy.cpu().numpy().astype(float).reshape(-1, 4)
        scores = result.boxes.conf.cpu().numpy().astype(float)
        if not len(boxes):
            return Found(boxes, scores, np.zeros((0, count, 3)))
        points = result.keypoints.data.cpu().numpy().astype(float)
        if points.shape[-1] == 2:  # no confidence of its own: the person's speaks for all
            points = np.concatenate([points, np.broadcast_to(scores[:, None, None], (*points.shape[:2], 1))], -1)
        return Found(boxes, scores, points)


class SingleTeacher(Finder):
    """A model exported so that its graph ends in one driver (`dpose export`)."""

    def __init__(self, path: Path, conf: float):
        """See the base."""
        from dpose_yolo.runtime import DriverPose

        self.path, self.pose = path, DriverPose(path, conf=conf)
        self.names = list(self.pose.names)

    def find(self, views: Sequence[np.ndarray]) -> list[Found]:
        """See the base."""
        found = []
        for view in views:
            d = self.pose(np.ascontiguousarray(view))
            if d is None:
                found.append(Found(np.zeros((0, 4)), np.zeros(0), np.zeros((0, len(self.names), 3))))
                continue
            points = np.concatenate([d.keypoints, d.scores[:, None]], 1).astype(float)
            found.append(Found(d.box[None].astype(float), np.array([d.score]), points[None]))
        return found


class PeerTeacher(Follower):
    """A model of another project: the person's box goes in, as others found it."""

    def __init__(self, path: Path, peer: Any):
        """See `Teacher`; `peer` is the adapter."""
        self.path, self.peer = path, peer
        self.names = list(peer.keypoint_names)

    def at(self, view: np.ndarray, box: np.ndarray) -> np.ndarray:
        """See the base."""
        return np.asarray(self.peer.predict(np.ascontiguousarray(view), box), float)


def load_teacher(path: str | Path, *, imgsz: Any = None, conf: float = 0.25, device: Any = None) -> Teacher:
    """Load a teacher; what it is, its file tells.

    Args:
        path: .pt, .onnx or .tflite.
        imgsz: input size; None is the one it was trained or exported at.
        conf: least confidence of a person.
        device: of the engine.

    Raises:
        DPoseError: for a file that is missing, or that nothing here reads.
    """
    from dpose_yolo.peers.contestants import PeerContestant, load_contestant
    from dpose_yolo.peers.networks import load_network
    from dpose_yolo.runtime.card import SINGLE

    path = Path(path)
    if path.suffix == ".onnx" and path.is_file() and SINGLE in load_network(path).metadata:
        return SingleTeacher(path, conf)
    contestant = load_contestant(path, {})
    if isinstance(contestant, PeerContestant):
        return PeerTeacher(path, contestant.peer)
    return EngineTeacher(path, contestant.names, {"imgsz": imgsz, "conf": conf, "device": device})
