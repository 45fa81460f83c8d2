"""What a path or a name that is not there was probably meant to be: the last part of an error line. Free of torch."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from dpose_yolo.settings import CFG_DIR

# Weights that the engine's makers publish under this name; here nothing is downloaded unasked.
PUBLISHED = re.compile(r"yolo(v8|11|12|26)[nsmlx](-pose|-seg|-cls|-obb)?\.pt")
RELEASES = "https://github.com/ultralytics/assets/releases"


def working_directory(path: str | Path) -> str:
    """Where a relative path starts, for the end of a line; nothing for a full path."""
    return "" if os.path.isabs(path) else f" (a relative path starts at the working directory, {os.getcwd()})"


def windows_path(path: str) -> str:
    """What is wrong with a path of Windows on another system, as the end of a line; nothing for other paths."""
    if os.name == "nt" or not ("\\" in path or re.match(r"[A-Za-z]:", path)):
        return ""
    if re.match(r"[A-Za-z]:", path):
        return (
            ": a drive letter is Windows': leave path: out and write paths that start at the data YAML, with / in them"
        )
    return ": write / in place of \\"


def near_file(path: str | Path, suffixes: Sequence[str], names: Iterable[str] = ()) -> str | None:
    r"""The file that a missing path was probably meant to be.

    Args:
        path: what was typed.
        suffixes: of the files that come into question, beside where the path points.
        names: further names that come into question where no folder was typed.
    """
    typed = Path(path)
    slashes = str(path).replace("\\", "/")
    if slashes != str(path) and os.path.isfile(slashes):
        return slashes
    beside = [f.name for f in _files(typed.parent) if f.suffix.lower() in suffixes]
    known = [*(names if typed.parent == Path(".") else ()), *beside]
    by_name = {**{Path(name).stem: name for name in known}, **{name: name for name in known}}
    near = difflib.get_close_matches(typed.name, by_name, n=1, cutoff=0.7)
    return str(typed.parent / by_name[near[0]]) if near else None


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(f for f in folder.iterdir() if f.is_file())
    except OSError:
        return []


def missing_data(data: str | Path, what: str = "data") -> str:
    """The line for a data YAML that is not there.

    Args:
        data: what was typed.
        what: name of the setting.
    """
    near = near_file(data, (".yaml", ".yml"))
    hint = f"did you mean {near}?" if near else f"set {what}= to the path of a data YAML"
    return f"no data file {data}: {hint}{working_directory(data)}"


def missing_model(model: str | Path, give: str) -> str:
    """The line for a model file that is not there.

    Args:
        model: what was typed.
        give: what the command takes, where nothing like it is known.
    """
    line = f"no model file {model}: "
    if PUBLISHED.fullmatch(Path(model).name):
        pose = re.sub(r"(-\w+)?\.pt$", "-pose", Path(model).name)
        return (
            f"{line}published weights are not downloaded by themselves: get {pose}.pt once from {RELEASES}, or start "
            f"from nothing with model={pose}.yaml{working_directory(model)}"
        )
    near = near_file(model, (".pt", ".onnx", ".yaml", ".yml"), [*shipped_models(), *engine_models()])
    return f"{line}{f'did you mean {near}?' if near else give}{working_directory(model)}"


def shipped_models() -> list[str]:
    """Names of the model YAMLs that come with this package."""
    return sorted(file.name for file in (CFG_DIR / "models").glob("*.yaml"))


def engine_models() -> list[str]:
    """Names of Ultralytics' pose model YAMLs, with and without the letter of a scale, without importing it."""
    spec = find_spec("ultralytics")
    if spec is None or spec.origin is None:
        return []
    files = (Path(spec.origin).parent / "cfg" / "models").rglob("*-pose.yaml")
    return sorted(file.name.replace("-pose", f"{scale}-pose") for file in files for scale in ("", *"nsmlx"))


def not_a_pose_model(path: str | Path, task: str, lends: bool = False) -> str:
    """The line for a model of another task: detect, segment, classify, ...

    Args:
        path: its file.
        task: of the model.
        lends: a training was to start from it, which can take over what fits of its backbone and neck.
    """
    line = f"{path} is a {task} model: give a pose model, one that finds keypoints"
    published = re.fullmatch(r"(yolo(?:v8|11|12|26)[nsmlx])(?:-\w+)?\.pt", Path(path).name)
    if not published:
        return f"{line}, e.g. one that `dpose train` wrote"
    line += f", e.g. {published[1]}-pose.pt"
    return (
        f"{line}, or take what fits of its weights: model={published[1]}-pose.yaml pretrained={path}" if lends else line
    )
