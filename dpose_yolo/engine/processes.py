"""Several processes of one training: how they meet and agree, and how all of them end when one is lost.

Each has a rank among all of them, and one on its machine. Whoever starts them (torchrun, or `dpose train device=0,1`
for one machine) says so in the environment.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous
from ultralytics.utils import RANK

from dpose_yolo.engine import faults
from dpose_yolo.engine.files import ENDED, LAUNCHED
from dpose_yolo.engine.words import one_line
from dpose_yolo.errors import DPoseError

T = TypeVar("T")

GRACE = 5.0  # seconds for a process that was told to stop while it is ending anyway
VISIBLE = 10.0  # seconds until a file that one machine has written has to be seen by the others
PR_SET_PDEATHSIG = 1  # of Linux: a signal to a process when the one that started it ends
# What torch and its backends say when another process is gone, or does not answer in time.
LOST = re.compile(r"gloo|nccl|Connection (closed|reset|refused)|Broken pipe|Timed out|timeout", re.IGNORECASE)

_meeting: Any = None
_shared = 0  # folders so far: of one training each


def world_size() -> int:
    """How many processes there are on all machines."""
    return int(os.environ["WORLD_SIZE"]) if RANK != -1 else 1


def launched() -> bool:
    """Whether this process was started by `launch`."""
    return LAUNCHED in os.environ


def meeting(minutes: float) -> Any:
    """The key-value store that all processes see, at whoever started them.

    Args:
        minutes: after which a process that does not come is taken for lost.
    """
    global _meeting
    if _meeting is None:
        _meeting = next(rendezvous("env://", timeout=timedelta(minutes=minutes)))[0]
    return _meeting


def same_folder(folder: Path | None, minutes: float) -> Path:
    """The run's folder that the first process has chosen.

    Args:
        folder: in the first process, the folder, or None if it could not be taken.
        minutes: to wait for it.

    Raises:
        SystemExit: where the first process has failed, which has said why.
    """
    global _shared
    _shared += 1
    key = f"dpose/folder{_shared}"
    if RANK == 0:
        meeting(minutes).set(key, str(folder or ""))
        return folder or Path()
    found = meeting(minutes).get(key).decode()
    if not found:
        raise SystemExit(1)
    return Path(found)


@contextmanager
def joining(minutes: float) -> Iterator[None]:
    """Within it, a process group that is made meets in our store, and gives processes up after `minutes`."""
    make = dist.init_process_group

    def ours(*args: Any, **kwargs: Any) -> None:
        store = dist.PrefixStore("dpose/group", meeting(minutes))
        make(*args, **{**kwargs, "store": store, "timeout": timedelta(minutes=minutes)})

    dist.init_process_group = ours
    try:
        yield
    finally:
        dist.init_process_group = make


def first_has(value: T) -> T:
    """What the first process has, in all of them; the value itself where there is but one."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    values = [value]
    dist.broadcast_object_list(values, 0)
    return values[0]


def agree(facts: dict[str, Any], folder: Path) -> None:
    """Refuse processes that would train different things, or that do not see one run's folder.

    Args:
        facts: what has to be equal, by the name a user knows it by.
        folder: of the run, whose `args.yaml` the first process has written.

    Raises:
        DPoseError: in every process, naming what differs.
    """
    wanted = first_has(_content(folder))
    until = time.monotonic() + VISIBLE
    while _content(folder) != wanted and time.monotonic() < until:
        time.sleep(0.2)
    own = {"sees": _content(folder) == wanted, "host": os.uname().nodename if hasattr(os, "uname") else "?", **facts}
    told: list[Any] = [None] * world_size()
    dist.all_gather_object(told, own)
    for rank, other in enumerate(told):
        where = f"process {rank} on {other['host']}"
        if not other["sees"]:
            raise DPoseError(
                f"{where} does not see the run's folder {folder}: set project= to a folder that all machines share"
            )
        differing = [k for k in facts if other[k] != told[0][k]]
        if differing:
            values = ", ".join(f"{k} {_short(told[0][k])} and {_short(other[k])}" for k in differing)
            raise DPoseError(
                f"process 0 and {where} would train different things: {values}: give all machines the same command, "
                "data and versions"
            )


def _content(folder: Path) -> bytes | None:
    with suppress(OSError):
        return (folder / "args.yaml").read_bytes()
    return None


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]} ..."


# The end


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process is gone, or has not answered in time."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and bool(LOST.search(str(error))))


def lost_line(trainer: Any) -> str:
    """The line for it."""
    return (
        f"another process of this training was lost{faults.when(trainer)} (killed, out of memory, or its machine is "
        f"gone), so that all were stopped; {faults.how_to_go_on(trainer)}"
    )


def is_first(folder: Path, line: str, lost: bool = False) -> bool:
    """Whether this process is the first to say why the training ends; it leaves the line for whoever started it.

    Args:
        folder: of the run.
        line: why.
        lost: that it only knows of others that are gone.
    """
    try:
        file = os.open(folder / ENDED, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    except OSError:  # a disk that is full or gone: better said twice than not at all
        return True
    with suppress(OSError), os.fdopen(file, "w", encoding="utf-8") as content:
        json.dump({"line": line, "lost": lost}, content)
    return True


def take_ended(folder: Path) -> dict[str, Any]:
    """What `is_first` has left, which is removed; empty if nothing."""
    with suppress(OSError, ValueError):
        found = json.loads((folder / ENDED).read_text(encoding="utf-8"))
        (folder / ENDED).unlink()
        return found
    return {}


@contextmanager
def one_voice(trainer: Any) -> Iterator[None]:
    """Of all processes that fail, the first one says why, once; each of them ends here, at once.

    There is no way back to the caller: torch may wait for its lost connections for long, or for ever, when a process
    ends in the usual way.
    """
    if RANK == -1:
        yield
        return
    try:
        yield
    except KeyboardInterrupt:
        _leave(128 + signal.SIGINT)
    except Exception as error:
        known = isinstance(error, DPoseError)
        lost = not known and is_lost(error)
        line = str(error) if known else lost_line(trainer) if lost else f"{type(error).__name__}: {one_line(error)}"
        first = is_first(trainer.save_dir, line, lost)
        if not (known or lost) or os.environ.get("DPOSE_DEBUG"):
            traceback.print_exc()  # nobody foresaw it: whoever mends it needs the place
        if first and not launched():
            print(f"dpose: error: {line}", file=sys.stderr)
        _leave(1)


def _leave(status: int) -> NoReturn:
    """End this process without torch's farewells."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def end_together(trainer: Any) -> None:
    """From now on this process ends when the one that started it ends, or tells it to, with a line.

    Torch waits for the other processes where Python cannot answer a signal. Python's part that is written in C does:
    it writes the signal's number into a pipe, at which a thread waits.
    """
    if RANK == -1 or threading.current_thread() is not threading.main_thread():
        return
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if sys.platform == "win32":
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)

    def wait() -> None:
        while signal.SIGTERM not in os.read(reading, 1):
            pass
        line = lost_line(trainer)
        if not is_first(trainer.save_dir, line, lost=True):
            time.sleep(GRACE)  # it may be about to say why itself
        elif not launched():
            os.write(2, f"dpose: error: {line}\n".encode())
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait, name="dpose-end", daemon=True).start()
    os.register_at_fork(after_in_child=_answer_as_usual)


def _answer_as_usual() -> None:
    """In a worker of the loader: signals are its own."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
