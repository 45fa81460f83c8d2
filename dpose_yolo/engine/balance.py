"""Posture-balanced draws inside the engine's training loader, and the record of what was really drawn."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from ultralytics.utils import LOGGER, RANK

from dpose_yolo.engine.partners import PARTNERS, balance_partners
from dpose_yolo.engine.postures import BY_SIZE, averaged_plan, keypoint_names, pose_table, posture_mixtures
from dpose_yolo.engine.processes import first_has
from dpose_yolo.errors import DPoseError
from dpose_yolo.posture.fading import FadingSampler
from dpose_yolo.posture.mixture import PostureMixture
from dpose_yolo.posture.sampler import PostureSampler
from dpose_yolo.posture.weights import evenness_told
from dpose_yolo.report.drawing import replacing


class BalancedDraws:
    """Posture mixture, sampler and draw counts of one training set.

    Args:
        dataset: the engine's training dataset.
        data: the engine's data dictionary.
        settings: DPOSE settings.
        seed: of the run.
        mixture: posture mixture to draw by; None fits one to the set.
        epochs: of the training, along which the balance fades to its `balance_end`; None: it does not.

    Raises:
        DPoseError: for labels no mixture can be fitted to, and for `rect` with images of several shapes.
    """

    def __init__(
        self,
        dataset: Any,
        data: dict[str, Any],
        settings: dict[str, Any],
        seed: int,
        mixture: PostureMixture | None = None,
        epochs: int | None = None,
    ):
        """See the class."""
        if getattr(dataset, "rect", False) and not np.all(dataset.batch_shapes == dataset.batch_shapes[0]):
            raise DPoseError(
                "rect=True keeps images of one shape together in a fixed order, so their postures cannot be balanced: "
                "set rect=False, or balance=0"
            )
        self.dataset = dataset
        self.seed = seed
        self.balance = settings["balance"]
        self.rule = f" ({BY_SIZE})" if mixture is None and settings["clusters"] == "by_size" else ""
        self.skeleton = data.get("skeleton")
        self.table = pose_table(dataset.labels, keypoint_names(data), settings["posture_scale"])
        cache = Path(dataset.label_files[0]).parent
        if mixture is None:
            mixtures = posture_mixtures(self.table, settings, seed, where=f"{data['train']}", cache=cache)
        else:
            mixtures = [mixture]
        self.mixture = mixtures[0]
        self.plan = averaged_plan(self.table, mixtures, settings)
        self.epochs = epochs if settings["balance_end"] < 1 else None
        self.by_path = {f: i for i, f in enumerate(self.table.files)}
        self.drawn = np.zeros(len(self.table.files), dtype=np.int64)
        self.partners = np.zeros_like(self.drawn)
        self.sampler: PostureSampler | None = None

    def install(self, loader: Any, rank: int, world: int) -> None:
        """Put the posture sampler into the engine's loader and the partner draws into its transforms.

        The engine builds its loader without a way to pass a sampler; everything else it sets up (workers, pinned
        memory, seeds, collation) is kept.
        """
        plan = self.plan
        if self.epochs is None:
            self.sampler = PostureSampler(plan.expected, plan.cluster, self.seed, rank, world)
        else:
            self.sampler = FadingSampler(plan.expected, plan.at_end, plan.cluster, self.epochs, self.seed, rank, world)
        batches = loader.batch_sampler.sampler  # the engine's repeater around torch's BatchSampler
        batches.sampler = self.sampler
        object.__setattr__(loader, "sampler", self.sampler)  # torch forbids plain assignment after construction
        balance_partners(self.dataset, self.plan.expected)

    def share(self) -> None:
        """In several processes: draw what the first one would; another machine may have fitted another mixture."""
        self.plan = first_has(self.plan)

    def seek(self, epoch: int) -> None:
        """The next pass through the loader draws this epoch."""
        if self.sampler:
            self.sampler.seek(epoch)

    def count(self, batch: dict[str, Any]) -> None:
        """Count the images of a training batch and the partners that were mixed into them."""
        np.add.at(self.drawn, [self.by_path[f] for f in batch["im_file"]], 1)
        np.add.at(self.partners, [i for sample in batch.pop(PARTNERS, ()) for i in sample], 1)

    def _take_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Draws and partners since the last call, over all ranks."""
        both = torch.from_numpy(np.stack([self.drawn, self.partners]))
        self.drawn, self.partners = np.zeros_like(self.drawn), np.zeros_like(self.partners)
        if dist.is_available() and dist.is_initialized():
            both = both.to("cuda" if dist.get_backend() == "nccl" else "cpu")
            dist.all_reduce(both)
        drawn, partners = both.cpu().numpy()
        return drawn, partners

    def _expected(self, epoch: int) -> np.ndarray:
        """(N,) draws of each image that the epoch aims at."""
        return self.sampler.expected(epoch) if self.sampler else self.plan.expected

    def log(self, save_dir: Path, epoch: int, name: str = "posture_draws.csv") -> None:
        """Append the effective draws of an epoch to a CSV: one row a cluster."""
        drawn, partners = self._take_counts()
        if RANK not in {-1, 0}:
            return
        plan = self.plan
        natural = plan.shares(np.ones(len(drawn)))
        expected = plan.shares(self._expected(epoch))
        effective = plan.shares(drawn + partners)
        main, mixed = plan.counts(drawn), plan.counts(partners)
        path = save_dir / name
        head = ["epoch", "cluster", "natural", "expected", "effective", "draws", "partners"]
        kept = []
        if path.exists():  # an epoch that is done again, after a NaN or by resume, replaces its rows
            with open(path, newline="", encoding="utf-8") as file:
                kept = [row for row in csv.reader(file) if row and row[0].isdigit() and int(row[0]) <= epoch]
        shares = np.stack([natural, expected, effective], 1)
        rows = [
            [epoch + 1, j, *(f"{v:.5f}" for v in shares[j]), int(main[j]), int(mixed[j])] for j in range(len(natural))
        ]
        with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([head, *kept, *rows])

    def report(self, save_dir: Path, plots: bool) -> None:
        """Say what the balance does and keep mixture and atlas with the run."""
        natural = self.plan.shares(np.ones(len(self.drawn)))
        draws = self._expected(0)
        expected = self.plan.shares(draws)
        end = self.plan.shares(self.plan.at_end)
        later = f", at the end {end.min():.1%}-{end.max():.1%}" if self.epochs else ""
        LOGGER.info(
            f"Postures: {len(natural)} clusters of {len(self.table.keypoints)} poses{self.rule}; "
            f"share a cluster {natural.min():.1%}-{natural.max():.1%}, "
            f"drawn {expected.min():.1%}-{expected.max():.1%}{later}; "
            f"most draws of one image {draws.max():.1f}"
        )
        LOGGER.info(f"Postures: {evenness_told(natural, expected, self.balance, self.table.labelled_poses())}")
        if self.mixture.left_out_:
            names = ", ".join(self.table.names[k] for k in self.mixture.left_out_)
            LOGGER.info(f"Postures: left out of the postures, almost never labelled: {names}")
        self.mixture.save(save_dir / "postures.npz", key=self.mixture.key_, keypoint_names=self.table.names)
        if plots:
            from dpose_yolo.report.atlas import save_atlas

            save_atlas(self.table, self.mixture, self.plan, save_dir / "postures.png", skeleton=self.skeleton)
