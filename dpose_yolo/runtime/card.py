"""What the file of a driver-pose model says about itself, and whether it is one."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpose_yolo.errors import DPoseError
from dpose_yolo.keypoints import names_of

SINGLE = "dpose_single"  # metadata key of graphs that end in one driver; dpose_yolo/export/single.py writes it
PICTURES = {"bmp", "dng", "jp2", "jpeg", "jpeg2000", "jpg", "mpo", "png", "tif", "tiff", "webp", "pgm", "ppm"}
VIDEOS = {"asf", "avi", "gif", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "ts", "wmv", "webm"}
TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


@dataclass(frozen=True)
class Card:
    """What the runtime has to know of a model.

    Attributes:
        path: the file.
        kind: `anchors`, `rows` or `single`: all candidates, persons after a selection in the graph, or one driver.
        size: height and width of the input, pixels.
        channels: 1 or 3 of the input.
        dtype: of the input: float32, float16 or uint8.
        classes: their names.
        kpt_shape: number of keypoints, and 2 (x, y) or 3 (x, y, confidence).
        names: of the keypoints.
        frame: height and width of the camera pictures that a graph with the letterbox inside takes, None otherwise.
        roi: region of interest in the graph, x1, y1, x2, y2 as shares of the picture, None for none.
        frame_shape: height and width of the pictures that a region in the graph was made for, None without.
    """

    path: Path
    kind: str
    size: tuple[int, int]
    channels: int
    dtype: str
    classes: tuple[str, ...]
    kpt_shape: tuple[int, int]
    names: tuple[str, ...]
    frame: tuple[int, int] | None = None
    roi: tuple[float, ...] | None = None
    frame_shape: tuple[int, int] | None = None


def open_session(path: str | Path, device: Any = "cpu", threads: int | None = None) -> Any:
    """An onnxruntime session.

    Args:
        path: the .onnx file.
        device: `cpu`, or `cuda` or a number for an NVIDIA graphics card.
        threads: CPU threads of the network; None leaves it to onnxruntime.

    Raises:
        DPoseError: for a missing package or device, or a file that cannot be loaded.
    """
    path = Path(path)
    if not path.is_file():
        raise DPoseError(f"no model file {path}: give the path of an .onnx file that `dpose export` wrote")
    if path.suffix.lower()[1:] in PICTURES | VIDEOS:
        raise DPoseError(f'{path} is a picture or video, not a model: DriverPose("best.onnx")({path.name!r})')
    if path.suffix == ".pt":
        raise DPoseError(f"{path} is a PyTorch checkpoint: write an ONNX file first, dpose export model={path}")
    try:
        import onnxruntime
    except ImportError as error:
        raise DPoseError("running an ONNX model needs onnxruntime: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is told below, in one line
    if threads:
        options.intra_op_num_threads = options.inter_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=_providers(device, onnxruntime))
    except DPoseError:
        raise
    except Exception as error:  # onnxruntime raises classes of its own
        reason = " ".join(str(error).split())[:160]
        raise DPoseError(
            f"{path} cannot be loaded as an ONNX model, it is damaged, cut short or no ONNX file at all ({reason}): "
            "export it again with `dpose export`"
        ) from error


def _providers(device: Any, onnxruntime: Any) -> list[Any]:
    name = str(device).lower()
    if name in ("cpu", "none", ""):
        return ["CPUExecutionProvider"]
    number = name.removeprefix("cuda").removeprefix(":") or "0"
    if not number.isdigit():
        raise DPoseError(f"device={device} is not known: an ONNX model runs on device=cpu or device=0 (NVIDIA)")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise DPoseError(
            f"device={device}, but this onnxruntime knows no NVIDIA card: pip install onnxruntime-gpu, or device=cpu"
        )
    return [("CUDAExecutionProvider", {"device_id": int(number)}), "CPUExecutionProvider"]


def told_task(session: Any) -> Any:
    """The task that the metadata of a loaded model names (pose, detect, ...), or None."""
    return session.get_modelmeta().custom_metadata_map.get("task")


def read_card(session: Any, path: str | Path) -> Card:
    """Read and check what a loaded model says about itself.

    Raises:
        DPoseError: for a model that is not a driver-pose model of the engine, told by its metadata, or whose inputs and
            outputs do not fit what it says.
    """
    path = Path(path)
    told = {k: _literal(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    task = told.get("task")
    shape: Any = told.get("kpt_shape")
    if task is None or (task == "pose" and shape is None):
        raise DPoseError(
            f"{path} does not say that it is a driver-pose model (its metadata has no task and kpt_shape): give a file "
            "that `dpose export` wrote"
        )
    if task != "pose":
        raise DPoseError(f"{path} is a {task} model, not a pose model: export a model that `dpose train` trained")
    if not _is_shape(shape):
        raise DPoseError(f"{path} has kpt_shape {shape!r} in its metadata: export it again with `dpose export`")
    classes = class_names(told.get("names"))
    inputs, outputs = session.get_inputs(), session.get_outputs()
    single = told.get(SINGLE)
    known: dict[str, Any] = {
        "path": path,
        "classes": classes,
        "kpt_shape": tuple(shape),
        "names": tuple(names_of(told.get("kpt_names"), shape[0])),
    }
    if isinstance(single, dict):
        return Card(kind="single", **known, **_single_input(path, inputs, outputs, told, single))
    kind, width = ("rows", 6) if told.get("end2end") or _has_nms(told) else ("anchors", 4 + len(classes))
    found = list(outputs[0].shape)
    at = 2 if kind == "rows" else 1
    expected = width + shape[0] * shape[1]
    if len(outputs) != 1 or len(found) != 3 or (isinstance(found[at], int) and found[at] != expected):
        raise DPoseError(
            f"{path} has the output {[o.shape for o in outputs]}, not the {expected} numbers a person of the engine's "
            "pose models: export it again with `dpose export`"
        )
    return Card(kind=kind, **known, **_plain_input(path, inputs, told))


def class_names(told: Any) -> tuple[str, ...]:
    """Names of a model's classes, in their order; one without a name where it tells none."""
    if isinstance(told, dict) and told:
        return tuple(str(told[k]) for k in sorted(told))
    return tuple(map(str, told)) if isinstance(told, list | tuple) and told else ("0",)


def class_of_driver(names: Sequence[str], asked: Any, model: Any) -> int:
    """Number of the class that is the driver.

    Args:
        names: of the model's classes.
        asked: name or number of the class. None is the class `driver`, else the first, if the others are numbers.
        model: its file, for the error line.

    Raises:
        DPoseError: for a class that is not there, and several classes of which none is called driver.
    """
    known = ", ".join(names[:20])
    plain = [name.strip().lower() for name in names]
    if asked is None:
        if "driver" in plain:
            return plain.index("driver")
        if len(names) == 1 or all(name.removeprefix("class").isdecimal() for name in plain):
            return 0
        raise DPoseError(f"{model} has the classes {known}: say which is the driver's, e.g. driver_class={names[0]}")
    text = str(asked).strip().lower()
    if plain.count(text) == 1:
        return plain.index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    raise DPoseError(f"driver_class={asked} is no class of {model}: it has {known}")


def _plain_input(path: Path, inputs: list[Any], told: dict[str, Any]) -> dict[str, Any]:
    """Size, channels and type of an input of letterboxed pictures, (1, C, h, w)."""
    shape, dtype = list(inputs[0].shape), TYPES.get(inputs[0].type)
    size = [n if isinstance(n, int) else s for n, s in zip(shape[2:], told.get("imgsz") or (0, 0), strict=False)]
    channels = shape[1] if len(shape) == 4 and isinstance(shape[1], int) else told.get("channels", 3)
    if len(inputs) != 1 or len(shape) != 4 or dtype is None or channels not in (1, 3) or not all(size):
        raise DPoseError(
            f"{path} takes {inputs[0].type} of shape {shape}, not one grey or colour picture: export again"
        )
    if isinstance(shape[0], int) and shape[0] != 1:
        raise DPoseError(f"{path} takes {shape[0]} pictures at a time: export it with batch=1 for a camera")
    return {"size": (size[0], size[1]), "channels": channels, "dtype": dtype}


def _single_input(
    path: Path, inputs: list[Any], outputs: list[Any], told: dict[str, Any], single: dict[str, Any]
) -> dict[str, Any]:
    """What a graph that ends in one driver takes: letterboxed pictures, or plain ones with the work inside."""
    if [o.name for o in outputs] != ["box", "score", "keypoints"]:
        raise DPoseError(f"{path} says it ends in one driver, but has no box, score, keypoints: export it again")
    frame = tuple(single["frame"][::-1]) if single.get("frame") else None
    roi = tuple(single["roi"]) if single.get("roi") else None
    if not single.get("preprocess"):
        return {**_plain_input(path, inputs, told), "roi": roi, "frame_shape": frame}
    shape, dtype = list(inputs[0].shape), TYPES.get(inputs[0].type)
    if dtype != "uint8" or len(shape) != 4 or shape[3] not in (1, 3):
        raise DPoseError(f"{path} takes {inputs[0].type} of shape {shape}, not uint8 pictures: export it again")
    size = tuple(shape[1:3])
    return {"size": size, "channels": shape[3], "dtype": dtype, "frame": frame, "roi": roi, "frame_shape": frame}


def _literal(text: str) -> Any:
    """The Python value that the engine wrote with `str`, or the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _is_shape(shape: Any) -> bool:
    whole = isinstance(shape, list | tuple) and len(shape) == 2 and all(isinstance(v, int) for v in shape)
    return whole and 0 < shape[0] <= 10_000 and shape[1] in (2, 3)


def _has_nms(told: dict[str, Any]) -> bool:
    settings = told.get("args")
    return isinstance(settings, dict) and settings.get("nms") is True
