"""Trainings that are broken off, and what they must have in common with the unbroken one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
import yaml
from engine_models import tiny_yaml
from stick_figures import build_dataset
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils.torch_utils import unwrap_model

from dpose_yolo import DPoseTrainer


def digest(trainer: Any) -> str:
    """Hash of everything that learns: live weights, their average, optimizer, in full precision."""
    found = hashlib.sha256()
    for model in (unwrap_model(trainer.model), trainer.ema.ema):
        for name, tensor in model.state_dict().items():
            found.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    for number, state in sorted(trainer.optimizer.state_dict()["state"].items()):
        for name, value in sorted(state.items()):
            value = value.cpu().numpy().tobytes() if isinstance(value, torch.Tensor) else str(value).encode()
            found.update(f"{number} {name}".encode() + value)
    return found.hexdigest()


def checkpoint_digest(path: Path) -> str:
    """Hash of the weights in a checkpoint."""
    found = hashlib.sha256()
    for name, tensor in load_checkpoint(path)[0].state_dict().items():
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def make_folder(folder: Path, train: int = 12) -> Path:
    """A folder with a data set of so many training images and a model of its own."""
    folder.mkdir(parents=True)
    build_dataset(folder / "mini", train=train, val=4, test=0, size=48)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_yaml()))
    return folder


def short_run(folder: Path) -> dict[str, Any]:
    """Settings of the shortest training that has everything: 3 epochs of 3 batches, a step of the optimizer in each."""
    return {
        "model": str(folder / "tiny.yaml"), "data": str(folder / "mini" / "data.yaml"), "project": str(folder),
        "imgsz": 64, "epochs": 3, "batch": 4, "nbs": 12, "device": "cpu", "plots": False, "verbose": False,
        "clusters": 3, "close_mosaic": 1, "warmup_epochs": 1, "optimizer": "AdamW",
    }  # fmt: skip


class Watched(DPoseTrainer):
    """Keeps the digest of every epoch, the images of every batch, and can be told where to break off."""

    stop_at: tuple[str, int, int] | None = None  # event, epoch, batch

    def __init__(self, *args: Any, workers: int = 0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.args.workers = workers  # the engine takes none on a CPU
        self.digests: dict[int, str] = {}
        self.seen: dict[int, list[str]] = {}
        self.pixels: dict[int, float] = {}

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        self.seen.setdefault(self.epoch, []).extend(Path(f).name for f in batch["im_file"])
        self.pixels[self.epoch] = self.pixels.get(self.epoch, 0) + float(batch["img"].float().sum())
        return super().preprocess_batch(batch)

    def run_callbacks(self, event: str) -> None:
        super().run_callbacks(event)
        if event == "on_model_save":
            self.digests[self.epoch] = digest(self)
        if (
            self.stop_at
            and self.stop_at[0] == event
            and self.stop_at[1:] in ((self.epoch, -1), (self.epoch, self._batch))
        ):
            raise KeyboardInterrupt
