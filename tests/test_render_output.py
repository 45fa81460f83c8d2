"""`dpose render`: the set that is written, the same whatever process renders it, and what an interruption leaves."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from render_cases import FAKE, NAMES, Blind, Dying, FakeRenderer, FullDisk, draw_labels, plan_of, scenes_of

from dpose_yolo import DPoseError
from dpose_yolo.dataset.card import read_card
from dpose_yolo.dataset.labels import read_label
from dpose_yolo.engine.labels import load_labels
from dpose_yolo.render.output import RenderedOutput, label_row
from dpose_yolo.render.plan import chosen_postures
from dpose_yolo.render.run import render_set
from dpose_yolo.render.scene import Sample
from dpose_yolo.render.tools import Tools, require_possible

RECIPE = {"images": 40, "seed": 0}


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "index.csv").open(encoding="utf-8")))


def files(folder: Path) -> dict[str, bytes]:
    """Content of every file of a set."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_set_like_those_of_prepare(tmp_path):
    plan, out = plan_of(40, val=0.25), RenderedOutput(tmp_path / "set", RECIPE)
    assert out.state() == "new"
    ticks = []
    record = render_set(plan, out, FAKE, tick=ticks.append)
    assert sum(ticks) == 40 and record["images"] == {"train": 30, "val": 10}
    card = read_card(tmp_path / "set" / "data.yaml")
    assert (card.count, card.dims, card.flip_idx[1]) == (17, 3, 2)
    assert len(card.raw["kpt_oks_sigmas"]) == 17 and card.names[0] == "nose" and card.skeleton
    index = rows(tmp_path / "set")
    assert [r["file"].rpartition("/")[2] for r in index] == [f"{i:06d}.jpg" for i in range(40)]
    assert {r["posture"]: sum(q["posture"] == r["posture"] for q in index) for r in index} == dict.fromkeys(NAMES, 10)
    assert {"camera", "body", "interior", "light", "seed"} <= set(index[0]) and json.loads(index[0]["body"])["age"] > 0
    assert len({r["seed"] for r in index}) == 40
    labels, data, _ = load_labels(tmp_path / "set" / "data.yaml", "train")
    assert len(labels) == 30 and (Path(data["path"]) / "images" / "val").is_dir()
    credit = (tmp_path / "set" / "CREDITS.txt").read_text()
    assert credit.index("CC-BY 4.0") < credit.index("hat 0") < credit.index("hat 1") < credit.index("CC0\n  stick")
    assert not (tmp_path / "set" / ".render").exists()
    again = RenderedOutput(tmp_path / "set", RECIPE)
    assert again.state() == "complete" and again.record() == record
    with pytest.raises(DPoseError, match="was made with images=40, not 41"):
        RenderedOutput(tmp_path / "set", {**RECIPE, "images": 41}).state()


def test_labels_are_those_of_the_renderer(tmp_path):
    plan = plan_of(6)
    render_set(plan, RenderedOutput(tmp_path, RECIPE), FAKE)
    for i, scene in enumerate(plan.scenes):
        keypoints, box, _ = draw_labels(scene)
        row = read_label(str(tmp_path / f"labels/train/{i:06d}.txt"), 17, 3, 1)
        assert not row.problems
        points = row.rows[0, 5:].reshape(17, 3)
        np.testing.assert_allclose(points, keypoints / (64, 64, 1), atol=1e-6)
        centre, size = row.rows[0, 1:3], row.rows[0, 3:5]
        np.testing.assert_allclose(np.r_[centre - size / 2, centre + size / 2] * 64, box, atol=1e-4)
        assert cv2.imread(str(tmp_path / f"images/train/{i:06d}.jpg")).shape == (64, 64, 3)


def test_a_keypoint_outside_the_image_is_unlabelled():
    keypoints = np.tile([[20.0, 30.0, 1.0]], (17, 1))
    keypoints[3] = 70, 30, 2
    sample = Sample(np.zeros((48, 64, 3), np.uint8), keypoints, np.array([-6.0, 12, 70, 60]), {})
    words = label_row(sample).split()
    assert words[:5] == ["0", "0.500000", "0.625000", "1.000000", "0.750000"]  # cut at the edges
    assert words[5 + 9 : 5 + 12] == ["0", "0", "0"] and words[5:8] == ["0.312500", "0.625000", "1"]
    hidden = Sample(sample.image, keypoints, np.array([70.0, 12, 90, 60]), {"posture": "sleep", "camera": "roof"})
    with pytest.raises(DPoseError, match="posture sleep cannot be seen by camera roof"):
        label_row(hidden)


def test_workers_and_a_kill_change_nothing(tmp_path):
    plan = plan_of(100)
    whole = RenderedOutput(tmp_path / "whole", {"images": 100})
    render_set(plan, whole, FAKE)
    script = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent)]!r}
from functools import partial
from pathlib import Path
from render_cases import Slow, draw_labels, plan_of
from dpose_yolo.render.output import RenderedOutput
from dpose_yolo.render.run import render_set
from dpose_yolo.render.tools import Tools
if __name__ == "__main__":
    folder = Path({str(tmp_path)!r})
    out = RenderedOutput(folder / "killed", {{"images": 100}})
    render_set(plan_of(100), out, Tools(partial(Slow, folder), draw_labels), workers=2)
"""
    (tmp_path / "killed.py").write_text(script)
    run = subprocess.Popen([sys.executable, str(tmp_path / "killed.py")])
    jobs = tmp_path / "killed" / ".render" / "jobs"
    deadline = time.monotonic() + 60
    while not list(jobs.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    workers = [int(f.name.partition("-")[2]) for f in tmp_path.glob("worker-*")]
    assert len(workers) == 2
    while any(map(_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_alive, workers)), "a worker outlived its parent"
    finished = len(list(jobs.glob("*.json")))
    assert 1 <= finished < 7 and not (tmp_path / "killed" / "data.yaml").exists()
    out = RenderedOutput(tmp_path / "killed", {"images": 100})
    assert out.state() == "begun"
    ticks = []
    render_set(plan, out, FAKE, workers=2, tick=ticks.append)
    assert sum(ticks) == 100
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def _alive(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_line_and_goes_on(tmp_path, workers):
    out = RenderedOutput(tmp_path / "set", RECIPE)
    with pytest.raises(DPoseError, match=r"cannot be written to .No space left on device.: the same command goes on"):
        render_set(plan_of(40), out, Tools(FullDisk, draw_labels), workers=workers)
    assert not (tmp_path / "set" / "data.yaml").exists() and out.state() == "begun"
    assert all(len(read_label(str(f), 17, 3, 1).rows) == 1 for f in (tmp_path / "set" / "labels").rglob("*.txt"))
    render_set(plan_of(40), out, FAKE)
    assert len(rows(tmp_path / "set")) == 40


def test_a_worker_that_is_killed_is_one_line(tmp_path):
    out = RenderedOutput(tmp_path / "set", RECIPE)
    with pytest.raises(DPoseError, match=r"a worker process ended .* set fewer workers="):
        render_set(plan_of(40), out, Tools(Dying, draw_labels), workers=2)
    assert not (tmp_path / "set" / "data.yaml").exists()


def test_an_impossible_posture_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(DPoseError, match="posture fly is impossible"):
        require_possible(scenes_of(8, ["two_hands", "fly"]), draw_labels)
    require_possible(scenes_of(8), draw_labels)
    with pytest.raises(DPoseError, match="no posture 'two_hand': did you mean two_hands"):
        chosen_postures("two_hand", NAMES)
    with pytest.raises(DPoseError, match="names a posture twice"):
        chosen_postures("two_hands,two_hands", NAMES)
    assert chosen_postures("stretch_up, two_hands", NAMES) == ["stretch_up", "two_hands"]
    assert chosen_postures("all", NAMES) == NAMES


def test_a_seed_without_a_driver_is_replaced(tmp_path):
    plan = plan_of(12, ["two_hands", "phone_left"])
    render_set(plan, RenderedOutput(tmp_path / "set", RECIPE), Tools(Blind, draw_labels))
    for row, scene in zip(rows(tmp_path / "set"), plan.scenes, strict=True):
        assert int(row["seed"]) % 2 == 0 and (int(row["seed"]) == scene.seed) == (scene.seed % 2 == 0)
    with pytest.raises(DPoseError, match="shows no driver in stretch_up"):
        render_set(plan_of(4), RenderedOutput(tmp_path / "other", RECIPE), Tools(Blind, draw_labels))


def test_two_commands_do_not_write_at_once(tmp_path):
    out = RenderedOutput(tmp_path / "set", RECIPE)
    with out.begun(plan_of(40).digest()), pytest.raises(DPoseError, match="written to by another process"):
        render_set(plan_of(40), RenderedOutput(tmp_path / "set", RECIPE), FAKE)
    with pytest.raises(DPoseError, match="has changed since"):
        render_set(plan_of(40, seed=1), RenderedOutput(tmp_path / "set", RECIPE), FAKE)


def test_each_image_follows_from_seed_and_number(tmp_path):
    short, long, other = plan_of(8), plan_of(80), plan_of(8, seed=1)

    assert short.scenes == long.scenes[:8]
    assert not {scene.seed for scene in short.scenes} & {scene.seed for scene in other.scenes}
    assert len({scene.seed for scene in long.scenes}) == 80
    assert short.digest() != other.digest() == plan_of(8, seed=1).digest()


def test_the_renderer_is_closed_and_opened_once(tmp_path):
    opened = []

    class Counted(FakeRenderer):
        def __init__(self):
            opened.append(self)

        def close(self):
            opened.append("closed")

    render_set(plan_of(40), RenderedOutput(tmp_path, RECIPE), Tools(Counted, draw_labels))
    assert len(opened) == 2 and opened[1] == "closed"
