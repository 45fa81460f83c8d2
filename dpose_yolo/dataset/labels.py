"""Label files, read row by row; what is wrong with one is told, never guessed away."""

from __future__ import annotations

import math
import os
from typing import NamedTuple

import numpy as np

LARGEST_LABEL = 4_000_000  # bytes: ten thousand persons
TOLERANCE = 0.01  # the engine takes coordinates that miss the image by 1 % (ultralytics/data/utils.py)
BOX_TOLERANCE = 0.02  # a box edge this far outside the image, in shares of it, is rounding, not a fault


class Problem(NamedTuple):
    """Something wrong with a label: the kind of finding and a sentence."""

    kind: str
    text: str


class Label(NamedTuple):
    """The sound rows of a label file and what is wrong with the others.

    Attributes:
        rows: (P, 5 + K x dims) class, box centre and size, keypoints; shares of the image.
        problems: in the order of the file.
        state: "missing", "empty" or "found".
    """

    rows: np.ndarray
    problems: list[Problem]
    state: str


def read_label(path: str, count: int, dims: int, classes: int) -> Label:
    """Read a YOLO-pose label file.

    Args:
        path: the file; it may be missing.
        count: keypoints a person has.
        dims: numbers of a keypoint, 2 or 3.
        classes: number of classes.
    """
    none = np.zeros((0, 5 + count * dims))
    if os.path.exists(path) and not os.path.isfile(path):
        return Label(none, [Problem("malformed_label", "no regular file")], "found")
    try:
        if os.path.getsize(path) > LARGEST_LABEL:
            return Label(none, [Problem("malformed_label", f"more than {LARGEST_LABEL // 1_000_000} MB")], "found")
        with open(path, encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return Label(none, [], "missing")
    except UnicodeDecodeError:
        return Label(none, [Problem("malformed_label", "not a text file")], "found")
    except OSError as error:
        return Label(none, [Problem("malformed_label", f"cannot be read: {error.strerror or error}")], "found")
    rows, problems, seen, filled = [], [], set(), False
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        filled = True
        row, problem = _row(words, count, dims, classes)
        if problem is not None:
            problems.append(Problem(problem.kind, f"line {number}: {problem.text}"))
        elif tuple(row) in seen:
            problems.append(Problem("repeated_person", f"line {number} repeats an earlier one"))
        if row and (problem is None or problem.kind in ("box_outside", "point_in_corner")) and tuple(row) not in seen:
            seen.add(tuple(row))
            rows.append(row)
    return Label(np.array(rows) if rows else none, problems, "found" if filled else "empty")


def _row(words: list[str], count: int, dims: int, classes: int) -> tuple[list[float], Problem | None]:
    """Numbers of a line, and the first thing that is wrong with them."""
    if len(words) != 5 + count * dims:
        has, rest = divmod(len(words) - 5, dims)
        if rest == 0 and has >= 0:
            return [], Problem("keypoint_count", f"{has} keypoints, the data YAML says {count}")
        return [], Problem("malformed_label", f"{len(words)} columns, expected 5 + {count} x {dims}")
    try:
        row = [float(word) for word in words]
    except ValueError:
        return [], Problem("malformed_label", "holds something that is not a number")
    if not all(map(math.isfinite, row)) or any("_" in word for word in words):
        return [], Problem("malformed_label", "holds something that is not a finite number")
    if row[0] != int(row[0]) or not 0 <= row[0] < classes:
        return [], Problem("bad_class", f"class {words[0]}, the data YAML has {classes}: 0 to {classes - 1}")
    if dims == 3:
        flag = next((v for v in row[7::3] if v not in (0.0, 1.0, 2.0)), None)
        if flag is not None:
            return [], Problem("bad_visibility", f"visibility flag {flag:g}, allowed are 0, 1 and 2")
    return row, _range(row, dims)


def _range(row: list[float], dims: int) -> Problem | None:
    x, y, width, height = row[1:5]
    if width <= 0 or height <= 0:
        return Problem("empty_box", f"box of {width:g} x {height:g}")
    box_far = _farthest(row[1:5])
    if box_far > TOLERANCE:
        return Problem("out_of_range", f"box ({x:g}, {y:g}, {width:g}, {height:g}) is not in shares of the image")
    for k, at in enumerate(range(5, len(row), dims)):
        far = _farthest(row[at : at + 2])
        # without flags, a negative coordinate means that the point is missing
        if far > TOLERANCE and not (dims == 2 and min(row[at : at + 2]) < 0):
            return Problem("out_of_range", f"keypoint {k} at ({row[at]:g}, {row[at + 1]:g}) lies outside the image")
    edge = max(width / 2 - x, x + width / 2 - 1, height / 2 - y, y + height / 2 - 1)
    if edge > BOX_TOLERANCE:
        return Problem("box_outside", f"the box reaches {100 * edge:.0f} % of the image beyond its edge")
    if dims == 3:
        for k, at in enumerate(range(5, len(row), 3)):
            if row[at] == 0 and row[at + 1] == 0 and row[at + 2] > 0:
                return Problem("point_in_corner", f"keypoint {k} is flagged {row[at + 2]:g} but lies at (0, 0)")
    return None


def _farthest(values: list[float]) -> float:
    """How far the worst of some shares lies outside 0..1."""
    return max(max(-v, v - 1) for v in values)


def labelled(points: np.ndarray) -> np.ndarray:
    """Whether points (..., 2) without visibility flag are labelled: not at (0, 0), no coordinate negative."""
    return np.asarray((points >= 0).all(-1) & (points > 0).any(-1))


def poses(rows: np.ndarray, dims: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (P, K, 3) [x, y, flag] and boxes (P, 4) [cx, cy, w, h] of label rows, in pixels."""
    points = rows[:, 5:].reshape(len(rows), (rows.shape[1] - 5) // dims, dims)
    keypoints = np.zeros((*points.shape[:2], 3), np.float32)
    keypoints[..., :2] = points[..., :2] * (width, height)
    keypoints[..., 2] = points[..., 2] if dims == 3 else 2 * labelled(points)
    boxes = (rows[:, 1:5] * (width, height, width, height)).astype(np.float32)
    return keypoints, boxes
