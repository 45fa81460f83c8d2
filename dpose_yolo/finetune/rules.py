"""Length, speed and clusters of a fine-tuning by the number of new images; the user's settings go before all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dpose_yolo.posture.replay import old_in_batch
from dpose_yolo.settings import specification

BATCH = 16
LEAST_BATCHES = 60  # of an epoch, so that few images do not make hundreds of tiny epochs, each with its checkpoint
STEPS = 1100  # optimizer steps for one image; they grow with the fourth root of the number of images
LEAST_STEPS = 4800  # with old images in the batch: both sides gain by length (docs/benchmarks.md)
POSES_A_CLUSTER = 10
CLOSED = 0.1  # of the epochs, the last ones, are without mosaics
NEW_MOSAIC = 0.5  # of the new images beside old ones are in mosaics
TRAINED_FROM = 0.5  # share of old images from which batch norms take the statistics of the mixture
# With old images Muon, which holds them better at about the same new AP (docs/benchmarks.md); without any, AdamW.
MUON = "MuSGD"
MUON_RATE, RATE = 0.02, 0.002
MUON_MOMENTUM = 0.9  # others have the engine's

# What a run takes over from the starting model: how images are shown and what is asked of the outputs. The rest of its
# settings (length, speed, data, folders) belong to its own training.
INHERITED = (
    "imgsz", "hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective", "flipud", "fliplr",
    "mosaic", "mixup", "cutmix", "multi_scale", "box", "cls", "dfl", "pose", "kobj", "rle",
)  # fmt: skip
INHERITED_DPOSE = ("posture_scale", "covariance", "box_loss", "kpt_far", "pose_score")


def recipe(images: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a fine-tuning that depend on its data.

    - steps: 1100 times the fourth root of the number of new images (20 images: 2327, 50: 2926, 200: 4137, 1000: 6186);
      with replay 4800 at least, since new and old data gain by length;
    - an epoch is one pass over the new images, 60 batches at least;
    - with replay MuSGD from 0.02, without it AdamW from 0.002, down a cosine, each batch a step; a tenth of the steps
      warms up;
    - with replay half of the new images are in mosaics, unless `mosaic` is given; none in the last tenth;
    - batch norms keep the starting model's statistics, unless half of a batch or more is of old images;
    - nothing is frozen below;
    - one posture cluster for every ten new images, 16 at most;
    - the attention term at its own weight with replay, where it was ahead on the new images and on the old ones
      (docs/benchmarks.md); off without, where that was not measured.

    Args:
        images: new images.
        settings: what the user gave; `batch`, `replay`, `replay_share`, `optimizer`, `epochs` and `mosaic` are
            looked at.

    Returns:
        The settings that the user did not give.
    """
    batch = settings.get("batch", BATCH)
    whole = isinstance(batch, int) and not isinstance(batch, bool) and batch > 0
    replayed = bool(settings.get("replay")) and replay_share(settings) > 0
    size = min(batch, images) if whole and not replayed else batch if whole else BATCH
    new = size - old_in_batch(size, replay_share(settings)) if replayed and size > 1 else size
    batches = epoch_batches(images, new)
    epochs = math.ceil(max(STEPS * images**0.25, LEAST_STEPS if replayed else 0) / batches)
    optimizer = settings.get("optimizer", MUON if replayed else "AdamW")
    muon = str(optimizer).lower() == MUON.lower()  # as the engine reads it
    rules: dict[str, Any] = {
        "batch": BATCH,
        "nbs": batch if whole else BATCH,
        "epochs": epochs,
        "optimizer": optimizer,
        "lr0": MUON_RATE if muon else RATE,
        "lrf": 0.01,
        "cos_lr": True,
        "warmup_epochs": 0.1 * settings.get("epochs", epochs),
        "close_mosaic": round(CLOSED * settings.get("epochs", epochs)),
        "warmup_bias_lr": 0.0,
        "patience": 0,
        "val": False,
        "plots": False,
        "clusters": max(1, min(16, images // POSES_A_CLUSTER)),
        "att": "auto" if replayed else 0.0,
        "norms": "trained" if replayed and replay_share(settings) >= TRAINED_FROM else "frozen",
        "balance_end": 1.0,
    }
    if muon:
        rules["momentum"] = MUON_MOMENTUM
    if replayed and "mosaic" not in settings:
        rules["new_mosaic"] = NEW_MOSAIC
    return {name: value for name, value in rules.items() if name not in settings}


def replay_share(settings: Mapping[str, Any]) -> float:
    """Share of old images in a batch: what the user gave, or the default."""
    return float(settings.get("replay_share", specification("finetune")["replay_share"].default))


def epoch_batches(images: int, new: int) -> int:
    """Batches of an epoch: one pass over the new images, `LEAST_BATCHES` at least.

    Args:
        images: new images.
        new: new images in a batch.
    """
    return max(LEAST_BATCHES, math.ceil(images / new))
