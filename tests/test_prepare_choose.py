"""Choosing frames and dealing them out."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dpose_yolo.dataset.label_text import label_text
from dpose_yolo.prepare.card import COCO_17, keypoint_set
from dpose_yolo.prepare.choose import Variety, equal_shares, evenly, farthest, pick, randomly, weighted_shares
from dpose_yolo.prepare.clips import dealt
from dpose_yolo.prepare.plan import LONGEST, Names
from dpose_yolo.prepare.splits import assign


def rms(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sqrt(((a - b) ** 2).mean(-1))


def least_gap(pictures: np.ndarray) -> float:
    gaps = rms(pictures[:, None], pictures[None])
    np.fill_diagonal(gaps, np.inf)
    return float(gaps.min())


def stream(pictures: np.ndarray, limit: int | None, apart: float) -> list[int]:
    """Keys that a stream keeps, by what it said; the same as it thinks."""
    variety = Variety(limit, apart)
    kept: set[int] = set()
    for key, picture in enumerate(pictures):
        taken, gone = variety.offer(key, picture)
        if gone is not None:
            kept.remove(gone)
        if taken:
            kept.add(key)
        assert limit is None or len(kept) <= limit
    assert variety.kept() == sorted(kept)
    return sorted(kept)


@pytest.mark.parametrize("limit", [1, 2, 5, 20, 100])
def test_a_stream_keeps_what_is_spread_wide(limit):
    rng = np.random.default_rng(limit)
    pictures = np.rint(rng.normal(0, 30, (400, 4))).astype(np.float32)
    kept = stream(pictures, limit, 0)
    assert len(kept) == limit
    if limit > 1:
        best = least_gap(pictures[farthest(pictures, limit)])  # needs all pictures at once
        assert least_gap(pictures[kept]) > 0.5 * best
        drawn = [least_gap(pictures[rng.choice(400, limit, False)]) for _ in range(20)]
        assert least_gap(pictures[kept]) > max(drawn)


def test_a_stream_covers_a_rare_event():
    pictures = np.zeros((1000, 9), np.float32)
    pictures[:, 0] = np.arange(1000) % 7
    pictures[700:703, 1] = 100
    assert any(700 <= key < 703 for key in stream(pictures, 5, 1))


def test_without_a_limit_all_that_are_apart_are_kept():
    pictures = np.repeat(np.arange(0, 200, 2, dtype=np.float32)[:, None], 4, 1)
    assert stream(pictures, None, 4) == list(range(0, 100, 2))
    assert stream(pictures, None, 0) == list(range(100))
    assert stream(np.zeros((5, 4), np.float32), None, 0) == [0]  # the same picture is never kept twice
    assert stream(pictures, 0, 0) == []


def test_farthest_by_hand_and_with_missing_points():
    line = np.array([[0.0], [1.0], [4.0], [10.0], [5.0]], np.float32)
    assert farthest(line, 3).tolist() == [2, 3, 0]  # the median is 4; then 6 away, then 4 away
    assert sorted(farthest(line, 9)) == [0, 1, 2, 3, 4] and len(farthest(line, 0)) == 0
    nan = float("nan")
    some = np.array([[0, 0], [0, nan], [nan, 8], [0.1, nan]], np.float32)
    assert farthest(some, 2).tolist() == [0, 2] or farthest(some, 2)[1] == 2


def test_farthest_brings_rare_postures():
    rng = np.random.default_rng(0)
    common, rare = rng.normal(0, 0.05, (950, 34)), rng.normal(0.8, 0.05, (50, 34))
    features = np.concatenate([common, rare]).astype(np.float32)
    assert (pick(1000, 40, "variety", 0, features) >= 950).sum() >= 10
    assert (pick(1000, 40, "even", 0, features) >= 950).sum() == 2


def test_even_and_random():
    assert evenly(10, 3).tolist() == [1, 5, 8] and evenly(3, 9).tolist() == [0, 1, 2] and len(evenly(5, 0)) == 0
    drawn = randomly(100, 10, 1)
    assert len(set(drawn)) == 10 and (np.diff(drawn) > 0).all()
    assert (drawn == randomly(100, 10, 1)).all() and (drawn != randomly(100, 10, 2)).any()


def test_shares_lose_nothing():
    assert equal_shares(10, {"a": 100, "b": 2, "c": 100}) == {"b": 2, "a": 4, "c": 4}
    assert sum(equal_shares(11, {"a": 5, "b": 5, "c": 5}).values()) == 11
    assert equal_shares(99, {"a": 5, "b": 5}) == {"a": 5, "b": 5}
    assert weighted_shares(33600, {"train": 10**6, "test": 10**6}, {"train": 26.9, "test": 6.7}) == {
        "train": 26900,
        "test": 6700,
    }
    sizes = {("train", "a", "x"): 50, ("train", "a", "y"): 50, ("train", "b", "x"): 3, ("val", "c", "x"): 9}
    assert dealt(sizes, {"train": 21, "val": 4}) == {
        ("train", "b", "x"): 3, ("train", "a", "x"): 9, ("train", "a", "y"): 9, ("val", "c", "x"): 4,
    }  # fmt: skip


def test_subjects_are_dealt_out_whole():
    sizes = {f"p{i}": 100 + i for i in range(20)}
    parts = assign(sizes, 0.2, 0.1, 0)
    images = Counter()
    for subject, part in parts.items():
        images[part] += sizes[subject]
    assert (
        abs(images["val"] / sum(sizes.values()) - 0.2) < 0.03 and abs(images["test"] / sum(sizes.values()) - 0.1) < 0.03
    )
    assert assign(sizes, 0.2, 0.1, 0) == parts != assign(sizes, 0.2, 0.1, 1)
    assert assign({"a": 5}, 0.5, 0.5, 0) == {"a": "train"}
    assert Counter(assign({"a": 5, "b": 5}, 0.1, 0, 0).values()) == {"train": 1, "val": 1}


def test_stems_are_safe_and_different():
    names = Names()
    assert names.free("vp1", "run 1/a:b") == "vp1_run_1_a_b" and names.free("VP1", "run 1/a:b") == "VP1_run_1_a_b_2"
    assert names.free("../..") == "image" and names.free(".hidden") == "hidden"
    long = names.free("x" * 400)
    assert len(long) <= LONGEST and long != names.free("x" * 401)
    assert names.video("drive") == "drive" and names.free("drive_000123") == "drive_000123_2"
    assert names.free("司机") == "司机"


def test_label_text():
    row = np.array([[0, 0.5, 0.5, 0.25, 1 / 3, 0.1, 0.2, 2, 0.7, 0.8, 0, 0, 0, 1]])
    assert label_text(row) == "0 0.500000 0.500000 0.250000 0.333333 0.100000 0.200000 2 0 0 0 0.000000 0.000000 1\n"


def test_sides_of_keypoints():
    assert COCO_17.flip_idx() == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    assert keypoint_set(["neck", "left_hand", "right_hand"], None).flip_idx() == [0, 2, 1]
    assert keypoint_set(["a", "b"], None).flip_idx() is None
    assert keypoint_set(["left_hand", "right_foot"], None).flip_idx() is None  # a side without its partner
