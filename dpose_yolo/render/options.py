"""Settings of `dpose render`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dpose_yolo.errors import DPoseError
from dpose_yolo.settings import specification

SIZE = (640, 480)
SIDES = (32, 8192)  # of an image, pixels
TYPED = ("images", "seed", "data", "compare", "camera", "look", "licence", "val", "tries", "quality", "workers")
OTHERS = ("dst", "postures", "size")
MIXTURE = ("clusters", "refits", "covariance", "min_labelled", "posture_scale", "skip_bad", "outside")
NO_RECIPE = ("dst", "workers")  # settings that do not change the images


def read_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Complete and check the settings of a rendered set.

    Returns:
        All of `TYPED`, `postures` (all, rare or a list of names) and `size` (width and height).

    Raises:
        DPoseError: for a value out of range, and settings that do not go together.
    """
    spec = specification("render")
    options = {name: spec[name].check(given.get(name, spec[name].default)) for name in TYPED}
    options["size"] = image_size(given.get("size", SIZE))
    postures = given.get("postures", "rare" if options["data"] else "all")
    options["postures"] = postures if isinstance(postures, list) else str(postures)
    if options["postures"] == "rare" and not options["data"]:
        raise DPoseError("postures=rare needs data=, whose labels say which postures are rare; or set postures=all")
    if options["compare"] and options["postures"] != "rare":
        raise DPoseError("compare= names postures that data= lacks: it needs postures=rare")
    return options


def image_size(value: Any) -> tuple[int, int]:
    """Width and height of `size=640x480`.

    Raises:
        DPoseError: for anything else.
    """
    found = re.fullmatch(r"(\d+)\s*[xX,]\s*(\d+)", str(value).strip("[]() "))
    sides = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(SIDES[0] <= side <= SIDES[1] for side in sides):
        raise DPoseError(f"size={value} is not allowed: size takes width x height in pixels from 32, e.g. size=640x480")
    return sides
