import numpy as np
import pytest
import torch
from ultralytics.data.build import InfiniteDataLoader

from dpose_yolo.errors import DPoseError
from dpose_yolo.posture import PostureSampler, expected_counts

TINY = 1e-9


def skewed(n: int = 500, epoch_length: int = 500, cap: float = 6, seed: int = 0):
    """Expected counts from 0 to the cap and a group for each image."""
    rng = np.random.default_rng(seed)
    p = rng.pareto(1.0, n)
    p[rng.random(n) < 0.05] = 0
    return expected_counts(p / p.sum(), epoch_length, cap), rng.integers(0, 7, n)


def test_every_epoch_has_each_image_and_each_group_floor_or_ceil_times():
    expected, groups = skewed()
    sampler = PostureSampler(expected, groups, seed=3)
    by_group = np.bincount(groups, expected)
    for epoch in range(200):
        counts = np.bincount(sampler.draws(epoch), minlength=500)
        np.testing.assert_array_equal(counts, sampler.counts(epoch))
        assert counts.sum() == 500
        for drawn, wanted in ((counts, expected), (np.bincount(groups, counts), by_group)):
            assert (drawn >= np.floor(wanted - TINY)).all() and (drawn <= np.ceil(wanted + TINY)).all()
        assert counts.max() <= 6  # the cap
        assert (counts[expected == 0] == 0).all()


@pytest.mark.parametrize("epochs", [10, 100, 300])
def test_counts_over_many_epochs_stay_close_to_the_expectation(epochs):
    expected, groups = skewed()
    sampler = PostureSampler(expected, groups, seed=3)
    total = sum(sampler.counts(epoch) for epoch in range(epochs))
    # independent draws would be off by sqrt(epochs * expected), up to 40 here
    assert np.abs(total - epochs * expected).max() < 3.0


def test_uniform_expectation_draws_every_image_exactly_once():
    sampler = PostureSampler(np.ones(1000), np.zeros(1000, int))
    for epoch in range(5):
        assert sorted(sampler.draws(epoch)) == list(range(1000))


@pytest.mark.parametrize("n", [100_000, 99_991])
def test_the_line_ends_exactly_at_the_epoch_length(n):
    expected, groups = skewed(n, n, cap=20, seed=1)
    sampler = PostureSampler(expected, groups, seed=1)
    assert [len(sampler.draws(epoch)) for epoch in (0, 1, 17, 10**6)] == [n] * 4
    thirds = PostureSampler(np.full(n, 1 / 3) * (n // 3 / (n / 3)), np.zeros(n, int))
    for offset in (0, 1, (1 << 36) - 1):  # the ends of the range of u
        sampler._offset = thirds._offset = offset
        assert sampler.counts(0).sum() == n
        assert thirds.counts(0).sum() == n // 3 and thirds.counts(0).max() == 1


def test_epochs_differ_and_the_seed_decides():
    expected, groups = skewed()
    one, same, other = (PostureSampler(expected, groups, seed=s) for s in (5, 5, 6))
    np.testing.assert_array_equal(one.draws(4), same.draws(4))
    assert not np.array_equal(one.draws(4), one.draws(5))
    assert not np.array_equal(np.sort(one.draws(4)), np.sort(one.draws(5)))  # not only the order
    assert not np.array_equal(one.draws(4), other.draws(4))
    first, second, third = list(one), list(one), list(one)
    assert first == list(same) and first != second != third
    np.testing.assert_array_equal(second, one.draws(1))


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_ranks_share_the_epoch_exactly(world):
    expected, groups = skewed(epoch_length=503)
    ranks = [PostureSampler(expected, groups, seed=2, rank=r, world=world) for r in range(world)]
    padded = -(-503 // world) * world
    assert {len(sampler) for sampler in ranks} == {padded // world}
    scaled = expected_counts(expected, padded, 6)
    for epoch in range(20):
        parts = [list(sampler) for sampler in ranks]
        assert {len(part) for part in parts} == {padded // world}
        np.testing.assert_array_equal(np.stack(parts, axis=1).ravel(), ranks[0].draws(epoch))
        counts = np.bincount(np.concatenate(parts), minlength=500)
        assert (counts >= np.floor(scaled - TINY)).all() and (counts <= np.ceil(scaled + TINY)).all()
        assert counts.max() <= 6


def test_padding_a_uniform_epoch_adds_single_draws():
    sampler = PostureSampler(np.ones(101), np.zeros(101, int), world=4)
    counts = np.bincount(sampler.draws(0), minlength=101)
    assert counts.sum() == 104 and counts.min() == 1 and counts.max() == 2


def test_set_epoch_never_repeats_and_seek_is_exact():
    sampler = PostureSampler(*skewed())
    draws = [sampler.draws(epoch).tolist() for epoch in range(10)]
    sampler.set_epoch(0)
    assert list(sampler) == draws[0]
    assert list(sampler) == draws[1]  # prefetched while the trainer is in epoch 0
    sampler.set_epoch(1)  # the trainer arrives
    assert list(sampler) == draws[2]
    sampler.set_epoch(7)  # resumed
    assert sampler.next_epoch == 7 and list(sampler) == draws[7]
    sampler.seek(3)
    assert list(sampler) == draws[3] and list(sampler) == draws[4]


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, index):
        return index


def small(**kwargs):
    return PostureSampler(*skewed(60, 60, cap=4), **kwargs)


def epoch_of(loader):
    return torch.cat(list(loader)).tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_plain_dataloader(workers):
    loader = torch.utils.data.DataLoader(Numbers(), batch_size=8, sampler=small(), num_workers=workers)
    assert len(loader) == 8
    for epoch in range(3):
        assert epoch_of(loader) == small().draws(epoch).tolist()


@pytest.mark.parametrize("distributed", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_engines_loader_gives_epoch_after_epoch(workers, distributed):
    """As the trainer drives it: set_epoch only with several processes, workers prefetch the next epoch early."""
    sampler = small()
    loader = InfiniteDataLoader(Numbers(), batch_size=8, sampler=sampler, num_workers=workers)
    for epoch in range(4):
        if distributed:
            sampler.set_epoch(epoch)
        assert epoch_of(loader) == small().draws(epoch).tolist()
    if workers:
        assert sampler.next_epoch > 4  # prefetched
    loader.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_reset_with_seek_and_a_resumed_run_draw_what_the_unbroken_run_draws(workers):
    sampler = small()
    loader = InfiniteDataLoader(Numbers(), batch_size=8, sampler=sampler, num_workers=workers)
    unbroken = [epoch_of(loader), epoch_of(loader)]
    sampler.seek(2)  # mosaic closes: the trainer is about to reset the loader in epoch 2
    loader.reset()
    unbroken += [epoch_of(loader), epoch_of(loader)]
    assert unbroken == [small().draws(epoch).tolist() for epoch in range(4)]
    loader.close()

    resumed = small()
    resumed.seek(3)
    loader = InfiniteDataLoader(Numbers(), batch_size=8, sampler=resumed, num_workers=workers)
    assert epoch_of(loader) == unbroken[3]
    loader.close()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((np.ones(3), np.zeros(2)), "one entry an image"),
        ((np.array([1.0, -1.0]), np.zeros(2)), "finite and >= 0"),
        ((np.array([1.0, np.nan]), np.zeros(2)), "finite and >= 0"),
        ((np.array([0.7, 0.7]), np.zeros(2)), "sum to 1.4: make them sum to a whole number"),
        ((np.zeros(2), np.zeros(2)), "whole number"),
        ((np.ones(2), np.zeros(2), -1), "seed=-1"),
        ((np.ones(2), np.zeros(2), 0, 2, 2), r"rank=2 is not in 0\.\.1"),
    ],
)
def test_bad_input_is_told(arguments, line):
    with pytest.raises(DPoseError, match=line):
        PostureSampler(*arguments)
