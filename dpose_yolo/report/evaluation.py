"""What `dpose val` writes and prints: figures as JSON and CSV, tables on the screen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from dpose_yolo.report.drawing import replacing
from dpose_yolo.report.plain import plain_console, save_csv

if TYPE_CHECKING:
    from rich.table import Table

    from dpose_yolo.evaluation.evaluate import Evaluation

FEW_SUBJECTS = 10  # with fewer a bootstrap over subjects says little
# metrics.json has these to the last digit
SHOWN = {
    "keypoint": "keypoint", "labelled": "labels", "AP": "AP", "pck_05": "PCK 5%", "pck_10": "PCK 10%",
    "error": "error", "hidden_pck_10": "hidden", "missed_visible": "missed", "false_visible": "false",
}  # fmt: skip


def save_evaluation(evaluation: Evaluation, folder: str | Path) -> list[str]:
    """Write the figures of an evaluation, each file in one step.

    `metrics.json` (everything in numbers), `keypoints.csv`, `postures.csv`, `names.csv`, `predictions.json` and
    `labels.json` (COCO's results and data set formats, image ids count from 1), `matches.npz` (`Matches.load`).

    Args:
        evaluation: what was measured.
        folder: where to; made if missing.

    Returns:
        Names of the written files.

    Raises:
        DPoseError: when a file cannot be written.
    """
    folder = Path(folder)
    tables = {"keypoints": evaluation.keypoints, "postures": evaluation.postures, "names": evaluation.names}
    for name, table in tables.items():
        if table is not None:
            _write_csv(table, folder / f"{name}.csv")
    _write_json(evaluation.detections.coco(), folder / "predictions.json", None)
    _write_json(evaluation.part.truth.coco(evaluation.metrics["oks_area"]), folder / "labels.json", None)
    evaluation.matches.save(folder / "matches.npz")
    _write_json(evaluation.metrics, folder / "metrics.json", 2)  # last: whoever finds it finds all
    written = [f"{name}.csv" for name, table in tables.items() if table is not None]
    return ["metrics.json", *written, "predictions.json", "labels.json", "matches.npz"]


def _write_json(content: Any, path: Path, indent: int | None) -> None:
    with replacing(path) as temporary:
        text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    with replacing(path) as temporary:
        save_csv(table, temporary)


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the figures as two short tables, with the conventions that they hang on."""
    metrics = evaluation.metrics
    console = plain_console()
    persons = f"{metrics['persons']} persons"
    if metrics["persons_labelled"] < metrics["persons"]:
        persons += f", {metrics['persons_labelled']} of them with labelled keypoints (the others do not count)"
    print(f"\n{metrics['data']}, {metrics['split']} part: {metrics['images']} images, {persons}\n")
    console.print(_overall(metrics))
    print()
    console.print(_keypoints(evaluation.keypoints))
    print()
    for line in conventions(metrics):
        print(line)


def conventions(metrics: dict[str, Any]) -> list[str]:
    """What the figures mean, in lines for the screen."""
    lines = [
        f"OKS area: {metrics['oks_area']:g} of the box; at most {metrics['max_detections']} persons an image; "
        "lengths are shares of the person size (root of the box area)"
    ]
    if metrics["mixture"]:
        lines.append(f"postures: {metrics['mixture']}")
    bootstrap = metrics["bootstrap"]
    if bootstrap["replicates"]:
        line = f"intervals: 95 %, {bootstrap['replicates']} bootstrap replicates over {bootstrap['groups']} "
        line += bootstrap["by"] + "s" * (bootstrap["groups"] != 1)
        rough = bootstrap["by"] == "subject" and bootstrap["groups"] < FEW_SUBJECTS
        lines.append(line + (", which are few: take them as rough" if rough else ""))
    attention = metrics["attention"]
    if attention:
        lines.append(
            f"attention: {_figure(attention['energy'])} of a map's energy within {attention['radius']:g} person sizes "
            f"of its keypoint, its peak there in {_figure(attention['pointing'])} of {attention['maps']} maps of "
            f"{attention['images']} images (an even map: {_figure(attention['chance'])})"
        )
    return lines


def _overall(metrics: dict[str, Any]) -> Table:
    """All persons, then head, medium and tail by clusters and by names."""
    table = _table("", "images", "AP", "95 % interval", "AP50", "AP75", "AR")
    intervals = metrics["intervals"] or {}
    own = [_figure(metrics[name]) for name in ("AP50", "AP75", "AR")]
    table.add_row("all", str(metrics["images"]), _figure(metrics["AP"]), _span(intervals.get("AP")), *own)
    for title, groups in (("clusters", metrics["clusters"]), ("names", metrics["names"])):
        if not groups:
            continue
        table.add_section()
        for third in ("head", "medium", "tail"):
            if groups[third] is not None:
                words = f"{third} {title}", str(groups[f"{third}_images"])
                table.add_row(*words, _figure(groups[third]), _span(groups[f"{third}_interval"]), "", "", "")
        count = groups["clusters"] - groups["without_images"]
        macro = f"mean of {count} {title}", "", _figure(groups["macro"]), _span(groups["macro_interval"])
        table.add_row(*macro, "", "", "")
        worst = groups["worst"]
        if worst:
            named = worst["name"].replace("_", " ") if title == "names" else f"cluster {worst['cluster']}"
            table.add_row(f"worst: {named}", str(worst["images"]), _figure(worst["AP"]), "", "", "", "")
    return table


def _keypoints(frame: pd.DataFrame) -> Table:
    shown = frame[frame["labelled"] > 0]
    columns = [c for c in SHOWN if c in ("keypoint", "labelled") or shown[c].notna().any()]
    table = _table(*(SHOWN[c] for c in columns))
    for row in shown.to_dict(orient="records"):
        if row["keypoint"] == "all":
            table.add_section()
        words = [str(row[c]).replace("_", " ") if c in ("keypoint", "labelled") else _figure(row[c]) for c in columns]
        table.add_row(*words)
    return table


def _table(*columns: str) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.3f}"


def _span(interval: list[float | None] | None) -> str:
    return "" if not interval or interval[0] is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
