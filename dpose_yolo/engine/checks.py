"""Checks of the user's data before anything is trained, told in one line each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ultralytics.cfg import get_save_dir
from ultralytics.data.utils import img2label_paths
from ultralytics.nn.tasks import yaml_model_load
from ultralytics.utils import DATASETS_DIR, LOGGER, RANK

from dpose_yolo.dataset import contained
from dpose_yolo.dataset.first_look import first_look
from dpose_yolo.engine.checkpoints import read_checkpoint, unfinished, why_unreadable
from dpose_yolo.engine.files import holding, sweep_finished
from dpose_yolo.engine.label_checks import label_problem
from dpose_yolo.engine.resume import of_finetuning
from dpose_yolo.engine.words import engine_line, one_line, plain
from dpose_yolo.errors import DPoseError
from dpose_yolo.hints import engine_models, missing_data, missing_model
from dpose_yolo.settings import model_file


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
        unreadable = why_unreadable(error)
        if unreadable:
            raise DPoseError(f"{what}: {unreadable}") from error
        cause = error.__cause__ or error
        known = engine_line(plain(str(cause)))
        if known:
            raise DPoseError(f"{what}: {known}") from error
        first = re.search(r"^\s*(?:\w+: )?(.*?): ignoring corrupt image/label: (.*)", plain(str(cause)), re.MULTILINE)
        if first is None or kpt_shape is None:
            raise DPoseError(f"{what}: {one_line(cause)}") from error
        reason = label_problem(Path(img2label_paths([first[1]])[0]), *kpt_shape) or one_line(first[2])
        raise DPoseError(f"{what}: no image in it can be used, the first is {first[1]}: {reason}") from error
    except AttributeError as error:  # a file that is a list, say; elsewhere it is a fault of ours
        unreadable = why_unreadable(error)
        if unreadable is None:
            raise
        raise DPoseError(f"{what}: {unreadable}") from error


def require_data_file(data: Any, what: str = "data") -> None:
    """Raise `DPoseError` unless `data` names a file (or folder) that exists; nothing is downloaded.

    Args:
        data: what the setting is set to.
        what: name of the setting.
    """
    if not data:
        raise DPoseError(f"no {what} given: set {what}= to a data YAML, e.g. {what}=data/cabin_mini.yaml")
    if not isinstance(data, str | Path):
        raise DPoseError(f"{what}={data!r} is not a path: set {what}= to one data YAML")
    if not Path(data).exists():
        raise DPoseError(missing_data(data, what))


def require_data(data: Any, needs: Sequence[str] = ("train", "val"), outside: bool = False) -> dict[str, int]:
    """Look at a data YAML before anything is built or written; nothing is downloaded.

    Args:
        data: path of the data YAML.
        needs: parts that have to be there with images.
        outside: whether they may lie outside the data folder.

    Returns:
        Number of images in each of the parts, by file names.

    Raises:
        DPoseError: for what `first_look` finds.
    """
    require_data_file(data)
    return first_look(data, needs, outside, DATASETS_DIR)


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
        layers = None
        if path.is_file() or str(model) in engine_models():
            with engine_errors(f"{model} cannot be read as a model YAML"):
                layers = yaml_model_load(path)
        if layers is not None and not (isinstance(layers, dict) and {"backbone", "head", "kpt_shape"} <= set(layers)):
            raise DPoseError(f"{model} is not the YAML of a pose model: it needs backbone, head and kpt_shape")
        known = layers is not None
    else:
        known = path.is_file()
    if not known:
        raise DPoseError(missing_model(model, "give the path of a .pt checkpoint or a model YAML, or dpose-125.yaml"))
    return str(model)


def require_lender(name: str, path: str | Path) -> None:
    """Refuse what is no checkpoint on disk, for a setting that takes weights or features from one.

    Raises:
        DPoseError: when there is no such file, or it is no .pt that can be read.
    """
    if not Path(path).is_file():
        raise DPoseError(f"{name}: {missing_model(path, 'give the path of a .pt checkpoint')}")
    if Path(path).suffix != ".pt":
        raise DPoseError(f"{name}={path} is no checkpoint: give the path of a .pt file")
    read_checkpoint(path)


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


def require_checkpoint(resume: Any, finetune: bool = False) -> None:
    """Refuse what is not the checkpoint of an unfinished training.

    The engine would go on with any other run it finds, and only ask whether there is anything to do when it has
    overwritten the record of the run: a finished checkpoint no longer tells DPOSE's settings.

    Args:
        resume: the checkpoint.
        finetune: whether it has to be that of a fine-tuning, which goes on by its own command; else it must not be.

    Raises:
        DPoseError: when there is no such checkpoint, it is another command's, or nothing is left to do.
    """
    if resume is True:
        raise DPoseError("resume needs the run to go on with: name=, or resume=runs/train/weights/last.pt")
    if not Path(str(resume)).is_file():
        raise DPoseError(f"no checkpoint {resume} to resume from: give the path of a last.pt")
    checkpoint = read_checkpoint(resume)
    if of_finetuning(checkpoint) != finetune:
        if finetune:
            raise DPoseError(
                f"{resume} is of a training, not of a fine-tuning: go on with dpose train resume={resume}, "
                "or start from it with model= in place of resume="
            )
        raise DPoseError(f"{resume} is of a fine-tuning: go on with dpose finetune resume={resume}")
    if not unfinished(checkpoint):
        path = Path(str(resume)).resolve()
        weights = path.parent
        own = (weights.name, path.name) == ("weights", "last.pt") and (weights.parent / "args.yaml").exists()
        if own and RANK in {-1, 0}:
            with holding(weights.parent):
                sweep_finished(weights.parent)
        raise DPoseError(f"{resume} is the end of a finished training: there is nothing to resume")


def require_kpt_shape(data: dict[str, Any], where: Any) -> None:
    """Raise `DPoseError` unless a data dictionary says how many keypoints a label has."""
    shape: Any = data.get("kpt_shape")
    right = isinstance(shape, list | tuple) and len(shape) == 2 and all(isinstance(v, int) for v in shape)
    if not right or shape[0] < 1 or shape[1] not in (2, 3):
        raise DPoseError(f"{where} has kpt_shape {shape!r}: write kpt_shape: [number of keypoints, 3], e.g. [17, 3]")
