"""Coverage: how near rendered labels come to real ones, before anything is trained.

The oracle answers each real label with the nearest rendered one. Its average recall (AR) bounds what a model that only
reproduces rendered labels can reach, and names the postures and cameras that are missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.metrics.samples import OKS_AREA
from dpose_yolo.render.labels import LabelSet, framing

THRESHOLDS = np.arange(10) * 0.05 + 0.5  # of OKS, COCO's
COVERED = 0.75  # OKS of the nearest rendered label from which on a real one counts as covered
HALF = 0.5  # share of covered labels below which a posture counts as not covered
GATE = 0.6  # AR from which a rendered set is worth training on
FAR = 1e3  # image sizes: where an unlabelled keypoint is put, so that its similarity is 0
ROWS, COLUMNS = 32, 2048  # of a block: its arrays stay in the processor's cache
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Of framing: unit, least difference of medians, what to change if the real value is larger, and if it is smaller.
CHANGES = {
    "width": ("of the image", 0.05, "move the camera nearer or narrow its field of view",
              "move the camera away or widen its field of view"),
    "height": ("of the image", 0.08, "move the camera nearer or narrow its field of view",
               "move the camera away or widen its field of view"),
    "x": ("of the image", 0.05, "turn the camera to its left", "turn the camera to its right"),
    "y": ("of the image", 0.05, "tilt the camera up", "tilt the camera down"),
    "lean": ("degrees", 5.0, "roll the camera anticlockwise, or move it along the car",
             "roll the camera clockwise, or move it along the car"),
    "roll": ("degrees", 10.0, "roll the camera anticlockwise, or move it to the other side of the driver's axis",
             "roll the camera clockwise, or move it to the other side of the driver's axis"),
}  # fmt: skip


def nearest(
    real: LabelSet, rendered: LabelSet, sigmas: np.ndarray, area: float = OKS_AREA
) -> tuple[np.ndarray, np.ndarray]:
    """OKS of each real label with the rendered label that is nearest to it in the same place of the image.

        OKS = mean over labelled k of exp(-d_k^2 / (2 area (2 sigma_k)^2))

    d_k is measured in pixels of the real image, onto which the rendered one is stretched; a keypoint that the rendered
    label lacks counts 0.

    Args:
        real: P labels, each with a labelled keypoint.
        rendered: Q labels, at least one.
        sigmas: (17,) OKS sigmas.
        area: OKS area as a share of the box area.

    Returns:
        (P,) OKS in 0..1 and (P,) index of the rendered label.
    """
    if not len(rendered):
        raise DPoseError("there is no rendered label to compare with")
    best, index = np.full(len(real), -1.0, np.float32), np.zeros(len(real), np.int64)
    for rows, columns, oks in _blocks(real, rendered, sigmas, area):
        found = oks.argmax(1)
        value = oks[np.arange(len(found)), found]
        better = value > best[rows]
        best[rows][better] = value[better]
        index[rows][better] = found[better] + columns.start
    return best.astype(np.float64), index


def oks_matrix(real: LabelSet, rendered: LabelSet, sigmas: np.ndarray, area: float = OKS_AREA) -> np.ndarray:
    """(P, Q) float32 OKS of all pairs, as in `nearest`."""
    result = np.zeros((len(real), len(rendered)), np.float32)
    for rows, columns, oks in _blocks(real, rendered, sigmas, area):
        result[rows, columns] = oks
    return result


def _blocks(
    real: LabelSet, rendered: LabelSet, sigmas: np.ndarray, area: float
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """OKS of all pairs, block by block: rows, columns, (R, C) float32."""
    on = real.keypoints[..., 2] > 0
    a = np.where(on[..., None], real.keypoints[..., :2], FAR).astype(np.float32)
    b = np.where(rendered.keypoints[..., 2:] > 0, rendered.keypoints[..., :2], -FAR).astype(np.float32)
    # In shares of the image: d^2 / area = (dx^2 aspect + dy^2 / aspect) / (share w h).
    scale = -1.0 / (2 * area * real.boxes[:, 2:].prod(1)[:, None] * (2 * np.asarray(sigmas)[None]) ** 2)
    fx = (scale * real.aspect[:, None]).astype(np.float32)
    fy = (scale / real.aspect[:, None]).astype(np.float32)
    labelled = on.sum(1).astype(np.float32)[:, None]
    for top in range(0, len(real), ROWS):
        rows = slice(top, top + ROWS)
        for left in range(0, len(rendered), COLUMNS):
            columns = slice(left, left + COLUMNS)
            yield rows, columns, _similarity(a[rows], b[columns], fx[rows], fy[rows]) / labelled[rows]


def _similarity(a: np.ndarray, b: np.ndarray, fx: np.ndarray, fy: np.ndarray) -> np.ndarray:
    """(R, C) sums of keypoint similarities of R real labels (R, K, 2) and C rendered ones (C, K, 2)."""
    total = np.zeros((len(a), len(b)), np.float32)
    for k in range(a.shape[1]):
        x = a[:, None, k, 0] - b[None, :, k, 0]
        y = a[:, None, k, 1] - b[None, :, k, 1]
        x *= x
        x *= fx[:, k, None]
        y *= y
        y *= fy[:, k, None]
        x += y
        total += np.exp(x, out=x)
    return total


def average_recall(oks: np.ndarray) -> float:
    """Share of values that reach a threshold, averaged over OKS thresholds .5 to .95; NaN of none."""
    return float((np.asarray(oks)[:, None] >= THRESHOLDS - 1e-9).mean()) if len(oks) else float("nan")


@dataclass
class Group:
    """Real labels of one posture cluster, name or camera.

    Attributes:
        kind: `cluster`, `posture` or `camera`.
        name: of the group.
        labels: real labels in it.
        ar: average recall of the oracle.
        covered: share of the labels with an OKS of at least `COVERED`.
        nearest: the posture that most of the nearest rendered labels are of; "" where it is not known.
        camera: the camera that most of them are of.
    """

    kind: str
    name: str
    labels: int
    ar: float
    covered: float
    nearest: str = ""
    camera: str = ""


@dataclass
class Coverage:
    """What `cover` found.

    Attributes:
        real: the real labels that were looked at.
        rendered: the rendered labels.
        oks: (P,) OKS of each real label with the nearest rendered one.
        index: (P,) that rendered label.
        groups: by cluster, posture name and camera, the least covered first.
        frames: by quantity of `labels.framing`, the quantiles of both sets.
        changes: what to change in camera and postures, in words.
    """

    real: LabelSet
    rendered: LabelSet
    oks: np.ndarray
    index: np.ndarray
    groups: list[Group] = field(default_factory=list)
    frames: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)

    @property
    def ar(self) -> float:
        """Average recall of the oracle over all real labels."""
        return average_recall(self.oks)

    def not_covered(self) -> list[str]:
        """Postures of which less than half of the labels are covered: `cluster 3`, `posture drinking`."""
        return [f"{g.kind} {g.name}" for g in self.groups if g.kind != "camera" and g.covered < HALF]

    def summary(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "labels": len(self.real),
            "rendered": len(self.rendered),
            "ar": self.ar,
            "covered": float((self.oks >= COVERED).mean()),
            "not_covered": self.not_covered(),
            "mean_oks": float(self.oks.mean()),
            "groups": [vars(group) for group in self.groups],
            "framing": self.frames,
            "changes": self.changes,
        }


def cover(
    real: LabelSet, rendered: LabelSet, sigmas: np.ndarray, clusters: np.ndarray | None = None, area: float = OKS_AREA
) -> Coverage:
    """Measure how well rendered labels cover real ones, and what to change.

    Args:
        real: real labels; persons without a labelled keypoint are left out.
        rendered: rendered labels.
        sigmas: (17,) OKS sigmas.
        clusters: (P,) posture cluster of each real label, -1 for none.
        area: OKS area as a share of the box area.
    """
    keep = real.labelled()
    clusters = None if clusters is None else np.asarray(clusters)[keep]
    real = real.select(keep)
    rendered = rendered.select(rendered.labelled())
    oks, index = nearest(real, rendered, sigmas, area)
    found = Coverage(real, rendered, oks, index)
    divisions: list[tuple[str, Sequence[str]]] = [(kind, real.words(kind)) for kind in ("posture", "camera")]
    if clusters is not None:
        divisions.insert(0, ("cluster", [str(c) if c >= 0 else "" for c in clusters]))
    for kind, words in divisions:
        found.groups += _groups(kind, np.array(words), found)
    found.frames, found.changes = compare_framing(real, rendered)
    return found


def _groups(kind: str, words: np.ndarray, found: Coverage) -> list[Group]:
    """Groups of real labels by a word each; "" belongs to none."""
    others = {name: np.array(found.rendered.words(name)) for name in ("posture", "camera")}
    groups = []
    for name in sorted({w for w in words.tolist() if w}):
        own = words == name
        near = {k: _commonest(v[found.index[own]]) if len(v) else "" for k, v in others.items()}
        oks = found.oks[own]
        covered = float((oks >= COVERED).mean())
        groups.append(Group(kind, name, len(oks), average_recall(oks), covered, near["posture"], near["camera"]))
    return sorted(groups, key=lambda g: (g.ar, g.name))


def _commonest(words: np.ndarray) -> str:
    names, counts = np.unique(words, return_counts=True)
    return str(names[counts.argmax()]) if len(names) else ""


def compare_framing(real: LabelSet, rendered: LabelSet) -> tuple[dict[str, dict[str, list[float]]], list[str]]:
    """Quantiles of box size, place, lean and roll in both sets, and what to change, in words.

    Returns:
        {quantity: {"real": quantiles, "rendered": quantiles, "outside": [share]}}, where `outside` is the share of real
        values beyond the middle 98 % of the rendered ones; and a sentence for each quantity that differs.
    """
    frames: dict[str, dict[str, list[float]]] = {}
    told = []
    ours = framing(rendered)
    for name, values in framing(real).items():
        a, b = values[np.isfinite(values)], ours[name][np.isfinite(ours[name])]
        if not len(a) or not len(b):
            continue
        low, high = np.quantile(b, (0.01, 0.99))
        outside = float(((a < low) | (a > high)).mean())
        quantiles = [np.quantile(v, QUANTILES) for v in (a, b)]
        frames[name] = {"real": quantiles[0].tolist(), "rendered": quantiles[1].tolist(), "outside": [outside]}
        unit, least, larger, smaller = CHANGES[name]
        step = float(quantiles[0][2] - quantiles[1][2])
        if abs(step) < least and outside < 0.1:
            continue
        digits = 0 if unit == "degrees" else 2
        numbers = f"median {quantiles[0][2]:.{digits}f}, rendered {quantiles[1][2]:.{digits}f} {unit}"
        remedy = (larger if step > 0 else smaller) if abs(step) >= least else "widen the range of the camera"
        told.append(f"{name}: {numbers}; {outside:.0%} of the real values are outside the rendered range: {remedy}")
    return frames, told
