"""One file for a fitted mixture: .npz of plain arrays and a JSON string, nothing pickled."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from dpose_yolo.arrays import read_arrays
from dpose_yolo.errors import DPoseError

FORMAT = "dpose-posture-mixture"
VERSION = 1


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be saved")


def write_state(path: Path, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write to a temporary neighbour, then rename: a reader sees the old file or the new one, never half of one."""
    text = json.dumps({"format": FORMAT, "version": VERSION, **meta}, default=_plain)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, meta=np.array(text), **arrays)  # type: ignore[arg-type]
        os.replace(temporary, path)
    except OSError as error:
        raise DPoseError(f"cannot write the posture mixture to {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):  # its folder may not even exist
            temporary.unlink(missing_ok=True)


def read_state(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what `write_state` wrote; DPoseError when missing, broken, foreign or of another version."""
    if not path.is_file():
        raise DPoseError(f"there is no posture mixture at {path}: fit one first")
    try:
        arrays = read_arrays(path)
        meta = json.loads(str(arrays.pop("meta")))
        name, version = meta["format"], meta["version"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DPoseError(f"{path} is broken or no posture mixture: delete it and fit again") from error
    if name != FORMAT or version != VERSION:
        raise DPoseError(f"{path} holds '{name}' version {version}, expected '{FORMAT}' {VERSION}: fit again")
    return meta, arrays
