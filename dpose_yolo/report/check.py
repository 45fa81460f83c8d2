"""What `dpose check` found: a table on the screen and a page that a browser shows without a server."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from dpose_yolo.dataset.files import label_of
from dpose_yolo.dataset.findings import Finding
from dpose_yolo.dataset.kinds import KINDS, LEVELS
from dpose_yolo.dataset.labels import poses, read_label
from dpose_yolo.errors import DPoseError
from dpose_yolo.report.drawing import GREEN, SIDE_COLOURS, limbs, replacing, side_of

if TYPE_CHECKING:
    from dpose_yolo.dataset.card import Card
    from dpose_yolo.dataset.check import Checked

PICTURES = 8  # of a kind in the page
SIDE = 240  # pixels of a picture
# Nothing in the page may be fetched or run, whatever a file is called.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:1100px;padding:16px;color:#222;background:#fff}
h1{font-size:22px} h2{font-size:17px;margin:28px 0 4px} code,td.f{font-family:ui-monospace,monospace;font-size:13px}
table{border-collapse:collapse;width:100%} td,th{text-align:left;padding:3px 10px 3px 0;vertical-align:top;
border-bottom:1px solid #e4e4e0;overflow-wrap:anywhere} td.n{text-align:right} .error{color:#a63a00;font-weight:600}
.warning{color:#00558a;font-weight:600} .note{color:#666} figure{margin:0;width:min(240px,46vw)} img{max-width:100%}
.row{display:flex;flex-wrap:wrap;gap:10px;margin:8px 0} figcaption{font-size:12px;color:#555;overflow-wrap:anywhere}
@media(max-width:600px){th:nth-child(4),td:nth-child(4){display:none}}
"""


def text_of(value: object) -> str:
    """A text that can be written anywhere: bytes of a file name that are no text are shown as numbers."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def ordered(kinds: Iterable[str]) -> list[str]:
    """Kinds by gravity, then in the order of `KINDS`."""
    order = list(KINDS)
    return sorted(kinds, key=lambda kind: (LEVELS.index(KINDS[kind].level), order.index(kind)))


def print_findings(checked: Checked) -> None:
    """Print a row for each kind of finding, with the first of its kind."""
    from rich.console import Console
    from rich.markup import escape as plain
    from rich.table import Table

    findings = checked.findings
    console = Console()
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
        table.add_row(*(plain(text_of(word)) for word in row))
    console.print(table)


def save_page(checked: Checked, path: Path, images: bool = True) -> None:
    """Write `check.html`: every kind with its first findings, and pictures of some with their labels drawn.

    Args:
        checked: what was found.
        path: the file to write, in one step.
        images: show pictures of the data.

    Raises:
        DPoseError: when the file cannot be written.
    """
    findings, card = checked.findings, checked.card
    counts = ", ".join(f"{findings.of_level(level)} {level}s" for level in LEVELS)
    images_text = ", ".join(f"{count} images of {part}" for part, count in checked.images().items())
    lines = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name=viewport content="width=device-width,initial-scale=1">',
        f"<title>dpose check: {_html(card.file.name)}</title><style>{STYLE}</style>",
        f"<h1>{_html(card.file.name)}</h1><p>{_html(images_text)}: {counts}.</p>",
    ]
    if findings.counts:
        lines += ["<table><tr><th>level<th>finding<th>count<th>how to mend</tr>"]
    for kind in ordered(findings.counts):
        k = KINDS[kind]
        link = f'<a href="#{kind}">{k.title}</a>'
        lines.append(f"<tr><td class={k.level}>{k.level}<td>{link}<td class=n>{findings.counts[kind]}<td>{k.mend}</tr>")
    lines.append("</table>")
    for kind in ordered(findings.counts):
        lines += _section(kind, findings.kept[kind], findings.counts[kind], card, images)
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _html(value: object) -> str:
    return escape(text_of(value))


def _section(kind: str, kept: list[Finding], count: int, card: Card, images: bool) -> list[str]:
    k = KINDS[kind]
    more = f", the first {len(kept)}; all are in check.csv" if count > len(kept) else ""
    lines = [f'<h2 id="{kind}"><span class={k.level}>{k.level}</span> {k.title} ({count}{more})</h2><p>{k.mend}.</p>']
    pictures = []
    for finding in [f for f in kept if f.image][:PICTURES] if images else []:
        source = picture(finding, card)
        if source:
            pictures.append(
                f'<figure><img alt="" src="{source}"><figcaption>{_html(finding.file)}</figcaption></figure>'
            )
    if pictures:
        lines.append(f"<div class=row>{''.join(pictures)}</div>")
    lines.append("<table><tr><th>part<th>file<th>what</tr>")
    for f in kept:
        person = "" if f.person is None else f" (person {f.person})"
        lines.append(f"<tr><td>{_html(f.part)}<td class=f>{_html(f.file)}<td>{_html(f.what)}{person}</tr>")
    return [*lines, "</table>"]


def picture(finding: Finding, card: Card) -> str:
    """A small JPEG of a finding's image with its labels drawn, as a data URI; "" where it cannot be decoded."""
    try:
        image = cv2.imdecode(np.fromfile(finding.image, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        image = None
    if image is None:
        return ""
    scale = SIDE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    rows = read_label(label_of(finding.image), card.count, card.dims, card.classes).rows
    keypoints, boxes = poses(rows, card.dims, *size)
    for person, (pose, box) in enumerate(zip(keypoints, boxes, strict=True)):
        if finding.person is None or finding.person == person:
            _draw(image, pose, box, card)
    done, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return f"data:image/jpeg;base64,{base64.b64encode(code.tobytes()).decode()}" if done else ""


def _draw(image: np.ndarray, pose: np.ndarray, box: np.ndarray, card: Card) -> None:
    low, high = np.round(box[:2] - box[2:] / 2).astype(int), np.round(box[:2] + box[2:] / 2).astype(int)
    cv2.rectangle(image, low.tolist(), high.tolist(), _bgr(GREEN), 1)
    points = np.round(pose[:, :2]).astype(int).tolist()
    try:
        pairs = limbs(card.names, card.skeleton)
    except DPoseError:
        pairs = []
    for a, b in pairs:
        if pose[a, 2] and pose[b, 2]:
            side = side_of(card.names[a])[0]
            colour = _bgr(SIDE_COLOURS[side if side == side_of(card.names[b])[0] else ""])
            cv2.line(image, points[a], points[b], colour, 1, cv2.LINE_AA)
    for k, point in enumerate(points):
        if pose[k, 2]:
            cv2.circle(image, point, 2, _bgr(SIDE_COLOURS[side_of(card.names[k])[0]]), -1, cv2.LINE_AA)


def _bgr(colour: str) -> tuple[int, int, int]:
    return int(colour[5:7], 16), int(colour[3:5], 16), int(colour[1:3], 16)
