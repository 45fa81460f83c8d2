import math

import numpy as np
import pytest

from dpose_yolo.errors import DPoseError
from dpose_yolo.posture import (
    balanced_probabilities,
    component_masses,
    evenness,
    evenness_told,
    expected_counts,
    harden,
    image_responsibilities,
    labels_key,
)


def long_tail(n: int = 1000, seed: int = 0) -> np.ndarray:
    """Soft responsibilities of four clusters: 70, 20, 9 and 1 %."""
    rng = np.random.default_rng(seed)
    resp = 0.97 * np.eye(4)[np.repeat([0, 1, 2, 3], [n * 7 // 10, n // 5, n * 9 // 100, n // 100])]
    return resp + 0.03 * rng.dirichlet(np.ones(4), len(resp))


def test_full_balance_gives_every_cluster_the_same_share_of_the_epoch():
    resp = harden(long_tail())
    p = balanced_probabilities(resp, 1.0)
    np.testing.assert_allclose(p @ resp, 0.25, atol=1e-12)
    np.testing.assert_allclose(p[-1], 0.25 / 10)  # the tail's ten images
    np.testing.assert_allclose(p.sum(), 1, atol=1e-15)


def test_no_balance_is_exactly_uniform_and_half_is_half_way():
    resp = long_tail()
    uniform = balanced_probabilities(resp, 0.0)
    assert (uniform == 1.0 / len(resp)).all()
    even = balanced_probabilities(resp, 1.0)
    np.testing.assert_allclose(balanced_probabilities(resp, 0.5), (uniform + even) / 2, atol=1e-12)


def test_soft_probabilities_are_ancestral_sampling():
    resp = long_tail(200)
    by_hand = sum(0.25 * resp[:, j] / resp[:, j].sum() for j in range(4))
    np.testing.assert_allclose(balanced_probabilities(resp, 1.0), by_hand, atol=1e-15)
    np.testing.assert_allclose(component_masses(resp), resp.sum(0))


def test_hard_uses_the_likeliest_cluster():
    resp = np.array([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9]])
    np.testing.assert_allclose(balanced_probabilities(resp, 1.0, hard=True), [0.25, 0.25, 0.5])


def test_an_empty_cluster_gets_nothing_and_a_rounding_tail_is_empty():
    resp = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(balanced_probabilities(resp, 1.0), [0.25, 0.25, 0.5])
    resp[0] = [1 - 1e-9, 0.0, 1e-9]
    np.testing.assert_allclose(balanced_probabilities(resp, 1.0), [0.25, 0.25, 0.5], atol=1e-8)


def test_images_average_their_persons_and_background_keeps_its_natural_weight():
    rng = np.random.default_rng(1)
    resp = long_tail(1000)
    index = np.arange(1000) + 50  # images 0..49 have nobody
    mixing = resp.mean(0)
    images = image_responsibilities(resp, index, 1050, mixing)
    np.testing.assert_allclose(images.sum(1), 1)
    for balance in (0.3, 1.0):
        p = balanced_probabilities(images, balance)
        np.testing.assert_allclose(p[:50], 1 / 1050, rtol=1e-9)
    crowd = image_responsibilities(resp[:3], np.array([1, 1, 0]), 2, mixing)
    np.testing.assert_allclose(crowd, [resp[2], resp[:2].mean(0)])
    shuffled = rng.permutation(1000)
    np.testing.assert_allclose(image_responsibilities(resp[shuffled], index[shuffled], 1050, mixing), images)
    nobody = image_responsibilities(np.zeros((0, 4)), np.zeros(0), 3, mixing)
    np.testing.assert_allclose(nobody, np.tile(mixing, (3, 1)))


def test_the_cap_holds_the_total_stays_and_the_rest_keeps_its_proportions():
    p = np.array([0.6, 0.2, 0.1, 0.06, 0.04, 0.0])
    expected = expected_counts(p, 10, 3)
    np.testing.assert_allclose(expected.sum(), 10, atol=1e-12)
    np.testing.assert_array_equal(expected[:2], 3)  # the second exceeds the cap only after the first is capped
    np.testing.assert_allclose(expected[2:], np.array([0.1, 0.06, 0.04, 0]) * 4 / 0.2)
    np.testing.assert_allclose(expected_counts(p, 10), 10 * p)
    np.testing.assert_array_equal(expected_counts(p, 10, 2), [2, 2, 2, 2, 2, 0])  # exactly possible


def test_a_capped_epoch_of_many_images():
    p = np.random.default_rng(0).pareto(0.8, 100_000)
    expected = expected_counts(p / p.sum(), 100_000, 5)
    assert expected.max() <= 5 and abs(expected.sum() - 100_000) < 1e-6
    free = expected < 5
    np.testing.assert_allclose(expected[free] / p[free], (expected[free] / p[free])[0], rtol=1e-9)


def test_impossible_settings_are_told():
    resp = long_tail(100)
    with pytest.raises(DPoseError, match=r"balance=1.2 is outside \[0, 1\]"):
        balanced_probabilities(resp, 1.2)
    with pytest.raises(DPoseError, match="balance=nan"):
        balanced_probabilities(resp, math.nan)
    with pytest.raises(DPoseError, match="sum to 1"):
        balanced_probabilities(resp * 2)
    with pytest.raises(DPoseError, match="not empty"):
        balanced_probabilities(np.zeros((0, 3)))
    with pytest.raises(DPoseError, match=r"repeat_cap=2 times 3 images .* set repeat_cap to at least 4"):
        expected_counts(np.array([0.5, 0.25, 0.25, 0]), 10, 2)
    with pytest.raises(DPoseError, match="not all zero"):
        expected_counts(np.zeros(3), 10, 2)
    with pytest.raises(DPoseError, match=r"image numbers run from 0 to 99, not in 0\.\.9"):
        image_responsibilities(resp, np.arange(100), 10, resp.mean(0))
    with pytest.raises(DPoseError, match="different fits"):
        image_responsibilities(resp, np.arange(100), 100, np.ones(3) / 3)


def test_the_key_follows_content_only():
    rng = np.random.default_rng(0)
    keypoints, boxes = rng.integers(0, 900, (20, 17, 3)).astype(np.float32), rng.random((20, 4)).astype(np.float32)
    params = {"clusters": 16, "scale": "box", "seed": 0}
    key = labels_key(keypoints, boxes, params)
    assert len(key) == 64 and key == labels_key(keypoints.copy(), boxes.copy(), dict(reversed(params.items())))
    assert key == labels_key(keypoints.astype(np.float64), np.asfortranarray(boxes), {**params, "seed": np.int64(0)})
    changed = keypoints.copy()
    changed[3, 4, 0] += 1
    others = [
        labels_key(changed, boxes, params),
        labels_key(keypoints, boxes * 2, params),
        labels_key(keypoints, boxes, {**params, "clusters": 12}),
        labels_key(keypoints[::-1], boxes, params),
        labels_key(keypoints.reshape(20, 51, 1), boxes, params),
    ]
    assert len({key, *others}) == 6
    with pytest.raises(DPoseError, match="not plain values"):
        labels_key(keypoints, boxes, {"x": object()})


def test_evenness_is_the_entropy_of_the_shares_over_its_largest_value():
    assert evenness(np.full(32, 7.0)) == pytest.approx(1, abs=1e-12)
    assert evenness(np.array([0.5, 0.25, 0.25])) == pytest.approx(1.5 / math.log2(3), abs=1e-12)
    assert evenness(np.array([1.0, 0.0])) == pytest.approx(0, abs=1e-12)
    assert evenness(np.array([3.0])) == 1


def test_balance_is_said_to_have_little_to_give_only_where_the_clusters_are_nearly_even():
    rare, drawn = np.array([0.7, 0.2, 0.1]), np.full(3, 1 / 3)
    even = np.array([0.4, 0.32, 0.28])
    assert evenness_told(rare, drawn, 1.0, 100) == "evenness of the clusters (1 is even) 0.730, drawn 1.000"
    assert "little to give; compare with balance=0" in evenness_told(even, drawn, 1.0, 100)
    assert "little to give" not in evenness_told(even, drawn, 0.0, 100)
    # 15 poses a cluster: how even they are is chance.
    assert "little to give" not in evenness_told(even, drawn, 1.0, 47)
    assert "little to give" in evenness_told(even, drawn, 1.0, 48)
