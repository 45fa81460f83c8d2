"""`dpose bench models`: figures made of turns, and the command without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx_files import TWO, two_persons, write_onnx

from dpose_yolo.cli import run
from dpose_yolo.errors import DPoseError
from dpose_yolo.peers.latency import interleaved
from dpose_yolo.peers.memory import model_memory
from dpose_yolo.peers.speed import _figures, example
from dpose_yolo.report.speed import speed_lines


def test_figures_by_hand():
    """Three rounds; the machine is twice as slow in the last: ratios within a round do not notice."""
    slow = np.array([1, 1, 2])[:, None]
    first, second = 0.010 * slow * np.ones((3, 100)), 0.004 * slow * np.ones((3, 100))
    second[0, 0] = 0.5  # a hiccup
    seconds = np.stack([np.stack([w, np.full((3, 100), cpu)], -1) for w, cpu in ((first, 0.010), (second, 0.005))])
    one, other = _figures(seconds)
    assert (one["ratio"], one["cpu_ratio"]) == (1, 1) and other["ratio"] == pytest.approx(2.5)
    assert other["ms"] == pytest.approx(4) and other["per_second"] == pytest.approx(250)
    assert other["ms_p99"] == pytest.approx(8) and other["cpu_ratio"] == pytest.approx(2)
    rows = [
        {
            "model": name, "input": "1x3x64x64", "megabytes": 1.5, "parameters": 610_000, "gflops": None,
            "memory_mb": 80, "memory_of_model_mb": 8, "threads": {"1": told},
        }
        for name, told in (("a", one), ("b", other))
    ]  # fmt: skip
    head, lines = speed_lines(rows)
    told = dict(zip(head, lines[1], strict=True))
    assert told["times as fast"] == "2.50 (2.50-2.50)" and told["by CPU time"] == "2.00" and told["GFLOPs"] == "-"
    assert told["M parameters"] == "0.61" and told["peak memory MB"] == "80 (+8)"


def test_several_clocks_at_once():
    ticks = iter(range(100))

    def clock():
        now = next(ticks)
        return now, 10 * now

    sample = (np.zeros(1), np.zeros(4))
    seconds = interleaved([lambda i, b: None] * 2, [sample] * 3, rounds=2, clock=clock)
    assert seconds.shape == (2, 6, 2) and (seconds[..., 0] == 1).all() and (seconds[..., 1] == 10).all()


def test_examples_fit_the_input(tmp_path):
    from dpose_yolo.peers.networks import load_network

    path = write_onnx(tmp_path / "two.onnx", two_persons(), TWO, shape=(1, 3, 32, 48))
    noise = example(load_network(path), 640)
    assert noise.shape == (1, 3, 32, 48) and noise.dtype == np.float32 and 0.5 < noise.max() < 1
    flat = write_onnx(tmp_path / "flat.onnx", two_persons(), TWO, shape=(1, 12))
    with pytest.raises(DPoseError, match="is no picture"):
        example(load_network(flat), 640)


def test_the_command_runs_without_torch(tmp_path):
    """In a process in which torch, the engine and pandas cannot be imported, as on a small device."""
    paths = [write_onnx(tmp_path / f"{name}.onnx", two_persons(), TWO) for name in ("first", "second")]
    code = (
        "import sys\n"
        "for name in ('torch', 'ultralytics', 'pandas'): sys.modules[name] = None\n"
        "from dpose_yolo.cli import run\n"
        f"run(['bench', 'models', {str(paths[0])!r}, {str(paths[1])!r}, 'threads=1', 'rounds=4', 'repeats=3',"
        f" 'project={tmp_path}', 'name=out'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out" / "models.json").read_text(encoding="utf-8"))
    one, other = told["models"]
    assert one["threads"]["1"]["ratio"] == 1 and other["threads"]["1"]["ms"] > 0
    assert 0 < one["memory_of_model_mb"] < one["memory_mb"] and told["conditions"]["rounds"] == 4
    table = (tmp_path / "out" / "models.md").read_text(encoding="utf-8")
    assert (
        table.startswith("| model | input |")
        and table.count("\n| first | 1x3x64x64 |") == 1
        and "\ninput  " in done.stdout
    )


def test_memory_of_a_file_that_is_none(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(DPoseError, match=r"memory of .*broken\.onnx cannot be measured"):
        model_memory(path)


WRONG = [
    ([], "dpose bench models needs models"),
    (["none.onnx"], "no model file none.onnx"),
    (["a.txt"], "a.txt cannot be measured"),
    (["none.onnx", "threads=0"], "threads=0 is not allowed"),
    (["none.onnx", "steps=3"], "dpose bench takes no setting 'steps'"),
    (["none.onnx", "rounds=0"], "rounds=0 must be a whole number"),
]


@pytest.mark.parametrize(("words", "line"), WRONG, ids=[" ".join(w) for w, _ in WRONG])
def test_wrong_settings_get_one_line(words, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DPoseError) as error:
        run(["bench", "models", *words])
    assert line in str(error.value) and "\n" not in str(error.value)
    assert list(Path(tmp_path).iterdir()) == []
