"""INT8: which images calibrate, what is quantised, and what it costs."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from export_cases import cabin_pictures, save_checkpoint
from onnx import TensorProto, numpy_helper
from ultralytics import YOLO

from dpose_yolo.cli import run
from dpose_yolo.errors import DPoseError
from dpose_yolo.export.answers import Viewer
from dpose_yolo.export.cache import calibration_cache
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


@pytest.fixture(scope="module")
def cabin_run(exported) -> tuple[Path, Path]:
    """A checkpoint and the data that it may be calibrated on."""
    return exported.with_name("tiny.pt"), ROOT / "data" / "cabin_mini.yaml"


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


def test_calibration_cache_holds_the_largest_magnitudes(exported, tmp_path):
    """Every line is max |x| / 127 of that tensor in the float graph over the calibration images; the head has none."""
    pictures = blobs(4)
    quantise(exported, tmp_path / "int8.onnx", pictures, HEAD, Int8Options(symmetric=True))
    header, *lines = calibration_cache(tmp_path / "int8.onnx", "10.3.0").splitlines()
    assert header == "TRT-100300-EntropyCalibration2"
    assert calibration_cache(tmp_path / "int8.onnx", "8.5.2").startswith("TRT-8502-EntropyCalibration2\n")
    scales = {name: struct.unpack(">f", bytes.fromhex(digits))[0] for name, digits in (x.split(": ") for x in lines)}
    model = onnx.load(str(exported))
    of_head = {name for node in model.graph.node if node.name.startswith(f"/model.{HEAD}/") for name in node.output}
    convolutions = {n.output[0] for n in model.graph.node if n.op_type == "Conv"} - of_head
    assert convolutions <= set(scales) and not of_head & set(scales)
    del model.graph.output[:]
    given = model.graph.input[0].name
    for name in scales.keys() - {given}:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    seen = dict.fromkeys(scales, 0.0)
    for make in pictures:
        seen[given] = max(seen[given], float(np.abs(make()).max()))
        for end, values in zip(session.get_outputs(), session.run(None, {given: make()}), strict=True):
            seen[end.name] = max(seen[end.name], float(np.abs(values).max()))
    for name, scale in scales.items():
        assert scale == pytest.approx(seen[name] / 127, rel=1e-5), name


def test_calibration_cache_lies_beside_the_graph(cabin_run, tmp_path):
    checkpoint, data = cabin_run
    words = [f"model={checkpoint}", f"data={data}", "imgsz=64", "int8=True", "verify=False", f"project={tmp_path}"]
    words += ["calibration_images=4", "calibrate=random", "name=out", "exist_ok=True", "single=True"]
    run(["export", *words, "symmetric=True", "calibration_cache=8.5.2.2"])
    text = (tmp_path / "out" / "tiny_int8_single.calib").read_text(encoding="ascii")
    run(["export", *(w for w in words if not w.startswith(("int8", "calib")))])
    graph = onnx.load(str(tmp_path / "out" / "tiny_single.onnx")).graph
    known = {name for node in graph.node for name in node.output} | {i.name for i in graph.input}
    header, *lines = text.splitlines()
    assert header.startswith("TRT-8502-") and len(lines) > 10
    assert {line.rpartition(": ")[0] for line in lines} <= known  # the float graph on the board has the same names
    run(["export", *words, "symmetric=True"])
    assert not (tmp_path / "out" / "tiny_int8_single.calib").exists()  # it was of another calibration


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["calibration_cache=8.6.1"], "set symmetric=True too"),
        (["calibration_cache=8.6", "symmetric=True"], "with its three numbers"),
        (["calibration_cache=8601", "symmetric=True"], "with its three numbers"),
        (["calibration_cache=11.0.0", "symmetric=True"], "TensorRT 11 reads no calibration cache"),
    ],
)
def test_calibration_cache_of_an_impossible_kind_is_refused(words, message, cabin_run):
    with pytest.raises(DPoseError, match=message):
        run(["export", f"model={cabin_run[0]}", f"data={cabin_run[1]}", "int8=True", *words])


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
