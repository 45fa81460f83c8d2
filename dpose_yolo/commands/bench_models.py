"""`dpose bench models`: how fast, how large and how hungry exported models are, those of other projects too."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dpose_yolo.commands.common import leave_none, output_folder, refuse_foreign
from dpose_yolo.commands.usage import whole
from dpose_yolo.errors import DPoseError

TAKES = ("models", "threads", "rounds", "repeats", "imgsz", "project", "name", "exist_ok")


def main(settings: dict[str, Any]) -> None:
    """Measure the models in turns; write table and figures."""
    refuse_foreign(settings, TAKES, "bench")
    if not settings["models"]:
        raise DPoseError("dpose bench models needs models: dpose bench models a.onnx b.onnx movenet_lightning.onnx")
    rounds, repeats, size = (whole(settings, k, v) for k, v in (("rounds", 20), ("repeats", 10), ("imgsz", 640)))
    threads = _threads(settings.get("threads", [1, 2]))
    from dpose_yolo.peers.speed import machine, measure_models
    from dpose_yolo.report.speed import save_speed, screen

    with ExitStack() as stack:
        place = Path(stack.enter_context(TemporaryDirectory(prefix="dpose-bench-")))
        models = [_file(Path(str(path)), size, place) for path in settings["models"]]
        titles = [title for title, _ in models]
        twice = next((title for title in titles if titles.count(title) > 1), None)
        if twice:
            titles = [str(path) for path in settings["models"]]
        folder = output_folder(settings, "bench")
        try:
            rows = measure_models([path for _, path in models], titles, threads, rounds, repeats, size)
        except BaseException:
            leave_none(folder)
            raise
    about = {**machine(), "rounds": rounds, "repeats": repeats}
    written = save_speed(rows, about, folder)
    print(screen(rows, about))
    print(f"{', '.join(written)} in {folder}")


def _threads(value: Any) -> list[int]:
    parts = value if isinstance(value, list) else str(value).split(",")
    found = [int(part) for part in parts if str(part).isdigit() and int(part)]
    if len(found) != len(parts) or len(set(found)) != len(found):
        raise DPoseError(f"threads={value} is not allowed: give numbers of CPU threads, threads=1,2")
    return found


def _file(path: Path, size: int, place: Path) -> tuple[str, Path]:
    """Title and file of a model; checkpoints and model files of the engine are written as ONNX first.

    Raises:
        DPoseError: for a file of another kind, or none.
    """
    if path.suffix.lower() in (".onnx", ".tflite"):
        if not path.is_file():
            raise DPoseError(f"no model file {path}: give the path of an .onnx or .tflite file")
        return path.stem, path
    if path.suffix not in (".pt", ".yaml", ".yml"):
        raise DPoseError(f"{path} cannot be measured: give .onnx or .tflite files, or .pt checkpoints")
    from dpose_yolo.engine.models import engine_model
    from dpose_yolo.export.files import engine_export

    title = f"{path.stem}-{size}"
    inside = place / str(len(list(place.iterdir())))
    inside.mkdir()
    settings = {"format": "onnx", "imgsz": size, "verbose": False}
    return title, engine_export(engine_model(path), inside, title, settings)
