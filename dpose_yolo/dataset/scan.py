"""First pass over a data set: every image and label is read once, a row of each is kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from dpose_yolo.dataset.card import Card
from dpose_yolo.dataset.files import label_of, part_images, told
from dpose_yolo.dataset.findings import Finding, Findings
from dpose_yolo.dataset.hashes import text_hash
from dpose_yolo.dataset.images import Look, look
from dpose_yolo.dataset.index import UNKNOWN, Index
from dpose_yolo.dataset.kinds import KINDS
from dpose_yolo.dataset.labels import poses, read_label
from dpose_yolo.dataset.spool import Spool, as_bytes, signed

SAMPLE = 9000  # poses of the training part that the mixture is fitted to
MARGIN = 0.1  # of the box: keypoints this far outside it count as missed
MISSED_VISIBLE, MISSED_HIDDEN = (
    0.2,
    0.6,
)  # largest share of missed keypoints, of the visible ones or of hidden ones only

_TABLES = """
CREATE TABLE images (
    i INTEGER PRIMARY KEY, part INTEGER, path BLOB, stem INTEGER, content INTEGER, look INTEGER, width INTEGER,
    height INTEGER, subject INTEGER
);
CREATE TABLE left_out (i INTEGER PRIMARY KEY);
CREATE TABLE near (i INTEGER, other INTEGER);
"""


class Sample:
    """Poses drawn evenly from a stream of unknown length (reservoir sampling)."""

    def __init__(self, limit: int, count: int, seed: int):
        self._rng = np.random.default_rng(seed)
        self._keypoints = np.zeros((limit, count, 3), np.float32)
        self._boxes = np.zeros((limit, 4), np.float32)
        self.seen = 0

    def add(self, keypoints: np.ndarray, boxes: np.ndarray) -> None:
        """Offer poses (P, K, 3) with boxes (P, 4)."""
        for pose, box in zip(keypoints, boxes, strict=True):
            limit = len(self._boxes)
            at = self.seen if self.seen < limit else int(self._rng.integers(self.seen + 1))
            self.seen += 1
            if at < limit:
                self._keypoints[at], self._boxes[at] = pose, box

    def poses(self) -> tuple[np.ndarray, np.ndarray]:
        """The poses drawn: (S, K, 3) and (S, 4)."""
        size = min(self.seen, len(self._boxes))
        return self._keypoints[:size], self._boxes[:size]


@dataclass
class Scan:
    """What is kept of the images: a row each on disk, sums in memory.

    Attributes:
        parts: names of the parts.
        count: keypoints of a label, K.
        seed: of the sample.
        names: (parts, names of the index) images.
        images: by part.
        persons: labelled persons by part.
        labelled: (parts, K) labelled keypoints.
        sample: poses of the training part.
        spool: the tables `images` (`i` counts from 0 in the order they were met; `content` and `look` are NULL where
            there is no such hash; `width` is 0 for a broken image), `left_out` and `near`.
    """

    parts: list[str]
    count: int
    seed: int
    names: np.ndarray

    def __post_init__(self) -> None:
        self.images = [0] * len(self.parts)
        self.persons = np.zeros(len(self.parts), np.int64)
        self.labelled = np.zeros((len(self.parts), self.count), np.int64)
        self.sample = Sample(SAMPLE, self.count, self.seed)
        self.spool = Spool(_TABLES)
        self._met = 0

    def add(self, number: int, image: str, seen: Look, subject: int, left_out: bool) -> None:
        """Keep an image.

        Args:
            number: index of its part.
            image: its path.
            seen: how it looks.
            subject: number of its subject in the index.
            left_out: whether `fix=True` leaves it out.
        """
        sound = seen.problem is None
        stem = signed(text_hash(image.rpartition(".")[0]))
        content, look = (signed(h) if h else None for h in (seen.content, seen.hash))
        size = (seen.width, seen.height) if sound else (0, 0)
        row = (self._met, number, as_bytes(image), stem, content, look, *size, subject)
        self.spool.put("INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        if left_out:
            self.leave_out(self._met)
        self._met += 1
        self.images[number] += 1

    def leave_out(self, i: int) -> None:
        """Have `fix=True` leave an image out."""
        self.spool.run("INSERT OR IGNORE INTO left_out VALUES (?)", i)

    def seal(self) -> None:
        """All images are there: prepare to find those that share something."""
        for column in ("stem", "content", "subject, part"):
            self.spool.run(f"CREATE INDEX by_{column.partition(',')[0]} ON images ({column})")


def scan(
    card: Card,
    parts: list[str],
    findings: Findings,
    index: Index | None = None,
    seed: int = 0,
    track: Callable[[Iterable[str], str], Iterable[str]] = lambda images, part: images,
) -> Scan:
    """Read every image and label of the parts.

    Args:
        card: the data YAML.
        parts: parts to read.
        findings: gets what is wrong with single images and labels.
        index: subjects and names.
        seed: of the sample of poses.
        track: wraps the images of a part, to show progress.
    """
    found = Scan(parts, card.count, seed, np.zeros((len(parts), len(index.names) if index else 0), np.int64))
    for number, part in enumerate(parts):
        for image in track(part_images(card, part), part):
            _image(card, found, number, image, findings, index)
    found.seal()
    return found


def _image(card: Card, found: Scan, number: int, image: str, findings: Findings, index: Index | None) -> None:
    part, file = found.parts[number], told(image, card)
    seen = look(image)
    problems: list[tuple[str, str, int | None]] = []
    if seen.problem is not None:
        problems.append(("broken_image" if seen.content or "no such" not in seen.problem else "missing_image",
                         seen.problem, None))  # fmt: skip
    label = read_label(label_of(image), card.count, card.dims, card.classes)
    problems += [(p.kind, p.text, None) for p in label.problems]
    if label.state != "found" and not problems:
        missing = label.state == "missing"
        text = f"no {told(label_of(image), card)}" if missing else "the engine takes it for background"
        problems.append(("unlabelled_image" if missing else "empty_label", text, None))
    sound = seen.problem is None
    if len(label.rows) and sound:
        keypoints, boxes = poses(label.rows, card.dims, seen.width, seen.height)
        found.persons[number] += len(keypoints)
        found.labelled[number] += (keypoints[..., 2] > 0).sum(0)
        for person, (pose, box) in enumerate(zip(keypoints, boxes, strict=True)):
            if not (pose[:, 2] > 0).any():
                problems.append(("no_keypoints", "a box, but every flag is 0", person))
            elif (missed := box_problem(pose, box)) is not None:
                problems.append(("box_misses_keypoints", missed, person))
            elif part == "train":
                found.sample.add(pose[None], box[None])
    for kind, what, whose in problems:
        findings.add(Finding(kind, part, file, what, whose, image if sound else ""))
    subject, name = index.find(image, part) if index else (UNKNOWN, UNKNOWN)
    if name >= 0:
        found.names[number, name] += 1
    found.add(number, image, seen, subject, any(KINDS[kind].left_out for kind, _, _ in problems))


def box_problem(pose: np.ndarray, box: np.ndarray) -> str | None:
    """What is wrong if a box misses the keypoints it should hold.

    Visible keypoints decide where there are any: boxes are often drawn around what is seen of a person.

    Args:
        pose: (K, 3) pixels and flag, at least one labelled.
        box: (4,) centre and size, pixels.
    """
    outside = (np.abs(pose[:, :2] - box[:2]) / box[2:]).max(1) > 0.5 + MARGIN
    visible = pose[:, 2] == 2
    group, most = (visible, MISSED_VISIBLE) if visible.any() else (pose[:, 2] > 0, MISSED_HIDDEN)
    missed, all_of = int(outside[group].sum()), int(group.sum())
    if missed <= most * all_of:
        return None
    return f"{missed} of {all_of} {'visible' if visible.any() else 'labelled'} keypoints lie outside the box"
