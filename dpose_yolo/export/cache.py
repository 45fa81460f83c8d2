"""TensorRT's calibration cache, out of the ranges that our calibration images gave a quantised graph.

TensorRT up to 10 can also choose the integer layers of a *float* ONNX file by itself (`trtexec --int8 --calib=`), if a
cache says how large each tensor gets. Its text is a line with version and calibrator, then `name: scale`, the scale as
the eight hexadecimal digits of a big-endian float32; scale = largest magnitude / 127. Tensors without a line are
computed in floating point: the pose head, where the quantised graph left it so.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

from dpose_yolo.errors import DPoseError

CALIBRATOR = "EntropyCalibration2"  # the calibrator that trtexec reads a cache with
LAST = 10  # TensorRT 11 has no calibrators any more


def check_version(value: Any) -> str | None:
    """A TensorRT version as `major.minor.patch`, further numbers left out.

    Raises:
        DPoseError: for anything else, and for a version that reads no cache.
    """
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,2})\.(\d{1,2})\.(\d{1,2})(\.\d+)?", str(value))
    if not found:
        raise DPoseError(
            f"calibration_cache={value} is not allowed: give the TensorRT version of the board with its three numbers, "
            "calibration_cache=10.3.0 (trtexec prints it in its first line, TensorRT v100300 is 10.3.0)"
        )
    if int(found[1]) > LAST:
        raise DPoseError(
            f"calibration_cache={value}: TensorRT {found[1]} reads no calibration cache; leave it out: the ranges are "
            "in the file itself"
        )
    return ".".join(found.groups()[:3])


def calibration_cache(quantised: str | Path, version: str) -> str:
    """The text of a cache for the float graph that a symmetric quantised graph was made from.

    Args:
        quantised: an .onnx file with QuantizeLinear nodes around 0.
        version: of TensorRT, `10.3.0`; another one refuses the cache by its first line.

    Returns:
        The lines, one a quantised tensor, sorted by name.

    Raises:
        DPoseError: for a graph without such nodes.
    """
    import onnx

    graph = onnx.load(str(quantised)).graph
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    scales = {
        node.input[0]: float(constants[node.input[1]])
        for node in graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] not in constants and constants[node.input[1]].ndim == 0
    }
    if not scales:
        raise DPoseError(f"{quantised} has no quantised activations: nothing to write a calibration cache from")
    major, minor, patch = (int(n) for n in version.split("."))
    number = major * 10000 + minor * 100 + patch if major >= 10 else major * 1000 + minor * 100 + patch
    lines = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in sorted(scales.items())]
    return "\n".join([f"TRT-{number}-{CALIBRATOR}", *lines]) + "\n"
