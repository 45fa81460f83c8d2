"""Coverage of real labels by rendered ones: the numbers against a loop, and what it says to change."""

from __future__ import annotations

import csv
import json
import resource
import time
from pathlib import Path

import numpy as np
import pytest
from render_cases import FAKE, Camera, draw_labels, plan_of

from dpose_yolo import DPoseError, cli
from dpose_yolo.keypoints import COCO_NAMES, coco_sigmas
from dpose_yolo.metrics.similarity import object_keypoint_similarity
from dpose_yolo.render import coverage, tools
from dpose_yolo.render.coverage import average_recall, compare_framing, cover, nearest, oks_matrix
from dpose_yolo.render.labels import LabelSet, framing, from_drawn, from_engine
from dpose_yolo.render.output import RenderedOutput
from dpose_yolo.render.run import render_set
from dpose_yolo.render.scene import SceneSpec
from dpose_yolo.render.tools import draw_many, named_camera

SIGMAS = np.array(coco_sigmas(COCO_NAMES))


def random_labels(count: int, seed: int, aspect: float = 4 / 3, **columns: list[str]) -> LabelSet:
    """Poses that differ a little from each other, some keypoints unlabelled."""
    rng = np.random.default_rng(seed)
    middle = np.random.default_rng(0).uniform(0.2, 0.8, (17, 2))
    keypoints = np.zeros((count, 17, 3))
    keypoints[..., :2] = middle + rng.normal(0, 0.05, (count, 17, 2))
    keypoints[..., 2] = rng.choice([0, 1, 2], (count, 17), p=[0.2, 0.3, 0.5])
    boxes = np.concatenate([np.full((count, 2), 0.5), rng.uniform(0.5, 0.9, (count, 2))], 1)
    files = [f"{i}.jpg" for i in range(count)]
    return LabelSet(keypoints, boxes, np.full(count, aspect), np.arange(count), files, columns)


def by_loop(real: LabelSet, rendered: LabelSet, area: float) -> tuple[np.ndarray, np.ndarray]:
    """The oracle with COCO's OKS, label by label, in pixels of an image 300 high."""
    best, index = [], []
    for points, box, aspect in zip(real.keypoints, real.boxes, real.aspect, strict=True):
        size = np.array([300 * aspect, 300])
        label = np.concatenate([points[:, :2] * size, points[:, 2:]], 1)[None]
        corners = np.concatenate([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2]) * np.tile(size, 2)
        scores = []
        for other in rendered.keypoints:
            place = np.where(other[:, 2:] > 0, other[:, :2] * size, 1e9)
            share = np.array([area * box[2] * box[3] * size.prod()])
            scores.append(object_keypoint_similarity(place[None], label, corners[None], share, SIGMAS)[0, 0])
        best.append(max(scores))
        index.append(int(np.argmax(scores)))
    return np.array(best), np.array(index)


@pytest.mark.parametrize("area", [0.53, 1.0])
def test_the_oracle_is_that_of_a_loop(monkeypatch, area):
    monkeypatch.setattr(coverage, "ROWS", 7)
    monkeypatch.setattr(coverage, "COLUMNS", 11)
    wide, tall = random_labels(20, 1), random_labels(20, 2, 0.6)
    real = LabelSet(
        *(np.concatenate([getattr(one, k) for one in (wide, tall)]) for k in ("keypoints", "boxes", "aspect")),
        np.arange(40),
        wide.files + tall.files,
    )
    rendered = random_labels(50, 3)
    oks, index = nearest(real, rendered, SIGMAS, area)
    expected, at = by_loop(real, rendered, area)
    np.testing.assert_allclose(oks, expected, atol=1e-5)
    np.testing.assert_allclose(oks_matrix(real, rendered, SIGMAS, area).max(1), expected, atol=1e-5)
    assert (index == at).all() and 0.2 < oks.mean() < 0.9
    with pytest.raises(DPoseError, match="no rendered label"):
        nearest(real, rendered.select(np.zeros(50, bool)), SIGMAS)


def test_average_recall_is_cocos():
    oks = np.array([0.49, 0.5, 0.72, 0.951])
    assert average_recall(oks) == pytest.approx(np.mean([(oks >= t).mean() for t in np.linspace(0.5, 0.95, 10)]))
    assert np.isnan(average_recall(np.zeros(0)))


def test_twenty_thousand_labels_in_a_minute():
    real, rendered = random_labels(2000, 1), random_labels(20000, 2)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    nearest(real, rendered, SIGMAS)
    assert time.monotonic() - start < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_groups_and_what_is_not_covered():
    real, rendered = random_labels(30, 1), random_labels(40, 2)
    real.columns["posture"] = ["near"] * 10 + ["far"] * 10 + [""] * 10
    real.keypoints[10:20, :, 0] += 0.3
    real.keypoints[29, :, 2] = 0  # without a label: left out
    rendered.columns.update(posture=["a"] * 40, camera=["c"] * 39 + ["d"])
    clusters = np.r_[np.zeros(15, int), np.ones(14, int), 0]
    found = cover(real, rendered, SIGMAS, clusters)
    assert len(found.oks) == 29 and found.ar == average_recall(found.oks)
    groups = {(g.kind, g.name): g for g in found.groups}
    assert set(groups) == {("cluster", "0"), ("cluster", "1"), ("posture", "near"), ("posture", "far")}
    assert groups["posture", "far"].ar == average_recall(found.oks[10:20]) == 0
    assert (groups["cluster", "0"].labels, groups["cluster", "1"].labels) == (15, 14)
    assert (groups["posture", "near"].nearest, groups["posture", "near"].camera) == ("a", "c")
    assert "posture far" in found.not_covered()
    assert any(line.startswith("width") or "outside" in line for line in found.changes) or not found.changes
    json.dumps(found.summary())


def test_framing_by_hand():
    keypoints = np.zeros((2, 17, 3))
    keypoints[0, [5, 6, 11, 12]] = [[0.5, 0.4, 2], [0.3, 0.4, 2], [0.5, 0.8, 2], [0.3, 0.8, 2]]  # upright
    keypoints[1, [5, 6, 11, 12]] = [[0.6, 0.4, 2], [0.6, 0.2, 2], [0.3, 0.4, 2], [0.3, 0.2, 2]]  # lies to the right
    boxes = np.array([[0.4, 0.6, 0.2, 0.4], [0.45, 0.3, 0.3, 0.2]])
    found = framing(LabelSet(keypoints, boxes, np.array([2.0, 2.0]), np.arange(2), ["a", "b"]))
    np.testing.assert_allclose(found["lean"], [0, 90], atol=1e-9)
    np.testing.assert_allclose(found["roll"], [0, 90], atol=1e-9)
    np.testing.assert_allclose(found["width"], [0.2, 0.3])
    np.testing.assert_allclose(found["y"], [0.6, 0.3])


def drawn(camera: Camera, count: int = 60) -> LabelSet:
    specs = [SceneSpec(i, "two_hands", camera, size=(96, 96)) for i in range(count)]
    return from_drawn([draw_labels(spec) for spec in specs], (96, 96))


def test_what_to_change_follows_from_the_camera():
    real = drawn(Camera(1.0, (0.5, 0.5)))
    frames, told = compare_framing(real, drawn(Camera(1.0, (0.5, 0.5)), 80))
    assert not [line for line in told if line.split(":")[0] in ("width", "height", "x", "lean")]
    _, told = compare_framing(real, drawn(Camera(0.5, (0.3, 0.5))))
    lines = {line.split(":")[0]: line for line in told}
    assert "move the camera nearer" in lines["width"] and "turn the camera to its left" in lines["x"]
    assert "lean" not in lines
    assert frames["width"]["real"][2] == pytest.approx(np.median(framing(real)["width"]))


def test_other_keypoints_are_refused():
    label = {"im_file": "a.jpg", "shape": (10, 20), "bboxes": [[0.5, 0.5, 1, 1]], "keypoints": np.ones((1, 5, 3))}
    with pytest.raises(DPoseError, match=r"has 5 keypoints .* COCO's 17"):
        from_engine([label], ["a", "b", "c", "d", "e"], "cabin.yaml")
    label["keypoints"] = np.zeros((1, 17, 3))
    with pytest.raises(DPoseError, match=r"no keypoint is labelled in cabin.yaml"):
        from_engine([label], COCO_NAMES, "cabin.yaml")


@pytest.fixture
def rendered(tmp_path) -> Path:
    """A rendered set of 40 images."""
    render_set(plan_of(40), RenderedOutput(tmp_path / "rendered", {}), FAKE)
    return tmp_path / "rendered" / "data.yaml"


def test_the_command_measures_two_sets(mini_dataset, rendered, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = mini_dataset(train=40)
    cli.run(["render", "coverage", f"data={data}", f"rendered={rendered}", "clusters=4"])
    said = capsys.readouterr().out
    assert "40 real labels, 40 rendered: AR" in said and "by posture cluster" in said and "not covered" in said
    rows = list(csv.DictReader((tmp_path / "runs/coverage/coverage.csv").open()))
    assert len(rows) == 40 and {"posture", "camera", "nearest_posture", "nearest_camera"} <= set(rows[0])
    oks = [float(r["oks"]) for r in rows]
    assert oks == sorted(oks)
    same = np.mean([r["posture"] == r["nearest_posture"] for r in rows])
    assert same > 0.5  # by chance .25: the driver is at a random place in these pictures
    summary = json.loads((tmp_path / "runs/coverage/coverage.json").read_text())
    assert summary["ar"] == pytest.approx(average_recall(np.array(oks)), abs=0.01)  # of rounded numbers
    cli.run(["render", "coverage", f"data={rendered}", f"rendered={rendered}", "clusters=4", "name=self"])
    assert json.loads((tmp_path / "runs/self/coverage.json").read_text())["ar"] == 1.0


def test_coverage_needs_no_images(mini_dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tools, "own_tools", lambda: FAKE)
    words = ["render", "coverage", f"data={mini_dataset()}", "clusters=4"]
    cli.run([*words, "images=80", "postures=two_hands,stretch_up", "size=96x96", "camera=any"])
    assert "24 real labels, 80 rendered" in capsys.readouterr().out
    found = json.loads((tmp_path / "runs/coverage/coverage.json").read_text())
    ar = {g["name"]: g["ar"] for g in found["groups"] if g["kind"] == "posture"}
    assert min(ar["two_hands"], ar["stretch_up"]) > max(ar["phone_left"], ar["reach_right"])
    assert {g["nearest"] for g in found["groups"]} <= {"two_hands", "stretch_up"}
    with pytest.raises(DPoseError, match="images= is for labels that are drawn here"):
        cli.run([*words, "images=80", "rendered=x.yaml"])
    with pytest.raises(DPoseError, match="oks_area=2 must be"):
        cli.run([*words, "oks_area=2"])
    with pytest.raises(DPoseError, match="give coverage or assets"):
        cli.run(["render", "cover"])
    cli.run([*words, "images=40", "size=96x96", "camera=any", "name=aimed"])  # those of `dpose render data=...`
    assert "24 real labels, 40 rendered" in capsys.readouterr().out
    with pytest.raises(DPoseError, match=r"no camera 'roof': give any, .*passenger_side.* or the path"):
        named_camera("roof")
    assert named_camera("any") is None and named_camera("mirror").name == "mirror"
    labels = draw_many(plan_of(600).scenes, draw_labels)[0]
    assert labels.words("posture")[:2] == ["two_hands", "phone_left"]
    np.testing.assert_array_equal(draw_many(plan_of(600).scenes, draw_labels, 2)[0].keypoints, labels.keypoints)
