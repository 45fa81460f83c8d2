"""Labels and detections for the tests of the metrics: the sample set, a crowd, and one-line persons by hand."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import yaml

from dpose_yolo.metrics import Detections, Truth

ROOT = Path(__file__).resolve().parent.parent
CARD = yaml.safe_load((ROOT / "data" / "cabin_mini.yaml").read_text())
NAMES, SIGMAS = CARD["kpt_names"][0], np.array(CARD["kpt_oks_sigmas"])


def cabin_truth(split: str = "test", size: tuple[int, int] = (320, 240)) -> Truth:
    """Labels of a part of data/cabin_mini, in pixels: one driver an image, hidden and missing keypoints."""
    files = sorted((ROOT / "data" / "cabin_mini" / "labels" / split).glob("*.txt"))
    rows = [np.loadtxt(file, ndmin=2) for file in files]
    image = np.repeat(np.arange(len(files)), [len(r) for r in rows])
    table, scale = np.concatenate(rows), np.array(size, float)
    centre, half = table[:, 1:3] * scale, table[:, 3:5] * scale / 2
    keypoints = table[:, 5:].reshape(len(table), -1, 3)
    keypoints[..., :2] *= scale
    sizes = np.tile(size, (len(files), 1))
    boxes = np.hstack([centre - half, centre + half])
    return Truth([f"{f.stem}.jpg" for f in files], sizes, image, keypoints, boxes, NAMES, SIGMAS)


def crowd_truth(images: int = 60, keypoints: int = 5, seed: int = 0) -> Truth:
    """None to five persons an image, overlapping; some without any labelled keypoint, some images without labels."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), rng.integers(0, 6, images))
    low = rng.uniform(0, 200, (len(image), 2))
    boxes = np.hstack([low, low + rng.uniform(30, 200, (len(image), 2))])
    state = rng.choice([0.0, 1.0, 2.0], (len(image), keypoints), p=[0.3, 0.2, 0.5])
    state[rng.random(len(image)) < 0.15] = 0
    points = low[:, None] + rng.random((len(image), keypoints, 2)) * (boxes[:, 2:] - low)[:, None]
    labels = np.concatenate([np.where(state[..., None] > 0, points, 0), state[..., None]], axis=2)
    names = [f"point_{k}" for k in range(keypoints)]
    files = [f"{i:03d}.jpg" for i in range(images)]
    return Truth(files, np.full((images, 2), 400), image, labels, boxes, names, rng.uniform(0.03, 0.1, keypoints))


def detected(truth: Truth, seed: int = 0, noise: float = 0.03, spurious: int = 3) -> Detections:
    """What a middling model finds: errors that differ by person, misses, doubles, and detections of nobody.

    Scores fall with the error, but only roughly; unlabelled keypoints are guessed inside the box.
    """
    rng = np.random.default_rng(seed)
    source = np.concatenate([np.arange(len(truth.image)), rng.integers(0, len(truth.image), len(truth.image) // 2)])
    source = source[rng.random(len(source)) < 0.93]
    boxes, size = truth.boxes[source], np.sqrt(truth.box_areas()[source])[:, None]
    error = noise * rng.lognormal(0, 0.8, (len(source), 1))
    guess = boxes[:, None, :2] + rng.random((len(source), len(truth.names), 2)) * (boxes[:, 2:] - boxes[:, :2])[:, None]
    points = np.where(truth.labelled()[source][..., None], truth.keypoints[source, :, :2], guess)
    points = points + (error * size)[..., None] * rng.standard_normal(points.shape)
    score = 1 / (1 + error[:, 0] * 20) * rng.uniform(0.4, 1, len(source))
    extra = rng.integers(0, len(truth.files), spurious * len(truth.files))
    image = np.concatenate([truth.image[source], extra])
    low = rng.uniform(0, 200, (len(extra), 2))
    boxes = np.vstack([boxes + size * error * rng.standard_normal(boxes.shape), np.hstack([low, low + 60])])
    points = np.concatenate([points, low[:, None] + 60 * rng.random((len(extra), len(truth.names), 2))])
    score = np.concatenate([score, rng.beta(1, 6, len(extra))])
    seen = np.vstack([truth.keypoints[source, :, 2] > 0, rng.random((len(extra), len(truth.names))) > 0.5])
    confidence = np.clip(np.where(seen, 0.75, 0.3) + 0.2 * rng.standard_normal(seen.shape), 0, 1)
    order = rng.permutation(len(image))
    keypoints = np.concatenate([points, confidence[..., None]], axis=2)
    return Detections(image[order], score[order], boxes[order], keypoints[order])


def people(*rows: tuple[int, float], images: int = 1, keypoints: int = 1, size: float = 100.0) -> Truth:
    """Persons by hand: (image, x of the box's left side); box `size` x `size`, all keypoints in its centre, visible."""
    image = np.array([row[0] for row in rows], int)
    left = np.array([row[1] for row in rows], float)
    boxes = np.stack([left, 0 * left, left + size, 0 * left + size], axis=1)
    labels = np.full((len(rows), keypoints, 3), [size / 2, size / 2, 2.0])
    labels[..., 0] += left[:, None]
    names, files = [f"point_{k}" for k in range(keypoints)], [f"{i}.jpg" for i in range(images)]
    return Truth(files, np.full((images, 2), 1000), image, labels, boxes, names, np.full(keypoints, 0.05))


def found(truth: Truth, *rows: tuple[int, float, float]) -> Detections:
    """Detections by hand of `people`: (person, score, OKS to have at oks_area=1), moved to the right for that OKS."""
    who = np.array([row[0] for row in rows], int)
    score, oks = np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
    distance = np.sqrt(-np.log(oks) * 2 * truth.box_areas()[who]) * 2 * truth.sigmas[0]
    points = truth.keypoints[who].copy()
    points[..., 0] += distance[:, None]
    points[..., 2] = 0.9
    return Detections(truth.image[who], score, truth.boxes[who], points)


def pycocotools_metrics(truth: Truth, detections: Detections, oks_area: float, limit: int = 20) -> dict[str, float]:
    """The numbers by pycocotools itself, with its own defaults for everything but the sigmas."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = truth.coco(oks_area)
        gt.createIndex()
        run = COCOeval(gt, gt.loadRes(detections.coco()), "keypoints")
        run.params.kpt_oks_sigmas = truth.sigmas
        run.params.maxDets = [limit]
        run.evaluate()
        run.accumulate()
    precision, recall = run.eval["precision"][:, :, 0, 0, 0], run.eval["recall"][:, 0, 0, 0]
    assert precision.min() >= 0
    return {
        "AP": precision.mean(),
        "AP50": precision[0].mean(),
        "AP75": precision[5].mean(),
        "AR": recall.mean(),
    }
