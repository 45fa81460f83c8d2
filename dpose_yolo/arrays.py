"""Read `.npz` files that may be damaged or hostile: nothing is executed, no array is larger than its file."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np

MOST_DEFLATED = 1 << 28  # bytes of all arrays of a compressed file


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a file that `np.savez` or `np.savez_compressed` wrote, by name.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: for any damage: bad zip or header, arrays of objects, sizes that the content does not have.
    """
    if not path.is_file():
        raise FileNotFoundError(path)  # a pipe, which would never end, is no file either
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(m.file_size for m in members) > max(path.stat().st_size, MOST_DEFLATED):
                raise ValueError("its arrays are larger than such a file can be")
            return {m.filename.removesuffix(".npy"): _array(archive.read(m)) for m in members}
    except Exception as error:  # zip, deflate and header each raise what they like over broken bytes
        raise ValueError(" ".join(str(error).split())[:120] or type(error).__name__) from error


def _array(content: bytes) -> np.ndarray:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)  # type: ignore[no-untyped-call]
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)  # type: ignore[no-untyped-call]
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"an array of {dtype} and shape {shape} in {len(content)} bytes")
    flat = np.frombuffer(content, dtype, math.prod(shape), stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C").copy("K")
