"""The proof of an export: it answers to real pictures as the PyTorch model does, in keypoints, confidences and AP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dpose_yolo.evaluation.data import EvaluationPart
from dpose_yolo.export.answers import LEAST, Answer, View
from dpose_yolo.export.formats import Precision
from dpose_yolo.images import read_image
from dpose_yolo.metrics.coco import coco_metrics
from dpose_yolo.metrics.samples import Detections, Truth

LEAST_AP = 0.05  # of PyTorch, where AP alone is judged: a model that finds nothing has nothing to lose
SURE = 0.25  # candidates from this confidence on are compared, and always the likeliest one
Model = Callable[[View], Answer]
Some = tuple[np.ndarray, np.ndarray]  # (N,) scores and (N, K, D) keypoints


@dataclass
class Differences:
    """What was found on the pictures.

    Attributes:
        pixels: distances between the two models' places of a keypoint, pixels of the picture.
        sure: differences of keypoint confidences.
        score: differences of box confidences.
        worst: picture with the largest distance.
        lost: pictures where only one of the two found a driver, or where numbers are not finite.
    """

    pixels: list[np.ndarray] = field(default_factory=list)
    sure: list[np.ndarray] = field(default_factory=list)
    score: list[np.ndarray] = field(default_factory=list)
    worst: str = ""
    lost: list[str] = field(default_factory=list)
    _most: float = -1.0

    def add(self, name: str, there: Some, here: Some) -> None:
        """Note scores and keypoints of the same candidates by both models."""
        if not all(np.isfinite(v).all() for v in here):
            self.lost.append(name)
            return
        far = np.hypot(*np.moveaxis(there[1][..., :2] - here[1][..., :2], -1, 0)).ravel()
        self.pixels.append(far)
        self.sure.append(np.abs(there[1][..., 2:] - here[1][..., 2:]).ravel())
        self.score.append(np.abs(there[0] - here[0]))
        if len(far) and far.max() > self._most:
            self._most, self.worst = float(far.max()), name


def compare(
    reference: Model,
    exported: Model,
    viewer: Callable[[np.ndarray], View],
    part: EvaluationPart,
    precision: Precision,
    *,
    limit: int = 200,
    end: str = "candidates",
    roi: Sequence[float] | None = None,
    read: Callable[[str], np.ndarray] = read_image,
) -> dict[str, Any]:
    """Both models on the same pictures.

    Args:
        reference: the PyTorch model.
        exported: the other one.
        viewer: prepares a picture.
        part: labels.
        precision: of the exported model, with what is asked of it.
        limit: pictures at most, drawn evenly.
        end: what the exported graph ends in: `candidates`, which are compared one by one, `persons` after a selection,
            or `single`, the one driver, who has to be the reference's likeliest candidate.
        roi: region in which that driver's centre has to lie, shares of the picture.
        read: gives the (H, W, 3) BGR picture of a path.

    Returns:
        Figures, limits and verdict, ready for JSON.

    Raises:
        DPoseError: for a picture that cannot be read.
    """
    chosen = evenly(len(part.truth.files), limit)
    found = Differences()
    persons: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for i in chosen:
        name = part.truth.files[i]
        view = viewer(read(name))
        there, here = reference(view), exported(view)
        persons[1].append(here.persons)
        if end == "single":
            inside = _inside(there.centres, roi, part.truth.sizes[i])
            persons[0].append(_compare_single(found, name, there, here, inside, precision.tie, part.truth.sizes[i]))
            continue
        persons[0].append(there.persons)
        if end == "persons":
            _compare_persons(found, name, there, here)
        else:
            _compare_candidates(found, name, there, here)
    truth = subset(part.truth, chosen)
    values = [coco_metrics(truth, _detections(rows, truth))["AP"] for rows in persons]
    return _verdict(found, values, precision, len(chosen))


def evenly(count: int, limit: int) -> list[int]:
    """At most `limit` of `count` indices, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int)).tolist()


def subset(truth: Truth, chosen: Sequence[int]) -> Truth:
    """Labels of some of the images, which are numbered anew."""
    number = np.full(len(truth.files), -1)
    number[list(chosen)] = np.arange(len(chosen))
    kept = number[truth.image] >= 0
    files = [truth.files[i] for i in chosen]
    image = number[truth.image[kept]]
    return Truth(
        files, truth.sizes[list(chosen)], image, truth.keypoints[kept], truth.boxes[kept], truth.names, truth.sigmas
    )


def _compare_candidates(found: Differences, name: str, there: Answer, here: Answer) -> None:
    """The same candidates of both, by number."""
    if there.points.shape != here.points.shape:
        found.lost.append(name)
        return
    # Not finite scores are neither above nor below: they have to be compared to be noticed.
    sure = (there.scores > SURE) | ~(here.scores <= SURE)
    sure[there.scores.argmax()] = True
    found.add(name, (there.scores[sure], there.points[sure]), (here.scores[sure], here.points[sure]))


def _compare_persons(found: Differences, name: str, there: Answer, here: Answer) -> None:
    """The persons of both, each of the reference's with the nearest of the export's."""
    dims = there.points.shape[1:]
    one, other = ((rows[:, 4], rows[:, 5:].reshape(-1, *dims)) for rows in (there.persons, here.persons))
    sure = one[0] > SURE
    if not len(other[0]) or not sure.any():
        if sure.any() or (other[0] > SURE).any():
            found.lost.append(name)
        return
    near = _nearest(one[1][sure], other[1])
    found.add(name, (one[0][sure], one[1][sure]), (other[0][near], other[1][near]))


def _compare_single(
    found: Differences, name: str, there: Answer, here: Answer, inside: np.ndarray, tie: float, size: np.ndarray
) -> np.ndarray:
    """The one driver and the likeliest candidate in the region; gives that candidate as persons behind AP."""
    scores = np.where(inside, there.scores, -1.0)
    best = int(scores.argmax())
    if not len(here.scores):
        if scores[best] > LEAST + tie:
            found.lost.append(name)
        return np.zeros((0, there.persons.shape[1]))
    if scores[best] < 0:
        found.lost.append(name)
        return np.zeros((0, there.persons.shape[1]))
    points = there.points.copy()
    points[..., :2] = points[..., :2].clip(0, size)  # as the runtime gives them
    near = np.flatnonzero(scores >= scores[best] - tie)
    same = near[_nearest(here.points, points[near])]
    found.add(name, (there.scores[same], points[same]), (here.scores, here.points))
    # The box is not judged by keypoint AP: the export's stands for both.
    return np.concatenate([here.persons[0, :4], scores[best : best + 1], points[best].ravel()])[None]


def _inside(centres: np.ndarray, roi: Sequence[float] | None, size: np.ndarray) -> np.ndarray:
    """Which candidates have their centre in the region."""
    if roi is None:
        return np.ones(len(centres), bool)
    low, high = np.asarray(roi).reshape(2, 2) * size
    return ((centres >= low) & (centres <= high)).all(1)


def _nearest(points: np.ndarray, among: np.ndarray) -> np.ndarray:
    """For each of (N, K, D) the index of the nearest of (M, K, D), by mean distance of their keypoints."""
    far = np.linalg.norm(points[:, None, :, :2] - among[None, :, :, :2], axis=-1).mean(-1)
    return far.argmin(1)


def _detections(rows: Sequence[np.ndarray], truth: Truth) -> Detections:
    table = np.concatenate(rows)
    table = table[np.isfinite(table).all(1)]
    image = np.repeat(np.arange(len(rows)), [int(np.isfinite(r).all(1).sum()) for r in rows])
    count = len(truth.names)
    points = table[:, 5:].reshape(len(table), count, (table.shape[1] - 5) // count)
    if points.shape[2] == 2:  # a model without keypoint confidences: the person's speaks for all
        points = np.concatenate([points, np.repeat(table[:, 4:5, None], count, 1)], 2)
    return Detections(image, table[:, 4], table[:, :4], points)


def _verdict(found: Differences, values: Sequence[float], precision: Precision, images: int) -> dict[str, Any]:
    pixels, sure, score = (np.concatenate(v) if v else np.zeros(0) for v in (found.pixels, found.sure, found.score))
    most = float(pixels.max()) if len(pixels) else 0.0
    change = values[1] - values[0]
    lost_ap = abs(change) if precision.bits == 32 else -change
    reasons = []
    if found.lost:
        reasons.append(f"only one of the two found a driver in {len(found.lost)} pictures, first {found.lost[0]}")
    if precision.pixels is not None and not most <= precision.pixels:
        reasons.append(f"keypoints differ by {most:.3g} px, {precision.pixels:g} are allowed, most in {found.worst}")
    if not lost_ap <= precision.ap:
        reasons.append(f"AP {values[0]:.4f} became {values[1]:.4f}, {precision.ap:g} is allowed")
    unproven = []
    if precision.pixels is None and not values[0] >= LEAST_AP:
        unproven.append(
            f"PyTorch itself reaches AP {values[0]:.4f} on these pictures, and {precision.bits} bits are judged by AP "
            "alone: nothing is proven, look at imgsz=, data= and split="
        )
    if not len(pixels):
        unproven.append(f"neither model found anybody in {images} pictures: nothing is proven")
    return {
        "bits": precision.bits,
        "images": images,
        "keypoints": len(pixels),
        "pixels_max": most,
        "pixels_p99": float(np.quantile(pixels, 0.99)) if len(pixels) else 0.0,
        "keypoint_confidence_max": float(sure.max()) if len(sure) else 0.0,
        "box_confidence_max": float(score.max()) if len(score) else 0.0,
        "AP_pytorch": values[0],
        "AP_exported": values[1],
        "allowed": {"pixels": precision.pixels, "AP": precision.ap},
        "worst": found.worst,
        "lost": found.lost,
        "passed": not reasons and not unproven,
        "judged": bool(reasons) or not unproven,
        "reasons": reasons + unproven,
    }
