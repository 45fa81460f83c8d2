"""Trainings in several processes, run as a script by each of them:

    torchrun --nproc-per-node 2 tests/rank_cases.py dpose train ...        the command in each of two processes
    python tests/rank_cases.py gpus dpose train ...                        as `device=0,1` starts them, but on the CPU
    torchrun --nproc-per-node 2 tests/rank_cases.py record OUT {json}      train, and write what was drawn and learnt
    python tests/rank_cases.py halves OUT {json}                           the same in one process, share by share

`RANK_FAULT=rank:epoch:batch:what` makes one of them fail at the start of a batch: by a signal's name, or by losing the
image of that name.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", ULTRALYTICS_SAFE_LOAD="true", MPLBACKEND="Agg")
sys.path.insert(0, str(Path(__file__).parent))

import torch
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

import dpose_yolo.engine.trainer as trainer_module
from dpose_yolo import DPoseTrainer, cli

torch.set_num_threads(1)


class Recorded(DPoseTrainer):
    """Keeps the images of every batch and its loss; leaves its process number, and fails where it is told to."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.seen: dict[int, list[list[str]]] = {}
        self.losses: dict[int, list[float]] = {}
        if RANK != -1:
            (self.save_dir / f"rank{RANK}.pid").write_text(str(os.getpid()))

    def get_model(self, *args: Any, **kwargs: Any) -> Any:
        with torch.random.fork_rng():  # the engine's seed, by which it draws later, is another in each process
            torch.manual_seed(7)
            return super().get_model(*args, **kwargs)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        self.seen.setdefault(self.epoch, []).append([Path(f).name for f in batch["im_file"]])
        return super().preprocess_batch(batch)

    def run_callbacks(self, event: str) -> None:
        super().run_callbacks(event)
        if event == "on_train_batch_end":
            self.losses.setdefault(self.epoch, []).append(float(self.loss.detach()) / max(self.world_size, 1))
        fault = os.environ.get("RANK_FAULT")
        if fault and event == "on_train_batch_start":
            rank, epoch, batch, what = fault.split(":")
            if (RANK, self.epoch, self._batch) == (int(rank), int(epoch), int(batch)):
                (self.save_dir / "fault.time").write_text(str(time.time()))
                if what.startswith("SIG"):
                    os.kill(os.getpid(), getattr(signal, what))
                else:
                    raise FileNotFoundError(f"Image Not Found {what}")


class Halves(Recorded):
    """One process that goes through the shares of two, one after the other: half the batch, a step after two."""

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        loader = super().get_dataloader(dataset_path, batch_size, rank, mode)
        if mode == "train":
            draws = self.draws.sampler.draws

            def in_shares(epoch: int) -> Any:
                both = draws(epoch).reshape(-1, batch_size, 2)  # of two processes, one draws the even places
                return both.transpose(0, 2, 1).reshape(-1)

            self.draws.sampler.draws = in_shares
        return loader


class ManyGpus(Recorded):
    """Believes that `device=0,1` was given."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if RANK == -1:
            self.ddp, self.world_size = True, 2


def record(trainer: Recorded, folder: Path) -> None:
    """Train, and write what this process has drawn, its losses, and the weights in full precision."""
    trainer.train()
    weights = {k: v.detach().clone() for k, v in unwrap_model(trainer.model).named_parameters()}
    draws, epochs = trainer.draws, range(trainer.epochs)  # the balance fades: other counts in each epoch
    expected = None if draws is None else [draws.sampler.expected(epoch) for epoch in epochs]
    names = [] if trainer.draws is None else [Path(f).name for f in trainer.draws.table.files]
    torch.save(
        {
            "seen": trainer.seen, "losses": trainer.losses, "weights": weights, "save_dir": str(trainer.save_dir),
            "expected": expected and [dict(zip(names, counts.tolist(), strict=True)) for counts in expected],
        },
        folder / f"{max(RANK, 0)}.pt",
    )  # fmt: skip


def main(words: list[str]) -> None:
    """See the module."""
    if words[0] in ("record", "halves"):
        trainer = Recorded if words[0] == "record" else Halves
        record(trainer(**json.loads(words[2])), Path(words[1]))
        return
    # Under the name of a module, so that a process that is started by another finds the class.
    import rank_cases

    trainer_module.DPoseTrainer = rank_cases.Recorded
    if words[0] == "gpus":
        words, trainer_module.DPoseTrainer = words[1:], rank_cases.ManyGpus
    sys.argv = words
    cli.main()


if __name__ == "__main__":
    main(sys.argv[1:])
