"""What is done so far, in a small database beside the labels: a broken-off run goes on from it.

Pictures are rows, so neither resuming nor the reports hold more than a few of them in memory.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpose_yolo.errors import DPoseError

# `writing` is a picture whose labels are decided but perhaps not yet on disk.
STATES = ("writing", "labelled", "nobody", "kept", "broken")
_TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS pictures (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, certainty REAL, label TEXT NOT NULL, record TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_certainty ON pictures (state, certainty, key);
"""


@dataclass
class Entry:
    """One picture.

    Attributes:
        key: see `pictures.Item`.
        state: one of `STATES`.
        certainty: of its labels, 0..1; None without labels.
        label: text of its label file.
        record: what the reports need: source, frame, reason, persons.
    """

    key: str
    state: str
    certainty: float | None = None
    label: str = ""
    record: dict[str, Any] = field(default_factory=dict)


class Journal:
    """The database; to be used in a `with` block.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        """Open or begin one.

        Args:
            path: the file.
            settings: what decides the labels; a run with others may not go on here.

        Raises:
            DPoseError: for other settings than it was begun with, or a file that is no such database.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, isolation_level=None)
            self._base.executescript(_TABLES)
            self._check(settings)
        except sqlite3.Error as error:
            raise DPoseError(f"{path} cannot be used ({error}): remove {path.parent} to label anew") from error
        except OSError as error:
            raise DPoseError(f"cannot write {path}: {error.strerror or error}") from error

    def _check(self, settings: Mapping[str, Any]) -> None:
        own = json.loads(json.dumps(dict(settings)))
        row = self._base.execute("SELECT value FROM about WHERE name = 'settings'").fetchone()
        if row is None:
            self._base.execute("INSERT INTO about VALUES ('settings', ?)", (json.dumps(own),))
            return
        begun = json.loads(row[0])
        name = next((n for n in own if begun.get(n) != own[n]), None)
        if name:
            self._base.close()
            raise DPoseError(
                f"{self.path.parent} was begun with {name}={begun.get(name)}, now it is {own[name]}: give the same "
                "again to go on, another dst=, or remove that folder to label anew"
            )

    def __enter__(self) -> Journal:
        """Itself."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Close the file."""
        self._base.close()

    def state(self, key: str) -> str | None:
        """State of a picture, None if it has not been looked at."""
        row = self._base.execute("SELECT state FROM pictures WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def put(self, entry: Entry) -> None:
        """Keep a picture, on disk when this returns."""
        record = json.dumps(entry.record, ensure_ascii=False)
        row = (entry.key, entry.state, entry.certainty, entry.label, record)
        try:
            self._base.execute("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?)", row)
        except sqlite3.Error as error:
            raise DPoseError(f"cannot write {self.path}: {error}") from error

    def get(self, key: str) -> Entry | None:
        """A picture."""
        row = self._base.execute("SELECT * FROM pictures WHERE key = ?", (key,)).fetchone()
        return _entry(row) if row else None

    def entries(self) -> Iterator[Entry]:
        """All pictures in the order of their names."""
        yield from map(_entry, self._base.execute("SELECT * FROM pictures ORDER BY key"))

    def least_certain(self, most: int) -> Iterator[Entry]:
        """Labelled pictures, the least certain ones first."""
        text = "SELECT * FROM pictures WHERE state = 'labelled' ORDER BY certainty, key LIMIT ?"
        yield from map(_entry, self._base.execute(text, (most,)))

    def counts(self) -> dict[str, int]:
        """Pictures of each state."""
        found = dict(self._base.execute("SELECT state, COUNT(*) FROM pictures GROUP BY state"))
        return {state: found.get(state, 0) for state in STATES}

    def first(self, state: str) -> Entry | None:
        """The first picture of a state by name."""
        text = "SELECT * FROM pictures WHERE state = ? ORDER BY key LIMIT 1"
        row = self._base.execute(text, (state,)).fetchone()
        return _entry(row) if row else None


def _entry(row: tuple[Any, ...]) -> Entry:
    key, state, certainty, label, record = row
    return Entry(key, state, certainty, label, json.loads(record))
