"""AP by posture: thirds by hand, parts against COCO on these images alone, macro and worst."""

import json

import numpy as np
import pytest
from metric_cases import cabin_truth, detected, found, people

from dpose_yolo.errors import DPoseError
from dpose_yolo.metrics import (
    Truth,
    bootstrap_weights,
    coco_metrics,
    frequency_thirds,
    interval,
    largest_person_groups,
    macro_average_precision,
    match,
    paired,
    posture_metrics,
    third_mask,
)


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(20, (7, 6, 7)), (3, (1, 1, 1)), (4, (2, 1, 1)), (5, (2, 1, 2)), (2, (1, 0, 1)), (1, (1, 0, 0))],
)
def test_thirds_are_of_postures_most_frequent_first(count, sizes):
    counts = np.arange(count)[::-1] * 10 + 1
    assert frequency_thirds(counts) == ["head"] * sizes[0] + ["medium"] * sizes[1] + ["tail"] * sizes[2]


def test_thirds_follow_frequency_not_order():
    assert frequency_thirds([3, 500, 40]) == ["tail", "head", "medium"]
    assert frequency_thirds([5, 5, 5]) == ["head", "medium", "tail"]
    with pytest.raises(DPoseError, match="training counts"):
        frequency_thirds([1, -1])


def test_an_image_has_the_posture_of_its_largest_person():
    image, areas = np.array([0, 0, 2, 2, 3]), np.array([10.0, 20, 30, 5, 8])
    groups = largest_person_groups(image, areas, np.array([4, 1, -1, 2, -1]), 5)
    np.testing.assert_array_equal(groups, [1, -1, 2, -1, -1])  # in image 2 the largest one has no posture


def part_of(truth: Truth, detections, mask: np.ndarray) -> dict[str, float]:
    """COCO's numbers when only the images of `mask` are evaluated."""
    new = np.cumsum(mask) - 1
    own, rows = mask[truth.image], mask[detections.image]
    files = [f for f, keep in zip(truth.files, mask, strict=True) if keep]
    arrays = (new[truth.image[own]], truth.keypoints[own], truth.boxes[own])
    labels = Truth(files, truth.sizes[mask], *arrays, truth.names, truth.sigmas)
    kept = (new[detections.image[rows]], detections.score[rows], detections.boxes[rows], detections.keypoints[rows])
    return coco_metrics(labels, type(detections)(*kept))


@pytest.fixture(scope="module")
def evaluated():
    """168 images, six postures of which the last occurs only in training, and some images without a posture."""
    truth = cabin_truth()
    detections = detected(truth, noise=0.04)
    groups = np.random.default_rng(0).integers(-1, 5, len(truth.files))
    return truth, detections, match(truth, detections), groups, np.array([5, 300, 20, 60, 100, 1])


def test_parts_are_cocos_numbers_on_these_images(evaluated):
    truth, detections, matches, groups, counts = evaluated
    report = posture_metrics(matches, groups, counts)
    rows = report.rows
    assert rows["third"].tolist() == ["tail", "head", "medium", "medium", "head", "tail"]
    np.testing.assert_allclose(rows["train_share"], counts / 486)
    for c in range(5):
        expected = part_of(truth, detections, groups == c)
        assert (rows["AP"][c], rows["AP50"][c]) == pytest.approx((expected["AP"], expected["AP50"]), abs=1e-9)
        assert rows["images"][c] == (groups == c).sum()
    for third, own in (("head", (1, 4)), ("medium", (2, 3)), ("tail", (0, 5))):
        mask = np.isin(groups, own)
        np.testing.assert_array_equal(third_mask(groups, counts, third), mask)
        assert report.thirds[third]["AP"] == pytest.approx(part_of(truth, detections, mask)["AP"], abs=1e-9)
        assert report.thirds[third]["images"] == mask.sum()
        assert report.thirds[third]["clusters"] == 2
    assert np.isnan(rows["AP"][5])
    assert report.macro["AP"] == pytest.approx(rows["AP"][:5].mean())
    assert (report.macro["clusters"], report.macro["without_images"]) == (5, 1)
    assert report.worst is not None
    assert report.worst["cluster"] == rows["AP"].idxmin()
    assert report.worst["AP"] == rows["AP"].min()
    assert np.isnan(rows[["low", "high"]].to_numpy()).all()  # no replicates were asked for


def test_intervals_are_those_of_the_parts(evaluated):
    _, _, matches, groups, counts = evaluated
    weights = bootstrap_weights(len(groups), replicates=200)
    report = posture_metrics(matches, groups, counts, weights)
    for c in range(5):
        expected = interval(matches.average_precision(weights * (groups == c))[0])
        assert (report.rows["low"][c], report.rows["high"][c]) == pytest.approx(expected)
    mask = third_mask(groups, counts, "tail")
    tail = report.thirds["tail"]
    assert (tail["low"], tail["high"]) == pytest.approx(interval(matches.average_precision(weights * mask)[0]))
    macro = macro_average_precision(groups)
    assert (report.macro["low"], report.macro["high"]) == pytest.approx(interval(macro(matches, weights)))
    assert macro(matches, None) == pytest.approx(report.macro["AP"])
    assert tail["high"] - tail["low"] > report.macro["high"] - report.macro["low"]


def test_differences_of_the_tail_and_of_macro_ap(evaluated):
    truth, _, matches, groups, counts = evaluated
    better = match(truth, detected(truth, noise=0.02))
    weights = bootstrap_weights(len(groups), replicates=200)
    reports = [posture_metrics(m, groups, counts) for m in (better, matches)]
    tail = paired(better, matches, weights, images=third_mask(groups, counts, "tail"))
    assert tail.mean == pytest.approx(reports[0].thirds["tail"]["AP"] - reports[1].thirds["tail"]["AP"])
    macro = paired(better, matches, weights, measure=macro_average_precision(groups))
    assert macro.mean == pytest.approx(reports[0].macro["AP"] - reports[1].macro["AP"])
    assert 0 < macro.low < macro.mean < macro.high


def test_the_worst_posture_needs_five_images():
    truth = people(*[(i, 0.0) for i in range(9)], images=9)
    rows = [(i, 0.9, 0.97) for i in range(4)] + [(i, 0.5, 0.97) for i in range(5, 9)]  # image 4 is missed
    matches = match(truth, found(truth, *rows), 1.0)
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    report = posture_metrics(matches, groups, [9, 3], names=["hands", "phone"])
    np.testing.assert_allclose(report.rows["AP"], [1, 81 / 101])  # four of five found: recalls up to 0.8
    assert report.worst == {"cluster": 1, "name": "phone", "AP": pytest.approx(81 / 101), "images": 5}
    groups[8] = -1  # four are too few, though the worst
    assert posture_metrics(matches, groups, [9, 3]).worst is None


def test_the_summary_is_json(evaluated):
    _, _, matches, groups, counts = evaluated
    weights = bootstrap_weights(len(groups), replicates=50)
    report = posture_metrics(matches, groups, counts, weights, list("abcdef"))
    summary = json.loads(json.dumps(report.summary(), allow_nan=False))
    assert summary["tail"] == report.thirds["tail"]["AP"]
    assert summary["macro_interval"] == [report.macro["low"], report.macro["high"]]
    assert summary["head_images"] == third_mask(groups, counts, "head").sum()
    assert summary["worst"]["name"] in "abcde"
    assert (summary["clusters"], summary["without_images"], summary["worst_needs_images"]) == (6, 1, 5)


def test_what_does_not_fit_is_refused(evaluated):
    _, _, matches, groups, counts = evaluated
    with pytest.raises(DPoseError, match="run from -1 to 4, not from -1 to 3"):
        posture_metrics(matches, groups, counts[:4])
    with pytest.raises(DPoseError, match="3 postures of images for 168 images"):
        posture_metrics(matches, groups[:3], counts)
    with pytest.raises(DPoseError, match="2 names for 6 postures"):
        posture_metrics(matches, groups, counts, names=["a", "b"])
    with pytest.raises(DPoseError, match="no third 'rare'"):
        third_mask(groups, counts, "rare")
