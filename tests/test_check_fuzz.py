"""Readers of labels, tables and data YAMLs over bytes that nobody meant: an answer or one line, never a crash."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpose_yolo.dataset.card import read_card
from dpose_yolo.dataset.index import Index
from dpose_yolo.dataset.labels import read_label
from dpose_yolo.errors import DPoseError
from dpose_yolo.report.tables import csv_column

FUZZ = settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
numbers = st.sampled_from(["0", "1", "2", "-1", "0.5", "1e9", "nan", "inf", "-0", "1_0", "x", "٣", "0x1", "1e-400"])
lines = st.lists(st.lists(numbers, max_size=14).map(" ".join), max_size=4).map("\n".join)


@FUZZ
@given(content=st.one_of(st.binary(max_size=200), lines.map(str.encode)))
def test_label_reader(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    label = read_label(str(path), 2, 3, 1)
    assert label.rows.shape[1] == 11
    assert np.isfinite(label.rows).all()
    points = label.rows[:, 5:].reshape(-1, 2, 3)
    assert ((points[..., :2] >= -0.01) & (points[..., :2] <= 1.01)).all()
    assert np.isin(points[..., 2], (0, 1, 2)).all() and (label.rows[:, 3:5] > 0).all()
    if content.strip() and not len(label.rows) and label.state == "found":
        assert label.problems


@FUZZ
@given(row=st.lists(st.floats(0.3, 0.7), min_size=4, max_size=4), flags=st.lists(st.integers(0, 2), min_size=2))
def test_sound_labels_come_back_as_written(tmp_path: Path, row: list[float], flags: list[int]) -> None:
    words = ["0", "0.5", "0.5", "0.6", "0.6", f"{row[0]}", f"{row[1]}", f"{flags[0]}", f"{row[2]}", f"{row[3]}"]
    (tmp_path / "a.txt").write_text(" ".join([*words, f"{flags[1]}"]))
    label = read_label(str(tmp_path / "a.txt"), 2, 3, 1)
    assert not label.problems
    assert label.rows[0, 5:].tolist() == [row[0], row[1], flags[0], row[2], row[3], flags[1]]


cells = st.sampled_from(["file", "subject", "split", "a.jpg", "", '"', ",", "\n", "\0", "x" * 300, "é", "\ufeff", "'"])


@FUZZ
@given(content=st.one_of(st.binary(max_size=200), st.lists(cells, max_size=20).map(",".join).map(str.encode)))
def test_table_readers(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "index.csv"
    path.write_bytes(content)
    with suppress(DPoseError):
        number, _ = Index(path).find("/x/a.jpg", "train")
        assert number >= -2
    with suppress(DPoseError):
        words = csv_column(path, ["/x/a.jpg"], ["subject"])
        assert words is None or len(words) == 1


@FUZZ
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_data_yaml_reader(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.yaml"
    path.write_bytes(content)
    with pytest.raises(DPoseError) as error:
        read_card(path)
    assert "\n" not in str(error.value)
