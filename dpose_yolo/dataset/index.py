"""The table of subjects and posture names beside a data set, read in one stream into a few bytes a row."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dpose_yolo.dataset.card import Card
from dpose_yolo.dataset.hashes import text_hash
from dpose_yolo.errors import DPoseError

SUBJECT_COLUMNS = ("subject", "person", "driver")
NAME_COLUMNS = ("posture", "action", "name")
CHECKED_NAMES = (*NAME_COLUMNS, "activity")  # an activity is no posture to measure by, but parts should share it
UNKNOWN, AMBIGUOUS = -1, -2


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
    """Subject and name of images, looked up by the end of their path; 16 bytes a row and a list of the words.

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
        keys, subject, name = array("Q"), array("i"), array("i")
        known: tuple[dict[str, int], dict[str, int]] = ({}, {})
        for row in rows_of(path):
            words = [next((row[c] for c in columns if c in row), "") for columns in (SUBJECT_COLUMNS, CHECKED_NAMES)]
            first, second = (self._number(w, k, t) for w, k, t in zip(words, known, self._tables(), strict=True))
            for key in _keys(row):
                keys.append(key)
                subject.append(first)
                name.append(second)
        order = np.argsort(np.frombuffer(keys, np.uint64), kind="stable") if keys else np.zeros(0, np.intp)
        self._keys = np.array(keys, np.uint64)[order]
        self._subject = self._settle(np.array(subject, np.int32)[order])
        self._name = self._settle(np.array(name, np.int32)[order])
        self._keys = np.unique(self._keys)

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

    def _settle(self, values: np.ndarray) -> np.ndarray:
        """One value a key; AMBIGUOUS where its rows differ."""
        if not len(values):
            return values
        first = np.flatnonzero(np.concatenate([[True], np.diff(self._keys) != 0]))
        low, high = np.minimum.reduceat(values, first), np.maximum.reduceat(values, first)
        return np.where(low == high, low, AMBIGUOUS)

    def find(self, image: str, part: str) -> tuple[int, int]:
        """Numbers of an image's subject and name; UNKNOWN, or AMBIGUOUS where rows contradict each other."""
        parts = [p for p in image.replace("\\", "/").split("/") if p]
        for at in range(len(parts)):
            end = "/".join(parts[at:])
            for text in (f"{part}\0{end}", end):
                key = np.uint64(text_hash(text))
                place = int(np.searchsorted(self._keys, key))
                if place < len(self._keys) and self._keys[place] == key:
                    return int(self._subject[place]), int(self._name[place])
        return UNKNOWN, UNKNOWN


def _keys(row: dict[str, str]) -> list[int]:
    end = "/".join(p for p in row["file"].strip().replace("\\", "/").split("/") if p not in ("", "."))
    split = row.get("split", "").strip()
    return [text_hash(end)] + ([text_hash(f"{split}\0{end}")] if split else [])
