"""Tables of what a training step costs (`dpose bench train`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from dpose_yolo import __version__
from dpose_yolo.report.drawing import replacing
from dpose_yolo.report.machine import machine
from dpose_yolo.report.plain import plain_console, save_csv


def save_costs(
    rows: Sequence[dict[str, Any]], steps: pd.DataFrame, conditions: dict[str, Any], folder: Path
) -> list[Path]:
    """Write `bench.md`, `bench.csv` (one row an arm), `steps.csv` (one row a step) and `bench.json`.

    Args:
        rows: from `study.turns.cost_table`.
        steps: from `study.turns.run_turns`.
        conditions: settings and what the arms said of themselves.
        folder: where to.

    Returns:
        The files.
    """
    files = [folder / name for name in ("bench.md", "bench.csv", "steps.csv", "bench.json")]
    head, lines = cost_lines(rows)
    table = [head, ["---"] * len(head), *lines]
    with replacing(files[0]) as temporary:
        text = "\n".join("| " + " | ".join(line) + " |" for line in table)
        temporary.write_text(f"{text}\n\n{cost_conditions(rows, conditions)}\n", encoding="utf-8")
    for path, frame in ((files[1], pd.DataFrame(rows)), (files[2], steps)):
        with replacing(path) as temporary:
            save_csv(frame, temporary)
    with replacing(files[3]) as temporary:
        content = {"arms": list(rows), "conditions": conditions, "version": __version__, "machine": machine()}
        temporary.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    return files


def cost_lines(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the table."""
    gpu = any(row["gpu_mb"] for row in rows)
    late = any(abs(row["run_ratio"] - row["ratio"]) > 1e-9 for row in rows)
    head = ["arm", "step ms", "ratio", "epoch s", "ratio of epochs", "memory MB", "ratio of memory"]
    head += ["ratio over a run"] * late + ["GPU MB", "ratio of GPU memory"] * gpu
    lines = []
    for row in rows:
        line = [
            row["label"],
            f"{row['step_ms']:.1f} ({row['step_ms_low']:.1f}-{row['step_ms_high']:.1f})",
            f"{row['ratio']:.3f} ({row['ratio_low']:.3f}-{row['ratio_high']:.3f})",
            f"{row['epoch_s']:.1f}",
            f"{row['epoch_ratio']:.3f}",
            f"{row['memory_mb']:.0f}",
            f"{row['memory_mb_ratio']:.3f}",
        ]
        line += [f"{row['run_ratio']:.3f}"] * late
        if gpu:
            line += [f"{row['gpu_mb']:.0f}", f"{row['gpu_mb_ratio']:.3f}"] if row["gpu_mb"] else ["-", "-"]
        lines.append(line)
    return head, lines


def cost_conditions(rows: Sequence[dict[str, Any]], conditions: dict[str, Any]) -> str:
    """What was measured, and where, in a few lines."""
    engine, dpose, about = conditions["engine"], conditions["dpose"], conditions["arms"][rows[0]["arm"]]
    size = (
        f"{Path(str(engine['model'])).stem}, {engine.get('imgsz', 640)} px, batch {about['batch']}, {about['device']}"
    )
    start = dpose["att_start"]
    late = f"; over a run it starts after {start:.0%} of the epochs" if start else ""
    return (
        f"{size}, {conditions['threads']} threads; {len(rows)} processes took turns, {conditions['rounds']} rounds; "
        "median and quartiles over rounds. A step: batch to changed weights; ratio: within a round. The attention term "
        f"is on throughout, on every {dpose['att_interval']}. step{late}. Epoch: {about['batches']} batches with the "
        "waits for them, without validation and saving. Memory: the process's highest. "
        f"{machine()}, dpose_yolo {__version__}, ultralytics {version('ultralytics')}, torch {version('torch')}."
    )


def print_costs(rows: Sequence[dict[str, Any]], conditions: dict[str, Any]) -> None:
    """The table on the screen."""
    from rich.table import Table

    head, lines = cost_lines(rows)
    table = Table(box=None, pad_edge=False)
    for column in head:
        table.add_column(column, justify="left" if column == "arm" else "right")
    for line in lines:
        table.add_row(*line)
    console = plain_console()
    if not console.is_terminal:
        console.width = 140  # a log is wide enough
    console.print(table)
    console.print(cost_conditions(rows, conditions), markup=False, highlight=False)
