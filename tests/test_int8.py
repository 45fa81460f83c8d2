"""INT8: which images calibrate, what is quantised, and what it costs."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_cases import cabin_pictures, save_checkpoint
from onnx import TensorProto, numpy_helper
from ultralytics import YOLO

from dpose_yolo.cli import run
from dpose_yolo.errors import DPoseError
from dpose_yolo.export.answers import Viewer
from dpose_yolo.export.calibration import calibration_images
from dpose_yolo.export.int8 import quantise
from dpose_yolo.export.options import Int8Options
from dpose_yolo.export.tensorrt import tensorrt_problems
from dpose_yolo.runtime import DriverPose

ROOT = Path(__file__).resolve().parent.parent
HEAD = 10  # module of the pose head of the tiny model


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    checkpoint = save_checkpoint(tmp_path_factory.mktemp("run") / "tiny.pt", ROOT, sure=True)
    model = YOLO(checkpoint)
    assert len(model.model.model) - 1 == HEAD
    return Path(model.export(format="onnx", imgsz=64, verbose=False))


def blobs(count: int = 8) -> list:
    viewer = Viewer((64, 64), 3)
    return [lambda p=p: viewer(p).blob for p in cabin_pictures(ROOT, count)]


def weights(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Constants by name, and the node that each convolution's weight comes from by the convolution's name."""
    graph = onnx.load(str(path)).graph
    makers = {name: node for node in graph.node for name in node.output}
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    return constants, {
        n.name: makers[n.input[1]].op_type for n in graph.node if n.op_type == "Conv" and n.input[1] in makers
    }


@pytest.mark.parametrize("float_head", [True, False])
def test_the_head_stays_in_floating_point(float_head, exported, tmp_path):
    options = Int8Options(float_head=float_head)
    told = quantise(exported, tmp_path / "int8.onnx", blobs(), HEAD, options)
    _, of_conv = weights(tmp_path / "int8.onnx")
    head = {name: kind for name, kind in of_conv.items() if name.startswith(f"/model.{HEAD}/")}
    body = {name: kind for name, kind in of_conv.items() if name not in head}
    assert len(body) > 5 and set(body.values()) == {"DequantizeLinear"}
    assert ("DequantizeLinear" in head.values()) is not float_head
    assert told["float_head"] is float_head and told["integer_operators"] > len(body)
    graph = onnx.load(str(tmp_path / "int8.onnx")).graph
    last = next(n for n in graph.node if graph.output[0].name in n.output)
    assert last.op_type == "Concat"  # pixels and confidences are put together as they are


def test_weights_have_a_scale_a_channel_and_the_file_is_small(exported, tmp_path):
    target = tmp_path / "int8.onnx"
    quantise(exported, target, blobs(), HEAD, Int8Options())
    model = onnx.load(str(target))
    by_name = {t.name: t for t in model.graph.initializer}
    eights = [t for t in model.graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) == 4]
    assert eights
    for tensor in eights:
        scales = by_name[tensor.name.replace("_quantized", "_scale")]
        assert list(scales.dims) == [tensor.dims[0]]
    floats = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) == 4]
    assert all(np.prod(t.dims) < 256 for t in floats)
    assert target.stat().st_size < 0.75 * exported.stat().st_size
    # still a driver-pose model, whose answers are near those of the plain one
    one, other = DriverPose(exported, conf=0), DriverPose(target, conf=0)
    assert other.names == one.names
    far = [np.abs(one(p).score - other(p).score) for p in cabin_pictures(ROOT, 8)]
    assert 0 < max(far) < 0.1


def test_symmetric_activations_are_signed_around_zero(exported, tmp_path):
    quantise(exported, tmp_path / "int8.onnx", blobs(4), HEAD, Int8Options(symmetric=True))
    graph = onnx.load(str(tmp_path / "int8.onnx")).graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    zeros = [constants[n.input[2]] for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert zeros and all(z.dtype == np.int8 and not z.any() for z in zeros)
    assert tensorrt_problems(tmp_path / "int8.onnx") == []
    quantise(exported, tmp_path / "around.onnx", blobs(4), HEAD, Int8Options())
    (problem,) = tensorrt_problems(tmp_path / "around.onnx")
    assert "not INT8 around 0" in problem


def test_another_graph_is_refused(exported, tmp_path):
    with pytest.raises(DPoseError, match=r"no nodes named /model\.99/"):
        quantise(exported, tmp_path / "int8.onnx", blobs(1), 99, Int8Options())
    assert list(tmp_path.iterdir()) == []


def test_calibration_is_even_over_the_postures(monkeypatch):
    """90 images of one posture and 10 of another: of 16 drawn, 8 are of the rare one."""
    from dpose_yolo.export import calibration

    labels = [{"im_file": f"{i}.jpg"} for i in range(100)]
    resp = np.zeros((100, 2))
    resp[:90, 0] = resp[90:, 1] = 1
    monkeypatch.setattr(calibration, "load_labels", lambda *a, **k: (labels, {"kpt_shape": [17, 3]}, Path("labels")))
    monkeypatch.setattr(calibration, "pose_table", lambda *a: None)
    monkeypatch.setattr(calibration, "posture_mixture", lambda *a, **k: None)
    monkeypatch.setattr(calibration, "image_posture", lambda *a: resp)
    files, about = calibration_images("data.yaml", 16)
    rare = [f for f in files if int(f.split(".")[0]) >= 90]
    assert len(files) == len(set(files)) == 16 and len(rare) == 8
    assert about["smallest_share"] == about["largest_share"] == 0.5
    assert calibration_images("data.yaml", 16)[0] == files  # the same again
    # more than the rare posture has: all of it, and the rest of the other
    files, _ = calibration_images("data.yaml", 40)
    assert len(files) == len(set(files)) == 40 and sum(int(f.split(".")[0]) >= 90 for f in files) == 10
    assert len(calibration_images("data.yaml", 1000)[0]) == 100
    files, about = calibration_images("data.yaml", 16, "random")
    assert len(set(files)) == 16 and about == {"how": "random", "images": 16, "seed": 0}


@pytest.mark.slow
def test_int8_of_a_trained_model_costs_little(shared_data, shared_copy, tmp_path):
    """A public model of 2.9 M parameters on 39 pictures of several persons."""
    weights = shared_data.parent / "weights" / "yolo11n-pose.pt"
    if not weights.is_file():
        pytest.skip(f"no weights at {weights}")
    words = [f"model={weights}", f"data={shared_copy('coco_mini_pose')}", "imgsz=320", "int8=True"]
    with suppress(DPoseError):  # the command allows 0.010, more than which so few pictures can differ by chance
        run(["export", *words, f"project={tmp_path}", "name=out"])
    (about,) = (tmp_path / "out").glob("*.parity.json")
    report = json.loads(about.read_text(encoding="utf-8"))
    assert report["int8"]["how"] == "balanced" and report["images"] == 39
    assert report["AP_pytorch"] > 0.2 and report["AP_exported"] > report["AP_pytorch"] - 0.03
    assert report["bytes"] < 0.45 * weights.stat().st_size * 2  # the checkpoint is in half precision
