"""Labels, names, postures and predictions as the metrics take them."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from engine_models import tiny_model
from stick_figures import NAMES, build_dataset
from ultralytics import YOLO

from dpose_yolo.errors import DPoseError
from dpose_yolo.evaluation.data import index_files, load_part, oks_sigmas
from dpose_yolo.evaluation.postures import cluster_groups, name_groups
from dpose_yolo.evaluation.predict import evaluate_engine_model
from dpose_yolo.posture.mixture import PostureMixture
from dpose_yolo.report.tables import csv_column


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """48 training and 9 test images of 96 x 64 px."""
    path = build_dataset(tmp_path_factory.mktemp("data"), train=48, val=4, test=9)
    for file in path.parent.rglob("*.png"):
        cv2.imwrite(str(file), cv2.resize(cv2.imread(str(file)), (96, 64)))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A model that finds something everywhere."""
    model = tiny_model()
    torch.manual_seed(1)
    for p in model.model[-1].parameters():  # a new head says the same everywhere
        p.data += 0.3 * torch.randn_like(p)
    model.args, model.task, model.kpt_names = {"imgsz": 64}, "pose", {0: NAMES}
    path = tmp_path_factory.mktemp("run") / "weights" / "best.pt"
    path.parent.mkdir()
    torch.save({"model": model, "train_args": {}}, path)
    return path


def test_labels_are_in_original_pixels(data):
    part = load_part(data, "test")
    assert len(part.truth.files) == 9 and part.truth.sizes.tolist() == [[96, 64]] * 9
    for i, file in enumerate(part.truth.files):
        label = Path(file.replace("images", "labels")).with_suffix(".txt")
        values = np.array(label.read_text().split()[1:], float)
        points = values[4:].reshape(17, 3) * [96, 64, 1]
        np.testing.assert_allclose(part.truth.keypoints[i], points, atol=1e-3)
        x, y, w, h = values[:4] * [96, 64, 96, 64]
        np.testing.assert_allclose(part.truth.boxes[i], [x - w / 2, y - h / 2, x + w / 2, y + h / 2], atol=1e-3)
    assert part.truth.names == NAMES
    assert (part.truth.keypoints[..., 2] == 1).any(), "hidden keypoints stay hidden"


def test_labels_without_flags_are_visible(tmp_path):
    data = build_dataset(tmp_path, train=4, val=2, test=2, keypoints=3)
    for label in tmp_path.rglob("*.txt"):
        row = label.read_text().split()
        label.write_text(" ".join(row[:5] + [v for i, v in enumerate(row[5:]) if i % 3 < 2]) + "\n")
    card = yaml.safe_load(data.read_text())
    data.write_text(yaml.safe_dump({**card, "kpt_shape": [3, 2]}))
    assert (load_part(data, "test").truth.keypoints[..., 2] == 2).all()


def test_sigmas_are_the_engines():
    from ultralytics.utils.metrics import OKS_SIGMA

    np.testing.assert_allclose(oks_sigmas({"kpt_shape": [17, 3]}), OKS_SIGMA, atol=1e-7)
    assert oks_sigmas({"kpt_shape": [4, 3]}).tolist() == [0.25] * 4
    assert oks_sigmas({"kpt_shape": [2, 3], "kpt_oks_sigmas": [0.1, 0.2]}).tolist() == [0.1, 0.2]
    for wrong in ([0.1], [0.1, -1], ["a", "b"]):
        with pytest.raises(DPoseError, match="kpt_oks_sigmas of the data must be 2 numbers above 0"):
            oks_sigmas({"kpt_shape": [2, 3], "kpt_oks_sigmas": wrong})


def test_names_and_subjects_are_found_beside_the_data(data, tmp_path):
    part = load_part(data, "test")
    assert part.names == ["two_hands", "phone_left", "reach_right", "stretch_up"] * 2 + ["two_hands"]
    assert part.subjects is None and not part.subjects_known()
    table = tmp_path / "people.csv"
    rows = [f"{Path(f).name},p{i // 3}" for i, f in enumerate(part.truth.files)]
    table.write_text("file,subject\n" + "\n".join(rows[:8]) + "\n")
    part = load_part(data, "test", names=table)
    assert part.names is None and part.subjects == ["p0"] * 3 + ["p1"] * 3 + ["p2"] * 2 + [None]
    for text, line in (("file,camera\na.png,x\n", "has no column"), ("file,name\na.png,x\n", "knows none of the 9")):
        table.write_text(text)
        with pytest.raises(DPoseError, match=line):
            load_part(data, "test", names=table)
    with pytest.raises(DPoseError, match="there is no table of posture names"):
        load_part(data, "test", names=tmp_path / "none.csv")


def test_a_wrong_index_nobody_asked_for_is_passed_over(tmp_path):
    data = build_dataset(tmp_path, train=4, val=2, test=2)
    (tmp_path / "index.csv").write_text("file,name\nother.png,x\n")
    assert load_part(data, "test").names is None


def test_images_in_a_folder_of_the_root_have_an_index_to_look_for():
    assert index_files("cards/data.yaml", {"test": "/test"}, "test") == [
        Path("/test/index.csv"), Path("/index.csv"), Path("cards/index.csv"),
    ]  # fmt: skip


def test_the_split_column_tells_files_of_one_name_apart(tmp_path):
    table = tmp_path / "index.csv"
    table.write_text(
        "file,split,name\n1.png,train,texting\n1.png,val,driving\n2.png,val,driving\n2.png,train,driving\n"
    )
    files = ["/d/images/val/1.png", "/d/images/train/1.png", "/d/images/val/2.png", "/d/other/2.png"]
    assert csv_column(table, files, ["name"]) == ["driving", "texting", "driving", "driving"]
    assert csv_column(table, files, ["subject"]) is None
    table.write_text("file,name\n1.png,texting\n1.png,driving\n")
    with pytest.raises(DPoseError, match=r"calls 1\.png both 'texting' and 'driving'"):
        csv_column(table, files, ["name"])


def test_a_part_without_labelled_keypoints_is_refused(tmp_path):
    data = build_dataset(tmp_path, train=4, val=2, test=2)
    for label in (tmp_path / "labels" / "test").glob("*.txt"):
        label.write_text(" ".join([*label.read_text().split()[:5], *["0"] * 51]) + "\n")
    with pytest.raises(DPoseError, match="no keypoint is labelled in the test part"):
        load_part(data, "test")


def test_clusters_are_counted_on_the_training_part(data, tmp_path):
    part = load_part(data, "test")
    groups = cluster_groups(part, "train", settings={"clusters": 4})
    train = load_part(data, "train")
    own = groups.mixture.predict(train.table.features())
    assert groups.train_counts.tolist() == np.bincount(own, minlength=4).tolist() and groups.train_counts.sum() == 48
    assert groups.image.tolist() == groups.mixture.predict(part.table.features()).tolist()  # one person an image
    assert "fitted to the training part" in groups.told and "4 clusters" in groups.told


def test_auto_takes_the_mixture_of_the_run(data, tmp_path):
    part = load_part(data, "test")
    run = tmp_path / "run"
    (run / "weights").mkdir(parents=True)
    assert "fitted to" in cluster_groups(part, "auto", run / "weights" / "best.pt", {"clusters": 4}).told
    small = PostureMixture(3, random_state=0).fit(load_part(data, "train").table.features())
    small.save(run / "postures.npz", keypoint_names=NAMES)
    groups = cluster_groups(part, "auto", run / "weights" / "best.pt")
    assert str(run / "postures.npz") in groups.told and len(groups.train_counts) == 3
    same = cluster_groups(part, str(run / "postures.npz"))
    assert same.image.tolist() == groups.image.tolist()
    small.save(run / "postures.npz", keypoint_names=[n.upper() for n in NAMES])  # of other keypoints
    assert "fitted to" in cluster_groups(part, "auto", run / "weights" / "best.pt", {"clusters": 4}).told
    with pytest.raises(DPoseError, match=r"is a mixture of 17 keypoints .NOSE"):
        cluster_groups(part, str(run / "postures.npz"))
    with pytest.raises(DPoseError, match=r"mixture=missing.npz is not there: give auto, train, or the path"):
        cluster_groups(part, "missing.npz")


def test_without_a_training_part_the_mixing_weights_count(data, tmp_path):
    mixture = cluster_groups(load_part(data, "test"), "train", settings={"clusters": 4}).mixture
    mixture.save(tmp_path / "postures.npz", keypoint_names=NAMES)
    shutil.copytree(data.parent, tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "images" / "train")
    part = load_part(tmp_path / "data" / "data.yaml", "test")
    groups = cluster_groups(part, str(tmp_path / "postures.npz"))
    np.testing.assert_allclose(groups.train_counts, mixture.weights_ * 48, atol=0.5)
    assert "mixing weights" in groups.told
    with pytest.raises(DPoseError, match="no training part to take postures from"):
        cluster_groups(part, "train")


def test_names_are_counted_on_the_training_part(data):
    groups = name_groups(load_part(data, "test"))
    rows = (data.parent / "index.csv").read_text().splitlines()
    seen = {n: sum(f",train,{n}," in r for r in rows) for n in groups.names}
    assert dict(zip(groups.names, groups.train_counts.tolist(), strict=True)) == seen and sum(seen.values()) == 48
    assert sorted(groups.train_counts.tolist(), reverse=True) == groups.train_counts.tolist()
    assert [groups.names[g] for g in groups.image] == load_part(data, "test").names


def test_detections_are_those_of_the_engines_prediction(data, checkpoint):
    part = load_part(data, "test")
    run = {"part": part, "imgsz": 64, "device": "cpu", "verbose": False}
    found, own = evaluate_engine_model(str(checkpoint), **run)  # square unless asked
    assert own["imgsz"] == 64 and 0 <= own["AP"] <= 1
    many = np.bincount(found.image, minlength=9)
    assert many.max() <= 20 and many.min() > 0
    model = YOLO(checkpoint)
    for i, file in enumerate(part.truth.files):
        result = model.predict(file, imgsz=64, conf=0.001, max_det=20, rect=False, device="cpu", verbose=False)[0]
        at = found.image == i
        np.testing.assert_allclose(found.score[at], result.boxes.conf.numpy(), atol=2e-3)
        np.testing.assert_allclose(found.boxes[at], result.boxes.xyxy.numpy(), atol=0.5)
        np.testing.assert_allclose(found.keypoints[at], result.keypoints.data.numpy(), atol=0.5)
    padded, _ = evaluate_engine_model(str(checkpoint), rect=True, **run)  # 96 x 96, as the engine does it
    assert padded.keypoints.shape != found.keypoints.shape or np.abs(padded.keypoints - found.keypoints).max() > 0.5


def test_keypoints_are_picked_from_the_model(data, checkpoint):
    part = load_part(data, "test")
    run = {"part": part, "imgsz": 64, "device": "cpu", "verbose": False}
    plain, _ = evaluate_engine_model(str(checkpoint), **run)
    chosen = [*range(1, 17), -1]
    moved, _ = evaluate_engine_model(YOLO(checkpoint), keypoints=chosen, **run)
    np.testing.assert_array_equal(moved.keypoints[:, :16], plain.keypoints[:, 1:])
    assert (moved.keypoints[:, 16, 2] == 0).all()


def test_a_model_of_other_keypoints_is_refused(tmp_path, checkpoint):
    data = build_dataset(tmp_path, train=4, val=2, test=2, keypoints=5)
    with pytest.raises(DPoseError, match="the model gives 17 keypoints, but the data has 5"):
        evaluate_engine_model(str(checkpoint), data, "test", imgsz=64, device="cpu", verbose=False)
    found, _ = evaluate_engine_model(
        str(checkpoint), data, "test", keypoints=range(5), imgsz=64, device="cpu", verbose=False
    )
    assert found.keypoints.shape[1:] == (5, 3)


def test_a_model_that_finds_nothing_has_empty_detections(data, checkpoint):
    found, figures = evaluate_engine_model(checkpoint, data, "test", imgsz=64, conf=1.0, device="cpu")
    assert found.keypoints.shape == (0, 17, 3) and found.boxes.shape == (0, 4)
    assert figures["AP"] == 0
