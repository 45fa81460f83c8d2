"""What is labelled and what was found, in pixels of the original images: the input of every metric.

Arrays only: no engine, no files. Persons and detections carry the index of their image, so an image may have any number
of either, none included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError

OKS_AREA = 0.53  # the engine's share of the box area in OKS, close to the mean segment / box ratio of COCO's persons


@dataclass
class Truth:
    """Labelled persons of N images.

    Attributes:
        files: N image paths.
        sizes: (N, 2) width and height of the images, pixels.
        image: (P,) index of each person's image in `files`.
        keypoints: (P, K, 3) x, y in pixels and visibility: 0 unlabelled, 1 hidden, 2 visible.
        boxes: (P, 4) x1, y1, x2, y2 in pixels.
        names: K keypoint names.
        sigmas: (K,) COCO's OKS sigmas: a keypoint's similarity is exp(-d^2 / (2 area (2 sigma)^2)).

    Raises:
        DPoseError: arrays that do not fit each other, or numbers that are not finite.
    """

    files: list[str]
    sizes: np.ndarray
    image: np.ndarray
    keypoints: np.ndarray
    boxes: np.ndarray
    names: list[str]
    sigmas: np.ndarray

    def __post_init__(self) -> None:
        n, k = len(self.files), len(self.names)
        self.sizes = np.asarray(self.sizes, np.int64).reshape(-1, 2)
        self.image = _indices("labelled persons", self.image, n)
        self.keypoints = _array("labelled keypoints", self.keypoints, (len(self.image), k, 3))
        self.boxes = _array("labelled boxes", self.boxes, (len(self.image), 4))
        self.sigmas = _array("OKS sigmas", self.sigmas, (k,))
        if len(self.sizes) != n:
            raise DPoseError(f"{n} images, but {len(self.sizes)} image sizes: give one width and height for each image")
        if not k or (self.sigmas <= 0).any():
            raise DPoseError("OKS needs at least one keypoint, and sigmas above 0")

    def areas(self, share: float = OKS_AREA) -> np.ndarray:
        """(P,) areas for OKS, pixels^2: `share` of the box area (1 is the whole box).

        Raises:
            DPoseError: a share that is not a number above 0.
        """
        if not (np.isfinite(share) and share > 0):
            raise DPoseError(
                f"oks_area={share} is no share of the box area: give a number above 0, 1 at most as a rule"
            )
        return share * self.box_areas()

    def box_areas(self) -> np.ndarray:
        """(P,) areas of the boxes, pixels^2."""
        return np.prod(np.maximum(self.boxes[:, 2:] - self.boxes[:, :2], 0.0), axis=1)

    def labelled(self) -> np.ndarray:
        """(P, K) bool: keypoints that have a label, hidden ones included."""
        return self.keypoints[..., 2] > 0

    def select(self, keypoints: Sequence[int]) -> Truth:
        """The same persons with some of the keypoints only, in the order given."""
        at = list(keypoints)
        names = [self.names[k] for k in at]
        return replace(self, keypoints=self.keypoints[:, at], names=names, sigmas=self.sigmas[at])

    def coco(self, share: float = OKS_AREA) -> dict[str, Any]:
        """The labels as a COCO keypoint data set; image_id = index + 1, one category with id 1.

        Args:
            share: the OKS area as a share of the box area.
        """
        areas, labelled = self.areas(share), self.labelled().sum(1)
        size = self.boxes[:, 2:] - self.boxes[:, :2]
        images = [
            {"id": i + 1, "file_name": str(file), "width": int(w), "height": int(h)}
            for i, (file, (w, h)) in enumerate(zip(self.files, self.sizes, strict=True))
        ]
        annotations = [
            {
                "id": p + 1,
                "image_id": int(self.image[p]) + 1,
                "category_id": 1,
                "iscrowd": 0,
                "area": float(areas[p]),
                "bbox": [*self.boxes[p, :2].tolist(), *size[p].tolist()],
                "keypoints": self.keypoints[p].ravel().tolist(),
                "num_keypoints": int(labelled[p]),
            }
            for p in range(len(self.image))
        ]
        category = {"id": 1, "name": "person", "keypoints": list(self.names), "skeleton": []}
        return {"info": {}, "images": images, "annotations": annotations, "categories": [category]}


@dataclass
class Detections:
    """Detected persons of the same images, in any order.

    Attributes:
        image: (D,) index into `Truth.files`.
        score: (D,) score of the person.
        boxes: (D, 4) x1, y1, x2, y2 in pixels.
        keypoints: (D, K, 3) x, y in pixels and confidence.

    Raises:
        DPoseError: arrays that do not fit each other, or numbers that are not finite.
    """

    image: np.ndarray
    score: np.ndarray
    boxes: np.ndarray
    keypoints: np.ndarray

    def __post_init__(self) -> None:
        self.image = _indices("detections", self.image, None)
        self.score = _array("scores", self.score, (len(self.image),))
        self.boxes = _array("detected boxes", self.boxes, (len(self.image), 4))
        keypoints = np.asarray(self.keypoints)
        points = keypoints.shape[1] if keypoints.ndim == 3 else 0
        self.keypoints = _array("detected keypoints", keypoints, (len(self.image), points, 3))

    def select(self, keypoints: Sequence[int]) -> Detections:
        """The same detections with some of the keypoints only, in the order given."""
        return replace(self, keypoints=self.keypoints[:, list(keypoints)])

    def coco(self) -> list[dict[str, Any]]:
        """COCO keypoint results, unrounded; image_id = index + 1, category_id = 1."""
        size = self.boxes[:, 2:] - self.boxes[:, :2]
        return [
            {
                "image_id": int(self.image[d]) + 1,
                "category_id": 1,
                "keypoints": self.keypoints[d].ravel().tolist(),
                "score": float(self.score[d]),
                "bbox": [*self.boxes[d, :2].tolist(), *size[d].tolist()],
            }
            for d in range(len(self.image))
        ]


def require_same(truth: Truth, detections: Detections) -> None:
    """Refuse detections of other images or of another keypoint set.

    Raises:
        DPoseError: an image index or a number of keypoints that `truth` does not have.
    """
    if not len(detections.image):
        return
    if detections.image.max() >= len(truth.files):
        raise DPoseError(f"a detection is of image {detections.image.max()}, but there are {len(truth.files)} images")
    found, labelled = detections.keypoints.shape[1], len(truth.names)
    if found != labelled:
        raise DPoseError(f"the model gives {found} keypoints, but {labelled} are labelled: match them by name first")


def _indices(what: str, values: np.ndarray, size: int | None) -> np.ndarray:
    array = np.asarray(values, np.int64).reshape(-1)
    if len(array) and (array.min() < 0 or (size is not None and array.max() >= size)):
        raise DPoseError(f"image indices of {what} run from {array.min()} to {array.max()}, not from 0 to {size} - 1")
    return array


def _array(what: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if not array.size and 0 in shape:
        return np.zeros(shape)
    if array.shape != shape:
        raise DPoseError(f"{what} have shape {array.shape}: expected {shape}")
    if not np.isfinite(array).all():
        raise DPoseError(f"{what} hold numbers that are not finite")
    return array
