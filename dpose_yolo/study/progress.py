"""How far a study is: one bar over the epochs of all trainings, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpose_yolo.study.state import epochs_done

if TYPE_CHECKING:
    from rich.console import Console

SILENCE = 120.0  # seconds between plain lines while nothing starts or ends


class Progress:
    """Progress of the trainings of one command; use as a context.

    Args:
        folders: folder of each training that is to run.
        epochs: number of epochs of each.
        finished: trainings that earlier commands finished.
        console: where to; by default standard output.
        clock: seconds; for tests.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        epochs: Mapping[str, int],
        finished: int = 0,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """See the class."""
        from dpose_yolo.report.plain import plain_console

        self.console = console or plain_console()
        self.folders, self.epochs = folders, dict(epochs)
        self.done = {name: epochs_done(folder / "results.csv") for name, folder in folders.items()}
        self.before = dict(self.done)
        self.finished, self.total = finished, finished + len(folders)
        self.running: list[str] = []
        self.clock = clock
        self.begin = self.spoken = clock()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        """Show the bar."""
        if self.console.is_terminal:
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as RichProgress

            text = TextColumn("{task.description}", markup=False)
            self._bar = RichProgress(BarColumn(30), text, console=self.console, refresh_per_second=2)
            self._bar.start()
            self._task = self._bar.add_task("", total=max(sum(self.epochs.values()), 1))
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the bar as it was last."""
        if self._bar:
            self._bar.stop()

    def started(self, name: str) -> None:
        """A training begins."""
        self.running.append(name)
        done = self.done[name]
        self._say(f"{name} starts" + (f" again after epoch {done}" if done else ""))

    def ended(self, name: str, failure: str | None = None) -> None:
        """A training is over; with the reason if it failed."""
        self.look()
        self.running.remove(name)
        self.finished += 1
        self.epochs[name] = self.done[name]  # nothing is left to do for it, whatever became of it
        self._say(f"{name} failed: {failure}" if failure else f"{name} finished")

    def look(self) -> None:
        """Read how far the running trainings are, and show it."""
        for name in self.running:
            # A training that starts anew begins at 0 again, and then its earlier epochs were for nothing.
            self.done[name] = min(epochs_done(self.folders[name] / "results.csv"), self.epochs[name])
            self.before[name] = min(self.before[name], self.done[name])
        if self._bar:
            done, total = sum(self.done.values()), max(sum(self.epochs.values()), 1)
            self._bar.update(self._task, completed=done, total=total, description=self.state())
        elif self.running and self.clock() - self.spoken > SILENCE:
            self._say(", ".join(self.running))

    def left(self) -> float | None:
        """Seconds to go at the pace so far, None before the first epoch."""
        made = sum(self.done[n] - self.before[n] for n in self.done)
        rest = sum(self.epochs[n] - self.done[n] for n in self.done)
        return (self.clock() - self.begin) / made * rest if made > 0 else None

    def state(self) -> str:
        """`2/12 trainings, 45/240 epochs, 12 min left`."""
        epochs = f"{sum(self.done.values())}/{sum(self.epochs.values())} epochs"
        left = self.left()
        rest = "evaluating" if self.running and left == 0 else f"{duration(left)} left"
        return f"{self.finished}/{self.total} trainings, {epochs}, {rest}"

    def _say(self, text: str) -> None:
        self.spoken = self.clock()
        # Names and messages are not markup.
        self.console.print(text if self._bar else f"[{self.state()}] {text}", markup=False, highlight=False)


def duration(seconds: float | None) -> str:
    """A time in words: 40 s, 12 min, 3 h 05 min; ? when not known."""
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
