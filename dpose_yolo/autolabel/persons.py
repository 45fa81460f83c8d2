"""Which boxes of several teachers are the same person, and which person is the driver. Knows no engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.metrics.similarity import box_iou

DRIVERS = ("largest", "region", "all")


@dataclass
class Person:
    """One person, as the views saw it.

    Attributes:
        box: (4,) x1, y1, x2, y2: median over the views that found it.
        members: which of its boxes each view means, by number of the view.
    """

    box: np.ndarray
    members: dict[int, int] = field(default_factory=dict)


def group_persons(boxes: Sequence[np.ndarray], scores: Sequence[np.ndarray], iou: float) -> list[Person]:
    """Group the boxes of several views into persons.

    In falling score, each box joins the person it overlaps most, if by at least `iou` with that person's first box and
    its view is not there yet; else it is a new person. A person counts if at least half of the views found it.

    Args:
        boxes: of each view, (P, 4) x1, y1, x2, y2.
        scores: of each view, (P,).
        iou: least intersection over union.

    Returns:
        Persons, those of the highest score first.
    """
    rows = [(float(s), v, i) for v, of_view in enumerate(scores) for i, s in enumerate(of_view)]
    persons: list[Person] = []
    for _, view, i in sorted(rows, key=lambda row: (-row[0], row[1], row[2])):
        box = np.asarray(boxes[view][i], float)
        free = [p for p in persons if view not in p.members]
        overlap = box_iou(box[None], np.array([p.box for p in free]))[0] if free else np.zeros(0)
        if len(overlap) and overlap.max() >= iou:
            free[int(overlap.argmax())].members[view] = i
        else:
            persons.append(Person(box, {view: i}))
    persons = [p for p in persons if 2 * len(p.members) >= len(boxes)]
    for person in persons:
        person.box = np.median([boxes[view][i] for view, i in person.members.items()], axis=0)
    return persons


def choose_drivers(
    persons: Sequence[Person], driver: str, size: tuple[int, int], roi: Sequence[float] | None = None
) -> list[Person]:
    """The persons to label.

    Args:
        persons: of one image.
        driver: `largest` takes the largest box, `region` the largest whose centre lies in `roi`, `all` everybody.
        size: width and height of the image.
        roi: x1, y1, x2, y2 as shares of the image, for `region`.

    Raises:
        DPoseError: for another rule.
    """
    if driver not in DRIVERS:
        raise DPoseError(f"driver={driver} is not allowed: driver takes {', '.join(DRIVERS)}")
    if driver == "all":
        return list(persons)
    kept = list(persons)
    if driver == "region" and roi is not None:
        low, high = np.multiply(roi[:2], size), np.multiply(roi[2:], size)
        middles = [(p.box[:2] + p.box[2:]) / 2 for p in kept]
        kept = [p for p, m in zip(kept, middles, strict=True) if (m >= low).all() and (m <= high).all()]
    return [max(kept, key=lambda p: float(np.prod(p.box[2:] - p.box[:2])))] if kept else []
