"""Small engine pose models and batches for tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from ultralytics.nn.tasks import PoseModel
from ultralytics.utils import DEFAULT_CFG_DICT

from dpose_yolo.settings import resolve

BACKBONE = [
    [-1, 1, "Conv", [8, 3, 2]],  # 0, stride 2
    [-1, 1, "Conv", [16, 3, 2]],  # 1, stride 4
    [-1, 1, "Conv", [16, 3, 2]],  # 2, stride 8
    [-1, 1, "Conv", [24, 3, 2]],  # 3, stride 16
    [-1, 1, "C3k2", [24, False]],  # 4, stride 16
    [-1, 1, "Conv", [32, 3, 2]],  # 5, stride 32
    [-1, 1, "SPPF", [32, 5]],  # 6, stride 32
]


def tiny_yaml(head: str = "Pose", end2end: bool = False) -> dict[str, Any]:
    """Layer list of a tiny smooth (SiLU) model with two head levels."""
    neck = [[-1, 1, "nn.Upsample", ["None", 2, "nearest"]], [[-1, 4], 1, "Concat", [1]], [-1, 1, "C3k2", [24, False]]]
    return {
        "nc": 1,
        "kpt_shape": [17, 3],
        "reg_max": 1,
        "end2end": end2end,
        "backbone": [list(layer) for layer in BACKBONE],
        "head": [*neck, [[9, 6], 1, head, ["nc", "kpt_shape"]]],
    }


def tiny_model(head: str = "Pose", end2end: bool = False, seed: int = 0, **hyp: Any) -> PoseModel:
    """A tiny pose model with the engine's default hyperparameters."""
    torch.manual_seed(seed)
    model = PoseModel(tiny_yaml(head, end2end), ch=3, nc=1, verbose=False)
    model.args = SimpleNamespace(**{**DEFAULT_CFG_DICT, **hyp})
    return model


def make_batch(images: int = 3, persons: tuple[int, ...] = (1, 2, 0), seed: int = 0, size: int = 64) -> dict[str, Any]:
    """A batch as the engine's loader makes it, already preprocessed: `persons` in each image."""
    g = torch.Generator().manual_seed(seed)
    index = [i for i, n in enumerate(persons[:images]) for _ in range(n)]
    count = len(index)
    centre = 0.4 + 0.2 * torch.rand(count, 2, generator=g)
    extent = 0.4 + 0.2 * torch.rand(count, 2, generator=g)
    keypoints = centre[:, None] + (torch.rand(count, 17, 2, generator=g) - 0.5) * extent[:, None]
    flags = torch.randint(0, 3, (count, 17, 1), generator=g).float()
    flags[:, 0] = 2
    return {
        "img": torch.rand(images, 3, size, size, generator=g),
        "batch_idx": torch.tensor(index, dtype=torch.float32),
        "cls": torch.zeros(count, 1),
        "bboxes": torch.cat([centre, extent], 1),
        "keypoints": torch.cat([keypoints, flags], -1),
        "im_file": [f"/data/img_{seed}_{i}.jpg" for i in range(images)],
    }


def dpose(**settings: Any) -> dict[str, Any]:
    """Complete DPOSE settings."""
    return resolve(settings)
