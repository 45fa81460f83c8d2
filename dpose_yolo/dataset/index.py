"""The table of subjects and posture names beside a data set, read in one stream."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from dpose_yolo.dataset.card import Card
from dpose_yolo.dataset.hashes import text_hash
from dpose_yolo.dataset.spool import Spool, signed
from dpose_yolo.errors import DPoseError

SUBJECT_COLUMNS = ("subject", "person", "driver")
NAME_COLUMNS = ("posture", "action", "name")
CHECKED_NAMES = (*NAME_COLUMNS, "activity")  # an activity is no posture to measure by, but parts should share it
UNKNOWN, AMBIGUOUS = -1, -2

_TABLES = """
CREATE TABLE rows (key INTEGER, subject INTEGER, name INTEGER);
CREATE TABLE ends (key INTEGER PRIMARY KEY, subject INTEGER, name INTEGER);
"""
# One value for the end of a path; AMBIGUOUS where its rows differ.
_SETTLE = f"""
INSERT INTO ends SELECT key, CASE WHEN min(subject) = max(subject) THEN min(subject) ELSE {AMBIGUOUS} END,
CASE WHEN min(name) = max(name) THEN min(name) ELSE {AMBIGUOUS} END FROM rows GROUP BY key
"""


def find_index(card: Card, wanted: str | None = None) -> Path | None:
    """The wanted table, or an `index.csv` beside the data YAML or in the data folder, or None."""
    if wanted is not None:
        return Path(wanted)
    return next((p for p in (card.file.parent / "index.csv", Path(card.root) / "index.csv") if p.is_file()), None)


def rows_of(path: Path) -> Iterator[dict[str, str]]:
    """Rows of a CSV with the column `file`, one at a time.

    Raises:
        DPoseError: for a file that is missing, no CSV, or has no column `file`.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            if "file" not in columns:
                raise DPoseError(f"{path} has the columns {', '.join(columns)[:200]}: it needs `file`")
            if len(set(columns)) < len(columns):
                raise DPoseError(f"{path} has a column twice: {', '.join(columns)[:200]}")
            for row in reader:
                if None in row or None in row.values():
                    raise DPoseError(f"line {reader.line_num} of {path} does not have {len(columns)} columns")
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DPoseError(f"{path} is not readable as CSV: {' '.join(str(error).split())[:200]}") from error


class Index:
    """Subject and name of images, looked up by the end of their path; rows lie on disk, memory holds the words.

    A row's `file` is a name or the end of a path; the longest end of an image's path that the table has wins. With a
    column `split`, files of one name in several parts are told apart.

    Attributes:
        subjects: the words of the column of subjects, in order of appearance.
        names: the words of the column of names.
    """

    def __init__(self, path: Path):
        self.path = path
        self.subjects: list[str] = []
        self.names: list[str] = []
        self._spool = Spool(_TABLES)
        known: tuple[dict[str, int], dict[str, int]] = ({}, {})
        for row in rows_of(path):
            words = [next((row[c] for c in columns if c in row), "") for columns in (SUBJECT_COLUMNS, CHECKED_NAMES)]
            first, second = (self._number(w, k, t) for w, k, t in zip(words, known, self._tables(), strict=True))
            for key in _keys(row):
                self._spool.put("INSERT INTO rows VALUES (?, ?, ?)", (signed(key), first, second))
        self._spool.run(_SETTLE)
        self._spool.run("DROP TABLE rows")

    def _tables(self) -> tuple[list[str], list[str]]:
        return self.subjects, self.names

    @staticmethod
    def _number(word: str, known: dict[str, int], table: list[str]) -> int:
        if not word:
            return UNKNOWN
        if word not in known:
            known[word] = len(table)
            table.append(word)
        return known[word]

    def find(self, image: str, part: str) -> tuple[int, int]:
        """Numbers of an image's subject and name; UNKNOWN, or AMBIGUOUS where rows contradict each other."""
        parts = [p for p in image.replace("\\", "/").split("/") if p]
        for at in range(len(parts)):
            end = "/".join(parts[at:])
            for text in (f"{part}\0{end}", end):
                found = self._spool.first("SELECT subject, name FROM ends WHERE key = ?", signed(text_hash(text)))
                if found:
                    return found[0], found[1]
        return UNKNOWN, UNKNOWN


def _keys(row: dict[str, str]) -> list[int]:
    end = "/".join(p for p in row["file"].strip().replace("\\", "/").split("/") if p not in ("", "."))
    split = row.get("split", "").strip()
    return [text_hash(end)] + ([text_hash(f"{split}\0{end}")] if split else [])
