"""INT8 of ONNX graphs: static quantisation after training, with the pose head and the decoding in floating point.

Keypoints are regressed: a step of 1/255 of the range of a layer that gives pixels is a visible shift, while the body
before it only has to carry features. So the body is quantised, weights channel by channel, and the head is not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.export.options import Int8Options

INT8 = "dpose_int8"  # metadata key: how the graph was quantised
WORTH = 256  # numbers in a constant from which on half precision saves more than the node that turns it back
# Signed activations around 0, float biases, and weights that the parser quantises itself: what TensorRT demands.
TENSORRT = {"ActivationSymmetric": True, "QuantizeBias": False, "AddQDQPairToWeight": True, "DedicatedQDQPair": True}
# What ONNX Runtime and TensorRT have integer kernels for. Only chains of them save time: a float operator in between
# costs a step to float and back.
OPERATORS = ("Conv", "Gemm", "MatMul", "Concat", "MaxPool", "Resize", "Add", "Mul", "Sigmoid")


def quantise(
    source: str | Path, target: str | Path, blobs: Sequence[Callable[[], np.ndarray]], head: int, options: Int8Options
) -> dict[str, Any]:
    """Write a quantised copy of an engine's ONNX file.

    Args:
        source: what the engine's export wrote, with fixed shapes.
        target: the new file, with QuantizeLinear and DequantizeLinear nodes around the integer operators.
        blobs: each gives one (1, C, h, w) float32 calibration input.
        head: number of the pose head among the model's modules; its nodes are named `/model.N/...`.
        options: see there.

    Returns:
        What is to be told: numbers of operators in integers and in floating point.

    Raises:
        DPoseError: for a graph without such a head.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    model = onnx.load(str(source))
    of_head = [node.name for node in model.graph.node if node.name.startswith(f"/model.{head}/")]
    if not of_head:
        raise DPoseError(f"{source} has no nodes named /model.{head}/: its head cannot be told from its body")
    # With float_head=False its branches are quantised; the decoding never is: one step of its output is whole pixels.
    left = [name for name in of_head if options.float_head or "/cv" not in name]
    known = [node.name for node in model.graph.node if node.op_type in OPERATORS]
    with _without_advice():
        quantize_static(
            str(source),
            str(target),
            _reader(blobs, model.graph.input[0].name),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            nodes_to_exclude=left,
            per_channel=True,
            activation_type=QuantType.QInt8 if options.symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"WeightSymmetric": True, **(TENSORRT if options.symmetric else {})},
        )
    quantised = onnx.load(str(target))
    told = {p.key: p.value for p in model.metadata_props} | {INT8: str(vars(options))}
    onnx.helper.set_model_props(quantised, told)
    if not options.symmetric:  # TensorRT wants each weight to come straight from its constant
        _store_in_half(quantised)
    onnx.checker.check_model(quantised)
    onnx.save(quantised, str(target))
    integers = len(set(known) - set(left))
    return {"integer_operators": integers, "float_operators": len(model.graph.node) - integers, **vars(options)}


def _store_in_half(model: Any) -> None:
    """Store the float weights that are left in half precision: half the file, and single precision again at loading."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    del graph.value_info[:]  # types and shapes in between, which every runtime infers itself
    casts = []
    for at, tensor in enumerate(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if (
            tensor.data_type != TensorProto.FLOAT
            or values.ndim < 2
            or values.size < WORTH
            or np.abs(values).max() > 1e4
        ):
            continue
        name = tensor.name
        graph.initializer[at].CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], name=f"{name}_cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Without the advice to pre-process the graph: the engine's export has simplified it."""
    root = logging.getLogger()

    def wanted(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    root.addFilter(wanted)
    try:
        yield
    finally:
        root.removeFilter(wanted)


def _reader(blobs: Sequence[Callable[[], np.ndarray]], name: str) -> Any:
    """The blobs as ONNX Runtime's calibration takes them, one in memory at a time."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """One blob after the other."""

        def __init__(self) -> None:
            """See the class."""
            self.left = iter(blobs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next input, None at the end."""
            make = next(self.left, None)
            return None if make is None else {name: make()}

        def rewind(self) -> None:
            """Begin again."""
            self.left = iter(blobs)

    return Reader()
