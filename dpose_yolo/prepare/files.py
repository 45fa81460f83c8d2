"""Files of a source folder, and paths that its tables name: taken only if they stay inside it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from dpose_yolo.dataset.files import walk
from dpose_yolo.dataset.paths import inside
from dpose_yolo.errors import DPoseError

TABLES = (".json", ".csv", ".timestamps", ".txt")


def require_inside(root: Path, path: str | Path, where: str) -> Path:
    """A path whose links do not lead out of the source folder.

    Raises:
        DPoseError: when they do.
    """
    top, real = os.path.realpath(root), os.path.realpath(path)
    if real != top and not real.startswith(top.rstrip(os.sep) + os.sep):
        raise DPoseError(f"{where}: {path} is a link that leads out of {root}: put the file itself there")
    return Path(path)


def named(root: Path, entry: Any, where: str, base: Path | None = None) -> Path:
    """Path of a file that a table of the source names, relative to `base`.

    Raises:
        DPoseError: for an absolute path, one with `..`, one that leaves the source folder by a link, or no path at all.
    """
    if isinstance(entry, str) and (os.path.isabs(entry) or entry[1:3] in (":\\", ":/")):
        raise DPoseError(f"{where} names {entry}: only paths inside {root} are taken, not absolute ones")
    if isinstance(entry, str) and ".." in entry.replace("\\", "/").split("/"):
        raise DPoseError(f"{where} names {entry}: only paths inside {root} are taken, none with ..")
    try:
        path = inside(root, entry, where, base)
    except DPoseError as error:
        text = str(error).partition(": move the files")[0].replace("the data folder", "the source folder")
        raise DPoseError(f"{text}: put the file into it") from error
    return require_inside(root, path, where)


def files_below(root: Path) -> list[Path]:
    """Files below a folder, hidden ones left out, in order of name.

    Raises:
        DPoseError: for a link that leads out of the folder.
    """
    return [require_inside(root, path, "the source") for path in sorted(walk(str(root)))]


def content_of(src: Path) -> str:
    """Stands for the files of a source: their paths below it and sizes, and what is in its tables."""
    sha = hashlib.sha256()
    for path in sorted(walk(str(src))) if src.is_dir() else [str(src)]:
        name = os.path.relpath(path, src)
        try:
            sha.update(repr((name, os.path.getsize(path))).encode("utf-8", "surrogateescape"))
            if path.endswith(TABLES) and os.path.isfile(path):
                with open(path, "rb") as file:
                    while block := file.read(1 << 20):
                        sha.update(block)
        except OSError:  # a link that leads nowhere
            sha.update(name.encode("utf-8", "surrogateescape"))
    return sha.hexdigest()


def source_folder(src: Any) -> Path:
    """The folder of a source.

    Raises:
        DPoseError: when there is none.
    """
    path = Path(str(src))
    if not path.is_dir():
        raise DPoseError(f"src={src} is no folder: set src= to the folder of the source")
    return path


def relative(path: Path, root: Path) -> str:
    """A path as the index shows it: relative to the source folder."""
    return Path(os.path.relpath(path, root if root.is_dir() else root.parent)).as_posix()
