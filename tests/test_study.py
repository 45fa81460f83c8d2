"""Running a study: failures, breaks, growing, and real trainings that are killed."""

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

import pandas as pd
import pytest
from rich.console import Console
from study_cases import FakeProcess, ablation, quiet_progress, write_epochs

from dpose_yolo.cli import run
from dpose_yolo.errors import DPoseError
from dpose_yolo.study.command import run_study
from dpose_yolo.study.plan import ablate_plan, sweep_plan
from dpose_yolo.study.progress import Progress, duration
from dpose_yolo.study.runner import Job, Slot, last_word, run_jobs, slots
from dpose_yolo.study.state import (
    changed_setting,
    epochs_done,
    finished,
    read_json,
    run_folder,
    run_record,
)


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
    assert len(again) == 14 and not {"baseline-s0", "both-s1"} & set(again)
    content = read_json(tmp_path / "s" / "study.json")
    assert content and content["seeds"] == [0, 1, 2] and len(content["arms"]) == 6
    with pytest.raises(DPoseError, match=r"baseline-s0 was trained with epochs=3, now 4: give the study another name="):
        run_study(ablation(seeds=3, epochs=4), tmp_path / "s", slots(), goes_on, check=False)


ONCE = {"epochs": 3, "seeds": [0]}
GROWN = [
    (
        {**ONCE, "arms": "baseline"},
        {**ONCE, "arms": "both", "epochs": 4},
        "baseline-s0 was trained with epochs=3, now 4",
    ),
    ({**ONCE, "arms": "both"}, {**ONCE, "seeds": [1], "lr0": 0.1}, "both-s0 was trained with lr0=0.004, now 0.1"),
    ({**ONCE, "arms": "both"}, {**ONCE, "arms": "baseline,balance", "att": 7}, None),  # no arm with attention is new
    ({**ONCE, "arms": "both"}, {**ONCE, "arms": "attention", "att": 7}, "both-s0 was trained with att=40, now 7"),
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
