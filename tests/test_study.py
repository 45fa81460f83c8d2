"""`dpose ablate` and `dpose sweep`: which arms, what is run again after a break, and the numbers in the tables."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from dpose_yolo.cli import parse_arguments, run
from dpose_yolo.errors import DPoseError
from dpose_yolo.metrics import Matches
from dpose_yolo.report.study import difference_rows, markdown, save_study
from dpose_yolo.settings import defaults
from dpose_yolo.study.command import run_study
from dpose_yolo.study.groups import ImageGroups
from dpose_yolo.study.plan import Plan, ablate_plan, seed_list, sweep_plan, values_of
from dpose_yolo.study.progress import Progress, duration
from dpose_yolo.study.results import collect
from dpose_yolo.study.runner import Job, Slot, last_word, run_jobs, slots
from dpose_yolo.study.state import (
    changed_setting,
    epochs_done,
    finished,
    locked,
    read_json,
    run_folder,
    run_record,
    training_seconds,
)

# Plans


def ablation(**settings: Any) -> Plan:
    return ablate_plan({"data": "x.yaml", **settings})


def test_ablation_has_the_four_arms_of_table_1():
    plan = ablation(balance=0.5, att=2, epochs=7, seeds=2)
    shown = [(a.name, a.label, a.settings["balance"], a.settings["att"]) for a in plan.arms]
    assert shown == [
        ("baseline", "baseline", 0, 0),
        ("balance", "+ balance", 0.5, 0),
        ("attention", "+ attention", 0, 2),
        ("both", "both", 0.5, 2),
    ]
    assert plan.reference == "baseline" and plan.seeds == [0, 1]
    rest = [{k: v for k, v in a.settings.items() if k not in ("balance", "att")} for a in plan.arms]
    assert all(r == rest[0] for r in rest) and rest[0]["epochs"] == 7
    # All of DPOSE's settings stand in the record, so that a changed default is noticed later.
    assert set(defaults()) <= set(plan.arms[0].settings)
    assert plan.arms[0].settings["val"] is False and "seeds" not in plan.arms[0].settings


def test_some_arms_and_another_reference():
    plan = ablation(arms="balance,both", reference="both")
    assert [a.name for a in plan.arms] == ["balance", "both"] and plan.reference == "both"


def test_preset_is_unfolded():
    both = ablation(cfg="paper", epochs=5).arms[-1].settings
    assert both["att"] == 5 and both["att_order"] == 2 and both["epochs"] == 5 and both["optimizer"] == "Adam"


def test_sweep_of_words_and_numbers_as_typed():
    plan = sweep_plan(parse_arguments(["data=x.yaml", "clusters=8,16,auto", "seeds=4,9", "att_layers=[[4,6]]"]))
    assert [a.settings["clusters"] for a in plan.arms] == [8, 16, "auto"]
    assert [a.name for a in plan.arms] == ["clusters-8", "clusters-16", "clusters-auto"]
    assert plan.seeds == [4, 9] and plan.reference == "clusters-8" and plan.swept == {"clusters": [8, 16, "auto"]}
    assert all(a.settings["att_layers"] == [4, 6] for a in plan.arms)


def test_sweep_of_a_grid_with_engine_settings_and_lists():
    words = ["data=x.yaml", "lr0=1e-3,0.01", "att_layers=auto,[4,6]", "baseline=True"]
    plan = sweep_plan(parse_arguments(words))
    assert [(a.settings["lr0"], a.settings["att_layers"]) for a in plan.arms] == [
        (0.001, "auto"),
        (0.001, "auto"),
        (0.001, [4, 6]),
        (0.01, "auto"),
        (0.01, [4, 6]),
    ]
    assert [a.name for a in plan.arms][:3] == ["baseline", "lr0-0.001_att_layers-auto", "lr0-0.001_att_layers-4-6"]
    base = plan.arms[0].settings
    assert (base["balance"], base["att"], plan.reference) == (0, 0, "baseline")


@pytest.mark.parametrize("wanted", ["balance-0.5", "balance=0.5", "0.5", 0.50])
def test_reference_by_name_label_or_value(wanted):
    assert sweep_plan({"data": "x.yaml", "balance": [0, 0.5, 1], "reference": wanted}).reference == "balance-0.5"
    # `reference=1.0` is a number by the time it comes here, and the arm is called balance-1
    assert sweep_plan({"data": "x.yaml", "balance": [0, 1], "reference": 1.0}).reference == "balance-1"


def test_values():
    assert values_of("8,16,auto") == [8, 16, "auto"]
    assert values_of("1e-3,none,True") == [0.001, "none", True]
    assert values_of([[4, 6], 6]) == [[4, 6], 6]
    assert values_of("soft") == ["soft"] and values_of(3) == [3]


def test_seeds():
    assert seed_list(3) == [0, 1, 2] and seed_list([7]) == [7] and seed_list("3,4") == [3, 4]
    for wrong in (0, -1, True, "many", [1, 1], [0.5], []):
        with pytest.raises(DPoseError, match="seeds="):
            seed_list(wrong)


def test_part_is_test_where_the_data_has_one(tmp_path):
    card = tmp_path / "data.yaml"
    for text, part in (("val: v\ntest: t\n", "test"), ("val: v\ntest:\n", "val")):
        card.write_text(text)
        assert ablation(data=str(card)).evaluation["split"] == part
    assert ablation(data=str(card), split="train").evaluation["split"] == "train"


WRONG = [
    (["ablate"], "dpose ablate needs data="),
    (["ablate", "data=x.yaml", "seed=1"], "does not take seed: a study runs several"),
    (["ablate", "data=x.yaml", "resume=True"], "goes on by itself"),
    (["ablate", "data=x.yaml", "att=0"], "att=0 leaves nothing to take away"),
    (["ablate", "data=x.yaml", "arms=balance,nothing"], "arms has no 'nothing'"),
    (["ablate", "data=x.yaml", "reference=nothing"], "reference=nothing is no arm"),
    (["ablate", "data=x.yaml", "weights=first"], "weights=first must be last or best"),
    (["ablate", "data=x.yaml", "weights=best", "val=False"], "weights=best is chosen on the validation part"),
    (["ablate", "data=x.yaml", "parallel=0"], "parallel=0 must be a whole number"),
    (["ablate", "data=x.yaml", "clusters=8,16"], "clusters='8,16' is not allowed"),
    (["ablate", "data=x.yaml", "epoch=3"], "unknown setting 'epoch'"),
    (["ablate", "data=missing.yaml"], "no data file"),
    (["ablate", "data=x.yaml", "time=0.1"], "does not take time: it would give every arm another number of epochs"),
    (["ablate", "data=x.yaml", "arms=both,both"], "arms=both,both names one twice"),
    (["ablate", "report=1", "project=missing"], "report=1 must be True or False"),
    (["sweep", "data=x.yaml", "clusters=8,8"], "needs a setting with several values"),
    (["ablate", "report=True", "project=missing"], "no study in"),
    (["sweep", "data=x.yaml"], "needs a setting with several values"),
    (["sweep", "data=x.yaml", "balance=0.5,2"], "balance=2 is not allowed"),
    (["sweep", "data=x.yaml", "balance=0,1", "baseline=2"], "baseline=2 must be True or False"),
    (["sweep", "data=x.yaml", "model=a/m.yaml,b/m.yaml"], "two arms would have the same folder model-m"),
    (["sweep", "data=x.yaml", "lr0=0.1,fast"], "the settings of lr0=fast cannot be used"),
]


@pytest.mark.parametrize(("words", "line"), WRONG, ids=[" ".join(w) for w, _ in WRONG])
def test_wrong_settings_get_one_line_and_write_nothing(words, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DPoseError) as error:
        run(words)
    assert line in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


# State on disk


def test_results_csv_of_a_resumed_run_and_a_line_that_is_being_written(tmp_path):
    csv = tmp_path / "results.csv"
    assert epochs_done(csv) == 0 and training_seconds(csv) == 0
    csv.write_text("epoch,time,train/box_loss\n1,10,0.1\n2,21.5,0.1\n3,9,0.1\n4,20,0.1\n5,3")
    assert epochs_done(csv) == 5
    csv.write_text("epoch,time,train/box_loss\n1,10,0.1\n2,21.5,0.1\n3,9,0.1\n4,20,0.1\n5")
    assert epochs_done(csv) == 4 and training_seconds(csv) == 21.5 + 20


def test_a_changed_setting_is_named(tmp_path):
    arm = ablation(epochs=5).arms[1]
    record = run_record(arm, 0, {})
    assert changed_setting(tmp_path, record) is None
    (tmp_path / "arm.json").write_text(json.dumps(record))
    assert changed_setting(tmp_path, record) is None
    longer = run_record(ablation(epochs=6).arms[1], 0, {})
    assert changed_setting(tmp_path, longer) == "epochs=5, now 6"
    engine = run_record(ablation(epochs=5, lr0=0.1).arms[1], 0, {})
    assert changed_setting(tmp_path, engine) == "no lr0, now 0.1"
    elsewhere = run_record(ablation(epochs=5, device="cpu", workers=0).arms[1], 0, {})
    assert changed_setting(tmp_path, elsewhere) is None
    old = {**record, "train": {k: v for k, v in record["train"].items() if k != "repeat_cap"}}
    (tmp_path / "arm.json").write_text(json.dumps(old))
    assert changed_setting(tmp_path, record) is None  # a setting that the older version did not have


def test_two_commands_do_not_share_a_folder(tmp_path):
    pytest.importorskip("fcntl")
    with locked(tmp_path), pytest.raises(DPoseError, match="another command works on"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


# Running


class FakeProcess:
    """Ends after some looks with a status; leaves results behind if that is 0."""

    def __init__(self, job: Job, status: int = 0, looks: int = 1, log: str = ""):
        self.job, self.status, self.looks, self.ended = job, status, looks, False
        (job.folder / "log.txt").write_text(log)

    def poll(self) -> int | None:
        self.looks -= 1
        if self.looks >= 0:
            return None
        if self.status == 0:
            leave_results(self.job.folder)
        return self.status

    def terminate(self) -> None:
        self.ended = True

    def wait(self, timeout: float | None = None) -> int:
        return self.status

    kill = terminate


def leave_results(folder: Path, hits: Any = None, **metrics: Any) -> None:
    """Made-up results: 8 images with one person each, the first half shows the common postures, the rest rare ones."""
    hits = np.ones(8, bool) if hits is None else np.asarray(hits, bool)
    images = np.flatnonzero(hits)
    every = np.ones((10, len(images)), bool)
    Matches(images, np.linspace(0.9, 0.5, len(images)), every, ~every, np.ones(8, int)).save(folder / "matches.npz")
    cluster, counts = np.array([0, 0, 0, 1, 2, 2, 3, 3]), np.array([90, 40, 20, 5])
    ImageGroups(np.array([f"{i}.jpg" for i in range(8)]), cluster, counts).save(folder / "groups.npz")
    content = {
        "AP": 0.5, "AP50": 0.8, "AP75": 0.4, "AR": 0.6, "images": 8, "persons": 8, "oks_area": 0.53, "split": "test",
        "data": "a/data.yaml", "train_seconds": 90.0, "engine": {"box_AP": 0.7}, "attention": None, "names": None,
        "clusters": {"head": 0.7, "medium": 0.5, "tail": 0.2, "macro": 0.45, "worst": {"cluster": 3, "AP": 0.1}},
        "bootstrap": {"replicates": 200}, **metrics,
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(content))


def quiet_progress(jobs: list[Job]) -> Progress:
    console = Console(file=io.StringIO(), width=200)
    return Progress({j.name: j.folder for j in jobs}, {j.name: j.epochs for j in jobs}, console=console)


def test_a_failed_training_does_not_stop_the_others(tmp_path):
    jobs = [Job(n, tmp_path / n, 2) for n in "abc"]
    for job in jobs:
        job.folder.mkdir()
    started = []

    def start(job: Job, slot: Slot) -> FakeProcess:
        started.append((job.name, slot.device))
        log = "Traceback ...\r\x1b[31mdpose: error: the disk is full\x1b[0m\n\n" if job.name == "b" else ""
        return FakeProcess(job, status=int(job.name == "b"), log=log)

    with quiet_progress(jobs) as progress:
        outcome = run_jobs(jobs, slots(devices="0,1"), progress, start, pause=0)
    assert started == [("a", "0"), ("b", "1"), ("c", "0")]
    assert outcome.done == ["a", "c"] and outcome.failed == {"b": "the disk is full"}


def test_after_a_break_only_the_rest_is_run(tmp_path, capsys):
    plan = ablation(seeds=2, arms="baseline,both", epochs=3)
    started: list[str] = []
    alive: list[FakeProcess] = []

    def breaks_off(job: Job, slot: Slot) -> FakeProcess:
        if len(started) == 2:
            raise KeyboardInterrupt
        started.append(job.name)
        alive.append(FakeProcess(job, looks=1 if len(started) == 1 else 99))
        return alive[-1]

    with pytest.raises(KeyboardInterrupt):
        run_study(plan, tmp_path / "s", slots(2), breaks_off, check=False)
    assert started == ["baseline-s0", "both-s0"] and alive[1].ended and not alive[0].ended
    before = (run_folder(tmp_path / "s", "baseline", 0) / "metrics.json").stat().st_mtime_ns
    again: list[str] = []

    def goes_on(job: Job, slot: Slot) -> FakeProcess:
        again.append(job.name)
        return FakeProcess(job)

    assert run_study(plan, tmp_path / "s", slots(), goes_on, check=False) == 0
    assert again == ["both-s0", "baseline-s1", "both-s1"]
    assert (run_folder(tmp_path / "s", "baseline", 0) / "metrics.json").stat().st_mtime_ns == before
    assert "2 arms x 2 seeds, 1 finished" in capsys.readouterr().out
    # Nothing is left to do; a plan with more in it adds to what is there.
    again.clear()
    assert run_study(plan, tmp_path / "s", slots(), goes_on, check=False) == 0 and again == []
    assert run_study(ablation(seeds=3, epochs=3), tmp_path / "s", slots(), goes_on, check=False) == 0
    assert len(again) == 8 and not {"baseline-s0", "both-s1"} & set(again)
    content = read_json(tmp_path / "s" / "study.json")
    assert content and content["seeds"] == [0, 1, 2] and len(content["arms"]) == 4
    with pytest.raises(DPoseError, match=r"baseline-s0 was trained with epochs=3, now 4: give the study another name="):
        run_study(ablation(seeds=3, epochs=4), tmp_path / "s", slots(), goes_on, check=False)


ONCE = {"epochs": 3, "seeds": [0]}
GROWN = [
    (
        {**ONCE, "arms": "baseline"},
        {**ONCE, "arms": "both", "epochs": 4},
        "baseline-s0 was trained with epochs=3, now 4",
    ),
    ({**ONCE, "arms": "both"}, {**ONCE, "seeds": [1], "lr0": 0.1}, "both-s0 was trained with no lr0, now 0.1"),
    ({**ONCE, "arms": "both"}, {**ONCE, "arms": "baseline,balance", "att": 5}, None),  # no arm with attention is new
    ({**ONCE, "arms": "both"}, {**ONCE, "arms": "attention", "att": 5}, "both-s0 was trained with att=1, now 5"),
    ({**ONCE, "clusters": [4, 8], "baseline": True}, {**ONCE, "clusters": [12, 16]}, None),
    ({**ONCE, "clusters": [4, 8]}, {**ONCE, "clusters": [12, 16], "data": "y.yaml"}, "y.yaml"),
    ({**ONCE, "clusters": [4, 8]}, {**ONCE, "clusters": [12, 16], "workers": 0}, None),
]


@pytest.mark.parametrize(("first", "then", "line"), GROWN, ids=range(len(GROWN)))
def test_a_study_does_not_grow_by_what_was_trained_otherwise(first, then, line, tmp_path):
    def start(job: Job, slot: Slot) -> FakeProcess:
        return FakeProcess(job)

    make = sweep_plan if "clusters" in first else ablate_plan
    assert run_study(make({"data": "x.yaml", **first}), tmp_path, slots(), start, check=False) == 0
    before = (tmp_path / "study.json").read_text()
    grown = make({"data": "x.yaml", **then})
    if line is None:
        assert run_study(grown, tmp_path, slots(), start, check=False) == 0
        return
    with pytest.raises(DPoseError, match="would stand in the same table") as error:
        run_study(grown, tmp_path, slots(), start, check=False)
    assert line in str(error.value) and (tmp_path / "study.json").read_text() == before


def test_going_on_takes_what_concerns_the_machine_from_now(tmp_path, monkeypatch):
    from dpose_yolo.commands import train as command
    from dpose_yolo.study import arm

    given: list[dict[str, Any]] = []
    monkeypatch.setattr(arm, "trained_epochs", lambda path: 1)
    monkeypatch.setattr(command, "main", given.append)
    arm.train(tmp_path, {"train": {"data": "x.yaml", "epochs": 3, "workers": 0, "cache": False, "lr0": 0.1}})
    assert (given[0]["workers"], given[0]["cache"]) == (0, False) and not {"device", "lr0"} & set(given[0])


def test_another_evaluation_repeats_the_evaluation_only(tmp_path):
    plan = ablation(seeds=1, arms="both")
    run_study(plan, tmp_path, slots(), lambda job, slot: FakeProcess(job), check=False)
    folder = run_folder(tmp_path, "both", 0)
    (folder / "weights").mkdir()
    other = ablation(seeds=1, arms="both", oks_area=1.0)
    record = run_record(other.arms[0], 0, other.evaluation)
    assert changed_setting(folder, record) is None and not finished(folder, record)

    def start(job: Job, slot: Slot) -> FakeProcess:
        assert not (folder / "metrics.json").exists() and (folder / "weights").is_dir()
        return FakeProcess(job)

    assert run_study(other, tmp_path, slots(), start, check=False) == 0 and finished(folder, record)


def test_failure_is_the_exit_status(tmp_path, capsys):
    plan = ablation(seeds=1, arms="baseline,both")
    status = run_study(
        plan, tmp_path, slots(), lambda j, s: FakeProcess(j, int(j.name == "both-s0"), log="no memory"), False
    )
    assert status == 1
    out = capsys.readouterr().out
    assert "both-s0 failed: no memory" in out and (tmp_path / "table.md").is_file()


def test_places():
    assert slots(3, cores=8) == [Slot(None, 2)] * 3
    assert slots(None, "0,1", cores=8) == [Slot("0", 4), Slot("1", 4)]
    assert slots(3, [0, 1], cores=2) == [Slot("0", 1), Slot("1", 1), Slot("0", 1)]
    assert slots(cores=4) == [Slot(None, 4)]


def test_last_word_of_a_log(tmp_path):
    log = tmp_path / "log.txt"
    assert last_word(log) == ""
    log.write_text("one\ntwo: 10%\rtwo: 20%\n \n")
    assert last_word(log) == "two: 20%"


def test_time_left_counts_this_commands_epochs_only(tmp_path):
    now = [0.0]
    for name, rows in (("a", 4), ("b", 0)):
        (tmp_path / name).mkdir()
        write_epochs(tmp_path / name, rows)
    console = Console(file=io.StringIO(), width=200)
    folders = {n: tmp_path / n for n in "ab"}
    progress = Progress(folders, {"a": 10, "b": 10}, finished=2, console=console, clock=lambda: now[0])
    progress.started("a")
    assert progress.left() is None and progress.state() == "2/4 trainings, 4/20 epochs, ? left"
    now[0] = 30.0
    write_epochs(tmp_path / "a", 7)  # 3 epochs in 30 s, 13 to go
    progress.look()
    assert progress.left() == 130 and progress.state() == "2/4 trainings, 7/20 epochs, 2 min left"
    progress.ended("a", "no memory")  # its last epochs are not waited for
    assert progress.state() == "3/4 trainings, 7/17 epochs, 2 min left"
    assert "a starts again after epoch 4" in console.file.getvalue()  # type: ignore[attr-defined]
    assert [duration(s) for s in (None, 40, 700, 11_000)] == ["?", "40 s", "12 min", "3 h 03 min"]


def write_epochs(folder: Path, count: int) -> None:
    lines = [f"{i + 1},{10 * i}" for i in range(count)]
    (folder / "results.csv").write_text("\n".join(["epoch,time", *lines]) + "\n")


# Tables


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


# The real thing


def words(base: dict[str, Any], **more: Any) -> list[str]:
    kept = ("model", "data", "imgsz", "batch", "device", "project", "warmup_epochs", "optimizer", "lr0")
    return [f"{k}={v}" for k, v in {**{k: base[k] for k in kept}, **more}.items()]


@pytest.mark.slow
def test_killed_and_run_again(base, tmp_path):
    """kill -9 in the middle of the second training: the first stays as it is, the second goes on from its epoch."""
    command = [sys.executable, "-m", "dpose_yolo", "ablate", "arms=baseline,both", "seeds=1", "name=study"]
    command += words(base, epochs=30, clusters=4)
    arms = Path(base["project"]) / "study" / "arms"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    results = arms / "both-s0" / "results.csv"
    deadline = time.monotonic() + 300
    while epochs_done(results) < 3:
        assert process.poll() is None and time.monotonic() < deadline, process.stdout.read().decode()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)  # the parent alone: the training has to notice by itself
    process.wait()
    time.sleep(3)
    reached = epochs_done(results)
    time.sleep(2)
    assert 3 <= epochs_done(results) == reached < 30
    first = (arms / "baseline-s0" / "weights" / "last.pt").stat().st_mtime_ns
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (arms / "baseline-s0" / "weights" / "last.pt").stat().st_mtime_ns == first
    log = (arms / "both-s0" / "log.txt").read_text()
    assert "going on after epoch" in log and "Resuming training" in log
    epochs = pd.read_csv(results)["epoch"]
    assert epochs.iloc[-1] == 30 and set(epochs) == set(range(1, 31))
    table = pd.read_csv(arms.parent / "table.csv")
    assert list(table["arm"]) == ["baseline", "both"] and table["AP"].between(0, 1).all()
    metrics = json.loads((arms / "both-s0" / "metrics.json").read_text())
    assert (
        metrics["split"] == "test"
        and metrics["images"] == 8
        and str(arms.parent / "postures.npz") in metrics["mixture"]
    )


@pytest.mark.slow
def test_two_at_a_time_and_one_that_fails(base, capsys):
    """A layer outside the backbone is only noticed by the trainer: that arm fails, the other is in the tables."""
    status = run(["sweep", "att_layers=4,99", "seeds=1", "parallel=2", *words(base, epochs=1, clusters=4)])
    out = capsys.readouterr().out
    assert status == 1 and "att_layers-99-s0 failed: " in out
    table = pd.read_csv(Path(base["project"]) / "sweep" / "table.csv")
    assert list(table["arm"]) == ["att_layers-4"]
