"""Fitting the mixture again on balanced draws: rare postures get components of their own."""

from __future__ import annotations

import numpy as np
import pytest

from dpose_yolo.engine.postures import (
    PoseTable,
    PosturePlan,
    averaged_plan,
    balanced_poses,
    bic_curve,
    lowest_bic,
    number_of_clusters,
    posture_mixture,
    posture_mixtures,
    posture_plan,
)
from dpose_yolo.errors import DPoseError
from dpose_yolo.settings import resolve

COMMON, RARE = 900, (30, 20, 10)  # poses of the crowded posture, and of three rare ones


@pytest.fixture(scope="module")
def table() -> PoseTable:
    """One posture that spreads widely, as drivers of several cameras do, and three rare ones beside each other."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.2, 0.8, (5, 2))
    arms = [np.zeros(2), *(np.array([0.12 * np.cos(a), 0.12 * np.sin(a)]) for a in (0.3, 1.2, 2.1))]
    poses = []
    for count, arm in zip((COMMON, *RARE), arms, strict=True):
        pose = base + rng.normal(0, 0.015, (count, 5, 2))
        pose += np.array([0.15, 0.05]) * rng.integers(0, 3, (count, 1, 1))  # three cameras
        pose[:, -1] += arm
        poses.append(pose)
    points = np.concatenate(poses) * 400
    keypoints = np.concatenate([points, np.full((*points.shape[:2], 1), 2.0)], -1).astype(np.float32)
    boxes = np.tile(np.array([200, 200, 400, 400], np.float32), (len(points), 1))
    files = [f"{i}.jpg" for i in range(len(points))]
    return PoseTable(keypoints, boxes, np.arange(len(points)), files, [str(k) for k in range(5)])


def rare_shares(table: PoseTable, **settings) -> np.ndarray:
    """Share of the draws that go to each of the rare postures."""
    given = resolve({"clusters": 8, "repeat_cap": 20, **settings})
    plan = posture_plan(table, posture_mixture(table, given), given)
    edges = np.cumsum([COMMON, *RARE])[:-1]
    return np.add.reduceat(plan.expected, edges) / plan.expected.sum()


def test_refits_draw_rare_postures_more_evenly(table):
    natural = np.array(RARE) / len(table.files)
    once, again = rare_shares(table, refits=0), rare_shares(table, refits=2)
    assert again.sum() > 1.2 * once.sum() > 1.2 * natural.sum()
    assert again.min() > once.min() > natural.min()


def test_balanced_poses_repeat_each_as_often_as_it_is_drawn(table):
    expected = np.ones(len(table.files))
    expected[:4] = (4.0, 0.5, 0.5, 0.0)
    expected *= len(expected) / expected.sum()
    one = np.ones((len(expected), 1)), np.zeros(len(expected), int)
    rows = balanced_poses(table, PosturePlan(*one, expected, expected))
    assert len(rows) == len(table.files)
    counts = np.bincount(rows, minlength=len(expected))
    assert np.all(counts >= np.floor(expected)) and np.all(counts <= np.ceil(expected))


def test_refits_change_the_key_of_the_saved_mixture(table, tmp_path):
    settings = resolve({"clusters": 4, "refits": 0})
    first = posture_mixture(table, settings, cache=tmp_path / "train")
    assert posture_mixture(table, settings, cache=tmp_path / "train").key_ == first.key_
    assert posture_mixture(table, {**settings, "refits": 1}, cache=tmp_path / "train").key_ != first.key_


def test_draws_are_averaged_over_mixtures(table, tmp_path):
    settings = resolve({"clusters": 6, "mixtures": 3, "repeat_cap": 4})
    mixtures = posture_mixtures(table, settings, seed=5, cache=tmp_path / "train")
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        "train.2.postures.npz", "train.3.postures.npz", "train.postures.npz",
    ]  # fmt: skip
    plans = [posture_plan(table, posture_mixture(table, settings, seed), settings) for seed in (5, 1005, 2005)]
    plan = averaged_plan(table, mixtures, settings)
    np.testing.assert_allclose(plan.expected, np.mean([p.expected for p in plans], 0), rtol=1e-12)
    np.testing.assert_allclose(plan.at_end, np.mean([p.at_end for p in plans], 0), rtol=1e-12)
    np.testing.assert_array_equal(plan.cluster, plans[0].cluster)
    assert plan.expected.sum() == pytest.approx(len(table.files)) and plan.expected.max() <= 4
    assert max(np.abs(p.expected - plans[0].expected).max() for p in plans[1:]) > 0.1  # the fits do differ
    effective = [p.expected.sum() ** 2 / (p.expected**2).sum() for p in (plan, *plans)]
    assert effective[0] > np.mean(effective[1:])


@pytest.mark.parametrize("settings", [{"mixtures": 1}, {"mixtures": 4, "balance": 0, "att": 0}])
def test_one_mixture_is_enough_for_one_or_for_natural_draws(table, settings):
    settings = resolve({"clusters": 4, **settings})
    mixtures = posture_mixtures(table, settings)
    assert len(mixtures) == 1
    alone = posture_plan(table, mixtures[0], settings).expected
    np.testing.assert_array_equal(averaged_plan(table, mixtures, settings).expected, alone)


def test_at_the_end_draws_are_those_of_the_share_of_balance_that_is_left(table):
    settings = resolve({"clusters": 6, "mixtures": 1, "balance": 0.8, "balance_end": 0.25})
    mixture = posture_mixture(table, settings)
    plan = posture_plan(table, mixture, settings)
    np.testing.assert_array_equal(plan.at_end, posture_plan(table, mixture, {**settings, "balance": 0.2}).expected)
    np.testing.assert_array_equal(plan.expected, posture_plan(table, mixture, {**settings, "balance_end": 1}).expected)
    even, natural = resolve({"balance_end": 1.0}), resolve({"balance_end": 0.0})
    np.testing.assert_array_equal(
        posture_plan(table, mixture, even).at_end, posture_plan(table, mixture, even).expected
    )
    np.testing.assert_allclose(posture_plan(table, mixture, natural).at_end, 1.0)


def part_of(table: PoseTable, count: int) -> PoseTable:
    """`count` poses of the table, evenly over its order."""
    rows = np.linspace(0, len(table.files) - 1, count).round().astype(int)
    files = [table.files[i] for i in rows]
    return PoseTable(table.keypoints[rows], table.boxes[rows], np.arange(count), files, table.names)


@pytest.mark.parametrize(
    ("given", "poses", "wanted"),
    [
        ("by_size", 3, 1),
        ("by_size", 28, 3),
        ("by_size", 40, 5),
        ("by_size", 627, 32),
        ("auto", 28, "auto"),
        (31, 28, 31),
    ],
)
def test_the_number_of_clusters_follows_the_poses_unless_given(given, poses, wanted):
    assert number_of_clusters(given, poses) == wanted


def test_a_small_set_is_clustered_unless_an_impossible_number_is_given(table):
    small = part_of(table, 28)
    assert posture_mixture(small, resolve({})).get_params()["n_components"] == 3
    with pytest.raises(DPoseError, match=r"clusters=32 but only 28 poses.* set clusters to at most 28 or auto"):
        posture_mixture(small, resolve({"clusters": 32}))


@pytest.mark.parametrize("refits", [0, 2])
def test_auto_takes_the_lowest_bic_on_the_data_as_they_are(table, refits):
    part, settings = part_of(table, 240), resolve({"clusters": "auto", "covariance": "diag", "refits": refits})
    curve = bic_curve(part, settings)
    found = posture_mixture(part, settings)
    assert found.bic_curve_ == curve
    assert found.get_params()["n_components"] == (lowest_bic(curve) if refits else "auto")
    assert len(found.weights_) <= lowest_bic(curve) == min(curve, key=curve.get)
    assert lowest_bic({2: 5.0, 3: 1.0, 4: 1.0}) == 3
