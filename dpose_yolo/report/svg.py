"""Drawings for pages, as SVG: mean skeletons with their spread, and a curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dpose_yolo.keypoints import full_names, side_of
from dpose_yolo.posture.mixture import PostureMixture
from dpose_yolo.report.drawing import FAINT, INK, SIDE_COLOURS, VERMILLION
from dpose_yolo.report.page import html, quote
from dpose_yolo.report.skeleton import extents, keypoint_covariances

SIZE = 220  # side of a skeleton's drawing, in its own units
POINT = 3.2


class Skeletons:
    """Draws the mean postures of a mixture, all to one scale but for those too large for it.

    Left and right differ in colour and in shape: left keypoints are round, right ones square, so that nobody has to
    tell the colours apart.
    """

    def __init__(self, mixture: PostureMixture, names: Sequence[str], pairs: Sequence[tuple[int, int]]):
        self.names, self.mixture = full_names(names), mixture
        self.used = [int(k) for k in mixture.used_[::2] // 2]
        slots = {k: i for i, k in enumerate(self.used)}
        self.pairs = [(slots[a], slots[b]) for a, b in pairs if a in slots and b in slots]
        self.sides = [side_of(self.names[k])[0] for k in self.used]
        self.spread = keypoint_covariances(mixture)
        self.low, self.high = extents(mixture, self.spread)
        self.half = float(np.quantile((self.high - self.low).max(1) / 2, 0.8))

    def draw(self, j: int, title: str, labelled: np.ndarray | None = None) -> str:
        """The drawing of posture j.

        Args:
            j: number of the posture.
            title: what it shows, for those who do not see it.
            labelled: (K',) share of the poses in which each used keypoint is labelled; below a half it is hollow.
        """
        centre = (self.low[j] + self.high[j]) / 2
        half = max(self.half, float((self.high[j] - self.low[j]).max()) / 2) + 1e-9
        zoom = (SIZE / 2 - 8) / half
        points = (self.mixture.means_[j].reshape(-1, 2) - centre) * zoom + SIZE / 2
        parts = [f'<svg viewBox="0 0 {SIZE} {SIZE}" role="img" aria-label={quote(title)}>']
        for point, covariance, side in zip(points, self.spread[j], self.sides, strict=True):
            values, vectors = np.linalg.eigh(covariance)
            rx, ry = zoom * np.sqrt(np.maximum(values, 0))
            turn = np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0]))
            parts.append(
                f'<ellipse rx="{rx:.1f}" ry="{ry:.1f}" fill="{SIDE_COLOURS[side]}" fill-opacity=".16" '
                f'transform="translate({point[0]:.1f} {point[1]:.1f}) rotate({turn:.0f})"/>'
            )
        for a, b in self.pairs:
            colour = SIDE_COLOURS[self.sides[a] if self.sides[a] == self.sides[b] else ""]
            (x1, y1), (x2, y2) = points[a], points[b]
            parts.append(
                f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="2.4"/>'
            )
        for i, point in enumerate(points):
            sure = labelled is None or labelled[i] >= 0.5
            parts.append(_marker(point, self.sides[i], sure, self._about(j, i, labelled)))
        return "".join([*parts, "</svg>"])

    def deviations(self, j: int) -> np.ndarray:
        """(K', 2) standard deviations of x and y of each used keypoint, in posture units."""
        return np.sqrt(np.einsum("kii->ki", self.spread[j]))

    def _about(self, j: int, i: int, labelled: np.ndarray | None) -> str:
        x, y = self.deviations(j)[i]
        share = "" if labelled is None else f", labelled in {labelled[i]:.0%}"
        return f"{self.names[self.used[i]]}: deviation {x:.3g} across, {y:.3g} down{share}"


def _marker(point: np.ndarray, side: str, sure: bool, title: str) -> str:
    colour, (x, y) = SIDE_COLOURS[side], point
    look = f'fill="{colour if sure else "#fff"}" stroke="{colour}" stroke-width="1.2"'
    name = f"<title>{html(title)}</title>"
    if side == "right":
        corner, edge = (x - POINT, y - POINT), 2 * POINT
        return f'<rect x="{corner[0]:.1f}" y="{corner[1]:.1f}" width="{edge}" height="{edge}" {look}>{name}</rect>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{POINT}" {look}>{name}</circle>'


def side_key() -> str:
    """Which marker stands for which side, as a line of a page."""
    marks = []
    for side in ("left", "right"):
        marker = _marker(np.array([8.0, 8.0]), side, True, side)
        marks.append(f'<svg class="key" viewBox="0 0 16 16" aria-hidden="true">{marker}</svg>{side}')
    hollow = _marker(np.array([8.0, 8.0]), "", False, "hollow")
    marks.append(
        f'<svg class="key" viewBox="0 0 16 16" aria-hidden="true">{hollow}</svg>hollow: labelled in less than half'
    )
    return f'<p class="keys">{" ".join(f"<span>{mark}</span>" for mark in marks)}</p>'


def curve_svg(curve: Mapping[int, float], title: str) -> str:
    """BIC over the number of clusters, the smallest marked and named."""
    tried = sorted(curve)
    values = np.array([curve[n] for n in tried]) / 1000
    width, height, left, bottom, top = 360, 190, 58, 34, 22
    x = left + (np.array(tried) - tried[0]) / max(tried[-1] - tried[0], 1) * (width - left - 16)
    span = max(float(np.ptp(values)), 1e-9)
    y = top + (values.max() - values) / span * (height - top - bottom)
    best = int(values.argmin())
    text = f'font-size="12" fill="{INK}"'
    parts = [f'<svg class="curve" viewBox="0 0 {width} {height}" role="img" aria-label={quote(title)}>']
    floor = height - bottom + 8
    parts.append(f'<path d="M{left - 8} {top - 8}V{floor}H{width - 8}" fill="none" stroke="{FAINT}"/>')
    for at, value in ((top, values.max()), (height - bottom, values.min())):
        parts.append(f'<text x="{left - 12}" y="{at + 4}" text-anchor="end" {text}>{value:,.1f}</text>')
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    parts.append(f'<polyline points="{line}" fill="none" stroke="{INK}" stroke-width="1.6"/>')
    last = -100.0
    for n, a, b in zip(tried, x, y, strict=True):
        parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.6" fill="{INK}"/>')
        if a - last > 22:
            parts.append(f'<text x="{a:.1f}" y="{height - 12}" text-anchor="middle" {text}>{n}</text>')
            last = a
    parts.append(f'<circle cx="{x[best]:.1f}" cy="{y[best]:.1f}" r="5" fill="{VERMILLION}" stroke="{INK}"/>')
    # the least is at the bottom, where a word beside it would lie on the curve or on the axis
    return "".join([*parts, f'<text x="4" y="11" {text}>BIC / 1000 (large dot: least, {tried[best]})</text></svg>'])
