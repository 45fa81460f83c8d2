"""The engine's label caches (`labels/*.cache`): pickles that are read without building anything but plain values."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np
from ultralytics.data import dataset as engine_dataset
from ultralytics.data import utils as engine_utils
from ultralytics.utils import LOGGER

from dpose_yolo.errors import DPoseError
from dpose_yolo.report.drawing import replacing

# What arrays of a cache may hold; object arrays, whose bytes would be taken for pointers, are not among it.
_NUMBERS = frozenset(
    ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")  # bool, integers, floating point
)
_OBJECT = "O8", "O4"  # only of the one cell around the whole cache
_PLAIN = frozenset((str, int, float, bool, type(None), np.ndarray))


def load_label_cache(path: Path) -> dict[str, Any]:
    """The engine's `load_dataset_cache_file`, which loads any pickle; here nothing that a file names is ever called.

    Names of numpy stand for classes of this module, which check what the file says about an array before numpy sees
    it: numpy's own would believe a file that calls bytes pointers. Any other name is refused.

    Args:
        path: the cache.

    Raises:
        Exception: when there is no such file or it is not plain, told by a warning; the engine then reads the labels
            and makes the cache again.
    """
    collecting = gc.isenabled()
    gc.disable()  # as the engine does it: hundreds of thousands of objects are made, none is garbage
    try:
        with open(path, "rb") as file:
            return _plain_cache(_read(file))
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever broken or hostile bytes lead to
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        LOGGER.warning(f"{path} is not a plain label cache ({reason}): it is left aside, the labels are read again")
        raise
    finally:
        if collecting:
            gc.enable()


def _read(file: IO[bytes]) -> Any:
    """What the one cell of an array file holds."""
    version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
    if version != (1, 0):
        raise pickle.UnpicklingError(f"an array file of version {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)  # type: ignore[no-untyped-call]
    if shape != () or not dtype.hasobject:
        raise pickle.UnpicklingError(f"an array of {dtype} and shape {shape}")
    cell = _Unpickler(file).load()
    if type(cell) is not _Array or type(cell.value) is not list or len(cell.value) != 1:
        raise pickle.UnpicklingError("no array of one cell")
    return cell.value[0]


class _Unpickler(pickle.Unpickler):
    """Knows the three names of numpy that an array's pickle has."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for.

        Raises:
            UnpicklingError: for any other name.
        """
        if name == "_reconstruct" and module in ("numpy._core.multiarray", "numpy.core.multiarray"):
            return _Array
        if module == "numpy" and name in ("ndarray", "dtype"):
            return _Kind if name == "dtype" else None
        raise pickle.UnpicklingError(f"it names {module}.{name}")


class _Kind:
    """What an array holds, in place of numpy's `dtype`."""

    __slots__ = ("code",)

    def __init__(self, code: str, align: bool = False, copy: bool = False):
        if type(code) is not str or not (code in _NUMBERS or code in _OBJECT):
            raise pickle.UnpicklingError(f"an array of {str(code)[:20]!r}")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take byte order and nothing else; fields and sub-arrays are refused."""
        if state[1] not in ("<", "|", "=") or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("an array of fields or of another byte order")


class _Array:
    """An array of numbers (`value` is numpy's), or the cell around the cache (`value` is a list).

    It stands for numpy's `_reconstruct`, too: what the arguments of that say comes again with the content.
    """

    __slots__ = ("value",)
    value: Any

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take version, shape, kind, order and content of an array, as numpy pickles them."""
        _, shape, kind, fortran, content = state
        if type(kind) is not _Kind:
            raise pickle.UnpicklingError("an array of nothing known")
        if kind.code in _OBJECT:
            if type(content) is not list:
                raise pickle.UnpicklingError("a cell without content")
            self.value = content
            return
        if type(content) is not bytes or type(shape) is not tuple:
            raise pickle.UnpicklingError("an array without content")
        seen = np.ndarray(shape, kind.code, content, order="F" if fortran else "C")
        if seen.nbytes != len(content):
            raise pickle.UnpicklingError("an array that is not as long as it says")
        self.value = seen.copy("K")  # writable, and independent of the bytes of the file


def _plain_cache(cache: Any) -> dict[str, Any]:
    """The cache with numpy's arrays in it, if it is a dictionary of plain values with a list of such ones."""
    if type(cache) is not dict or type(cache.get("labels")) is not list:
        raise pickle.UnpicklingError("no dictionary with labels")
    if not {"hash", "version", "results", "msgs"} <= cache.keys():
        raise pickle.UnpicklingError("parts of it are missing")
    for label in cache["labels"]:
        if type(label) is not dict:
            raise pickle.UnpicklingError("a label that is no dictionary")
        _settle(label)
    labels = cache.pop("labels")
    _settle(cache)
    return {"labels": labels, **cache}


def _settle(values: dict[str, Any]) -> None:
    """Put arrays in the place of `_Array`; values are plain ones, or lists and tuples of them."""
    for key, value in values.items():
        kind = type(value)
        if kind is _Array:
            values[key] = _array(value)
        elif kind is list:
            values[key] = [_array(v) if type(v) is _Array else _plain(v) for v in value]
        elif kind is tuple:
            values[key] = tuple(map(_plain, value))
        elif kind not in _PLAIN:
            raise pickle.UnpicklingError(f"{kind.__name__} in {str(key)[:20]!r}")


def _array(value: _Array) -> np.ndarray:
    found = getattr(value, "value", None)
    if type(found) is not np.ndarray:
        raise pickle.UnpicklingError("an array without content")
    return found


def _plain(value: Any) -> Any:
    if type(value) not in _PLAIN:
        raise pickle.UnpicklingError(f"{type(value).__name__} in a list")
    return value


def save_label_cache(prefix: str, path: Path, x: dict[str, Any], version: str) -> None:
    """The engine's `save_dataset_cache_file` in one step; a data folder that cannot be written to is no error."""
    x["version"] = version
    if not path.parent.is_dir():  # images without any labels: no folder is made for them
        return
    try:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, x)  # type: ignore[arg-type]
    except DPoseError as error:
        LOGGER.warning(f"{prefix}{error}; the labels will be scanned again next time")
        return
    LOGGER.info(f"{prefix}New cache created: {path}")


def guard_caches() -> None:
    """Make the engine write its label caches in one step, and read them without executing anything.

    To be called wherever the engine is about to read a data set; calling it again does no harm.
    """
    for module in (engine_dataset, engine_utils):
        module.load_dataset_cache_file = load_label_cache
        module.save_dataset_cache_file = save_label_cache
