"""Several processes on one machine (gloo): a whole training is that of one, and all end together when one is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from resume_cases import make_folder, short_run
from stick_figures import build_dataset

from dpose_yolo import DPoseError
from dpose_yolo.engine import processes

pytestmark = pytest.mark.slow

SCRIPT = str(Path(__file__).parent / "rank_cases.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
ENDS_WITHIN = 60.0  # seconds after a process is lost; torch's launcher gives the others 30 before it kills them
PLAIN = {  # nothing random but the draws, and a step of the optimizer every 8 images
    "epochs": 2, "batch": 8, "nbs": 8, "warmup_epochs": 0, "optimizer": "SGD", "lr0": 0.005, "mosaic": 0, "fliplr": 0,
    "hsv_h": 0, "hsv_s": 0, "hsv_v": 0, "translate": 0, "scale": 0, "erasing": 0, "close_mosaic": 0,
}  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    """Of a process of its own, which finds this checkout and its tests."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parent), str(here), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def run(command: list[str], **more: str) -> subprocess.CompletedProcess:
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**more), timeout=900)
    return done


def words(folder: Path, **settings: Any) -> list[str]:
    """The command `dpose train` of a short training."""
    return ["dpose", "train", *(f"{k}={v}" for k, v in {**short_run(folder), "name": "run", **settings}.items())]


def recorded(out: Path, settings: dict[str, Any], start: list[str], kind: str = "record") -> list[dict[str, Any]]:
    """What each process has recorded of a training."""
    out.mkdir()
    done = run([*start, SCRIPT, kind, str(out), json.dumps(settings)])
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(file) for file in sorted(out.glob("*.pt"))]


def steps(found: list[dict[str, Any]], epoch: int, shares: int) -> tuple[list[Counter], list[float]]:
    """Images of each step of the optimizer and its loss, over `shares` batches of one process or one of each."""
    if len(found) == 1:
        seen, losses = found[0]["seen"][epoch], found[0]["losses"][epoch]
        groups = [range(i, i + shares) for i in range(0, len(seen), shares)]
        return [Counter(n for i in g for n in seen[i]) for g in groups], [sum(losses[i] for i in g) for g in groups]
    batches = zip(*(f["seen"][epoch] for f in found), strict=True)
    losses = zip(*(f["losses"][epoch] for f in found), strict=True)
    return [Counter(n for part in parts for n in part) for parts in batches], [sum(parts) for parts in losses]


def equal_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys() and len(a) > 50
    for name, value in a.items():
        assert torch.allclose(value, b[name], rtol=1e-3, atol=2e-5), (name, (value - b[name]).abs().max().item())


def test_a_training_of_two_processes_is_that_of_one_which_does_both_shares(tmp_path):
    """All of it: balanced draws, attention, batch norm. One process takes the shares in turn, then a step."""
    folder = make_folder(tmp_path / "data", train=24)
    settings = {**short_run(folder), **PLAIN}
    two = recorded(tmp_path / "two", {**settings, "name": "run2"}, TORCHRUN)
    one = recorded(tmp_path / "one", {**settings, "name": "run1", "batch": 4}, [sys.executable], "halves")
    assert len(two) == 2 and len(one) == 1
    expected = two[0]["expected"]
    assert expected == two[1]["expected"] == one[0]["expected"]
    assert all(any(v % 1 > 0.01 for v in counts.values()) for counts in expected)  # the balance has something to do
    for epoch in range(settings["epochs"]):
        images, losses = steps(two, epoch, 2)
        wanted, wanted_losses = steps(one, epoch, 2)
        assert images == wanted and len(images) == 3
        assert losses == pytest.approx(wanted_losses, rel=1e-4)
        drawn = sum(images, Counter())
        assert sum(drawn.values()) == 24
        for name, value in expected[epoch].items():
            assert int(value + 1e-6) <= drawn[name] <= -int(-(value - 1e-6) // 1), (name, value, drawn[name])
        disjoint = [sum(map(Counter, f["seen"][epoch]), Counter()) for f in two]
        assert sum(disjoint[0].values()) == sum(disjoint[1].values()) == 12
    equal_weights(two[0]["weights"], one[0]["weights"])
    for name, value in two[0]["weights"].items():
        assert torch.equal(value, two[1]["weights"][name]), name  # to the bit among themselves
    runs = [Path(found[0]["save_dir"]) for found in (two, one)]
    draws = [(r / "posture_draws.csv").read_text() for r in runs]
    assert draws[0] == draws[1] and draws[0].count("\n") == 1 + 2 * 3
    assert [len((r / "results.csv").read_text().splitlines()) for r in runs] == [3, 3]


def test_alike_images_give_the_loss_and_the_weights_of_one_process_with_the_whole_batch(tmp_path):
    """Where every share has the same targets and statistics, nothing of what two processes compute is different."""
    folder = make_folder(tmp_path / "data", train=16)
    for part in ("images", "labels"):
        files = sorted((folder / "mini" / part / "train").iterdir())
        assert len(files) == 16
        for file in files[1:]:
            file.write_bytes(files[0].read_bytes())
    settings = {**short_run(folder), **PLAIN, "balance": 0}
    two = recorded(tmp_path / "two", {**settings, "name": "run2"}, TORCHRUN)
    one = recorded(tmp_path / "one", {**settings, "name": "run1"}, [sys.executable])
    for epoch in range(settings["epochs"]):
        images, losses = steps(two, epoch, 1)
        wanted, wanted_losses = steps(one, epoch, 1)
        assert sum(images, Counter()) == sum(wanted, Counter()) and set(sum(images, Counter()).values()) == {1}
        assert losses == pytest.approx(wanted_losses, rel=1e-4) and len(losses) == 2
    equal_weights(two[0]["weights"], one[0]["weights"])


# What happens when one is lost

LAUNCHERS = {"torchrun": [*TORCHRUN, SCRIPT], "gpus": [sys.executable, SCRIPT, "gpus"]}


def alive(pid: int) -> bool:
    """Whether a process still runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def ended_together(run_folder: Path) -> float:
    """All processes are gone; seconds since the fault."""
    pids = [int(file.read_text()) for file in run_folder.glob("rank*.pid")]
    assert len(pids) == 2 and not any(map(alive, pids))
    return time.time() - float((run_folder / "fault.time").read_text())


def the_line(done: subprocess.CompletedProcess) -> str:
    """The one line that is told."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("dpose: error:")]
    assert len(lines) == 1, done.stderr[-3000:]
    return lines[0]


@pytest.mark.parametrize(("launcher", "victim"), [("torchrun", 0), ("torchrun", 1), ("gpus", 0), ("gpus", 1)])
def test_a_killed_process_ends_all_with_one_line(tmp_path, launcher, victim):
    folder = make_folder(tmp_path / "data")
    done = run([*LAUNCHERS[launcher], *words(folder)], RANK_FAULT=f"{victim}:1:1:SIGKILL")
    assert done.returncode == 1
    assert ended_together(folder / "run") < ENDS_WITHIN
    line, last = the_line(done), folder / "run" / "weights" / "last.pt"
    if launcher == "torchrun":
        assert "another process of this training was lost in epoch 2" in line
        assert f"the same command on every machine, and resume={last} in it" in line
    else:
        assert (
            f"process {victim} of 2 was ended by SIGKILL, perhaps for want of memory, so that all were stopped" in line
        )
        assert f"every epoch before this one is kept: go on with dpose train resume={last}" in line
        assert "Traceback" not in done.stderr and "CalledProcessError" not in done.stderr
    if victim:
        return
    again = run([*LAUNCHERS[launcher], "dpose", "train", f"resume={last}"])
    assert again.returncode == 0, again.stderr[-3000:]
    rows = (folder / "run" / "results.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2", "3"]
    assert again.stdout.count("Results in") == 1


def test_a_process_that_hangs_ends_all_in_the_time_that_is_set(tmp_path):
    folder = make_folder(tmp_path / "data")
    # Long enough for the set-up on a busy machine, where one process waits for the other too.
    done = run([*LAUNCHERS["gpus"], *words(folder, lost_after=1)], RANK_FAULT="1:1:1:SIGSTOP")
    assert done.returncode == 1
    assert 55 < ended_together(folder / "run") < 60 + ENDS_WITHIN
    assert f"go on with dpose train resume={folder / 'run' / 'weights' / 'last.pt'}" in the_line(done)


def test_bad_data_gives_the_line_of_one_process_alone(tmp_path):
    folder = make_folder(tmp_path / "data")
    done = run([*LAUNCHERS["gpus"], *words(folder)], RANK_FAULT="1:1:1:some/picture.jpg")
    assert done.returncode == 1 and ended_together(folder / "run") < ENDS_WITHIN
    assert "some/picture.jpg cannot be read any more in epoch 2" in the_line(done)
    assert "Traceback" not in done.stderr
    label = sorted((folder / "mini" / "labels" / "train").glob("*.txt"))[0]
    label.write_text("0 0.5 0.5\n")
    done = run([*LAUNCHERS["gpus"], *words(folder, name="other")])
    assert done.returncode == 1 and f"line 1 of {label.name} has 3 columns" in the_line(done)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_end_with_the_command_that_started_them(tmp_path, number):
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux tells a process that the one which started it is gone")
    folder = make_folder(tmp_path / "data")
    command = [*LAUNCHERS["gpus"], *words(folder, epochs=100000)]
    started = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    last, until = folder / "run" / "weights" / "last.pt", time.time() + 600
    while not last.is_file() and time.time() < until and started.poll() is None:
        time.sleep(0.2)
    pids = [int(file.read_text()) for file in (folder / "run").glob("rank*.pid")]
    assert len(pids) == 2 and all(map(alive, pids))
    started.send_signal(number)
    began = time.time()
    told, _ = started.communicate(timeout=ENDS_WITHIN)
    while any(map(alive, pids)) and time.time() - began < ENDS_WITHIN:
        time.sleep(0.2)
    assert not any(map(alive, pids))
    if number == signal.SIGTERM:
        assert started.returncode == 1
        assert "stopped by SIGTERM, with all its processes; every epoch before this one is kept" in told
        assert f"go on with dpose train resume={last}" in told
    elif number == signal.SIGINT:
        assert started.returncode == 130 and "Traceback" not in told
        assert f"Stopped; every epoch before this one is kept: go on with dpose train resume={last}" in told
    else:
        assert started.returncode == -signal.SIGKILL


# Several machines


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def on_two_machines(first: list[str], second: list[str]) -> list[subprocess.CompletedProcess]:
    """Two launchers, as on two machines, with one process each."""
    port, started = free_port(), []
    for number, command in enumerate((first, second)):
        launcher = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(number),
            "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port), SCRIPT,
        ]  # fmt: skip
        started.append(subprocess.Popen([*launcher, *command], env=environment(), stdout=-1, stderr=-1, text=True))
    try:
        told = [process.communicate(timeout=900) for process in started]
    finally:
        for process in started:
            process.kill()
    return [subprocess.CompletedProcess([], p.returncode, *t) for p, t in zip(started, told, strict=True)]


def test_two_machines_with_data_of_their_own_write_one_run(tmp_path):
    folders = [make_folder(tmp_path / name) for name in ("a", "b")]
    runs = {"project": tmp_path / "runs", "name": "run"}
    old = tmp_path / "runs" / "run" / "results.csv"
    old.parent.mkdir(parents=True)
    old.write_text("of another run\n")
    done = on_two_machines(*(words(folder, **runs) for folder in folders))
    assert [d.returncode for d in done] == [0, 0], [d.stderr[-1500:] for d in done]
    assert old.read_text() == "of another run\n"  # no process takes another run's folder for its own
    found = sorted(p.name for p in (tmp_path / "runs").iterdir())
    assert found == ["run", "run-2"] and len((tmp_path / "runs/run-2/results.csv").read_text().splitlines()) == 4
    assert sum(d.stdout.count("Results in") for d in done) == 1


def test_two_machines_with_different_data_are_refused(tmp_path):
    folders = [make_folder(tmp_path / "a")]
    (tmp_path / "b").mkdir()
    build_dataset(tmp_path / "b" / "mini", train=12, val=4, test=0, size=48, seed=5)
    (tmp_path / "b" / "tiny.yaml").write_text((folders[0] / "tiny.yaml").read_text())
    folders.append(tmp_path / "b")
    runs = {"project": tmp_path / "runs", "name": "run"}
    done = on_two_machines(*(words(folder, **runs) for folder in folders))
    assert all(d.returncode for d in done)
    lines = [line for d in done for line in d.stderr.splitlines() if line.startswith("dpose: error:")]
    assert len(lines) == 1 and "would train different things: images and labels" in lines[0]


def agreeing(rank: int, port: int, folders: list[Path], facts: list[dict], out: str) -> None:
    """What one of two processes is told when they compare."""
    processes.RANK, processes.VISIBLE = rank, 0.5
    os.environ["WORLD_SIZE"] = "2"
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        processes.agree(facts[rank], folders[rank])
        told = "nothing"
    except DPoseError as error:
        told = str(error)
    Path(f"{out}{rank}").write_text(told)
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("shared", "other", "wanted"),
    [
        (True, {"imgsz": "64"}, "nothing"),
        (
            True,
            {"imgsz": "96"},
            "process 0 and process 1 on .* would train different things: imgsz 64 and 96: give all",
        ),
        (
            False,
            {"imgsz": "64"},
            r"process 1 on .* does not see the run's folder .*: set project= to a folder that all",
        ),
    ],
)
def test_processes_that_differ_are_all_told(tmp_path, shared, other, wanted):
    folders = [tmp_path / "a", tmp_path / "a" if shared else tmp_path / "b"]
    for folder in {*folders}:
        folder.mkdir()
        (folder / "args.yaml").write_text(f"save_dir: {folder}")
    out = str(tmp_path / "told")
    mp.spawn(agreeing, (free_port(), folders, [{"imgsz": "64"}, other], out), nprocs=2)
    told = [Path(f"{out}{rank}").read_text() for rank in range(2)]
    assert told[0] == told[1] or not shared
    assert all(re.match(wanted, text) for text in told), told


def test_shares_that_are_not_equal_are_refused():
    from types import SimpleNamespace

    from dpose_yolo.engine.launch import refuse_unequal_shares

    def refuse(batch: float, count: int) -> None:
        refuse_unequal_shares(SimpleNamespace(args=SimpleNamespace(batch=batch)), count)

    refuse(8, 4)
    for batch, more in ((8, 9), (2, 3), (0.7, 48), (-1, 48)):
        with pytest.raises(DPoseError, match=rf"batch={batch} cannot be shared out to 3 processes.*batch={more}$"):
            refuse(batch, 3)
