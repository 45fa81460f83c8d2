"""Run the trainings of a study, some at a time, each in its own process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dpose_yolo.errors import DPoseError
from dpose_yolo.study.plan import values_of
from dpose_yolo.study.progress import Progress


@dataclass(frozen=True)
class Job:
    """One training that is to run: its name, its folder (with `arm.json` in it) and its number of epochs."""

    name: str
    folder: Path
    epochs: int


@dataclass(frozen=True)
class Slot:
    """A place for one process: a device, or None for the one of the settings, and its number of CPU threads."""

    device: str | None
    threads: int


class Process(Protocol):
    """What the runner needs of a process; `subprocess.Popen` has it."""

    def poll(self) -> int | None:
        """Exit status, None while it runs."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""


Launch = Callable[[Job, Slot], Process]


@dataclass
class Outcome:
    """What became of the jobs: names of those that ended well, and the last word of those that did not."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def slots(parallel: object = None, devices: object = None, cores: int | None = None) -> list[Slot]:
    """Places for processes: `parallel` of them on the CPU, its cores shared out, or one a device.

    Raises:
        DPoseError: for values that are neither.
    """
    names = [] if devices is None else [str(d) for d in values_of(devices)]
    count = parallel if parallel is not None else max(len(names), 1)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise DPoseError(f"parallel={parallel} must be a whole number from 1: how many trainings run at a time")
    cores = cores or _cores()
    threads = max(1, cores // count)
    return [Slot(names[i % len(names)] if names else None, threads) for i in range(count)]


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def launch(job: Job, slot: Slot) -> subprocess.Popen:
    """Start the process of one training; what it prints goes to `log.txt` in its folder."""
    threads = str(slot.threads)
    # The engine would set one thread; the maths libraries read these when they are loaded.
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "dpose_yolo.study.arm", str(job.folder)]
    with open(job.folder / "log.txt", "ab") as log:
        return subprocess.Popen(
            command + ([slot.device] if slot.device is not None else []),
            stdin=subprocess.PIPE,  # closes with this process, which tells the training to end
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )


def run_jobs(
    jobs: Sequence[Job], places: Sequence[Slot], progress: Progress, start: Launch = launch, pause: float = 0.5
) -> Outcome:
    """Run all jobs, as many at a time as there are places; one that fails does not stop the others.

    Args:
        jobs: in the order they are started.
        places: one process runs in each.
        progress: told of starts and ends, and looked after while they run.
        start: starts a process.
        pause: seconds between two looks.
    """
    outcome = Outcome()
    waiting, free = list(jobs), list(places)
    running: dict[str, tuple[Job, Slot, Process]] = {}
    with _ended(running):
        while waiting or running:
            while waiting and free:
                job, slot = waiting.pop(0), free.pop(0)
                running[job.name] = job, slot, start(job, slot)
                progress.started(job.name)
            for name, (job, slot, process) in list(running.items()):
                status = process.poll()
                if status is None:
                    continue
                del running[name]
                free.append(slot)
                if status == 0:
                    outcome.done.append(name)
                else:
                    outcome.failed[name] = last_word(job.folder / "log.txt") or f"exit status {status}"
                progress.ended(name, outcome.failed.get(name))
            progress.look()
            if running:
                time.sleep(pause)
    return outcome


@contextmanager
def _ended(running: dict[str, tuple[Job, Slot, Process]]) -> Iterator[None]:
    """End what still runs when the block is left, by Ctrl-C above all."""
    try:
        yield
    finally:
        processes = [process for _, _, process in running.values()]
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def last_word(log: Path) -> str:
    """Last line of a log, without colours; of a line that is written over, what it said last."""
    try:
        text = log.read_bytes()[-20_000:].decode(errors="replace")
    except OSError:
        return ""
    lines = [re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line).strip() for line in re.split(r"[\r\n]+", text)]
    return next((line.removeprefix("dpose: error: ") for line in reversed(lines) if line), "")
