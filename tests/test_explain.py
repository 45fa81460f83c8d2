"""Attention maps of single images, as `dpose cam` draws them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_models import tiny_model
from ultralytics import YOLO

from dpose_yolo.attention import keypoint_cam, score_gradients
from dpose_yolo.commands.cam import overlay_names
from dpose_yolo.engine.explain import explain
from dpose_yolo.engine.graph import head_output, needed_outputs, run_layers


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = tiny_model().eval()
    for p in model.model[-1].parameters():  # a new head says the same everywhere
        p.data += 0.3 * torch.randn_like(p)
    return model


def test_points_are_those_of_the_engines_prediction(model, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    found = explain(model, image, list(range(17)), imgsz=64)
    plain = copy.deepcopy(model)
    plain.args, plain.task = {}, "pose"
    torch.save({"model": plain, "train_args": {}}, tmp_path / "tiny.pt")
    result = YOLO(tmp_path / "tiny.pt").predict(image, imgsz=64, conf=1e-9, max_det=1, verbose=False)[0]
    points = np.array(list(found.points.values()))
    points[:, :2] = points[:, :2].clip(0, 96)  # the engine keeps points inside the picture
    assert np.abs(points - result.keypoints.data[0].numpy()).max() < 0.05
    assert found.score == pytest.approx(result.boxes.conf[0].item(), abs=1e-4)


def test_map_is_the_keypoints_cam_with_the_letterbox_cut_off(model):
    image = np.random.default_rng(1).integers(0, 255, (64, 128, 3), dtype=np.uint8)
    found = explain(model, image, [9], imgsz=128)
    (shown,) = found.maps.values()
    assert shown.shape == (64, 128) and shown.max() == pytest.approx(1) and shown.min() >= 0
    boxed = np.full((128, 128, 3), 114, np.uint8)
    boxed[32:96] = image
    tensor = torch.from_numpy(boxed[..., ::-1].transpose(2, 0, 1).copy()).float()[None] / 255
    early = run_layers(model, {}, 0, 5, tensor)
    tapped = {i: early[i].detach().requires_grad_() for i in needed_outputs(model, 4)}
    outputs = run_layers(model, tapped, 5, 10)
    raw = head_output(model, outputs, keypoints_only=False)
    cell = raw["scores"][0, 0].argmax()
    (gradient,) = score_gradients(raw["kpts"][0, 9, 2, cell][None], [outputs[4]])
    cam = keypoint_cam(outputs[4], gradient)[0].detach().numpy()[2:6]  # rows of the picture, stride 16
    coarse = shown.reshape(4, 16, 8, 16).mean((1, 3))
    assert np.corrcoef(coarse.ravel(), cam.ravel())[0, 1] > 0.9


def test_overlays_of_equal_names_stay_apart():
    assert overlay_names([Path("a/1.jpg"), Path("a/2.jpg")]) == ["1", "2"]
    assert overlay_names([Path("vp1/1.jpg"), Path("vp2/1.jpg")]) == ["vp1_1", "vp2_1"]
    assert len(set(overlay_names([Path("x/1.jpg"), Path("x/1.png")]))) == 2
