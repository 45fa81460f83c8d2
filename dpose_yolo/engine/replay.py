"""New and old images in one training set, each drawn evenly over its postures, with exact counts in every batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.data.dataset import YOLOConcatDataset
from ultralytics.utils import LOGGER

from dpose_yolo.engine.balance import BalancedDraws
from dpose_yolo.engine.partners import PARTNERS, balance_partners
from dpose_yolo.engine.postures import PoseTable
from dpose_yolo.engine.processes import first_has
from dpose_yolo.posture.carried import CarriedPostures, PostureChange, carry, posture_change
from dpose_yolo.posture.mixture import PostureMixture
from dpose_yolo.posture.replay import ReplaySampler, old_in_batch
from dpose_yolo.posture.sampler import PostureSampler
from dpose_yolo.posture.weights import expected_counts


class ReplayDataset(YOLOConcatDataset):
    """The new images and then the old ones, with what the trainer asks of a data set.

    Mosaic and its like mix only images of the same part.
    """

    def __init__(self, new: Any, old: Any):
        """Join two of the engine's training sets."""
        super().__init__([new, old])

    @property
    def new(self) -> Any:
        """The set of new images."""
        return self.datasets[0]

    @property
    def labels(self) -> list[dict[str, Any]]:
        """The engine's label dicts of all images."""
        return [label for part in self.datasets for label in part.labels]


class FineTuneDraws:
    """The draws of a fine-tuning; stands where `BalancedDraws` does.

    Args:
        dataset: the new images, or a `ReplayDataset`.
        data: the engine's data dictionary of the new data.
        old_data: that of the old data.
        settings: DPOSE settings, with those of fine-tuning.
        seed: of the run.
        carried: postures that the starting model knows; None if they are not known.
        batches: of an epoch, at least.
    """

    def __init__(
        self,
        dataset: Any,
        data: dict[str, Any],
        old_data: dict[str, Any] | None,
        settings: dict[str, Any],
        seed: int,
        carried: CarriedPostures | None,
        batches: int,
    ):
        """See the class."""
        self.dataset, self.settings, self.seed, self.batches = dataset, settings, seed, batches
        replayed = isinstance(dataset, ReplayDataset)
        self.new = BalancedDraws(dataset.new if replayed else dataset, data, settings, seed)
        self.known = carried if carried and list(carried.mixture.keypoint_names_) == self.new.table.names else None
        self.old: BalancedDraws | None = None
        if old_data is not None:
            own = self.known is not None and self.known.scale == settings["posture_scale"]
            mixture = self.known.mixture if own and self.known else None
            self.old = BalancedDraws(dataset.datasets[1], old_data, settings, seed, mixture)
            if self.known is None:  # a model of the engine, or of an earlier version: the old data tells its postures
                nobody = np.zeros((0, 2 * len(self.old.table.names)), np.float32)
                self.known = carry(self.old.mixture, self.old.table.features(), nobody, self.old.table.scale)
        self.change = self._change()
        self.weights = self._weights()
        self.sampler: ReplaySampler | None = None

    @property
    def table(self) -> PoseTable:
        """The new images' persons."""
        return self.new.table

    @property
    def mixture(self) -> PostureMixture:
        """The posture mixture of the new images."""
        return self.new.mixture

    def _change(self) -> PostureChange | None:
        """How the new postures differ from those that the model knows."""
        if self.known is None:
            return None
        features = replace(self.new.table, scale=self.known.scale).features()
        return posture_change(self.known, features, self.mixture.assign(self.new.table.features()))

    def _weights(self) -> np.ndarray:
        """(N,) relative draws of the new images: balanced over postures, more of those that the model has not seen."""
        weights = self.new.plan.expected.copy()
        if self.change is not None:
            images = len(weights)
            persons = np.bincount(self.new.table.image, minlength=images)
            foreign = np.bincount(self.new.table.image, self.change.foreign.astype(float), images)
            weights *= 1 + (self.settings["new_postures"] - 1) * foreign / np.maximum(persons, 1)
        return weights

    def share(self) -> None:
        """In several processes: draw what the first one would."""
        for part in (self.new, self.old):
            if part is not None:
                part.share()
        self.weights = first_has(self.weights)

    def install(self, loader: Any, rank: int, world: int) -> None:
        """Put the samplers into the engine's loader and the partner draws into the transforms of each part.

        Counted is in the batch of all ranks: the share of old images does not depend on the number of processes.
        """
        batch = loader.batch_size * world
        old_count = old_in_batch(batch, self.settings["replay_share"]) if self.old else 0
        new_count = batch - old_count
        images = len(self.weights)
        batches = max(self.batches, -(-images // new_count))
        new = self._sampler(self.new, self.weights, batches * new_count)
        old = self._sampler(self.old, self.old.plan.expected, batches * old_count) if self.old else None
        self.sampler = ReplaySampler(new, old, new_count, old_count, images, rank, world)
        loader.batch_sampler.sampler.sampler = self.sampler
        object.__setattr__(loader, "sampler", self.sampler)  # torch forbids plain assignment after construction

    def _sampler(self, part: BalancedDraws, weights: np.ndarray, draws: int) -> PostureSampler:
        """Draws of one part, as by one process; the cap on repeats is that of an epoch as long as the part."""
        expected = expected_counts(weights, draws, self.settings["repeat_cap"] * draws / len(weights))
        balance_partners(part.dataset, expected)
        part.sampler = PostureSampler(expected, part.plan.cluster, self.seed)  # what the part says is expected
        return part.sampler

    def seek(self, epoch: int) -> None:
        """The next pass through the loader draws this epoch."""
        if self.sampler:
            self.sampler.seek(epoch)

    def count(self, batch: dict[str, Any]) -> None:
        """Count the images of a training batch, each with its part."""
        files, partners = batch["im_file"], batch.pop(PARTNERS, None)
        for part in (self.new, self.old):
            if part is None:
                continue
            own = [i for i, f in enumerate(files) if f in part.by_path]
            told = {} if partners is None else {PARTNERS: [partners[i] for i in own]}
            part.count({"im_file": [files[i] for i in own], **told})

    def old_images(self, batch: dict[str, Any]) -> list[int]:
        """Which images of a batch are old ones, by index."""
        old = self.old.by_path if self.old else {}
        return [i for i, file in enumerate(batch["im_file"]) if file in old]

    def log(self, save_dir: Path, epoch: int) -> None:
        """Append the draws of an epoch to `posture_draws.csv` (new images) and `replay_draws.csv` (old ones)."""
        self.new.log(save_dir, epoch)
        if self.old:
            self.old.log(save_dir, epoch, "replay_draws.csv")

    def report(self, save_dir: Path, plots: bool) -> None:
        """Say what is drawn, and how the new postures differ from those that the model knows."""
        self.new.report(save_dir, plots)
        assert self.sampler is not None
        what = f"{self.sampler.batches} batches an epoch, each of {self.sampler.new_count} new images"
        if self.old:
            what += f" (of {len(self.weights)}) and {self.sampler.old_count} old ones (of {len(self.old.table.files)})"
        LOGGER.info(f"Draws: {what}")
