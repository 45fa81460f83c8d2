"""The number of threads of a training on the CPU is the one that the environment asks for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import dpose_yolo
from dpose_yolo.engine.threads import asked_threads

# What torch works with after the engine has chosen the CPU, as at the start of a training and of a validation.
COUNT = """
{first}
import dpose_yolo.engine.trainer
import torch
from ultralytics.utils.torch_utils import select_device
for _ in range(2):
    select_device("cpu", verbose=False)
print(torch.get_num_threads())
"""
CORES_LESS_ONE = min(8, max(1, (os.cpu_count() or 1) - 1))  # the engine's own choice


def threads(asked: str | None, first: str = "") -> int:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    if asked is not None:
        environment["OMP_NUM_THREADS"] = asked
    done = subprocess.run(
        [sys.executable, "-c", COUNT.format(first=first)],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def test_the_engine_takes_the_threads_that_the_environment_asks_for():
    assert threads("3") == 3


def test_the_engines_own_choice_stands_where_nothing_is_asked_for():
    # Imported first, it has written a 1 by then, which nobody asked for.
    assert threads(None, "import ultralytics") == CORES_LESS_ONE


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ("1", "1", 1),
        ("4,2", "4,2", 4),
        (None, "3", 3),  # the engine was imported first: any number but its own is the user's
        (None, "1", None),
        ("", "1", None),
        ("many", "many", None),
        ("0", "0", None),
    ],
)
def test_what_is_asked_for(monkeypatch, before, now, expected):
    monkeypatch.setattr(dpose_yolo, "_ASKED_THREADS", before)
    monkeypatch.setenv("OMP_NUM_THREADS", now)
    assert asked_threads() == expected
