"""What counts as the same answer, on answers made up by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from dpose_yolo.export.answers import Answer
from dpose_yolo.export.formats import FP32, PRECISIONS
from dpose_yolo.export.parity import compare
from dpose_yolo.metrics.samples import Truth

POINTS = np.array([[[10, 10, 0.9], [30, 40, 0.8]], [[60, 10, 0.9], [80, 40, 0.8]], [[5, 5, 0.1], [6, 6, 0.1]]])
CENTRES = np.array([[20.0, 25], [70, 25], [5, 5]])
SCORES = np.array([0.9, 0.6, 0.01])


def answer(points=POINTS, scores=SCORES, centres=CENTRES, persons=2) -> Answer:
    """Three candidates, of which the first two are the persons."""
    rows = [
        np.concatenate([c - 20, c + 20, [s], p.ravel()])
        for c, s, p in zip(centres[:persons], scores[:persons], points[:persons], strict=True)
    ]
    return Answer(np.array(scores), np.array(centres), np.array(points), np.array(rows).reshape(persons, 11))


def compared(other: Answer, precision=FP32, reference: Answer | None = None, **how):
    boxes = np.concatenate([CENTRES[:2] - 20, CENTRES[:2] + 20], 1)
    keypoints = POINTS[:2].copy()
    keypoints[..., 2] = 2
    sizes, sigmas = np.array([[100, 50]] * 3), np.full(2, 0.05)
    truth = Truth(
        ["a", "b", "c"], sizes, np.repeat(np.arange(3), 2), np.tile(keypoints, (3, 1, 1)), np.tile(boxes, (3, 1)),
        ["l", "r"], sigmas,
    )  # fmt: skip
    mine = reference or answer()
    part = SimpleNamespace(truth=truth)
    return compare(lambda v: mine, lambda v: other, lambda p: p, part, precision, read=lambda f: f, **how)


def test_the_same_answer():
    found = compared(answer())
    assert found["passed"] and found["pixels_max"] == 0 and found["keypoints"] == 3 * 4
    assert found["AP_pytorch"] == found["AP_exported"] == 1


def test_a_shift_of_one_keypoint_is_found_and_measured():
    moved = POINTS.copy()
    moved[1, 1, :2] += [0.03, 0.04]
    found = compared(answer(moved))
    assert found["pixels_max"] == pytest.approx(0.05) and found["passed"] is (found["pixels_max"] <= 0.05)
    moved[1, 1, 0] += 0.03
    found = compared(answer(moved))
    assert not found["passed"] and "keypoints differ by 0.0721 px" in found["reasons"][0]
    assert compared(answer(moved), PRECISIONS[16])["passed"]  # judged by AP


def test_where_ap_alone_judges_there_has_to_be_some():
    """A wrecked file loses nothing beside a model that finds nothing."""
    far = POINTS.copy()
    far[..., :2] += 40
    wrecked = POINTS * 0
    for bits in (16, 8):
        found = compared(answer(wrecked), PRECISIONS[bits], reference=answer(far))
        assert found["AP_pytorch"] < 0.05 and not found["passed"] and not found["judged"]
        assert "nothing is proven, look at imgsz=, data= and split=" in found["reasons"][0]
    assert compared(answer(far), reference=answer(far))["passed"]  # single precision is judged by pixels


def test_a_candidate_that_is_nobody_to_the_reference():
    found = compared(answer(scores=np.array([0.9, 0.6, 0.7])))
    assert found["box_confidence_max"] == pytest.approx(0.69) and found["keypoints"] == 3 * 6


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none(value):
    broken = POINTS.copy()
    broken[0, 0, 0] = value
    found = compared(answer(broken))
    assert not found["passed"] and found["lost"] == ["a", "b", "c"]
    found = compared(answer(scores=np.array([0.9, 0.6, value])))
    assert not found["passed"]


def test_ap_counts_either_way_in_single_precision_only_as_loss_below():
    worse = answer(scores=np.array([0.9, 0.6, 0.01]), persons=1)
    assert "AP 1.0000 became 0.5" in compared(worse, PRECISIONS[8])["reasons"][-1]
    assert compared(answer(), PRECISIONS[8], worse)["passed"]
    assert not compared(answer(), FP32, worse)["passed"]


def test_persons_are_matched_by_place():
    turned = answer(POINTS[[1, 0, 2]], SCORES[[1, 0, 2]], CENTRES[[1, 0, 2]])
    assert compared(turned, end="persons")["pixels_max"] == 0
    nobody = answer(persons=0)
    assert compared(nobody, end="persons")["lost"] == ["a", "b", "c"]


def one(at: int) -> Answer:
    return answer(POINTS[[at]], SCORES[[at]], CENTRES[[at]], persons=1)


def test_single_is_the_likeliest_in_the_region():
    assert compared(one(0), end="single")["passed"]
    found = compared(one(1), end="single")
    assert not found["passed"] and found["pixels_max"] == pytest.approx(50)
    right = (0.5, 0, 1, 1)
    assert (
        compared(one(1), end="single", roi=right)["passed"] and not compared(one(0), end="single", roi=right)["passed"]
    )
    nobody = Answer(np.zeros(0), np.zeros((0, 2)), np.zeros((0, 2, 3)), np.zeros((0, 11)))
    assert compared(nobody, end="single")["lost"] == ["a", "b", "c"]


def test_single_may_take_either_of_two_equals():
    tied = answer(scores=np.array([0.60001, 0.6, 0.01]))
    found = compared(answer(POINTS[[1]], np.array([0.6]), CENTRES[[1]], persons=1), reference=tied, end="single")
    assert found["pixels_max"] == 0 and not found["lost"]


def test_nothing_proves_nothing():
    nobody = answer(persons=0, scores=np.zeros(3))
    assert "nothing is proven" in compared(nobody, reference=nobody, end="persons")["reasons"][-1]


@pytest.mark.parametrize(("judged", "words"), [(True, "PARITY FAILED on"), (False, "parity NOT PROVEN on")])
def test_what_cannot_be_judged_has_not_failed(judged, words):
    from pathlib import Path

    from dpose_yolo.report.export import export_lines

    found = compared(answer(POINTS * 0), PRECISIONS[16]) | {
        "passed": False,
        "judged": judged,
        "split": "val",
        "data": "d",
    }
    lines = export_lines(Path("a.onnx"), {"bytes": 1, "int8": None, "tensorrt": None, "parity": found}, True)
    assert any(line.startswith(words) for line in lines)


def test_calibration_on_few_poses_advises_a_setting_it_takes(mini_dataset, monkeypatch):
    from dpose_yolo.errors import DPoseError
    from dpose_yolo.export.calibration import calibration_images
    from dpose_yolo.settings import defaults

    monkeypatch.setattr("dpose_yolo.export.calibration.defaults", lambda: {**defaults(), "clusters": 9})
    data = mini_dataset(train=1, val=1, test=1)
    with pytest.raises(DPoseError, match=r"clusters=9 but only .*\): set calibrate=random$"):
        calibration_images(data, 4, "balanced")
    assert len(calibration_images(data, 4, "random")[0]) == 1
