"""`dpose val` and `dpose compare` of a file that ends in one driver."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from export_cases import LOW, save_checkpoint
from ultralytics import YOLO

from dpose_yolo.cli import run
from dpose_yolo.errors import DPoseError
from dpose_yolo.evaluation.data import load_part
from dpose_yolo.evaluation.predict import evaluate_engine_model
from dpose_yolo.evaluation.single import ends_in_one_driver, evaluate_single
from dpose_yolo.export.single import SingleOptions, write_single
from dpose_yolo.peers.contestants import SingleContestant, load_contestant

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data" / "cabin_mini.yaml"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    """A model as the engine exports it, and the same with one driver at its end."""
    checkpoint = save_checkpoint(tmp_path_factory.mktemp("run") / "tiny.pt", ROOT, sure=True)
    plain = Path(YOLO(checkpoint).export(format="onnx", imgsz=96, verbose=False))
    return plain, write_single(plain, plain.with_name("single.onnx"), SingleOptions())


@pytest.fixture(scope="module")
def part():
    return load_part(DATA, "val")


def test_a_file_is_told_by_what_it_says(files, tmp_path):
    plain, single = files
    assert ends_in_one_driver(single) and not ends_in_one_driver(plain)
    (tmp_path / "odd.onnx").write_bytes(b"no model")
    assert not any(ends_in_one_driver(p) for p in (tmp_path / "odd.onnx", tmp_path / "none.onnx", tmp_path))
    assert isinstance(load_contestant(single, {}), SingleContestant)


def test_detections_are_the_likeliest_of_the_plain_file(files, part):
    plain, single = files
    expected, _ = evaluate_engine_model(plain, part=part, imgsz=96, conf=LOW, max_detections=1, verbose=False)
    found, figures = evaluate_single(single, part, imgsz=96, conf=LOW)
    assert figures["imgsz"] == 96 and figures["AP"] is None
    assert (found.image == expected.image).all() and len(found.image) == len(part.truth.files)
    assert np.abs(found.score - expected.score).max() < 1e-4
    assert np.abs(found.boxes - expected.boxes).max() < 0.01
    assert np.abs(found.keypoints - expected.keypoints).max() < 0.01
    swapped = [1, 0, -1]
    few, _ = evaluate_single(single, part, keypoints=swapped, conf=LOW)
    assert (few.keypoints[:, :2] == found.keypoints[:, [1, 0]]).all() and not few.keypoints[:, 2].any()


def test_nobody_in_a_picture_is_no_detection(files, part):
    found, _ = evaluate_single(files[1], part, conf=1.0)
    assert len(found.image) == len(found.keypoints) == 0 and found.keypoints.shape[1:] == (17, 3)


def test_another_size_is_refused(files, part):
    with pytest.raises(DPoseError, match=r"imgsz=480, but .*single.onnx takes 96x96: leave imgsz out"):
        evaluate_single(files[1], part, imgsz=480)


def test_val_and_compare_take_the_file(files, tmp_path, capsys):
    plain, single = files
    where = [f"project={tmp_path}", "bootstrap=20"]
    assert run(["val", f"model={single}", f"data={DATA}", "imgsz=96", *where]) == 0
    metrics = json.loads((tmp_path / "val" / "metrics.json").read_text())
    assert metrics["engine"]["AP"] is None and metrics["box_AP"] is None and metrics["images"] > 0
    assert "the engine's own figures" not in capsys.readouterr().out
    words = [str(plain), str(single), f"data={DATA}", "imgsz=96", "rounds=1", *where]
    assert run(["compare", *words]) == 0
    one, other = json.loads((tmp_path / "compare" / "comparison.json").read_text())["models"]
    assert other["input"] == "96x96" and other["kind"] == "one driver, onnx" and other["latency_ms"] > 0
    assert one["parameters"] == pytest.approx(other["parameters"], rel=0.01)
