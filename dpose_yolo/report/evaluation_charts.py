"""Charts of an evaluation: AP by keypoint (the paper's Fig. 3), and AP against how often training saw a posture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from dpose_yolo.errors import DPoseError
from dpose_yolo.keypoints import full_names, side_of
from dpose_yolo.report.charts import plain_axes
from dpose_yolo.report.drawing import FAINT, INK, SIDE_COLOURS, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 160
THIRD_COLOURS = {"head": "#0072B2", "medium": "#009E73", "tail": "#D55E00", "": FAINT}
ROOM = 26  # longest name written beside a point
PANEL = (5.0, 3.6)  # of the posture chart, inches, about


def save_keypoint_chart(table: pd.DataFrame, path: str | Path, title: str = "") -> Path:
    """Bars of AP by keypoint, with PCK at 10 % as a mark, in the colours of the body's sides.

    Args:
        table: `metrics.keypoint_table`; keypoints without labels are left out.
        path: PNG to write.
        title: line on top.

    Raises:
        DPoseError: when no keypoint has an AP, or the file cannot be written.
    """
    rows = table[(table["keypoint"] != "all") & table["AP"].notna()]
    if rows.empty:
        raise DPoseError("no keypoint has an AP to draw: none is labelled")
    rows = rows.assign(title=_titles(table)[rows.index.to_numpy()])
    sides = [side_of(name)[0] for name in rows["title"]]
    at = np.arange(len(rows))[::-1]
    figure = Figure(figsize=(6.4, 1.15 + 0.26 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(at, rows["AP"], 0.68, color=[SIDE_COLOURS[s] for s in sides])
    axes.plot(rows["pck_10"], at, "D", ms=4.5, mfc="white", mec=INK, mew=1.0, clip_on=False, zorder=3)
    for y, value in zip(at, rows["AP"], strict=True):
        inside = value > 0.12
        place = {"x": value - 0.008, "ha": "right", "color": "white"} if inside else {"x": value + 0.02, "ha": "left"}
        axes.text(y=y, s=f"{value:.2f}", size=7.5, va="center_baseline", **{"color": INK, **place})
    axes.set_yticks(at, [name.replace("_", " ") for name in rows["title"]], parse_math=False)
    axes.set(xlim=(0, 1), ylim=(-0.6, len(rows) - 0.4))
    plain_axes(axes, "x")
    axes.tick_params(axis="y", length=0)
    handles: list[Patch | Line2D] = [
        Patch(color=SIDE_COLOURS[s], label=f"AP, {s or 'middle'}") for s in dict.fromkeys(sorted(sides))
    ]
    handles.append(Line2D([], [], ls="", marker="D", ms=4.5, mfc="white", mec=INK, label="PCK at 10 %"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    axes.set_title(title or "AP by keypoint", size=10, weight="bold", color=INK, loc="left")
    return save_figure(figure, path, DPI)


def save_posture_chart(
    tables: dict[str, pd.DataFrame | None], path: str | Path, overall: float | None = None, title: str = ""
) -> Path:
    """AP of every posture against its share of the training part, with 95 % intervals; one panel a table.

    Args:
        tables: rows of `metrics.PostureReport` by panel title; None, and tables without AP, are left out.
        path: PNG to write.
        overall: AP over all images, drawn as a line.
        title: line on top.

    Raises:
        DPoseError: when there is nothing to draw, or the file cannot be written.
    """
    panels = {name: t[t["AP"].notna()] for name, t in tables.items() if t is not None and t["AP"].notna().any()}
    if not panels:
        raise DPoseError("no posture has an AP to draw: no evaluated image shows one")
    figure = Figure(figsize=(0.6 + 5.4 * len(panels), 4.6), layout="constrained")
    cells = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    highest = max(float(rows[["AP", "high"]].max(axis=None)) for rows in panels.values())
    top = min(1.0, math.ceil(max(1.05 * highest, 0.3) / 0.2) * 0.2)
    for axes, (name, rows) in zip(cells, panels.items(), strict=True):
        _posture_panel(axes, rows, overall, top)
        axes.set_xlabel(f"share of the training part, {name}")
        plain_axes(axes)
    cells[0].set_ylabel("AP")
    if title:
        figure.suptitle(title, size=10, weight="bold", color=INK, x=0.01, ha="left")
    thirds = [t for t in ("head", "medium", "tail") if any((rows["third"] == t).any() for rows in panels.values())]
    handles: list[Line2D] = [
        Line2D([], [], ls="", marker="o", ms=6, color=THIRD_COLOURS[t], label=f"{t} third") for t in thirds
    ]
    handles.append(Line2D([], [], color=FAINT, lw=1, label="95 % interval"))
    if overall is not None:
        handles.append(Line2D([], [], color=INK, lw=0.9, ls=(0, (4, 3)), label=f"all images: {overall:.2f}"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)
    return save_figure(figure, path, DPI)


def _posture_panel(axes: Axes, rows: pd.DataFrame, overall: float | None, top: float) -> None:
    shares = rows["train_share"].to_numpy(float)
    least = shares[shares > 0].min() if (shares > 0).any() else 1.0
    x = np.where(shares > 0, shares, least / 2)  # never seen in training: left of all others
    colours = [THIRD_COLOURS[t] for t in rows["third"]]
    for where, low, high, colour in zip(x, rows["low"], rows["high"], colours, strict=True):
        axes.plot([where, where], [low, high], color=colour, lw=1.1, alpha=0.55, zorder=2)
    numbered = rows["name"].astype(str).str.isdigit().all()
    size = 120 if numbered else 34
    axes.scatter(x, rows["AP"], s=size, c=colours, edgecolors="white", linewidths=0.7, zorder=3, clip_on=False)
    axes.set_xscale("log")
    axes.set(ylim=(0, top), xlim=(x.min() / 1.3, x.max() * (1.3 if numbered else 1.6)))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(_percent))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if overall is not None:
        axes.axhline(overall, color=INK, lw=0.9, ls=(0, (4, 3)), zorder=1)
    if numbered:
        for where, ap, name in zip(x, rows["AP"], rows["name"], strict=True):
            axes.text(where, ap, name, size=6.5, color="white", weight="bold", ha="center", va="center", zorder=4)
    else:
        _name_points(axes, x, rows)


def _name_points(axes: Axes, x: np.ndarray, rows: pd.DataFrame) -> None:
    """Names beside their points, where neither another name nor another point is in the way."""
    low, high = axes.get_xlim()
    points = np.stack(
        [np.log(x / low) / np.log(high / low) * PANEL[0], rows["AP"].to_numpy(float) * PANEL[1] / axes.get_ylim()[1]], 1
    )
    taken = [(px - 0.06, py - 0.06, px + 0.06, py + 0.06) for px, py in points]  # inches: left, bottom, right, top
    for (px, py), name in sorted(zip(points.tolist(), rows["name"], strict=True), key=lambda p: -p[0][1]):
        word = name.replace("_", " ")
        word = word if len(word) <= ROOM else word[: ROOM - 1] + "…"
        wide = 0.056 * len(word)
        for left, up in ((0.09, 0.0), (-0.09 - wide, 0.0), (-wide / 2, 0.14), (-wide / 2, -0.14), (0.06, 0.12),
                         (0.06, -0.12), (-0.06 - wide, 0.12), (-0.06 - wide, -0.12)):  # fmt: skip
            box = (px + left, py + up - 0.055, px + left + wide, py + up + 0.055)
            inside = box[0] > 0.03 and box[2] < PANEL[0] + 0.1 and 0.05 < box[1] < PANEL[1] - 0.05
            if inside and not any(b[0] < box[2] and box[0] < b[2] and b[1] < box[3] and box[1] < b[3] for b in taken):
                break
        else:
            continue  # too crowded: the CSV has it
        taken.append(box)
        text = axes.text(box[0] / PANEL[0], (py + up) / PANEL[1], word, size=7, color=INK, transform=axes.transAxes)
        text.set(va="center", zorder=4, parse_math=False, path_effects=[withStroke(linewidth=2.2, foreground="white")])


def _percent(value: float, _: int) -> str:
    return f"{100 * value:g} %"


def _titles(table: pd.DataFrame) -> np.ndarray:
    names = [n for n in table["keypoint"] if n != "all"]
    return np.array([*full_names(names), "all"], dtype=object)
