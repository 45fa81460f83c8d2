"""`dpose train`."""

from __future__ import annotations

from typing import Any


def main(settings: dict[str, Any]) -> None:
    """Train, and say where the results are."""
    from ultralytics.utils import RANK

    from dpose_yolo.engine.trainer import DPoseTrainer

    trainer = DPoseTrainer(**settings)
    trainer.train()
    if RANK > 0:  # of several processes, one says it
        return
    files = [
        "weights/best.pt",
        "results.csv",
        "args.yaml",
        "postures.npz",
        "posture_draws.csv",
        "render_draws.csv",
        "postures.png",
    ]
    print(f"\nResults in {trainer.save_dir}: {', '.join(f for f in files if (trainer.save_dir / f).exists())}")
