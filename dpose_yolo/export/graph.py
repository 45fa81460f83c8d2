"""Appending nodes to an ONNX graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper, numpy_helper


class Graph:
    """Appends nodes with constants to an ONNX graph."""

    def __init__(self, graph: Any, opset: int):
        self.graph, self.opset, self.count = graph, opset, 0
        self.nodes: list[Any] = []

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Name of a new constant."""
        self.count += 1
        name = f"dpose_constant_{self.count}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node; the name of its output."""
        self.count += 1
        output = name or f"dpose_{kind.lower()}_{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=f"dpose/{output}", **attributes))
        return output

    def slice(self, value: str, start: int, stop: int, axis: int = 1) -> str:
        """Part of a tensor along an axis."""
        ends = [self.constant([n], np.int64) for n in (start, stop, axis)]
        return self.add("Slice", value, *ends)

    def reshape(self, value: str, shape: Any, name: str = "") -> str:
        """The same numbers in another shape."""
        return self.add("Reshape", value, self.constant(shape, np.int64), name=name)
