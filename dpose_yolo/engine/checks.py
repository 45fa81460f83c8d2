"""Checks of the user's data before anything is trained, told in one line each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ultralytics.cfg import get_save_dir
from ultralytics.data.utils import IMG_FORMATS, img2label_paths, verify_image_label
from ultralytics.nn.tasks import torch_safe_load, yaml_model_load
from ultralytics.utils import LOGGER, RANK

from dpose_yolo.dataset import contained
from dpose_yolo.engine.files import holding, sweep
from dpose_yolo.errors import DPoseError
from dpose_yolo.settings import model_file

LONGEST = 300  # characters of an engine message; some list every image of the set


def one_line(error: BaseException | str) -> str:
    """The text of an error in one line of bearable length, without the engine's decorations."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = " ".join(_plain(text).split()).removesuffix(".")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _plain(text: str) -> str:
    """Text without the engine's colours and signs."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).replace("❌", "")


@contextmanager
def engine_errors(what: str, kpt_shape: Sequence[int] | None = None) -> Iterator[None]:
    """Tell what the engine raises over bad input in one line.

    Args:
        what: beginning of the line.
        kpt_shape: keypoints and dimensions that labels should have; names what is wrong with the first bad label.

    Raises:
        DPoseError: in place of the engine's error.
    """
    try:
        yield
    except DPoseError:
        raise
    except (RuntimeError, OSError, LookupError, SyntaxError, TypeError, ValueError, AssertionError) as error:
        cause = error.__cause__ or error
        first = re.search(r"^\s*(?:\w+: )?(.*?): ignoring corrupt image/label: (.*)", _plain(str(cause)), re.MULTILINE)
        if first is None or kpt_shape is None:
            raise DPoseError(f"{what}: {one_line(cause)}") from error
        reason = _label_problem(Path(img2label_paths([first[1]])[0]), *kpt_shape) or one_line(first[2])
        raise DPoseError(f"{what}: no image in it can be used, the first is {first[1]}: {reason}") from error


def unusable_files(dataset: Any) -> list[tuple[Path, str]]:
    """Images that the engine silently left out of a dataset, each with the reason.

    Args:
        dataset: the engine's `YOLODataset`; `label_files` names what it looked at, `im_files` what it kept.
    """
    kept = set(img2label_paths(dataset.im_files))
    data = dataset.data
    count, dims = data["kpt_shape"]
    found = []
    for label in map(Path, dataset.label_files):
        if str(label) in kept:
            continue
        image = _image_of(label)
        result = verify_image_label((str(image), str(label), "", True, len(data["names"]), count, dims, False))
        reason = _label_problem(label, count, dims) or one_line(result[-1].split("corrupt image/label: ")[-1])
        found.append((image, reason))
    return found


def _image_of(label: Path) -> Path:
    """The image a label file belongs to, by the engine's rule: the last folder `labels` stands for `images`."""
    parts = list(label.parent.parts)
    if "labels" in parts:
        parts[len(parts) - 1 - parts[::-1].index("labels")] = "images"
    folder = Path(*parts)
    for candidate in sorted(folder.glob(f"{label.stem}.*")):
        if candidate.suffix[1:].lower() in IMG_FORMATS:
            return candidate
    return folder / label.stem


def _label_problem(label: Path, count: int, dims: int) -> str | None:
    """What is wrong with the rows of a label file, or None if their form is right."""
    if not label.is_file():
        return None
    try:
        rows = [line.split() for line in label.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        return f"{label.name} is not a text file"
    for number, row in enumerate(rows, 1):
        if len(row) != 5 + count * dims:
            has, rest = divmod(len(row) - 5, dims)
            what = f"{has} keypoints" if rest == 0 and has >= 0 else f"{len(row)} columns"
            return (
                f"line {number} of {label.name} has {what}, expected {count} keypoints (5 + {count} x {dims} columns)"
            )
        try:
            values = [float(v) for v in row]
        except ValueError:
            return f"line {number} of {label.name} holds something that is not a number"
        if dims == 3 and any(v not in (0.0, 1.0, 2.0) for v in values[7::3]):
            return f"line {number} of {label.name} has a visibility flag other than 0, 1 or 2"
    return None


def refuse_unusable(dataset: Any, part: str) -> None:
    """Raise `DPoseError` if the engine had to leave images out, naming the first of them."""
    bad = unusable_files(dataset)
    if bad:
        image, reason = bad[0]
        what = "1 image" if len(bad) == 1 else f"{len(bad)} images, the first"
        raise DPoseError(
            f"{what} of the {part} part cannot be used: {image}: {reason}. Mend or remove it, or set skip_bad=True to "
            "go on without"
        )


def require_data_file(data: Any) -> None:
    """Raise `DPoseError` unless `data` names a file (or folder) that exists; nothing is downloaded."""
    if not data:
        raise DPoseError("no data given: set data= to a data YAML, e.g. data=data/cabin_mini.yaml")
    if not isinstance(data, str | Path):
        raise DPoseError(f"data={data!r} is not a path: set data= to one data YAML")
    if not Path(data).exists():
        raise DPoseError(f"no data file {data}: set data= to the path of a data YAML")


def refuse_outside(data: dict[str, Any]) -> None:
    """Refuse a data set that names images outside its folder.

    Args:
        data: the engine's data dictionary, which knows the YAML and what its `path:` stands for.

    Raises:
        DPoseError: naming the first such path and the ways out.
    """
    try:
        contained.refuse_outside(Path(data["yaml_file"]), data["path"])
    except DPoseError as error:
        if "outside the data folder" not in str(error):
            raise
        raise DPoseError(f"{error}, or set outside=True if you trust the data set") from error


def require_model_file(model: Any) -> Any:
    """The model as the engine takes it: a shipped model's path, or a file that exists; nothing is downloaded.

    Raises:
        DPoseError: when there is no such model.
    """
    if not isinstance(model, str | Path):
        return model
    shipped = model_file(model)
    if shipped:
        return str(shipped)
    path = Path(model)
    if path.suffix in (".yaml", ".yml"):
        try:
            layers = yaml_model_load(path)
        except FileNotFoundError:
            layers = None
        if layers is not None and not (isinstance(layers, dict) and {"backbone", "head", "kpt_shape"} <= set(layers)):
            raise DPoseError(f"{model} is not the YAML of a pose model: it needs backbone, head and kpt_shape")
        known = layers is not None
    else:
        known = path.is_file()
    if not known:
        raise DPoseError(f"no model file {model}: give the path of a .pt checkpoint or a model YAML, or dpose-125.yaml")
    return str(model)


def run_to_resume(engine: dict[str, Any]) -> dict[str, Any]:
    """Settings of the engine with `resume=True` replaced by what it means.

    With a `name`, the run of that name goes on, or starts if it has no checkpoint yet: the same line can be given until
    the training is done. Without one, `model=` may name the checkpoint, as for the engine's own command.
    """
    if engine.get("resume") is not True:
        return engine
    if not engine.get("name"):
        model = str(engine.get("model") or "")
        return {**engine, "resume": model} if model.endswith(".pt") else engine
    place = SimpleNamespace(project=engine.get("project"), name=engine["name"], task="pose", exist_ok=True)
    last = get_save_dir(place) / "weights" / "last.pt"
    if not last.is_file():
        LOGGER.info(f"No checkpoint in {last.parent} yet: the training starts")
        return {**engine, "resume": False, "exist_ok": True}
    return {**{k: v for k, v in engine.items() if k not in ("project", "name", "exist_ok")}, "resume": str(last)}


def require_checkpoint(resume: Any) -> None:
    """Refuse what is not the checkpoint of an unfinished training.

    The engine would go on with any other run it finds, and only ask whether there is anything to do when it has
    overwritten the record of the run: a finished checkpoint no longer tells DPOSE's settings.

    Raises:
        DPoseError: when there is no such checkpoint, or nothing left to do.
    """
    if resume is True:
        raise DPoseError("resume needs the run to go on with: name=, or resume=runs/train/weights/last.pt")
    if not Path(str(resume)).is_file():
        raise DPoseError(f"no checkpoint {resume} to resume from: give the path of a last.pt")
    with engine_errors(f"resume={resume} cannot be read as a checkpoint"):
        epoch = torch_safe_load(str(resume))[0].get("epoch", -1)
    if epoch < 0:
        weights = Path(str(resume)).resolve().parent
        if weights.name == "weights" and RANK in {-1, 0}:
            with holding(weights.parent):  # it may have been killed at its very end
                sweep(weights.parent)
                for left in weights.glob("resume-*.pt"):
                    left.unlink()
        raise DPoseError(f"{resume} is the end of a finished training: there is nothing to resume")


def require_kpt_shape(data: dict[str, Any], where: Any) -> None:
    """Raise `DPoseError` unless a data dictionary says how many keypoints a label has."""
    shape: Any = data.get("kpt_shape")
    right = isinstance(shape, list | tuple) and len(shape) == 2 and all(isinstance(v, int) for v in shape)
    if not right or shape[0] < 1 or shape[1] not in (2, 3):
        raise DPoseError(f"{where} has kpt_shape {shape!r}: write kpt_shape: [number of keypoints, 3], e.g. [17, 3]")


def require_keypoints(labels: list[dict[str, Any]], part: str) -> int:
    """Highest visibility flag of a data part.

    Raises:
        DPoseError: if every keypoint is unlabelled.
    """
    highest = max((int(lb["keypoints"][..., 2].max()) for lb in labels if lb["keypoints"].size), default=0)
    if highest == 0:
        raise DPoseError(
            f"no keypoint is labelled in the {part} part: every visibility flag is 0, so there is nothing to learn; "
            "check that the labels are in YOLO-pose format with visibility 1 or 2"
        )
    return highest
