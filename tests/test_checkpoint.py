"""What training leaves: a plain engine checkpoint and ONNX graph, the same as without DPOSE."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from engine_models import tiny_yaml
from ultralytics import YOLO

from dpose_yolo import DPoseTrainer


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Best checkpoints of a run with everything on, and of one with everything off."""
    from stick_figures import build_dataset

    folder = tmp_path_factory.mktemp("checkpoint")
    data = build_dataset(folder / "mini")
    model = folder / "tiny.yaml"
    model.write_text(yaml.safe_dump(tiny_yaml()))
    found = {}
    for name, settings in {
        "on": {"clusters": 4, "att": 5.0, "att_order": 2, "att_start": 0.0, "att_interval": 1, "box_loss": "diou"},
        "off": {"balance": 0, "att": 0},
    }.items():
        trainer = DPoseTrainer(
            model=str(model), data=str(data), imgsz=64, epochs=1, batch=8, device="cpu", plots=False,
            project=str(folder / "runs"), name=name, **settings,
        )  # fmt: skip
        trainer.train()
        found[name] = trainer.best
    return found


def test_loads_and_predicts_where_the_package_is_not_installed(runs, tmp_path):
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "dpose_yolo":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import numpy as np
from ultralytics import YOLO
model = YOLO({str(runs["on"])!r})
result = model.predict(np.zeros((64, 64, 3), np.uint8), imgsz=64, verbose=False, conf=0.0)[0]
assert result.keypoints.data.shape[1:] == (17, 3), result.keypoints.data.shape
assert model.model.dpose["att"] == 5.0
postures = model.model.dpose_postures
assert postures["means"].shape == (4, 34) and postures["counts"].sum() == 24, postures
assert "dpose_yolo" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_same_parameters_and_onnx_graph_as_without_attention(runs):
    shapes, graphs = [], []
    for name in ("on", "off"):
        model = YOLO(runs[name])
        shapes.append({k: v.shape for k, v in model.model.state_dict().items()})
        graph = onnx.load(model.export(format="onnx", imgsz=64, simplify=False)).graph
        graphs.append([(node.op_type, len(node.input), len(node.output)) for node in graph.node])
    assert shapes[0] == shapes[1]
    assert graphs[0] == graphs[1]


def test_onnx_equals_pytorch(runs):
    import onnxruntime

    model = YOLO(runs["on"])
    path = model.export(format="onnx", imgsz=64)
    network = YOLO(runs["on"]).model.float().eval()
    image = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(image))[0].numpy()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: image})
    assert np.abs(found - expected).max() < 1e-2 * max(1.0, 64 / 64)  # pixels
