"""What several commands share: output folders, models, refusing settings a command does not take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpose_yolo.errors import NOT_TEXT, DPoseError, printable
from dpose_yolo.folders import absolute_project, is_text, missing_folders, remove_empty
from dpose_yolo.settings import refuse_engine_values, refuse_unknown, specification

# Folders that did not exist before `output_folder`, by the one it gave, the deepest first.
_made: dict[Path, list[Path]] = {}


def output_folder(settings: dict[str, Any], command: str) -> Path:
    """New folder `project/name` for the results of a command (numbered if it exists and exist_ok is not set).

    Raises:
        DPoseError: where no folder can be made.
    """
    base = Path(absolute_project(settings)["project"]) / str(settings.get("name") or command)
    shared = bool(settings.get("exist_ok"))
    path, number = base, 1
    while True:
        missing = missing_folders(path)
        try:
            path.mkdir(parents=True, exist_ok=shared)
        except OSError as error:
            if shared or not isinstance(error, FileExistsError):
                raise DPoseError(
                    f"no folder can be made at {base} ({error.strerror}): set project= to a place that can"
                ) from error
            number += 1  # the engine's names, without the engine, which a small device lacks
            path = base.with_name(f"{base.name}-{number}")
        else:
            _made[path] = missing
            return path


def leave_none(folder: Path) -> None:
    """After a failure: remove an output folder, and those above it that were made for it, if they are empty."""
    remove_empty(_made.pop(folder, [folder]))


def refuse_foreign(settings: dict[str, Any], allowed: Iterable[str], command: str) -> None:
    """Refuse settings that a command does not take, with the nearest one that it does.

    Raises:
        DPoseError: naming the first such setting.
    """
    import difflib

    allowed = list(allowed)
    for name in settings:
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=1)
            hint = f"did you mean {near[0]}?" if near else f"see `dpose {command} help`"
            raise DPoseError(f"dpose {command} takes no setting {name!r}: {hint}")


def with_quantize(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with Ultralytics' former `half=True` under its present name, `quantize=16`."""
    if "half" not in settings:
        return settings
    kept = {k: v for k, v in settings.items() if k != "half"}
    return {"quantize": 16, **kept} if settings["half"] is True else kept


def refuse_non_engine(settings: dict[str, Any], command: str, own: Iterable[str] = ()) -> None:
    """Refuse settings that neither the engine nor the command (`own`) knows; DPOSE's others belong to training."""
    from ultralytics.utils import DEFAULT_CFG_DICT

    own = list(own)
    for name in settings:
        if name in specification() and name not in own:
            raise DPoseError(f"{name} is a setting of training: dpose {command} does not take it")
    refuse_unknown(settings, [*own, *DEFAULT_CFG_DICT])
    refuse_engine_values(settings)


def images_of(source: Any, limit: int = 10_000_000) -> list[Path]:
    """Images of a file or folder, in order of name.

    Raises:
        DPoseError: when there are none.
    """
    from ultralytics.data.utils import IMG_FORMATS

    path = Path(str(source))
    if not path.exists():
        raise DPoseError(f"no image or folder {source}: set source= to a path that exists")
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    found = [f for f in files if f.suffix[1:].lower() in IMG_FORMATS]
    images = [f for f in found if is_text(f)]
    if len(images) < len(found):
        first = next(f for f in found if f not in images)
        print(f"{len(found) - len(images)} images are left out, the first: {printable(str(first))}: {NOT_TEXT}")
    if not images:
        raise DPoseError(f"no images in {source}: expected files ending in {', '.join(sorted(IMG_FORMATS))}")
    return images[:limit]


@contextmanager
def progress_bar(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, if that is a terminal; gives a function that moves it on.

    Args:
        total: steps.
        what: is done, in words.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from dpose_yolo.report.plain import plain_console

    console = plain_console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda steps: bar.advance(task, steps)
