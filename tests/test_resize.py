"""The resizing in a graph is OpenCV's, to the bit."""

from __future__ import annotations

import random

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from dpose_yolo.export.graph import Graph
from dpose_yolo.export.resize import resize

random_sizes = random.Random(0)
# What cameras and networks have, and anything.
SIZES = [
    ((640, 480), (480, 360)),
    ((1280, 720), (480, 270)),
    ((1280, 800), (480, 300)),
    ((1920, 1080), (512, 288)),
    ((1600, 1300), (320, 260)),
    ((960, 720), (480, 360)),  # by half: another method of OpenCV's
    ((960, 540), (320, 180)),
    ((320, 240), (480, 360)),
    ((5, 3), (400, 240)),
    ((400, 240), (5, 3)),
    ((7, 300), (1, 32)),
    *(
        ((random_sizes.randint(2, 900), random_sizes.randint(2, 900)), (random_sizes.randint(1, 500),) * 2)
        for _ in range(40)
    ),
]


def resized(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """A picture through a graph that does nothing else."""
    channels = picture.shape[2]
    graph = helper.make_graph(
        [],
        "resize",
        [helper.make_tensor_value_info("picture", TensorProto.UINT8, [1, *picture.shape])],
        [helper.make_tensor_value_info("resized", TensorProto.FLOAT, [1, height, width, channels])],
    )
    g = Graph(graph, 17)
    value = resize(g, "picture", channels, (picture.shape[0], picture.shape[1]), (height, width))
    g.add("Identity", value, name="resized")
    graph.node.extend(g.nodes)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"picture": picture[None]})[0][0]


@pytest.mark.parametrize(("source", "target"), SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_opencvs(source, target, channels):
    noise = np.random.default_rng(sum(source)).integers(0, 256, (source[1], source[0], channels), dtype=np.uint8)
    noise[: source[1] // 3] = 255  # the largest sums
    expected = cv2.resize(noise, target, interpolation=cv2.INTER_LINEAR).reshape(target[1], target[0], channels)
    np.testing.assert_array_equal(resized(noise, *target), expected)


def test_floating_point_would_not_do():
    """What the fixed-point numbers are for: a plain linear resize differs in one pixel of ten."""
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 1), dtype=np.uint8)
    plain = cv2.resize(noise.astype(np.float32), (480, 360), interpolation=cv2.INTER_LINEAR)
    off = np.floor(plain + 0.5) != cv2.resize(noise, (480, 360), interpolation=cv2.INTER_LINEAR)
    assert 0.02 < off.mean() < 0.2
