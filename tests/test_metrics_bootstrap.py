"""Intervals on cases with a known answer: means of normal numbers, groups that move together, seeds in pairs."""

import math

import numpy as np
import pytest
from metric_cases import cabin_truth, detected

from dpose_yolo.errors import DPoseError
from dpose_yolo.metrics import Matches, bootstrap_weights, interval, match, paired, seed_mean_difference


def plain(values: np.ndarray) -> Matches:
    """A record that carries one number an image in `score`, for a measure that is their mean."""
    nothing = np.zeros((10, len(values)), bool)
    return Matches(np.arange(len(values)), np.asarray(values, float), nothing, nothing, np.ones(len(values), int))


def mean(matches: Matches, weights: np.ndarray | None) -> np.ndarray:
    weights = np.ones((1, len(matches.score))) if weights is None else np.atleast_2d(weights)
    return weights @ matches.score / weights.sum(1)


def test_every_replicate_draws_as_many_images_as_there_are():
    weights = bootstrap_weights(50, replicates=2000, seed=3)
    assert weights.shape == (2000, 50)
    np.testing.assert_array_equal(weights.sum(1), 50)
    np.testing.assert_array_equal(weights, weights.round())
    assert weights.mean() == 1
    np.testing.assert_allclose(weights.var(0).mean(), 1 - 1 / 50, atol=0.02)  # binomial(50, 1/50)
    np.testing.assert_allclose((weights == 0).mean(), (1 - 1 / 50) ** 50, atol=0.01)
    np.testing.assert_array_equal(weights, bootstrap_weights(50, replicates=2000, seed=3))
    assert (weights != bootstrap_weights(50, replicates=2000, seed=4)).any()


def test_subjects_are_drawn_whole_and_images_without_one_stand_alone():
    groups = ["p1", "p2", "p1", None, "", float("nan"), "p2", "p1"]
    weights = bootstrap_weights(8, groups, replicates=500)
    for same in ([0, 2, 7], [1, 6]):
        assert (weights[:, same] == weights[:, same[:1]]).all()
    drawn = weights[:, [0, 1, 3, 4, 5]]  # two subjects, three images of nobody
    np.testing.assert_array_equal(drawn.sum(1), 5)
    assert not any((drawn[:, a] == drawn[:, b]).all() for a in range(5) for b in range(a))


def test_interval_of_a_mean_is_the_textbooks():
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = interval(mean(plain(values), bootstrap_weights(400, replicates=4000)))
    half = 1.96 * values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_intervals_over_subjects_are_wider_by_the_known_factor():
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(0, 1, 60), 10)  # ten equal images of each subject: 60 numbers, not 600
    groups = np.repeat(np.arange(60), 10).astype(str)
    widths = [
        np.ptp(interval(mean(plain(values), bootstrap_weights(600, own, 3000)))) for own in (None, groups.tolist())
    ]
    assert widths[1] / widths[0] == pytest.approx(math.sqrt(10), rel=0.08)


def test_coverage_is_the_level():
    rng, inside = np.random.default_rng(1), 0
    weights = bootstrap_weights(60, replicates=400)
    for _ in range(400):
        low, high = interval(mean(plain(rng.normal(0, 1, 60)), weights), 0.9)
        inside += low <= 0 <= high
    assert 0.84 < inside / 400 < 0.94


def test_interval_of_known_values():
    values = np.arange(101.0)
    assert interval(values) == pytest.approx((2.5, 97.5))
    assert interval(values, 0.5) == pytest.approx((25, 75))
    assert interval(np.append(values, [np.nan] * 50)) == interval(values)
    assert np.isnan(interval(np.full(3, np.nan))).all()
    with pytest.raises(DPoseError, match="level=95"):
        interval(values, 95)


def test_what_is_hard_for_both_models_cancels_out():
    rng = np.random.default_rng(2)
    base = rng.normal(0, 10, 300)
    gain = rng.normal(0.5, 1, 300)
    result = paired(plain(base + gain), plain(base), bootstrap_weights(300, replicates=3000), measure=mean)
    half = 1.96 * gain.std() / math.sqrt(300)
    assert result == pytest.approx((gain.mean(), gain.mean() - half, gain.mean() + half), abs=0.02)
    mask = np.arange(300) < 100
    part = paired(plain(base + gain), plain(base), bootstrap_weights(300), images=mask, measure=mean)
    assert part.mean == pytest.approx(gain[:100].mean())
    assert part.high - part.low == pytest.approx(2 * 1.96 * gain[:100].std() / 10, rel=0.12)


def test_differences_of_real_matches():
    truth = cabin_truth()
    good, bad = (match(truth, detected(truth, seed=5, noise=noise)) for noise in (0.03, 0.045))
    weights = bootstrap_weights(len(truth.files), replicates=500)
    for at, name in enumerate(("AP", "AP50", "AP75")):
        result = paired(good, bad, weights, measure=name)
        assert result.mean == pytest.approx(good.average_precision()[at][0] - bad.average_precision()[at][0])
        assert 0 < result.low < result.mean < result.high
        back = paired(bad, good, weights, measure=name)
        assert (-back.mean, -back.high, -back.low) == pytest.approx(result)
    recall = paired(good, bad, weights, measure="AR")
    assert recall.mean == pytest.approx((good.average_recall() - bad.average_recall()).item())
    assert paired(good, good, weights) == (0, 0, 0)


def test_seeds_are_drawn_in_pairs():
    rng = np.random.default_rng(4)
    seeds = [rng.normal(0, 1, 40) + 5 * s for s in range(3)]  # seeds differ by far more than the arms
    weights = bootstrap_weights(40, replicates=2000)
    bases = [plain(values) for values in seeds]
    same = seed_mean_difference([plain(values + 0.1) for values in seeds], bases, weights, measure=mean)
    assert same == pytest.approx((0.1, 0.1, 0.1))
    mixed = [plain(values + gain) for values, gain in zip(seeds, (0.1, 0.4, 0.7), strict=True)]
    few = seed_mean_difference(mixed, bases, weights, measure=mean)
    assert few == pytest.approx((0.4, 0.1, 0.7))  # three seeds: no interval within them is wider
    one = seed_mean_difference(mixed[:1], bases[:1], weights, measure=mean)
    assert one == paired(mixed[0], bases[0], weights, measure=mean)


def test_variance_over_seeds_is_unbiased():
    gains = np.random.default_rng(5).normal(0.3, 0.1, 12)
    zero = plain(np.zeros(20))
    weights = bootstrap_weights(20, replicates=20_000)
    result = seed_mean_difference([plain(np.full(20, g)) for g in gains], [zero] * 12, weights, measure=mean)
    half = 1.96 * gains.std(ddof=1) / math.sqrt(12)
    assert result.mean == pytest.approx(gains.mean())
    assert (result.high - result.low) / 2 == pytest.approx(half, rel=0.03)  # 4 % short without the correction


def test_images_and_seeds_add_up():
    rng = np.random.default_rng(6)
    gains, noise = rng.normal(0, 0.1, 10), rng.normal(0, 1, 100)
    arms = [plain(g + noise) for g in gains]  # the same noise in every seed: it does not average out over seeds
    weights = bootstrap_weights(100, replicates=20_000)
    result = seed_mean_difference(arms, [plain(np.zeros(100))] * 10, weights, measure=mean)
    half = 1.96 * math.sqrt(gains.var(ddof=1) / 10 + noise.var() / 100)
    assert (result.high - result.low) / 2 == pytest.approx(half, rel=0.03)


def test_what_cannot_be_compared_is_refused():
    a, b = plain(np.zeros(5)), plain(np.zeros(6))
    weights = bootstrap_weights(5, replicates=10)
    with pytest.raises(DPoseError, match="different labels"):
        paired(a, b, weights)
    with pytest.raises(DPoseError, match=r"oks_area=0.53 and 1.0"):
        paired(a, Matches(a.image, a.score, a.matched, a.ignored, a.truths, 1.0), weights)
    with pytest.raises(DPoseError, match="no measure 'ap'"):
        paired(a, a, weights, measure="ap")
    with pytest.raises(DPoseError, match="2 and 1 models"):
        seed_mean_difference([a, a], [a], weights)
    with pytest.raises(DPoseError, match=r"a mask of \(4,\) images for 5"):
        paired(a, a, weights, images=np.ones(4))
    with pytest.raises(DPoseError, match=r"expected \(replicates, images\)"):
        paired(a, a, weights[0])
    with pytest.raises(DPoseError, match="there are 0 and bootstrap=1000"):
        bootstrap_weights(0)
    with pytest.raises(DPoseError, match="3 images, but subjects of 2"):
        bootstrap_weights(3, ["a", "b"])


def pooled(parts: list[Matches]) -> Matches:
    """One record of the images of several ones."""
    size = len(parts[0].truths)
    image = np.concatenate([part.image + size * i for i, part in enumerate(parts)])
    score = np.concatenate([part.score for part in parts])
    order = np.argsort(-score, kind="stable")
    matched, ignored = (np.concatenate([getattr(p, name) for p in parts], 1) for name in ("matched", "ignored"))
    truths = np.concatenate([part.truths for part in parts])
    return Matches(image[order], score[order], matched[:, order], ignored[:, order], truths)


@pytest.mark.slow
@pytest.mark.parametrize(("images", "bias", "inside"), [(20, 0.03, 0.87), (100, 0.013, 0.92)])
def test_ap_of_few_images_is_too_high_and_differences_hardly_are(images, bias, inside):
    """The figures in the docstring of `metrics.bootstrap`: parts of 7,680 images as samples of all of them."""
    truth = cabin_truth("train")
    models = [
        pooled([match(truth, detected(truth, seed=seed, noise=noise, spurious=1)) for seed in range(12)])
        for noise in (0.03, 0.035)
    ]
    true = [model.average_precision()[0][0] for model in models]
    rng, tries, count = np.random.default_rng(0), 200, len(models[0].truths)
    errors, held = [], np.zeros(2)
    for seed in range(tries):
        drawn = rng.choice(count, images, replace=False)
        weights = np.zeros((300, count))
        weights[:, drawn] = bootstrap_weights(images, replicates=300, seed=seed)
        ap = [model.average_precision(np.bincount(drawn, minlength=count))[0][0] for model in models]
        values = [model.average_precision(weights)[0] for model in models]
        errors.append((ap[0] - true[0], ap[0] - ap[1] - true[0] + true[1]))
        for k, (goal, sample) in enumerate(((true[0], values[0]), (true[0] - true[1], values[0] - values[1]))):
            low, high = interval(sample)
            held[k] += low <= goal <= high
    mean_error, spread = np.mean(errors, 0), np.std(errors, 0) / math.sqrt(tries)
    assert mean_error[0] == pytest.approx(bias, abs=4 * spread[0])
    assert abs(mean_error[1]) < bias / 4 + 2 * spread[1]
    assert held[0] / tries == pytest.approx(inside, abs=0.06)
    assert held[1] / tries > 0.9
