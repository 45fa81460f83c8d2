"""Folders for results: a command that fails before it has any leaves none behind."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def locked_by_another(error: OSError) -> bool:
    """Whether a lock was refused because another process has it; else the file system knows no locks."""
    return error.errno in (errno.EACCES, errno.EAGAIN)


def missing_folders(folder: Path) -> list[Path]:
    """A folder and those above it, as far as they do not exist; the deepest first."""
    return [place for place in (folder, *folder.parents) if not place.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders that are empty, in the order given."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def absolute_project(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Complete settings with `project` as a full path, `runs` below the working directory unless given.

    Ultralytics puts a relative project below the folder of its own settings, which may be anywhere.
    """
    return {**settings, "project": str(Path(str(settings.get("project") or "runs")).resolve())}


def listed_paths(text: str) -> list[str]:
    """Paths of a list with commas; a comma or a blank at an end belongs to a path where such a file exists."""
    parts, found = text.split(","), []
    while parts:
        count = next((n for n in range(len(parts), 0, -1) if Path(",".join(parts[:n])).exists()), 1)
        path, parts = ",".join(parts[:count]), parts[count:]
        found.append(path if Path(path).exists() else path.strip())
    return found


def is_text(path: str | Path) -> bool:
    """Whether a path is valid UTF-8: others end the process in OpenCV, and cannot be written to tables."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
