"""Exports of a small model that has learnt something: what half precision and integers cost it, and all formats."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dpose_yolo.cli import run

ROOT = Path(__file__).resolve().parent.parent
DATA = f"data={ROOT / 'data' / 'cabin_mini.yaml'}"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """`dpose-125` after as many epochs on the sample set as `make demo` has."""
    epochs = re.search(r"DEMO_EPOCHS:-(\d+)", (ROOT / "scripts" / "demo.sh").read_text(encoding="utf-8"))
    folder = tmp_path_factory.mktemp("trained")
    words = ["model=dpose-125.yaml", "imgsz=128", f"epochs={epochs[1]}", "batch=16", "nbs=16", "optimizer=AdamW"]
    more = ["lr0=0.002", "cos_lr=True", "mosaic=0", "cache=ram", "seed=0", "val=False", "plots=False"]
    assert run(["train", DATA, *words, *more, "device=cpu", f"project={folder}", "name=train"]) == 0
    return folder / "train" / "weights" / "last.pt"


def report(model: Path, folder: Path, *words: str) -> dict:
    """Export with the whole test part as comparison; the report."""
    where = ["imgsz=128", "split=test", "images=1000", f"project={folder}", "name=out", "exist_ok=True"]
    assert run(["export", f"model={model}", DATA, *where, *words]) == 0
    (about,) = (folder / "out").glob("*.parity.json")
    found = json.loads(about.read_text(encoding="utf-8"))
    assert found["passed"] and found["AP_pytorch"] > 0.1 and found["images"] > 100
    return {"name": about.name.removesuffix(".parity.json"), **found}


def test_single_precision_answers_as_pytorch(trained, tmp_path):
    found = report(trained, tmp_path)
    assert found["pixels_max"] <= 0.05 and found["AP_exported"] == pytest.approx(found["AP_pytorch"], abs=1e-3)


@pytest.mark.parametrize(
    ("fmt", "package"),
    [("torchscript", "torch"), ("openvino", "openvino"), ("ncnn", "ncnn"), ("litert", "litert_torch")],
)
def test_other_formats_answer_as_pytorch(fmt, package, trained, tmp_path):
    pytest.importorskip(package, reason=f"{package} is not installed: make test-formats installs it")
    found = report(trained, tmp_path, f"format={fmt}")
    assert found["pixels_max"] <= 0.05 and found["AP_exported"] == pytest.approx(found["AP_pytorch"], abs=1e-3)


@pytest.mark.parametrize("words", [["int8=True"], ["int8=True", "single=True"], ["int8=True", "calibrate=random"]])
def test_integers_cost_a_hundredth_of_ap_at_most(words, trained, tmp_path):
    found = report(trained, tmp_path, *words)
    assert found["AP_exported"] > found["AP_pytorch"] - 0.010 and found["bytes"] <= 1_000_000
    # The proven AP is the one that `dpose val` measures on the file; a single driver has no second person to count.
    file = tmp_path / "out" / found["name"]
    measured = ["imgsz=128", "split=test", "bootstrap=0", f"project={tmp_path}", "name=val"]
    assert run(["val", f"model={file}", DATA, *measured, "device=cpu", "plots=False"]) == 0
    value = json.loads((tmp_path / "val" / "metrics.json").read_text(encoding="utf-8"))["AP"]
    assert value == pytest.approx(found["AP_exported"], abs=2e-3)


def test_half_precision_costs_next_to_nothing(trained, tmp_path):
    found = report(trained, tmp_path, "quantize=16")
    assert found["AP_exported"] > found["AP_pytorch"] - 0.005
