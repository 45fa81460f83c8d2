"""From a picture to the driver: letterbox, network, the best candidate, back to picture pixels."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.runtime.card import class_of_driver, open_session, read_card
from dpose_yolo.runtime.frames import Frame, Source
from dpose_yolo.runtime.pictures import Letterbox, Placement, network_input, plain_picture, with_channels
from dpose_yolo.runtime.sources import open_source, read_picture

ASPECT = 0.01  # by how much the aspect of a picture may differ from the one a graph was made for


@dataclass(frozen=True)
class Driver:
    """The driver in one picture, in pixels of the picture.

    Attributes:
        box: (4,) x1, y1, x2, y2.
        keypoints: (K, 2) x, y; also of points that are hidden or outside the picture, so look at `scores`.
        scores: (K,) confidence of each keypoint, 0..1; the box's where the model has none.
        score: confidence of the box, 0..1.
    """

    box: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    score: float


class DriverFinder(ABC):
    """A model that finds the driver in a picture. Threads may share one: they take turns.

    Attributes:
        names: its K keypoint names.
        bits: used bits of 16-bit pictures.
        seconds: time spent since the start: `prepare`, `network`, `read`.
        pictures: number of pictures looked at.
    """

    names: Sequence[str]

    def __init__(self, conf: float, roi: Sequence[float] | None, bits: int | None):
        """See `DriverPose`."""
        if isinstance(conf, bool) or not isinstance(conf, int | float) or not 0 <= conf <= 1:
            raise DPoseError(f"conf={conf} is not allowed: give a confidence from 0 to 1")
        if bits is not None and (isinstance(bits, bool) or not isinstance(bits, int) or not 8 <= bits <= 16):
            raise DPoseError(f"bits={bits} is not allowed: give the used bits of 16-bit pictures, 8 to 16")
        self.conf, self.roi, self.bits = conf, check_roi(roi), bits
        self.seconds = dict.fromkeys(("prepare", "network", "read"), 0.0)
        self.pictures = 0
        self._lock = threading.Lock()

    def __call__(self, picture: Any) -> Driver | None:
        """The driver in a picture.

        Args:
            picture: (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA; uint8 or uint16; or the path of one.

        Returns:
            The driver; None where nobody is likelier than `conf`.

        Raises:
            DPoseError: for an empty picture, or one of another shape or type.
        """
        if isinstance(picture, str | Path):
            picture = read_picture(picture)
        with self._lock:
            driver = self._find(plain_picture(picture, self.bits))
            self.pictures += 1
        return driver

    @abstractmethod
    def _find(self, picture: np.ndarray) -> Driver | None:
        """The driver in a plain picture, (H, W) or (H, W, 3) BGR uint8; times go to `seconds`."""

    def stream(self, source: Any, **settings: Any) -> Iterator[tuple[Frame, Driver | None]]:
        """Frames of a source, each with its driver, one at a time.

        Pictures that cannot be used are left out and counted in the source.

        Args:
            source: picture, folder, video, camera number, URL, iterable of arrays, or an opened `Source`, which also
                counts what is broken.
            **settings: as for `open_source`.

        Raises:
            DPoseError: for a source that cannot be opened.
        """
        opened = source if isinstance(source, Source) else open_source(source, **settings)
        for frame in opened:
            try:
                driver = self(frame.image)
            except DPoseError as error:
                opened.refuse(frame, error)
                continue
            yield frame, driver


class DriverPose(DriverFinder):
    """An exported driver-pose model, ready to run.

    The driver is the likeliest person of the driver's class in the picture, or in a region of it: the one that
    non-maximum suppression would keep first, so none is needed.

    Attributes:
        card: what the model says about itself.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        conf: float = 0.25,
        roi: Sequence[float] | None = None,
        bits: int | None = None,
        device: Any = "cpu",
        threads: int | None = None,
        driver_class: Any = None,
    ):
        """Load a model.

        Args:
            model: .onnx file that `dpose export` wrote.
            conf: a driver less likely than this is none.
            roi: region in which the centre of the driver's box has to lie, x1, y1, x2, y2 as shares of the picture.
            bits: used bits of 16-bit pictures, 8 to 16; None finds them in each, as training does.
            device: `cpu`, or a number for an NVIDIA card.
            threads: CPU threads of the network; None leaves it to onnxruntime.
            driver_class: name or number of the driver's class, see `class_of_driver`.

        Raises:
            DPoseError: for a file that is no driver-pose model, or a setting that is not allowed.
        """
        super().__init__(conf, roi, bits)
        self.session = open_session(model, device, threads)
        self.card = card = read_card(self.session, model)
        if self.roi is not None and card.kind == "single":
            raise DPoseError(f"{model} ends in one driver, chosen in the graph: give roi= to `dpose export` instead")
        if driver_class is not None and card.kind == "single":
            raise DPoseError(
                f"{model} ends in one driver, chosen in the graph: give driver_class= to `dpose export` instead"
            )
        self._class = 0 if card.kind == "single" else class_of_driver(card.classes, driver_class, model)
        self.names = card.names
        self._letterbox = Letterbox(card.size)
        self._input = self.session.get_inputs()[0].name
        self._blob = np.empty((1, card.channels, *card.size), np.dtype(card.dtype)) if card.dtype != "uint8" else None

    def _find(self, picture: np.ndarray) -> Driver | None:
        """See the base."""
        start = time.perf_counter()
        blob, place = self._prepare(picture)
        ready = time.perf_counter()
        outputs = self.session.run(None, {self._input: blob})
        done = time.perf_counter()
        driver = self._read([np.asarray(o, np.float32) for o in outputs], place)
        for name, seconds in zip(self.seconds, (ready - start, done - ready, time.perf_counter() - done), strict=True):
            self.seconds[name] += seconds
        return driver

    def _prepare(self, picture: np.ndarray) -> tuple[np.ndarray, Placement]:
        """The network's input, and where the picture lies in what its outputs are measured in."""
        card = self.card
        if card.frame_shape:
            self._check_aspect(picture)
        if card.channels == 1 or self._blob is None:
            picture = with_channels(picture, card.channels)
        if card.frame:  # the letterbox is in the graph, and the outputs are in pixels of the frame
            place = Placement.stretched((picture.shape[0], picture.shape[1]), card.frame)
            if picture.shape[:2] != card.frame:
                picture = cv2.resize(picture, card.frame[::-1], interpolation=cv2.INTER_LINEAR)
            return picture.reshape(1, *card.frame, card.channels), place
        canvas, place = self._letterbox(picture)
        if self._blob is None:
            return canvas.reshape(1, *card.size, card.channels), place
        network_input(canvas, self._blob)
        return self._blob, place

    def _check_aspect(self, picture: np.ndarray) -> None:
        height, width = self.card.frame_shape or (1, 1)
        if abs(picture.shape[1] / picture.shape[0] / (width / height) - 1) > ASPECT:
            raise DPoseError(
                f"{self.card.path} was made for pictures of {width}x{height}, not of {picture.shape[1]}x"
                f"{picture.shape[0]}: export it with frame={picture.shape[1]}x{picture.shape[0]}"
            )

    def _read(self, outputs: list[Any], place: Placement) -> Driver | None:
        """The best candidate among a network's outputs."""
        card = self.card
        if card.kind == "single":
            box, score, points = outputs[0].reshape(4), float(outputs[1].reshape(())), outputs[2]
        else:
            found = outputs[0][0] if card.kind == "anchors" else outputs[0][0].T  # (numbers of a candidate, candidates)
            if not found.shape[1]:
                return None
            scores = self._scores(found)
            if self.roi is not None:
                scores = np.where(self._inside(found, place), scores, np.float32(-1))
            best = int(scores.argmax())
            score, row = float(scores[best]), found[:, best]
            box, points = row[:4], row[-card.kpt_shape[0] * card.kpt_shape[1] :]
        points = points.reshape(card.kpt_shape)
        if not score > self.conf or not all(np.isfinite(part).all() for part in (score, box, points)):
            return None
        if card.kind == "anchors":  # centre and size
            box = np.concatenate([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2])
        sure = points[:, 2] if points.shape[1] == 3 else np.full(len(points), score, np.float32)
        corners = place.back(box.reshape(2, 2)).astype(np.float32).reshape(4)
        return Driver(corners, place.back(points[:, :2]).astype(np.float32), sure.astype(np.float32), score)

    def _scores(self, found: np.ndarray) -> np.ndarray:
        """Score of each candidate as the driver; -1 for those that are likelier of another class."""
        if self.card.kind == "rows":
            own, scores = found[5] == self._class, found[4]
        else:
            of_class = found[4 : 4 + len(self.card.classes)]
            scores = of_class[self._class]
            own = ~(scores < of_class.max(0))  # numbers that are none stay, and are refused
        return np.where(own, scores, np.float32(-1))

    def _inside(self, found: np.ndarray, place: Placement) -> np.ndarray:
        """Which candidates have the centre of their box in the region of interest."""
        corners = np.asarray(self.roi).reshape(2, 2) * place.picture[::-1]
        (left, top), (right, bottom) = place.forward(corners)
        x, y = found[:2] if self.card.kind == "anchors" else (found[:2] + found[2:4]) / 2
        return (x >= left) & (x <= right) & (y >= top) & (y <= bottom)


def check_roi(roi: Any) -> tuple[float, float, float, float] | None:
    """A region of interest as four numbers.

    Args:
        roi: x1, y1, x2, y2 as shares of the picture, as numbers or as text with commas; None for none.

    Raises:
        DPoseError: for anything else.
    """
    if roi is None:
        return None
    try:
        parts = [float(v) for v in (roi.split(",") if isinstance(roi, str) else roi)]
    except (TypeError, ValueError):
        parts = []
    if len(parts) != 4 or not (0 <= parts[0] < parts[2] <= 1 and 0 <= parts[1] < parts[3] <= 1):
        raise DPoseError(f"roi={roi} is not allowed: give x1,y1,x2,y2 as shares of the picture, e.g. roi=0.4,0,1,1")
    return parts[0], parts[1], parts[2], parts[3]
