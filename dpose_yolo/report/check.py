"""What `dpose check` found: a table on the screen and a page that a browser shows without a server."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from dpose_yolo.dataset.files import label_of
from dpose_yolo.dataset.findings import Finding
from dpose_yolo.dataset.kinds import KINDS, LEVELS
from dpose_yolo.dataset.labels import poses, read_label
from dpose_yolo.errors import DPoseError
from dpose_yolo.report.drawing import limbs
from dpose_yolo.report.page import head_row, html, jpeg, quote, save_page, text_of
from dpose_yolo.report.pictures import draw_pose, read_picture
from dpose_yolo.report.plain import plain_console

if TYPE_CHECKING:
    from dpose_yolo.dataset.card import Card
    from dpose_yolo.dataset.check import Checked

PICTURES = 8  # of a kind in the page
SIDE = 240  # pixels of a picture
STYLE = "figure{width:min(240px,calc(50vw - 18px))} td.f{min-width:9em}"


def ordered(kinds: Iterable[str]) -> list[str]:
    """Kinds by gravity, then in the order of `KINDS`."""
    order = list(KINDS)
    return sorted(kinds, key=lambda kind: (LEVELS.index(KINDS[kind].level), order.index(kind)))


def print_findings(checked: Checked) -> None:
    """Print a row for each kind of finding, with the first of its kind."""
    from rich.table import Table

    findings = checked.findings
    console = plain_console()
    console.print(", ".join(f"{count} images of {part}" for part, count in checked.images().items()))
    if not findings.counts:
        console.print("nothing found")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("level", "finding", "count", "the first", "how to mend"):
        table.add_column(column, justify="right" if column == "count" else "left", overflow="fold")
    for kind in ordered(findings.counts):
        first = findings.kept[kind][0]
        about = f"{first.file}: {first.what}"
        row = (KINDS[kind].level, KINDS[kind].title, str(findings.counts[kind]), about, KINDS[kind].mend)
        table.add_row(*map(text_of, row))
    console.print(table)


def save_findings(checked: Checked, path: Path, images: bool = True) -> None:
    """Write `check.html`: every kind with its first findings, and pictures of some with their labels drawn.

    Args:
        checked: what was found.
        path: the file to write, in one step.
        images: show pictures of the data.

    Raises:
        DPoseError: when the file cannot be written.
    """
    findings, card = checked.findings, checked.card
    counts = ", ".join(f"{n} {level}{'s' * (n != 1)}" for level in LEVELS for n in [findings.of_level(level)])
    images_text = ", ".join(f"{count} images of {part}" for part, count in checked.images().items())
    lines = [f"<h1>{html(card.file.name)}</h1><p>{html(images_text)}: {counts}.</p>"]
    if findings.counts:
        columns = (("level", ""), ("finding", ""), ("count", "n"), ("how to mend", "wide"))
        lines.append(f"<table><caption>Findings by kind</caption>{head_row(columns)}<tbody>")
        for kind in ordered(findings.counts):
            k = KINDS[kind]
            lines.append(
                f'<tr><td class="{k.level}">{k.level}</td><td><a href="#{kind}">{k.title}</a></td>'
                f'<td class="n">{findings.counts[kind]}</td><td class="wide">{k.mend}</td></tr>'
            )
        lines.append("</tbody></table>")
    for kind in ordered(findings.counts):
        lines += _section(kind, findings.kept[kind], findings.counts[kind], card, images)
    save_page(path, f"dpose check: {card.file.name}", lines, STYLE)


def _section(kind: str, kept: list[Finding], count: int, card: Card, images: bool) -> list[str]:
    k = KINDS[kind]
    more = f", the first {len(kept)}; all are in check.csv" if count > len(kept) else ""
    lines = [
        f'<section><h2 id="{kind}"><span class="{k.level}">{k.level}</span> {k.title} ({count}{more})</h2>',
        f"<p>{k.mend[0].upper()}{k.mend[1:]}.</p>",
    ]
    pictures = []
    for finding in [f for f in kept if f.image][:PICTURES] if images else []:
        source = picture(finding, card)
        if source:
            alt = quote(text_of(f"{finding.file} with its labels drawn"))
            caption = f"<figcaption>{html(finding.file)}</figcaption>"
            pictures.append(f'<figure><img alt={alt} src="{source}">{caption}</figure>')
    if pictures:
        lines.append(f'<div class="row">{"".join(pictures)}</div>')
    lines.append(f"<table>{head_row((('part', ''), ('file', ''), ('what', '')))}<tbody>")
    for f in kept:
        person = "" if f.person is None else f" (person {f.person})"
        lines.append(
            f'<tr><td>{html(f.part)}</td><td class="f">{html(f.file)}</td><td>{html(f.what)}{person}</td></tr>'
        )
    return [*lines, "</tbody></table></section>"]


def picture(finding: Finding, card: Card) -> str:
    """A small JPEG of a finding's image with its labels drawn, as a data URI; "" where it cannot be decoded."""
    image = read_picture(finding.image)
    if image is None:
        return ""
    scale = SIDE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    rows = read_label(label_of(finding.image), card.count, card.dims, card.classes).rows
    try:
        pairs = limbs(card.names, card.skeleton)
    except DPoseError:
        pairs = []
    for person, (pose, box) in enumerate(zip(*poses(rows, card.dims, *size), strict=True)):
        if finding.person is None or finding.person == person:
            draw_pose(image, pose, card.names, pairs, box)
    return jpeg(image)
