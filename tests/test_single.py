"""Graphs that end in one driver give the answer of the full decode followed by the best detection."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from export_cases import LOW, cabin_pictures, save_checkpoint
from onnx_files import TWO, two_persons, write_onnx
from ultralytics import YOLO

from dpose_yolo.errors import DPoseError
from dpose_yolo.export.single import SingleOptions, write_single
from dpose_yolo.export.tensorrt import tensorrt_problems
from dpose_yolo.runtime import DriverPose

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    checkpoint = save_checkpoint(tmp_path_factory.mktemp("run") / "tiny.pt", ROOT)
    return Path(YOLO(checkpoint).export(format="onnx", imgsz=96, verbose=False))


def same(one, other, pixels: float) -> None:
    assert np.abs(one.keypoints - other.keypoints).max() <= pixels and np.abs(one.box - other.box).max() <= pixels
    assert one.score == pytest.approx(other.score, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "pixels"),
    [
        (SingleOptions(), 1e-3),
        (SingleOptions(roi=(0.3, 0, 1, 1), frame=(320, 240)), 1e-3),
        (SingleOptions(preprocess=True), 1e-3),
        (SingleOptions(preprocess=True, frame=(96, 96), roi=(0.3, 0, 1, 1)), 1e-3),
        (SingleOptions(preprocess=True, grey=True), 1e-3),
    ],
)
def test_the_answer_of_the_full_graph(options, pixels, exported, tmp_path):
    single = DriverPose(write_single(exported, tmp_path / "single.onnx", options), conf=LOW)
    full = DriverPose(exported, conf=LOW, roi=options.roi)
    for picture in cabin_pictures(ROOT, 6):
        if options.preprocess and options.frame:
            picture = cv2.resize(picture, options.frame)
        same(single(picture), full(picture), pixels)


def test_two_persons_and_a_region(tmp_path):
    source = write_onnx(tmp_path / "two.onnx", two_persons(), TWO)
    picture = np.zeros((32, 64, 3), np.uint8)
    for roi, score in ((None, 0.8), ((0.5, 0, 1, 1), 0.6)):
        options = SingleOptions(roi=roi, frame=(64, 32))
        single = DriverPose(write_single(source, tmp_path / "single.onnx", options))(picture)
        same(single, DriverPose(source, roi=roi)(picture), 1e-4)
        assert single.score == pytest.approx(score)
    nobody = SingleOptions(roi=(0.4, 0, 0.6, 1), frame=(64, 32))
    pose = DriverPose(write_single(source, tmp_path / "single.onnx", nobody))
    assert pose(picture) is None
    with pytest.raises(DPoseError, match="was made for pictures of 64x32"):
        pose(cv2.resize(picture, (64, 64)))


# By whole steps, by others, upright, larger, and of an odd side that leaves uneven borders.
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("frame", [(192, 144), (288, 384), (320, 240), (640, 480), (333, 250), (213, 160), (48, 36)])
def test_the_letterbox_in_the_graph_gives_the_runtimes_answer(frame, grey, exported, tmp_path):
    options = SingleOptions(preprocess=True, frame=frame, grey=grey)
    single = DriverPose(write_single(exported, tmp_path / "single.onnx", options), conf=LOW)
    full = DriverPose(exported, conf=LOW)
    assert tensorrt_problems(tmp_path / "single.onnx") == []
    for picture in cabin_pictures(ROOT, 4):
        picture = cv2.resize(picture, frame, interpolation=cv2.INTER_CUBIC)
        if grey:
            picture = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        same(single(picture), full(picture), 1e-3)


def test_a_region_needs_the_size_of_the_picture(exported, tmp_path):
    with pytest.raises(DPoseError, match="roi is a share of the camera's picture"):
        write_single(exported, tmp_path / "single.onnx", SingleOptions(roi=(0.3, 0, 1, 1)))
    assert list(tmp_path.iterdir()) == []
