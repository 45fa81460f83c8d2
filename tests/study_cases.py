"""Made-up trainings and results for the tests of studies."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from dpose_yolo.metrics import Matches
from dpose_yolo.study.groups import ImageGroups
from dpose_yolo.study.plan import Plan, ablate_plan
from dpose_yolo.study.progress import Progress
from dpose_yolo.study.runner import Job


def ablation(**settings: Any) -> Plan:
    return ablate_plan({"data": "x.yaml", **settings})


class FakeProcess:
    """Ends after some looks with a status; leaves results behind if that is 0."""

    def __init__(self, job: Job, status: int = 0, looks: int = 1, log: str = ""):
        self.job, self.status, self.looks, self.ended = job, status, looks, False
        (job.folder / "log.txt").write_text(log)

    def poll(self) -> int | None:
        self.looks -= 1
        if self.looks >= 0:
            return None
        if self.status == 0:
            leave_results(self.job.folder)
        return self.status

    def terminate(self) -> None:
        self.ended = True

    def wait(self, timeout: float | None = None) -> int:
        return self.status

    kill = terminate


def leave_results(folder: Path, hits: Any = None, **metrics: Any) -> None:
    """Made-up results: 8 images with one person each, the first half shows the common postures, the rest rare ones."""
    hits = np.ones(8, bool) if hits is None else np.asarray(hits, bool)
    images = np.flatnonzero(hits)
    every = np.ones((10, len(images)), bool)
    Matches(images, np.linspace(0.9, 0.5, len(images)), every, ~every, np.ones(8, int)).save(folder / "matches.npz")
    cluster, counts = np.array([0, 0, 0, 1, 2, 2, 3, 3]), np.array([90, 40, 20, 5])
    ImageGroups(np.array([f"{i}.jpg" for i in range(8)]), cluster, counts).save(folder / "groups.npz")
    content = {
        "AP": 0.5, "AP50": 0.8, "AP75": 0.4, "AR": 0.6, "images": 8, "persons": 8, "oks_area": 0.53, "split": "test",
        "data": "a/data.yaml", "train_seconds": 90.0, "engine": {"box_AP": 0.7}, "attention": None, "names": None,
        "clusters": {"head": 0.7, "medium": 0.5, "tail": 0.2, "macro": 0.45, "worst": {"cluster": 3, "AP": 0.1}},
        "bootstrap": {"replicates": 200}, **metrics,
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(content))


def quiet_progress(jobs: list[Job]) -> Progress:
    console = Console(file=io.StringIO(), width=200)
    return Progress({j.name: j.folder for j in jobs}, {j.name: j.epochs for j in jobs}, console=console)


def write_epochs(folder: Path, count: int) -> None:
    lines = [f"{i + 1},{10 * i}" for i in range(count)]
    (folder / "results.csv").write_text("\n".join(["epoch,time", *lines]) + "\n")
