"""How well the attention maps lie on their keypoints: the number behind the paper's Fig. 4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from dpose_yolo.engine.explain import KeypointCams, keypoint_cams, load_pose_model
from dpose_yolo.engine.graph import attention_layers
from dpose_yolo.images import read_image
from dpose_yolo.metrics.samples import Truth

BATCH_PIXELS = 16 * 256**2  # input pixels that share a backward pass, so that large inputs do not fill the memory


@dataclass
class AttentionQuality:
    """What was found.

    Attributes:
        rows: one row a keypoint and a last row `all`: `keypoint`, `maps` (how many), `energy` (mean share of the map's
            sum inside the disc), `pointing` (share of maps with their maximum in the disc), `chance` (mean share of the
            picture that the disc covers: what an even map would reach in both). NaN where there is no map.
        images: how many were looked at.
        layers: whose maps.
    """

    rows: pd.DataFrame
    images: int
    layers: list[int]


def attention_quality(
    model: str | Path,
    truth: Truth,
    imgsz: int = 640,
    limit: int = 100,
    radius: float = 0.1,
    layers: str | list[int] = "auto",
    device: Any = None,
    seed: int = 0,
) -> AttentionQuality:
    """Share of each map inside a disc around its label, and whether its peak lies there (pointing game).

    For each of the images, the maps (Eq. 5) of the likeliest driver are held against the labels of the labelled person
    that it lies nearest to; keypoints that are labelled visible (2) count. Everything is counted on the picture as the
    model sees it, at input size, letterbox borders left out.

    Args:
        model: path of a .pt checkpoint.
        truth: the labels; keypoints in the model's order.
        imgsz: input size of the model.
        limit: images at most; drawn evenly if there are more.
        radius: of the disc, as a share of the person size (root of the box area), as `att_radius`; half a cell of the
            coarsest layer at least.
        layers: as the setting `att_layers`; the maps of several are averaged.
        device: as the engine takes it; None is the CPU.
        seed: of the drawn images.

    Raises:
        DPoseError: for a model without attention maps, and an image that cannot be read.
    """
    network = load_pose_model(model)
    if device not in (None, "", "cpu"):
        from ultralytics.utils.torch_utils import select_device

        network = network.to(select_device(device, verbose=False))
    images = np.unique(truth.image[(truth.keypoints[..., 2] == 2).any(1)])
    if len(images) > limit:
        images = np.sort(np.random.default_rng(seed).choice(images, limit, replace=False))
    rows: list[tuple[int, float, float, float]] = []
    keypoints = range(len(truth.names))
    chosen = attention_layers(network, layers)
    batch = max(1, BATCH_PIXELS // imgsz**2)
    for start in range(0, len(images), batch):
        chunk = images[start : start + batch]
        pictures = [read_image(truth.files[i]) for i in chunk]
        found = keypoint_cams(network, pictures, keypoints, imgsz, chosen)
        for i, cams in zip(chunk, found, strict=True):
            person = _nearest_person(truth, int(i), cams.points)
            rows += _measured(cams, truth.keypoints[person], truth.box_areas()[person] ** 0.5, radius)
    table = pd.DataFrame(rows, columns=["k", "energy", "pointing", "chance"])
    return AttentionQuality(_by_keypoint(table, truth.names), len(images), chosen)


def _nearest_person(truth: Truth, image: int, points: np.ndarray) -> int:
    """The labelled person of an image whose visible keypoints lie nearest to the predicted ones, by its own size."""
    persons = np.flatnonzero(truth.image == image)
    visible = truth.keypoints[persons, :, 2] == 2
    distance = np.linalg.norm(truth.keypoints[persons, :, :2] - points[None, :, :2], axis=-1)
    mean = (distance * visible).sum(1) / np.maximum(visible.sum(1), 1)
    size = np.maximum(truth.box_areas()[persons], 1) ** 0.5
    return int(persons[np.where(visible.any(1), mean / size, np.inf).argmin()])


def _measured(
    cams: KeypointCams, labels: np.ndarray, size: float, radius: float
) -> list[tuple[int, float, float, float]]:
    """Keypoint, energy, pointing and chance of each visible keypoint of a person.

    Args:
        cams: maps of L layers and K keypoints.
        labels: (K, 3) in pixels of the image.
        size: of the person, in pixels of the image.
        radius: of the disc, as a share of the size.
    """
    peak = cams.maps.flatten(2).amax(2)[..., None, None].clamp(min=1e-12)
    maps = (cams.maps / peak).mean(0).cpu()  # (K, h, w): each layer counts alike, as in `explain`
    _, height, width = maps.shape
    y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    reach = max(radius * size * cams.gain, cams.cell / 2)
    rows = []
    for k in np.flatnonzero(labels[:, 2] == 2):
        centre = labels[k, :2] * cams.gain
        disc = (x[None] - centre[0]) ** 2 + (y[:, None] - centre[1]) ** 2 <= reach**2
        total = float(maps[k].sum())
        energy = float(maps[k][disc].sum()) / total if total > 0 else 0.0
        hit = total > 0 and bool(disc.flatten()[maps[k].argmax()])
        rows.append((int(k), energy, float(hit), float(disc.float().mean())))
    return rows


def _by_keypoint(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    values = ["energy", "pointing", "chance"]
    rows = [
        {"keypoint": name, "maps": int((table["k"] == k).sum()), **table.loc[table["k"] == k, values].mean()}
        for k, name in enumerate(names)
    ]
    return pd.DataFrame([*rows, {"keypoint": "all", "maps": len(table), **table[values].mean()}])
