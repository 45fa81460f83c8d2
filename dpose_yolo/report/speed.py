"""Tables of how fast models are (`dpose bench models`); without pandas, for small devices."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpose_yolo.report.drawing import replacing

QUIET = 0.5  # load a core from which on others disturb the measurement


def speed_lines(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the table."""
    counts = list(rows[0]["threads"])
    head = ["model", "input", "MB", "M parameters", "GFLOPs", "peak memory MB"]
    for count in counts:
        words = f"{count} thread" + ("s" if count != "1" else "")
        head += [f"{words}: ms", "p99", "images/s", "times as fast"]
        head += ["CPU ms", "by CPU time"] if count == "1" else []
    lines = []
    for row in rows:
        known = [row["parameters"] and f"{row['parameters'] / 1e6:.2f}", row["gflops"] and f"{row['gflops']:.2f}"]
        line = [row["model"], row["input"], f"{row['megabytes']:.2f}", *(k or "-" for k in known)]
        line.append(f"{row['memory_mb']:.0f} ({row['memory_of_model_mb']:+.0f})")
        for count in counts:
            told = row["threads"][count]
            ratio = f"{told['ratio']:.2f} ({told['ratio_low']:.2f}-{told['ratio_high']:.2f})"
            line += [f"{told['ms']:.2f}", f"{told['ms_p99']:.2f}", f"{told['per_second']:.3g}", ratio]
            line += [f"{told['cpu_ms']:.2f}", f"{told['cpu_ratio']:.2f}"] if count == "1" else []
        lines.append(line)
    return head, lines


def speed_terms(about: dict[str, Any]) -> str:
    """What was measured, and where."""
    load, cores = about["load"], about["cores"] or 1
    busy = ""
    if load is not None and load > QUIET * cores:
        busy = f" Other work kept the machine busy (load {load:.1f}): read the ratios, not the milliseconds."
    return (
        f"The network alone, batch 1, on noise; models in turns, {about['rounds']} rounds of {about['repeats']} runs; "
        "times as fast: than the first model, median and quartiles of the ratio within a round. Memory: a process that "
        "loads and runs the file, in brackets what the model adds to Python and the runtimes. "
        f"{about['processor']}, {cores} cores, onnxruntime {about['onnxruntime']}, dpose_yolo {about['dpose_yolo']}."
        f"{busy}"
    )


def screen(rows: Sequence[dict[str, Any]], about: dict[str, Any]) -> str:
    """Table for a screen, a column for each model, and terms."""
    head, lines = speed_lines(rows)
    table = list(zip(head, *lines, strict=True))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rows_shown = (
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in table
    )
    return "\n".join(rows_shown) + f"\n\n{speed_terms(about)}\n"


def markdown(rows: Sequence[dict[str, Any]], about: dict[str, Any]) -> str:
    """Table and terms."""
    head, lines = speed_lines(rows)
    table = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in table) + f"\n\n{speed_terms(about)}\n"


def save_speed(rows: Sequence[dict[str, Any]], about: dict[str, Any], folder: Path) -> list[str]:
    """Write `models.md` and `models.json`; names of the files.

    Raises:
        DPoseError: when a file cannot be written.
    """
    with replacing(folder / "models.md") as temporary:
        temporary.write_text(markdown(rows, about), encoding="utf-8")
    with replacing(folder / "models.json") as temporary:
        temporary.write_text(json.dumps({"models": list(rows), "conditions": about}, indent=1) + "\n", encoding="utf-8")
    return ["models.md", "models.json"]
