"""`DurableTrainer`: the engine's `PoseTrainer` that can be killed at any moment and goes on as if it had not been."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ultralytics.cfg import get_save_dir
from ultralytics.engine import trainer as engine_trainer
from ultralytics.utils import LOGGER, RANK, __version__
from ultralytics.utils.torch_utils import unwrap_model

from dpose_yolo.engine import faults, processes, resume
from dpose_yolo.engine.distributed import DistributedTrainer
from dpose_yolo.engine.files import hold_folder, move_into_place, release_folder, staging, strip_checkpoint, sweep
from dpose_yolo.engine.randomness import Loading, data_fingerprint, parts_of, random_states, set_random_states
from dpose_yolo.errors import DPoseError
from dpose_yolo.folders import missing_folders, remove_empty
from dpose_yolo.report.drawing import replacing

ATTEMPTS = 100  # at a numbered folder of one's own, while other trainings start at the same moment


class TrainingComplete(Exception):
    """The run to go on with has done all its epochs; only its end is missing."""


class DurableTrainer(DistributedTrainer):
    """Adds to the engine's trainer what its checkpoints and files lack; an unbroken run is the engine's to the digit.

    Attributes:
        loading: random states of the training loader.
    """

    wdir: Path
    last: Path
    best: Path
    csv: Path
    accumulate: float
    loading: Loading | None = None
    _state: dict[str, Any] | None = None  # what to go on from; None once that is done
    _made: Sequence[Path] = ()  # folders that were not there before: the run's, and those above it
    _begun = False  # whether an epoch has
    _batch = -1  # of the epoch
    _last_step = -1  # batch of the run after which the optimizer stepped last
    _owed: int | None = None  # the same of the broken run, until the first step after it
    _accumulate: float | None = None  # the engine's, while it is held back

    # The folder

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """The engine's; then the run's folder is taken, before anything in it is touched."""
        super().check_resume(overrides)
        if self.resume and not overrides.get("save_dir"):
            checkpoint = Path(str(self.args.resume)).resolve()
            if checkpoint.parent.name != "weights":
                raise DPoseError(
                    f"resume={self.args.resume} does not lie in the folder weights of a run, and its own words "
                    f"({self.args.save_dir}) may mean another run: set save_dir= to the folder to write to"
                )
            self.args.save_dir = str(checkpoint.parent.parent)  # a run that was moved goes on where it lies now
        if RANK > 0:
            self.args.save_dir = str(processes.same_folder(None, self.dpose["lost_after"]))
            return
        folder = None
        try:
            folder = self._take_folder()
        finally:
            if RANK == 0:
                processes.same_folder(folder, self.dpose["lost_after"])

    def _take_folder(self) -> Path:
        """Hold the run's folder, or refuse; one that is numbered gives way to others' that start at the same moment."""
        own = self.args.exist_ok or getattr(self.args, "save_dir", None)
        for attempt in range(ATTEMPTS):
            folder = get_save_dir(self.args)
            self._made = missing_folders(folder)
            try:
                hold_folder(folder)
                break
            except DPoseError:
                self._made = []  # another's
                if own or not folder.is_dir() or attempt + 1 == ATTEMPTS:
                    raise
        self.args.save_dir = str(folder)
        sweep(folder)
        return folder

    def train(self) -> None:
        """The engine's; afterwards, however it ends, the folder is free for others.

        A training that is refused before its first epoch, for its data or its settings, leaves no folder behind.
        """
        try:
            super().train()
        except Exception:
            if not self._begun:
                self.leave_nothing()
            raise
        finally:
            release_folder(self.save_dir)

    def leave_nothing(self) -> None:
        """Remove the folder of a run that has not begun, if this trainer made it."""
        if not self._made:
            return
        folder, self._made = self._made[0], self._made[1:]
        release_folder(folder)
        if not [*folder.rglob("*.pt"), *folder.glob("results.csv")]:  # of several GPUs, other processes do the work
            shutil.rmtree(folder, ignore_errors=True)
            remove_empty(self._made)
        self._made = []

    def _do_train(self) -> None:
        """The engine's; faults are told in one line by one process, with what is kept and how to go on."""
        processes.end_together(self)
        with processes.one_voice(self), faults.told(self):
            try:
                super()._do_train()
            except TrainingComplete:
                self._end_training()

    def _end_training(self) -> None:
        """What the engine does after the last epoch."""
        self.final_eval()
        if RANK in {-1, 0}:
            if self.args.plots:
                self.plot_metrics()
            self.run_callbacks("on_train_end")
        for loader in (self.train_loader, self.test_loader):
            loader.close()

    # Writing

    def save_model(self) -> bool:
        """The engine's checkpoints, each put in its place in one step, and what goes beside `last.pt`.

        `last.pt` comes last: with it, the epoch is done. Until then, that of the epoch before is whole, and so is the
        file that belongs to it.
        """
        names = self.wdir, self.last, self.best
        try:
            with staging(self.wdir) as folder:
                self.wdir, self.last, self.best = folder, folder / self.last.name, folder / self.best.name
                try:
                    saved = super().save_model()
                finally:
                    new = self.last
                    self.wdir, self.last, self.best = names
                beside = resume.state_file(new)
                beside.write_bytes(resume.as_bytes(self._exact_state()))
                for file in sorted(folder.iterdir(), key=lambda f: (f == new, f == beside)):
                    move_into_place(file, self.wdir)
        except OSError as error:
            raise DPoseError(f"cannot write the checkpoint of epoch {self.epoch + 1} to {self.wdir}: "
                             f"{error.strerror}; {faults.how_to_go_on(self)}") from error  # fmt: skip
        self._forget_states(but=beside.name)
        return saved

    def _forget_states(self, but: str = "") -> None:
        """Remove the files of earlier checkpoints."""
        for file in self.wdir.glob("resume-*.pt"):
            if file.name != but:
                file.unlink(missing_ok=True)

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """The engine's `results.csv` in one step; an epoch that is done again replaces its row."""
        kept = ""
        if self.csv.exists():
            lines = self.csv.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = "".join([*lines[:1], *(row for row in lines[1:] if _epoch_of(row) <= self.epoch)])
        csv = self.csv
        with replacing(csv) as temporary:
            if kept:
                temporary.write_text(kept, encoding="utf-8")
            self.csv = temporary
            try:
                super().save_metrics(metrics)
            finally:
                self.csv = csv

    def final_eval(self) -> None:
        """The engine's, on checkpoints that are stripped in one step each, `last.pt` after `best.pt`.

        As long as `last.pt` still has its optimizer, a run that is killed here can be resumed, and comes here again.
        """
        strip = engine_trainer.strip_optimizer
        engine_trainer.strip_optimizer = strip_checkpoint
        try:
            if RANK in {-1, 0} and self.best.exists():
                strip_checkpoint(self.best)
            super().final_eval()
        finally:
            engine_trainer.strip_optimizer = strip
        if RANK in {-1, 0}:
            self._forget_states()

    # State

    def _exact_state(self) -> dict[str, Any]:
        """Everything the next epoch depends on, at the end of an epoch."""
        model = unwrap_model(self.model)
        accelerator = self.accelerator.get_rng_state(self.device).cpu() if self.accelerator else None
        return {
            "epoch": self.epoch,
            "circumstances": self._circumstances(),
            "model": resume.weights_of(model),
            "average": resume.weights_of(self.ema.ema),
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "gradients": resume.gradients_of(model),
            "last_step": self._last_step,
            "stopper": {k: v for k, v in vars(self.stopper).items() if k != "patience"},
            "stop": bool(self.stop),
            "fitness": self.fitness,
            "best_fitness": self.best_fitness,
            "random": random_states(self.train_loader.dataset),
            "accelerator": accelerator,
            "loading": self._watched().state(),
        }

    def _circumstances(self) -> dict[str, Any]:
        """What must be the same for a resumed run to be the unbroken one, by the name a user knows it by."""
        if not hasattr(self, "_fingerprint"):
            self._fingerprint = data_fingerprint(self.train_loader.dataset)
        return {
            "images and labels": self._fingerprint,
            "batch": self.batch_size,
            "batches": len(self.train_loader),
            "imgsz": self.args.imgsz,
            "workers": self.train_loader.num_workers,
            "cache": parts_of(self.train_loader.dataset)[0].cache or "off",
            "close_mosaic": self.args.close_mosaic,
            "freeze": str(self.args.freeze),
            "device": self.device.type,
            "processes": max(self.world_size, 1),
            "torch": str(torch.__version__),
            "ultralytics": __version__,
        }

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """The engine's, then exactly: weights, optimizer, and at the first epoch the random states.

        Raises:
            TrainingComplete: for a run whose epochs are all done.
        """
        if ckpt is None or not self.resume:
            return super().resume_training(ckpt)
        state = resume.read(Path(str(self.args.resume)))
        if ckpt["epoch"] + 1 >= self.epochs or (state and state["stop"]):
            LOGGER.info(f"All epochs of {self.args.resume} are done: only the end of the training is missing")
            self.epoch = self.start_epoch = ckpt["epoch"]
            raise TrainingComplete
        super().resume_training(ckpt)
        if state:
            self._take_state(state)

    def _take_state(self, state: dict[str, Any]) -> None:
        """Go on exactly from what `_exact_state` gave, as far as the circumstances are the same."""
        model = unwrap_model(self.model)
        if not (resume.fits(model, state["model"]) and resume.fits(self.ema.ema, state["average"])):
            LOGGER.warning("Resume: the model is another one than before: goes on from the engine's checkpoint alone")
            return
        resume.load_weights(model, state["model"])
        resume.load_weights(self.ema.ema, state["average"])
        self.ema.updates = state["updates"]
        resume.load_optimizer(self.optimizer, state["optimizer"])
        if state["scaler"]:  # empty without mixed precision, as on the CPU
            self.scaler.load_state_dict(state["scaler"])
        self.stopper.__dict__.update(state["stopper"])
        self.fitness, self.best_fitness = state["fitness"], state["best_fitness"]
        now, before = self._circumstances(), state["circumstances"]
        changed = [k for k in now if now[k] != before.get(k)]
        if changed:
            values = ", ".join(k if k == "images and labels" else f"{k} {before.get(k)} -> {now[k]}" for k in changed)
            LOGGER.warning(
                f"Resume: something has changed ({values}): goes on from the exact weights, but with other random "
                "numbers than the unbroken run"
            )
            return
        self._state = state

    def _watched(self) -> Loading:
        assert self.loading is not None, "there is no training loader yet"
        return self.loading

    def _restore_random(self) -> None:
        """Before the first epoch after a break: everything that set-up has drawn or reset since is put back."""
        state, self._state = self._state, None
        assert state is not None
        resume.load_gradients(unwrap_model(self.model), state["gradients"])
        self._last_step = self._owed = state["last_step"]
        restart = bool(self.args.close_mosaic) and self.epoch == self.epochs - self.args.close_mosaic
        if RANK != -1:
            return  # these are of one process
        self._watched().set_state(state["loading"], restart)
        set_random_states(state["random"], self.train_loader.dataset)
        if self.accelerator and state["accelerator"] is not None:
            self.accelerator.set_rng_state(state["accelerator"], self.device)

    # Keeping count

    def _build_train_pipeline(self) -> None:
        """The engine's; the new loader is watched."""
        super()._build_train_pipeline()
        self.loading = Loading(self.train_loader)
        self._last_step, self._owed, self._accumulate = -1, None, None

    def _close_dataloader_mosaic(self) -> None:
        """The engine's; the loader is restarted after it."""
        super()._close_dataloader_mosaic()
        self._watched().restarted()

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """The engine's, which then steps the optimizer at once."""
        faults.refuse_broken_weights(self, epoch)
        recovered = super()._handle_nan_recovery(epoch)
        if recovered:
            self._last_step = -1
        return recovered

    def optimizer_step(self) -> None:
        """The engine's, and remember when."""
        super().optimizer_step()
        self._last_step = self._position()

    def _position(self) -> int:
        """Number of the present batch, counted over the whole run."""
        return self._batch + len(self.train_loader) * self.epoch

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The engine's; after a break the optimizer waits for as many batches as it would have.

        The engine counts from its start instead, but looks at `accumulate` only after this.
        """
        if self.loading:
            self.loading.take(batch)
        if self._owed is not None:
            if self._position() - self._owed < self.accumulate:
                self._accumulate, self.accumulate = self.accumulate, math.inf
            else:
                self._owed = None
        return super().preprocess_batch(batch)

    def run_callbacks(self, event: str) -> None:
        """The engine's; epochs and batches are counted by them."""
        if event == "on_train_epoch_start":
            self._begun = True
            self._batch = -1
            self._watched().begin_epoch()
            if self._state:
                self._restore_random()
        elif event == "on_train_batch_start":
            self._batch += 1
        elif event == "on_train_batch_end" and self._accumulate is not None:
            self.accumulate, self._accumulate = self._accumulate, None
        super().run_callbacks(event)


def _epoch_of(row: str) -> float:
    """Epoch of a row of `results.csv`; infinite where it is cut off before that."""
    try:
        return int(row.split(",", 1)[0])
    except ValueError:
        return math.inf
