"""The data YAML of a set that is being made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml


def card_text(
    parts: Mapping[str, str],
    names: Sequence[str],
    flip: Sequence[int] | None,
    sigmas: Sequence[float] | None,
    skeleton: Sequence[tuple[int, int]],
    comment: Sequence[str],
) -> str:
    """Content of data.yaml: no `path:`, so that the folder can be moved.

    Args:
        parts: folder of images of each part, relative to the card.
        names: K keypoint names.
        flip: K indices, or None where nobody knows the sides: the engine then does not mirror.
        sigmas: K OKS sigmas; None leaves them to the engine.
        skeleton: keypoints to join with a line.
        comment: text to stand at its head.
    """
    card: dict[str, Any] = {**parts, "names": {0: "driver"}, "kpt_shape": [len(names), 3]}
    if flip:
        card["flip_idx"] = list(flip)
    card["kpt_names"] = {0: list(names)}
    if sigmas is not None:
        card["kpt_oks_sigmas"] = [round(float(s), 6) for s in sigmas]
    card["skeleton"] = [list(pair) for pair in skeleton]
    head = "".join(f"# {line}\n" for text in comment for line in text.splitlines())
    return head + yaml.safe_dump(card, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
