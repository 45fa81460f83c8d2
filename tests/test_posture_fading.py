"""The balance that fades along the epochs: expected counts in between, exact draws in each."""

import numpy as np
import pytest

from dpose_yolo.errors import DPoseError
from dpose_yolo.posture import FadingSampler, PostureSampler, expected_counts
from dpose_yolo.posture.fading import faded

IMAGES, EPOCHS = 400, 21
GROUPS = np.arange(IMAGES) // 50


def two_plans() -> tuple[np.ndarray, np.ndarray]:
    """Even over the groups with a cap, and natural."""
    weights = np.where(GROUPS == 0, 6.0, 0.5)
    return expected_counts(weights, IMAGES, 5), np.ones(IMAGES)


def test_the_fade_starts_at_40_and_ends_at_90_percent_of_the_epochs():
    shares = [faded(epoch, EPOCHS) for epoch in range(EPOCHS)]
    assert shares[:9] == [0.0] * 9 and shares[18:] == [1.0] * 3
    np.testing.assert_allclose(np.diff(shares[8:19]), 0.1)  # ten equal steps
    assert faded(99, EPOCHS) == 1.0 and faded(0, 1) == 0.0


def test_each_epoch_draws_floor_or_ceiling_of_the_counts_in_between():
    first, last = two_plans()
    sampler = FadingSampler(first, last, GROUPS, EPOCHS, seed=2)
    for epoch in range(EPOCHS + 2):
        share = faded(epoch, EPOCHS)
        wanted = (1 - share) * first + share * last
        counts = np.bincount(sampler.draws(epoch), minlength=IMAGES)
        np.testing.assert_allclose(sampler.expected(epoch), wanted)
        assert counts.sum() == IMAGES
        for drawn, line in ((counts, wanted), (np.bincount(GROUPS, counts), np.bincount(GROUPS, wanted))):
            assert (drawn >= np.floor(line - 1e-6)).all() and (drawn <= np.ceil(line + 1e-6)).all()
    assert np.bincount(GROUPS, sampler.counts(0))[0] > 3 * 50 and (sampler.counts(EPOCHS) == 1).all()


def test_before_the_fade_it_is_the_plain_sampler():
    first, last = two_plans()
    fading, plain = FadingSampler(first, last, GROUPS, EPOCHS, seed=7), PostureSampler(first, GROUPS, seed=7)
    for epoch in range(9):
        np.testing.assert_array_equal(fading.draws(epoch), plain.draws(epoch))
    assert (fading.draws(12) != plain.draws(12)).any()


def test_an_epoch_is_the_same_however_it_is_reached():
    first, last = two_plans()
    whole, resumed = (FadingSampler(first, last, GROUPS, EPOCHS, seed=1) for _ in range(2))
    drawn = [list(whole) for _ in range(EPOCHS)]
    resumed.seek(14)
    assert [list(resumed) for _ in range(14, EPOCHS)] == drawn[14:]


def test_ranks_share_every_epoch():
    first, last = two_plans()
    ranks = [FadingSampler(first, last, GROUPS, EPOCHS, 3, rank, 3) for rank in range(3)]
    for epoch in range(EPOCHS):
        parts = [list(rank) for rank in ranks]
        assert len({len(part) for part in parts}) == 1
        whole = np.bincount(np.concatenate(parts), minlength=IMAGES)
        np.testing.assert_array_equal(whole, ranks[0].counts(epoch))
        assert whole.max() <= np.ceil(first.max())


@pytest.mark.parametrize(
    ("last", "epochs", "line"),
    [
        (np.full(IMAGES, 2.0), 5, "differ in draws"),
        (np.full(IMAGES, 0.3001), 5, "whole number"),
        (np.ones(IMAGES + 1), 5, "one entry an image"),
        (np.ones(IMAGES), 0, "epochs=0"),
    ],
)
def test_counts_that_do_not_fit_are_refused(last, epochs, line):
    with pytest.raises(DPoseError, match=line):
        FadingSampler(two_plans()[0], last, GROUPS, epochs)
