"""Goes through a source: look, vote, write, remember; and the table of certainties at the end."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpose_yolo.autolabel.journal import Entry, Journal
from dpose_yolo.autolabel.panel import Panel
from dpose_yolo.autolabel.pictures import BrokenPicture, Item, Pictures
from dpose_yolo.autolabel.target import Target, pixel_label_text
from dpose_yolo.autolabel.votes import Rules, Verdict
from dpose_yolo.dataset.index import Index, find_index
from dpose_yolo.errors import DPoseError, table_cell
from dpose_yolo.report.drawing import replacing

COLUMNS = (
    "image", "state", "person", "keypoint", "x", "y", "flag", "certainty", "support", "against", "spread", "reason",
)  # fmt: skip
NUMBERS = ("x", "y", "flag", "certainty", "support", "against", "spread")  # of a keypoint in an entry's record


@dataclass
class Labelling:
    """Labels the pictures of a source.

    Attributes:
        pictures: the source.
        target: where labels go.
        panel: the teachers.
        rules: thresholds of the vote.
        sigmas: (K,) OKS sigmas.
        journal: what is done.
        overwrite: replace labels that are there.
        empty: write empty label files (background for training) where no teacher sees a person.
    """

    pictures: Pictures
    target: Target
    panel: Panel
    rules: Rules
    sigmas: np.ndarray
    journal: Journal
    overwrite: bool = False
    empty: bool = False

    def __post_init__(self) -> None:
        card = self.pictures.card
        path = find_index(card) if card and not self.target.beside else None
        self._index = Index(path) if path else None

    def run(self, track: Callable[[Iterable[None], str], Iterable[None]] = lambda items, text: items) -> dict[str, int]:
        """Label what is not labelled yet; `track` shows progress. Returns the number of pictures of each state."""
        for _ in track(self, "autolabel"):
            pass
        return self.journal.counts()

    def __len__(self) -> int:
        """Steps."""
        return len(self.pictures)

    def __iter__(self) -> Iterator[None]:
        """Work on one picture a step."""
        for file in self.pictures:
            try:
                for item in self.pictures.items_of(file, self._wanted):
                    if item is not None:
                        self._one(item)
                    yield
            except BrokenPicture as error:
                self._put(Item(self.pictures.key_of(file), file), "broken", reason=str(error))

    def _wanted(self, key: str) -> bool:
        state = self.journal.state(key)
        return state in (None, "writing", "broken") or (state == "kept" and self.overwrite)

    def _one(self, item: Item) -> None:
        old = self.journal.get(item.key)
        if old and old.record["source"] != self.pictures.shown(item.file):
            raise DPoseError(
                f"{old.record['source']} and {self.pictures.shown(item.file)} would both become {item.key}"
            )
        try:
            image = item.read()
        except BrokenPicture as error:
            self._put(item, "broken", reason=str(error))
            return
        if old and old.state == "writing":  # broken off after the vote
            self._write(item, image, old)
            return
        if self.target.beside and not self.overwrite and self.target.has_label(item):
            self._put(item, "kept", reason="has a label")
            return
        ballots = self.panel.look(image)
        verdicts = [ballot.decide(self.sigmas, self.rules) for ballot in ballots]
        persons = [
            (b.box, v)
            for b, v in zip(ballots, verdicts, strict=True)
            if (v.flags > 0).sum() >= min(self.rules.fewest, len(v.flags))
        ]
        if not persons:
            # background only where no view of any teacher saw a person; a label that somebody made is not replaced
            if self.empty and not self.panel.anybody and not self.target.has_label(item):
                self.target.write(item, image, "")
            seen = "too few keypoints agreed" if ballots else "too few teachers saw a person"
            self._put(item, "nobody", reason=seen if self.panel.anybody else "no person found")
            return
        height, width = image.shape[:2]
        boxes, points, flags = (np.array(v) for v in zip(*((b, v.points, v.flags) for b, v in persons), strict=True))
        entry = Entry(
            item.key,
            "writing",
            min(float(v.certainty[v.flags > 0].mean()) for _, v in persons),
            pixel_label_text(boxes, points, flags, width, height),
            {**self._about(item), "size": [width, height], "persons": [_told(b, v) for b, v in persons]},
        )
        self._write(item, image, entry)

    def _write(self, item: Item, image: np.ndarray, entry: Entry) -> None:
        """The decision first, then the files, then that they are there: broken off anywhere, no work is lost."""
        if self.journal.state(entry.key) != "writing":
            self.journal.put(entry)
        self.target.write(item, image, entry.label)
        entry.state = "labelled"
        self.journal.put(entry)

    def _put(self, item: Item, state: str, reason: str) -> None:
        self.journal.put(Entry(item.key, state, record={**self._about(item), "reason": reason}))

    def _about(self, item: Item) -> dict[str, Any]:
        source = self.pictures.shown(item.file)
        about: dict[str, Any] = {
            "source": source,
            "image": source
            if self.target.beside
            else self.target.image_of(item).relative_to(self.target.root).as_posix(),
        }
        if item.frame is not None:
            about |= {"frame": item.frame, "time_s": None if item.seconds is None else round(item.seconds, 3)}
        if self._index:
            subject, name = self._index.find(item.file, self.pictures.part)
            about |= {"subject": self._index.subjects[subject]} if subject >= 0 else {}
            about |= {"name": self._index.names[name]} if name >= 0 else {}
        return about


def _told(box: np.ndarray, verdict: Verdict) -> dict[str, Any]:
    """A person as the journal keeps it; pixels with two digits."""
    v = verdict
    columns = np.column_stack([v.points, v.flags, v.certainty, v.support, v.against, v.spread])
    digits = (2, 2, 0, 4, 3, 3, 3)
    rows = [[int(c) if d == 0 else round(c, d) for c, d in zip(row, digits, strict=True)] for row in columns.tolist()]
    return {"box": [round(float(c), 2) for c in box], "points": rows}


def settings_of(pictures: Pictures, panel: Panel, rules: Rules, **others: Any) -> dict[str, Any]:
    """What decides the labels: a run goes on only where all of it is the same."""
    return {
        "source": os.path.realpath(pictures.path),
        "teacher": [[Path(t.path).name, _fingerprint(Path(t.path))] for t in panel.teachers],
        "keypoints": list(panel.names),
        "every": pictures.every,
        "flip": panel.flip,
        "driver": panel.driver,
        "roi": list(panel.roi) if panel.roi is not None else None,
        "iou": panel.iou,
        **asdict(rules),
        **others,
    }


def _fingerprint(path: Path) -> str:
    """Hash of a file, or of all files of a folder."""
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    total.update(block)
    return total.hexdigest()[:16]


def save_table(journal: Journal, names: list[str], path: Path) -> None:
    """Write `labels.csv`: a row for each person and keypoint, and one for each picture without labels."""
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        table = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        table.writeheader()
        for entry in journal.entries():
            table.writerows({k: table_cell(v) for k, v in row.items()} for row in _rows(entry, names))


def _rows(entry: Entry, names: list[str]) -> Iterator[dict[str, Any]]:
    image = {"image": entry.record["image"], "state": entry.state, "reason": entry.record.get("reason", "")}
    if entry.state != "labelled":
        yield image
        return
    for number, person in enumerate(entry.record["persons"]):
        for name, values in zip(names, person["points"], strict=True):
            yield {**image, "person": number, "keypoint": name, **dict(zip(NUMBERS, values, strict=True))}


def flag_shares(journal: Journal, names: list[str]) -> dict[str, list[int]]:
    """Labels of each keypoint with the flags 2, 1 and 0."""
    counts = {name: [0, 0, 0] for name in names}
    for entry in journal.entries():
        for person in entry.record.get("persons", ()) if entry.state == "labelled" else ():
            for name, values in zip(names, person["points"], strict=True):
                counts[name][2 - int(values[2])] += 1
    return counts
