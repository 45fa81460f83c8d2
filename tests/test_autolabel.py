"""The vote on keypoints and persons, on cases worked out by hand; teachers with their mirrored view."""

from __future__ import annotations

import numpy as np
import pytest
from autolabel_cases import NAMES, SpotPeer, SpotTeacher, spots

from dpose_yolo.autolabel.panel import Panel
from dpose_yolo.autolabel.persons import choose_drivers, group_persons
from dpose_yolo.autolabel.teachers import Found, flip_of, mirrored_points
from dpose_yolo.autolabel.votes import Rules, decide, weighted_median
from dpose_yolo.errors import DPoseError
from dpose_yolo.keypoints import COCO_NAMES, sigmas_of

RULES = Rules(least=0.3, agree=0.5, sure=0.65, weak=0.4)
NO = float("nan")


def vote(*votes, tolerance=10.0, rules=RULES):
    """The verdict on one keypoint; a vote is (teacher, x, y, confidence)."""
    teacher, x, y, confidence = map(np.array, zip(*votes, strict=True))
    points = np.stack([x, y], 1)[:, None]
    verdict = decide(points, confidence[:, None].astype(float), teacher, np.array([tolerance]), rules)
    return {name: np.asarray(value)[0] for name, value in vars(verdict).items()}


def test_an_outlier_is_voted_down():
    got = vote((0, 100, 50, 0.9), (1, 102, 50, 0.9), (2, 150, 50, 0.9))
    assert got["points"] == pytest.approx(np.array([101, 50]))  # the third vote does not pull it
    assert (got["support"], got["against"]) == (2, 1)
    assert got["spread"] == pytest.approx(0.1)  # one of ten pixels
    assert got["certainty"] == pytest.approx(2 / 3 * np.exp(-0.005) * 0.9 ** (1 / 3))  # 0.640
    assert got["flags"] == 1
    agreed = vote((0, 100, 50, 0.9), (1, 102, 50, 0.9), (2, 103, 50, 0.9))
    assert (agreed["flags"], agreed["against"], agreed["points"][0]) == (2, 0, 102)


def test_two_against_two_is_no_label():
    got = vote((0, 0, 0, 0.9), (1, 1, 0, 0.9), (2, 90, 0, 0.9), (3, 91, 0, 0.9))
    assert (got["support"], got["against"], got["flags"]) == (2, 2, 0)
    assert got["certainty"] > RULES.weak  # it is the opposition that decides
    third = vote((0, 0, 0, 0.95), (1, 1, 0, 0.95), (4, 0, 1, 0.95), (2, 90, 0, 0.9), (3, 91, 0, 0.9))
    assert (third["support"], third["against"], third["flags"]) == (3, 2, 1)


def test_the_more_confident_side_leads_whatever_the_order():
    votes = [(0, 0, 0, 0.5), (1, 100, 0, 0.8)]
    assert vote(*votes)["points"][0] == vote(*votes[::-1])["points"][0] == 100


def test_one_teacher_has_only_its_mirrored_view_to_agree_with():
    same = vote((0, 10, 10, 0.8), (0, 12, 10, 0.8))
    assert same["points"] == pytest.approx(np.array([11, 10]))
    assert (same["support"], same["flags"]) == (1, 2)
    assert same["certainty"] == pytest.approx(np.exp(-0.005) * 0.8)
    swapped = vote((0, 10, 10, 0.8), (0, 60, 10, 0.8))  # a wrist that the mirrored view takes for the other one
    assert (swapped["support"], swapped["against"], swapped["flags"]) == (0.5, 0.5, 0)
    missing = vote((0, 10, 10, 0.9), (0, 0, 0, 0.0))
    assert missing["certainty"] == pytest.approx(0.45)
    assert missing["flags"] == 1


def test_two_views_of_a_teacher_count_as_one_vote():
    got = vote((0, 0, 0, 0.9), (0, 1, 0, 0.9), (1, 50, 0, 0.9))
    assert (got["support"], got["against"], got["flags"]) == (1, 1, 0)


def test_abstaining_lowers_the_certainty_and_not_knowing_does_not():
    abstains = vote((0, 5, 5, 0.9), (1, 5, 5, 0.2))
    assert (abstains["support"], abstains["against"], abstains["flags"]) == (1, 0, 1)
    assert abstains["certainty"] == pytest.approx(0.5 * 0.9**0.5)
    knows_no_such = vote((0, 5, 5, 0.9), (1, 0, 0, NO))
    assert knows_no_such["certainty"] == pytest.approx(0.9)
    assert knows_no_such["flags"] == 2


def test_nobody_votes():
    for votes in ([(0, 5, 5, 0.1), (1, 7, 5, 0.0)], [(0, 0, 0, NO)], [(0, NO, 0, 0.9)]):
        got = vote(*votes)
        assert (got["flags"], got["certainty"], *got["points"]) == (0, 0, 0, 0)


def test_distances_are_shares_of_the_persons_size():
    votes = [(0, 100, 50, 0.9), (1, 104, 52, 0.9), (2, 130, 50, 0.9)]
    small, large = vote(*votes), vote(*[(t, 8 * x, 8 * y, c) for t, x, y, c in votes], tolerance=80.0)
    assert large["certainty"] == pytest.approx(small["certainty"])
    assert large["points"] == pytest.approx(8 * small["points"])
    assert vote(*votes, tolerance=8.0)["support"] == 1  # 4.5 pixels are more than half of 8
    assert vote(*votes, tolerance=9.0)["support"] == 2


def test_the_order_of_votes_does_not_matter():
    rng = np.random.default_rng(0)
    points, confidence = rng.normal(0, 3, (8, 17, 2)), rng.random((8, 17))
    teacher = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    first = decide(points, confidence, teacher, np.full(17, 10.0), RULES)
    assert len(set(first.flags.tolist())) == 3
    for _ in range(5):
        order = rng.permutation(8)
        again = decide(points[order], confidence[order], teacher[order], np.full(17, 10.0), RULES)
        for name, value in vars(first).items():
            assert getattr(again, name) == pytest.approx(value), name


def test_weighted_median():
    assert weighted_median(np.array([4.0]), np.array([0.3])) == 4
    assert weighted_median(np.array([8.0, 4.0]), np.array([0.5, 0.5])) == 6
    assert weighted_median(np.array([1.0, 2.0, 90.0]), np.ones(3)) == 2
    # middles of the weights at 1/8, 5/8: from 0 to 10 the half is 3/4 of the way
    assert weighted_median(np.array([0.0, 10.0]), np.array([0.25, 0.75])) == pytest.approx(7.5)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"least": 2}, "least=2 is not allowed"),
        ({"agree": 0}, "agree=0 is not allowed"),
        ({"sure": 0.3, "weak": 0.5}, "weak=0.5 is above sure=0.3"),
        ({"sure": NO}, "sure=nan"),
    ],
)
def test_thresholds_that_make_no_sense(values, text):
    with pytest.raises(DPoseError, match=text):
        Rules(**values)


def test_persons_of_several_views():
    driver, passenger, ghost = [10, 10, 110, 110], [200, 20, 260, 100], [300, 0, 320, 20]
    boxes = [np.array([driver, passenger]), np.array([[14, 10, 112, 108]]), np.array([passenger, [12, 12, 114, 106]])]
    boxes.append(np.array([ghost]))
    scores = [np.array([0.9, 0.5]), np.array([0.8]), np.array([0.6, 0.7]), np.array([0.95])]
    persons = group_persons(boxes, scores, 0.5)
    assert [p.members for p in persons] == [{0: 0, 1: 0, 2: 1}, {2: 0, 0: 1}]  # one view of four is too few
    assert persons[0].box.tolist() == [12, 10, 112, 108]
    assert group_persons([np.zeros((0, 4))], [np.zeros(0)], 0.5) == []


def test_two_boxes_of_one_view_are_two_persons():
    boxes = [np.array([[0, 0, 100, 100], [2, 0, 102, 100]]), np.array([[0, 0, 100, 100]])]
    persons = group_persons(boxes, [np.array([0.9, 0.8]), np.array([0.7])], 0.5)
    assert [p.members for p in persons] == [{0: 0, 1: 0}, {0: 1}]


def test_who_the_driver_is():
    boxes = [np.array([[0, 0, 100, 100], [150, 10, 200, 60], [210, 0, 290, 90]])]
    persons = group_persons(boxes, [np.array([0.5, 0.9, 0.7])], 0.5)
    size = (300, 100)
    assert choose_drivers(persons, "largest", size)[0].box.tolist() == [0, 0, 100, 100]
    assert choose_drivers(persons, "region", size, (0.5, 0, 1, 1))[0].box.tolist() == [210, 0, 290, 90]
    assert choose_drivers(persons, "region", size, (0.5, 0, 0.6, 0.5))[0].box.tolist() == [150, 10, 200, 60]
    assert choose_drivers(persons, "region", size, (0.5, 0.9, 1, 1)) == []
    assert len(choose_drivers(persons, "all", size)) == 3
    assert choose_drivers([], "largest", size) == []
    with pytest.raises(DPoseError, match="driver=front is not allowed"):
        choose_drivers(persons, "front", size)


def test_sides_swap_in_the_mirror():
    assert flip_of(COCO_NAMES) == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    assert flip_of([str(k) for k in range(17)]) == flip_of(COCO_NAMES)
    assert flip_of(["RWrist", "neck", "l-wrist"]) == [2, 1, 0]
    assert flip_of(["0", "1"]) is None
    found = Found(np.array([[10.0, 5, 40, 50]]), np.array([0.5]), np.array([[[20.0, 8, 0.9], [12, 30, 0.8]]]))
    turned = found.mirrored(100, [1, 0])
    assert turned.boxes.tolist() == [[60, 5, 90, 50]]
    assert turned.points[0].tolist() == [[88, 30, 0.8], [80, 8, 0.9]]
    assert mirrored_points(turned.points, 100, [1, 0]) == pytest.approx(found.points)


def test_sigmas_go_by_body_part():
    assert sigmas_of(COCO_NAMES)[[0, 9, 16]].tolist() == [0.026, 0.062, 0.089]
    assert sigmas_of(["LWrist", "right_hip", "neck", "head_top"]).tolist() == [0.062, 0.107, 0.25, 0.25]
    assert sigmas_of(["a", "b"], [0.1, 0.2]).tolist() == [0.1, 0.2]
    with pytest.raises(DPoseError, match="must be 2 numbers above 0"):
        sigmas_of(["a", "b"], [0.1, 0])


def test_the_mirrored_view_takes_out_a_teachers_bias(tmp_path):
    """A teacher that sees everything 3 pixels too far right sees it 3 pixels too far left in the mirror."""
    panel = Panel([SpotTeacher(tmp_path / "a", shift=3.0)], NAMES)
    (ballot,) = panel.look(spots(left=(90, 60), right=(30, 66)))
    assert ballot.points[:, 1, 0].tolist() == [93, 87]
    assert ballot.box.tolist() == [20, 5, 100, 76]
    verdict = ballot.decide(sigmas_of(NAMES), Rules(agree=3.0, sure=0.5, weak=0.2))
    assert verdict.points == pytest.approx(np.array([[60, 15], [90, 60], [30, 66]]))
    assert verdict.flags.tolist() == [2, 2, 2]


def test_a_teacher_that_needs_a_box_gets_that_of_the_others(tmp_path):
    asked = []

    class Peer(SpotPeer):
        def at(self, view, box):
            asked.append(box.tolist())
            return super().at(view, box)

    panel = Panel([SpotTeacher(tmp_path / "a"), Peer(tmp_path / "b")], ["right_wrist", "nose", "neck"])
    (ballot,) = panel.look(spots())
    assert asked == [[20, 5, 100, 76], [20, 5, 100, 76]]  # 120 wide: as far from either side
    assert ballot.points[:, 0].tolist() == [[30, 66]] * 4
    assert np.isnan(ballot.confidence[:, 2]).all()  # nobody knows a neck
    assert panel.unknown == ["neck"]
    assert ballot.decide(sigmas_of(["right_wrist", "nose", "neck"]), RULES).flags.tolist() == [2, 2, 0]
    assert panel.look(np.zeros((90, 120, 3), np.uint8)) == []


def test_points_on_the_edge_are_no_votes(tmp_path):
    (ballot,) = Panel([SpotTeacher(tmp_path / "a", shift=-28.0)], NAMES).look(spots(right=(28, 66)))
    assert ballot.confidence[0].tolist() == [0.9, 0.9, 0]  # at x = 0, where the engine puts what it clips


def test_teachers_that_cannot_vote(tmp_path):
    blind, alone = SpotPeer(tmp_path / "a"), SpotTeacher(tmp_path / "b")
    with pytest.raises(DPoseError, match="no teacher finds persons"):
        Panel([blind], NAMES)
    with pytest.raises(DPoseError, match="nobody to agree with"):
        Panel([alone], NAMES, flip=False)
    with pytest.raises(DPoseError, match="b has none of the keypoints left_knee"):
        Panel([alone], ["left_knee"])
    alone.names = ["0", "1", "2"]
    with pytest.raises(DPoseError, match="nobody knows its sides: set flip=False"):
        Panel([alone], ["0", "1", "2"])
