"""Drive&Act's tables of activities, and the splits that their names tell."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.prepare.drive_act_files import SUBJECT, Run, Tree, nearest
from dpose_yolo.prepare.options import VIEWS
from dpose_yolo.prepare.splits import refuse_shared

# Split 0 of the authors, for a tree without its files.
SPLIT_0 = {
    **dict.fromkeys((f"vp{n}" for n in (1, 2, 3, 4, 6, 7, 8, 9, 10, 12)), "train"),
    **dict.fromkeys(("vp14", "vp15"), "val"),
    **dict.fromkeys(("vp5", "vp11", "vp13"), "test"),
}
# The paper drew 4 persons to test and does not say whom: see data/drive_act.yaml.
PAPER_TEST = ("vp5", "vp11", "vp13", "vp15")
PAPER_WEIGHTS = {"train": 26.9, "test": 6.7}  # thousand frames


FAR = 0.5  # seconds to the nearest frame of another camera, from which it tells nothing
Clock = Callable[[Run], dict[str, np.ndarray]]


class Activities:
    """Mid-level activities by camera and run, from the annotations of 3 s chunks."""

    def __init__(self, tree: Tree):
        self._tables: dict[str, dict[Run, np.ndarray]] = {}
        self._names: dict[str, int] = {}
        for folder, files in tree.activities.items():
            chunks: dict[tuple[str, Run], set[tuple[int, int, int]]] = {}
            for file in files:
                for row in rows_of(file):
                    camera, run = _file_id(row, file)
                    name = self._names.setdefault(row["activity"], len(self._names))
                    chunks.setdefault((camera or VIEWS.get(folder, folder), run), set()).add((*_span(row, file), name))
            for (camera, run), found in chunks.items():
                self._tables.setdefault(camera, {})[run] = np.array(sorted(found))
        self._words = np.array([*self._names, ""], dtype=object)

    def of(self, run: Run, camera: str, frames: np.ndarray, clock: Clock) -> np.ndarray:
        """Activities of frames of a camera: by its own annotations, else by those of another camera at the same time.

        Args:
            run: the run.
            camera: e.g. ids_1.
            frames: (N,) frame numbers.
            clock: gives the seconds of the frames of each camera of a run, as far as they are known.
        """
        own = self._tables.get(camera, {}).get(run)
        if own is None and any(run in runs for runs in self._tables.values()):
            times = clock(run)
            for other, runs in sorted(self._tables.items()):
                if run in runs and other in times and len(times.get(camera, ())):
                    at = times[camera][np.minimum(frames, len(times[camera]) - 1)]
                    numbers, off = nearest(times[other], at)
                    own, frames = runs[run], np.where(off <= FAR, numbers, -1)
                    break
        if own is None or not len(frames):
            return np.full(len(frames), "", dtype=object)
        at = np.searchsorted(own[:, 0], frames, side="right") - 1
        hit = (at >= 0) & (frames <= own[at, 1])
        return self._words[np.where(hit, own[at, 2], -1)]


def rows_of(file: Path) -> Iterable[dict[str, str]]:
    """Rows of an activity table.

    Raises:
        DPoseError: for one that is no CSV, or lacks columns.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, strict=True)
            missing = {"file_id", "frame_start", "frame_end", "activity"} - set(reader.fieldnames or ())
            if missing:
                raise DPoseError(f"{file} lacks the column {min(missing)}")
            for row in reader:
                if None in row.values():
                    raise DPoseError(f"line {reader.line_num} of {file} is too short")
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DPoseError(f"{file} is not readable as CSV: {' '.join(str(error).split())[:150]}") from error


def _file_id(row: dict[str, str], file: Path) -> tuple[str, Run]:
    """Camera ("" if not named) and run of a row, from e.g. vp5/run1_2018-05-22-15-10-41.kinect_color."""
    subject, slash, name = row["file_id"].strip().rpartition("/")
    subject = subject.rpartition("/")[2]
    if not slash or not SUBJECT.fullmatch(subject):
        raise DPoseError(f"{file} has the file_id {row['file_id']!r}, expected e.g. vp5/run1_2018-05-22-15-10-41.ids_1")
    run, _, camera = name.partition(".")
    return camera, (subject, run)


def _span(row: dict[str, str], file: Path) -> tuple[int, int]:
    try:
        start, end = int(row["frame_start"]), int(row["frame_end"])
    except ValueError:
        start, end = math.inf, 0  # type: ignore[assignment]
    if not 0 <= start <= end < 2**40:
        raise DPoseError(f"{file} has the frames {row['frame_start']} to {row['frame_end']}")
    return start, end


def read_split(tree: Tree, split: str) -> dict[str, str]:
    """Part of each subject.

    Args:
        tree: the download; it holds the tables of the official splits.
        split: "paper", or the number of an official one.

    Raises:
        DPoseError: when the tables are missing, or put a subject in two parts.
    """
    if split == "paper":
        return {subject: "test" if subject in PAPER_TEST else "train" for subject, _ in tree.runs}
    pairs: list[tuple[str, str]] = []
    for part in ("train", "val", "test"):
        for file in tree.splits.get((split, part), []):
            pairs += {(_file_id(row, file)[1][0], part) for row in rows_of(file)}
    if not pairs and split == "0":
        return dict(SPLIT_0)
    if not {"train", "test"} <= {part for _, part in pairs}:
        raise DPoseError(
            f"no midlevel.chunks_90.split_{split}.train.csv and .test.csv below src=: unpack the activities there"
        )
    return refuse_shared(sorted(set(pairs)), f"official split {split}")
