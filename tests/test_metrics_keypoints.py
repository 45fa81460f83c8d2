"""The keypoint table: by hand, and its AP against pycocotools for one keypoint at a time."""

from dataclasses import replace

import numpy as np
import pytest
from metric_cases import cabin_truth, crowd_truth, detected, people, pycocotools_metrics

from dpose_yolo.errors import DPoseError
from dpose_yolo.metrics import Detections, keypoint_table


def case():
    """Three persons of size 100 with two keypoints; the third one is not found (its box is missed)."""
    truth = people((0, 0.0), (1, 0.0), (2, 0.0), images=3, keypoints=2)
    truth.keypoints[0, 1, 2] = 1  # hidden
    truth.keypoints[1, 1] = 0  # not labelled
    boxes, keypoints = truth.boxes.copy(), truth.keypoints.copy()
    boxes[2] += [60, 0, 60, 0]
    keypoints[0] = [[53, 50, 0.9], [50, 58, 0.6]]  # 3 % and 8 % off
    keypoints[1] = [[50, 70, 0.2], [10, 10, 0.7]]  # 20 % off and called hidden; a keypoint nobody labelled
    keypoints[2, :, 2] = 0.9
    return truth, Detections(np.arange(3), np.array([0.9, 0.8, 0.7]), boxes, keypoints)


def test_shares_and_errors_by_hand():
    table = keypoint_table(*case()).set_index("keypoint")
    assert table.index.tolist() == ["point_0", "point_1", "all"]
    expected = {
        "labelled": (3, 2, 5),
        "pck_05": (1 / 3, 0, 1 / 5),
        "pck_10": (1 / 3, 1 / 2, 2 / 5),
        "error": (0.115, 0.08, 0.08),  # medians of 3, 20 and of 8 and of 3, 8, 20 %
        "false_visible": (np.nan, 1, 1),
        "missed_visible": (2 / 3, 1, 3 / 4),
        "visible_pck_10": (1 / 3, 0, 1 / 4),
        "visible_error": (0.115, np.nan, 0.115),
        "hidden_count": (0, 1, 1),
        "hidden_pck_10": (np.nan, 1, 1),
        "hidden_error": (np.nan, 0.08, 0.08),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(table[name], values, err_msg=name)


def test_settings_move_their_columns_only():
    truth, detections = case()
    table = keypoint_table(truth, detections, pck=(0.02, 0.25), visible=0.1).set_index("keypoint")
    np.testing.assert_allclose(table["pck_02"], [0, 0, 0])
    np.testing.assert_allclose(table["pck_25"], [2 / 3, 1 / 2, 3 / 5])
    np.testing.assert_allclose(table["hidden_pck_25"], [np.nan, 1, 1])
    np.testing.assert_allclose(table["missed_visible"], [1 / 3, 1, 1 / 2])  # only the person that is not found
    assert keypoint_table(truth, detections, visible=0.75)["false_visible"].tolist()[1:] == [0, 0]
    for wrong in ((), (0.05, 0)):
        with pytest.raises(DPoseError, match="give shares of the person's size above 0"):
            keypoint_table(truth, detections, pck=wrong)


@pytest.mark.parametrize("truth", [cabin_truth("val"), crowd_truth()], ids=["cabin", "crowd"])
def test_ap_is_that_of_pycocotools_with_one_keypoint_labelled(truth):
    detections = detected(truth, noise=0.04)
    table = keypoint_table(truth, detections, 0.7).set_index("keypoint")
    for k, name in enumerate(truth.names[:6]):
        # Not cut out of the arrays but unlabelled: the other way to leave the other keypoints out
        labels = truth.keypoints.copy()
        labels[:, np.arange(len(truth.names)) != k] = 0
        results = detections.keypoints.copy()
        results[:, np.arange(len(truth.names)) != k, :2] = detections.keypoints[:, [k], :2]
        one = replace(detections, score=detections.keypoints[:, k, 2], keypoints=results)
        # For persons that do not count COCO takes the mean over all sigmas; there is one here
        sigmas = np.full(len(truth.names), truth.sigmas[k])
        expected = pycocotools_metrics(replace(truth, keypoints=labels, sigmas=sigmas), one, 0.7)
        assert table.loc[name, "AP"] == pytest.approx(expected["AP"], abs=1e-6)
    aps = table["AP"].to_numpy()
    assert aps[-1] == pytest.approx(np.nanmean(aps[:-1]))


def test_detections_are_ranked_by_the_keypoints_own_confidence():
    truth = people((0, 0.0), images=2)
    keypoints = np.concatenate([truth.keypoints, truth.keypoints])
    detections = Detections(np.array([0, 1]), np.array([0.3, 0.9]), np.repeat(truth.boxes, 2, 0), keypoints)
    detections.keypoints[:, 0, 2] = [0.9, 0.3]
    assert keypoint_table(truth, detections)["AP"][0] == pytest.approx(1)
    detections.keypoints[:, 0, 2] = [0.3, 0.9]
    assert keypoint_table(truth, detections)["AP"][0] == pytest.approx(0.5)


def test_keypoints_nobody_labelled_have_no_numbers_and_bare_persons_count_nowhere():
    truth, detections = case()
    bare = people((0, 0.0), (1, 0.0), (2, 0.0), (2, 400.0), images=3, keypoints=2)
    bare.keypoints[:3] = truth.keypoints
    bare.keypoints[3] = 0
    more = Detections(
        np.append(detections.image, 2),
        np.append(detections.score, 0.99),
        np.vstack([detections.boxes, bare.boxes[3]]),
        np.concatenate([detections.keypoints, np.full((1, 2, 3), 0.9)]),
    )
    expected = keypoint_table(truth, detections).drop(columns="AP")
    np.testing.assert_array_equal(
        keypoint_table(bare, more).drop(columns=["AP", "keypoint"]), expected.drop(columns="keypoint")
    )
    truth.keypoints[:, 1] = 0
    row = keypoint_table(truth, detections).iloc[1]
    assert row["labelled"] == 0
    assert np.isnan(row[["AP", "pck_05", "error", "missed_visible"]].astype(float)).all()
    assert row["false_visible"] == 1


def test_without_detections_all_is_missed():
    truth, _ = case()
    nothing = Detections(np.zeros(0), np.zeros(0), np.zeros((0, 4)), np.zeros((0, 2, 3)))
    last = keypoint_table(truth, nothing).iloc[-1]
    assert (last["AP"], last["pck_10"], last["missed_visible"]) == (0, 0, 1)
    assert np.isnan([last["error"], last["false_visible"]]).all()
