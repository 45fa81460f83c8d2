"""How alike a detection and a labelled person are: OKS, box IoU, and which detection finds which person."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dpose_yolo.metrics.samples import OKS_AREA, Detections, Truth, require_same

FOUND_IOU = 0.5  # box IoU from which on a detection finds a person


def object_keypoint_similarity(
    points: np.ndarray, keypoints: np.ndarray, boxes: np.ndarray, areas: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    """COCO's OKS of D detections with P persons, step by step as pycocotools computes it.

        OKS = mean over labelled k of exp(-d_k^2 / (2 area (2 sigma_k)^2))

    For a person without any labelled keypoint d_k is the distance to its box made three times as wide and high, as in
    COCO: what is found there is then left out of account.

    Args:
        points: (D, K, 2 or 3) detected keypoints, pixels.
        keypoints: (P, K, 3) labelled keypoints, pixels and visibility.
        boxes: (P, 4) x1, y1, x2, y2 of the persons.
        areas: (P,) pixels^2, see `Truth.areas`.
        sigmas: (K,).

    Returns:
        (D, P) in 0..1.
    """
    result = np.zeros((len(points), len(keypoints)))
    variances = (sigmas * 2) ** 2
    for p, (labels, box, area) in enumerate(zip(keypoints, boxes, areas, strict=True)):
        on = labels[:, 2] > 0
        if on.any():
            delta = points[:, on, :2] - labels[on, :2]
        else:
            on[:] = True
            size = box[2:] - box[:2]
            low, high = box[:2] - size, box[2:] + size
            delta = np.maximum(0, low - points[..., :2]) + np.maximum(0, points[..., :2] - high)
        e = (delta**2).sum(-1) / variances[on] / (area + np.spacing(1)) / 2
        result[:, p] = np.exp(-e).sum(1) / on.sum()
    return result


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(D, P) intersection over union of boxes (D, 4) and (P, 4), both x1, y1, x2, y2."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=2)
    areas = [np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    return shared / np.maximum(union, np.finfo(float).tiny)


def by_image(image: np.ndarray, score: np.ndarray | None, n_images: int) -> list[np.ndarray]:
    """Rows of each image, by falling score (rows of equal score keep their order, as in COCO).

    Args:
        image: (R,) image index of each row.
        score: (R,) or None, which keeps the given order.
        n_images: number of images N.

    Returns:
        N arrays of row numbers.
    """
    order = np.argsort(image, kind="stable") if score is None else np.lexsort((-score, image))
    return np.split(order, np.cumsum(np.bincount(image, minlength=n_images))[:-1]) if n_images else []


def pairs_by_image(truth: Truth, detections: Detections) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Image, its persons, its detections by falling score; images without either are given, too.

    Raises:
        DPoseError: detections of other images or of other keypoints.
    """
    require_same(truth, detections)
    n = len(truth.files)
    persons = by_image(truth.image, None, n)
    found = by_image(detections.image, detections.score, n)
    yield from zip(range(n), persons, found, strict=True)


def assign_by_box(truth: Truth, detections: Detections, iou: float = FOUND_IOU) -> np.ndarray:
    """Which detection finds which person, judged by the boxes alone, so that wrong keypoints count as wrong.

    In falling score, each detection takes the free person of its image with the highest box IoU of at least `iou`.

    Returns:
        (P,) index of the detection, -1 for a person that is not found.
    """
    result = np.full(len(truth.image), -1)
    for _, persons, found in pairs_by_image(truth, detections):
        if not len(persons) or not len(found):
            continue
        overlap = box_iou(detections.boxes[found], truth.boxes[persons])
        for row in np.flatnonzero((overlap >= iou).any(1)):
            best = overlap[row].argmax()
            if overlap[row, best] >= iou:
                result[persons[best]] = found[row]
                overlap[:, best] = -1.0
    return result


def person_oks(truth: Truth, detections: Detections, oks_area: float = OKS_AREA) -> np.ndarray:
    """OKS of each person with the detection that finds it by its box, to show the worst images.

    Args:
        truth: labelled persons.
        detections: of the same images.
        oks_area: share of the box area that OKS takes as area.

    Returns:
        (P,) 0 for a person that is not found, NaN for one without labelled keypoints.
    """
    index, areas = assign_by_box(truth, detections), truth.areas(oks_area)
    result = np.where(truth.labelled().any(1), 0.0, np.nan)
    for p in np.flatnonzero((index >= 0) & ~np.isnan(result)):
        one = slice(p, p + 1)
        points = detections.keypoints[index[p]][None]
        result[p] = object_keypoint_similarity(
            points, truth.keypoints[one], truth.boxes[one], areas[one], truth.sigmas
        ).item()
    return result
