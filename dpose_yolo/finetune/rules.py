"""Length, speed and clusters of a fine-tuning by its new images and its start; the user's settings go before all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dpose_yolo.posture.replay import old_in_batch
from dpose_yolo.settings import specification

BATCH = 16
LEAST_BATCHES = 60  # of an epoch, so that few images do not make hundreds of tiny epochs, each with its checkpoint
# Optimizer steps for one image; they grow with the fourth root of the number of images. What a start that knows nothing
# of the new pictures loses of the old ones comes back by length; else fewer are enough (docs/benchmarks.md).
STEPS = 630
STEPS_FAR, LEAST_STEPS_FAR = 1100, 4800
POSES_A_CLUSTER = 10
CLOSED = 0.1  # of the epochs, the last ones, are without mosaics
NEW_MOSAIC = 0.5  # of the new images are in mosaics
TRAINED_FROM = 0.5  # share of old images from which batch norms take the statistics of the mixture
# Muon holds what the starting model knows better than AdamW, with old images and without (docs/benchmarks.md).
MUON = "MuSGD"
MUON_RATE, RATE = 0.02, 0.002  # of Muon, and of others
MUON_MOMENTUM = 0.9  # others have the engine's
# Without old images a start that knows the new ones is spoilt by that rate, and one that knows nothing of them learns
# too little by a lower one. Measured with an AP of .50 and .01 on them.
GENTLE_RATE = 0.004
KNOWN = 0.1  # AP of the starting model on the new training images from which it knows them

# What a run takes over from the starting model: how images are shown and what is asked of the outputs. The rest of its
# settings (length, speed, data, folders) belong to its own training.
INHERITED = (
    "imgsz", "hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective", "flipud", "fliplr",
    "mosaic", "mixup", "cutmix", "multi_scale", "box", "cls", "dfl", "pose", "kobj", "rle",
)  # fmt: skip
INHERITED_DPOSE = ("posture_scale", "covariance", "box_loss", "kpt_far", "pose_score")


def recipe(images: int, settings: Mapping[str, Any], start_ap: float | None = None) -> dict[str, Any]:
    """Settings of a fine-tuning that depend on its data.

    - steps: 630 times the fourth root of the number of new images (20 images: 1332, 50: 1675, 200: 2369, 1000: 3543);
      with replay, where the starting model knows nothing of them, 1100 times (1000 images: 6186) and 4800 at least;
    - an epoch is one pass over the new images, 60 batches at least;
    - MuSGD from 0.02, without replay from 0.004 unless the starting model knows nothing of the new images (others from
      0.002); down a cosine, each batch a step; a tenth of the steps warms up;
    - half of the new images are in mosaics, unless `mosaic` is given; none in the last tenth;
    - no average with a starting model that knows nothing of the new images;
    - batch norms keep the starting model's statistics, unless half of a batch or more is of old images;
    - nothing is frozen below;
    - one posture cluster for every ten new images, 16 at most;
    - the attention term at its own weight.

    Args:
        images: new images.
        settings: what the user gave; `batch`, `replay`, `replay_share`, `optimizer`, `epochs` and `mosaic` are
            looked at.
        start_ap: AP of the starting model on the new training images, which decides the speed without replay and the
            length with it; None where it was not measured: that counts as known without replay, and as not known
            with it, so that the old data are held in either case.

    Returns:
        The settings that the user did not give.
    """
    batch = settings.get("batch", BATCH)
    whole = isinstance(batch, int) and not isinstance(batch, bool) and batch > 0
    replayed = bool(settings.get("replay")) and replay_share(settings) > 0
    size = min(batch, images) if whole and not replayed else batch if whole else BATCH
    new = size - old_in_batch(size, replay_share(settings)) if replayed and size > 1 else size
    batches = epoch_batches(images, new)
    known = not replayed if start_ap is None else start_ap >= KNOWN
    steps = max(STEPS_FAR * images**0.25, LEAST_STEPS_FAR) if replayed and not known else STEPS * images**0.25
    epochs = math.ceil(steps / batches)
    muon = by_muon(settings)
    rules: dict[str, Any] = {
        "batch": BATCH,
        "nbs": batch if whole else BATCH,
        "epochs": epochs,
        "optimizer": MUON,
        "lr0": RATE if not muon else MUON_RATE if replayed or not known else GENTLE_RATE,
        "lrf": 0.01,
        "cos_lr": True,
        "warmup_epochs": 0.1 * settings.get("epochs", epochs),
        "close_mosaic": round(CLOSED * settings.get("epochs", epochs)),
        "warmup_bias_lr": 0.0,
        "patience": 0,
        "val": False,
        "plots": False,
        "clusters": max(1, min(16, images // POSES_A_CLUSTER)),
        "att": "auto",
        "norms": "trained" if replayed and replay_share(settings) >= TRAINED_FROM else "frozen",
        "balance_end": 1.0,
    }
    if not (replayed or known):  # an average with what knows nothing of the new images is not worth measuring
        rules["start_share"] = 0.0
    if muon:
        rules["momentum"] = MUON_MOMENTUM
    if "mosaic" not in settings:
        rules["new_mosaic"] = NEW_MOSAIC
    return {name: value for name, value in rules.items() if name not in settings}


def by_muon(settings: Mapping[str, Any]) -> bool:
    """Whether a fine-tuning is by Muon: unless the user names another optimizer, in any spelling the engine reads."""
    return str(settings.get("optimizer", MUON)).lower() == MUON.lower()


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
