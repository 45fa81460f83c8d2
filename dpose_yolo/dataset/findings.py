"""Findings, written down as they come: the file has all of them, memory only the first of each kind."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from typing import IO, Any

from dpose_yolo.dataset.kinds import KINDS
from dpose_yolo.errors import table_cell

COLUMNS = ("level", "kind", "part", "file", "person", "what", "how to mend")
KEPT = 40  # findings of a kind that the report shows


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: key of `KINDS`.
        part: train, val, test, or "" for the data YAML.
        file: the image, label or table, as reports show it.
        what: a sentence.
        person: number of the person in the label file from 0, or None.
        image: full path of the image to show, or "".
    """

    kind: str
    part: str
    file: str
    what: str
    person: int | None = None
    image: str = ""


@dataclass
class Findings:
    """Counts by kind, the first findings of each, and a CSV that gets every one.

    Attributes:
        counts: findings of each kind.
        kept: the first `KEPT` of each kind.
    """

    counts: Counter[str] = field(default_factory=Counter)
    kept: dict[str, list[Finding]] = field(default_factory=dict)
    _writer: Any = None

    def write_to(self, file: IO[str]) -> None:
        """Send the findings to come to an open CSV file."""
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow(COLUMNS)

    def add(self, finding: Finding) -> None:
        """Take down a finding."""
        kind = KINDS[finding.kind]
        self.counts[finding.kind] += 1
        kept = self.kept.setdefault(finding.kind, [])
        if len(kept) < KEPT:
            kept.append(finding)
        if self._writer is not None:
            person = "" if finding.person is None else finding.person
            row = (kind.level, finding.kind, finding.part, finding.file, person, finding.what, kind.mend)
            self._writer.writerow(map(table_cell, row))

    def of_level(self, level: str) -> int:
        """How many findings of a level there are."""
        return sum(count for kind, count in self.counts.items() if KINDS[kind].level == level)
