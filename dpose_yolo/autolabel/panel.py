"""Several teachers look at one image, as it is and mirrored, and agree on the persons in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dpose_yolo.autolabel.persons import Person, choose_drivers, group_persons
from dpose_yolo.autolabel.teachers import Finder, Follower, Found, Teacher, mirrored_points
from dpose_yolo.autolabel.votes import Rules, Verdict, decide
from dpose_yolo.errors import DPoseError
from dpose_yolo.metrics.samples import OKS_AREA
from dpose_yolo.peers.names import match_keypoints


@dataclass(frozen=True)
class Ballot:
    """All votes on one person, in the keypoints that are to be labelled.

    Attributes:
        box: (4,) x1, y1, x2, y2 in pixels.
        points: (V, K, 2) pixels.
        confidence: (V, K); 0 for no vote, NaN where the teacher does not know the keypoint.
        teacher: (V,) number of the teacher.
    """

    box: np.ndarray
    points: np.ndarray
    confidence: np.ndarray
    teacher: np.ndarray

    def decide(self, sigmas: np.ndarray, rules: Rules) -> Verdict:
        """The verdict, with distances in shares of this person's size."""
        area = OKS_AREA * float(np.prod(self.box[2:] - self.box[:2]))
        return decide(self.points, self.confidence, self.teacher, 2 * sigmas * np.sqrt(max(area, 1.0)), rules)


@dataclass
class Panel:
    """Teachers that label together.

    Attributes:
        teachers: at least one of them finds persons.
        names: K keypoints to label.
        flip: let each teacher look at the mirrored image, too.
        driver: who is labelled, see `choose_drivers`.
        roi: region for `driver="region"`.
        iou: from which overlap on two boxes are one person.

    Raises:
        DPoseError: for teachers that cannot vote together.
    """

    teachers: Sequence[Teacher]
    names: Sequence[str]
    flip: bool = True
    driver: str = "largest"
    roi: Sequence[float] | None = None
    iou: float = 0.5
    chosen: list[np.ndarray] = field(init=False)
    anybody: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        if not any(isinstance(t, Finder) for t in self.teachers):
            raise DPoseError("no teacher finds persons by itself: give a YOLO pose model besides MoveNet and the like")
        if len(self.teachers) < 2 and not self.flip:
            raise DPoseError("one teacher with flip=False has nobody to agree with: give a second one, or flip=True")
        self.chosen = [np.array(match_keypoints(t.names, self.names)) for t in self.teachers]
        for teacher, chosen in zip(self.teachers, self.chosen, strict=True):
            if (chosen < 0).all():
                raise DPoseError(
                    f"{teacher.path} has none of the keypoints {', '.join(self.names[:4])} ...: leave it out"
                )
            if self.flip and teacher.flip is None:
                raise DPoseError(f"{teacher.path} has no keypoint names, so nobody knows its sides: set flip=False")

    @property
    def unknown(self) -> list[str]:
        """Keypoints that no teacher has: they are never labelled."""
        known = np.max(self.chosen, axis=0) >= 0
        return [name for k, name in enumerate(self.names) if not known[k]]

    def look(self, image: np.ndarray) -> list[Ballot]:
        """The votes on the driver or drivers.

        Args:
            image: (H, W, 3) BGR, uint8.

        Returns:
            One ballot a chosen person; none where too few views found anybody.
        """
        size = (image.shape[1], image.shape[0])
        views = [image, np.ascontiguousarray(image[:, ::-1])] if self.flip else [image]
        seen: dict[tuple[int, int], Found] = {}
        for t, teacher in enumerate(self.teachers):
            if isinstance(teacher, Finder):
                for v, found in enumerate(teacher.find(views)):
                    seen[t, v] = found.mirrored(size[0], teacher.flip or []) if v else found
        keys = list(seen)
        self.anybody = any(len(found.boxes) for found in seen.values())
        persons = group_persons([seen[k].boxes for k in keys], [seen[k].scores for k in keys], self.iou)
        chosen = choose_drivers(persons, self.driver, size, self.roi)
        return [self._ballot(person, keys, seen, views, size) for person in chosen]

    def _ballot(
        self,
        person: Person,
        keys: list[tuple[int, int]],
        seen: dict[tuple[int, int], Found],
        views: Sequence[np.ndarray],
        size: tuple[int, int],
    ) -> Ballot:
        of_view = {keys[number]: i for number, i in person.members.items()}
        points, confidence, number = [], [], []
        for t, teacher in enumerate(self.teachers):
            for v, view in enumerate(views):
                own = np.zeros((len(teacher.names), 3))
                if isinstance(teacher, Follower):
                    own = self._at(teacher, view, person.box, mirror=bool(v), width=size[0])
                elif (t, v) in of_view:
                    own = seen[t, v].points[of_view[t, v]]
                asked = np.concatenate([own, [[0, 0, np.nan]]])[self.chosen[t]]  # -1: not known
                points.append(asked[:, :2])
                confidence.append(_inside(asked, size))
                number.append(t)
        return Ballot(person.box, np.array(points), np.array(confidence), np.array(number))

    @staticmethod
    def _at(teacher: Follower, view: np.ndarray, box: np.ndarray, mirror: bool, width: int) -> np.ndarray:
        if not mirror:
            return teacher.at(view, box)
        turned = np.array([width - box[2], box[1], width - box[0], box[3]])
        return mirrored_points(teacher.at(view, turned), width, teacher.flip or [])


def _inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(K,) confidence; 0 for points on or beyond the image's edge, where the engine puts what it clips."""
    xy = points[:, :2]
    out = ((xy <= 0) | (xy >= size)).any(1)
    return np.where(out & ~np.isnan(points[:, 2]), 0.0, points[:, 2])
