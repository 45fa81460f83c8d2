"""Drawn stick-figure drivers, so that tests can train without any data set."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import yaml

# Driver in the middle of the picture, COCO's keypoint order, x to the right and y down. Seen from the front:
# the driver's left lies right.
_BODY = np.array(
    [
        [0.50, 0.20], [0.53, 0.17], [0.47, 0.17], [0.57, 0.19], [0.43, 0.19],  # nose, eyes, ears
        [0.64, 0.36], [0.36, 0.36], [0.70, 0.52], [0.30, 0.52], [0.58, 0.62], [0.42, 0.62],  # arms
        [0.58, 0.72], [0.42, 0.72], [0.66, 0.84], [0.34, 0.84], [0.66, 0.98], [0.34, 0.98],  # hips, legs
    ]
)  # fmt: skip
# What each posture moves: {keypoint: place}. The first is the commonest, as in driving.
POSTURES: dict[str, dict[int, tuple[float, float]]] = {
    "two_hands": {},
    "phone_left": {7: (0.74, 0.42), 9: (0.60, 0.22)},
    "reach_right": {8: (0.20, 0.44), 10: (0.06, 0.50)},
    "stretch_up": {7: (0.76, 0.24), 9: (0.70, 0.06), 8: (0.24, 0.24), 10: (0.30, 0.06)},
}
FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
_PAIRS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
NAMES = ["nose", *(f"{s}_{p}" for p in _PAIRS for s in ("left", "right"))]
LIMBS = [
    (5, 6),
    (5, 7),
    (7, 9),
    (6, 8),
    (8, 10),
    (5, 11),
    (6, 12),
    (11, 12),
    (11, 13),
    (12, 14),
    (13, 15),
    (14, 16),
    (0, 5),
    (0, 6),
]


def figure(posture: str, rng: np.random.Generator) -> np.ndarray:
    """Keypoints of one driver, jittered: (17, 3) of x, y in 0..1 and visibility flag."""
    xy = _BODY.copy()
    for k, place in POSTURES[posture].items():
        xy[k] = place
    scale = rng.uniform(0.8, 1.0)
    xy = (xy - 0.5) * scale + 0.5 + rng.uniform(-0.08, 0.08, 2) + rng.normal(0, 0.008, xy.shape)
    flags = np.where(rng.random(17) < 0.15, 1.0, 2.0)  # some points are hidden
    inside = ((xy > 0.0) & (xy < 1.0)).all(1)
    points = np.column_stack([xy, flags])
    points[~inside] = 0
    return points


def draw(points: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Grey picture (size, size, 3) uint8 of one driver: limbs, a head, brighter wrists, noise."""
    image = rng.normal(60, 8, (size, size)).clip(0, 255).astype(np.uint8)
    place = [(int(x * size), int(y * size)) for x, y, _ in points]
    width = max(1, size // 32)
    for a, b in LIMBS:
        if points[a, 2] and points[b, 2]:
            cv2.line(image, place[a], place[b], 170, width)
    if points[0, 2]:
        cv2.circle(image, place[0], size // 12, 200, -1)
    for k in (9, 10):
        if points[k, 2]:
            cv2.circle(image, place[k], width + 1, 250, -1)
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)


def label_row(points: np.ndarray, keypoints: int) -> str:
    """One line of a YOLO-pose label: class, box around the labelled points with a margin, keypoints."""
    xy = points[points[:, 2] > 0, :2]
    low, high = (xy.min(0) - 0.04).clip(0, 1), (xy.max(0) + 0.04).clip(0, 1)
    box = [*(low + high) / 2, *(high - low)]
    values = [f"{v:.5f}" for v in box]
    for x, y, v in points[:keypoints]:
        values += [f"{x:.5f}", f"{y:.5f}", str(int(v))]
    return " ".join(["0", *values])


def build_dataset(
    folder: Path,
    train: int = 24,
    val: int = 8,
    test: int = 8,
    keypoints: int = 17,
    size: int = 96,
    seed: int = 0,
) -> Path:
    """Write a pose dataset and return the path of its `data.yaml`.

    The training part is long-tailed over `POSTURES` (each half as frequent as the one before, none missing),
    the others are balanced. With fewer than 17 `keypoints` the first ones of COCO's order are kept.

    Args:
        folder: where to write; images/<split>, labels/<split>, index.csv, data.yaml.
        train: images of the training part.
        val: images of the validation part.
        test: images of the test part.
        keypoints: 1 to 17.
        size: side of the square images, pixels.
        seed: equal seeds give equal datasets.
    """
    assert 1 <= keypoints <= 17
    rng = np.random.default_rng(seed)
    names = list(POSTURES)
    tail = np.array([0.5**i for i in range(len(names))])
    rows = []
    for split, n in (("train", train), ("val", val), ("test", test)):
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
        (folder / "labels" / split).mkdir(parents=True, exist_ok=True)
        if split == "train":
            order = list(range(len(names))) + list(rng.choice(len(names), max(0, n - len(names)), p=tail / tail.sum()))
        else:
            order = [i % len(names) for i in range(n)]
        for i, posture in enumerate(order[:n]):
            points = figure(names[posture], rng)
            stem = f"{split}_{i:04d}"
            # PNG: no compression noise, so that equal seeds give equal pixels everywhere
            cv2.imwrite(str(folder / "images" / split / f"{stem}.png"), draw(points, size, rng))
            (folder / "labels" / split / f"{stem}.txt").write_text(label_row(points, keypoints) + "\n")
            rows.append([f"{stem}.png", split, names[posture], "front"])
    with (folder / "index.csv").open("w", newline="") as f:
        csv.writer(f, lineterminator="\n").writerows([["file", "split", "posture", "camera"], *rows])
    card = {
        **{split: f"images/{split}" for split in ("train", "val", "test")},
        "names": {0: "driver"},
        "kpt_shape": [keypoints, 3],
        # a left point whose right partner was cut off stays where it is
        "flip_idx": [j if j < keypoints else i for i, j in enumerate(FLIP[:keypoints])],
        "kpt_names": {0: NAMES[:keypoints]},
    }
    (folder / "data.yaml").write_text(yaml.safe_dump(card, sort_keys=False))
    return folder / "data.yaml"
