"""OpenCV's linear resizing of bytes as nodes of an ONNX graph, to the bit.

`cv2.resize(..., interpolation=cv2.INTER_LINEAR)` calculates bytes in fixed-point numbers: weights of 11 bits, a first
sum along the rows, a second along the columns that drops bits on the way (`HResizeLinear` and `VResizeLinear` in
OpenCV's modules/imgproc/src/resize.cpp). ONNX's own Resize calculates in floating point and is off by a grey level in
one pixel of ten, which moves keypoints by more than the proof of an export allows. Here the same integers are kept in
floating-point tensors, below 2 to the 24th, where single precision holds each of them: every runtime has these
operators.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from dpose_yolo.export.graph import Graph

WEIGHT_BITS = 11  # INTER_RESIZE_COEF_BITS


def linear_taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of a resized row comes from, and the weight of its second source, as OpenCV rounds them.

    Args:
        source: pixels of the row.
        target: pixels of the resized row.

    Returns:
        (target,) int64, index of the first source, which may be -1 and, like its successor, has to be clipped; and
        (target,) float32, the share of the second one.
    """
    step = 1.0 / (target / source)  # not source / target: the last bit of it counts
    place = ((np.arange(target) + 0.5) * step - 0.5).astype(np.float32)
    first = np.floor(place)
    return first.astype(np.int64), place - first


def weights(share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both weights of a pair of pixels as whole numbers of 2 to the -11th, halves to even; float64."""
    return (
        np.rint((np.float32(1) - share) * np.float32(1 << WEIGHT_BITS)).astype(np.float64),
        np.rint(share * np.float32(1 << WEIGHT_BITS)).astype(np.float64),
    )


def resize(g: Graph, picture: str, channels: int, source: tuple[int, int], target: tuple[int, int]) -> str:
    """Nodes that resize a picture of bytes as OpenCV does.

    Args:
        g: the graph.
        picture: name of a (1, H, W, channels) uint8 tensor.
        channels: of the picture.
        source: its height and width.
        target: height and width asked for.

    Returns:
        Name of a (1, height, width, channels) float32 tensor of whole numbers, 0 to 255.

    By half in both directions OpenCV takes its area method, the mean of 2 x 2 pixels, halves up, which is the same.
    """
    rows, share = linear_taps(source[0], target[0])
    pairs = [np.clip(rows + n, 0, source[0] - 1) for n in (0, 1)]
    needed = np.unique(np.concatenate(pairs))  # of a picture twice as high and more, some rows are never looked at
    value = g.add("Cast", picture, to=TensorProto.FLOAT)  # first, since TensorRT does nothing else with bytes
    if len(needed) < source[0]:
        value = g.add("Gather", value, g.constant(needed, np.int64), axis=1)
    along = _rows(g, value, channels, source[1], (len(needed), target[1]))
    parts = []
    for pair, weight in zip(pairs, weights(share), strict=True):
        row = g.add("Gather", along, g.constant(np.searchsorted(needed, pair), np.int64), axis=1)
        # (row * weight) >> 16 has 27 bits on the way: in two halves of the weight of which each product keeps below 24.
        high, low = np.divmod(weight, 64)
        upper = g.add("Mul", row, g.constant(high[:, None]))
        lower = g.add("Floor", g.add("Mul", row, g.constant(low[:, None] / 64)))
        parts.append(g.add("Floor", g.add("Mul", g.add("Add", upper, lower), g.constant(2.0**-10))))
    total = g.add("Add", g.add("Add", *parts), g.constant(2.0))
    value = g.add("Floor", g.add("Mul", total, g.constant(0.25)))
    return g.reshape(value, [1, *target, channels])


def _rows(g: Graph, picture: str, channels: int, width: int, target: tuple[int, int]) -> str:
    """The first pass, along the rows, without its lowest 4 bits: (1, rows, width * channels)."""
    columns, share = linear_taps(width, target[1])
    share = np.where((columns < 0) | (columns >= width - 1), np.float32(0), share)  # beyond the border nothing counts
    sums = []
    for n, weight in enumerate(weights(share)):
        taps = g.constant(np.clip(columns + n, 0, width - 1), np.int64)
        pixels = g.add("Gather", picture, taps, axis=2)
        value = g.reshape(pixels, [1, target[0], target[1] * channels])  # long rows: no broadcasting of weights in them
        sums.append(g.add("Mul", value, g.constant(np.repeat(weight, channels) / 16)))
    return g.add("Floor", g.add("Add", *sums))
