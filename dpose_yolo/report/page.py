"""What the pages of reports share: one file that a browser shows without a server, a network or a script."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np

from dpose_yolo.report.drawing import replacing

# Nothing in a page may be fetched or run, whatever a file is called.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
# Text has a contrast of 4.5 at least on its background (tests/test_atlas_page.py counts it).
STYLE = """
*{box-sizing:border-box}
body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:1100px;padding:16px;color:#222;background:#fff}
h1{font-size:22px;margin:8px 0} h2{font-size:18px;margin:32px 0 6px} h3{font-size:15px;margin:0 0 6px}
p{margin:6px 0;max-width:75ch} a{color:#00558a} code,td.f{font-family:ui-monospace,monospace;font-size:13px}
table{border-collapse:collapse;width:100%} caption{text-align:left;color:#555;font-size:13px;padding:2px 0 6px}
td,th{text-align:left;padding:4px 10px 4px 0;vertical-align:top;border-bottom:1px solid #e4e4e0;overflow-wrap:anywhere}
th{font-weight:600;overflow-wrap:normal}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
figure{margin:0} img{display:block;max-width:100%;height:auto} figcaption{font-size:12px;color:#555}
h1,h2,p,figcaption,td.f,li{overflow-wrap:anywhere} .row{display:flex;flex-wrap:wrap;gap:10px;margin:8px 0}
.error{color:#a63a00;font-weight:600} .warning{color:#00558a;font-weight:600} .note,.faint{color:#5c5c5c}
@media(max-width:600px){body{padding:12px} .wide{display:none}}
"""


def text_of(value: object) -> str:
    """A text that can be written anywhere: bytes of a file name that are no text are shown as numbers."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def html(value: object) -> str:
    """A value as text of a page, whatever it holds."""
    return escape(text_of(value))


def save_page(path: Path, title: str, body: Sequence[str], style: str = "") -> None:
    """Write a page in one step.

    Args:
        path: the file.
        title: of the window, plain text.
        body: lines of HTML.
        style: added to `STYLE`.

    Raises:
        DPoseError: when the file cannot be written.
    """
    lines = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{html(title)}</title><style>{STYLE}{style}</style></head><body><main>",
        *body,
        "</main></body></html>",
    ]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def head_row(columns: Sequence[tuple[str, str]]) -> str:
    """The first row of a table: (text, class) of each column."""
    cells = "".join(
        f'<th scope="col"{f" class={quote(kind)}" if kind else ""}>{html(text)}</th>' for text, kind in columns
    )
    return f"<thead><tr>{cells}</tr></thead>"


def quote(text: str) -> str:
    """An attribute's value, quoted."""
    return f'"{escape(text)}"'


def jpeg(image: np.ndarray, quality: int = 80) -> str:
    """A BGR picture as a data URI; "" where it cannot be written."""
    done, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return f"data:image/jpeg;base64,{base64.b64encode(code.tobytes()).decode()}" if done else ""
