"""What a format needs before an export begins: packages, a graphics card; told in one line where it is missing."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from dpose_yolo.errors import DPoseError

ALIASES = {"tensorrt": "engine", "trt": "engine", "tflite": "litert", "ov": "openvino"}
# As the engine's exporters ask for them (ultralytics/engine/exporter.py, utils/export/*.py); where they are missing
# the engine would install them unasked.
PACKAGES: dict[str, tuple[str, ...]] = {
    "onnx": ("onnx>=1.16,<2", "onnxslim>=0.1.82", "onnxruntime>=1.17"),
    "openvino": ("openvino>=2024.0.0",),
    "ncnn": ("ncnn", "pnnx==20260526"),
    "litert": ("litert-torch>=0.10.0", "ai-edge-litert>=2.3.0"),
    "engine": ("onnx>=1.16,<2", "onnxslim>=0.1.82", "onnxruntime>=1.17"),
    "torchscript": (),
}
INT8_ALSO: dict[str, tuple[str, ...]] = {"openvino": ("nncf>=2.14.0",), "litert": ("ai-edge-quantizer>=0.10.0",)}


@dataclass(frozen=True)
class Precision:
    """What parity asks of a model of a precision.

    Attributes:
        bits: 32, 16 or 8 of the weights.
        pixels: largest allowed keypoint difference in pixels of the picture, None where only AP is judged.
        ap: largest allowed loss of AP; of single precision, largest allowed difference either way.
        tie: scores closer than this are the same: which of two candidates is taken is then no matter.
    """

    bits: int
    pixels: float | None
    ap: float
    tie: float


FP32 = Precision(32, 0.05, 0.001, 1e-4)
PRECISIONS = {32: FP32, 16: Precision(16, None, 0.005, 1e-2), 8: Precision(8, None, 0.010, 5e-2)}
_BY_FORMAT = {"rknn": 16, "ascend": 16}  # half precision unless told otherwise (ultralytics/engine/exporter.py)


def precision_of(fmt: str, quantize: Any) -> Precision:
    """What the engine's setting `quantize` means: None or 32, 16, 8, w8a16, w8a32."""
    if quantize is None:
        return PRECISIONS[_BY_FORMAT.get(fmt, 32)]
    return PRECISIONS.get(8 if str(quantize).startswith("w8") else quantize, FP32)


def check_format(name: Any) -> str:
    """The engine's name of a format.

    Raises:
        DPoseError: for a format that it does not know.
    """
    from ultralytics.engine.exporter import export_formats

    known = [f for f in export_formats()["Argument"] if f != "-"]
    wanted = ALIASES.get(str(name).lower(), str(name).lower())
    if wanted not in known:
        near = difflib.get_close_matches(wanted, [*known, *ALIASES], n=1)
        hint = f"did you mean {near[0]}?" if near else f"the formats are {', '.join(known)}"
        raise DPoseError(f"format={name} is not known: {hint}")
    return wanted


def require_toolkit(fmt: str, int8: bool = False) -> None:
    """Refuse a format whose packages or graphics card are not there.

    Raises:
        DPoseError: with the command that installs what is missing.
    """
    if fmt == "engine":
        _require_nvidia()
    from ultralytics.utils.checks import check_requirements

    needed = (*PACKAGES.get(fmt, ()), *(INT8_ALSO.get(fmt, ()) if int8 else ()))
    missing = [p for p in needed if not check_requirements(p, install=False)]
    if missing:
        wanted = " ".join(f"'{p}'" for p in missing)
        one = "which is" if len(missing) == 1 else "which are"
        raise DPoseError(f"format={fmt} needs {', '.join(missing)}, {one} not installed: pip install {wanted}")


def _require_nvidia() -> None:
    import torch

    if not torch.cuda.is_available():
        raise DPoseError(
            "format=engine (TensorRT) is built on an NVIDIA graphics card, and there is none here: export format=onnx, "
            "which is checked for TensorRT, and build it on the board as docs/deploy.md says"
        )
    if find_spec("tensorrt") is None:
        major = (torch.version.cuda or "12").split(".")[0]
        raise DPoseError(f"format=engine needs TensorRT, which is not installed: pip install tensorrt-cu{major}")
