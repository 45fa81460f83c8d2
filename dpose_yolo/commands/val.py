"""`dpose val`: accuracy by the engine's validator."""

from __future__ import annotations

import json
from typing import Any

from dpose_yolo.commands.common import absolute_project, engine_model, refuse_non_engine
from dpose_yolo.commands.usage import require
from dpose_yolo.settings import specification


def main(settings: dict[str, Any]) -> None:
    """Validate a model and write `metrics.json`."""
    path = require(settings, "model", "val")
    data = require(settings, "data", "val")
    skip_bad = specification()["skip_bad"].check(settings.pop("skip_bad", False))
    refuse_non_engine(settings, "val")
    from dpose_yolo.engine.checks import engine_errors
    from dpose_yolo.engine.labels import load_labels

    model = engine_model(path)
    # The engine would leave unusable images out with a warning, and the AP would be of fewer images than asked for.
    labels, _, _ = load_labels(data, str(settings.get("split", "val")), skip_bad)
    settings = absolute_project({"name": "val", "plots": False, **settings})
    with engine_errors(f"model={path} cannot be validated on {data}"):
        metrics = model.val(**{k: v for k, v in settings.items() if k != "model"})
    result = {
        "model": str(path),
        "data": str(data),
        "split": settings.get("split", "val"),
        "images": len(labels),
        "AP": float(metrics.pose.map),
        "AP50": float(metrics.pose.map50),
        "box_AP": float(metrics.box.map),
        "box_AP50": float(metrics.box.map50),
    }
    (metrics.save_dir / "metrics.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"\nkeypoints AP {result['AP']:.3f}  AP50 {result['AP50']:.3f}   box AP {result['box_AP']:.3f}")
    print(f"written to {metrics.save_dir / 'metrics.json'} (the engine's AP: OKS area is 0.53 of the box)")
