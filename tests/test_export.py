"""`dpose export`: files that answer as the PyTorch model does, or an error."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_cases import save_checkpoint
from onnx import TensorProto, helper, numpy_helper
from onnx_files import TWO, two_persons, write_onnx

from dpose_yolo.cli import run
from dpose_yolo.errors import DPoseError
from dpose_yolo.export import export as export_module
from dpose_yolo.export import files, parity
from dpose_yolo.export.formats import require_toolkit
from dpose_yolo.export.tensorrt import tensorrt_problems

ROOT = Path(__file__).resolve().parent.parent
DATA = f"data={ROOT / 'data' / 'cabin_mini.yaml'}"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("run") / "tiny.pt", ROOT, sure=True)


def export(checkpoint: Path, folder: Path, *words: str) -> dict:
    """Export with 12 pictures of comparison; the report of the one file that is there."""
    where = [f"project={folder}", "name=out", "exist_ok=True"]
    assert run(["export", f"model={checkpoint}", DATA, "imgsz=64", "images=12", *where, *words]) == 0
    assert not list((folder / "out").glob(".*"))  # nothing half-written
    (about,) = (folder / "out").glob("*.parity.json")
    return {"name": about.name.removesuffix(".parity.json"), **json.loads(about.read_text(encoding="utf-8"))}


def test_onnx_is_proven(checkpoint, tmp_path, capsys):
    report = export(checkpoint, tmp_path)
    assert report["name"] == "tiny.onnx" and report["passed"] and report["images"] == 12
    assert report["keypoints"] >= 12 * 17 and 0 < report["pixels_max"] <= 0.05
    assert report["AP_exported"] == pytest.approx(report["AP_pytorch"], abs=1e-3)
    assert report["tensorrt"] == []
    out = capsys.readouterr().out
    assert "parity with PyTorch on 12 images of the val part" in out and "TensorRT: operators" in out
    assert str(tmp_path / "out" / "tiny.onnx") in out and ".dpose-export" not in out


@pytest.mark.parametrize(
    ("fmt", "package"),
    [("torchscript", "torch"), ("openvino", "openvino"), ("ncnn", "ncnn"), ("litert", "litert_torch")],
)
def test_other_formats_are_proven(fmt, package, checkpoint, tmp_path):
    pytest.importorskip(package)
    report = export(checkpoint, tmp_path, f"format={fmt}")
    assert report["passed"] and report["pixels_max"] <= 0.05 and (tmp_path / "out" / report["name"]).exists()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["roi=0.3,0,1,1", "frame=320x240"],
        ["preprocess=True"],
        ["preprocess=True", "grey=True"],
    ],
)
def test_single_gives_the_likeliest_candidate(words, checkpoint, tmp_path):
    report = export(checkpoint, tmp_path, "single=True", *words)
    assert report["name"] == "tiny_single.onnx" and report["passed"]
    assert report["keypoints"] == 12 * 17 and report["pixels_max"] <= 0.05
    outputs = onnx.load(str(tmp_path / "out" / "tiny_single.onnx")).graph.output
    assert [[d.dim_value for d in o.type.tensor_type.shape.dim] for o in outputs] == [[1, 4], [1, 1], [1, 17, 3]]


def test_half_precision_is_judged_by_ap(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(DPoseError, match=r"PyTorch itself reaches AP 0\.0000 .* nothing is proven, look at imgsz="):
        export(checkpoint, tmp_path / "nothing", "quantize=16")
    assert not (tmp_path / "nothing" / "out" / "tiny.onnx").exists()
    monkeypatch.setattr(parity, "LEAST_AP", 0.0)  # this model has learnt nothing
    report = export(checkpoint, tmp_path, "quantize=16")
    assert report["bits"] == 16 and report["allowed"] == {"pixels": None, "AP": 0.005}
    assert report["pixels_max"] > 1e-3  # it is another file than in single precision


def test_a_wrong_export_is_an_error_and_leaves_the_good_one(checkpoint, tmp_path, monkeypatch):
    export(checkpoint, tmp_path)
    good = (tmp_path / "out" / "tiny.onnx").read_bytes()
    right = export_module.engine_export

    def wrong(*args):
        path = right(*args)
        model = onnx.load(str(path))
        graph, last = model.graph, model.graph.output[0].name
        maker = next(n for n in graph.node if last in n.output)
        maker.output[list(maker.output).index(last)] = "before"
        shift = np.zeros((1, 56, 1), np.float32)
        shift[0, 5 + 9 * 3] = 0.1  # x of the left wrist
        graph.initializer.append(numpy_helper.from_array(shift, "shift"))
        graph.node.append(helper.make_node("Add", ["before", "shift"], [last]))
        onnx.save(model, str(path))
        return path

    monkeypatch.setattr(export_module, "engine_export", wrong)
    with pytest.raises(
        DPoseError, match=r"keypoints differ by 0\.(5|50\d|49\d) px, 0\.05 are allowed.*tiny\.failed\.onnx"
    ) as error:
        export(checkpoint, tmp_path)
    assert "\n" not in str(error.value)
    assert (tmp_path / "out" / "tiny.onnx").read_bytes() == good
    report = json.loads((tmp_path / "out" / "tiny.failed.onnx.parity.json").read_text(encoding="utf-8"))
    assert not report["passed"] and report["pixels_max"] == pytest.approx(0.1 * 320 / 64, rel=0.01)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "tiny.onnx", "tiny.onnx.parity.json", "tiny.failed.onnx", "tiny.failed.onnx.parity.json",
    }  # fmt: skip


def test_unverified_says_so(checkpoint, tmp_path, capsys):
    own = tmp_path / checkpoint.name
    shutil.copy(checkpoint, own)
    assert run(["export", f"model={own}", "imgsz=64", "verify=False"]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"tiny.pt", "tiny.onnx"}
    assert "not compared with PyTorch (verify=False)" in capsys.readouterr().out


WRONG = [
    ([], "real images, and the checkpoint names no data: set data=, or verify=False"),
    (["format=onx"], "format=onx is not known: did you mean onnx?"),
    (["singel=True"], "singel"),
    (["balance=1"], "balance is a setting of training"),
    (["roi=0,0,1,1"], "roi belongs to a graph that ends in one driver"),
    (["single=True", "roi=0,0,2,1"], "is not allowed: give x1,y1,x2,y2"),
    (["single=True", "frame=12"], "frame=12 is not allowed"),
    (["single=True", "grey=True"], "set preprocess=True too"),
    (["single=True", "format=torchscript"], "single=True is made in ONNX graphs"),
    (["single=True", "nms=True"], "single=True and nms=True do not go together"),
    (["single=True", DATA, "roi=0,0,1,1"], "say its width and height too"),
    (["int8=True", "quantize=8"], "int8=True and quantize=8 do not go together"),
    (["int8=True", "calibrate=even"], "calibrate takes balanced or random"),
    (["calibrate=random"], "set int8=True"),
    (["verify=maybe"], "verify takes True or False"),
    (["images=0"], "images=0 must be a whole number"),
    (["data=none.yaml"], "no data file"),
]


@pytest.mark.parametrize(("words", "line"), WRONG, ids=[" ".join(w)[:40] for w, _ in WRONG])
def test_wrong_settings_get_one_line_and_leave_nothing(words, line, checkpoint, tmp_path):
    with pytest.raises(DPoseError) as error:
        run(["export", f"model={checkpoint}", "imgsz=64", f"project={tmp_path}", "name=out", *words])
    assert line in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
    assert {p.name for p in checkpoint.parent.iterdir()} == {"tiny.pt"}


def test_missing_toolkits_are_named(monkeypatch):
    monkeypatch.setattr("ultralytics.utils.checks.check_requirements", lambda *a, **k: False)
    with pytest.raises(DPoseError, match=r"format=ncnn needs ncnn, pnnx==\d+, .* pip install 'ncnn' 'pnnx=="):
        require_toolkit("ncnn")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DPoseError, match="NVIDIA graphics card, and there is none here"):
        require_toolkit("engine")


def test_what_tensorrt_does_not_take(tmp_path):
    path = write_onnx(tmp_path / "two.onnx", two_persons(), TWO)
    assert tensorrt_problems(path) == []
    model = onnx.load(str(path))
    model.graph.node[0].op_type = "NonZero"
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, str(path))
    told = " | ".join(tensorrt_problems(path))
    assert "domain com.microsoft" in told and "parser does not know: NonZero" in told
    assert "output0 holds DOUBLE numbers" in told and "sizes left open: images" in told


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["roi=0.4,0,1,1", "frame=640x480"]])
def test_single_on_real_pictures_of_several_persons(words, shared_data, shared_copy, tmp_path):
    """39 pictures, most with more than one person; with a region, of the persons whose centre lies in it."""
    weights = shared_data.parent / "weights" / "yolo11n-pose.pt"
    if not weights.is_file():
        pytest.skip(f"no weights at {weights}")
    where = [f"project={tmp_path}", "name=out", f"data={shared_copy('coco_mini_pose')}"]
    assert run(["export", f"model={weights}", "imgsz=320", "single=True", *where, *words]) == 0
    report = json.loads((tmp_path / "out" / "yolo11n-pose_single.onnx.parity.json").read_text(encoding="utf-8"))
    assert report["passed"] and report["images"] == 39 and report["keypoints"] >= 30 * 17
    assert report["pixels_max"] <= 0.05 and report["AP_exported"] == pytest.approx(report["AP_pytorch"], abs=1e-3)


def test_an_earlier_export_is_there_at_any_moment(tmp_path, monkeypatch):
    """A file is replaced in one step; a folder that a killed export moved aside comes back with the next one."""
    (tmp_path / "best.onnx").write_text("earlier")
    left = tmp_path / ".dpose-export-killed"
    (left / "best_ncnn_model.old").mkdir(parents=True)
    (left / ".lock").touch()
    with files.staging(tmp_path) as place, files.staging(tmp_path) as other:
        assert (tmp_path / "best_ncnn_model").is_dir() and not left.exists()
        (place / "best.onnx").write_text("later")
        monkeypatch.setattr(
            Path,
            "replace",
            lambda own, target: pytest.fail("moved") if own.parent == tmp_path else os.replace(own, target),
        )
        assert files.publish(place / "best.onnx", tmp_path, "best", None).read_text() == "later"
        assert other.is_dir()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["best.onnx", "best_ncnn_model"]
