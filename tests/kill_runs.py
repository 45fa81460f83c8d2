"""Kill a small training again and again, and look whether it ends with the weights of one that was left alone.

    python tests/kill_runs.py FOLDER 50 [SEED]         50 kills at random
    python tests/kill_runs.py FOLDER batch:1:0 ...     one kill for each of these places
    python tests/kill_runs.py FOLDER finetune ...      the same of `dpose finetune` without old data, with its table

Each run is a forked process in a folder of its own, with its own data set and no caches. It is killed once, then the
same line (`resume=True`) is given again. The moments are random, of the first three kinds in turn, or named:

    cpu:NS              SIGKILL after so many nanoseconds of processor time; half of it where the run ends before
    file:N              SIGKILL before the N-th change of a file: opened for writing, renamed, removed, a folder made
    torn:N:BYTES        the kernel ends the process in the middle of a write, at the first file that grows longer than
                        BYTES from the N-th change on (RLIMIT_FSIZE)
    batch:EPOCH:BATCH   SIGKILL after a batch
    named:NAME:N:BYTES  as torn, from the N-th time on that a file or folder of this name is opened for writing or made
    call:NAME:N         SIGKILL before the N-th call of a function, by its full name

The last line is `N of KILLS equal`. Exit status 0 where all are.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", ULTRALYTICS_SAFE_LOAD="true")
os.environ.update(MPLBACKEND="Agg", OMP_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).parent))

# What a training imports late: once here, not in every child.
import polars  # noqa: F401
import sklearn.mixture  # noqa: F401
import torch
import torch._dynamo
from resume_cases import Watched, checkpoint_digest, make_folder, short_run

from dpose_yolo import DPoseError
from dpose_yolo.commands import finetune as finetune_command
from dpose_yolo.engine import finetune

LONGEST = 6000  # bytes after which a write is torn at most; the largest files are far longer
torch.set_num_threads(1)


class Recording(Watched):
    """Adds the digest of each epoch to a file, and may kill itself after a batch."""

    kill_at: tuple[int, int] | None = None

    def run_callbacks(self, event: str) -> None:
        super().run_callbacks(event)
        if event == "on_train_batch_end" and (self.epoch, self._batch) == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if event == "on_model_save":
            with open(self.save_dir.parent / "digests.txt", "a", encoding="utf-8") as file:
                file.write(f"{self.epoch} {self.digests[self.epoch]}\n")


class Tuning(Recording, finetune.FineTuneTrainer):
    """The same of a fine-tuning."""


def settings(folder: Path) -> dict[str, Any]:
    """The command that is given again and again."""
    return {**short_run(folder), "name": "run", "resume": True}


def tuning(folder: Path) -> dict[str, Any]:
    """The same of a fine-tuning: 2 epochs of 60 batches, three measurements for the average, two for the table."""
    own = {"model": str(folder.parent / "start" / "run" / "weights" / "last.pt"), "epochs": 2, "clusters": 2}
    own["lr0"] = 0.02  # the start knows nothing; were that measured, no average would be
    short = {k: v for k, v in settings(folder).items() if k in ("data", "project", "batch", "device", "verbose")}
    return {**short, **own, "name": "run", "resume": True, "refits": 0, "split": "val", "bootstrap": 20}


def go(folder: Path) -> None:
    """Train, or go on; the folder beside which there is a model to start from holds a fine-tuning."""
    if folder.name == "start" or not (folder.parent / "start").is_dir():
        Recording(**settings(folder)).train()
        return
    finetune.FineTuneTrainer = Tuning  # type: ignore[misc]
    finetune_command.main(tuning(folder))


def on_call(name: str, number: int) -> None:
    """Kill this process before the N-th call of a function."""
    place, _, function = name.rpartition(".")
    module, calls = import_module(place), 0
    original = getattr(module, function)

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(module, function, counted)


def on_file_changes(folder: Path, then: Callable[[int, str], None]) -> None:
    """Call `then(number, name)` before each change of a file of run or data; the name where one is written or made.

    Torch opens the files it writes by itself, unseen; they lie in a folder that is made before.
    """
    count = 0
    places = (str(folder / "run"), str(folder / "mini"))

    def hook(event: str, args: tuple) -> None:
        nonlocal count
        changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if (changes or writes) and str(args[0]).startswith(places):
            count += 1
            then(count, Path(str(args[0])).name if writes or event == "os.mkdir" else "")

    sys.addaudithook(hook)


def limit_files(length: int) -> None:
    """From now on the kernel ends this process in the write that makes a file longer than this."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, resource.RLIM_INFINITY))


def child(folder: Path, kill: str) -> None:
    """Train, or be killed; never returns."""
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    kind, *place = kill.split(":")
    changes, writes, named = 0, 0, 0  # numbers of the last change and of the last write, and writes of the named file
    if kind == "batch":
        Recording.kill_at = (int(place[0]), int(place[1]))
    if kind == "call":
        on_call(place[0], int(place[1]))

    def changing(number: int, name: str) -> None:
        nonlocal changes, writes, named
        changes, writes = number, number if name else writes
        if kind == "file" and number == int(place[0]):
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "torn" and name and number >= int(place[0]):
            limit_files(int(place[1]))
        if kind == "named" and name == place[0]:
            named += 1
            if named == int(place[1]):
                limit_files(int(place[2]))

    on_file_changes(folder, changing)
    status = 0
    try:
        go(folder)
    except DPoseError as error:
        print(f"dpose: error: {error}")
        status = 0 if "nothing to resume" in str(error) else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    if not kill:
        (folder / "changes.txt").write_text(f"{changes} {writes}")
    sys.stdout.flush()
    os._exit(status)


def cpu_ns(pid: int) -> int:
    """Processor time of a process so far, 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return 0


def start(folder: Path, kill: str = "") -> tuple[int, int]:
    """Run a child to its end; wait status and processor time."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        child(folder, kill)
    limit = int(kill[4:]) if kill.startswith("cpu:") else None
    used = 0
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status, used
        used = max(used, cpu_ns(pid))
        if limit is not None and used >= limit:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def outcome(folder: Path) -> dict[str, Any]:
    """What must be equal."""
    run = folder / "run"
    rows = [line.split(",")[0] for line in (run / "results.csv").read_text().splitlines()[1:]]
    left = [p.name for p in (run / "weights").iterdir() if p.name not in ("last.pt", "best.pt")]
    left += [p.name for p in run.glob(".*tmp*")]
    table = [(run / f).read_text() for f in ("finetune.csv", "finetune.md") if (run / f).is_file()]
    return {
        "table": "".join(table).replace(str(folder), ""),
        "last": checkpoint_digest(run / "weights" / "last.pt"),
        "best": checkpoint_digest(run / "weights" / "best.pt"),
        "epochs": rows,
        "left": left,
        "states": set((folder / "digests.txt").read_text().split("\n")),
    }


def equal_outcomes(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether all is equal; an epoch whose checkpoint was the last thing before the kill has left no digest."""
    other = found.get("states", {""}) - wanted["states"]
    return not other and {**found, "states": None} == {**wanted, "states": None}


def at_random(count: int, seed: int, cpu: int, changes: int, writes: int) -> Iterator[str]:
    """That many moments of a run of so much processor time and so many changes of files, the last writing one."""
    rng = random.Random(seed)
    for number in range(count):
        yield (
            f"cpu:{rng.randrange(int(cpu * 0.97))}",
            f"file:{rng.randrange(1, changes + 1)}",
            f"torn:{rng.randrange(1, writes + 1)}:{rng.randrange(LONGEST)}",
        )[number % 3]


def epochs_done(folder: Path) -> int:
    """Epochs whose checkpoint was complete when a run was killed."""
    digests = folder / "digests.txt"
    return digests.read_text().count("\n") if digests.is_file() else 0


def main(root: Path, kills: list[str], seed: int = 0) -> int:
    """Kill, compare, report; the exit status."""
    began = time.time()
    if kills[0] == "finetune":
        kills = kills[1:]
        status, _ = start(make_folder(root / "start"))
        assert status == 0, (root / "start" / "log.txt").read_text()[-2000:]
    whole = make_folder(root / "whole")
    status, cpu = start(whole)
    assert status == 0, (whole / "log.txt").read_text()[-2000:]
    wanted = outcome(whole)
    changes, writes = map(int, (whole / "changes.txt").read_text().split())
    print(f"unbroken: {cpu / 1e9:.2f} s of processor time, {changes} changes of files")
    if kills[0].isdigit():
        kills = list(at_random(int(kills[0]), seed, cpu, changes, writes))
    equal = missed = 0
    for number, kill in enumerate(kills):
        folder = make_folder(root / f"{number:02d}")
        status, _ = start(folder, kill)
        while kill.startswith("cpu:") and status == 0:  # this run took less time than the unbroken one
            shutil.rmtree(folder)
            folder, kill = make_folder(folder), f"cpu:{int(kill[4:]) // 2}"
            status, _ = start(folder, kill)
        epochs = epochs_done(folder)
        if os.WIFSIGNALED(status):
            how = signal.Signals(os.WTERMSIG(status)).name
        else:
            missed += 1  # no file was long enough any more: the run ended before the kill
            how = f"ended before, status {status}"
        status, _ = start(folder)
        found = outcome(folder) if status == 0 else {"status": status}
        same = equal_outcomes(found, wanted)
        equal += same
        print(
            f"{number:2d} {kill}: {how} after {epochs} epochs: {'equal' if same else f'NOT EQUAL {found}'}", flush=True
        )
        if same:
            shutil.rmtree(folder)
    print(f"{equal} of {len(kills)} equal, {missed} of them not killed, {time.time() - began:.0f} s")
    return 0 if equal == len(kills) and not missed else 1


if __name__ == "__main__":
    asked = sys.argv[2:] or ["50"]
    number = int(asked.pop()) if len(asked) == 2 and asked[0].isdigit() else 0
    sys.exit(main(Path(sys.argv[1]), asked, number))
