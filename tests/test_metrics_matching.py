"""The match record: weighted AP is the AP of repeated images; matching by hand; its file."""

import time
from dataclasses import replace

import numpy as np
import pytest
from metric_cases import cabin_truth, crowd_truth, detected, found, people

from dpose_yolo.errors import DPoseError
from dpose_yolo.metrics import Detections, Matches, Truth, assign_by_box, coco_metrics, match, person_oks
from dpose_yolo.metrics.similarity import box_iou


def repeated(truth: Truth, detections: Detections, times: np.ndarray) -> tuple[Truth, Detections]:
    """A data set that really holds image i `times[i]` times."""
    source = np.repeat(np.arange(len(times)), times)
    persons = [np.flatnonzero(truth.image == i) for i in source]
    rows = [np.flatnonzero(detections.image == i) for i in source]
    image = [np.repeat(np.arange(len(source)), [len(part) for part in parts]) for parts in (persons, rows)]
    own, dets = np.concatenate(persons), np.concatenate(rows)
    files = [f"{n}_{truth.files[i]}" for n, i in enumerate(source)]
    labels = replace(
        truth,
        files=files,
        sizes=truth.sizes[source],
        image=image[0],
        keypoints=truth.keypoints[own],
        boxes=truth.boxes[own],
    )
    return labels, Detections(image[1], detections.score[dets], detections.boxes[dets], detections.keypoints[dets])


@pytest.mark.parametrize("make", [cabin_truth, crowd_truth])
def test_weighted_ap_is_the_ap_of_really_repeated_images(make):
    truth = make()
    detections = detected(truth, noise=0.04)
    matches = match(truth, detections)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(truth.files), np.full(len(truth.files), 1 / len(truth.files)), size=4)
    ap, ap50, ap75 = matches.average_precision(weights)
    ar = matches.average_recall(weights)
    for b, times in enumerate(weights):
        expected = coco_metrics(*repeated(truth, detections, times))
        ours = {"AP": ap[b], "AP50": ap50[b], "AP75": ap75[b], "AR": ar[b]}
        assert ours == pytest.approx(expected, abs=1e-9)
    assert np.ptp(ap) > 0.005


def test_a_mask_gives_the_ap_of_these_images_alone():
    truth = crowd_truth(80)
    detections = detected(truth, noise=0.04)
    mask = np.arange(80) % 3 == 0
    part = repeated(truth, detections, mask.astype(int))
    ap, ap50, ap75 = match(truth, detections).average_precision(mask)
    expected = coco_metrics(*part)
    assert (ap[0], ap50[0], ap75[0]) == pytest.approx((expected["AP"], expected["AP50"], expected["AP75"]), abs=1e-9)
    assert abs(ap[0] - match(truth, detections).average_precision()[0][0]) > 1e-3


def test_scale_of_weights_chunks_and_company_do_not_matter(monkeypatch):
    truth = cabin_truth()
    matches = match(truth, detected(truth))
    weights = np.random.default_rng(0).integers(0, 4, (7, len(truth.files)))
    together = np.stack(matches.average_precision(weights))
    np.testing.assert_allclose(np.stack(matches.average_precision(weights * 0.5)), together, atol=1e-9)
    alone = np.stack([np.concatenate(matches.average_precision(row)) for row in weights], axis=1)
    np.testing.assert_allclose(alone, together, atol=1e-12)
    monkeypatch.setattr("dpose_yolo.metrics.matching._CELLS", 1)
    np.testing.assert_allclose(np.stack(matches.average_precision(weights)), together, atol=1e-12)


def test_no_persons_left_is_no_number():
    truth = people((0, 0.0), images=2)
    matches = match(truth, found(truth, (0, 0.9, 0.97)), 1.0)
    ap, _, _ = matches.average_precision([[1, 1], [0, 1], [0, 0], [1, 0]])
    np.testing.assert_allclose(ap, [1, np.nan, np.nan, 1])
    np.testing.assert_array_equal(matches.average_recall([[1, 1], [0, 1]]), [1, np.nan])


def test_a_person_is_found_once_and_by_the_better_scored_detection():
    truth = people((0, 0.0), (0, 300.0))
    matches = match(truth, found(truth, (0, 0.6, 0.97), (0, 0.9, 0.77), (1, 0.3, 0.52)), 1.0)
    np.testing.assert_array_equal(matches.score, [0.9, 0.6, 0.3])
    assert matches.matched.sum(1).tolist() == [2, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    assert matches.matched[:, 0].tolist() == [True] * 6 + [False] * 4  # the surer one takes the person while it can
    assert matches.matched[:, 1].tolist() == [False] * 6 + [True] * 4
    assert matches.matched[:, 2].tolist() == [True] + [False] * 9


def test_persons_that_count_come_before_nearer_ones_that_do_not():
    truth = people((0, 0.0), (0, 3.0))
    truth.keypoints[1] = 0  # box only: whatever lies on it has OKS 1
    matches = match(truth, found(people((0, 0.0)), (0, 0.9, 0.8), (0, 0.8, 0.97), (0, 0.7, 0.97)), 1.0)
    assert matches.truths.tolist() == [1]
    assert matches.matched[0].tolist() == [True, False, False]
    assert matches.ignored[0].tolist() == [False, True, False]  # the third is one too many
    assert matches.matched[-1].tolist() == [False, True, False]
    assert matches.ignored[-1].tolist() == [True, False, False]


def test_weights_that_are_none_are_refused():
    truth = people((0, 0.0), images=2)
    matches = match(truth, found(truth, (0, 0.9, 0.97)))
    with pytest.raises(DPoseError, match=r"shape \(1, 3\): expected \(replicates, 2 images\)"):
        matches.average_precision([1, 1, 1])
    with pytest.raises(DPoseError, match="at least 0"):
        matches.average_precision([1, -1])
    with pytest.raises(DPoseError, match="finite"):
        matches.average_recall([1, np.nan])


def test_a_thousand_replicates_take_seconds():
    truth = cabin_truth("train")
    detections = detected(truth, spurious=18)
    assert len(detections.image) > 12_000
    matches = match(truth, detections)
    weights = np.random.default_rng(0).poisson(1.0, (1000, len(truth.files)))
    start = time.process_time()
    ap, _, _ = matches.average_precision(weights)
    assert time.process_time() - start < 10  # 0.7 s on one core; a loop over replicates takes minutes
    assert ap.shape == (1000,)
    assert ap.mean() == pytest.approx(matches.average_precision()[0][0], abs=0.02)


def test_the_file_keeps_everything_and_holds_no_pickle(tmp_path):
    truth = crowd_truth()
    matches = match(truth, detected(truth), 0.7, 15)
    path = matches.save(tmp_path / "new" / "matches.npz")
    again = Matches.load(path)
    for name in ("image", "score", "matched", "ignored", "truths", "oks_area", "max_detections"):
        np.testing.assert_array_equal(getattr(again, name), getattr(matches, name))
    assert [file.name for file in path.parent.iterdir()] == ["matches.npz"]
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_files_that_are_no_matches_are_refused(tmp_path):
    with pytest.raises(DPoseError, match="there are no matches at"):
        Matches.load(tmp_path / "none.npz")
    broken = tmp_path / "broken.npz"
    truth = people((0, 0.0))
    match(truth, found(truth, (0, 0.9, 0.9))).save(broken)
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DPoseError, match="broken or holds no matches"):
        Matches.load(broken)
    np.savez(broken, other=np.zeros(3))
    with pytest.raises(DPoseError, match="broken or holds no matches"):
        Matches.load(broken)
    np.savez(broken, meta=np.array('{"format": "something", "version": 1}'))
    with pytest.raises(DPoseError, match="holds 'something' version 1"):
        Matches.load(broken)


def test_box_iou_by_hand():
    one = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 20, 20]])
    np.testing.assert_allclose(box_iou(one, one[:1]), [[1], [1 / 3], [0]])


def test_finding_goes_by_boxes_in_falling_score():
    truth = people((0, 0.0), (0, 20.0), (1, 0.0), images=2)
    boxes = np.array([[10.0, 0, 110, 100], [0, 0, 100, 100], [0, 0, 100, 100], [300, 0, 400, 100]])
    keypoints = np.zeros((4, 1, 3))
    detections = Detections(np.array([0, 0, 0, 1]), np.array([0.5, 0.9, 0.8, 0.99]), boxes, keypoints)
    # 0.9 takes the first person, 0.8 the second (IoU 0.67), 0.5 comes too late; 0.99 lies on nobody
    np.testing.assert_array_equal(assign_by_box(truth, detections), [1, 2, -1])


def test_oks_of_persons_for_the_worst_images():
    truth = people((0, 0.0), (1, 0.0), (2, 0.0), images=3)
    truth.keypoints[2, :, 2] = 0
    detections = found(truth, (0, 0.9, 0.63), (2, 0.9, 0.9))
    np.testing.assert_allclose(person_oks(truth, detections, 1.0), [0.63, 0.0, np.nan])
