"""Names of keypoints, postures, classes and files as plain text: nothing in them is markup, on a screen or in a CSV."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpose_yolo.errors import table_cell

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

LOG_WIDTH = 1000  # characters of a line where nobody looks at a screen: names are not cut


def plain_console(**settings: Any) -> Console:
    """A console that prints text as it is, as wide as the terminal; a log is as wide as its tables."""
    from rich.console import Console

    console = Console(markup=False, emoji=False, highlight=False, **settings)
    if not console.is_terminal:
        console.width = LOG_WIDTH
    return console


def save_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table, numbers with six digits; no cell is a formula to a spreadsheet."""
    texts = table.select_dtypes(exclude="number").columns
    shown = table.assign(**{name: table[name].map(table_cell) for name in texts})
    shown.to_csv(path, index=False, float_format="%.6g", encoding="utf-8", errors="backslashreplace")
