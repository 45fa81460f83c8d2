"""What has changed from one data set to another, as a section of the atlas page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dpose_yolo.posture.usual import FENCE
from dpose_yolo.report.atlas_page import Shown, bar_key, bars, percent
from dpose_yolo.report.page import head_row, html
from dpose_yolo.report.shift import name_changes, summary
from dpose_yolo.report.svg import Skeletons
from dpose_yolo.report.tables import records

if TYPE_CHECKING:
    import pandas as pd

    from dpose_yolo.posture.shift import Shift

EXAMPLES = 6  # pictures of a new posture


def section(df: pd.DataFrame, shift: Shift, old: Shown, new: Shown, sets: Sequence[str]) -> list[str]:
    """Lines of HTML: shares of each posture in both sets, the new postures with examples, names that came and went.

    Args:
        df: from `shift.shift_table`.
        shift: what was compared.
        old: the old set, which the atlas shows.
        new: the new set.
        sets: what the two are called.
    """
    rows = records(df)
    counts = [f"{int(df[f'{k}_poses'].sum()):,} poses in {len(v.table.files):,} images" for k, v in _both(old, new)]
    lines = [
        '<section id="compare"><h2>Old and new</h2>',
        f"<p>Old: {html(sets[0])}, {counts[0]}.<br>New: {html(sets[1])}, {counts[1]}.</p>",
        f"<p>{html(summary(df))}.</p>",
        bar_key("old", "new"),
        *_table(rows),
        *_names(name_changes(old, new)),
    ]
    if len(shift.fresh):
        lines += _fresh(rows, shift, new)
    return [*lines, "</section>"]


def _both(old: Shown, new: Shown) -> list[tuple[str, Shown]]:
    return [("old", old), ("new", new)]


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    largest = max(max(row["old_share"], row["new_share"]) for row in rows)
    named = any(row.get(k) for row in rows for k in ("old_name", "new_name"))
    columns = [("posture", ""), ("old poses", "n wide"), ("new poses", "n wide"), ("old", "n"), ("new", "n"), ("", "")]
    columns += [*([("commonest name, old / new", "wide")] if named else []), ("", "")]
    lines = [f"<table><caption>Share of the poses</caption>{head_row(columns)}<tbody>"]
    for row in rows:
        link = row["posture"].replace(" ", "-")
        tag = f'<span class="tag">{row["state"]}</span>' if row["state"] else ""
        name = " / ".join(html(row.get(k) or "–") for k in ("old_name", "new_name"))
        lines.append(
            f'<tr><th scope="row"><a href="#posture-{link}">{row["posture"]}</a></th>'
            f'<td class="n wide">{row["old_poses"]:,}</td><td class="n wide">{row["new_poses"]:,}</td>'
            f'<td class="n">{percent(row["old_share"])}</td><td class="n">{percent(row["new_share"])}</td>'
            f"<td>{bars(row['old_share'], row['new_share'], largest)}</td>"
            + (f'<td class="wide">{name}</td>' if named else "")
            + f"<td>{tag}</td></tr>"
        )
    return [*lines, "</tbody></table>"]


def _names(changes: dict[str, dict[str, int]]) -> list[str]:
    lines = []
    for key, text in (("only_new", "Names that only the new set has"), ("only_old", "Names that only the old set has")):
        if changes.get(key):
            listed = ", ".join(f"{html(name)} ({count} images)" for name, count in changes[key].items())
            lines.append(f"<p>{text}: {listed}.</p>")
    return lines


def _fresh(rows: Sequence[dict[str, Any]], shift: Shift, new: Shown) -> list[str]:
    assert shift.mixture is not None
    skeletons = Skeletons(shift.mixture, new.table.names, new.pairs)
    features = new.table.features()[:, shift.mixture.used_]
    lines = [
        "<h2>New postures</h2>",
        f"<p>New poses that are more than {FENCE:g} spreads less likely than the usual old pose, gathered into "
        "postures. Label errors end up here, too: look at the pictures.</p>",
        '<div class="cards">',
    ]
    for j, row in enumerate(rows[len(shift.old) :]):
        persons = np.flatnonzero(shift.group == j)
        labelled = (~np.isnan(features[persons])).mean(0)[::2]
        order = persons[np.argsort(shift.spreads[persons], kind="stable")]
        spaced = order[np.unique(np.linspace(0, len(order) - 1, min(EXAMPLES, len(order))).astype(int))]
        pictures = "".join(new.picture(int(p)) for p in spaced)
        files = "".join(f"<li>{html(new.file(int(p)))} ({shift.spreads[p]:.1f} spreads)</li>" for p in spaced)
        known = new.commonest(persons)
        title = f"mean skeleton of new posture {j} with the spread of its keypoints"
        lines.append(
            f'<article class="card" id="posture-new-{j}"><h3>New posture {j}</h3>{skeletons.draw(j, title, labelled)}'
            f"<p>{row['new_poses']:,} poses, {percent(row['new_share'])} of the new ones.</p>"
            + (f"<p>Names: {html(known)}</p>" if known else "")
            + (f'<div class="thumbs">{pictures}</div>' if pictures else "")
            + f"<details><summary>files</summary><ul>{files}</ul></details></article>"
        )
    return [*lines, "</div>"]
