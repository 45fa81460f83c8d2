"""Two data sets by one mixture: the table of their postures, for the screen and for files, and a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dpose_yolo.posture.shift import LACK_CHANCE, LACK_RATIO
from dpose_yolo.posture.usual import FENCE
from dpose_yolo.report.atlas_page import Shown
from dpose_yolo.report.charts import plain_axes
from dpose_yolo.report.drawing import FAINT, GREEN, GREY, INK, replacing, save_figure
from dpose_yolo.report.plain import plain_console, save_csv
from dpose_yolo.report.skeleton import draw_skeleton, extents, frame, keypoint_covariances
from dpose_yolo.report.tables import majority, records

if TYPE_CHECKING:
    from dpose_yolo.posture.mixture import PostureMixture
    from dpose_yolo.posture.shift import Shift

DRAWN = 16  # skeletons in the picture at most


def shift_table(shift: Shift, old: Shown, new: Shown, typical: np.ndarray) -> pd.DataFrame:
    """One row a posture, the old set's first, numbered as in the atlas; those of the new set alone are `new 0`, ...

    Columns: `posture`; `state` ("lacking": the new set hardly has it, "new": the old set has nothing like it, else
    empty); `old_poses`, `new_poses`; `old_share`, `new_share` (of the poses, each sums to 1); `ratio` (new share by
    old); `old_name`, `old_purity`, `new_name`, `new_purity` (commonest name in each set, where names are known);
    `old_file`, `new_file` (an example: the old pose nearest to the mean, the new pose least unlike the old ones).

    Args:
        shift: what was compared.
        old: the old set.
        new: the new set.
        typical: (C,) the old pose nearest to each mean (`tables.Members`).
    """
    count = len(shift.old)
    rows = []
    for j in range(count + len(shift.fresh)):
        fresh = j >= count
        was = np.flatnonzero(shift.old_cluster == j) if not fresh else np.zeros(0, np.intp)
        now = np.flatnonzero(shift.group == j - count) if fresh else np.flatnonzero(shift.cluster == j)
        old_share = 0.0 if fresh else float(shift.old_shares[j])
        row: dict[str, Any] = {
            "posture": f"new {j - count}" if fresh else str(j),
            "state": "new" if fresh else ("lacking" if shift.lacking[j] else ""),
            "old_poses": len(was),
            "new_poses": len(now),
            "old_share": old_share,
            "new_share": float(shift.new_shares[j]),
            "ratio": float(shift.new_shares[j]) / old_share if old_share > 0 else None,
        }
        for name, view, persons in (("old", old, was), ("new", new, now)):
            if view.names is not None:
                row[f"{name}_name"], row[f"{name}_purity"] = majority(
                    [view.names[i] for i in view.table.image[persons]]
                )
        row["old_file"] = old.file(int(typical[j])) if len(was) else None
        row["new_file"] = new.file(int(now[shift.spreads[now].argmin()])) if len(now) else None
        rows.append(row)
    return pd.DataFrame(rows)


def name_changes(old: Shown, new: Shown) -> dict[str, dict[str, int]]:
    """Images of each posture name that only one of the sets has; empty where names are not known in both."""
    if old.names is None or new.names is None:
        return {}
    counts = [pd.Series([n for n in view.names or () if n], dtype=object).value_counts() for view in (old, new)]
    pairs = (("only_new", counts[1], counts[0]), ("only_old", counts[0], counts[1]))
    return {k: {str(n): int(c) for n, c in one.items() if n not in other.index} for k, one, other in pairs}


def save_shift(df: pd.DataFrame, shift: Shift, old: Shown, new: Shown, sets: Sequence[str], folder: Path) -> None:
    """Write `compare.csv` and `compare.json`; the JSON also lists every new pose that is unlike the old ones.

    Args:
        df: from `shift_table`.
        shift: what was compared.
        old: the old set.
        new: the new set.
        sets: what the two are called.
        folder: where to.

    Raises:
        DPoseError: when a file cannot be written.
    """
    odd = np.flatnonzero(shift.group >= 0)
    first = np.searchsorted(new.table.image, new.table.image)  # of the image's persons: they stand together
    unlike = [
        {
            "file": new.file(int(p)),
            "person": int(p - first[p]),
            "posture": f"new {shift.group[p]}",
            "spreads": round(float(shift.spreads[p]), 2),
        }
        for p in odd[np.argsort(-shift.spreads[odd], kind="stable")]
    ]
    content = {
        "old": {"data": sets[0], "poses": int(shift.old.sum()), "images": len(old.table.files)},
        "new": {"data": sets[1], "poses": int(shift.new.sum() + shift.fresh.sum()), "images": len(new.table.files)},
        "rule": {"unlike_from_spreads": FENCE, "lacking_ratio": LACK_RATIO, "lacking_chance": LACK_CHANCE},
        "postures": records(df),
        "names": name_changes(old, new),
        "unlike": unlike,
    }
    with replacing(folder / "compare.csv") as temporary:
        save_csv(df, temporary)
    with replacing(folder / "compare.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def print_shift(df: pd.DataFrame, sets: Sequence[str]) -> None:
    """Print the table, and what stands out in words."""
    from rich.table import Table

    console = plain_console()
    console.print(f"\nold: {sets[0]}\nnew: {sets[1]}")
    table = Table(box=None, pad_edge=False)
    known = any(df[c].notna().any() for c in ("old_name", "new_name") if c in df)
    columns = ["posture", "old poses", "new poses", "old share", "new share", *(["name"] if known else []), "state"]
    for column in columns:  # of two names there is room for one; the files have both
        left = column in ("name", "state")
        table.add_column(column, justify="left" if left else "right", overflow="fold")
    for row in records(df):
        cells = [row["posture"], str(row["old_poses"]), str(row["new_poses"])]
        cells += [f"{row['old_share']:.3f}", f"{row['new_share']:.3f}"]
        cells += [row.get("old_name") or row.get("new_name") or ""] if known else []
        table.add_row(*cells, row["state"])
    console.print(table)
    console.print(summary(df))


def summary(df: pd.DataFrame) -> str:
    """How many postures are new and lacking, in a sentence."""
    fresh, lacking = df[df["state"] == "new"], df[df["state"] == "lacking"]
    new = f"{int(fresh['new_poses'].sum())} new poses are unlike all old ones"
    new += f", in {len(fresh)} posture{'s' * (len(fresh) != 1)}" if len(fresh) else ""
    gone = ", ".join(lacking["posture"]) or "none"
    doubt = ""
    if fresh["new_poses"].sum() > 0.5 * df["new_poses"].sum():
        doubt = "; with so many of them, ask first whether boxes and keypoints are labelled by the same rules in both"
    return f"{new}; old postures that the new set lacks: {gone}{doubt}"


def save_shift_chart(
    df: pd.DataFrame, shift: Shift, mixture: PostureMixture, names: Sequence[str], pairs: Sequence[tuple[int, int]],
    sets: Sequence[str], path: Path,
) -> Path:  # fmt: skip
    """Draw `compare.png`: shares of each posture in both sets; below it the new postures and those that are lacking."""
    told = [row for state in ("new", "lacking") for row in records(df[df["state"] == state])][:DRAWN]
    columns = 8
    lines = math.ceil(len(told) / columns)
    width, chart, cell = 11.0, 3.3, 1.75
    height = chart + lines * cell
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.07, (lines * cell + 0.62) / height, 0.91, (chart - 1.25) / height))
    at = np.arange(len(df))
    axes.bar(at - 0.2, 100 * df["old_share"], 0.4, color=GREY, hatch="////", edgecolor="white", lw=0, label="old")
    axes.bar(at + 0.2, 100 * df["new_share"], 0.4, color=GREEN, label="new")
    axes.set(xlim=(-0.6, len(at) - 0.4), ylabel="share, %")
    axes.set_xticks(at, [row.replace(" ", "\n") for row in df["posture"]])
    axes.margins(y=0.14)
    plain_axes(axes)
    for i, row in enumerate(records(df)):
        if row["state"]:
            top = 100 * max(row["old_share"], row["new_share"])
            turn = 90 if len(df) > 12 else 0  # words beside each other would run into each other
            axes.annotate(
                row["state"],
                (i, top),
                (0, 3),
                textcoords="offset points",
                ha="center",
                size=8,
                color=INK,
                rotation=turn,
            )
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower right", bbox_to_anchor=(1, 1.02), borderaxespad=0)
    axes.set_title(f"old: {sets[0]}\nnew: {sets[1]}", loc="left", size=9, color=INK, parse_math=False)
    for i, row in enumerate(told):
        of = shift.mixture if row["state"] == "new" else mixture
        assert of is not None
        j, spread = int(row["posture"].removeprefix("new ")), keypoint_covariances(of)
        line, column = divmod(i, columns)
        left, top = 0.02 + column * 0.965 / columns, (lines - line) * cell / height
        word = row["posture"] if row["state"] == "new" else f"{row['posture']}: lacking"
        figure.text(left + 0.06, top - 0.12 / height, word, size=8.5, color=INK, ha="center", va="center")
        box = figure.add_axes((left, top - (cell - 0.08) / height, 0.115, (cell - 0.32) / height))
        low, high = extents(of, spread)
        frame(box, low[j], high[j], (high[j] - low[j]) / 2, 0.115 * width / (cell - 0.32))
        draw_skeleton(box, of, j, spread[j], np.ones(spread.shape[1]), names, pairs)
    if not told:
        figure.text(0.07, 0.03, "no new postures, none lacking", size=9, color=FAINT)
    return save_figure(figure, path, 160)
