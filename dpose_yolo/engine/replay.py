"""Two sets of images in one training set, each drawn by its postures, with exact counts in every batch."""

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
from dpose_yolo.errors import DPoseError
from dpose_yolo.posture.carried import CarriedPostures, PostureChange, carry, posture_change
from dpose_yolo.posture.mixture import PostureMixture
from dpose_yolo.posture.replay import ReplaySampler, old_in_batch
from dpose_yolo.posture.sampler import PostureSampler
from dpose_yolo.posture.weights import expected_counts


class ReplayDataset(YOLOConcatDataset):
    """The new images and then the old (or rendered) ones, with what the trainer asks of a data set.

    Mosaic and its like mix only images of the same part.

    Args:
        new: training set of Ultralytics.
        old: another one.
        names: the settings they come from, for the message.

    Raises:
        DPoseError: for images that are in both.
    """

    def __init__(self, new: Any, old: Any, names: tuple[str, str] = ("the new data", "the old data")):
        """See the class."""
        both = sorted(set(new.im_files) & set(old.im_files))
        if both:
            told = f"{len(both)} images are of {names[0]} and of {names[1]}, e.g. {both[0]}"
            raise DPoseError(f"{told}: take them out of one of the two")
        super().__init__([new, old])

    @property
    def new(self) -> Any:
        """The set of new images."""
        return self.datasets[0]

    @property
    def labels(self) -> list[dict[str, Any]]:
        """The engine's label dicts of all images."""
        return [label for part in self.datasets for label in part.labels]


class MixedDraws:
    """Draws of two sets with exact counts in every batch; stands where `BalancedDraws` does.

    Args:
        dataset: a `ReplayDataset`, or the new images alone.
        new: draws of the new images.
        old: draws of the others, None for none.
        settings: DPOSE settings.
        seed: of the run.
        batches: of an epoch, at least.

    Attributes:
        weights: (N,) relative draws of the new images.
        sampler: what the loader reads, from `install` on.
    """

    share_name = "replay_share"  # setting of the share of the others in a batch
    others = "old"
    file = "replay_draws.csv"

    def __init__(
        self,
        dataset: Any,
        new: BalancedDraws,
        old: BalancedDraws | None,
        settings: dict[str, Any],
        seed: int,
        batches: int,
    ):
        """See the class."""
        self.dataset, self.new, self.old = dataset, new, old
        self.settings, self.seed, self.batches = settings, seed, batches
        self.weights = new.plan.expected.copy()
        self.sampler: ReplaySampler | None = None

    @property
    def table(self) -> PoseTable:
        """The new images' persons."""
        return self.new.table

    @property
    def mixture(self) -> PostureMixture:
        """The posture mixture of the new images."""
        return self.new.mixture

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
        old_count = old_in_batch(batch, self.settings[self.share_name]) if self.old else 0
        new_count = batch - old_count
        images = len(self.weights)
        batches = max(self.batches, -(-images // new_count))
        new = self._new_sampler(batches * new_count)
        old = self._sampler(self.old, self.old.plan.expected, batches * old_count) if self.old else None
        self.sampler = ReplaySampler(new, old, new_count, old_count, images, rank, world)
        loader.batch_sampler.sampler.sampler = self.sampler
        object.__setattr__(loader, "sampler", self.sampler)  # torch forbids plain assignment after construction

    def _new_sampler(self, draws: int) -> PostureSampler:
        return self._sampler(self.new, self.weights, draws)

    def _sampler(self, part: BalancedDraws, weights: np.ndarray, draws: int) -> PostureSampler:
        """Draws of one part, as by one process; the cap on repeats is that of an epoch as long as the part."""
        expected = self._counts(weights, draws)
        balance_partners(part.dataset, expected)
        part.sampler = PostureSampler(expected, part.plan.cluster, self.seed)  # what the part says is expected
        return part.sampler

    def _counts(self, weights: np.ndarray, draws: int) -> np.ndarray:
        return expected_counts(weights, draws, self.settings["repeat_cap"] * draws / len(weights))

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
        """Append the draws of an epoch to `posture_draws.csv` (new images) and to `file` (the others)."""
        self.new.log(save_dir, epoch)
        if self.old:
            self.old.log(save_dir, epoch, self.file)

    def report(self, save_dir: Path, plots: bool) -> None:
        """Say what is drawn."""
        self.new.report(save_dir, plots)
        assert self.sampler is not None
        what = f"{self.sampler.batches} batches an epoch, each of {self.sampler.new_count} new images"
        if self.old:
            what += f" (of {len(self.weights)}) and {self.sampler.old_count} {self.others} ones"
            what += f" (of {len(self.old.table.files)})"
        LOGGER.info(f"Draws: {what}")


class FineTuneDraws(MixedDraws):
    """The draws of a fine-tuning.

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
        replayed = isinstance(dataset, ReplayDataset)
        new = BalancedDraws(dataset.new if replayed else dataset, data, settings, seed)
        super().__init__(dataset, new, None, settings, seed, batches)
        self.known = carried if carried and list(carried.mixture.keypoint_names_) == self.new.table.names else None
        if old_data is not None:
            own = self.known is not None and self.known.scale == settings["posture_scale"]
            mixture = self.known.mixture if own and self.known else None
            self.old = BalancedDraws(dataset.datasets[1], old_data, settings, seed, mixture)
            if self.known is None:  # a model of the engine, or of an earlier version: the old data tells its postures
                nobody = np.zeros((0, 2 * len(self.old.table.names)), np.float32)
                self.known = carry(self.old.mixture, self.old.table.features(), nobody, self.old.table.scale)
        self.change = self._change()
        self.weights = self._weights()

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
