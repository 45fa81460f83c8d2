"""Exported files on the disk: written aside by the engine, in their place only when they are whole and proven."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER

from dpose_yolo.engine.checks import engine_errors
from dpose_yolo.engine.files import lock_file
from dpose_yolo.errors import DPoseError
from dpose_yolo.report.drawing import replacing

STAGING, OLD = ".dpose-export-", ".old"
FAILED = ".failed"  # behind the model's name in the file of an export that does not answer as the model does


_at_work: set[Path] = set()


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A folder inside `folder` to write to, gone when the block ends; what a killed export left goes first.

    Raises:
        DPoseError: when it cannot be made.
    """
    try:
        _sweep(folder)
        place = Path(tempfile.mkdtemp(prefix=STAGING, dir=folder))
        lock = open(place / ".lock", "w", encoding="utf-8")  # noqa: SIM115 - held until the block ends
    except OSError as error:
        raise DPoseError(
            f"nothing can be written in {folder} ({error.strerror}): set project= to a folder of your own"
        ) from error
    with lock:
        lock_file(lock)
        _at_work.add(place)
        try:
            yield place
        finally:
            _at_work.discard(place)
            shutil.rmtree(place, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove the staging folders of exports that were killed, and put back the file that one had moved aside."""
    for place in {*folder.glob(f"{STAGING}*")} - _at_work:  # a lock is of the process: it would be given again
        with suppress(OSError), open(place / ".lock", "r+", encoding="utf-8") as lock:
            if not lock_file(lock):
                continue  # at work
            for old in place.glob(f"*{OLD}"):
                target = folder / old.name.removesuffix(OLD)
                if not target.exists():
                    old.replace(target)
            shutil.rmtree(place, ignore_errors=True)


def engine_export(yolo: Any, place: Path, stem: str, settings: dict[str, Any]) -> Path:
    """Run an exporter of the engine.

    Args:
        yolo: the engine's `YOLO` object of a checkpoint.
        place: folder to write in.
        stem: name of the files, the checkpoint's without `.pt`.
        settings: of the engine's export.

    Returns:
        The file or folder that it wrote.

    Raises:
        DPoseError: when it fails.
    """
    before = yolo.model.__dict__.get("pt_path")
    yolo.model.pt_path = str(place / f"{stem}.pt")  # the engine derives the names of its files from it

    def lasting(record: logging.LogRecord) -> bool:
        """The engine's hints name files that will have moved."""
        return place.name not in record.getMessage()

    LOGGER.addFilter(lasting)
    try:
        with engine_errors(f"format={settings['format']} cannot be exported"):
            try:
                written = yolo.export(**settings)
            except ImportError as error:
                raise DPoseError(f"format={settings['format']} needs a package that is missing ({error})") from error
    finally:
        LOGGER.removeFilter(lasting)
        if before is None:
            del yolo.model.pt_path
        else:
            yolo.model.pt_path = before
    path = Path(str(written)) if written else place
    if not written or not path.exists() or path == place:
        raise DPoseError(f"format={settings['format']} wrote no file: see the engine's messages above")
    return path


def publish(written: Path, folder: Path, stem: str, report: dict[str, Any] | None) -> Path:
    """Move an export to its place, and write its report beside it.

    An export that failed keeps its files under a name of its own, `best.failed.onnx`: an earlier good one stays.

    Args:
        written: file or folder.
        folder: where to.
        stem: the checkpoint's name, with which that of `written` begins.
        report: of the parity, None if nothing was compared.

    Returns:
        The new place.

    Raises:
        DPoseError: when it cannot be moved.
    """
    name = written.name
    if report is not None and not report["passed"]:
        name = stem + FAILED + name.removeprefix(stem)
    target = folder / name
    old = written.with_name(f"{name}{OLD}")
    try:
        if target.is_dir() or (written.is_dir() and target.exists()):  # a folder does not take the place of another
            target.replace(old)
        written.replace(target)
    except OSError as error:
        with suppress(OSError):
            old.replace(target)
        raise DPoseError(f"cannot write {target}: {error.strerror or error}") from error
    about = folder / f"{name}.parity.json"
    if report is None:
        about.unlink(missing_ok=True)  # of another file, which this one replaces
    else:
        with replacing(about) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return target


def publish_cache(graph: Path, cache: str | None) -> str | None:
    """Write a calibration cache beside the graph it was measured with.

    Args:
        graph: the exported file in its place.
        cache: text of the cache; with None that of an earlier graph goes.

    Returns:
        Where it lies.

    Raises:
        DPoseError: when it cannot be written.
    """
    beside = graph.with_suffix(".calib")
    beside.unlink(missing_ok=True)
    if cache is None:
        return None
    with replacing(beside) as temporary:
        temporary.write_text(cache, encoding="ascii")
    return str(beside)
