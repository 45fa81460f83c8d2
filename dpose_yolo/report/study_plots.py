"""Plots of a study: a dot for every training, and AP against a swept number."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dpose_yolo.report.charts import plain_axes
from dpose_yolo.report.drawing import BLUE, FAINT, GREEN, GREY, INK, VERMILLION
from dpose_yolo.study.plan import show

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dpose_yolo.study.results import StudyResults

PANELS = {"AP": "AP", "tail": "AP of tail postures"}
MARKERS = "os^Dv"
INTERVAL = "95 % interval over images and seeds"


def dot_figure(results: StudyResults) -> Figure:
    """A line an arm: a dot for each seed, the mean, its 95 % interval over images and seeds; AP and tail AP."""
    panels = [p for p in PANELS if results.summary[p].notna().any()]
    arms = list(results.summary["arm"])
    longest = max(map(len, results.summary["label"]))
    figure = Figure(figsize=(0.085 * longest + 0.6 + 3.4 * len(panels), 1.1 + 0.42 * len(arms)), layout="constrained")
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, figure_name in zip(all_axes, panels, strict=True):
        _dots(axes, results, figure_name, arms)
    all_axes[0].set_yticks(range(len(arms)), list(results.summary["label"]))
    all_axes[0].set_ylim(len(arms) - 0.4, -0.6)
    figure.suptitle(f"Diamond: mean; dots: seeds; bar: {INTERVAL}", fontsize=8, color=FAINT)
    return figure


def _dots(axes: Axes, results: StudyResults, name: str, arms: list[str]) -> None:
    reference = results.summary.loc[results.summary["arm"] == results.plan["reference"], name]
    if len(reference):
        axes.axvline(float(reference.iloc[0]), color=GREY, lw=0.9, ls=(0, (4, 3)), zorder=0)
    for at, arm in enumerate(arms):
        values = results.runs.loc[results.runs["arm"] == arm, name].to_numpy()
        colour = FAINT if arm == results.plan["reference"] else BLUE
        low, high = _interval(results, arm, name)
        axes.plot([low, high], [at, at], color=colour, lw=2.2, alpha=0.55, solid_capstyle="butt")
        nudge = 0.13 * (np.arange(len(values)) - (len(values) - 1) / 2) / max(len(values) - 1, 1)
        axes.plot(values, at + 0.22 + nudge, "o", color=colour, ms=3.2, alpha=0.75, mew=0)
        axes.plot(values.mean(), at, "D", color=colour, ms=6.5, mec="white", mew=0.8)
    axes.set_xlabel(PANELS[name])
    plain_axes(axes, "x")


def _interval(results: StudyResults, arm: str, name: str) -> tuple[float, float]:
    table = results.intervals
    own = table[(table["arm"] == arm) & (table["figure"] == name)]
    return (float(own["low"].iloc[0]), float(own["high"].iloc[0])) if len(own) else (np.nan, np.nan)


def curve_figure(results: StudyResults) -> Figure | None:
    """AP and tail AP against the swept number, a line for each combination of the other swept settings.

    Values that are words (`auto`) and a baseline arm are level lines. None for an ablation and where no setting has
    three numbers.
    """
    summary = results.summary
    number = next((k for k in results.plan.get("swept", {}) if _numbers(summary, k).nunique() >= 3), None)
    if number is None:
        return None
    panels = [p for p in PANELS if summary[p].notna().any()]
    figure = Figure(figsize=(0.6 + 3.6 * len(panels), 3.5), layout="constrained")
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, name in zip(all_axes, panels, strict=True):
        _curves(axes, results, number, name)
    handles, labels = all_axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside lower center", ncols=min(len(labels), 4))
    figure.suptitle(f"Line: mean; dots: seeds; band: {INTERVAL}", fontsize=8, color=FAINT)
    return figure


def _numbers(summary: pd.DataFrame, column: str) -> pd.Series:
    """Values of a swept setting that are numbers, NaN for the others."""
    flags = summary[column].map(lambda v: isinstance(v, bool))
    return pd.to_numeric(summary[column], errors="coerce").where(~flags)


def _curves(axes: Axes, results: StudyResults, number: str, name: str) -> None:
    summary = results.summary
    x = _numbers(summary, number)
    others = [k for k in results.plan["swept"] if k != number]
    numeric = summary[x.notna()].assign(_x=x[x.notna()])
    groups = numeric.groupby(others, sort=False, dropna=False) if others else [("", numeric)]
    looks = zip(cycle((BLUE, VERMILLION, GREEN, INK)), cycle(MARKERS), strict=False)
    for (key, own), (colour, marker) in zip(groups, looks, strict=False):
        own = own.sort_values("_x")
        label = ", ".join(f"{k}={show(v)}" for k, v in zip(others, _tuple(key), strict=True)) if others else None
        low, high = np.array([_interval(results, arm, name) for arm in own["arm"]]).T
        axes.fill_between(own["_x"], low, high, color=colour, alpha=0.13, lw=0)
        axes.plot(own["_x"], own[name], "-" + marker, color=colour, ms=5, lw=1.4, label=label)
        for arm, at in zip(own["arm"], own["_x"], strict=True):
            seeds = results.runs.loc[results.runs["arm"] == arm, name]
            axes.plot([at] * len(seeds), seeds, ".", color=colour, ms=4, alpha=0.6, mew=0)
    styles = cycle(((0, (4, 3)), (0, (1, 2)), "-."))
    for row, style in zip(summary[x.isna()].to_dict(orient="records"), styles, strict=False):
        axes.axhline(row[name], color=GREY, lw=1.2, ls=style, label=row["label"])
    axes.set(xlabel=number, ylabel=PANELS[name])
    axes.set_xticks(sorted(numeric["_x"].unique()))
    plain_axes(axes)


def _tuple(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)
