"""`dpose prepare drive_act`: labels against an independent projection, matching, splits, layouts."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from prepare_cases import (
    CALIBRATED,
    COCO_JOINTS,
    ROTATION,
    TRANSLATION,
    body,
    by_hand,
    drive_act,
    index_of,
    labels_of,
    number_in,
    problems,
)

from dpose_yolo.cli import run
from dpose_yolo.errors import DPoseError
from dpose_yolo.prepare.drive_act_files import nearest, read_poses, seconds_of
from dpose_yolo.prepare.drive_act_poses import doubt_odd_bones
from dpose_yolo.prepare.projection import Camera, rotation_of


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drive_act(tmp_path_factory.mktemp("da") / "tree")


@pytest.fixture(scope="module")
def made(tree: Path) -> Path:
    dst = tree.parent / "set"
    words = ["frames=40", "every=0.1", "views=inner_mirror,a_column_co_driver"]
    assert run(["prepare", "drive_act", f"src={tree}", f"dst={dst}", *words]) == 0
    return dst


def expected(i: int, camera: str) -> np.ndarray:
    """(17, 3) pixels and flag of pose i, by hand."""
    joints = body(i)
    points = np.zeros((17, 3))
    for k, joint in enumerate(COCO_JOINTS):
        if not joints[joint].any():
            continue
        pair = (None, None) if camera == "ids_1" else (ROTATION, TRANSLATION)
        x, y = by_hand(joints[joint], camera, *pair)
        if 0 <= x < CALIBRATED[0] and 0 <= y < CALIBRATED[1]:
            points[k] = x, y, 1 if joint == "lEar" else 2
    return points


def check_labels(made: Path, view: str, camera: str, shift: int) -> int:
    seen = 0
    for row in index_of(made):
        if row["view"] != view:
            continue
        frame = int(row["source"].rpartition("#")[2])
        (label,) = labels_of(made, row["file"])
        points = label[5:].reshape(17, 3)
        truth = expected(frame - shift, camera)
        assert (points[:, 2] == truth[:, 2]).all(), row
        assert np.abs(points[:, :2] * CALIBRATED - truth[:, :2]).max() < 0.01, row
        assert number_in(cv2.imread(str(made / row["file"]))) == frame
        seen += 1
    return seen


def test_keypoints_are_those_of_a_calculation_by_hand(made):
    assert check_labels(made, "inner_mirror", "ids_1", 0) == 20
    assert check_labels(made, "a_column_co_driver", "ids_2", 4) == 20


def test_the_box_holds_the_keypoints_with_its_margin_and_reaches_the_edge_for_a_knee_below(made):
    row = next(r for r in index_of(made) if r["view"] == "inner_mirror")
    frame = int(row["source"].rpartition("#")[2])
    (label,) = labels_of(made, row["file"])
    joints = [p for n, p in body(frame).items() if n in COCO_JOINTS and p.any()]
    pixels = np.clip([by_hand(p, "ids_1") for p in joints], 0, CALIBRATED)
    low, high = pixels.min(0), pixels.max(0)
    assert high[1] == CALIBRATED[1]  # the knees lie below the picture
    low, high = np.maximum(low - 0.1 * (high - low), 0), np.minimum(high + 0.1 * (high - low), CALIBRATED)
    centre, size = label[1:3] * CALIBRATED, label[3:5] * CALIBRATED
    assert np.abs(centre - (low + high) / 2).max() < 0.01 and np.abs(size - (high - low)).max() < 0.01


def test_extrinsics_the_other_way_round_give_the_same_labels(made, tmp_path, capsys):
    other = drive_act(tmp_path / "tree", inverse=True)
    words = ["frames=40", "every=0.1", "views=inner_mirror,a_column_co_driver"]
    assert run(["prepare", "drive_act", f"src={other}", f"dst={tmp_path / 'set'}", *words]) == 0
    said = capsys.readouterr().out
    assert "a_column_co_driver: extrinsics taken as camera to reference" in said
    assert "inner_mirror: the camera of the poses" in said
    how = json.loads((made / "prepare.json").read_text())["how"]
    assert any("a_column_co_driver: extrinsics taken as reference to camera" in sentence for sentence in how)
    assert index_of(tmp_path / "set") == index_of(made)
    for row in index_of(made):
        assert np.abs(labels_of(tmp_path / "set", row["file"]) - labels_of(made, row["file"])).max() < 2e-6


def test_parts_activities_and_budget(made):
    rows = index_of(made)
    assert Counter(r["split"] for r in rows) == {"train": 32, "test": 8}  # 26.9 to 6.7
    assert {r["subject"] for r in rows if r["split"] == "test"} == {"vp5"}
    assert Counter(r["subject"] for r in rows) == {"vp1": 16, "vp2": 16, "vp5": 8}
    for row in rows:
        frame = int(row["source"].rpartition("#")[2]) - (4 if row["view"] == "a_column_co_driver" else 0)
        assert row["activity"] == ("opening" if frame < 30 else "eating" if frame < 60 else ""), row
        assert float(row["time"]) == pytest.approx(frame / 30 + (4 / 30 if "co_driver" in row["view"] else 0), abs=1e-3)
        assert frame % 10 != 9  # rows of zeros
    card = yaml.safe_load((made / "data.yaml").read_text())
    assert "path" not in card and card["val"] == card["test"] == "images/test" and card["kpt_shape"] == [17, 3]


def test_the_set_is_sound_and_loads_in_the_engine(made):
    assert problems(made) == []
    from dpose_yolo.engine.labels import load_labels

    copy = Path(shutil.copytree(made, made.parent / "engine"))  # the engine leaves caches beside the labels
    labels, data, _ = load_labels(copy / "data.yaml", "train")
    assert len(labels) == 32 and all(len(item["keypoints"]) == 1 for item in labels)
    assert data["kpt_shape"] == [17, 3] and data["flip_idx"][5:7] == [6, 5]


@pytest.mark.parametrize(
    "layout",
    [
        {"percent": False},
        {"preamble": "# openpose 3d\ncamera;ids_1\n\n"},
        {"activities": "activities_3s"},
        {"unit": 1e-6},
    ],
    ids=str,
)
def test_variants_of_the_layout(made, tmp_path, layout):
    other = drive_act(tmp_path / "tree", subjects=("vp1", "vp2", "vp5"), **layout)
    words = ["frames=40", "every=0.1", "views=inner_mirror,a_column_co_driver"]
    assert run(["prepare", "drive_act", f"src={other}", f"dst={tmp_path / 'set'}", *words]) == 0
    assert index_of(tmp_path / "set") == index_of(made)


@pytest.mark.parametrize(
    ("split", "parts"),
    [("0", {"vp5": "test"}), ("1", {"vp1": "test", "vp2": "val"}), ("2", {"vp2": "test"})],
)
def test_official_splits(tree, tmp_path, split, parts):
    dst = tmp_path / "set"
    assert run(["prepare", "drive_act", f"src={tree}", f"dst={dst}", "frames=12", f"split={split}"]) == 0
    found = {row["subject"]: row["split"] for row in index_of(dst)}
    assert found == {subject: parts.get(subject, "train") for subject in ("vp1", "vp2", "vp5")}


def test_images_only(tree, tmp_path):
    dst = tmp_path / "set"
    words = ["frames=12", "every=0.1", "labels=none", "views=a_column_co_driver"]
    assert run(["prepare", "drive_act", f"src={tree}", f"dst={dst}", *words]) == 0
    rows = index_of(dst)
    assert not (dst / "labels").exists() and Counter(r["split"] for r in rows) == {"train": 10, "test": 2}
    assert problems(dst) == [] and {r["activity"] for r in rows} >= {"opening", "eating"}
    assert all(number_in(cv2.imread(str(dst / r["file"]))) == int(r["source"].rpartition("#")[2]) for r in rows)


def test_poses_off_every_frame_are_counted(tree, tmp_path, capsys):
    dst, words = tmp_path / "set", ["frames=8", "views=a_column_co_driver", "tolerance=0.001"]
    with pytest.raises(DPoseError, match=r"no frame of .* has a usable pose: lower conf="):
        run(["prepare", "drive_act", f"src={tree}", f"dst={dst}", *words])  # ids_2 lags 3 ms behind
    assert not dst.exists()


def test_a_subject_in_two_parts_is_refused(tree, tmp_path):
    copy = Path(shutil.copytree(tree, tmp_path / "tree"))
    folder = next(copy.rglob("activities_3s")) / "inner_mirror"
    shutil.copy(folder / "midlevel.chunks_90.split_1.test.csv", folder / "midlevel.chunks_90.split_1.train.csv")
    with pytest.raises(
        DPoseError, match=r"official split 1 has subject vp1 in t.* and in t.*: a subject may be in one part"
    ):
        run(["prepare", "drive_act", f"src={copy}", f"dst={tmp_path / 'set'}", "split=1"])


def test_a_calibration_of_another_camera_is_refused(tree, tmp_path):
    copy = Path(shutil.copytree(tree, tmp_path / "tree"))
    for file in copy.rglob("*.ids_2.calibration.json"):
        raw = json.loads(file.read_text())
        raw["extrinsics"]["rotation"] = {"w": 0.0, "x": 0.0, "y": 1.0, "z": 0.0}  # looks the other way
        raw["extrinsics"]["translation"] = {"x": 0.0, "y": 5.0, "z": 0.0}
        file.write_text(json.dumps(raw))
    with pytest.raises(DPoseError, match=r"of the 3D points fall into the image of a_column_co_driver"):
        run(["prepare", "drive_act", f"src={copy}", f"dst={tmp_path / 'set'}", "views=a_column_co_driver"])


def test_points_beyond_the_lens_model_do_not_fold_into_the_image():
    camera = Camera(np.diag([500.0, 500, 1]), np.array([-0.4, 0, 0, 0, 0]), (2000, 2000), np.eye(3), np.zeros(3))
    fold = 1 / np.sqrt(1.2)  # 1 - 1.2 r^2 = 0
    points = np.array([[fold * 0.99, 0, 1], [fold * 1.01, 0, 1], [0, 0, -1], [0.1, 0, 1]])
    pixels, good = camera.project(points, 0)
    assert good.tolist() == [True, False, False, True]
    assert np.isnan(pixels[1]).all() and pixels[3, 0] == pytest.approx(500 * 0.1 * (1 - 0.4 * 0.01))


def test_directions_undo_each_other():
    rotation, move = rotation_of(np.array([0.9, 0.1, -0.3, 0.2])), np.array([0.2, -0.1, 0.4])
    assert np.allclose(rotation @ rotation.T, np.eye(3)) and np.linalg.det(rotation) == pytest.approx(1)
    matrix, none = np.diag([500.0, 500, 1]), np.zeros(5)
    points = np.random.default_rng(0).normal((0, 0, 3), 0.3, (20, 3))
    one = Camera(matrix, none, (100, 100), rotation, move).project(points, 0)[0]
    other = Camera(matrix, none, (100, 100), rotation.T, -rotation.T @ move).project(points, 1)[0]
    assert np.allclose(one, other)


def test_a_wrist_too_far_from_its_elbow_is_not_labelled():
    points = np.stack([np.array([body(i)[joint] for joint in COCO_JOINTS]) for i in range(60)])
    confidence = np.where(points.any(2), 0.9, 0.0)
    points[7, 10] += (0.0, 0.4, 0.0)  # right wrist
    kept = doubt_odd_bones(points, confidence, 0.2)
    assert kept[7, 10] == 0 and (kept != confidence).sum() == 1


def test_units_of_time(tmp_path):
    times = 1.5e9 + np.arange(10) / 30
    for unit in (1.0, 1e-3, 1e-6, 1e-9):
        assert np.allclose(seconds_of(times / unit, tmp_path), times, atol=1e-5)
    with pytest.raises(DPoseError, match="do not rise"):
        seconds_of(times[::-1], tmp_path)
    with pytest.raises(DPoseError, match="no unit of time"):
        seconds_of(times * 60, tmp_path)
    which, off = nearest(np.array([0.0, 1.0, 2.0]), np.array([-1.0, 0.4, 0.6, 9.0]))
    assert which.tolist() == [0, 0, 1, 2] and off.tolist() == pytest.approx([1, 0.4, 0.4, 7])


def test_columns_are_read_by_name(tree, tmp_path):
    import pandas

    file = sorted(tree.rglob("*.openpose.3d.csv"))[0]
    table = pandas.read_csv(file)
    table[table.columns[::-1]].to_csv(tmp_path / "turned.csv", index=False)
    one, other = read_poses(file), read_poses(tmp_path / "turned.csv")
    assert np.array_equal(one.points, other.points) and one.confidence.max() == pytest.approx(0.9)
    assert len(one.time) == 81  # 9 rows of zeros
    (tmp_path / "none.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DPoseError, match="no line with frame_id and nose_x"):
        read_poses(tmp_path / "none.csv")
