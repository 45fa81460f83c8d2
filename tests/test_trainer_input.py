"""Bad settings and bad data: `DPoseTrainer` answers each with one clear line."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dpose_yolo import DPoseError, DPoseTrainer

BAD = [
    ({"cluster": 16}, "unknown setting 'cluster': did you mean clusters"),
    ({"epoch": 3}, "unknown setting 'epoch': did you mean epochs"),
    ({"balance": 2}, "balance=2 is not allowed: balance takes 0 to 1"),
    ({"box_loss": "giou"}, "box_loss takes ciou or diou"),
    ({"att_layers": "x"}, "att_layers takes auto"),
    ({"data": "nowhere.yaml"}, "no data file nowhere.yaml"),
    ({"compile": True}, "compile=False or att=0"),
    ({"clusters": 40}, "clusters=40 but only 24 poses"),
    ({"att_layers": 9, "att_map": "gradcam"}, "att_layers=9 is not a backbone layer"),
    ({"att_layers": 10}, "att_layers=10 is not a layer with a map"),
]


@pytest.mark.parametrize(("wrong", "line"), BAD, ids=[next(iter(w)) for w, _ in BAD])
def test_wrong_settings_get_one_clear_line(base, wrong, line):
    with pytest.raises(DPoseError) as error:
        DPoseTrainer({"clusters": 4, **base, "name": "wrong", **wrong}).train()
    assert line in str(error.value) and "\n" not in str(error.value)


def spoil_label(data: Path) -> None:
    label = data.parent / "labels" / "train" / "train_0003.txt"
    label.write_text(" ".join(label.read_text().split()[:-3]) + "\n")


def spoil_image(data: Path) -> None:
    image = data.parent / "images" / "train" / "train_0003.png"
    image.rename(image.with_suffix(".jpg"))
    image.with_suffix(".jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")


def spoil_flag(data: Path) -> None:
    label = data.parent / "labels" / "val" / "val_0001.txt"
    label.write_text(" ".join([*label.read_text().split()[:-1], "-1"]) + "\n")


def unlabel(data: Path) -> None:
    for label in (data.parent / "labels" / "train").glob("*.txt"):
        values = label.read_text().split()
        values[7::3] = ["0"] * 17
        label.write_text(" ".join(values) + "\n")


def remove_images(data: Path) -> None:
    shutil.rmtree(data.parent / "images" / "train")


def break_yaml(data: Path) -> None:
    data.write_text("train: [images/train\nval: }")


SPOILT = [
    (spoil_label, "train_0003.png: line 1 of train_0003.txt has 16 keypoints, expected 17 keypoints"),
    (spoil_image, "train_0003.jpg: "),
    (spoil_flag, "validation part cannot be used"),
    (unlabel, "no keypoint is labelled in the training part"),
    (remove_images, "images/train"),
    (break_yaml, "is not readable YAML"),
]


@pytest.mark.parametrize(("spoil", "line"), SPOILT, ids=[s.__name__ for s, _ in SPOILT])
def test_bad_data_gets_one_clear_line(base, spoil, line):
    spoil(Path(base["data"]))
    with pytest.raises(DPoseError) as error:
        DPoseTrainer(base, name="bad", clusters=4).train()
    assert line in str(error.value) and "\n" not in str(error.value)


def test_bad_images_can_be_skipped(base):
    spoil_label(Path(base["data"]))
    spoil_image_data = Path(base["data"])
    (spoil_image_data.parent / "labels" / "train" / "train_0005.txt").write_text("0 nonsense\n")
    trainer = DPoseTrainer(base, name="skip", epochs=1, skip_bad=True, clusters=3, att=0)
    trainer.train()
    assert len(trainer.train_loader.dataset.labels) == 22


def test_rect_with_several_shapes_is_refused(base):
    import cv2

    for i in range(10):  # more than a batch: its shape then differs from that of the square images
        image = Path(base["data"]).parent / "images" / "train" / f"train_{i:04d}.png"
        cv2.imwrite(str(image), np.zeros((32, 96, 3), np.uint8))
    with pytest.raises(DPoseError, match="rect=False, or balance=0"):
        DPoseTrainer(base, name="rect", rect=True, clusters=3).train()


MORE = [
    ({"resume": "runs/missing.pt"}, "no checkpoint runs/missing.pt"),
    ({"model": "missing.pt"}, "no model file missing.pt"),
    ({"model": "missing-model"}, "no model file missing-model"),
    ({"pretrained": "missing.pt"}, "no model file missing.pt"),
    ({"model": "yolo11n.yaml"}, "no model file yolo11n.yaml: did you mean yolo11n-pose.yaml?"),
    ({"epochs": "abc"}, "epochs=abc is not allowed: epochs takes a whole number from 1"),
    ({"momentum": "much"}, "the settings cannot be used"),
    ({"optimizer": "Foo"}, "optimizer=Foo cannot be used"),
    ({"lr_drop": 3, "time": 1.0}, "set one of them only"),
]


@pytest.mark.parametrize(("wrong", "line"), MORE, ids=[str(next(iter(w.values()))) for w, _ in MORE])
def test_more_wrong_settings(base, wrong, line):
    with pytest.raises(DPoseError) as error:
        DPoseTrainer({"clusters": 4, **base, "name": "wrong", **wrong}).train()
    assert line in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 700


def test_all_labels_wrong_is_still_one_short_line(base):
    for label in (Path(base["data"]).parent / "labels" / "train").glob("*.txt"):
        label.write_text("0 0.5 0.5 0.2 0.2\n")  # a detection data set
    with pytest.raises(DPoseError) as error:
        DPoseTrainer(base, name="detect").train()
    assert "has 0 keypoints, expected 17 keypoints" in str(error.value) and len(str(error.value)) < 700
