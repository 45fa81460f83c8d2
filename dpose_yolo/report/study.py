"""Tables and plots of a study (paper, Tables 1 and 2): Markdown, CSV, and what goes on the screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpose_yolo.report.drawing import replacing, save_figure
from dpose_yolo.report.plain import plain_console, save_csv
from dpose_yolo.report.study_plots import curve_figure, dot_figure

if TYPE_CHECKING:
    from dpose_yolo.study.results import StudyResults

MAIN = ("AP", "AP50", "AP75", "AR", "head", "medium", "tail", "macro", "worst")
TITLES = {
    "name_head": "head (names)",
    "name_medium": "medium (names)",
    "name_tail": "tail (names)",
    "name_macro": "macro (names)",
    "box_AP": "box AP",
    "energy": "attention energy",
    "pointing": "pointing game",
}
# Differences that are shown; all are in the CSV.
SHOWN = ("AP", "AP50", "head", "medium", "tail", "macro", "name_head", "name_tail")
ON_SCREEN = ("AP", "head", "tail")
DPI = 160


def save_study(results: StudyResults, folder: Path) -> list[Path]:
    """Write `table.md`, `table.csv`, `runs.csv`, `differences.csv`, `study.png`, and `curve.png` of a swept number.

    Args:
        results: of `study.results.collect`.
        folder: where to.

    Returns:
        The files.
    """
    files = [folder / "table.md"]
    with replacing(files[0]) as temporary:
        temporary.write_text(markdown(results), encoding="utf-8")
    for name in ("summary", "runs", "differences"):
        files.append(folder / f"{'table' if name == 'summary' else name}.csv")
        with replacing(files[-1]) as temporary:
            save_csv(getattr(results, name), temporary)
    files.append(save_figure(dot_figure(results), folder / "study.png", DPI))
    curve = curve_figure(results)
    if curve is not None:
        files.append(save_figure(curve, folder / "curve.png", DPI))
    return files


def markdown(results: StudyResults) -> str:
    """The study as Markdown that can go into a README."""
    parts = [f"# {_title(results)}\n"]
    parts.append(_table(*accuracy_rows(results)))
    names = [c for c in TITLES if c in results.summary and results.summary[c].notna().any()]
    if names:
        parts.append(_table(*_figure_rows(results, names)))
    if len(results.differences):
        reference = results.plan["arms"][results.plan["reference"]]["label"]
        parts.append(f"Differences to {reference}, with 95 % intervals; bold where the interval leaves 0 out:\n")
        parts.append(_table(*difference_rows(results)))
    parts.append(conventions(results))
    if results.left_out:
        missing = ", ".join(f"{name} ({reason})" for name, reason in results.left_out.items())
        parts.append(f"Not in the tables: {missing}.\n")
    return "\n".join(parts)


def accuracy_rows(results: StudyResults) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the main table."""
    shown = [c for c in MAIN if results.summary[c].notna().any()]
    head, rows = _figure_rows(results, shown)
    head.append("training min")
    for row, seconds in zip(rows, results.summary["train_seconds"], strict=True):
        row.append("-" if math.isnan(seconds) else f"{seconds / 60:.1f}")
    return head, rows


def _figure_rows(results: StudyResults, names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    head = ["arm", "seeds", *(TITLES.get(n, n) for n in names)]
    rows = []
    for row in results.summary.to_dict(orient="records"):
        rows.append([row["label"], str(row["seeds"]), *(spread(row[n], row[f"{n}_std"]) for n in names)])
    return head, rows


def difference_rows(results: StudyResults, shown: Sequence[str] = SHOWN) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of differences."""
    table = results.differences
    names = [name for name in shown if (table["figure"] == name).any()]
    head = ["arm", "seeds", *(TITLES.get(n, n) for n in names)]
    rows = []
    for label, own in table.groupby("label", sort=False):
        by = {r["figure"]: r for r in own.to_dict(orient="records")}
        rows.append([str(label), str(own["seeds"].iloc[0]), *(_difference(by[n]) if n in by else "-" for n in names)])
    return head, rows


def spread(mean: float, std: float) -> str:
    """`0.512 ± 0.004`, the mean alone where there is one seed."""
    if math.isnan(mean):
        return "-"
    return f"{mean:.3f}" if math.isnan(std) else f"{mean:.3f} ± {std:.3f}"


def _difference(row: dict[str, Any]) -> str:
    if math.isnan(row["mean"]):
        return "-"
    text = f"{row['mean']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    return f"**{text}**" if row["low"] > 0 or row["high"] < 0 else text


def conventions(results: StudyResults) -> str:
    """What the figures mean, in two lines."""
    about = results.about
    one_seed = bool((results.summary["seeds"] == 1).any())
    drawn = f"{about['subjects']} subjects" if about["subjects"] else f"{about['images']} images"
    return (
        f"{about['images']} images ({about['persons']} persons) of the {about['split']} part; {about['weights']}.pt; "
        "mean ± standard deviation over seeds. COCO keypoint AP in original pixels, OKS area "
        f"{about['oks_area']:g} of the box. head, medium, tail: thirds of the posture clusters by training frequency, "
        "one mixture for all arms; macro: mean over clusters; worst: AP of the worst cluster. Intervals: "
        f"{about['replicates']} bootstrap replicates over {drawn} and over seeds"
        + (", of which some arms have one only: nothing is known there of the spread between seeds" * one_seed)
        + ".\n"
    )


def _title(results: StudyResults) -> str:
    data = Path(str(results.about["data"]))
    name = f"{data.parent.name}/{data.name}"
    kind = "Ablation" if results.plan["kind"] == "ablate" else f"Sweep of {' and '.join(results.plan['swept'])}"
    return f"{kind} on {name}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def print_study(results: StudyResults) -> None:
    """The short tables on the screen."""
    from rich.table import Table
    from rich.text import Text

    console = plain_console()
    short = ("AP", "AP50", "head", "medium", "tail", "macro")
    head, rows = _figure_rows(results, [c for c in short if results.summary[c].notna().any()])
    tables = [("mean ± std over seeds", head, rows)]
    if len(results.differences):
        reference = results.plan["arms"][results.plan["reference"]]["label"]
        tables.append((f"difference to {reference}, 95 % interval", *difference_rows(results, ON_SCREEN)))
    for title, columns, lines in tables:
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for column in columns:
            table.add_column(column, justify="left" if column == "arm" else "right", overflow="fold")
        for line in lines:
            bold = [text.startswith("**") for text in line]
            cells = (t.strip("*") for t in line)
            table.add_row(*(Text(t, "bold" if b else "") for t, b in zip(cells, bold, strict=True)))
        console.print(table)
        console.print()
