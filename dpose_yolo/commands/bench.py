"""`dpose bench`: what training steps cost, or how fast exported models are."""

from __future__ import annotations

from typing import Any

from dpose_yolo.errors import DPoseError


def main(settings: dict[str, Any]) -> None:
    """Go on with what the first word says; the light half has to run without torch and pandas."""
    what, *models = settings.get("what") or [""]
    if what in ("models", "model"):
        from dpose_yolo.commands.bench_models import main as models_main

        return models_main({**{k: v for k, v in settings.items() if k != "what"}, "models": models})
    if what != "train" or models:
        said = ", not " + " ".join([what, *models]) if what else ""
        raise DPoseError(
            "dpose bench needs a word for what to measure: dpose bench models a.onnx ... or "
            f"dpose bench train data=...{said}"
        )
    from dpose_yolo.commands.bench_train import main as train_main

    return train_main(settings)
