"""Parameters and floating point operations of exported files, counted in their graphs.

A multiply-add counts as two operations, as in the engine's figures. Convolutions and matrix products count, with their
weights and biases; what is cheap beside them (activations, resizing, post-processing) does not.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Cost(NamedTuple):
    """Weights of a network, and billions of operations for one input; None where a file does not tell."""

    parameters: int | None
    gflops: float | None


def file_cost(path: str | Path, size: int) -> Cost:
    """Cost of an .onnx or .tflite file; nothing is known of other files, or without the package that reads them.

    Args:
        path: the file.
        size: side of the input in pixels, where the file leaves it open.
    """
    count = {".onnx": _onnx_cost, ".tflite": _tflite_cost}.get(Path(path).suffix.lower())
    if count is None:
        return Cost(None, None)
    try:
        return count(Path(path), size)
    except ImportError:
        return Cost(None, None)


# operator: positions of its input, its weight and its bias (of QLinearConv: between scales and zero points)
_ONNX_LAYERS: dict[str, tuple[int, ...]] = {
    "Conv": (0, 1, 2),
    "ConvTranspose": (0, 1, 2),
    "ConvInteger": (0, 1),
    "QLinearConv": (0, 3, 8),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
}
_PASSES_ON = ("DequantizeLinear", "QuantizeLinear", "Cast", "Identity", "Transpose", "Reshape")


def _onnx_cost(path: Path, size: int) -> Cost:
    import onnx

    graph = onnx.load(str(path)).graph
    layers = [node for node in graph.node if node.op_type in _ONNX_LAYERS]
    makers = {name: node for node in graph.node for name in node.output}
    constants = {t.name: math.prod(t.dims) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            constants[node.output[0]] = math.prod(node.attribute[0].t.dims)
    weights: set[str] = set()
    for node in layers:
        places = _ONNX_LAYERS[node.op_type][1:]
        weights |= {_origin(node.input[at], makers) for at in places if at < len(node.input)}
    parameters = sum(constants[name] for name in weights if name in constants)
    shapes = _onnx_shapes(path, size, layers)
    operations = 0
    for node in layers:
        into, weight, out = (shapes[name] for name in (*_ends(node), node.output[0]))
        operations += 2 * _multiplications(node.op_type, into, weight, out)
    return Cost(parameters, operations / 1e9)


def _origin(name: str, makers: dict[str, Any]) -> str:
    """The constant behind a weight that is dequantized, cast or turned first."""
    while name in makers and makers[name].op_type in _PASSES_ON:
        name = makers[name].input[0]
    return name


def _ends(node: Any) -> tuple[str, str]:
    """Names of a layer's input and weight."""
    into, weight = _ONNX_LAYERS[node.op_type][:2]
    return node.input[into], node.input[weight]


def _multiplications(kind: str, into: tuple[int, ...], weight: tuple[int, ...], out: tuple[int, ...]) -> int:
    """Multiply-adds of one layer from the shapes of its input, weight and output."""
    if kind == "ConvTranspose":
        return math.prod(into) * math.prod(weight[1:])
    if "Conv" in kind:
        return math.prod(out) * math.prod(weight[1:])
    return math.prod(out) * into[-1]


def _onnx_shapes(path: Path, size: int, layers: list[Any]) -> dict[str, tuple[int, ...]]:
    """Shapes around each layer, by running the file once on an empty image with all of them as outputs.

    Shape inference alone does not get through graphs that compute their shapes, as MoveNet's.
    """
    import onnx
    import onnxruntime

    model = onnx.load(str(path))
    known = {t.name: tuple(t.dims) for t in model.graph.initializer}
    wanted = {name for node in layers for name in (*_ends(node), node.output[0])} - set(known)
    present = {o.name for o in model.graph.output} | {i.name for i in model.graph.input}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(wanted - present))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {}
    for tensor in session.get_inputs():
        shape = [n if isinstance(n, int) and n > 0 else (1 if at == 0 else size) for at, n in enumerate(tensor.shape)]
        feed[tensor.name] = np.zeros(shape, _onnx_type(tensor.type))
        known[tensor.name] = tuple(shape)
    names = [o.name for o in session.get_outputs()]
    for name, value in zip(names, session.run(names, feed), strict=True):
        known[name] = tuple(np.shape(value))
    return known


def _onnx_type(name: str) -> Any:
    kind = name.removeprefix("tensor(").removesuffix(")")
    return {"float": np.float32, "double": np.float64}.get(kind) or np.dtype(kind)


def _tflite_cost(path: Path, size: int) -> Cost:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    graph = model.subgraphs[0]
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    makers: dict[int, Any] = {}
    layers = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        operator.kind = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        makers.update((int(out), operator) for out in operator.outputs)
        if operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"):
            layers.append(operator)
    weights: set[int] = set()
    operations = 0
    for operator in layers:
        # The weight is the second input; a transposed convolution has its output's shape in front of it.
        inputs = [int(i) for i in operator.inputs]
        weight = [int(n) for n in graph.tensors[inputs[1]].shape]
        out = [int(n) for n in graph.tensors[int(operator.outputs[0])].shape]
        constants = inputs[1:2] + inputs[3:4] if operator.kind == "TRANSPOSE_CONV" else inputs[1:3]
        weights |= {_tflite_origin(i, makers) for i in constants if i >= 0}
        each = weight[-1] if operator.kind == "FULLY_CONNECTED" else math.prod(weight[1:])
        if operator.kind == "DEPTHWISE_CONV_2D":
            each = math.prod(weight[1:3])
        elif operator.kind == "TRANSPOSE_CONV":
            out = [int(n) for n in graph.tensors[inputs[2]].shape[:3]] + weight[:1]
        operations += 2 * math.prod(out) * each
    parameters = sum(math.prod(int(n) for n in graph.tensors[i].shape) for i in weights)
    return Cost(parameters, operations / 1e9)


def _tflite_origin(index: int, makers: dict[int, Any]) -> int:
    while index in makers and makers[index].kind in ("DEQUANTIZE", "RESHAPE", "CAST"):
        index = int(makers[index].inputs[0])
    return index
