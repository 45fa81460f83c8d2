"""Postures judged by a mixture fitted to the training part: swapped sides, outliers, postures that training lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpose_yolo.dataset.card import Card
from dpose_yolo.dataset.files import label_of, told
from dpose_yolo.dataset.findings import Finding, Findings
from dpose_yolo.dataset.labels import poses, read_label
from dpose_yolo.dataset.scan import Scan, box_problem
from dpose_yolo.dataset.spool import as_text
from dpose_yolo.posture.features import posture_features
from dpose_yolo.posture.usual import FENCE, Usual, fit_usual

PLAUSIBLE = 3.0  # spreads within which the swapped pose has to lie
GAIN = 20.0  # nats that swapping has to gain: the odds are e^20
PAIRS = 3  # pairs of which both sides are labelled that a verdict needs
BATCH = 256


@dataclass
class Judge(Usual):
    """The usual postures of the training part, and which sides can be swapped.

    Attributes:
        flip: (K,) partner of each keypoint, or None where sides are not known.
    """

    flip: np.ndarray | None = None

    def swap_gain(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What swapping left and right would gain.

        Both are compared over the same coordinates: keypoints whose partner is not labelled take no part.

        Args:
            features: (N, 2K) postures.

        Returns:
            (N,) log-likelihood of the swapped pose less that of the pose, nats (-inf where too few pairs are
            labelled), and (N,) how unusual the swapped pose is, in spreads.
        """
        if self.flip is None:
            return np.full(len(features), -np.inf), np.full(len(features), np.inf)
        points = features.reshape(len(features), -1, 2).copy()
        used = np.zeros(points.shape[1], bool)
        used[self.mixture.used_ // 2] = True
        seen = ~np.isnan(points).any(2) & used
        both = seen & seen[:, self.flip]
        points[~both] = np.nan
        plain, swapped = points.reshape(features.shape), points[:, self.flip].reshape(features.shape)
        gain = self.mixture.score_samples(swapped) - self.mixture.score_samples(plain)
        paired = both[:, self.flip != np.arange(len(self.flip))].sum(1) // 2
        return np.where(paired >= PAIRS, gain, -np.inf), self.scores(swapped)


def fit_judge(found: Scan, card: Card, seed: int = 0) -> Judge | str:
    """Fit the mixture of usual postures, or say why that cannot be done."""
    usual = fit_usual(posture_features(*found.sample.poses()), seed)
    if isinstance(usual, str):
        return usual
    flip = np.array(card.flip_idx) if card.flip_idx is not None else None
    if flip is not None and (not (flip[flip] == np.arange(len(flip))).all() or (flip == np.arange(len(flip))).all()):
        flip = None  # told by the check of the YAML
    return Judge(usual.mixture, usual.median, usual.spread, flip)


def judge_postures(
    judge: Judge,
    card: Card,
    found: Scan,
    findings: Findings,
    track: Callable[[Iterable[Any], str], Iterable[Any]] = lambda images, part: images,
) -> None:
    """Second pass over the labels: what is unusual about single poses."""
    images = "SELECT i, path, width, height FROM images WHERE part = ? ORDER BY i"
    for number, part in enumerate(found.parts):
        batch: list[tuple[int, str, int, np.ndarray]] = []
        for at, path, width, height in track(found.spool.rows(images, number), part):
            if width:
                image = as_text(path)
                batch += [(at, image, person, f) for person, f in _features(card, image, width, height)]
            if len(batch) >= BATCH:
                _tell(judge, card, part, batch, found, findings)
                batch = []
        _tell(judge, card, part, batch, found, findings)


def _features(card: Card, image: str, width: int, height: int) -> list[tuple[int, np.ndarray]]:
    rows = read_label(label_of(image), card.count, card.dims, card.classes).rows
    keypoints, boxes = poses(rows, card.dims, width, height)
    known = [
        i
        for i, (p, b) in enumerate(zip(keypoints, boxes, strict=True))
        if (p[:, 2] > 0).any() and not box_problem(p, b)
    ]
    return list(zip(known, posture_features(keypoints, boxes)[known], strict=True))


def _tell(
    judge: Judge,
    card: Card,
    part: str,
    batch: list[tuple[int, str, int, np.ndarray]],
    found: Scan,
    findings: Findings,
) -> None:
    if not batch:
        return
    features = np.stack([f for _, _, _, f in batch])
    far = judge.scores(features)
    gain, swapped_far = judge.swap_gain(features)
    for i, (at, image, person, _) in enumerate(batch):
        if gain[i] > GAIN and swapped_far[i] < PLAUSIBLE:
            kind, text = "swapped_sides", f"with left and right swapped the pose is e^{gain[i]:.0f} times likelier"
            found.leave_out(at)
        elif far[i] > FENCE:
            kind = "outlier" if part == "train" else "unseen_posture"
            text = f"{far[i]:.1f} spreads less likely than the usual pose of the training part"
        else:
            continue
        findings.add(Finding(kind, part, told(image, card), text, person, image))
