"""The card (data.yaml) of a new set: keypoints, sides, limbs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from dpose_yolo.report.drawing import COCO_NAMES, limbs, side_of

# COCO's OKS sigmas, in the order of COCO_NAMES.
COCO_SIGMAS = [0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072,
               0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089]  # fmt: skip
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
        if not any(side for side, _ in sides) or len(set(sides)) < len(sides):
            return None
        other = {"left": "right", "right": "left", "": ""}
        index = {key: k for k, key in enumerate(sides)}
        flip = [index.get((other[side], part)) for side, part in sides]
        return None if None in flip else [int(k) for k in flip if k is not None]


COCO_17 = KeypointSet(tuple(COCO_NAMES), tuple(COCO_SKELETON))


def keypoint_set(names: Sequence[str], skeleton: Sequence[tuple[int, int]] | None) -> KeypointSet:
    """Keypoints by name, their limbs as given or by their names."""
    if list(names) == COCO_NAMES and skeleton is None:
        return COCO_17
    return KeypointSet(tuple(names), tuple(skeleton if skeleton is not None else limbs(list(names))))


def card_text(keypoints: KeypointSet, parts: dict[str, str], comment: Sequence[str]) -> str:
    """Content of data.yaml: no `path:`, so that the folder can be moved.

    Args:
        keypoints: the K keypoints.
        parts: folder of images of each part, relative to the card.
        comment: lines to stand at its head.
    """
    card: dict[str, Any] = {**parts, "names": {0: "driver"}, "kpt_shape": [len(keypoints.names), 3]}
    flip = keypoints.flip_idx()
    if flip is not None:
        card["flip_idx"] = flip
    card["kpt_names"] = {0: list(keypoints.names)}
    if keypoints.is_coco:
        card["kpt_oks_sigmas"] = COCO_SIGMAS
    card["skeleton"] = [list(pair) for pair in keypoints.skeleton]
    head = "".join(f"# {line}\n" for text in comment for line in text.splitlines())
    return head + yaml.safe_dump(card, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
