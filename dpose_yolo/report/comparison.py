"""Table and plot of `dpose compare`: the paper's Table 3 for one's own data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from dpose_yolo.report.charts import plain_axes
from dpose_yolo.report.drawing import BLUE, INK, VERMILLION, replacing, save_figure
from dpose_yolo.report.plain import plain_console, save_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dpose_yolo.peers.compare import Comparison

DPI = 160
NAME_WIDTH, NAME_HEIGHT = 90.0, 10.0  # of a model's name in the plot, points, about


def save_comparison(comparison: Comparison, folder: str | Path) -> list[str]:
    """Write `comparison.json`, `.csv`, `.md`, `.png`; names of the files.

    Raises:
        DPoseError: when a file cannot be written.
    """
    folder, result = Path(folder), comparison.result
    with replacing(folder / "comparison.json") as temporary:
        text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    with replacing(folder / "comparison.csv") as temporary:
        save_csv(flat_table(result), temporary)
    with replacing(folder / "comparison.md") as temporary:
        temporary.write_text(markdown(result), encoding="utf-8")
    save_figure(comparison_figure(result), folder / "comparison.png", DPI)
    return ["comparison.md", "comparison.csv", "comparison.json", "comparison.png"]


def flat_table(result: dict[str, Any]) -> pd.DataFrame:
    """One row a model; intervals and differences as columns of their own (`AP_low`, `AP_difference_low` ...)."""
    rows = []
    for model in result["models"]:
        row = {
            k: v for k, v in model.items() if not isinstance(v, dict | list) and not k.endswith(("_interval", "_ms"))
        }
        for name in ("AP", "tail_AP"):
            row[f"{name}_low"], row[f"{name}_high"] = model[f"{name}_interval"] or (None, None)
        row["latency_ms"] = model["latency_ms"]
        row["latency_low_ms"], row["latency_high_ms"] = model["latency_quartiles_ms"] or (None, None)
        for name in ("AP", "tail_AP"):
            told = model["difference"][name] or {"mean": None, "low": None, "high": None}
            row |= {f"{name}_difference" + ("" if k == "mean" else f"_{k}"): v for k, v in told.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def model_rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the main table: what a model costs and reaches; columns nobody fills are left out."""
    columns = {
        "model": [m["model"] for m in result["models"]],
        "box prior": [f"x {m['box_prior']:g}" if m["box_prior"] else "" for m in result["models"]],
        "input": [(m["input"] or "-") for m in result["models"]],
        "params M": [_number(m["parameters"], 1e6, 2) for m in result["models"]],
        "GFLOPs": [_number(m["gflops"], 1, 2) for m in result["models"]],
        "MB": [_number(m["megabytes"], 1, 1) for m in result["models"]],
        **{n: [_number(m[n], 1, 3) for m in result["models"]] for n in ("AP", "AP50", "AP75", "AR")},
        "tail AP": [_number(m["tail_AP"], 1, 3) for m in result["models"]],
        "ms": [_number(m["latency_ms"], 1, 1) for m in result["models"]],
    }
    kept = {head: cells for head, cells in columns.items() if any(cell not in ("", "-") for cell in cells)}
    return list(kept), [list(cells) for cells in zip(*kept.values(), strict=True)]


def screen_rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The main table for 80 columns: no file size, the box prior beside the input, a square input by its side."""
    heads, rows = model_rows(result)
    short = {"params M": "M", "tail AP": "tail"}
    kept = [i for i, head in enumerate(heads) if head not in ("MB", "box prior")]
    table = []
    for model, row in zip(result["models"], rows, strict=True):
        width, _, height = (model["input"] or "-").partition("x")
        told = (width if width == height else model["input"] or "-") + (" box" if model["box_prior"] else "")
        table.append([told if heads[i] == "input" else row[i] for i in kept])
    return [short.get(heads[i], heads[i]) for i in kept], table


def difference_rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the differences to the first model; no rows without bootstrap, or with one model."""
    names = [n for n in ("AP", "tail_AP") if any(m["difference"][n] for m in result["models"])]
    rows = [[m["model"], *(_difference(m["difference"][n]) for n in names)] for m in result["models"][1:]]
    first = result["models"][0]["model"]
    return [f"less {first}", *(n.replace("_", " ") for n in names)], rows if names else []


def conventions(result: dict[str, Any]) -> list[str]:
    """What the figures mean, in lines."""
    models, latency, bootstrap = result["models"], result["latency"], result["bootstrap"]
    lines = [
        f"{result['split']} part of {result['data']}: {result['images']} images, {result['persons']} persons",
        f"OKS area: {result['oks_area']:g} of the box; at most {result['max_detections']} persons an image",
    ]
    if result["left_out"]:
        left_out = ", ".join(result["left_out"])
        lines.append(f"{len(result['keypoints'])} keypoints that all models have count; left out: {left_out}")
    if any(m["box_prior"] for m in models):
        lines.append(
            "box prior: the model is told where each labelled person is: it sees the labelled box, enlarged by the "
            "factor given; the others find the person themselves"
        )
    if result["mixture"]:
        lines.append(f"tail AP: images of the third of postures that training shows least; {result['mixture']}")
    if latency:
        lines.append(
            f"ms: median of {latency['rounds']} rounds over {latency['pictures']} pictures, the models in turn, one "
            f"thread of {latency['cpu']}, with the work before and after the network, without reading files"
        )
    if bootstrap["replicates"] and len(models) > 1:
        what = f"{bootstrap['groups']} {bootstrap['by']}" + "s" * (bootstrap["groups"] != 1)
        lines.append(f"differences: 95 % intervals, {bootstrap['replicates']} paired bootstrap replicates over {what}")
    return lines


def markdown(result: dict[str, Any]) -> str:
    """The tables and the conventions as Markdown."""
    parts = [f"# Models on the {result['split']} part of {_data_name(result)}", _pipes(*model_rows(result))]
    heads, rows = difference_rows(result)
    if rows:
        parts.append(_pipes(heads, rows))
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in conventions(result))]) + "\n"


def print_comparison(result: dict[str, Any]) -> None:
    """Print the tables, and the conventions below."""
    from rich.box import SIMPLE
    from rich.table import Table

    console = plain_console()
    for heads, rows in (screen_rows(result), difference_rows(result)):
        if rows:
            table = Table(box=SIMPLE, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
            for i, head in enumerate(heads):
                width = max(len(cells[i]) for cells in [heads, *rows]) if i else None  # only the names give way
                table.add_column(head, justify="right" if i else "left", min_width=width, overflow="fold")
            for row in rows:
                table.add_row(*row)
            print()
            console.print(table)
    print()
    for line in conventions(result):
        print(line)


def comparison_figure(result: dict[str, Any]) -> Figure:
    """AP with its interval against latency, a point a model; against GFLOPs or file size where time was not taken."""
    models = result["models"]
    axis, key, scale = next(
        (title, key, scale)
        for title, key, scale in (
            ("ms for an image, one CPU thread", "latency_ms", 1),
            ("GFLOPs", "gflops", 1),
            ("file size, MB", "megabytes", 1),
        )
        if all(m[key] is not None for m in models)
    )
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    x = np.array([m[key] / scale for m in models])
    for at, m in zip(x, models, strict=True):
        colour = VERMILLION if m["box_prior"] else BLUE
        if m["AP_interval"] and None not in m["AP_interval"]:
            axes.plot([at, at], m["AP_interval"], color=colour, lw=2.2, alpha=0.5, solid_capstyle="butt")
        axes.plot(at, m["AP"], "D" if m["box_prior"] else "o", color=colour, ms=7, mec="white", mew=0.8)
    axes.set(xlabel=axis, ylabel="AP")
    if x.max() > 5 * x.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.1, y=0.15)
    plain_axes(axes)
    _name_points(figure, axes, x, models)
    for label, marker, colour in (("finds the person", "o", BLUE), ("is given the box", "D", VERMILLION)):
        if any(bool(m["box_prior"]) == (marker == "D") for m in models):
            axes.plot([], [], marker, color=colour, ms=7, label=label)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    axes.set_title(f"{_data_name(result)}, {result['split']} part", size=10, weight="bold", color=INK, loc="left")
    return figure


def _name_points(figure: Figure, axes: Axes, x: np.ndarray, models: list[dict[str, Any]]) -> None:
    """Names beside the points, on the side where there is room, moved up where they would cover one another."""
    figure.draw_without_rendering()  # settles the layout, which the places below depend on
    places = axes.transData.transform([(at, m["AP"]) for at, m in zip(x, models, strict=True)]) * 72 / figure.dpi
    left, right = places[:, 0].min(), places[:, 0].max()
    taken: list[tuple[bool, float, float]] = []
    for i in np.argsort(places[:, 1]):
        to_right = bool(places[i, 0] <= left + 0.55 * (right - left))
        height = places[i, 1]
        for side, beside, used in taken:
            if side == to_right and abs(beside - places[i, 0]) < NAME_WIDTH and height < used + NAME_HEIGHT:
                height = used + NAME_HEIGHT
        taken.append((to_right, places[i, 0], height))
        axes.annotate(
            models[i]["model"],
            (x[i], models[i]["AP"]),
            (9 if to_right else -9, height - places[i, 1]),
            textcoords="offset points",
            ha="left" if to_right else "right",
            va="center_baseline",
            size=8,
            color=INK,
            parse_math=False,
        )


def _data_name(result: dict[str, Any]) -> str:
    """Name of the data: that of its YAML, or of the folder around a `data.yaml`."""
    path = Path(result["data"])
    return path.resolve().parent.name if path.stem == "data" else path.stem


def _number(value: float | None, unit: float, digits: int) -> str:
    return "-" if value is None else f"{value / unit:.{digits}f}"


def _difference(told: dict[str, float | None] | None) -> str:
    if not told or told["mean"] is None:
        return "-"
    span = "" if told["low"] is None else f" ({told['low']:+.3f} to {told['high']:+.3f})"
    return f"{told['mean']:+.3f}{span}"


def _pipes(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
