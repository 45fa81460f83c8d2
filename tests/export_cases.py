"""A tiny checkpoint that answers to what it sees, for tests of exports and of the runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from engine_models import tiny_model
from stick_figures import NAMES

LOW = 1e-4  # confidence: the model has learnt nothing, so it is sure of nothing


def cabin_pictures(root: Path, count: int) -> list[np.ndarray]:
    """(240, 320, 3) pictures of the sample set."""
    files = sorted((root / "data" / "cabin_mini" / "images" / "test").iterdir())[:count]
    return [cv2.imread(str(f)) for f in files]


def save_checkpoint(
    path: Path, root: Path, train_args: dict[str, Any] | None = None, size: int = 64, sure: bool = False
) -> Path:
    """Write a checkpoint whose batch norms know real pictures, so that its answers move with the picture.

    `sure` gives its candidates confidences around one half, as if it had learnt something.
    """
    model = tiny_model()
    torch.manual_seed(1)
    for branches, most in ((model.model[-1].cv2, 0.05), (model.model[-1].cv3, 0.2), (model.model[-1].cv4, 0.015)):
        for branch in branches:
            torch.nn.init.normal_(branch[-1].weight, std=most)
    if sure:
        for branch in model.model[-1].cv3:
            torch.nn.init.zeros_(branch[-1].bias)
    pictures = [cv2.resize(p, (size, size)) for p in cabin_pictures(root, 8)]
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).flip(1).float() / 255
    batch = batch + 0.1 * torch.rand(batch.shape[0], 3, 1, 1)  # colours, which the grey pictures lack
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # the statistics of this batch, whatever was there before
    model.train()
    with torch.no_grad():
        model(batch)
    model.eval()
    for norm in norms:
        norm.momentum = 0.03
    model.args, model.task, model.kpt_names = {"imgsz": size, **(train_args or {})}, "pose", {0: NAMES}
    torch.save({"model": model, "train_args": train_args or {}}, path)
    return path
