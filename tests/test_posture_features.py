import numpy as np
import pytest

from dpose_yolo.errors import DPoseError
from dpose_yolo.posture import posture_features


def test_keypoints_relative_to_the_box_in_units_of_its_size():
    keypoints = np.array([[[110.0, 220.0, 2], [100.0, 200.0, 1], [5.0, 5.0, 0]]])
    boxes = np.array([[100.0, 200.0, 40.0, 10.0]])  # sqrt(40 * 10) = 20
    features = posture_features(keypoints, boxes)
    assert features.dtype == np.float32 and features.shape == (1, 6)
    np.testing.assert_array_equal(features, np.array([[0.5, 1.0, 0, 0, np.nan, np.nan]], np.float32))
    raw = posture_features(keypoints, boxes, scale="none")
    np.testing.assert_array_equal(raw, np.array([[10, 20, 0, 0, np.nan, np.nan]], np.float32))


def test_the_same_posture_elsewhere_and_twice_as_big_has_the_same_features():
    rng = np.random.default_rng(0)
    keypoints, boxes = rng.uniform(0, 100, (5, 17, 2)), rng.uniform(20, 80, (5, 4))
    moved = boxes * 2 + np.array([300, -40, 0, 0])
    np.testing.assert_allclose(
        posture_features(keypoints * 2 + np.array([300, -40]), moved),
        posture_features(keypoints, boxes),
        atol=1e-5,
    )


@pytest.mark.parametrize("box", [[0, 0, 0, 5], [0, 0, 5, -1], [np.nan, 0, 5, 5], [0, 0, np.inf, 5]])
def test_a_degenerate_box_makes_the_row_nan_and_no_other(box):
    features = posture_features(np.ones((2, 3, 2)), np.array([box, [0, 0, 1, 1]], float))
    assert np.isnan(features[0]).all() and (features[1] == 1).all()


def test_no_poses_give_no_features():
    assert posture_features(np.zeros((0, 17, 3)), np.zeros((0, 4))).shape == (0, 34)


@pytest.mark.parametrize(
    ("keypoints", "boxes", "scale", "line"),
    [
        ((2, 17), (2, 4), "box", r"keypoints have shape \(2, 17\)"),
        ((2, 17, 4), (2, 4), "box", "expected .poses, keypoints, 2 or 3"),
        ((2, 17, 3), (3, 4), "box", r"boxes have shape \(3, 4\): expected \(2, 4\)"),
        ((2, 17, 3), (2, 4), "area", "posture scale 'area' is unknown"),
    ],
)
def test_wrong_input_is_told_in_one_line(keypoints, boxes, scale, line):
    with pytest.raises(DPoseError, match=line):
        posture_features(np.ones(keypoints), np.ones(boxes), scale)
