"""Poses of a stream as CSV and JSON, written as they come and put in place in one step at the end."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from dpose_yolo.errors import table_cell
from dpose_yolo.report.drawing import replacing
from dpose_yolo.runtime.driver import Driver
from dpose_yolo.runtime.frames import Frame


class Records:
    """Writes a line of `poses.csv` and an entry of `poses.json` for each frame; memory holds none of them.

    Attributes:
        names: K keypoint names.
        about: what stands at the end of the JSON file besides the frames; may be filled until `close`.
    """

    def __init__(self, table: TextIO, text: TextIO, names: Sequence[str]):
        """See `open_records`."""
        self.names, self.about = list(names), dict[str, Any]()
        self._csv, self._json, self._first = csv.writer(table, lineterminator="\n"), text, True
        points = [f"{name}_{part}" for name in names for part in ("x", "y", "score")]
        self._csv.writerow(
            ["source", "frame", "time_s", "utc", "score", "x1", "y1", "x2", "y2", *map(table_cell, points)]
        )
        self._json.write('{"keypoints": ' + json.dumps(self.names, ensure_ascii=False) + ',\n"frames": [')

    def add(self, frame: Frame, driver: Driver | None) -> None:
        """Write one frame; pixels with two digits, confidences with four."""
        entry: dict[str, Any] = {"source": frame.name, "frame": frame.number}
        entry["time_s"] = None if frame.seconds is None else round(frame.seconds, 4)
        entry["utc"] = frame.utc
        cells: list[Any] = list(entry.values())
        if driver is not None:
            entry["score"] = round(float(driver.score), 4)
            entry["box"] = [round(float(v), 2) for v in driver.box]
            columns = [*driver.keypoints.T.tolist(), driver.scores.tolist()]
            entry["points"] = [
                [round(x, 2), round(y, 2), round(s, 4)] for x, y, s in zip(*columns, strict=True)
            ]  # fmt: skip
            cells += [entry["score"], *entry["box"], *(v for point in entry["points"] for v in point)]
        else:
            entry["score"] = None
            cells += [""] * (5 + 3 * len(self.names))
        self._csv.writerow(["" if cell is None else table_cell(cell) for cell in cells])
        self._json.write(("\n" if self._first else ",\n") + json.dumps(entry, ensure_ascii=False))
        self._first = False

    def close(self) -> None:
        """Write the end of the JSON file."""
        rest = json.dumps(self.about, ensure_ascii=False, indent=1)
        self._json.write("\n]" + (",\n" + rest[1:].lstrip() if self.about else "}") + "\n")


@contextmanager
def open_records(folder: str | Path, names: Sequence[str]) -> Iterator[Records]:
    """Records in a folder; the files appear when the block ends well, and not at all if it fails.

    Raises:
        DPoseError: when a file cannot be written.
    """
    with ExitStack() as stack:
        files = []
        for name in ("poses.csv", "poses.json"):
            temporary = stack.enter_context(replacing(Path(folder) / name))
            files.append(
                stack.enter_context(temporary.open("w", encoding="utf-8", errors="backslashreplace", newline=""))
            )
        records = Records(files[0], files[1], names)
        yield records
        records.close()
