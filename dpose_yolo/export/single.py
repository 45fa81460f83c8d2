"""ONNX graphs that end in one driver: the choice, and the work on the picture if asked, are nodes of the graph.

The engine's graph ends in all candidates, (1, 4 + classes + K D, candidates). A cabin has one driver, and the likeliest
candidate is the one that non-maximum suppression keeps first: so an ArgMax over the scores gives the same answer, at
fixed shapes and without any code outside.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from dpose_yolo.errors import DPoseError
from dpose_yolo.export.graph import Graph
from dpose_yolo.export.resize import resize
from dpose_yolo.report.drawing import replacing
from dpose_yolo.runtime.card import SINGLE, class_names, class_of_driver
from dpose_yolo.runtime.pictures import PADDING, Placement

LOWEST_OPSET = 13  # axes as inputs; older ones are not worth the second way to write everything
OUTPUTS = ("box", "score", "keypoints")


@dataclass(frozen=True)
class SingleOptions:
    """How a graph ends in one driver.

    Attributes:
        roi: region in which the centre of the driver's box has to lie, x1, y1, x2, y2 as shares of the picture.
        frame: width and height of the camera's pictures, None if only the runtime knows.
        preprocess: take uint8 pictures (1, H, W, C) in BGR order rather than letterboxed floats: of the size of `frame`
            (the letterbox is then in the graph, and results are in pixels of the frame), else of the network's input.
        grey: those pictures have one channel.
        driver_class: name or number of the driver's class, see `runtime.card.class_of_driver`.
    """

    roi: tuple[float, float, float, float] | None = None
    frame: tuple[int, int] | None = None
    preprocess: bool = False
    grey: bool = False
    driver_class: Any = None


def write_single(source: str | Path, target: str | Path, options: SingleOptions) -> Path:
    """Write a copy of an engine's ONNX file that ends in `box` (1, 4), `score` (1, 1) and `keypoints` (1, K, D).

    The box is x1, y1, x2, y2; keypoints are x, y and their confidence. Both are in pixels of the network's input, or of
    the frame if the letterbox is in the graph. The score is -1 where no candidate lies in the region.

    Args:
        source: what the engine's export wrote, with fixed shapes, one picture at a time, without NMS.
        target: the new file.
        options: see there.

    Raises:
        DPoseError: for a file of another make, and options that do not go together.
    """
    model = onnx.load(str(source))
    told = {p.key: p.value for p in model.metadata_props}
    opset = max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    channels, height, width, candidates = _check(model, source, opset)
    kpt_shape = ast.literal_eval(told["kpt_shape"])
    names = class_names(ast.literal_eval(told["names"]))
    classes, driver = len(names), class_of_driver(names, options.driver_class, source)
    place = check_frame(options, (height, width))
    inside = options.preprocess and options.frame is not None
    tail = Graph(model.graph, opset)
    _choose(tail, model.graph.output[0].name, classes, driver, kpt_shape, options.roi, place, inside)
    head = Graph(model.graph, opset)
    head.count = tail.count
    if options.preprocess:
        _prepare(head, channels, place, options.grey)
    nodes = [*head.nodes, *model.graph.node, *tail.nodes]
    del model.graph.node[:], model.graph.output[:]
    model.graph.node.extend(nodes)
    shapes = ([1, 4], [1, 1], [1, *kpt_shape])
    for name, shape in zip(OUTPUTS, shapes, strict=True):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    about = {
        "roi": list(options.roi) if options.roi else None,
        "frame": list(options.frame) if options.frame else None,
        "preprocess": options.preprocess,
        "grey": options.grey,
        "candidates": candidates,
    }
    model.metadata_props.add(key=SINGLE, value=str(about))
    onnx.checker.check_model(model)
    with replacing(target) as temporary:
        onnx.save(model, str(temporary))
    return Path(target)


def check_frame(options: SingleOptions, size: tuple[int, int]) -> Placement:
    """Where the camera's picture lies in the input, or the input itself where no frame is given.

    Args:
        options: of the export.
        size: height and width of the input.

    Raises:
        DPoseError: for a region without a frame.
    """
    frame = (options.frame[1], options.frame[0]) if options.frame else None
    place = Placement.centred(frame or size, size)
    if options.roi and not frame:
        raise DPoseError("roi is a share of the camera's picture: say its width and height too, frame=(640, 480)")
    return place


def _check(model: Any, source: str | Path, opset: int) -> tuple[int, int, int, int]:
    """Channels, height and width of the input, and the number of candidates.

    Raises:
        DPoseError: for a graph that cannot be made to end in one driver.
    """
    if opset < LOWEST_OPSET:
        raise DPoseError(f"single=True needs opset {LOWEST_OPSET} or newer, and {source} has {opset}: leave out opset=")
    shapes = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*model.graph.input, *model.graph.output)]
    if len(shapes) != 2 or len(shapes[0]) != 4 or len(shapes[1]) != 3 or not all(map(all, shapes)):
        raise DPoseError(f"{source} has open sizes or several ends: single=True needs a plain export with fixed shapes")
    if shapes[0][0] != 1:
        raise DPoseError(f"{source} takes {shapes[0][0]} pictures at a time: single=True needs batch=1")
    return shapes[0][1], shapes[0][2], shapes[0][3], shapes[1][2]


def _choose(
    g: Graph, output: str, classes: int, driver: int, kpt_shape: Any, roi: Any, place: Placement, to_frame: bool
) -> None:
    """Nodes from all candidates to the likeliest one."""
    scores = g.slice(output, 4, 4 + classes)
    if classes > 1:
        if g.opset >= 18:
            most = g.add("ReduceMax", scores, g.constant([1], np.int64), keepdims=1)
        else:
            most = g.add("ReduceMax", scores, axes=[1], keepdims=1)
        scores = g.slice(output, 4 + driver, 5 + driver)
        scores = g.add("Where", g.add("GreaterOrEqual", scores, most), scores, g.constant(-1.0))
    if roi is not None:
        corners = place.forward(np.asarray(roi).reshape(2, 2) * place.picture[::-1])
        kept = []
        for axis in (0, 1):
            centre = g.slice(output, axis, axis + 1)
            kept.append(g.add("GreaterOrEqual", centre, g.constant(corners[0, axis])))
            kept.append(g.add("LessOrEqual", centre, g.constant(corners[1, axis])))
        inside = g.add("And", g.add("And", *kept[:2]), g.add("And", *kept[2:]))
        scores = g.add("Where", inside, scores, g.constant(-1.0))
    best = g.reshape(g.add("ArgMax", scores, axis=2, keepdims=1), [1])
    g.reshape(g.add("Gather", scores, best, axis=2), [1, 1], name="score")
    row = g.add("Gather", output, best, axis=2)  # (1, 4 + classes + K D, 1)
    centre, half = g.slice(row, 0, 2), g.add("Mul", g.slice(row, 2, 4), g.constant(0.5))
    corners_of_box = g.add("Concat", g.add("Sub", centre, half), g.add("Add", centre, half), axis=1)
    box = g.reshape(corners_of_box, [1, 2, 2])
    points = g.reshape(g.slice(row, 4 + classes, 4 + classes + kpt_shape[0] * kpt_shape[1]), [1, *kpt_shape])
    if to_frame:
        shift, scale = [*place.corner, 0.0][: kpt_shape[1]], [*(1 / n for n in place.gain), 1.0][: kpt_shape[1]]
        box = g.add("Mul", g.add("Sub", box, g.constant(shift[:2])), g.constant(scale[:2]))
        points = g.add("Mul", g.add("Sub", points, g.constant(shift)), g.constant(scale))
    g.reshape(box, [1, 4], name="box")
    g.add("Identity", points, name="keypoints")


def _prepare(g: Graph, channels: int, place: Placement, grey: bool) -> None:
    """Nodes from uint8 pictures to the network's input; the graph's input is exchanged."""
    if channels == 1 and not grey:
        raise DPoseError("the model takes grey pictures: set grey=True with preprocess=True")
    seen = 1 if grey else 3
    old = g.graph.input[0]
    kind = old.type.tensor_type.elem_type
    (height, width), (left, top), (high, wide) = place.size, place.corner, place.input
    if place.size == place.picture:
        value = g.add("Cast", "picture", to=TensorProto.FLOAT)
    else:
        value = resize(g, "picture", seen, place.picture, place.size)
    value = g.add("Transpose", value, perm=[0, 3, 1, 2])
    if place.size != place.input:
        borders = [0, 0, top, left, 0, 0, high - height - top, wide - width - left]
        value = g.add("Pad", value, g.constant(borders, np.int64), g.constant(float(PADDING)), mode="constant")
    if seen == 3:
        value = g.add("Gather", value, g.constant([2, 1, 0], np.int64), axis=1)  # BGR to RGB
    value = g.add("Div", value, g.constant(255.0))
    if seen < channels:
        value = g.add("Concat", *[value] * channels, axis=1)
    g.add("Cast", value, name=old.name, to=kind)  # float32 as a rule, which costs nothing
    del g.graph.input[:]
    shape = [1, *place.picture, seen]
    g.graph.input.append(helper.make_tensor_value_info("picture", TensorProto.UINT8, shape))
