"""Poses of known postures and a mixture that knows them, for tests of tables and atlases."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from stick_figures import NAMES, figure

from dpose_yolo.engine.postures import PoseTable, PosturePlan, posture_plan
from dpose_yolo.posture.features import posture_features
from dpose_yolo.posture.mixture import PostureMixture

SHARES = {"two_hands": 30, "phone_left": 12, "reach_right": 6, "stretch_up": 4}
SETTINGS = {
    "posture_scale": "box",
    "balance": 1.0,
    "balance_end": 1.0,
    "responsibility": "soft",
    "repeat_cap": float("inf"),
}


def stick_table(folder: Path | None = None, repeat: int = 1) -> tuple[PoseTable, list[str | None]]:
    """Poses of four known postures, one an image of 96x96 px, and each image's posture; images only in `folder`."""
    rng = np.random.default_rng(0)
    names: list[str | None] = [p for p, count in SHARES.items() for _ in range(count * repeat)]
    keypoints = np.stack([figure(str(p), rng) for p in names]) * [96, 96, 1]
    boxes = np.tile(np.float32([48, 48, 60, 80]), (len(names), 1))
    files = [str((folder or Path("nowhere")) / f"im_{i:03d}.png") for i in range(len(names))]
    if folder:
        for i, file in enumerate(files):
            cv2.imwrite(file, np.full((96, 96, 3), (0, 2 * (i % 100), 255), np.uint8))
    table = PoseTable(keypoints.astype(np.float32), boxes, np.arange(len(names)), files, list(NAMES))
    return table, names


def fitted(table: PoseTable, clusters: int | str, **options: object) -> tuple[PostureMixture, PosturePlan]:
    mixture = PostureMixture(clusters, n_init=1, imputation_rounds=1, **{"covariance_type": "diag", **options})
    mixture.fit(posture_features(table.keypoints, table.boxes))
    return mixture, posture_plan(table, mixture, SETTINGS)


def known(table: PoseTable, names: list[str | None]) -> tuple[PostureMixture, PosturePlan]:
    """The mixture whose clusters are the drawn postures, largest first: no luck of a fit in the numbers."""
    mixture, _ = fitted(table, 4)
    features = posture_features(table.keypoints, table.boxes)[:, mixture.used_].astype(np.float64)
    groups = [features[[n == posture for n in names]] for posture in SHARES]
    mixture.weights_ = np.array([len(group) for group in groups]) / len(features)
    mixture.means_ = np.array([np.nanmean(group, 0) for group in groups])
    mixture.covariances_ = np.full_like(mixture.means_, 0.05**2)
    return mixture, posture_plan(table, mixture, SETTINGS)
