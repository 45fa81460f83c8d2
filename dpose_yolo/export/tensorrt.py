"""Whether TensorRT takes an ONNX file: its operators, types and shapes, read without TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Operators that NVIDIA's ONNX parser takes since TensorRT 8.4 (its table of operators, docs/operators.md of
# onnx-tensorrt), those of them that a pose network can hold.
OPERATORS = frozenset(
    """Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv
    ConvTranspose CumSum DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand Flatten Floor Gather
    GatherElements GatherND Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HardSigmoid Identity
    InstanceNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Mean Min Mul Neg Not Or PRelu Pad
    Pow QuantizeLinear Range ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape Resize
    Round ScatterElements ScatterND Selu Shape Sigmoid Sign Size Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze
    Sub Sum Tanh ThresholdedRelu Tile TopK Transpose Unsqueeze Upsample Where""".split()  # noqa: SIM905
)
TYPES = ("FLOAT", "FLOAT16", "UINT8")  # of inputs and outputs; UINT8 since TensorRT 10


def tensorrt_problems(path: str | Path) -> list[str]:
    """What would keep TensorRT from building an engine with fixed shapes; empty if nothing is known to.

    Args:
        path: an .onnx file.

    Returns:
        One short line a problem.
    """
    import onnx

    model = onnx.load(str(path))
    problems = [f"operators of the domain {o.domain}" for o in model.opset_import if o.domain not in ("", "ai.onnx")]
    kinds = sorted({node.op_type for node in model.graph.node} - OPERATORS)
    if kinds:
        problems.append(f"operators that its parser does not know: {', '.join(kinds)}")
    modes = {a.s.decode() for n in model.graph.node if n.op_type == "Resize" for a in n.attribute if a.name == "mode"}
    problems += [f"Resize in the mode {mode}" for mode in sorted(modes - {"nearest", "linear"})]
    ends = [*model.graph.input, *model.graph.output]
    for value in ends:
        kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        if kind not in TYPES:
            problems.append(f"{value.name} holds {kind} numbers")
    bytes_in = {v.name for v in model.graph.input if v.type.tensor_type.elem_type == onnx.TensorProto.UINT8}
    users = sorted({n.op_type for n in model.graph.node if bytes_in & set(n.input)} - {"Cast"})
    problems += [f"{kind} of bytes, which it only converts" for kind in users]
    problems += _quantisation(model)
    graph = onnx.shape_inference.infer_shapes(model).graph
    open_ends = [v.name for v in ends if not _fixed(v)]
    inside = [v.name for v in graph.value_info if not _fixed(v)]
    if open_ends:
        problems.append(f"sizes left open: {', '.join(open_ends)}")
    elif inside:
        problems.append(f"sizes that depend on the picture, the first: {inside[0]}")
    return problems


def _quantisation(model: Any) -> list[str]:
    """What TensorRT does not take of quantised graphs: its integers are INT8 around 0."""
    import onnx

    constants = {t.name: t for t in model.graph.initializer}
    problems = set()
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is None or zero.data_type != onnx.TensorProto.INT8 or onnx.numpy_helper.to_array(zero).any():
            problems.add("integers that are not INT8 around 0 (int8=True symmetric=True makes such)")
    return sorted(problems)


def _fixed(value: Any) -> bool:
    """Whether all sizes of a tensor are numbers."""
    shape = value.type.tensor_type
    return shape.HasField("shape") and all(d.HasField("dim_value") for d in shape.shape.dim)
