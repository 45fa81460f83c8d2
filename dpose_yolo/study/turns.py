"""What a training step costs: arms take turns on one machine, a process each (`dpose bench train`)."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dpose_yolo.errors import DPoseError
from dpose_yolo.study.plan import ABLATION
from dpose_yolo.study.runner import last_word

# Arms of the benchmark: name in tables, what they change, whether they are the engine's own trainer.
COST_ARMS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "plain": ("plain engine", {}, True),
    "neither": ("DPOSE, all off", ABLATION["baseline"][1], False),
    **{name: (*ABLATION[name], False) for name in ("balance", "attention", "both", "all")},
}
DEFAULT_ARMS = ("plain", "balance", "attention", "both", "all")
# What each arm with the attention term is without it, for the mean over a run that starts the term late. (The keypoint
# losses that `all` has besides cost next to nothing.)
WITHOUT = {"attention": "plain", "both": "balance", "all": "balance"}
# A benchmark has no end, no validation, no files, no warm-up (which would change how often weights are changed), and
# the attention term from the first step.
ENGINE_FIXED: dict[str, Any] = {
    "epochs": 100_000,
    "patience": 0,
    "warmup_epochs": 0,
    "val": False,
    "plots": False,
    "save": False,
    "exist_ok": True,
}
ALWAYS_ON = {"att_start": 0.0}


class Turn:
    """The process of one arm; see `steps`."""

    def __init__(self, name: str, settings: dict[str, Any], plain: bool, folder: Path, threads: int):
        """Start it; `ready` waits until it stands before its first step."""
        self.name = name
        self.log = folder / f"{name}.log"
        order = folder / f"{name}.json"
        order.write_text(json.dumps({"settings": settings, "plain": plain}, default=str), encoding="utf-8")
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dpose_yolo.study.steps", str(order)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
            )

    def ready(self) -> dict[str, Any]:
        """Its next answer.

        Raises:
            DPoseError: with its last word when it ended instead.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise DPoseError(f"{self.name} broke off: {last_word(self.log) or 'without a word'}")
        return json.loads(line)

    def go(self, steps: int) -> dict[str, Any]:
        """Let it do some steps; what they took."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # its last word is read next
            print(f"go {steps}", file=self.process.stdin, flush=True)
        return self.ready()

    def close(self) -> None:
        """End it."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run_turns(
    arms: dict[str, tuple[dict[str, Any], bool]], folder: Path, steps: int, rounds: int, threads: int, unit: int = 1
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Let the arms take turns.

    Args:
        arms: settings of each arm, and whether it is the engine's own trainer.
        folder: for logs and runs.
        steps: of a turn, at least; rounded up so that whole intervals of attention and of weight changes fit.
        rounds: turns of each arm, after one that warms up.
        threads: of each process.
        unit: steps after which cheap and dear ones repeat, but for the accumulation of gradients.

    Returns:
        One row a step (arm, round, step, seconds, wait), and for each arm its last answer with all `between`, `unit`.

    Raises:
        DPoseError: when an arm breaks off.
    """
    rows: list[tuple[str, int, int, float, float]] = []
    with ExitStack() as stack:
        turns: dict[str, Turn] = {}
        answers: dict[str, dict[str, Any]] = {}
        for name, (settings, plain) in arms.items():
            turns[name] = Turn(name, settings, plain, folder, threads)
            stack.callback(turns[name].close)
            answers[name] = turns[name].ready()  # one after another: they share label caches
        unit = math.lcm(unit, *(int(a["accumulate"]) for a in answers.values()))
        count = unit * math.ceil(steps / unit)
        between: dict[str, list[float]] = {name: [] for name in arms}
        names = list(arms)
        for at in range(rounds + 1):
            for name in names[at % len(names) :] + names[: at % len(names)]:  # nobody is always first
                answer = turns[name].go(count if at else unit * math.ceil(3 / unit))
                answers[name] = answer
                if at:
                    waits = [float("nan") if w is None else w for w in answer["waits"]]
                    between[name] += answer["between"]
                    pairs = enumerate(zip(answer["times"], waits, strict=True))
                    rows += [(name, at - 1, i, seconds, wait) for i, (seconds, wait) in pairs]
            print(f"round {at} of {rounds}" if at else f"warmed up; turns of {count} steps", flush=True)
    about = {name: {**answers[name], "between": between[name], "unit": unit} for name in arms}
    return pd.DataFrame(rows, columns=["arm", "round", "step", "seconds", "wait"]), about


def typical(seconds: Sequence[float] | np.ndarray, unit: int) -> float:
    """Mean seconds of a step, hiccups left out: the median at each place of the unit, averaged over its places.

    Args:
        seconds: of the steps of one turn, whole units.
        unit: steps after which cheap and dear ones repeat.
    """
    table = np.asarray(seconds, np.float64).reshape(-1, unit)
    return float(np.median(table, axis=0).mean())


def cost_table(steps: pd.DataFrame, about: dict[str, dict[str, Any]], att_start: float = 0.0) -> list[dict[str, Any]]:
    """One row an arm: step time, epoch time, memory, and their ratios to the first arm.

    Args:
        steps: from `run_turns`.
        about: from `run_turns`; the first is what the others are compared with.
        att_start: share of a run that passes before the attention term starts.

    Returns:
        Rows with: arm, label; step_ms and its quartiles over rounds; ratio (median over rounds of the ratio within a
        round) and its quartiles; run_ratio (mean over a whole run, in which the term starts at `att_start`); epoch_s
        (all batches, waits for them and what lies between epochs; without validation and saving); memory_mb, gpu_mb
        and their ratios.
    """
    first = next(iter(about))  # not of the steps: another arm begins each round
    turns = {
        name: np.array(
            [typical(own["seconds"], one["unit"]) for _, own in steps[steps["arm"] == name].groupby("round")]
        )
        for name, one in about.items()
    }
    rows = []
    ratios: dict[str, float] = {}
    for name, values in turns.items():
        own, ratio = about[name], values / turns[first]
        ratios[name] = float(np.median(ratio))
        wait = steps.loc[steps["arm"] == name, "wait"].median()
        between = float(np.median(own["between"])) if own["between"] else 0.0
        memory = {k: own[k] for k in ("memory_mb", "gpu_mb")}
        rows.append(
            {
                "arm": name,
                "label": COST_ARMS[name][0],
                "step_ms": 1000 * float(np.median(values)),
                "step_ms_low": 1000 * float(np.quantile(values, 0.25)),
                "step_ms_high": 1000 * float(np.quantile(values, 0.75)),
                "ratio": ratios[name],
                "ratio_low": float(np.quantile(ratio, 0.25)),
                "ratio_high": float(np.quantile(ratio, 0.75)),
                "epoch_s": own["batches"] * (float(np.median(values)) + (0.0 if np.isnan(wait) else wait)) + between,
                **memory,
                **{f"{k}_ratio": v / about[first][k] if v and about[first][k] else None for k, v in memory.items()},
            }
        )
    for row in rows:
        base = ratios.get(WITHOUT.get(row["arm"], ""), 1.0) if row["arm"] in WITHOUT else row["ratio"]
        row["run_ratio"] = base + (row["ratio"] - base) * (1 - att_start)
        row["epoch_ratio"] = row["epoch_s"] / rows[0]["epoch_s"]
    return rows
