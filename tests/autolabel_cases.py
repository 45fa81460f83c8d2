"""A teacher that sees spots, and pictures of spots, for the tests of `dpose autolabel`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from dpose_yolo.autolabel.teachers import Finder, Follower, Found, Teacher

NAMES = ["nose", "left_wrist", "right_wrist"]
SIZE = (120, 90)  # width and height


class Spots(Teacher):
    """Sees the spots of a picture: the top one is the nose, the one on the left the person's right wrist.

    Attributes:
        calls: views looked at.
        stop: raises KeyboardInterrupt instead of looking, once so many were looked at.
    """

    def __init__(self, path: Path, shift: float = 0.0, confidence: float = 0.9):
        """`shift` is added to every x that it gives, in the view it looks at."""
        path.touch()
        self.path, self.names = path, list(NAMES)
        self.shift, self.confidence = shift, confidence
        self.calls, self.stop = 0, 10**9

    def _points(self, view: np.ndarray) -> np.ndarray:
        _, _, stats, _ = cv2.connectedComponentsWithStats((view[..., 0] > 128).astype(np.uint8))
        middles = stats[1:, :2] + stats[1:, 2:4] / 2  # pixel 0 covers 0..1
        middles = middles[np.argsort(middles[:, 1])]
        order = [0, *(1 + np.argsort(-middles[1:, 0]))] if len(middles) == 3 else []
        points = middles[order] + [self.shift, 0]
        return np.concatenate([points, np.full((len(points), 1), self.confidence)], 1)


class SpotTeacher(Spots, Finder):
    """Finds the person of the spots."""

    def find(self, views):
        found = []
        for view in views:
            if self.calls >= self.stop:
                raise KeyboardInterrupt
            self.calls += 1
            points = self._points(view)
            if len(points) != 3:
                found.append(Found(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 3, 3))))
                continue
            box = np.concatenate([points[:, :2].min(0) - 10, points[:, :2].max(0) + 10])
            found.append(Found(box[None], np.array([0.8]), points[None]))
        return found


class SpotPeer(Spots, Follower):
    """Has to be told where to look."""

    def at(self, view, box):
        self.calls += 1
        return self._points(view)


def spots(nose=(60, 15), left=(90, 60), right=(30, 66)) -> np.ndarray:
    """A picture with three spots of 4 x 4 pixels around the given places."""
    image = np.full((SIZE[1], SIZE[0], 3), 40, np.uint8)
    for x, y in (nose, left, right):
        image[y - 2 : y + 2, x - 2 : x + 2] = 250
    return image


def write_spots(folder: Path, count: int, suffix: str = ".png", place: Callable[[int], int] = lambda i: 30 + i) -> None:
    """Pictures 000, 001, ... whose right wrist moves."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"{i:03d}{suffix}"), spots(right=(place(i), 66)))
