"""The posture atlas: what the clusters look like and how often they are drawn (the paper's Fig. 1 a, b)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from dpose_yolo.keypoints import full_names, side_of
from dpose_yolo.report.charts import bic_chart, share_chart
from dpose_yolo.report.drawing import CARD, FAINT, INK, SIDE_COLOURS, limbs, save_figure
from dpose_yolo.report.pictures import cut_person, read_picture
from dpose_yolo.report.skeleton import draw_skeleton, extents, frame, keypoint_covariances
from dpose_yolo.report.tables import Members, cluster_table, members, records

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dpose_yolo.engine.postures import PoseTable, PosturePlan
    from dpose_yolo.posture.mixture import PostureMixture

DPI = 200
# All in inches.
WIDEST, MARGIN, GAP = 12.0, 0.2, 0.12
HEADER, CAPTION, CHARTS = 0.86, 0.46, 2.1
THUMB_PIXELS = 360  # longest side of an example image in the atlas


class Grid(NamedTuple):
    """Where the cards of the clusters go, in inches."""

    columns: int
    rows: int
    card_width: float
    card_height: float
    width: float
    height: float


def save_atlas(
    table: PoseTable,
    mixture: PostureMixture,
    plan: PosturePlan,
    path: str | Path,
    images: bool = True,
    skeleton: Sequence[Sequence[int]] | None = None,
    names: Sequence[str | None] | None = None,
    curve: Mapping[int, float] | None = None,
) -> Path:
    """Draw every posture cluster on one PNG: mean skeleton, example image, natural and drawn share, BIC.

    With `images` the file shows people out of the data: pictures of real drivers may be personal data, so
    treat the atlas as the images themselves. `images=False` draws skeletons only.

    Args:
        table: the labelled persons.
        mixture: fitted posture mixture.
        plan: expected draws of the same images.
        path: PNG to write.
        images: show the pose nearest to each mean; images that cannot be read are left out.
        skeleton: pairs of keypoint indices from 0 to join; by default guessed from the keypoint names.
        names: N posture names of the images (`tables.posture_names`); each cluster gets its commonest one.
        curve: BIC by number of clusters; by default what the mixture's own fit tried.

    Returns:
        The path.

    Raises:
        DPoseError: for a skeleton or names that do not fit the table, or a file that cannot be written.
    """
    pairs = limbs(table.names, skeleton)
    own = members(table, mixture)
    rows = records(cluster_table(table, mixture, plan, names, own))
    thumbs = [_thumbnail(table, int(p)) if images and p >= 0 else None for p in own.typical]
    pictures = any(thumb is not None for thumb in thumbs)
    grid = _grid(len(rows), pictures)
    figure = Figure(figsize=(grid.width, grid.height))
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, grid.width), ylim=(0, grid.height))
    page.axis("off")
    _header(page, grid, table, mixture, own, pictures)
    spread = keypoint_covariances(mixture)
    low, high = extents(mixture, spread)
    half = np.quantile((high - low) / 2, 0.8, axis=0)  # one scale for most; the few larger ones are shrunk
    for j, row in enumerate(rows):
        left = MARGIN + (j % grid.columns) * (grid.card_width + GAP)
        top = grid.height - HEADER - (j // grid.columns) * (grid.card_height + GAP)
        _caption(page, row, left, top, grid)
        inner = grid.card_width - 0.12
        picture = thumbs[j]
        cell = inner / 2 if picture is not None else inner
        height = grid.card_height - CAPTION - 0.06
        axes = _axes(figure, grid, left + 0.06, top - grid.card_height + 0.06, cell, height)
        frame(axes, low[j], high[j], half, cell / height)
        labelled = (~np.isnan(own.features[own.cluster == j])).mean(0)[::2] if row["poses"] else None
        draw_skeleton(axes, mixture, j, spread[j], labelled, full_names(table.names), pairs)
        if picture is not None:
            axes = _axes(figure, grid, left + 0.06 + cell, top - grid.card_height + 0.06, cell, height)
            axes.imshow(picture, interpolation="lanczos")
            axes.axis("off")
    _charts(figure, grid, rows, mixture.bic_curve_ if curve is None else curve)
    return save_figure(figure, path, DPI)


def _grid(clusters: int, pictures: bool) -> Grid:
    """Columns that leave few holes and give a page of about 3:2."""
    width, body, most = (2.9, 1.4, 6) if pictures else (1.75, 1.5, 7)
    best, cost = 1, np.inf
    for columns in range(1, min(clusters, most) + 1):
        rows = math.ceil(clusters / columns)
        aspect = columns * width / (rows * (body + CAPTION) + HEADER + CHARTS)
        this = abs(math.log(aspect / 1.5)) + 1.5 * (rows * columns - clusters) / clusters
        if this < cost:
            best, cost = columns, this
    rows = math.ceil(clusters / best)
    card = min(width, (WIDEST - 2 * MARGIN + GAP) / best - GAP)
    page = max(7.0, 2 * MARGIN + best * (card + GAP) - GAP)
    card = (page - 2 * MARGIN + GAP) / best - GAP
    height = CAPTION + min(2.6, card * body / width)
    return Grid(best, rows, card, height, page, HEADER + rows * (height + GAP) + CHARTS)


def _axes(figure: Figure, grid: Grid, left: float, bottom: float, width: float, height: float) -> Axes:
    w, h = grid.width, grid.height
    return figure.add_axes((left / w, bottom / h, width / w, height / h))


def _thumbnail(table: PoseTable, person: int) -> np.ndarray | None:
    """Square cut around a person's box, RGB, or None where the image cannot be read."""
    image = read_picture(table.files[table.image[person]])
    cut = None if image is None else cut_person(image, table.boxes[person], THUMB_PIXELS)
    return None if cut is None else cv2.cvtColor(cut[0], cv2.COLOR_BGR2RGB)


def _header(page: Axes, grid: Grid, table: PoseTable, mixture: PostureMixture, own: Members, pictures: bool) -> None:
    top = grid.height - 0.16
    poses = int((own.cluster >= 0).sum())
    count = len(mixture.weights_)
    title = f"{count} posture cluster{'s' * (count != 1)}, {poses:,} poses in {len(table.files):,} images"
    page.text(MARGIN, top, title, size=13, weight="bold", color=INK, va="top")
    line = "Mean posture with one standard deviation"
    line += ", and the pose nearest to it" if pictures else ""
    line += ". Shares: natural → drawn. Hollow: labelled in less than half of the poses."
    if mixture.left_out_:
        line += f" Not used: {', '.join(table.names[k].replace('_', ' ') for k in mixture.left_out_)}."
    limit = int((grid.width - 2 * MARGIN) / 0.064)
    page.text(MARGIN, top - 0.3, _fold(line, limit), size=8, color=FAINT, va="top", linespacing=1.25)
    at = grid.width - MARGIN
    if any(side_of(name)[0] for name in full_names(table.names)):
        for side in ("right", "left"):
            at -= 0.33 if side == "right" else 0.68
            page.text(at, top - 0.1, side, size=9, color=SIDE_COLOURS[side], va="center")
            page.plot([at - 0.27, at - 0.07], [top - 0.1] * 2, color=SIDE_COLOURS[side], lw=3)


def _fold(text: str, limit: int) -> str:
    """At most two lines of `limit` characters."""
    if len(text) <= limit:
        return text
    cut = text.rfind(" ", 0, limit)
    return text[:cut] + "\n" + _short(text[cut + 1 :], limit)


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: max(1, limit - 1)].rstrip() + "…"


def _caption(page: Axes, row: dict[str, Any], left: float, top: float, grid: Grid) -> None:
    """A card with the cluster's number, shares, name and number of poses."""
    box = FancyBboxPatch(
        (left + 0.04, top - grid.card_height + 0.04),
        grid.card_width - 0.08,
        grid.card_height - 0.08,
        boxstyle="round,pad=0.04,rounding_size=0.06",
        facecolor=CARD,
        edgecolor="#dededa",
        lw=0.6,
    )
    page.add_patch(box)
    right = left + grid.card_width - 0.09
    page.text(left + 0.09, top - 0.14, f"{row['cluster']}", size=10.5, weight="bold", color=INK, va="center")
    shares = f"{_percent(row['natural_share'])} → {_percent(row['balanced_share'])}"
    page.text(right, top - 0.14, shares, size=8.5, color=INK, ha="right", va="center")
    narrow = grid.card_width < 2.2
    poses = f"n = {row['poses']:,}" if narrow else f"{row['poses']:,} pose{'s' * (row['poses'] != 1)}"
    size = 7.0 if narrow else 7.5
    page.text(right, top - 0.33, poses, size=size, color=FAINT, ha="right", va="center")
    if row.get("posture"):
        room = int((grid.card_width - 0.22) / (0.0078 * size)) - len(poses)  # inches of a letter on average
        purity = f" {row['purity']:.0%}"
        name = _short(row["posture"].replace("_", " "), room - len(purity)) + purity
        page.text(left + 0.09, top - 0.33, name, size=size, color=FAINT, va="center")


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 or share == 0 else "<0.1%"


def _charts(figure: Figure, grid: Grid, rows: Sequence[dict[str, Any]], tried: Mapping[int, float]) -> None:
    """Natural against drawn share of each cluster; the BIC curve where several numbers were tried."""
    room = grid.width - 2 * MARGIN - 0.55
    bic = min(3.4, 0.36 * room) if len(tried) > 1 else 0.0
    shares = _axes(figure, grid, MARGIN + 0.55, 0.5, room - bic - (0.75 if bic else 0), CHARTS - 0.85)
    share_chart(shares, [row["natural_share"] for row in rows], [row["balanced_share"] for row in rows])
    if bic:
        curve = _axes(figure, grid, grid.width - MARGIN - bic + 0.1, 0.5, bic - 0.15, CHARTS - 0.85)
        bic_chart(curve, tried)
