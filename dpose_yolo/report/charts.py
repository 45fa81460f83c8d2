"""Charts of the posture clusters: their shares before and after balancing, and the choice of their number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from dpose_yolo.report.drawing import FAINT, GREEN, GREY, INK, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def share_chart(axes: Axes, natural: Sequence[float], balanced: Sequence[float]) -> None:
    """Bars of each cluster's natural and drawn share (0..1), with the even share as a line."""
    at = np.arange(len(natural))
    axes.bar(at - 0.2, 100 * np.asarray(natural), 0.4, color=GREY, label="natural")
    axes.bar(at + 0.2, 100 * np.asarray(balanced), 0.4, color=GREEN, label="drawn")
    axes.axhline(100 / len(at), color=INK, lw=0.8, ls=(0, (4, 3)), label="even")
    axes.set(xlim=(-0.6, len(at) - 0.4), xlabel="cluster", ylabel="share, %")
    axes.set_xticks(at[:: math.ceil(len(at) / 40)])
    axes.legend(
        frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1.02),
        borderpad=0, borderaxespad=0,
    )  # fmt: skip
    plain_axes(axes)


def bic_chart(axes: Axes, curve: Mapping[int, float]) -> None:
    """BIC over the number of clusters, the smallest marked."""
    tried = np.array(sorted(curve))
    values = np.array([curve[n] for n in tried]) / 1000
    best = int(values.argmin())
    axes.plot(tried, values, "-o", color=INK, ms=3, lw=1.2)
    axes.plot(tried[best], values[best], "o", color=VERMILLION, ms=7)
    axes.annotate(
        f"{tried[best]}",
        (tried[best], values[best]),
        (0, 7),
        textcoords="offset points",
        ha="center",
        size=9,
        weight="bold",
        color=VERMILLION,
    )
    axes.set(xlabel="clusters tried (least BIC is best)", ylabel="BIC / 1000")
    plain_axes(axes)


def plain_axes(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    """The look that the charts share: two thin spines and a faint grid along `grid`."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(labelsize=8, colors=INK, width=0.6)
    axes.xaxis.label.set_fontsize(8.5)
    axes.yaxis.label.set_fontsize(8.5)
    axes.grid(axis=grid, color="#e6e6e6", lw=0.6)
    axes.set_axisbelow(True)
