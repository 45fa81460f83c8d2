"""An old and a new data set of drawn drivers, and a model trained on the old one, for tests of fine-tuning."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from engine_models import tiny_yaml
from stick_figures import build_dataset

from dpose_yolo import DPoseTrainer

SIGMAS = "kpt_oks_sigmas: [" + ", ".join(["0.5"] * 17) + "]\n"  # so wide that a model of few steps has an AP


def build_world(folder: Path, old: dict[str, int], new: dict[str, int], **settings: Any) -> SimpleNamespace:
    """Both sets (`old` and `new` are sizes of their parts), the trained start, and the settings it was trained with."""
    cards = build_dataset(folder / "old", **old), build_dataset(folder / "new", **new, seed=5)
    for card in cards:
        card.write_text(card.read_text() + SIGMAS)
    model = folder / "tiny.yaml"
    model.write_text(yaml.safe_dump(tiny_yaml()))
    settings = {
        "model": str(model), "data": str(cards[0]), "imgsz": 64, "batch": 8, "device": "cpu", "plots": False, "att": 0,
        "project": str(folder / "runs"), "verbose": False, "val": False, "refits": 0, **settings,
    }  # fmt: skip
    start = DPoseTrainer(**settings, name="start")
    start.train()
    return SimpleNamespace(
        folder=folder, old=str(cards[0]), new=str(cards[1]), start=str(start.last), trainer=start, settings=settings
    )


def usual_world(folder: Path) -> SimpleNamespace:
    """24 old and 13 new training images, and a start that knows something."""
    return build_world(
        folder, {}, {"train": 13, "val": 6, "test": 6}, epochs=12, clusters=4,
        optimizer="AdamW", lr0=0.01, nbs=8, mosaic=0, warmup_epochs=0,
    )  # fmt: skip


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    return list(csv.DictReader(path.open()))


def short_run(world: SimpleNamespace, folder: Path) -> dict[str, Any]:
    """Settings of a short fine-tuning in a folder, without what takes long: attention, AP on the new images."""
    return {
        "model": world.start, "data": world.new, "epochs": 1, "batch": 8, "device": "cpu", "verbose": False,
        "refits": 0, "project": str(folder / "runs"), "att": 0,
        "lr0": 0.02, "start_share": 0,
    }  # fmt: skip
