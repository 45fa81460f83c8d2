"""A sheet of the persons a model is worst at: labels and predictions drawn over the pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from matplotlib.figure import Figure

from dpose_yolo.errors import DPoseError
from dpose_yolo.report.drawing import FAINT, INK, SKY, VERMILLION, limbs, plain_texts, replacing
from dpose_yolo.report.pictures import read_picture

if TYPE_CHECKING:
    from dpose_yolo.metrics.samples import Detections, Truth

DPI, COLUMNS = 120, 4
TILE = (400, 300)  # pixels, width and height
# In inches.
CAPTION, HEADER, MARGIN, GAP = 0.34, 0.62, 0.12, 0.08
LABEL_COLOUR, FOUND_COLOUR = SKY, VERMILLION


def save_worst_sheet(
    truth: Truth,
    detections: Detections,
    oks: np.ndarray,
    found: np.ndarray,
    path: str | Path,
    skeleton: Sequence[Sequence[int]] | None = None,
    names: Sequence[str | None] | None = None,
    count: int = 12,
    visible: float = 0.5,
) -> Path:
    """Draw the images with the lowest OKS, the worst first, cut around the person.

    The file shows people out of the data: pictures of real drivers may be personal data, so treat it as the images
    themselves.

    Args:
        truth: the labels.
        detections: of the same images.
        oks: (P,) OKS of each labelled person, NaN for one that does not count.
        found: (P,) the detection that finds each person, -1 for none.
        path: JPEG to write.
        skeleton: pairs of keypoint indices from 0 to join; by default guessed from the names.
        names: N posture names of the images for the captions.
        count: pictures at most, one an image.
        visible: predicted keypoints below this confidence are drawn only where there is a label.

    Returns:
        The path.

    Raises:
        DPoseError: when there is nothing to draw, or the file cannot be written.
    """
    persons = worst_persons(truth.image, oks, count)
    if not len(persons):
        raise DPoseError("no labelled person to draw")
    pairs = limbs(truth.names, skeleton)
    columns = min(COLUMNS, len(persons))
    rows = math.ceil(len(persons) / columns)
    wide, high = TILE[0] / DPI, TILE[1] / DPI
    page_w = 2 * MARGIN + columns * (wide + GAP) - GAP
    page_h = HEADER + rows * (high + CAPTION) + MARGIN
    figure = Figure(figsize=(page_w, page_h))
    figure.text(MARGIN / page_w, 1 - 0.24 / page_h, "Lowest OKS", size=13, weight="bold", color=INK, va="center")
    for at, word, colour in ((0.0, "● label", LABEL_COLOUR), (0.65, "● prediction", FOUND_COLOUR)):
        figure.text((MARGIN + at) / page_w, 1 - 0.47 / page_h, word, size=9, color=colour, va="center", weight="bold")
    for n, person in enumerate(persons):
        row, column = divmod(n, columns)
        left, top = MARGIN + column * (wide + GAP), page_h - HEADER - row * (high + CAPTION)
        picture = _tile(truth, detections, int(person), int(found[person]), pairs, visible)
        axes = figure.add_axes((left / page_w, (top - high) / page_h, wide / page_w, high / page_h))
        axes.imshow(picture, interpolation="antialiased")
        axes.axis("off")
        line = (top - high - 0.11) / page_h
        score = f"OKS {oks[person]:.2f}" if found[person] >= 0 else "not found"
        figure.text(left / page_w, line, score, size=9, weight="bold", color=INK, va="center")
        image = int(truth.image[person])
        word = (names[image] if names and names[image] else Path(truth.files[image]).name) or ""
        figure.text(
            (left + wide) / page_w, line, _short(word), size=8, color=FAINT, va="center", ha="right", parse_math=False
        )
    with replacing(path) as temporary:
        plain_texts(figure)
        figure.savefig(temporary, dpi=DPI, format="jpg", facecolor="white", pil_kwargs={"quality": 88})
    return Path(path)


def worst_persons(image: np.ndarray, oks: np.ndarray, count: int) -> np.ndarray:
    """Indices of the worst persons, one an image, the lowest OKS first; NaN does not take part."""
    order = np.argsort(oks, kind="stable")
    order = order[~np.isnan(oks[order])]
    _, first = np.unique(image[order], return_index=True)
    return order[np.sort(first)][:count]


def _tile(
    truth: Truth,
    detections: Detections,
    person: int,
    detection: int,
    pairs: Sequence[tuple[int, int]],
    visible: float,
) -> np.ndarray:
    """RGB picture of `TILE` size around a person, with label and prediction."""
    image = read_picture(truth.files[truth.image[person]])
    if image is None:
        return np.full((TILE[1], TILE[0], 3), 235, np.uint8)
    labels = truth.keypoints[person]
    drawn = [(labels[:, :2], labels[:, 2] > 0, LABEL_COLOUR)]
    if detection >= 0:
        points = detections.keypoints[detection]
        drawn.append((points[:, :2], (labels[:, 2] > 0) | (points[:, 2] >= visible), FOUND_COLOUR))
    x, y, zoom = _window(truth.boxes[person], image.shape[1], image.shape[0])
    matrix = np.array([[zoom, 0, -x * zoom], [0, zoom, -y * zoom]])
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    tile = cv2.warpAffine(image, matrix, TILE, flags=method, borderValue=(235, 235, 235))
    for points, shown, colour in drawn:
        _draw_pose(tile, (points - [x, y]) * zoom, shown, pairs, colour)
    return cv2.cvtColor(tile, cv2.COLOR_BGR2RGB)


def _window(box: np.ndarray, width: int, height: int) -> tuple[float, float, float]:
    """Left, top and zoom of a cut of the tile's shape around a box, moved into the picture where it can be."""
    x1, y1, x2, y2 = box
    zoom = min(TILE[0] / max(1.2 * (x2 - x1), 1), TILE[1] / max(1.2 * (y2 - y1), 1))
    zoom = max(zoom, min(TILE[0] / width, TILE[1] / height))  # never smaller than the whole picture
    wide, high = TILE[0] / zoom, TILE[1] / zoom
    x, y = (x1 + x2 - wide) / 2, (y1 + y2 - high) / 2
    x = (width - wide) / 2 if wide >= width else min(max(x, 0), width - wide)
    y = (height - high) / 2 if high >= height else min(max(y, 0), height - high)
    return x, y, zoom


def _draw_pose(
    tile: np.ndarray, points: np.ndarray, shown: np.ndarray, pairs: Sequence[tuple[int, int]], colour: str
) -> None:
    """Limbs and points of a pose, drawn in place; a dark rim keeps them readable on bright pictures."""
    bgr = tuple(int(colour[i : i + 2], 16) for i in (5, 3, 1))
    place = [tuple(round(float(v) * 8) for v in p) for p in np.clip(points, -4000, 4000)]
    for rim in (True, False):
        ink = (20, 20, 20) if rim else bgr
        for a, b in pairs:
            if shown[a] and shown[b]:
                cv2.line(tile, place[a], place[b], ink, 4 if rim else 2, cv2.LINE_AA, shift=3)
        for k in np.flatnonzero(shown):
            cv2.circle(tile, place[k], (5 if rim else 4) * 8, ink, -1, cv2.LINE_AA, shift=3)


def _short(word: str, limit: int = 34) -> str:
    word = word.replace("_", " ")
    return word if len(word) <= limit else "…" + word[-limit + 1 :]
