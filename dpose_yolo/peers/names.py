"""Which keypoint of a model answers for which keypoint of the data: told by name, however it is spelt."""

from __future__ import annotations

from collections.abc import Sequence

from dpose_yolo.keypoints import full_names, side_of


def match_keypoints(own: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """For each of the data's keypoints the index of the model's, -1 where the model has none.

    `left_wrist`, `l-wrist` and `LWrist` are the same. Where either side has only numbers and both have as many, they
    are taken one by one.

    Args:
        own: names of the model's keypoints; 17 numbers stand for COCO's.
        wanted: names of the data's keypoints, likewise.
    """
    own, wanted = full_names(own), full_names(wanted)
    if len(own) == len(wanted) and (_numbers(own) or _numbers(wanted)):
        return list(range(len(wanted)))
    place = {side_of(name): k for k, name in reversed(list(enumerate(own)))}
    return [place.get(side_of(name), -1) for name in wanted]


def common_keypoints(chosen: Sequence[Sequence[int]]) -> list[int]:
    """Keypoints of the data that every model has.

    Args:
        chosen: what `match_keypoints` says of each model.
    """
    return [k for k, answers in enumerate(zip(*chosen, strict=True)) if min(answers) >= 0]


def _numbers(names: Sequence[str]) -> bool:
    return all(name.isdigit() for name in names)
