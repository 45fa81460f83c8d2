"""`dpose bench train`: turns of several arms, and the figures made of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from dpose_yolo.cli import run
from dpose_yolo.errors import DPoseError
from dpose_yolo.report.cost import cost_lines
from dpose_yolo.study import steps as steps_module
from dpose_yolo.study.steps import Steps, _Over, peak_memory
from dpose_yolo.study.turns import cost_table, typical


def test_typical_step_of_cheap_and_dear_ones():
    # Every second step costs more; one hiccup of 100 does not count.
    assert typical([1, 3, 1, 3, 1, 100, 1, 3], unit=2) == 2
    assert typical([1, 1, 100], unit=1) == 1


def answers(**more: object) -> dict:
    return {"unit": 2, "batches": 10, "between": [], "memory_mb": 100.0, "gpu_mb": None, **more}


def test_costs_by_hand():
    """The machine is twice as slow in round 2: ratios within a round do not notice."""
    rows = []
    for name, ms in (("plain", (10, 10)), ("balance", (11, 11)), ("both", (12, 20))):
        for round_ in range(3):
            for step in range(4):
                seconds = ms[step % 2] / 1000 * (2 if round_ == 2 else 1)
                rows.append((name, round_, step, seconds, 0.002))
    rows.reverse()  # as where another arm begins
    rows.sort(key=lambda row: row[1])
    table = pd.DataFrame(rows, columns=["arm", "round", "step", "seconds", "wait"])
    about = {"plain": answers(), "balance": answers(between=[0.5, 0.7, 0.9]), "both": answers(memory_mb=115.0)}
    plain, balance, both = cost_table(table, about, att_start=0.75)
    assert plain["step_ms"] == pytest.approx(10) and (plain["ratio"], plain["run_ratio"]) == (1, 1)
    assert (plain["step_ms_low"], plain["step_ms_high"]) == pytest.approx((10, 15))
    assert plain["epoch_s"] == pytest.approx(10 * 0.012)
    assert balance["ratio"] == balance["run_ratio"] == pytest.approx(1.1)
    assert balance["epoch_s"] == pytest.approx(10 * 0.013 + 0.7)
    assert both["ratio"] == pytest.approx(1.6) and both["ratio_low"] == both["ratio_high"] == pytest.approx(1.6)
    assert both["run_ratio"] == pytest.approx(1.1 + 0.25 * 0.5)  # the last quarter of the run has the term
    assert both["memory_mb_ratio"] == pytest.approx(1.15) and both["gpu_mb_ratio"] is None
    head, lines = cost_lines([plain, balance, both])
    assert dict(zip(head, lines[2], strict=True)) == {
        "arm": "both", "step ms": "16.0 (16.0-24.0)", "ratio": "1.600 (1.600-1.600)", "epoch s": "0.2",
        "ratio of epochs": "1.500", "memory MB": "115", "ratio of memory": "1.150", "ratio over a run": "1.225",
    }  # fmt: skip


def test_a_turn_stops_before_the_step_it_was_not_told_to_do(monkeypatch):
    """Steps take 1 s, waits for batches 0.1 s, two batches an epoch, by a made-up clock."""
    clock = [0.0]
    monkeypatch.setattr(steps_module, "_now", lambda trainer: clock[0])
    said = io.StringIO()
    steps = Steps(io.StringIO("go 3\ngo 1\n"), said)
    trainer = SimpleNamespace(
        epoch=0, train_loader=Loader(), batch_size=4, accumulate=1, loss_names=("box_loss",), device=torch.device("cpu")
    )
    done = 0
    with pytest.raises(_Over):
        for step in range(9):
            trainer.epoch = step // 2
            clock[0] += 0.1 if step % 2 else 0.5  # the first batch of an epoch takes longer
            steps.before(trainer)
            clock[0] += 1.0
            steps.after(trainer)
            done += 1
    ready, first, second = map(json.loads, said.getvalue().splitlines())
    assert done == 4 and ready["times"] == [] and ready["batches"] == 2 and ready["images"] == 8
    assert first["times"] == pytest.approx([1, 1, 1]) and second["times"] == pytest.approx([1])
    assert first["waits"] == [None, pytest.approx(0.1), None] and second["waits"] == [pytest.approx(0.1)]
    assert first["between"] == [pytest.approx(0.5)] and second["between"] == [pytest.approx(0.5)]


class Loader:
    dataset = range(8)

    def __len__(self) -> int:
        return 2


def test_peak_memory_follows_what_is_taken():
    before = peak_memory()["memory_mb"]
    assert before is not None
    block = bytearray(int(before * 1e6))  # as much again
    block[::4096] = b"x" * len(block[::4096])
    after = peak_memory()["memory_mb"]
    assert after is not None and after > 1.2 * before
    del block
    assert peak_memory()["memory_mb"] > 0.99 * after  # type: ignore[operator]


WRONG = [
    (["bench"], "dpose bench needs a word for what to measure"),
    (["bench", "val", "data=x.yaml"], "dpose bench train data=..., not val"),
    (["bench", "train"], "dpose bench needs data="),
    (["bench", "train", "data=x.yaml"], "no data file"),
    (["bench", "train", "data=x.yaml", "epochs=3"], "dpose bench does not take epochs"),
    (["bench", "train", "data=x.yaml", "device=0,1"], "device=0,1 are several"),
    (["bench", "train", "data=x.yaml", "att=0"], "att=0 leaves nothing to measure"),
    (["bench", "train", "data=x.yaml", "arms=plain,every"], "arms has no 'every'"),
    (["bench", "train", "data=x.yaml", "device=cpu", "channels_last=True"], "channels_last on a CPU"),
    (["bench", "train", "data=x.yaml", "arms=plain,plain"], "names one twice"),
    (["bench", "train", "data=x.yaml", "step=3"], "unknown setting 'step'"),
    (["bench", "train", "data=x.yaml", "steps=0"], "steps=0 must be a whole number"),
]


@pytest.mark.parametrize(("words", "line"), WRONG, ids=[" ".join(w) for w, _ in WRONG])
def test_wrong_settings_get_one_line(words, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DPoseError) as error:
        run(words)
    assert line in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_bench_of_a_tiny_model(base):
    """Every arm does its steps in its own process, in whole intervals, with the losses it should have."""
    kept = ("model", "data", "imgsz", "batch", "device", "project")
    words = [f"{k}={base[k]}" for k in kept]
    words += ["steps=5", "rounds=3", "att_interval=2", "att_start=0.5", "clusters=4", "threads=1", "nbs=8"]
    assert run(["bench", "train", *words]) == 0
    folder = Path(base["project"]) / "bench"
    steps = pd.read_csv(folder / "steps.csv")
    assert steps.groupby("arm").size().to_dict() == {n: 18 for n in ("plain", "balance", "attention", "both", "all")}
    rows = {r["arm"]: r for r in json.loads((folder / "bench.json").read_text())["arms"]}
    assert all(100 < r["memory_mb"] < 10_000 and r["step_ms"] > 0 for r in rows.values())
    assert list(rows) == ["plain", "balance", "attention", "both", "all"] and rows["plain"]["ratio"] == 1
    told = json.loads((folder / "bench.json").read_text())["conditions"]["arms"]
    assert {name: "att_loss" in about["losses"] for name, about in told.items()} == {
        "plain": False,
        "balance": False,
        "attention": True,
        "both": True,
        "all": True,
    }
    attention = rows["attention"]
    assert attention["run_ratio"] == pytest.approx((1 + attention["ratio"]) / 2)
    assert "The attention term is on throughout, on every 2. step" in (folder / "bench.md").read_text()


@pytest.mark.slow
def test_an_arm_that_breaks_off_says_why(base):
    words = [f"{k}={base[k]}" for k in ("model", "data", "imgsz", "device", "project")]
    with pytest.raises(DPoseError, match=r"attention broke off: .*99"):
        run(["bench", "train", *words, "arms=plain,attention", "att_layers=99", "batch=8"])
    assert not Path(base["project"]).exists()
