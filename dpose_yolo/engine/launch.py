"""Starts the processes of a training on several GPUs of this machine, and says in one line how they ended."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run
from ultralytics.utils import LOGGER
from ultralytics.utils.dist import ddp_cleanup, find_free_network_port, generate_ddp_file

from dpose_yolo.engine import faults, processes
from dpose_yolo.engine.files import LAUNCHED
from dpose_yolo.errors import DPoseError

HANDLED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")  # by torch's launcher, which leaves its handlers in place

AT_ONCE = 5  # seconds: what ends a process later is the launcher, which gives it 30 to end by itself


def launch(trainer: Any) -> None:
    """What the engine does for `device=0,1`, with torch's launcher in this process instead of in one of its own.

    So there is nobody whose traceback comes after the line, and whoever stops this process stops all of them. The run's
    folder, which this process holds, stays; the engine would remove it, and the lock with it.

    Raises:
        DPoseError: when a process fails or is lost, and when this one is told to stop.
    """
    if trainer.args.rect:
        LOGGER.warning("rect=True does not go with several processes: goes on with rect=False")
        trainer.args.rect = False
    refuse_unequal_shares(trainer, trainer.world_size)
    processes.take_ended(trainer.save_dir)
    try:
        file = generate_ddp_file(trainer)
    except ImportError as error:
        raise DPoseError(f"several GPUs need the package cloudpickle: pip install cloudpickle ({error})") from error
    arguments = ["--nproc-per-node", str(trainer.world_size), "--master-port", str(find_free_network_port()), file]
    try:
        with _quiet(), _own_signals(), _own_environment({LAUNCHED: "1"}):
            run(parse_args(arguments))
    except ChildFailedError as error:
        raise DPoseError(_line(trainer, error)) from error
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            LOGGER.warning(f"Stopped; {faults.how_to_go_on(trainer)}")
            raise KeyboardInterrupt from None
        name = signal.Signals(error.sigval).name
        raise DPoseError(f"stopped by {name}, with all its processes; {faults.how_to_go_on(trainer)}") from None
    finally:
        processes.take_ended(trainer.save_dir)
        ddp_cleanup(trainer, file)


def refuse_unequal_shares(trainer: Any, count: int) -> None:
    """Raise `DPoseError` unless every process gets the same share of a batch."""
    batch = trainer.args.batch
    if batch < count or batch % count:
        more = max(count, int(batch // count + 1) * count) if batch >= 1 else 16 * count
        raise DPoseError(f"batch={batch} cannot be shared out to {count} processes: set a multiple, e.g. batch={more}")


def _line(trainer: Any, error: ChildFailedError) -> str:
    """Why processes have failed: what one of them has said, or the signal that ended one."""
    told = processes.take_ended(trainer.save_dir)
    if told and not told["lost"]:
        return str(told["line"])
    rank, first = error.get_first_failure()
    at_first = {r: -f.exitcode for r, f in error.failures.items() if f.timestamp <= first.timestamp + AT_ONCE}
    killed = [r for r, number in sorted(at_first.items()) if number > 0 and number != signal.SIGTERM]
    if killed:
        name = signal.Signals(at_first[killed[0]]).name
        why = ", perhaps for want of memory" if name == "SIGKILL" else ""
        return (
            f"process {killed[0]} of {trainer.world_size} was ended by {name}{why}, so that all were stopped; "
            f"{faults.how_to_go_on(trainer)}"
        )
    if told:
        return str(told["line"])
    return f"process {rank} of {trainer.world_size} failed with exit status {first.exitcode}: its own lines say why"


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch's launcher says nothing; the line does."""
    parts = ("torch.distributed.elastic", "torch.distributed.run")
    names = [n for n in logging.root.manager.loggerDict if n.startswith(parts)]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Handlers are put back as they were."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {name: signal.getsignal(getattr(signal, name)) for name in HANDLED if hasattr(signal, name)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


@contextmanager
def _own_environment(more: dict[str, str]) -> Iterator[None]:
    """The environment, with more in it, is put back as it was."""
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
