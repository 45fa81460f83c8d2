"""`dpose check`: from a data YAML to findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from dpose_yolo.dataset import across
from dpose_yolo.dataset.card import Card
from dpose_yolo.dataset.findings import Finding, Findings
from dpose_yolo.dataset.index import Index, find_index
from dpose_yolo.dataset.judge import fit_judge, judge_postures
from dpose_yolo.dataset.scan import Scan, scan
from dpose_yolo.errors import DPoseError

Track = Callable[[Iterable[Any], str], Iterable[Any]]


def _plain(items: Iterable[Any], text: str) -> Iterable[Any]:
    return items


@dataclass
class Checked:
    """A data set that was looked at.

    Attributes:
        card: its data YAML.
        scan: what is kept of its images.
        findings: what is wrong.
    """

    card: Card
    scan: Scan
    findings: Findings

    def images(self) -> dict[str, int]:
        """Images by part."""
        return dict(zip(self.scan.parts, self.scan.images, strict=True))


def check(card: Card, findings: Findings, names: str | None = None, seed: int = 0, track: Track = _plain) -> Checked:
    """Look at every image and label of a data set.

    Args:
        card: its data YAML.
        findings: gets what is wrong.
        names: CSV of subjects and posture names; an `index.csv` beside the data is found by itself.
        seed: of the sample of poses and the fit.
        track: wraps loops to show progress, with a word for what is done.

    Raises:
        DPoseError: for data that cannot be looked at: no images, paths outside the data folder, an unreadable table.
    """
    parts = across.same_parts(card, findings)
    table = find_index(card, names)
    index = Index(table) if table is not None else None
    found = scan(card, parts, findings, index, seed, lambda images, part: track(images, f"{part}: images and labels"))
    for part, images in zip(parts, found.images, strict=True):
        if not images:
            raise DPoseError(f"no images in the {part} part of {card.file}: check {part}: in it")
    across.duplicates(card, found, findings)
    across.shared_labels(card, found, findings)
    across.orphan_labels(card, found, findings)
    if index is not None:
        across.subjects(card, found, index, findings)
    across.gaps(card, found, index, findings)
    judge = fit_judge(found, card, seed)
    if isinstance(judge, str):
        findings.add(Finding("not_judged", "", card.file.name, judge))
    else:
        judge_postures(judge, card, found, findings, lambda images, part: track(images, f"{part}: postures"))
    return Checked(card, found, findings)
