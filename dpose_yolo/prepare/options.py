"""Settings of `dpose prepare`, with the range of each."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from dpose_yolo.errors import DPoseError
from dpose_yolo.prepare.choose import MODES

EVERYWHERE = ("src", "dst", "frames", "choose", "every", "apart", "quality", "seed")
OWN: dict[str, tuple[str, ...]] = {
    "drive_act": ("views", "split", "labels", "conf", "margin", "tolerance"),
    "dripe": ("split", "images", "empty"),
    "coco": ("images", "category", "subject", "val", "test", "empty"),
    "statefarm": ("val", "test"),
    "video": ("val", "test"),
}
VIEWS = {
    "inner_mirror": "ids_1",
    "a_column_co_driver": "ids_2",
    "ceiling": "ids_3",
    "steering_wheel": "ids_4",
    "a_column_driver": "ids_5",
    "kinect_color": "kinect_color",
    "kinect_ir": "kinect_ir",
}


@dataclass
class Options:
    """What a command was told.

    Attributes:
        frames: images of the whole set at most, or None.
        choose: variety, even, random; all for pictures of which none is to be left out.
        every: seconds between two candidates of a video.
        apart: least difference of two frames without labels, grey levels.
        quality: of JPEG, 1 to 100.
        seed: of draws and splits.
        val, test: shares of the images, by subject.
        views: cameras, names of `VIEWS`.
        split: paper, 0, 1 or 2; the number of a split for dripe.
        labels: whether to make labels.
        conf: confidence from which a keypoint is labelled, and from which it is visible.
        margin: of the box, share of its sides.
        tolerance: seconds between a pose and the frame it is put on.
        images: folder of images, relative to the source.
        category: name of a COCO category.
        subject: field of a COCO image that names the subject, or `folder`.
        empty: whether images without a person are kept.
    """

    frames: int | None = None
    choose: str = "variety"
    every: float = 0.25
    apart: float = 3.0
    quality: int = 95
    seed: int = 0
    val: float = 0.2
    test: float = 0.0
    views: list[str] = field(default_factory=lambda: ["inner_mirror"])
    split: str = "paper"
    labels: bool = True
    conf: tuple[float, float] = (0.2, 0.5)
    margin: float = 0.1
    tolerance: float = 0.02
    images: str | None = None
    category: str | None = None
    subject: str | None = None
    empty: bool = False

    def recipe(self, source: str) -> dict[str, Any]:
        """What of them decides about the result."""
        names = {*EVERYWHERE, *OWN[source]} - {"src", "dst"}
        return {name: value for name, value in asdict(self).items() if name in names}


def read_options(source: str, given: dict[str, Any]) -> Options:
    """Options of a source from `name=value` settings.

    Raises:
        DPoseError: for a value out of range.
    """
    pictures = source in ("dripe", "coco", "statefarm")
    frames = _whole(given, "frames", 33_600 if source == "drive_act" and given.get("labels") != "none" else None, 1)
    choose = _word(given, "choose", "all" if pictures and frames is None else "variety", (*MODES, "all"))
    if choose == "all" and not pictures:
        raise DPoseError(f"choose=all is for pictures: {source} takes choose={', '.join(MODES)}")
    if choose == "all" and frames is not None:
        raise DPoseError(f"choose=all and frames={frames} exclude each other: leave one of them out")
    options = Options(frames=frames, choose=choose)
    options.every = _number(given, "every", options.every, 0.001, 3600)
    options.apart = _number(given, "apart", options.apart, 0, 255)
    options.quality = _whole(given, "quality", options.quality, 1, 100) or 0
    options.seed = _whole(given, "seed", 0, 0) or 0
    options.val = _number(given, "val", 0.0 if source in ("coco", "dripe") else options.val, 0, 0.9)
    options.test = _number(given, "test", options.test, 0, 0.9)
    if options.val + options.test > 0.95:
        raise DPoseError(f"val={options.val:g} and test={options.test:g} leave nothing for the training part")
    for name in ("images", "category", "subject"):
        setattr(options, name, None if given.get(name) is None else str(given[name]))
    options.empty = _flag(given, "empty")
    if source == "drive_act":
        options.views = _views(given)
        options.split = _word(given, "split", "paper", ("paper", "0", "1", "2"))
        options.labels = _word(given, "labels", "3d", ("3d", "none")) == "3d"
        options.conf = _confidences(given)
        options.margin = _number(given, "margin", options.margin, 0, 1)
        options.tolerance = _number(given, "tolerance", options.tolerance, 0, 1)
    if source == "dripe":
        options.split = str(_whole(given, "split", 1, 0))
    return options


def _whole(given: dict[str, Any], name: str, default: int | None, least: int, most: int = 10**9) -> int | None:
    value = given.get(name, default)
    if value is not default and (type(value) is not int or not least <= value <= most):
        upper = f" to {most}" if most < 10**9 else ""
        raise DPoseError(f"{name}={value} must be a whole number from {least}{upper}")
    return value


def _number(given: dict[str, Any], name: str, default: float, least: float, most: float) -> float:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise DPoseError(f"{name}={value} must be a number from {least:g} to {most:g}")
    return float(value)


def _word(given: dict[str, Any], name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = str(given.get(name, default))
    if value not in allowed:
        raise DPoseError(f"{name}={value} is not allowed: {name} takes {', '.join(allowed)}")
    return value


def _flag(given: dict[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise DPoseError(f"{name}={value} is not allowed: {name} takes True or False")
    return value


def _list(value: Any) -> list[str]:
    words = value if isinstance(value, list) else str(value).split(",")
    return [str(word).strip() for word in words]


def _views(given: dict[str, Any]) -> list[str]:
    import difflib

    views = list(VIEWS) if given.get("views") == "all" else _list(given.get("views", "inner_mirror"))
    for view in views:
        if view not in VIEWS:
            near = difflib.get_close_matches(view, VIEWS, n=1)
            raise DPoseError(
                f"no view {view!r}: " + (f"did you mean {near[0]}?" if near else f"use {', '.join(VIEWS)}")
            )
    if len(set(views)) < len(views):
        raise DPoseError(f"views={','.join(views)} names a view twice")
    return views


def _confidences(given: dict[str, Any]) -> tuple[float, float]:
    try:
        low, high = (float(word) for word in _list(given.get("conf", "0.2,0.5")))
    except ValueError:
        low = high = math.nan
    if not 0 < low <= high <= 1:
        raise DPoseError(
            f"conf={given.get('conf')} must be two numbers from 0 to 1: labelled from, visible from, e.g. 0.2,0.5"
        )
    return low, high
