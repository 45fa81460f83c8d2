"""Made-up ONNX models for tests: they give a fixed answer, whatever they see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TWO = {"task": "pose", "kpt_shape": [3, 3], "imgsz": [64, 64], "names": {0: "driver"}, "channels": 3, "end2end": False}


def write_onnx(path: Path, answer: np.ndarray, told: dict[str, Any], shape: tuple = (1, 3, 64, 64)) -> Path:
    """A model with the input `images` of a shape and the constant output `answer`, and metadata as the engine's."""
    constant = numpy_helper.from_array(np.asarray(answer, np.float32), "answer")
    zero = numpy_helper.from_array(np.zeros(1, np.float32), "zero")
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "zero"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "fixed",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, list(constant.dims))],
        [constant, zero],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in told.items():
        model.metadata_props.add(key=key, value=str(value))
    onnx.save(model, path)
    return path


def two_persons(driver: float = 0.6, passenger: float = 0.8) -> np.ndarray:
    """(1, 14, 8) candidates on a 64x64 input with two persons, one on the left (the passenger), one on the right."""
    answer = np.zeros((1, 14, 8), np.float32)
    answer[0, :5, 2] = [16, 32, 20, 40, passenger]
    answer[0, :5, 5] = [48, 30, 24, 44, driver]
    answer[0, 5:, 2] = [10, 20, 0.9, 16, 32, 0.8, 22, 44, 0.7]
    answer[0, 5:, 5] = [42, 18, 0.5, 48, 30, 0.6, 54, 42, 0.4]
    return answer
