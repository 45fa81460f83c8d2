"""The settings of `dpose export`, checked before any work is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpose_yolo.commands.usage import flag, whole
from dpose_yolo.errors import DPoseError
from dpose_yolo.export.cache import check_version
from dpose_yolo.export.single import SingleOptions
from dpose_yolo.runtime.driver import check_roi

SINGLE_ONLY = ("roi", "frame", "preprocess", "grey", "driver_class")
INT8_ONLY = ("calibrate", "calibration_images", "float_head", "symmetric", "calibration_cache")
OWN = (
    "single", *SINGLE_ONLY, "int8", *INT8_ONLY, "verify", "split", "images", "outside", "project", "name", "exist_ok",
)  # fmt: skip
CALIBRATE = ("balanced", "random")


@dataclass(frozen=True)
class Int8Options:
    """How a graph is quantised.

    Attributes:
        calibrate: how calibration images are drawn, `balanced` (evenly over the postures) or `random`.
        images: number of them.
        float_head: the pose head and the decoding of its numbers stay in floating point.
        symmetric: signed activations around 0, as TensorRT demands.
        cache: version of TensorRT to write a calibration cache for, None for none.
    """

    calibrate: str = "balanced"
    images: int = 128
    float_head: bool = True
    symmetric: bool = False
    cache: str | None = None


@dataclass(frozen=True)
class ExportOptions:
    """What `dpose export` is asked for, besides the engine's settings.

    Attributes:
        fmt: the engine's name of the format.
        single: None for the plain graph.
        int8: None for no quantisation of ours.
        verify: compare with PyTorch.
        split: part of the data to compare on.
        images: pictures of it at most.
        outside: take images outside the data folder, too.
    """

    fmt: str
    single: SingleOptions | None
    int8: Int8Options | None
    verify: bool
    split: str
    images: int
    outside: bool = False


def read_options(settings: dict[str, Any], fmt: str) -> ExportOptions:
    """Read and check them.

    Raises:
        DPoseError: for values that are not allowed, and settings that do not go together.
    """
    single, int8 = flag(settings, "single", False), flag(settings, "int8", False)
    for name in SINGLE_ONLY:
        if settings.get(name) is not None and not single:
            raise DPoseError(f"{name} belongs to a graph that ends in one driver: set single=True, or leave it out")
    for name in INT8_ONLY:
        if settings.get(name) is not None and not int8:
            raise DPoseError(f"{name} belongs to quantisation: set int8=True, or leave it out")
    for name, wanted in (("single", single), ("int8", int8)):
        if wanted and fmt != "onnx":
            other = "" if name == "single" else f", or quantize=8 for the engine's own of format={fmt}"
            raise DPoseError(f"{name}=True is made in ONNX graphs: set format=onnx{other}")
        odd = next((k for k in ("dynamic", "nms", "quantize") if wanted and settings.get(k) not in (None, False)), None)
        if odd and not (odd == "quantize" and settings[odd] in (32, 16) and name == "single"):
            raise DPoseError(f"{name}=True and {odd}={settings[odd]} do not go together: leave one of them out")
        if wanted and settings.get("batch", 1) != 1:
            raise DPoseError(f"{name}=True takes one picture at a time: leave out batch={settings['batch']}")
    return ExportOptions(
        fmt,
        _single(settings) if single else None,
        _int8(settings) if int8 else None,
        flag(settings, "verify", True),
        str(settings.get("split", "val")),
        whole(settings, "images", 200),
        flag(settings, "outside", False),
    )


def _single(settings: dict[str, Any]) -> SingleOptions:
    preprocess, grey = flag(settings, "preprocess", False), flag(settings, "grey", False)
    if grey and not preprocess:
        raise DPoseError("grey=True says which pictures the graph prepares: set preprocess=True too, or leave it out")
    roi, frame = check_roi(settings.get("roi")), _frame(settings.get("frame"))
    return SingleOptions(roi, frame, preprocess, grey, settings.get("driver_class"))


def _frame(value: Any) -> tuple[int, int] | None:
    """Width and height: a list, `640,480` or `640x480`."""
    if value is None:
        return None
    parts = str(value).lower().replace("x", ",").split(",") if isinstance(value, str) else value
    try:
        width, height = (int(v) for v in parts)
    except (TypeError, ValueError):
        width = height = 0
    if not (0 < width < 2**15 and 0 < height < 2**15):
        raise DPoseError(f"frame={value} is not allowed: give width and height of the camera's pictures, frame=640x480")
    return width, height


def _int8(settings: dict[str, Any]) -> Int8Options:
    calibrate = settings.get("calibrate", "balanced")
    if calibrate not in CALIBRATE:
        raise DPoseError(f"calibrate={calibrate} is not allowed: calibrate takes {' or '.join(CALIBRATE)}")
    cache, symmetric = check_version(settings.get("calibration_cache")), flag(settings, "symmetric", False)
    if cache and not symmetric:
        raise DPoseError("calibration_cache is for TensorRT, whose integers lie around 0: set symmetric=True too")
    return Int8Options(
        calibrate, whole(settings, "calibration_images", 128), flag(settings, "float_head", True), symmetric, cache
    )


def require_data(given: Any, train_args: dict[str, Any], why: str) -> str:
    """The data YAML to compare or calibrate on: the one given, else the one of the training if it is there.

    Raises:
        DPoseError: when there is none.
    """
    if given:
        return str(given)
    stored = train_args.get("data")
    if stored and Path(str(stored)).is_file():
        return str(stored)
    told = f"the checkpoint was trained on {stored}, which is not here" if stored else "the checkpoint names no data"
    raise DPoseError(
        f"{why} needs real images, and {told}: set data=" + ("" if why == "int8=True" else ", or verify=False")
    )
