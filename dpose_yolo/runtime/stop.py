"""SIGTERM and SIGHUP end a run as Ctrl-C does: what it has found so far is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ENDING = ("SIGTERM", "SIGHUP")  # systemd, docker and kill; a terminal that is closed. Windows lacks the second


class Stop:
    """A signal handler that interrupts once.

    Attributes:
        over: the run has ended or is ending; signals change nothing any more, so that its files are put in place.
    """

    def __init__(self) -> None:
        """Nothing is over yet."""
        self.over = False

    def __call__(self, *signalled: Any) -> None:
        """Handle a signal.

        Raises:
            KeyboardInterrupt: for the first one, unless the run is over.
        """
        if not self.over:  # systemd sends SIGHUP right after SIGTERM
            self.over = True
            raise KeyboardInterrupt


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Signals that would end the process at once interrupt the block instead; handlers are put back as they were.

    A signal that is ignored stays so: `nohup` is there to outlive the terminal. Only the main thread can set handlers;
    in others nothing changes.
    """
    stop, before = Stop(), dict[signal.Signals, Any]()
    try:
        if threading.current_thread() is threading.main_thread():
            for name in ENDING:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    before[number] = signal.signal(number, stop)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
