"""Attention maps over the picture they come from, one keypoint a row (the paper's Fig. 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from dpose_yolo.errors import DPoseError
from dpose_yolo.report.drawing import FAINT, INK, SKY, VERMILLION, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 150
# In inches.
PANEL, MARGIN, GAP, BLOCK_GAP, HEADER, CAPTION, FOOTER = 2.4, 0.15, 0.06, 0.3, 0.5, 0.26, 0.5
WIDEST = 16.0
STRONGEST = 0.85  # opacity of the map where it is 1; 0 where it is 0, so that the picture stays readable


def save_overlays(
    image_bgr: np.ndarray,
    maps: Mapping[str, np.ndarray],
    points: Mapping[str, Sequence[float]],
    path: str | Path,
    title: str | None = None,
    heatmaps: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Draw where the network looks for each keypoint: the picture with its point, and the map over it.

    The file shows the picture: of a real driver it may be personal data.

    Args:
        image_bgr: (H, W, 3) uint8, as OpenCV reads it.
        maps: attention map (h, w) in 0..1 by keypoint name, stretched over the whole image; the
            rows, in this order.
        points: predicted (x, y, confidence) by keypoint name, in pixels; a keypoint without one gets no mark.
        path: PNG to write.
        title: line on top.
        heatmaps: target heatmaps (h, w) in 0..1 by keypoint name, for a column between the two (Fig. 4).

    Returns:
        The path.

    Raises:
        DPoseError: for arrays of other shapes, maps that are not finite, and a file that cannot be written.
    """
    _check_image(image_bgr)
    if not maps:
        raise DPoseError("no attention maps to draw: give at least one keypoint")
    columns = 3 if heatmaps else 2
    height, width = image_bgr.shape[:2]
    zoom = PANEL * DPI * 1.3 / max(height, width)  # a little more than is shown
    small = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    base = cv2.cvtColor(cv2.resize(image_bgr, small, interpolation=_method(zoom)), cv2.COLOR_BGR2RGB)

    panel_w, panel_h = PANEL * min(1.0, width / height), PANEL * min(1.0, height / width)
    panel_w = max(panel_w, 0.9)  # room for the name
    block_w = columns * (panel_w + GAP) - GAP
    blocks = _blocks(len(maps), block_w, panel_h)
    rows = math.ceil(len(maps) / blocks)
    header = HEADER if title else MARGIN
    page_w = 2 * MARGIN + blocks * (block_w + BLOCK_GAP) - BLOCK_GAP
    page_h = header + rows * (panel_h + CAPTION) + FOOTER
    page_w = max(page_w, 5.4 if heatmaps else 4.7)
    figure = Figure(figsize=(page_w, page_h))
    if title:
        figure.text(MARGIN / page_w, 1 - 0.26 / page_h, title, size=12, weight="bold", color=INK, va="center")

    for n, (name, attention) in enumerate(maps.items()):
        block, row = divmod(n, rows)
        left = MARGIN + block * (block_w + BLOCK_GAP)
        top = page_h - header - row * (panel_h + CAPTION)
        point = points.get(name)
        words = name.replace("_", " ")
        line = (top - 0.15) / page_h
        figure.text(left / page_w, line, words, size=9, weight="bold", color=INK, va="center")
        told = f"confidence {point[2]:.2f}" if point is not None else "not predicted"
        at = (left + block_w) / page_w
        figure.text(at, line, told, size=8.5, color=FAINT, ha="right", va="center")
        panels = [base, blend(base, _check_map(attention, name, "attention map"))]
        if heatmaps:
            target = heatmaps.get(name)
            panels.insert(1, base if target is None else blend(base, _check_map(target, name, "heatmap")))
        for column, panel in enumerate(panels):
            bottom = top - CAPTION - panel_h
            box = (left + column * (panel_w + GAP), bottom, panel_w, panel_h)
            axes = figure.add_axes((box[0] / page_w, box[1] / page_h, box[2] / page_w, box[3] / page_h))
            axes.imshow(panel, extent=(0, width, height, 0), interpolation="antialiased")
            axes.axis("off")
            if point is not None:
                _mark(axes, float(point[0]), float(point[1]), ring=column > 0)
    order = "from left: picture, target heatmap, attention" if heatmaps else "from left: picture, attention"
    _scale(figure, page_w, page_h, order)
    return save_figure(figure, path, DPI)


def blend(image_rgb: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Lay a map in 0..1 (h, w) over an RGB picture (H, W, 3), the more opaque the stronger."""
    height, width = image_rgb.shape[:2]
    grown = min(strength.shape) > 1
    method = cv2.INTER_CUBIC if grown and strength.shape[0] < height else cv2.INTER_LINEAR
    strength = cv2.resize(strength.astype(np.float32), (width, height), interpolation=method)
    strength = np.clip(strength, 0, 1)  # cubic interpolation overshoots
    colour = colormaps["magma"](strength)[..., :3]
    alpha = STRONGEST * np.sqrt(strength)[..., None]  # a root: weak attention is what one looks for
    mixed = (1 - alpha) * (image_rgb / 255.0) + alpha * colour
    return (255 * mixed).round().astype(np.uint8)


def _check_image(image: np.ndarray) -> None:
    array = isinstance(image, np.ndarray)
    if array and image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 and image.size:
        return
    told = f"{image.dtype} {image.shape}" if array else type(image).__name__
    raise DPoseError(f"the picture under the maps is {told}: expected uint8 (height, width, 3) in BGR")


def _check_map(values: np.ndarray, name: str, kind: str) -> np.ndarray:
    values = np.asarray(values, np.float32)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise DPoseError(
            f"the {kind} of {name} has shape {values.shape} and {int((~np.isfinite(values)).sum())} values "
            "that are not finite: expected finite (height, width) in 0..1"
        )
    return np.clip(values, 0, 1)


def _method(zoom: float) -> int:
    return cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC


def _blocks(rows: int, block_width: float, panel_height: float) -> int:
    """How many blocks of rows side by side make the page about as wide as high, within the widest page."""
    most = max(1, min(rows, int(WIDEST / (block_width + BLOCK_GAP))))

    def lopsided(blocks: int) -> float:
        wide = blocks * (block_width + BLOCK_GAP)
        high = math.ceil(rows / blocks) * (panel_height + CAPTION)
        return abs(math.log(wide / (1.3 * high)))

    return min(range(1, most + 1), key=lopsided)


def _mark(axes: Axes, x: float, y: float, ring: bool) -> None:
    """A dot where the picture is to be seen with its point, an open ring where the map must stay visible."""
    if ring:
        axes.plot(x, y, "o", ms=8, mfc="none", mec="black", mew=2.2)
        axes.plot(x, y, "o", ms=8, mfc="none", mec=SKY, mew=1.2)
    else:
        axes.plot(x, y, "o", ms=6.5, mfc=VERMILLION, mec="white", mew=1.2)


def _scale(figure: Figure, page_w: float, page_h: float, order: str) -> None:
    """What the colours mean."""
    axes = figure.add_axes(((MARGIN + 0.05) / page_w, 0.24 / page_h, 1.2 / page_w, 0.1 / page_h))
    ramp = np.linspace(0, 1, 256)[None]
    axes.imshow(ramp, cmap="magma", aspect="auto", extent=(0, 1, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([0, 0.5, 1])
    axes.tick_params(labelsize=7, length=2, pad=1, colors=FAINT)
    axes.spines[:].set_visible(False)
    for at, text, colour in ((1.4, "●", VERMILLION), (1.55, "predicted point", FAINT), (2.65, order, FAINT)):
        figure.text((MARGIN + at) / page_w, 0.29 / page_h, text, size=8, color=colour, va="center")
