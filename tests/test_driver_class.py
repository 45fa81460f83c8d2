"""Models of several classes: the driver is a person of the driver's class, in every kind of file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from engine_models import tiny_yaml
from onnx_files import TWO, two_persons, write_onnx
from ultralytics import YOLO

from dpose_yolo.engine.driver import EnginePose
from dpose_yolo.errors import DPoseError
from dpose_yolo.export.single import SingleOptions, write_single
from dpose_yolo.runtime import DriverPose

PICTURE = np.full((64, 64, 3), 90, np.uint8)


def two_classes(folder: Path, names: dict[int, str]) -> Path:
    """A model that sees a passenger (class 0, likelier) and a driver (class 1), each a little as the other one."""
    answer = np.insert(two_persons(driver=0.6, passenger=0.8), 5, 0.3, axis=1)
    answer[0, 4:6, 5] = 0.3, 0.6
    return write_onnx(folder / "two.onnx", answer, {**TWO, "names": names})


@pytest.mark.parametrize(
    ("names", "asked", "score"),
    [
        ({0: "passenger", 1: "driver"}, None, 0.6),
        ({0: "passenger", 1: "driver"}, "Passenger", 0.8),
        ({0: "passenger", 1: "driver"}, 0, 0.8),
        ({0: "class0", 1: "class1"}, None, 0.8),
        ({0: "left", 1: "right"}, "right", 0.6),
        ({0: "left", 1: "right"}, None, "has the classes left, right: say which is the driver's"),
        ({0: "left", 1: "right"}, "driver", "driver_class=driver is no class of"),
        ({0: "left", 1: "right"}, 2, "driver_class=2 is no class of"),
    ],
)
def test_the_driver_is_of_the_drivers_class(tmp_path, names, asked, score):
    model = two_classes(tmp_path, names)
    if isinstance(score, str):
        with pytest.raises(DPoseError, match=score):
            DriverPose(model, driver_class=asked)
        return
    assert DriverPose(model, driver_class=asked)(PICTURE).score == pytest.approx(score)


def test_checkpoint_export_and_graph_of_one_driver_choose_the_same_person(tmp_path):
    torch.manual_seed(0)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**tiny_yaml(), "nc": 2}))
    model = YOLO(str(tmp_path / "tiny.yaml"), task="pose")
    model.model.names = {0: "passenger", 1: "driver"}
    for weights in model.model.parameters():  # scores that differ from place to place
        if weights.dim() > 1:
            torch.nn.init.kaiming_normal_(weights)
    for branch in model.model.model[-1].cv3:
        torch.nn.init.zeros_(branch[-1].bias)
    model.save(tmp_path / "two.pt")
    plain = Path(YOLO(tmp_path / "two.pt").export(format="onnx", imgsz=64, verbose=False))
    single = write_single(plain, tmp_path / "single.onnx", SingleOptions())
    poses = [
        EnginePose(tmp_path / "two.pt", conf=0, imgsz=64, iou=1.0),
        DriverPose(plain, conf=0),
        DriverPose(single, conf=0),
    ]
    others = DriverPose(plain, conf=0, driver_class="passenger")
    rng = np.random.default_rng(0)
    differs = 0
    for _ in range(4):
        picture = cv2.resize(rng.integers(0, 255, (8, 8, 3), np.uint8), (64, 64))
        first, *rest = (pose(picture) for pose in poses)
        differs += others(picture).score != first.score
        for driver in rest:
            assert driver.score == pytest.approx(first.score, abs=1e-4)
            assert np.abs(driver.keypoints - first.keypoints).max() < 0.1
    assert differs
