"""Replay in several processes: together they have the very batches of one, with its number of old images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torch.utils.data import BatchSampler

from dpose_yolo import DPoseError
from dpose_yolo.engine import replay as engine_replay
from dpose_yolo.engine.replay import FineTuneDraws
from dpose_yolo.posture.replay import ReplaySampler, old_in_batch
from dpose_yolo.posture.sampler import PostureSampler
from dpose_yolo.posture.weights import expected_counts

IMAGES, OLD, BATCHES = 20, 50, 6  # new images, old ones, batches of an epoch


def sampler(batch: int, share: float, rank: int = 0, world: int = 1) -> ReplaySampler:
    """What one of several processes draws; the old images are of two clusters, the second four times as rare."""
    old = old_in_batch(batch, share)
    group = (np.arange(OLD) >= 40).astype(int)
    even = np.where(group == 0, 0.5 / 40, 0.5 / 10)
    new_part = PostureSampler(expected_counts(np.ones(IMAGES), BATCHES * (batch - old)), np.zeros(IMAGES, int), 3)
    old_part = PostureSampler(expected_counts(even, BATCHES * old), group, 3)
    return ReplaySampler(new_part, old_part, batch - old, old, IMAGES, rank, world)


@pytest.mark.parametrize(
    ("batch", "share", "world", "old"),
    [
        (8, 0.375, 2, [1, 2]),
        (16, 0.375, 4, [1, 2, 1, 2]),
        (12, 0.4, 3, [1, 2, 2]),
        (8, 0.5, 4, [1] * 4),
        (2, 0.5, 2, [0, 1]),
    ],
)
def test_processes_together_have_the_batches_of_one(batch, share, world, old):
    one = sampler(batch, share)
    ranks = [sampler(batch, share, rank, world) for rank in range(world)]
    assert {len(r) for r in ranks} == {BATCHES * batch // world}
    for epoch in range(3):
        whole = np.array(list(one)).reshape(BATCHES, batch)
        parts = [np.array(list(r)).reshape(BATCHES, batch // world) for r in ranks]
        assert [set((part >= IMAGES).sum(1)) for part in parts] == [{n} for n in old], epoch
        assert (np.sort(np.concatenate(parts, 1), 1) == np.sort(whole, 1)).all()
    assert sum(old) == old_in_batch(batch, share)
    for r in ranks:
        r.seek(1)
    again = [np.array(list(r)).reshape(BATCHES, batch // world) for r in ranks]
    one.seek(1)
    assert (np.sort(np.concatenate(again, 1), 1) == np.sort(np.array(list(one)).reshape(BATCHES, batch), 1)).all()


def test_batches_without_equal_shares_are_refused():
    with pytest.raises(DPoseError, match="a batch of 5 new and 3 old images has no 3 equal shares"):
        sampler(8, 0.375, 0, 3)


def installed(rank: int, world: int, batch: int, share: float, replayed: bool = True) -> tuple[FineTuneDraws, list]:
    """Draws that are put into a loader of the engine's form; and what the loader reads, batch after batch."""

    def part(images: int) -> SimpleNamespace:
        plan = SimpleNamespace(expected=np.ones(images), cluster=np.zeros(images, int))
        return SimpleNamespace(plan=plan, dataset=None)

    draws = FineTuneDraws.__new__(FineTuneDraws)
    draws.settings, draws.seed, draws.batches = {"replay_share": share, "repeat_cap": 8.0}, 0, BATCHES
    draws.new, draws.old, draws.weights = part(IMAGES), part(OLD) if replayed else None, np.ones(IMAGES)
    batches = BatchSampler(range(IMAGES), batch // world, False)
    loader = SimpleNamespace(batch_size=batch // world, batch_sampler=SimpleNamespace(sampler=batches))
    draws.install(loader, rank, world)
    return draws, list(batches)


@pytest.mark.parametrize("world", [2, 4])
def test_the_share_does_not_depend_on_the_number_of_processes(monkeypatch, world):
    """6 of 16 in every batch; each process for itself would round 3 of 8 to 4, and 1.5 of 4 to 2."""
    monkeypatch.setattr(engine_replay, "balance_partners", lambda *args: None)
    for batch, old in ((8, 3), (16, 6)):
        one, whole = installed(0, 1, batch, 0.375)
        ranks = [installed(rank, world, batch, 0.375) for rank in range(world)]
        assert len({len(batches) for _, batches in ranks} | {len(whole)}) == 1
        for number, wanted in enumerate(whole):
            together = [i for _, batches in ranks for i in batches[number]]
            assert sum(i >= IMAGES for i in together) == old and sorted(together) == sorted(wanted)
        assert {(d.sampler.new_count, d.sampler.old_count) for d, _ in [(one, whole), *ranks]} == {(batch - old, old)}
    whole = installed(0, 1, 8, 0.375, replayed=False)[1]
    ranks = [installed(rank, world, 8, 0.375, replayed=False)[1] for rank in range(world)]
    assert [sorted(i for part in parts for i in part) for parts in zip(*ranks, strict=True)] == [
        sorted(batch) for batch in whole
    ]


# Whole fine-tunings


def record(out: str, settings: dict) -> None:
    """Fine-tune, and write what this process has drawn."""
    from ultralytics.utils import RANK

    from dpose_yolo.engine.finetune import FineTuneTrainer

    class Recorded(FineTuneTrainer):
        def preprocess_batch(self, batch):
            self.__dict__.setdefault("seen", []).append(list(batch["im_file"]))
            return super().preprocess_batch(batch)

    trainer = Recorded(**settings)
    trainer.train()
    told = {"seen": trainer.seen, "folder": str(trainer.save_dir)}
    Path(out, f"{max(RANK, 0)}.json").write_text(json.dumps(told))


@pytest.mark.slow
def test_a_fine_tuning_of_two_processes_draws_the_batches_of_one(tmp_path):
    from resume_cases import make_folder, short_run
    from stick_figures import build_dataset

    from dpose_yolo import DPoseTrainer

    folder = make_folder(tmp_path / "case")
    start = DPoseTrainer(**{**short_run(folder), "epochs": 1, "att": 0}, name="start")
    start.train()
    new = build_dataset(tmp_path / "new", train=6, val=4, test=0, size=48, seed=5)
    settings = {
        "model": str(start.last), "data": str(new), "replay": str(folder / "mini" / "data.yaml"), "epochs": 1,
        "batch": 8, "device": "cpu", "refits": 0, "verbose": False, "project": str(tmp_path),
        "mosaic": 0, "replay_share": 0.375,  # partners are drawn by each process
    }  # fmt: skip
    here = Path(__file__)
    path = os.pathsep.join([str(here.parent.parent), str(here.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    found = {}
    for name, launcher in (("one", []), ("two", ["-m", "torch.distributed.run", "--nproc-per-node", "2"])):
        (tmp_path / name).mkdir()
        words = [str(tmp_path / name), json.dumps({**settings, "name": f"run-{name}"})]
        command = [sys.executable, *launcher, str(here), *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-3000:]
        found[name] = [json.loads(file.read_text()) for file in sorted((tmp_path / name).glob("*.json"))]
    (one,), two = found["one"], found["two"]
    old = str(folder)
    assert len(one["seen"]) == 60 and {len(files) for f in two for files in f["seen"]} == {4}
    assert [{sum(i.startswith(old) for i in files) for files in f["seen"]} for f in two] == [{1}, {2}]
    for wanted, *parts in zip(one["seen"], *(f["seen"] for f in two), strict=True):
        assert Counter(wanted) == Counter(i for part in parts for i in part)
        assert sum(i.startswith(old) for i in wanted) == 3  # of 8
    for name in ("posture_draws.csv", "replay_draws.csv"):
        assert Path(one["folder"], name).read_bytes() == Path(two[0]["folder"], name).read_bytes()


if __name__ == "__main__":
    record(sys.argv[1], json.loads(sys.argv[2]))
