"""Aim: counts that even a data set out, targets, cameras fitted to labels, and the command that does all of it."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from render_cases import FAKE, NAMES, Camera, draw_labels, sample_camera, scenes_of
from stick_figures import build_dataset

from dpose_yolo import DPoseError, cli
from dpose_yolo.dataset.labels import read_label
from dpose_yolo.render import fit, make, tools
from dpose_yolo.render.aim import Lacking, aim_scenes, even_counts, lacking_postures, targets_of
from dpose_yolo.render.coverage import nearest
from dpose_yolo.render.fit import fit_cameras, vector_of, with_vector
from dpose_yolo.render.labels import framing, from_drawn
from dpose_yolo.render.options import image_size, read_options
from dpose_yolo.render.plan import SIGMAS, spread_out
from dpose_yolo.render.real import read_set
from dpose_yolo.render.scene import SceneSpec
from dpose_yolo.render.tools import draw_many, seen_scenes
from dpose_yolo.settings import resolve

BASE = {"look": "colour", "size": (96, 96), "licence": "any"}
DPOSE = resolve({"clusters": 4})


def draw(scenes):
    """Labels of scenes, and which have one."""
    return draw_many(scenes, draw_labels)


@pytest.mark.parametrize(
    ("natural", "images", "expected"),
    [
        ([10, 2, 0], 6, [0, 2, 4]),
        ([10, 2, 0], 18, [0, 8, 10]),
        ([10, 2, 0], 3, [0, 1, 2]),
        ([5, 5, 5], 7, [3, 2, 2]),
        ([0, 0, 100], 1, [1, 0, 0]),
        ([7], 3, [3]),
        ([1.5, 0.2, 3.3], 10, [3, 5, 2]),
        ([1, 2], 0, [0, 0]),
    ],
)
def test_counts_even_the_union_out(natural, images, expected):
    found = even_counts(np.array(natural), images)
    assert sum(expected) == images and found.sum() == images
    spread = np.ptp(np.array(natural) + found)
    assert spread <= np.ptp(np.array(natural) + expected) + 1e-9
    assert (np.sort(found) == np.sort(expected)).all()


def test_counts_of_many_are_exact():
    rng = np.random.default_rng(0)
    for _ in range(200):
        natural, images = rng.gamma(0.5, 50, rng.integers(1, 40)), int(rng.integers(0, 3000))
        found = even_counts(natural, images)
        assert found.sum() == images and (found >= 0).all()
        filled = (natural + found)[found > 0]
        if len(filled):  # none that got images is fuller than one that got none, but for the rounding
            assert filled.max() - filled.min() <= 1 + 1e-9
            assert (natural[found == 0] >= filled.min() - 1 - 1e-9).all()


def test_targets_lie_between_poses_of_the_posture():
    labels = draw(scenes_of(5, ["reach_right"]))[0]
    labels.keypoints[labels.keypoints[..., 2] == 0] = 0
    found = targets_of(labels, np.random.default_rng(0))
    assert len(found) == 20 and len(np.unique(found.keypoints[:, 0, 0])) > 10
    assert {t.tobytes() for t in labels.keypoints} == {t.tobytes() for t in found.keypoints[:5]}  # as they are
    on = found.keypoints[..., 2] > 0
    known = np.where(labels.keypoints[..., 2:] > 0, labels.keypoints[..., :2], np.nan)
    low, high = np.nanmin(known, 0) - 1e-9, np.nanmax(known, 0) + 1e-9
    assert ((found.keypoints[..., :2] >= low) & (found.keypoints[..., :2] <= high)).all(-1)[on].all()
    assert (found.keypoints[~on] == 0).all() and on.any(1).all()
    assert (found.boxes <= labels.boxes.max(0) + 1e-9).all() and (found.boxes >= labels.boxes.min(0) - 1e-9).all()


def test_the_targets_of_poses_that_share_no_keypoint():
    labels = draw(scenes_of(2, ["two_hands"]))[0]
    labels.keypoints[0, 8:] = labels.keypoints[1, :8] = 0
    found = targets_of(labels, np.random.default_rng(0))
    assert len(found) == 8 and (found.keypoints[..., 2] > 0).any(1).all()


def aim_at(lacking, images: int, seed: int = 0):
    """Scenes that are aimed at postures, from a pool of 400 labels."""
    return aim_scenes(lacking, scenes_of(400), draw, 2, seed)


def test_rare_postures_get_the_images(tmp_path):
    data = build_dataset(tmp_path / "cabin", train=60, val=4, test=0)
    real = read_set(str(data), "train", DPOSE)
    mixture = real.mixture(DPOSE)
    lacking = lacking_postures(real, mixture, 80)
    assert sum(p.images for p in lacking) == 80
    union = {p.name: p.natural + p.images for p in lacking}
    assert max(union.values()) - min(union.values()) <= 1.0 + 1e-6
    scenes, wanted, reached = aim_at(lacking, 80)
    assert Counter(wanted) == {p.name: p.images for p in lacking}
    assert len({scene.seed for scene in scenes}) == 80  # none twice
    names = real.labels.columns["posture"]
    cluster = mixture.assign(real.table.features())
    right = wrong = 0
    for posture in lacking:
        own = Counter(names[real.table.image[p]] for p in np.flatnonzero(cluster == int(posture.name.split()[1])))
        mine = [s.posture for s, w in zip(scenes, wanted, strict=True) if w == posture.name]
        right += sum(name in own for name in mine)
        wrong += sum(name not in own for name in mine)
    assert right > 9 * wrong
    labels = draw(scenes)[0]
    for posture in lacking:  # they are as near to their targets as is said, and nearer than others
        rows = np.array([w == posture.name for w in wanted])
        oks = nearest(labels.select(rows), posture.targets, SIGMAS)[0].mean()
        assert oks >= reached[posture.name] - 0.05 and reached[posture.name] > 0.5
    assert aim_at(lacking, 80)[0] == scenes and aim_at(lacking, 80, seed=1)[0] != scenes


def test_groups_are_spread_over_the_set():
    order = spread_out([40, 4, 0, 1])
    assert np.bincount(order).tolist() == [40, 4, 0, 1]
    assert all(1 in order[at : at + 12] for at in range(0, 33, 11))


def test_postures_of_a_second_set_count_as_missing(tmp_path):
    mine = build_dataset(tmp_path / "mine", train=160, val=4, test=0)
    rows = {r["file"]: r["posture"] for r in csv.DictReader((tmp_path / "mine" / "index.csv").open())}
    for label in (tmp_path / "mine" / "labels" / "train").glob("*.txt"):
        if rows[f"{label.stem}.png"] == "stretch_up":  # the set has no arms above the head
            label.write_text("")
    other = build_dataset(tmp_path / "other", train=80, val=4, test=0, seed=3)
    real, second = (read_set(str(data), "train", DPOSE) for data in (mine, other))
    lacking = lacking_postures(real, real.mixture(DPOSE), 40, 0, second)
    missing = [p for p in lacking if p.name.startswith("missing")]
    assert missing and all(p.natural == 0 for p in missing) and sum(p.images for p in lacking) == 40
    scenes, _, _ = aim_at(missing, 40)
    assert np.mean([scene.posture == "stretch_up" for scene in scenes]) > 0.8


def test_cameras_are_fitted_to_the_labels():
    truth = Camera(0.6, (0.62, 0.4))
    drawn = [draw_labels(SceneSpec(i, NAMES[i % 4], truth, size=(96, 96))) for i in range(200)]
    real = from_drawn(drawn, (96, 96))
    ticks = []
    found = fit_cameras(real, sample_camera, draw, NAMES, BASE, seed=1, tick=ticks.append)
    assert len(found) == fit.CAMERAS and len(set(found)) <= fit.ELITE
    assert sum(ticks) == fit.LABELS * (fit.FIRST + (fit.ROUNDS - 1) * (fit.ELITE + fit.CHILDREN))
    scale, centre = np.mean([c.scale for c in found]), np.mean([c.centre for c in found], 0)
    assert scale == pytest.approx(0.6, abs=0.06) and centre == pytest.approx([0.62, 0.4], abs=0.05)
    again = fit_cameras(real, sample_camera, draw, NAMES, BASE, seed=1)
    assert again == found
    ours = from_drawn(
        [draw_labels(SceneSpec(i, NAMES[i % 4], found[i % 64], size=(96, 96))) for i in range(200)], (96, 96)
    )
    for name in ("width", "height", "x", "y"):
        assert np.median(framing(ours)[name]) == pytest.approx(np.median(framing(real)[name]), abs=0.06)


def test_a_camera_as_numbers():
    camera = Camera(0.5, (0.25, 0.75), "roof")
    np.testing.assert_array_equal(vector_of(camera), [0.5, 0.25, 0.75])
    assert with_vector(camera, np.array([1.0, 0.0, 0.5])) == Camera(1.0, (0.0, 0.5), "roof")
    with pytest.raises(DPoseError, match="cannot be fitted"):
        vector_of({"fov": 60.0})


def test_each_image_takes_one_of_the_cameras():
    cameras = tuple(Camera(s) for s in (0.5, 0.7, 0.9))
    assert {scene.camera for scene in scenes_of(60, cameras=cameras)} == set(cameras)


def test_scenes_without_a_driver_take_another_camera():
    away, near = Camera(0.5, (3.0, 3.0)), Camera(0.5)
    scenes = scenes_of(40, cameras=(near, away))
    labels, seen = draw(scenes)
    assert len(labels) == seen.sum() == sum(scene.camera is near for scene in scenes)
    found = seen_scenes(scenes, draw, 0)
    assert {scene.camera for scene in found} == {near} and len(draw(found)[0]) == 40
    assert [scene.seed for scene in found] == [scene.seed for scene in scenes]
    with pytest.raises(DPoseError, match="posture two_hands cannot be seen"):
        seen_scenes(scenes_of(4, cameras=(away,)), draw, 0)
    labels = draw(scenes_of(8))[0]
    with pytest.raises(DPoseError, match="sees the driver in 0 scenes only"):
        aim_scenes([Lacking("cluster 0", 1.0, 8, labels)], scenes_of(8, cameras=(away,)), draw, 0)


def test_settings():
    assert read_options({})["postures"] == "all" and read_options({"data": "a.yaml"})["postures"] == "rare"
    assert image_size("320x240") == (320, 240) == image_size("[320, 240]")
    for given, line in [
        ({"postures": "rare"}, "postures=rare needs data="),
        ({"compare": "b.yaml"}, "compare= names postures that data= lacks"),
        ({"size": "640"}, "size=640 is not allowed: size takes width x height"),
        ({"size": "16x640"}, "size takes width x height in pixels from 32"),
        ({"look": "green"}, "look='green' is not allowed: look takes colour or infrared or mixed"),
        ({"licence": "mit"}, "licence takes any or cc0"),
        ({"images": 0}, "images=0 is not allowed"),
        ({"workers": 0}, "workers=0 is not allowed"),
        ({"val": 1}, "val=1 is not allowed"),
    ]:
        with pytest.raises(DPoseError, match=line.replace("(", r"\(")):
            read_options(given)


@pytest.fixture
def fake(monkeypatch) -> None:
    """The command renders stick figures."""
    monkeypatch.setattr(tools, "own_tools", lambda: FAKE)


def test_the_command_fills_the_gaps_of_a_data_set(fake, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(make, "POOL", 200)
    data = build_dataset(tmp_path / "cabin", train=60, val=4, test=0)
    words = ["render", f"dst={tmp_path}/new", f"data={data}", "images=60", "size=96x96", "clusters=4", "tries=2"]
    cli.run([*words, "workers=1"])
    said = capsys.readouterr().out
    assert "cameras fitted to 60 labels" in said and "poses, " in said and "train 60 images" in said
    index = list(csv.DictReader((tmp_path / "new" / "index.csv").open()))
    own = Counter(
        r["posture"] for r in csv.DictReader((tmp_path / "cabin" / "index.csv").open()) if "train" in r["split"]
    )
    union = {n: own[n] + sum(r["posture"] == n for r in index) for n in NAMES}
    assert max(union.values()) / min(union.values()) < 0.6 * max(own.values()) / min(own.values())
    record = json.loads((tmp_path / "new" / "render.json").read_text())
    assert record["recipe"]["data"] == str(data) and record["recipe"]["clusters"] == 4
    before = {p: p.read_bytes() for p in (tmp_path / "new").rglob("*") if p.is_file()}
    cli.run([*words, "workers=2"])  # nothing is left to do, and workers do not belong to the recipe
    assert "is complete already" in capsys.readouterr().out
    assert {p: p.read_bytes() for p in (tmp_path / "new").rglob("*") if p.is_file()} == before
    cli.run([w if not w.startswith("dst") else f"dst={tmp_path}/again" for w in words])
    for path in (tmp_path / "again" / "labels").rglob("*.txt"):
        assert path.read_bytes() == Path(str(path).replace("again", "new")).read_bytes()


def test_the_command_with_a_camera_and_names(fake, tmp_path, capsys):
    (tmp_path / "camera.yaml").write_text("0.5")
    cli.run(
        ["render", f"dst={tmp_path}/set", "images=10", f"camera={tmp_path}/camera.yaml",
         "postures=two_hands,stretch_up", "size=64x64", "val=0.2", "workers=1"]
    )  # fmt: skip
    assert "train 8, val 2 images" in capsys.readouterr().out
    index = list(csv.DictReader((tmp_path / "set" / "index.csv").open()))
    assert Counter(r["posture"] for r in index) == {"two_hands": 5, "stretch_up": 5}
    labels = [read_label(str(p), 17, 3, 1).rows[0] for p in sorted((tmp_path / "set/labels").rglob("*.txt"))]
    assert np.max([row[4] for row in labels]) < 0.6  # the box of a driver at half the size


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["postures=two_hand"], "no posture 'two_hand': did you mean two_hands"),
        (["camera=none.yaml"], "no camera file none.yaml"),
        (["data=none.yaml"], "no data file none.yaml"),
        (["image=3"], "takes no setting 'image': did you mean images"),
        (["images=90000000"], "images=90000000 is not allowed"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(fake, tmp_path, monkeypatch, words, line):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DPoseError, match=line):
        cli.run(["render", "dst=set", *words])
    assert not list(tmp_path.iterdir())
    with pytest.raises(DPoseError, match="dpose render needs dst="):
        cli.run(["render"])


def test_a_set_that_does_not_fit_on_the_disk(fake, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 10**6})())
    with pytest.raises(DPoseError, match="set fewer images=, a smaller size=, or dst= to another disk"):
        cli.run(["render", f"dst={tmp_path}/set", "images=2000"])
    assert not (tmp_path / "set").exists()
