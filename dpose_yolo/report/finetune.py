"""What `dpose finetune` says at its end: before and after on every data set, and the advice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dpose_yolo.report.drawing import replacing
from dpose_yolo.report.plain import plain_console, save_csv

FILES = ["finetune.md", "finetune.csv", "finetune.json"]


def save_finetune(result: dict[str, Any], folder: str | Path) -> list[str]:
    """Write `finetune.md`, `.csv`, `.json`; names of the files.

    Args:
        result: `rows` of `Change.rows`, `advice`, and whatever else the JSON is to hold; JSON values.
        folder: where to.

    Raises:
        DPoseError: when a file cannot be written.
    """
    folder = Path(folder)
    with replacing(folder / "finetune.md") as temporary:
        temporary.write_text(markdown(result), encoding="utf-8")
    with replacing(folder / "finetune.csv") as temporary:
        save_csv(pd.DataFrame(result["rows"]), temporary)
    with replacing(folder / "finetune.json") as temporary:
        text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    return list(FILES)


def table_rows(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells: a line a measure, before, after and change on each data set side by side."""
    titles = list(dict.fromkeys(row["data"] for row in rows))
    heads = [""] + [f"{title} {what}" for title in titles for what in ("before", "after", "change")]
    found = {(row["data"], row["measure"]): row for row in rows}
    cells = []
    for measure in dict.fromkeys(row["measure"] for row in rows):
        line = [measure.replace("_", " ").removeprefix("AP ") or "AP"]
        for title in titles:
            row = found.get((title, measure), {})
            line += [_figure(row.get("before")), _figure(row.get("after")), _change(row)]
        cells.append(line)
    return heads, cells


def markdown(result: dict[str, Any]) -> str:
    """The table, what it means and the advice as Markdown."""
    heads, cells = table_rows(result["rows"])
    lines = ["| " + " | ".join(line) + " |" for line in (heads, ["---"] + ["---:"] * (len(heads) - 1), *cells)]
    parts = ["# Fine-tuning: before and after", "\n".join(lines)]
    parts.append("\n".join(f"- {line}" for line in result["notes"]))
    return "\n\n".join([*parts, result["advice"]["sentence"]]) + "\n"


def print_finetune(result: dict[str, Any]) -> None:
    """Print a table for each data set, the notes and the advice."""
    from rich.box import SIMPLE
    from rich.table import Table

    console = plain_console()
    for title in dict.fromkeys(row["data"] for row in result["rows"]):
        table = Table(box=SIMPLE, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), title_justify="left")
        for i, head in enumerate((f"{title} data", "before", "after", "change", "95 % interval")):
            table.add_column(head, justify="right" if i else "left", no_wrap=True)
        for row in (row for row in result["rows"] if row["data"] == title):
            span = "" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}"
            name = row["measure"].replace("_", " ").removeprefix("AP ")
            table.add_row(name, _figure(row["before"]), _figure(row["after"]), _signed(row["change"]), span)
        print()
        console.print(table)
    print()
    for line in result["notes"]:
        print(line)
    print(f"\n{result['advice']['sentence']}")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _change(row: dict[str, Any]) -> str:
    span = "" if row.get("low") is None else f" ({row['low']:+.3f} to {row['high']:+.3f})"
    return f"{_signed(row.get('change'))}{span}"
