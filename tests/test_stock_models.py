"""DPOSE trains the engine's own pose models, from YAML and from weights."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from ultralytics import YOLO

from dpose_yolo import DPoseTrainer

pytestmark = pytest.mark.slow


def train(model: str, data: Path, folder: Path, **settings) -> DPoseTrainer:
    given = {"imgsz": 64, "epochs": 1, "batch": 8, "device": "cpu", "plots": False, "clusters": 4, "att_start": 0.0}
    trainer = DPoseTrainer(model=model, data=str(data), project=str(folder), **{**given, **settings})
    trainer.train()
    return trainer


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("model", ["yolov8n-pose.yaml", "yolo11n-pose.yaml", "yolo26n-pose.yaml", "dpose-250.yaml"])
def test_from_yaml(model, order, mini_dataset, tmp_path):
    trainer = train(model, mini_dataset(), tmp_path, att_order=order, att_interval=1)
    (row,) = csv.DictReader(trainer.csv.open())
    assert float(row["train/att_loss"]) > 0 and float(row["val/att_loss"]) > 0
    assert ("train/rle_loss" in row) == ("26" in model)
    model = YOLO(trainer.best)
    assert model.predict(
        str(next((mini_dataset("again").parent / "images" / "val").iterdir())), imgsz=64, verbose=False
    )


@pytest.mark.parametrize("name", ["yolo11n-pose.pt", "yolov8n-pose.pt"])
def test_from_weights(name, shared_data, mini_dataset, tmp_path):
    weights = shared_data.parent / "weights" / name
    if not weights.is_file():
        pytest.skip(f"no pretrained weights {weights}")
    trainer = train(str(weights), mini_dataset(), tmp_path, lr0=1e-4, optimizer="AdamW")
    (row,) = csv.DictReader(trainer.csv.open())
    assert float(row["train/att_loss"]) > 0


@pytest.mark.parametrize("part", ["coco_mini_pose", "lspet_pose", "statefarm_pose"])
def test_real_images(part, shared_copy, tmp_path):
    """One short epoch on real images: several persons, 14 joints, missing keypoints."""
    trainer = train("dpose-125.yaml", shared_copy(part), tmp_path, fraction=0.05 if "coco" not in part else 1.0)
    (row,) = csv.DictReader(trainer.csv.open())
    assert float(row["train/pose_loss"]) > 0 and float(row["train/att_loss"]) > 0
