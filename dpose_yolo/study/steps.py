"""Training steps on demand: the process behind one arm of `dpose bench train`.

`python -m dpose_yolo.study.steps SETTINGS.json` builds a trainer and runs the engine's own training loop, but stands
still before a step until it is told `go N` on standard input. It answers with one JSON line a turn on standard output:
what each of the N steps took. The end of the input ends it. So several arms take turns on one machine, each in a
process of its own, whose peak memory is that of the arm alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from dpose_yolo.engine.allocator import keep_freed_memory
from dpose_yolo.errors import DPoseError
from dpose_yolo.peers.memory import resident_peak


class _Over(BaseException):
    """Leaves the training loop; no error handling on the way may take it for a failure."""


class Steps:
    """Callbacks that stop, go and time a trainer.

    Attributes:
        times: seconds of each step of this turn: from the batch at hand to the weights changed.
        waits: seconds the loop waited for each batch before that step; NaN where an epoch began.
        between: seconds from the last step of an epoch to the first of the next, in this turn.
    """

    def __init__(self, orders: TextIO, answers: TextIO):
        """See the class."""
        self.orders, self.answers = orders, answers
        self.left = 0
        self.begun = self.ended = 0.0
        self.epoch = -1
        self._clear()

    def _clear(self) -> None:
        self.times: list[float] = []
        self.waits: list[float] = []
        self.between: list[float] = []

    def before(self, trainer: Any) -> None:
        """A batch is at hand: stop here if the turn is over."""
        now = _now(trainer)
        wait = now - self.ended if self.ended else float("nan")
        if trainer.epoch != self.epoch:
            if self.ended:
                self.between.append(wait)
            self.epoch, wait = trainer.epoch, float("nan")
        if self.left == 0:
            self._answer(trainer)
            self._await()
        self.waits.append(wait)
        self.begun = _now(trainer)

    def after(self, trainer: Any) -> None:
        """A step is done."""
        self.ended = _now(trainer)
        self.times.append(self.ended - self.begun)
        self.left -= 1

    def _answer(self, trainer: Any) -> None:
        found = {
            "times": self.times,
            "waits": [None if w != w else w for w in self.waits],
            "between": self.between,
            "batches": len(trainer.train_loader),
            "images": len(trainer.train_loader.dataset),
            "batch": trainer.batch_size,
            "accumulate": trainer.accumulate,
            "device": str(trainer.device),
            "losses": list(trainer.loss_names),
            **peak_memory(),
        }
        self._clear()
        print(json.dumps(found), file=self.answers, flush=True)

    def _await(self) -> None:
        word, _, number = self.orders.readline().strip().partition(" ")
        if word != "go":
            raise _Over
        self.left = int(number)


def _now(trainer: Any) -> float:
    """Seconds, after all work given to a GPU is done."""
    if trainer.device.type == "cuda":
        import torch

        torch.cuda.synchronize(trainer.device)
    return time.perf_counter()


def peak_memory() -> dict[str, float | None]:
    """Highest memory of this process so far, MB: of main memory, and what tensors took on a GPU."""
    import torch

    on_gpu = torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else None
    return {"memory_mb": resident_peak(), "gpu_mb": on_gpu}


def build(settings: dict[str, Any], plain: bool) -> Any:
    """The trainer of an arm: the engine's own, or ours.

    Args:
        settings: of the training.
        plain: the engine's `PoseTrainer`, which knows no DPOSE settings.
    """
    # All arms alike, the engine's too: without it one and the same arm takes a tenth more or less from start to start.
    keep_freed_memory()
    if plain:
        from ultralytics.models.yolo.pose import PoseTrainer

        from dpose_yolo.engine.checks import engine_errors, require_model_file
        from dpose_yolo.engine.ready import ready_engine

        ready_engine()
        with engine_errors("the settings cannot be used"):
            return PoseTrainer(overrides={**settings, "model": require_model_file(settings["model"])})
    from dpose_yolo.engine.trainer import DPoseTrainer

    return DPoseTrainer(**settings)


def main(arguments: list[str]) -> int:
    """Serve turns until told to end; the exit status."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the engine prints goes to the log
    asked = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    try:
        trainer = build(asked["settings"], asked["plain"])
        steps = Steps(sys.stdin, answers)
        trainer.add_callback("on_train_batch_start", steps.before)
        trainer.add_callback("on_train_batch_end", steps.after)
        trainer.train()
    except _Over:
        return 0
    except DPoseError as error:
        print(f"dpose: error: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
