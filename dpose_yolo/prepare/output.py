"""The folder of the new set: written file by file, each in one step, and taken up again after an interruption.

dst/images/<part>/, dst/labels/<part>/   complete files only
dst/index.csv, dst/prepare.json, dst/data.yaml   written at the end, the card last: with it the set is complete
dst/.prepare/                            while it is not: the recipe, finished jobs, files under way; then removed
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dpose_yolo.dataset.new_card import card_text
from dpose_yolo.errors import DPoseError
from dpose_yolo.prepare.plan import PARTS, Plan, Shot

COLUMNS = ("file", "source", "subject", "view", "time", "activity", "split")
WORK, RECORD, CARD, INDEX = ".prepare", "prepare.json", "data.yaml", "index.csv"
NAMED = 20  # losses that the report names


class Output:
    """A folder that is being filled.

    Args:
        dst: the folder; missing, empty, or one that this same recipe has begun.
        recipe: source and settings, plain JSON values.

    Attributes:
        folder: name of the working folder in `dst`, while the set is not complete.
        record_name: name of the record, which with the card says that the set is complete.
        columns: of the index.
    """

    folder = WORK
    record_name = RECORD
    columns: tuple[str, ...] = COLUMNS

    def __init__(self, dst: Path, recipe: dict[str, Any]):
        self.dst, self.work = dst, dst / self.folder
        self.recipe = json.loads(json.dumps(recipe, default=str))

    def state(self) -> str:
        """`new`, `begun` or `complete`.

        Raises:
            DPoseError: for a folder of somebody else, or one made with other settings.
        """
        if self.dst.exists() and not self.dst.is_dir():
            raise DPoseError(f"dst={self.dst} is a file: set dst= to a new folder")
        if not self.dst.is_dir() or not any(self.dst.iterdir()):
            return "new"
        complete = (self.dst / CARD).is_file() and (self.dst / self.record_name).is_file()
        file = self.dst / self.record_name if complete else self.work / "recipe.json"
        before = _read(file)
        if before is None:
            if not complete and set(os.listdir(self.dst)) == {self.folder}:
                return "new"  # stopped before the recipe was written
            raise DPoseError(f"dst={self.dst} is not empty and was not begun by this command: set dst= to a new folder")
        self._same(before.get("recipe", {}))
        return "complete" if complete else "begun"

    def _same(self, before: dict[str, Any]) -> None:
        if before.get("content", self.recipe.get("content")) != self.recipe.get("content"):
            raise DPoseError(
                f"the source has changed since dst={self.dst} was begun, or is another one of that name: set dst= to a "
                "new folder"
            )
        for name in sorted({*before, *self.recipe} - {"content"}):
            if before.get(name) != self.recipe.get(name):
                was, now = before.get(name), self.recipe.get(name)
                raise DPoseError(f"dst={self.dst} was made with {name}={was}, not {now}: set another dst=")

    @contextmanager
    def begun(self, digest: str) -> Iterator[None]:
        """Make the folder ready to be written to, by one process at a time.

        Raises:
            DPoseError: when it cannot be written to, another process does, or the source is not what it was.
        """
        import fcntl

        try:
            self.work.mkdir(parents=True, exist_ok=True)
            with (self.work / "lock").open("a") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise DPoseError(f"dst={self.dst} is being written to by another process: wait for it") from error
                self._begin(digest)
                yield
        except OSError as error:
            raise DPoseError(
                f"dst={self.dst} cannot be written to ({error.strerror or error}): the same command goes on from there"
            ) from error

    def _begin(self, digest: str) -> None:
        shutil.rmtree(self.work / "tmp", ignore_errors=True)
        shutil.rmtree(self.work / "spool", ignore_errors=True)
        for folder in ("tmp", "spool", "jobs"):
            (self.work / folder).mkdir(exist_ok=True)
        file = self.work / "recipe.json"
        before = _read(file)
        if before is None:
            self.put(file, _json({"recipe": self.recipe, "plan": digest}))
        elif before.get("plan") != digest:
            raise DPoseError(
                f"the source has changed since dst={self.dst} was begun: delete {self.dst} or set dst= to a new folder"
            )

    def put(self, file: Path, content: bytes) -> None:
        """Write a file in one step."""
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.work / "tmp" / f"{os.getpid()}-{file.name}"
        temporary.write_bytes(content)
        os.replace(temporary, file)

    def image(self, shot: Shot, suffix: str) -> Path:
        """Where the image of a shot goes."""
        return self.dst / "images" / shot.part / f"{shot.stem}{suffix}"

    def put_label(self, shot: Shot) -> None:
        """Write the label of a shot, if it has one."""
        if shot.label is not None:
            self.put(self.dst / "labels" / shot.part / f"{shot.stem}.txt", shot.label.encode())

    def row(self, shot: Shot, suffix: str) -> dict[str, str]:
        """Line of the index for a shot."""
        time = "" if shot.time is None else f"{shot.time:.3f}"
        file = f"images/{shot.part}/{shot.stem}{suffix}"
        values = (file, shot.source, shot.subject, shot.view, time, shot.activity, shot.part)
        return dict(zip(COLUMNS, values, strict=True))

    def finished(self, number: int) -> bool:
        """Whether a job was finished, now or before."""
        return (self.work / "jobs" / f"{number}.json").is_file()

    def finish(self, number: int, rows: list[dict[str, str]], lost: list[tuple[str, str]]) -> None:
        """Take down what a job has written and what it could not use."""
        self.put(self.work / "jobs" / f"{number}.json", _json({"rows": rows, "lost": lost}))

    def complete(self, plan: Plan) -> dict[str, Any]:
        """Write the index, the record and, last, the card.

        Returns:
            The record.

        Raises:
            DPoseError: when nothing could be used.
        """
        rows: list[dict[str, str]] = []
        lost: list[tuple[str, str]] = list(plan.left_out)
        for number in range(len(plan.jobs)):
            job = _read(self.work / "jobs" / f"{number}.json") or {}
            rows += job.get("rows", [])
            lost += [(kind, name) for kind, name in job.get("lost", [])]
        if not rows:
            self._undo()
            first = f": {lost[0][1]}: {lost[0][0]}" if lost else ""
            raise DPoseError(f"nothing of the source can be used{first}")
        images = Counter(row["split"] for row in rows)
        if not images["train"]:
            raise DPoseError("no image is left for the training part: see what was left out, or change the split")
        self._index(rows)
        record = record_of(self.recipe, plan, dict(images), lost)
        self.put(self.dst / self.record_name, _json(record))
        points = plan.keypoints
        parts = card_parts(images)
        flip, sigmas = points.flip_idx(), points.sigmas()
        text = card_text(parts, points.names, flip, sigmas, points.skeleton, plan.comment)
        self.put(self.dst / CARD, text.encode())
        return record

    def _index(self, rows: list[dict[str, str]]) -> None:
        temporary = self.work / "tmp" / INDEX
        with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, self.dst / INDEX)

    def _undo(self) -> None:
        """Remove what a set that came to nothing has left; an empty folder of the user's goes with it."""
        self.tidy()
        with suppress(OSError):
            self.dst.rmdir()

    def tidy(self) -> None:
        """Remove what only an unfinished set needs."""
        with suppress(OSError):
            shutil.rmtree(self.work)

    def record(self) -> dict[str, Any]:
        """The record of a complete set."""
        return _read(self.dst / self.record_name) or {}


def card_parts(images: Counter[str]) -> dict[str, str]:
    """Folders of the card. The engine wants a `val`: if there is none, the test or training part stands in."""
    has = {part: f"images/{part}" for part in PARTS if images[part]}
    has.setdefault("val", has.get("test", "images/train"))
    return {part: has[part] for part in PARTS if part in has}


def record_of(
    recipe: dict[str, Any], plan: Plan, images: dict[str, int], lost: list[tuple[str, str]]
) -> dict[str, Any]:
    """What prepare.json says."""
    counts = Counter(kind for kind, _ in lost)
    names: dict[str, list[str]] = {}
    for kind, name in lost:
        few = names.setdefault(kind, [])
        if len(few) < NAMED and name:
            few.append(name)
    left_out = {kind: {"count": counts[kind], "first": names[kind]} for kind in sorted(counts)}
    parts = {part: images[part] for part in PARTS if images.get(part)}
    return {"recipe": recipe, "images": parts, "how": plan.said, "left_out": left_out}


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _read(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
