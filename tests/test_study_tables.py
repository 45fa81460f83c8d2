"""The numbers in the tables of a study."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from study_cases import FakeProcess, ablation, leave_results

from dpose_yolo.errors import DPoseError
from dpose_yolo.metrics import Matches
from dpose_yolo.report.study import difference_rows, markdown, save_study
from dpose_yolo.study.command import run_study
from dpose_yolo.study.groups import ImageGroups
from dpose_yolo.study.plan import sweep_plan
from dpose_yolo.study.results import collect
from dpose_yolo.study.runner import Job, Slot, slots
from dpose_yolo.study.state import (
    run_folder,
)


@pytest.fixture
def study(tmp_path) -> Path:
    """Two seeds: the reference finds the common postures only, the arm all of them, and one person less with seed 1."""
    plan = ablation(seeds=2, arms="baseline,both")
    hits = {"baseline": np.arange(8) < 4, "both": np.ones(8, bool)}

    def start(job: Job, slot: Slot) -> FakeProcess:
        arm, seed = job.name.split("-s")
        process = FakeProcess(job, status=0, looks=0)
        found = hits[arm].copy()
        if seed == "1":
            found[0] = False
        ap = {"baseline-s0": 0.50, "baseline-s1": 0.54, "both-s0": 0.60, "both-s1": 0.61}[job.name]
        leave_results(job.folder, found, AP=ap)
        process.poll = lambda: 0  # type: ignore[method-assign]
        return process

    assert run_study(plan, tmp_path / "study", slots(), start, check=False) == 0
    return tmp_path / "study"


def test_means_and_spread(study):
    table = pd.read_csv(study / "table.csv").set_index("arm")
    assert table.loc["baseline", "AP"] == pytest.approx(0.52) and table.loc["both", "AP"] == pytest.approx(0.605)
    # of the sample: two values lie half their distance from the mean, so std = distance / sqrt 2
    assert table.loc["baseline", "AP_std"] == pytest.approx(0.04 / 2**0.5, rel=1e-4)
    assert list(table["seeds"]) == [2, 2] and table.loc["both", "worst"] == 0.1
    text = (study / "table.md").read_text()
    assert "| baseline | 2 | 0.520 ± 0.028 |" in text and "OKS area 0.53 of the box" in text and "1.5 |" in text


def test_differences_by_hand(study):
    """AP of k found of n persons, all right: precision 1 up to recall k/n, at floor(100 k/n) + 1 of 101 recalls."""
    table = pd.read_csv(study / "differences.csv").set_index("figure")
    ap = {k: (100 * k // 8 + 1) / 101 for k in (3, 4, 7, 8)}
    assert table.loc["AP", "mean"] == pytest.approx(((ap[8] - ap[4]) + (ap[7] - ap[3])) / 2, abs=1e-6)
    # Four clusters: head 0 and 1... two of them, medium one, tail one; both models are alike on the head.
    assert tuple(table.loc["head", ["mean", "low", "high"]]) == (0, 0, 0)
    assert tuple(table.loc["tail", ["mean", "low", "high"]]) == (1, 1, 1)
    assert table.loc["AP", "low"] < table.loc["AP", "mean"] < table.loc["AP", "high"] and set(table["seeds"]) == {2}


def test_differences_are_those_of_the_metrics(study):
    from dpose_yolo.metrics import bootstrap_weights, macro_average_precision, seed_mean_difference, third_mask

    table = pd.read_csv(study / "differences.csv").set_index("figure")
    arms, bases = (
        [Matches.load(run_folder(study, arm, s) / "matches.npz") for s in (0, 1)] for arm in ("both", "baseline")
    )
    groups = ImageGroups.load(run_folder(study, "both", 0) / "groups.npz")
    weights = bootstrap_weights(8, None, 200, seed=0)
    medium = third_mask(groups.cluster, groups.cluster_counts, "medium")
    for figure, options in (
        ("AP50", {"measure": "AP50"}),
        ("AR", {"measure": "AR"}),
        ("medium", {"images": medium}),
        ("macro", {"measure": macro_average_precision(groups.cluster)}),
    ):
        expected = seed_mean_difference(arms, bases, weights, **options)
        assert tuple(table.loc[figure, ["mean", "low", "high"]]) == pytest.approx(tuple(expected), abs=1e-5), figure


def test_bold_where_the_interval_leaves_0_out(study):
    results = collect(study)
    head, ((label, seeds, *cells),) = difference_rows(results)
    by = dict(zip(head[2:], cells, strict=True))
    assert (label, seeds) == ("both", "2")
    assert by["tail"] == "**+1.000 [+1.000, +1.000]**" and by["head"] == "+0.000 [+0.000, +0.000]"


def test_what_is_not_comparable_is_left_out_and_named(study):
    path = run_folder(study, "both", 1) / "metrics.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "oks_area": 1.0}))
    results = collect(study)
    assert results.left_out == {"both-s1": "evaluated with oks_area 1.0, the others with 0.53"}
    assert set(results.differences["seeds"]) == {1} and len(results.runs) == 3
    assert "Not in the tables: both-s1" in markdown(results)
    path.write_text(json.dumps(content))
    groups = run_folder(study, "both", 1) / "groups.npz"
    other = ImageGroups.load(groups)
    other.cluster[0] = 3
    other.save(groups)
    with pytest.raises(DPoseError, match="both-s1 was evaluated on other images or postures than baseline-s0"):
        collect(study)


def test_sweep_draws_a_curve(tmp_path):
    plan = sweep_plan({"data": "x.yaml", "clusters": [4, 8, 12, "auto"], "seeds": 2, "baseline": True})
    assert run_study(plan, tmp_path, slots(), lambda job, slot: FakeProcess(job), check=False) == 0
    results = collect(tmp_path)
    files = {f.name: f for f in save_study(results, tmp_path)}
    assert files["curve.png"].stat().st_size > 10_000 and files["study.png"].stat().st_size > 10_000
    table = pd.read_csv(files["table.csv"])
    assert list(table["clusters"].fillna("")) == ["", "4", "8", "12", "auto"]


def test_a_baseline_is_no_point_of_the_curve(tmp_path):
    """It has no attention either: beside the arm balance=0, which has, it would be a second point at 0."""
    plan = sweep_plan({"data": "x.yaml", "balance": [0, 0.5, 1], "seeds": 1, "baseline": True})
    assert run_study(plan, tmp_path, slots(), lambda job, slot: FakeProcess(job), check=False) == 0
    summary = collect(tmp_path).summary.set_index("arm")
    assert pd.isna(summary.loc["baseline", "balance"]) and summary.loc["balance-0", "balance"] == 0
