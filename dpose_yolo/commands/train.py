"""`dpose train`."""

from __future__ import annotations

from typing import Any

from dpose_yolo.commands.common import absolute_project
from dpose_yolo.settings import load_cfg


def main(settings: dict[str, Any]) -> None:
    """Train, and say where the results are."""
    cfg = settings.pop("cfg", None)
    settings = {**(load_cfg(cfg) if cfg else {}), **settings}
    resume = settings.get("resume")
    by_checkpoint = "name" not in settings and str(settings.get("model", "")).endswith(".pt")
    if not resume or (resume is True and not by_checkpoint):
        settings.setdefault("model", "dpose-125.yaml")
        settings = absolute_project(settings)
        settings.setdefault("name", "train")
    from ultralytics.utils import RANK

    from dpose_yolo.engine.trainer import DPoseTrainer

    trainer = DPoseTrainer(**settings)
    trainer.train()
    if RANK > 0:  # of several processes, one says it
        return
    files = ["weights/best.pt", "results.csv", "args.yaml", "postures.npz", "posture_draws.csv", "postures.png"]
    print(f"\nResults in {trainer.save_dir}: {', '.join(f for f in files if (trainer.save_dir / f).exists())}")
