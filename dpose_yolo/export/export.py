"""One export from checkpoint to a proven file: engine's exporter, our graphs, comparison, its place on the disk."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.evaluation.data import EvaluationPart, load_part
from dpose_yolo.export.answers import LEAST, Checkpoint, Exported, Layout, Single, Viewer
from dpose_yolo.export.cache import calibration_cache
from dpose_yolo.export.calibration import calibration_images
from dpose_yolo.export.files import engine_export, publish, publish_cache, staging
from dpose_yolo.export.formats import PRECISIONS, Precision, precision_of
from dpose_yolo.export.int8 import quantise
from dpose_yolo.export.options import ExportOptions
from dpose_yolo.export.parity import compare
from dpose_yolo.export.single import check_frame, write_single
from dpose_yolo.export.tensorrt import tensorrt_problems
from dpose_yolo.images import read_image
from dpose_yolo.runtime.card import class_names, class_of_driver


def export(
    yolo: Any, path: Path, data: Any, engine: dict[str, Any], options: ExportOptions, folder: Path
) -> tuple[Path, dict[str, Any]]:
    """Export a checkpoint, compare it with the PyTorch model, and put it into its place.

    Args:
        yolo: the engine's `YOLO` object of the checkpoint.
        path: the checkpoint.
        data: path of the data YAML for comparison and calibration.
        engine: settings of the engine's export.
        options: what else is asked for.
        folder: where to.

    Returns:
        The file or folder, and what is to be told of it: `format`, `file`, `bytes`, `parity` (None unverified),
        `tensorrt` (what would keep TensorRT from taking an ONNX file, None for other formats), `int8`.

    Raises:
        DPoseError: when anything cannot be done; nothing is left in `folder` then.
    """
    part = _part(yolo, data, options.split, options.outside) if options.verify else None
    size, channels = _input(yolo, engine.get("imgsz"))
    if options.single:
        check_frame(options.single, size)  # before minutes are spent
    with staging(folder) as place:
        if options.fmt == "engine":
            _require_tensorrt_graph(yolo, place, path.stem, engine)
        written = engine_export(yolo, place, path.stem, engine)
        told: dict[str, Any] = {"format": options.fmt, "int8": None, "tensorrt": None, "parity": None}
        precision = precision_of(options.fmt, engine.get("quantize"))
        if options.int8:
            files, about = calibration_images(
                data, options.int8.images, options.int8.calibrate, path, outside=options.outside
            )
            viewer = Viewer(size, channels)
            blobs = [partial(_blob, viewer, file) for file in files]
            target = place / f"{path.stem}_int8.onnx"
            counts = quantise(written, target, blobs, len(yolo.model.model) - 1, options.int8)
            told["int8"] = {**counts, **about}
            written, precision = target, PRECISIONS[8]
        if options.single:
            written = write_single(written, place / f"{written.stem}_single.onnx", options.single)
        if written.suffix == ".onnx":
            told["tensorrt"] = tensorrt_problems(written)
        if part is not None:
            told["parity"] = _prove(yolo, path, written, part, engine, options, precision, (size, channels))
            told["parity"] |= {"data": part.data_file, "split": part.split}
        told["bytes"] = _bytes(written)
        report = told["parity"] and {**told["parity"], **{k: told[k] for k in ("format", "int8", "tensorrt", "bytes")}}
        cache = calibration_cache(written, options.int8.cache) if options.int8 and options.int8.cache else None
        target = publish(written, folder, path.stem, report)
        if options.int8:
            told["int8"]["cache_file"] = publish_cache(target, cache)
    return target, {**told, "file": str(target)}


def _part(yolo: Any, data: Any, split: str, outside: bool) -> EvaluationPart:
    """The labels to compare on.

    Raises:
        DPoseError: for data of other keypoints.
    """
    part = load_part(data, split, skip_bad=True, outside=outside)
    own, labelled = int(yolo.model.model[-1].kpt_shape[0]), len(part.truth.names)
    if own != labelled:
        raise DPoseError(
            f"the model has {own} keypoints and {data} has {labelled}: give data= of this model's keypoints"
        )
    return part


def _input(yolo: Any, asked: Any) -> tuple[tuple[int, int], int]:
    """Height and width of the input as the engine rounds them, and its channels."""
    from ultralytics.utils.checks import check_imgsz

    size = asked or yolo.model.args.get("imgsz", 640)
    height, width = check_imgsz(size, stride=yolo.model.stride, min_dim=2)
    return (height, width), int(yolo.model.yaml.get("channels", 3))


def _blob(viewer: Viewer, file: str) -> np.ndarray:
    return viewer(read_image(file)).blob


def _require_tensorrt_graph(yolo: Any, place: Path, stem: str, engine: dict[str, Any]) -> None:
    """Look at the graph before minutes are spent on building it.

    Raises:
        DPoseError: for what TensorRT does not take.
    """
    plain = {k: v for k, v in engine.items() if k in ("imgsz", "batch", "opset", "simplify", "nms", "verbose")}
    problems = tensorrt_problems(engine_export(yolo, place, f"{stem}_check", {**plain, "format": "onnx"}))
    if problems and not engine.get("dynamic"):
        raise DPoseError(f"TensorRT would not take this model's graph: {'; '.join(problems)}")


def _prove(
    yolo: Any,
    path: Path,
    written: Path,
    part: EvaluationPart,
    engine: dict[str, Any],
    options: ExportOptions,
    precision: Precision,
    input_: tuple[tuple[int, int], int],
) -> dict[str, Any]:
    """The comparison with the PyTorch model."""
    head = yolo.model.model[-1]
    nms = engine.get("nms")
    rows = nms is True or (nms is False and getattr(head, "one2one_cv2", None) is not None)
    conf = max(float(engine.get("conf") or 0.25), LEAST) if nms is True else LEAST
    count, dims = head.kpt_shape
    single = options.single
    driver = class_of_driver(class_names(yolo.names), single.driver_class, path) if single else None
    layout = Layout(rows, int(head.nc), (int(count), int(dims)), nms is True, conf, driver)
    reference = Checkpoint(path, layout)
    size, channels = input_
    if single:
        viewer = Viewer(size, channels, single.frame, single.grey)
        return compare(
            reference, Single(written), viewer, part, precision, limit=options.images, end="single", roi=single.roi
        )
    asked = str(engine.get("device", "")).removeprefix("cuda:")
    device = f"cuda:{asked if asked.isdigit() else 0}" if options.fmt == "engine" else "cpu"
    exported = Exported(written, layout, device)
    end = "persons" if rows else "candidates"
    found = compare(reference, exported, Viewer(size, channels), part, precision, limit=options.images, end=end)
    return {**found, "note": exported.note}


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
