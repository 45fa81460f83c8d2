"""`review.html`: the least certain images with their labels drawn; one file, shown by a browser without a server."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2

from dpose_yolo.autolabel.journal import Entry, Journal
from dpose_yolo.autolabel.review_page import BODY, SCRIPT, STYLE
from dpose_yolo.autolabel.target import Target
from dpose_yolo.errors import DPoseError
from dpose_yolo.images import read_image
from dpose_yolo.keypoints import side_of
from dpose_yolo.report.check import text_of
from dpose_yolo.report.drawing import SIDE_COLOURS, replacing

SIDE = 560  # pixels of the longer side of a picture
QUALITY = 75  # of its JPEG
_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
# Only the page's own script may run, and nothing may be fetched, whatever a file is called.
POLICY = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{_HASH}'"


def save_review(
    journal: Journal, target: Target, names: Sequence[str], path: Path, most: int, limbs: Sequence[tuple[int, int]]
) -> int:
    """Write the page, an image at a time.

    Args:
        journal: what was labelled.
        target: the data set.
        names: K keypoint names.
        path: the file to write, in one step.
        most: images at most, the least certain ones.
        limbs: pairs of keypoints to join with a line.

    Returns:
        Number of images in the page.

    Raises:
        DPoseError: when the file cannot be written.
    """
    sides = [side_of(name)[0] for name in names]
    pairs = [(a, b, SIDE_COLOURS[sides[a] if sides[a] == sides[b] else ""]) for a, b in limbs]
    head = {
        "id": hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:12],
        "names": list(names),
        "colours": [SIDE_COLOURS[side] for side in sides],
        "limbs": pairs,
    }
    counts = journal.counts()
    about = f"{counts['labelled']} images labelled; here are the least certain {min(most, counts['labelled'])}."
    shown = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(_top(target, about))
        file.write(_plain(head)[:-1] + ',"images":[')
        for entry in journal.least_certain(most):
            source = small_picture(target.root / entry.record["image"])
            if source:
                file.write(("," if shown else "") + "\n" + _plain(_image(entry, source)))
                shown += 1
        file.write(f"]}}</script>\n<script>{SCRIPT}</script></html>\n")
    return shown


def _top(target: Target, about: str) -> str:
    title = f"{text_of(target.root.resolve().name)}, {target.part}: labels to look at"
    keys = "Keys: &larr; &rarr; or k j turn pages, b marks as bad, s hides the skeleton."
    legend = "Filled: agreed (2). Hollow, dashed: weak (1). Blue: the person&rsquo;s left, orange: right."
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        "<meta name=viewport content='width=device-width,initial-scale=1'>\n"
        f"<title>{escape(title)}</title><style>{STYLE}</style>\n<h1>{escape(title)}</h1>\n"
        f"<p>{escape(about)} {legend} <span class=keys>{keys}</span></p>\n{BODY}\n"
        '<script type="application/json" id=data>'
    )


def _image(entry: Entry, source: str) -> dict[str, Any]:
    persons = [
        {"box": p["box"], "points": [[x, y, flag, sure] for x, y, flag, sure, *_ in p["points"]]}
        for p in entry.record["persons"]
    ]
    return {
        "file": text_of(entry.record["image"]),
        "certainty": round(entry.certainty or 0.0, 4),
        "size": entry.record["size"],
        "persons": persons,
        "src": source,
    }


def _plain(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def small_picture(path: Path) -> str:
    """A small JPEG as a data URI; "" where the image is gone or cannot be read."""
    try:
        image = read_image(path)
    except DPoseError:
        return ""
    scale = min(1.0, SIDE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    done, code = cv2.imencode(
        ".jpg", cv2.resize(image, size, interpolation=cv2.INTER_AREA), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    )
    return f"data:image/jpeg;base64,{base64.b64encode(code.tobytes()).decode()}" if done else ""
