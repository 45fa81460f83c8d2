"""Paths that a file of somebody else names: taken only if they stay inside the data folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dpose_yolo.errors import DPoseError


def inside(root: str | Path, entry: Any, where: str, base: str | Path | None = None) -> str:
    """Full path of an entry of a YAML, JSON or list, refused if it leads out of the data folder.

    The path is compared as it is written (`..` resolved, links not followed): a data set from elsewhere must not name
    files outside its folder, while links that the user laid inside it are the user's own. A `..` behind such a link is
    refused where the system, which follows the link first, would arrive elsewhere. A full path may also start with what
    the data folder really is, where that is reached through a link.

    Args:
        root: the data folder.
        entry: a path, relative to `base` or absolute.
        where: what names it, as the beginning of the error line.
        base: folder of relative entries; `root` unless given.

    Raises:
        DPoseError: for a path outside `root`, and for what is no path.
    """
    if not isinstance(entry, str) or not entry.strip() or "\0" in entry:
        raise DPoseError(f"{where} holds {entry!r}, which is not a path: write a path inside {root}")
    top = os.path.abspath(root)
    written = os.path.join(base or top, entry)
    path = os.path.abspath(written)
    strays = os.pardir in Path(written).parts and os.path.realpath(written) != os.path.realpath(path)
    if strays or not (_below(path, top) or _below(path, os.path.realpath(top))):
        raise DPoseError(
            f"{where} names {entry}, which lies outside the data folder {top}: move the files into it, or set path: in "
            "the data YAML to a folder that holds all of them"
        )
    return path


def _below(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip(os.sep) + os.sep)
