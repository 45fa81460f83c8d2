"""Tables of how well rendered labels cover real ones."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

from dpose_yolo.errors import table_cell
from dpose_yolo.report.drawing import replacing

if TYPE_CHECKING:
    from dpose_yolo.render.coverage import Coverage

MOST_NAMED = 20  # postures that are not covered
TITLES = {"cluster": "by posture cluster", "posture": "by posture name", "camera": "by camera"}


def save_coverage(found: Coverage, folder: Path) -> None:
    """Write coverage.csv, a line for each real label with the least covered first, and coverage.json, the summary.

    Raises:
        DPoseError: when a file cannot be written.
    """
    real, rendered = found.real, found.rendered
    columns = {k: real.words(k) for k in ("posture", "camera") if real.words(k)}
    theirs = {k: rendered.words(k) for k in ("posture", "camera") if rendered.words(k)}
    head = ["file", "oks", *columns, "nearest", *(f"nearest_{k}" for k in theirs)]
    with replacing(folder / "coverage.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        for p in found.oks.argsort(kind="stable"):
            q = found.index[p]
            own, near = ([words[at] for words in of.values()] for of, at in ((columns, p), (theirs, q)))
            near_file = rendered.files[rendered.image[q]]
            row = [real.files[real.image[p]], f"{found.oks[p]:.4f}", *own, near_file, *near]
            writer.writerow(map(table_cell, row))
    with replacing(folder / "coverage.json") as temporary:
        temporary.write_text(json.dumps(found.summary(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def print_coverage(found: Coverage, gate: float, most: int = 12) -> None:
    """Print the oracle's AR, the least covered groups of each kind, and what to change.

    Args:
        found: what was measured.
        gate: AR from which a rendered set is worth training on.
        most: groups of a kind that are printed.
    """
    from rich.console import Console
    from rich.table import Table

    from dpose_yolo.render.coverage import COVERED

    console = Console()
    summary = found.summary()
    verdict = "reached" if found.ar >= gate else "not reached"
    console.print(
        f"{summary['labels']} real labels, {summary['rendered']} rendered: AR {found.ar:.3f} of the nearest rendered "
        f"label (gate {gate:.2f}: {verdict}); {summary['covered']:.0%} have one with an OKS of {COVERED:g}",
        soft_wrap=True,
    )
    for kind, title in TITLES.items():
        groups = [g for g in found.groups if g.kind == kind]
        if not groups:
            continue
        rest = len(groups) - most
        table = Table(box=None, pad_edge=False, title=f"\n{title}, the least covered first", title_justify="left")
        for column in (kind, "labels", "AR", "covered", "nearest posture", "nearest camera"):
            left = column.startswith("nearest") or column == kind
            table.add_column(column, justify="left" if left else "right", overflow="fold")
        for g in groups[:most]:
            table.add_row(g.name, str(g.labels), f"{g.ar:.3f}", f"{g.covered:.0%}", g.nearest, g.camera)
        console.print(table)
        if rest > 0:
            console.print(f"... and {rest} more in coverage.json")
    missing = ", ".join(found.not_covered()[:MOST_NAMED]) or "none"
    console.print(f"\nnot covered, by more than half of their labels: {missing}", soft_wrap=True)
    if found.changes:
        console.print("\nwhat differs, and what to change")
        for line in found.changes:
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
