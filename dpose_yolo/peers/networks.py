"""Loads ONNX and TFLite files for the adapters, with one line where a package is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.peers.base import Network

Shape = tuple[int | None, ...]

_ONNX_TYPES = {"float": np.float32, "float16": np.float16, "int32": np.int32, "uint8": np.uint8, "int64": np.int64}


def load_network(path: str | Path, threads: int | None = None) -> Network:
    """Load a file by its ending, `.onnx` or `.tflite`.

    Args:
        path: the file.
        threads: of the run; None leaves it to the runtime.

    Raises:
        DPoseError: for a missing package or a file that cannot be loaded.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".onnx", ".tflite"):
        raise DPoseError(f"{path} is neither an .onnx nor a .tflite file")
    try:
        return OnnxNetwork(path, threads) if suffix == ".onnx" else TFLiteNetwork(path, threads)
    except (DPoseError, MemoryError):
        raise
    except Exception as error:  # the runtimes raise classes of their own
        raise DPoseError(f"{path} cannot be loaded: {' '.join(str(error).split())[:200]}") from error


class OnnxNetwork:
    """An ONNX file in onnxruntime, on the CPU."""

    def __init__(self, path: str | Path, threads: int | None = None):
        try:
            import onnxruntime
        except ImportError as error:
            raise DPoseError(f"{path} needs onnxruntime: pip install onnxruntime onnx") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = options.inter_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        first = self.session.get_inputs()[0]
        self.input_name = first.name
        self.input_shape = _shape(first.shape)
        self.input_type = np.dtype(_ONNX_TYPES.get(first.type.removeprefix("tensor(").removesuffix(")"), np.float32))
        self.output_shapes = {o.name: _shape(o.shape) for o in self.session.get_outputs()}
        self.metadata = dict(self.session.get_modelmeta().custom_metadata_map)

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name for an input of `input_shape`."""
        names = list(self.output_shapes)
        values = self.session.run(names, {self.input_name: image.astype(self.input_type, copy=False)})
        return dict(zip(names, values, strict=True))


class TFLiteNetwork:
    """A TFLite file in LiteRT (formerly TensorFlow Lite), on the CPU.

    Integer inputs and outputs are scaled by the file's quantization, so that the adapter sees real values.
    """

    def __init__(self, path: str | Path, threads: int | None = None):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise DPoseError(f"{path} needs ai-edge-litert: pip install ai-edge-litert") from error
        self.interpreter = Interpreter(model_path=str(path), num_threads=threads)
        self.interpreter.allocate_tensors()
        self.input: dict[str, Any] = self.interpreter.get_input_details()[0]
        self.outputs: list[dict[str, Any]] = self.interpreter.get_output_details()
        self.input_shape = _shape(self.input["shape"])
        self.input_type = np.dtype(self.input["dtype"])
        self.output_shapes = {o["name"]: _shape(o["shape"]) for o in self.outputs}
        self.metadata: dict[str, str] = {}

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name for an input of `input_shape`."""
        self.interpreter.set_tensor(self.input["index"], image.astype(self.input_type, copy=False))
        self.interpreter.invoke()
        return {o["name"]: _real(self.interpreter.get_tensor(o["index"]), o) for o in self.outputs}


def _real(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    scale, zero = details.get("quantization") or (0.0, 0)
    if not scale or not np.issubdtype(values.dtype, np.integer):
        return values
    return (values.astype(np.float32) - zero) * scale


def _shape(shape: Any) -> Shape:
    """Sizes as whole numbers; None where a file leaves one open."""
    return tuple(int(n) if isinstance(n, int | np.integer) and n > 0 else None for n in shape)
