"""The keypoints of a new set: names, sides, limbs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dpose_yolo.keypoints import COCO_NAMES, coco_sigmas, partners, side_of
from dpose_yolo.report.drawing import limbs

# COCO's 19 limbs, from 0.
COCO_SKELETON = [(15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
                 (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)]  # fmt: skip


@dataclass(frozen=True)
class KeypointSet:
    """Names of the K keypoints and the limbs between them, as pairs of indices from 0."""

    names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]

    @property
    def is_coco(self) -> bool:
        """Whether these are COCO's 17."""
        return list(self.names) == COCO_NAMES

    def flip_idx(self) -> list[int] | None:
        """What each keypoint becomes in a mirrored image; None where the names do not tell the sides."""
        sides = [side_of(name) for name in self.names]
        flip = partners(self.names)
        if not any(side for side, _ in sides) or len(set(sides)) < len(sides) or None in flip:
            return None
        return [k for k in flip if k is not None]

    def sigmas(self) -> list[float] | None:
        """OKS sigmas where COCO gives them."""
        return coco_sigmas(self.names) if self.is_coco else None


COCO_17 = KeypointSet(tuple(COCO_NAMES), tuple(COCO_SKELETON))


def keypoint_set(names: Sequence[str], skeleton: Sequence[tuple[int, int]] | None) -> KeypointSet:
    """Keypoints by name, their limbs as given or by their names."""
    if list(names) == COCO_NAMES and skeleton is None:
        return COCO_17
    return KeypointSet(tuple(names), tuple(skeleton if skeleton is not None else limbs(list(names))))
