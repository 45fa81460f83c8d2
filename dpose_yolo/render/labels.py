"""Labels of real and rendered drivers in shares of the image, so that sets of any image size can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.keypoints import COCO_NAMES

LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = 5, 6, 11, 12


@dataclass
class LabelSet:
    """Labelled persons of N images with COCO's 17 keypoints.

    Attributes:
        keypoints: (P, 17, 3) x, y in shares of the image, and visibility 0 (unlabelled), 1 (hidden), 2 (visible).
        boxes: (P, 4) centre x, y, width, height in shares of the image.
        aspect: (P,) width by height of the person's image.
        image: (P,) index of the person's image.
        files: N image paths; for labels without images, `label 0`, `label 1`, ...
        columns: further columns by name, N words each: `posture`, `camera`.
    """

    keypoints: np.ndarray
    boxes: np.ndarray
    aspect: np.ndarray
    image: np.ndarray
    files: list[str]
    columns: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of persons P."""
        return len(self.keypoints)

    def select(self, rows: np.ndarray) -> LabelSet:
        """Some of the persons, by index or mask; images and columns stay."""
        parts = (self.keypoints[rows], self.boxes[rows], self.aspect[rows], self.image[rows])
        return LabelSet(*parts, self.files, self.columns)

    def labelled(self) -> np.ndarray:
        """(P,) whether a person has a labelled keypoint and a box with an area."""
        return np.asarray((self.keypoints[..., 2] > 0).any(1) & (self.boxes[:, 2:] > 0).all(1))

    def words(self, column: str) -> list[str]:
        """P words of a column, of each person's image; empty where the column is not known."""
        known = self.columns.get(column)
        return [known[i] for i in self.image] if known else []


def from_engine(labels: Sequence[dict[str, Any]], names: Sequence[str], where: str) -> LabelSet:
    """Labels as Ultralytics reads them.

    Args:
        labels: one dict an image with `im_file`, `shape` (height, width), normalised `bboxes` and `keypoints`.
        names: keypoint names of the data.
        where: name of the data in messages.

    Raises:
        DPoseError: for other keypoints than COCO's 17, and where no keypoint is labelled.
    """
    if list(names) != COCO_NAMES:
        raise DPoseError(
            f"{where} has {len(names)} keypoints ({', '.join(names[:3])} ...): rendered drivers have COCO's 17; "
            "bring the labels to COCO's order"
        )
    counts = [len(lb["bboxes"]) for lb in labels]
    keypoints = np.concatenate([np.asarray(lb["keypoints"], np.float64) for lb in labels])
    if keypoints.shape[-1] == 2:
        keypoints = np.concatenate([keypoints, np.full_like(keypoints[..., :1], 2)], -1)
    boxes = np.concatenate([np.asarray(lb["bboxes"], np.float64) for lb in labels])
    image = np.repeat(np.arange(len(labels)), counts)
    aspect = np.array([lb["shape"][1] / lb["shape"][0] for lb in labels])[image]
    found = LabelSet(keypoints, boxes, aspect, image, [str(lb["im_file"]) for lb in labels])
    if not found.labelled().any():
        raise DPoseError(f"no keypoint is labelled in {where}: every visibility flag is 0")
    return found


def from_drawn(drawn: Iterable[tuple[np.ndarray, np.ndarray, dict[str, Any]]], size: tuple[int, int]) -> LabelSet:
    """Labels without images, as `scene.draw_labels` gives them.

    Args:
        drawn: keypoints (17, 3) in pixels with visibility, box (4,) x1, y1, x2, y2 in pixels, and what is known of it.
        size: width and height of the images, pixels.
    """
    keypoints, boxes, about = [], [], []
    for points, box, facts in drawn:
        keypoints.append(points)
        boxes.append(box)
        about.append(facts)
    points = np.array(keypoints, np.float64).reshape(-1, len(COCO_NAMES), 3)
    corners = np.array(boxes, np.float64).reshape(-1, 4) / (*size, *size)
    points[..., :2] /= size
    centred = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
    columns = {name: [str(facts.get(name, "")) for facts in about] for name in ("posture", "camera")}
    files = [f"label {i}" for i in range(len(points))]
    return LabelSet(points, centred, np.full(len(points), size[0] / size[1]), np.arange(len(points)), files, columns)


def joined(sets: Sequence[LabelSet]) -> LabelSet:
    """All persons of several sets, as of images of their own; without columns."""
    parts = [np.concatenate([getattr(one, name) for one in sets]) for name in ("keypoints", "boxes", "aspect")]
    count = len(parts[0])
    return LabelSet(parts[0], parts[1], parts[2], np.arange(count), [f"label {i}" for i in range(count)])


def framing(labels: LabelSet) -> dict[str, np.ndarray]:
    """How persons lie in their images, (P,) each; NaN where the keypoints it needs are unlabelled.

    `width`, `height`: of the box, shares of the image. `x`, `y`: its centre. `lean`: of the line from the middle of the
    hips to the middle of the shoulders, degrees clockwise from upright. `roll`: of the line from right to left
    shoulder, degrees clockwise from the image's x axis, -180 to 180.
    """
    xy = np.where(labels.keypoints[..., 2:] > 0, labels.keypoints[..., :2], np.nan)
    xy = xy * np.stack([labels.aspect, np.ones(len(labels))], -1)[:, None]  # in image heights: angles as in pixels
    torso = (xy[:, LEFT_SHOULDER] + xy[:, RIGHT_SHOULDER] - xy[:, LEFT_HIP] - xy[:, RIGHT_HIP]) / 2
    shoulders = xy[:, LEFT_SHOULDER] - xy[:, RIGHT_SHOULDER]
    x, y, width, height = labels.boxes.T
    return {
        "width": width,
        "height": height,
        "x": x,
        "y": y,
        "lean": np.degrees(np.arctan2(torso[:, 0], -torso[:, 1])),
        "roll": np.degrees(np.arctan2(shoulders[:, 1], shoulders[:, 0])),
    }
