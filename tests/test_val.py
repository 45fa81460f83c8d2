"""`dpose val`: figures, files and pictures of an evaluation."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from engine_models import tiny_model
from evaluation_cases import noisy, perfect
from stick_figures import NAMES, build_dataset
from ultralytics import YOLO

from dpose_yolo.cli import run
from dpose_yolo.commands.val import own_settings, save_plots
from dpose_yolo.engine.explain import KeypointCams, explain
from dpose_yolo.errors import DPoseError
from dpose_yolo.evaluation import evaluate as evaluating
from dpose_yolo.evaluation.attention import _measured, attention_quality
from dpose_yolo.evaluation.data import EvaluationPart, load_part
from dpose_yolo.evaluation.evaluate import evaluate, jsonable, measure
from dpose_yolo.evaluation.postures import cluster_groups
from dpose_yolo.metrics import Matches, assign_by_box
from dpose_yolo.report.evaluation import conventions, print_evaluation, save_evaluation
from dpose_yolo.report.evaluation_charts import save_keypoint_chart, save_posture_chart
from dpose_yolo.report.worst import TILE, _tile, save_worst_sheet, worst_persons


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return build_dataset(tmp_path_factory.mktemp("data"), train=48, val=4, test=16, size=64)


@pytest.fixture(scope="module")
def part(data) -> EvaluationPart:
    return load_part(data, "test")


@pytest.fixture(scope="module")
def clusters(part):
    return cluster_groups(part, "train", settings={"clusters": 4})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    model = tiny_model()
    torch.manual_seed(1)
    for p in model.model[-1].parameters():
        p.data += 0.3 * torch.randn_like(p)
    model.args, model.task, model.kpt_names = {"imgsz": 64}, "pose", {0: NAMES}
    path = tmp_path_factory.mktemp("run") / "tiny.pt"
    torch.save({"model": model, "train_args": {}}, path)
    return path


# Figures


def test_perfect_detections_have_perfect_figures(part, clusters):
    found = measure(part, perfect(part), clusters, bootstrap=50)
    metrics = found.metrics
    assert [metrics[k] for k in ("AP", "AP50", "AP75", "AR")] == [1, 1, 1, 1]
    assert metrics["intervals"]["AP"] == pytest.approx([1, 1])
    for groups in (metrics["clusters"], metrics["names"]):
        assert [groups[k] for k in ("head", "medium", "tail", "macro")] == pytest.approx([1, 1, 1, 1])
    assert metrics["names"]["clusters"] == 4 and metrics["names"]["head_images"] == 8  # two of four names
    rows = {row["keypoint"]: row for row in metrics["keypoints"]}
    assert list(rows) == [*NAMES, "all"]
    assert rows["all"]["pck_05"] == 1 and rows["all"]["error"] == 0 and rows["all"]["missed_visible"] == 0
    np.testing.assert_allclose(found.person_oks, 1)


def test_figures_agree_with_each_other(part, clusters):
    found = measure(part, noisy(part), clusters, bootstrap=200)
    metrics = found.metrics
    assert 0.3 < metrics["AP"] < 0.95
    low, high = metrics["intervals"]["AP"]
    assert low < metrics["AP"] < high
    assert found.matches.average_precision()[0][0] == pytest.approx(metrics["AP"], abs=1e-9)
    names = found.names.set_index("name")["AP"]
    for name in ("two_hands", "stretch_up"):
        mask = np.array([n == name for n in part.names])
        assert found.matches.average_precision(mask.astype(float))[0][0] == pytest.approx(names[name])
    assert metrics["names"]["macro"] == pytest.approx(names.mean())
    assert metrics["bootstrap"] == {"replicates": 200, "by": "image", "groups": 16, "seed": 0, "level": 0.95}


def test_subjects_are_drawn_whole(data, tmp_path):
    table = tmp_path / "people.csv"
    files = load_part(data, "test").truth.files
    table.write_text("file,subject\n" + "\n".join(f"{Path(f).name},p{i // 4}" for i, f in enumerate(files)))
    part = load_part(data, "test", names=table)
    found = measure(part, noisy(part), None, bootstrap=50)
    assert found.metrics["bootstrap"]["by"] == "subject" and found.metrics["bootstrap"]["groups"] == 4
    assert found.metrics["clusters"] is None and found.metrics["names"] is None
    assert any("4 subjects, which are few" in line for line in conventions(found.metrics))


def test_oks_area_is_the_setting(part):
    small, large = (measure(part, noisy(part), oks_area=a, bootstrap=0).metrics for a in (0.2, 1.0))
    assert small["AP"] < large["AP"] and small["oks_area"] == 0.2
    assert small["intervals"] is None and small["bootstrap"]["replicates"] == 0
    assert "OKS area: 0.2 of the box" in conventions(small)[0]


def test_names_without_training_counts_have_no_head_and_tail(data, tmp_path):
    files = load_part(data, "test").truth.files
    table = tmp_path / "names.csv"
    table.write_text("file,name\n" + "\n".join(f"{Path(f).name},{'ab'[i % 2]}" for i, f in enumerate(files)))
    part = load_part(data, "test", names=table)
    found = measure(part, noisy(part), bootstrap=0)
    assert found.metrics["names"]["head"] is None and found.metrics["names"]["macro"] > 0
    print_evaluation(found)
    save_posture_chart({"names": found.names}, tmp_path / "p.png")


def test_json_has_no_nan():
    value = {"a": np.float32("nan"), "b": (1, np.int64(2)), "c": np.array([0.5, np.inf]), "d": {"e": None}}
    assert json.loads(json.dumps(jsonable(value), allow_nan=False)) == {
        "a": None, "b": [1, 2], "c": [0.5, None], "d": {"e": None},
    }  # fmt: skip


# Attention


def test_energy_pointing_and_chance_by_hand():
    """A 6 x 8 picture: the map has its peak 1 inside the disc around (2.5, 2.5), and 3 elsewhere."""
    maps = torch.zeros(1, 3, 6, 8)
    maps[0, 0, 2, 2], maps[0, 0, 5, 7], maps[0, 0, 0, 7] = 2.0, 1.0, 1.0
    maps[0, 1] = 1.0  # even: what chance gives
    cams = KeypointCams(maps, np.zeros((3, 3)), 0.9, gain=0.5, cell=1.0)
    labels = np.array([[5.0, 5.0, 2], [5.0, 5.0, 2], [5.0, 5.0, 1]])  # in the picture, twice as large; the last hidden
    rows = _measured(cams, labels, size=20.0, radius=0.1)  # 2 px there, 1 px here: the cell and its 4 neighbours
    assert [r[0] for r in rows] == [0, 1]
    assert rows[0][1:] == pytest.approx((2 / 4, 1.0, 5 / 48))
    assert rows[1][1] == pytest.approx(5 / 48) and rows[1][3] == pytest.approx(5 / 48)
    cams.maps[0, 0, 5, 7] = 2.5  # the peak is elsewhere now
    assert _measured(cams, labels, 20.0, 0.1)[0][1:3] == pytest.approx((2 / 5.5, 0.0))
    cams.cell = 4.0  # half a cell of 4 px at least
    assert _measured(cams, labels, 20.0, 0.01)[0][3] == pytest.approx(13 / 48)
    cams.maps[:] = 0
    assert _measured(cams, labels, 20.0, 0.1)[0][1:3] == (0.0, 0.0)


def test_attention_of_a_model_is_that_of_its_maps(part, checkpoint):
    found = attention_quality(checkpoint, part.truth, imgsz=64, limit=100)
    from dpose_yolo.engine.explain import load_pose_model

    model = load_pose_model(checkpoint)
    wrist = NAMES.index("left_wrist")
    y, x = np.mgrid[:64, :64] + 0.5
    energies, hits = [], []
    for i, labels in enumerate(part.truth.keypoints):  # one driver an image of 64 px: the map is the input's
        if labels[wrist, 2] != 2:
            continue
        cam = explain(model, cv2.imread(part.truth.files[i]), [wrist], imgsz=64).maps["left_wrist"]
        reach = max(0.1 * part.truth.box_areas()[i] ** 0.5, 8)
        disc = (x - labels[wrist, 0]) ** 2 + (y - labels[wrist, 1]) ** 2 <= reach**2
        energies.append(cam[disc].sum() / cam.sum() if cam.sum() else 0)
        hits.append(cam.sum() > 0 and disc.ravel()[cam.argmax()])
    row = found.rows.set_index("keypoint").loc["left_wrist"]
    assert row["maps"] == len(energies) and row["energy"] == pytest.approx(np.mean(energies), abs=1e-5)
    assert row["pointing"] == pytest.approx(np.mean(hits))
    assert found.images == 16 and found.layers == [4] and found.rows["maps"].iloc[-1] == found.rows["maps"][:-1].sum()
    assert attention_quality(checkpoint, part.truth, imgsz=64, limit=5).images == 5


# Files and pictures


def test_files_hold_what_was_measured(part, clusters, tmp_path):
    found = measure(part, noisy(part), clusters, bootstrap=20)
    written = save_evaluation(found, tmp_path) + save_plots(found, tmp_path)
    assert sorted(written) == sorted(f.name for f in tmp_path.iterdir())
    assert json.loads((tmp_path / "metrics.json").read_text()) == found.metrics
    table = pd.read_csv(tmp_path / "keypoints.csv")
    np.testing.assert_allclose(table["AP"], found.keypoints["AP"], rtol=1e-5)
    matches = Matches.load(tmp_path / "matches.npz")
    assert matches.average_precision()[0][0] == pytest.approx(found.metrics["AP"])


def pycocotools_ap(folder: Path) -> float:
    """AP of the two COCO files that an evaluation writes."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    labels = COCO(str(folder / "labels.json"))
    coco = COCOeval(labels, labels.loadRes(str(folder / "predictions.json")), "keypoints")
    coco.params.areaRng, coco.params.areaRngLbl = [[0, 1e10]], ["all"]
    coco.evaluate()
    coco.accumulate()
    return float(coco.eval["precision"].mean())


def test_predictions_and_labels_give_the_ap_with_pycocotools(part, tmp_path):
    found = measure(part, noisy(part), bootstrap=0)
    save_evaluation(found, tmp_path)
    assert pycocotools_ap(tmp_path) == pytest.approx(found.metrics["AP"], abs=1e-6)


def test_worst_persons_are_one_an_image():
    image, oks = np.array([0, 0, 1, 2, 3]), np.array([0.5, 0.2, 0.3, np.nan, 0.1])
    assert worst_persons(image, oks, 9).tolist() == [4, 1, 2]
    assert worst_persons(image, oks, 2).tolist() == [4, 1]


def test_label_and_prediction_are_drawn_at_their_places(part, tmp_path):
    found = perfect(part)
    found.keypoints[..., 0] += 8
    tile = _tile(part.truth, found, 0, 0, [], 0.5)
    assert tile.shape == (TILE[1], TILE[0], 3)
    box = part.truth.boxes[0]
    zoom = min(TILE[0] / (1.2 * (box[2] - box[0])), TILE[1] / (1.2 * (box[3] - box[1])))
    zoom = max(zoom, TILE[1] / 64)
    wide, high = TILE[0] / zoom, TILE[1] / zoom
    x0 = (64 - wide) / 2 if wide >= 64 else np.clip((box[0] + box[2] - wide) / 2, 0, 64 - wide)
    y0 = (64 - high) / 2 if high >= 64 else np.clip((box[1] + box[3] - high) / 2, 0, 64 - high)
    wrist = NAMES.index("left_wrist")
    for shift, colour in ((0, (0x56, 0xB4, 0xE9)), (8, (0xD5, 0x5E, 0x00))):
        x, y = (part.truth.keypoints[0, wrist, :2] + [shift, 0] - [x0, y0]) * zoom
        assert tile[round(y), round(x)].tolist() == list(colour)


def test_the_sheet_has_a_tile_a_person(part, tmp_path):
    oks = np.linspace(0, 1, 16)
    where = assign_by_box(part.truth, perfect(part))
    full = cv2.imread(str(save_worst_sheet(part.truth, perfect(part), oks, where, tmp_path / "w.jpg")))
    two = cv2.imread(str(save_worst_sheet(part.truth, perfect(part), oks, where, tmp_path / "v.jpg", count=2)))
    assert full.shape[0] > 3 * TILE[1] and full.shape[1] > 4 * TILE[0]
    assert TILE[1] < two.shape[0] < 2 * TILE[1] and 2 * TILE[0] < two.shape[1] < 3 * TILE[0]
    with pytest.raises(DPoseError, match="no labelled person to draw"):
        save_worst_sheet(part.truth, perfect(part), np.full(16, np.nan), where, tmp_path / "x.jpg")


def test_names_are_drawn_as_they_are_written(part, tmp_path):
    """Dollar signs in file and posture names are no formulas, which matplotlib would fail to read."""
    odd = "$\\odd$"
    oks, where = np.linspace(0, 1, 16), assign_by_box(part.truth, perfect(part))
    save_worst_sheet(part.truth, perfect(part), oks, where, tmp_path / "w.jpg", names=[odd] * 16)
    rows = [{"name": odd, "third": "head", "train_share": 0.5, "AP": 0.5, "low": 0.4, "high": 0.6}]
    save_posture_chart({"names": pd.DataFrame(rows)}, tmp_path / "p.png")
    table = measure(part, perfect(part), bootstrap=0).keypoints
    save_keypoint_chart(table.assign(keypoint=[odd, *table["keypoint"][1:]]), tmp_path / "k.png")


def test_charts_draw_what_there_is(part, tmp_path):
    table = measure(part, perfect(part), bootstrap=0).keypoints
    picture = cv2.imread(str(save_keypoint_chart(table, tmp_path / "k.png")))
    blue = (picture == (0xB2, 0x72, 0x00)).all(-1)  # bars of the left side, all of full length
    assert blue.any(0).sum() > 0.7 * picture.shape[1]
    none = table.assign(AP=np.nan)
    with pytest.raises(DPoseError, match="no keypoint has an AP to draw"):
        save_keypoint_chart(none, tmp_path / "n.png")
    with pytest.raises(DPoseError, match="no posture has an AP to draw"):
        save_posture_chart({"clusters": None}, tmp_path / "p.png")


# The command

WRONG = [
    (["oks_area=2"], "oks_area=2 is not allowed: give a share of the box area above 0, 1 at most"),
    (["oks_ara=1"], "unknown setting 'oks_ara': did you mean oks_area"),
    (["bootstrap=-1"], "bootstrap=-1 must be a whole number from 1"),
    (["attention=maybe"], "attention=maybe is not allowed"),
    (["plots=some"], "plots=some is not allowed: plots takes True, False or all"),
    (["cam_limit=0"], "cam_limit=0 must be a whole number from 1"),
    (["balance=1"], "balance is a setting of training"),
    (["mixture=none.npz"], "mixture=none.npz is not there"),
    (["names=none.csv"], "there is no table of posture names at none.csv"),
    (["mixture=train", "clusters=99"], "clusters=99 but only 48 poses"),
    (["split=dev"], "has no part 'dev': it has train, val, test"),
    (["att_radius=9"], "att_radius=9 is not allowed"),
    (["seed=abc"], "seed=abc must be a whole number from 0"),
    (["seed=-1"], "seed=-1 must be a whole number from 0"),
]


@pytest.mark.parametrize(("words", "line"), WRONG, ids=[w[0] for w, _ in WRONG])
def test_wrong_settings_get_one_line_and_leave_nothing(words, line, data, checkpoint, tmp_path):
    with pytest.raises(DPoseError) as error:
        run(["val", f"model={checkpoint}", f"data={data}", f"project={tmp_path / 'runs'}", *words])
    assert line in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_settings_reach_the_evaluation():
    assert own_settings({}) == {"postures": {}}
    assert own_settings({"bootstrap": 0, "oks_area": 1, "clusters": "auto", "names": "a.csv", "attention": False}) == {
        "names": "a.csv", "postures": {"clusters": "auto"}, "oks_area": 1.0, "bootstrap": 0, "attention": False,
    }  # fmt: skip


def test_val_of_a_tiny_model(data, checkpoint, tmp_path, capsys):
    words = [f"model={checkpoint}", f"data={data}", "split=test", "imgsz=64", "device=cpu", "verbose=False"]
    assert run(["val", *words, "bootstrap=20", "cam_limit=4", f"project={tmp_path}"]) == 0
    metrics = json.loads((tmp_path / "val" / "metrics.json").read_text())
    assert metrics["images"] == metrics["persons"] == 16 and metrics["attention"]["images"] == 4
    assert metrics["model"] == str(checkpoint) and metrics["split"] == "test"
    assert metrics["box_AP"] == metrics["engine"]["box_AP"] and metrics["engine"]["imgsz"] == 64
    assert "6 clusters" in metrics["mixture"] and metrics["clusters"]["clusters"] == 6
    found = {f.name for f in (tmp_path / "val").iterdir()}
    assert {"keypoints.png", "postures.png", "worst.jpg", "matches.npz", "predictions.json"} <= found
    shown = capsys.readouterr().out
    assert "OKS area: 0.53 of the box" in shown and "engine's own" not in shown


def test_the_seed_is_that_of_mixture_images_and_bootstrap(part, checkpoint, monkeypatch):
    seeds = {}

    def spy(name):
        original = getattr(evaluating, name)

        def called(*args, **kwargs):
            seeds[name] = signature(original).bind(*args, **kwargs).arguments.get("seed")
            return original(*args, **kwargs)

        monkeypatch.setattr(evaluating, name, called)

    for name in ("cluster_groups", "attention_quality", "bootstrap_weights"):
        spy(name)
    settings = {"imgsz": 64, "device": "cpu", "verbose": False, "bootstrap": 5, "cam_limit": 2}
    found = evaluate(checkpoint, part=part, postures={"clusters": 3}, seed=7, **settings)
    assert seeds == {"cluster_groups": 7, "attention_quality": 7, "bootstrap_weights": 7}
    assert found.metrics["bootstrap"]["seed"] == 7


@pytest.fixture(scope="module")
def stock_weights(request) -> Path:
    path = request.getfixturevalue("shared_data").parent / "weights" / "yolo11n-pose.pt"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    return path


@pytest.mark.slow
def test_real_predictions_against_pycocotools(shared_copy, stock_weights, tmp_path):
    """A stock model on real people, many of them without labelled keypoints."""
    data = shared_copy("coco_mini_pose")
    found = evaluate(stock_weights, data, "val", imgsz=320, bootstrap=20, cam_limit=4, device="cpu", verbose=False)
    save_evaluation(found, tmp_path)
    assert pycocotools_ap(tmp_path) == pytest.approx(found.metrics["AP"], abs=1e-6)
    assert found.metrics["persons_labelled"] < found.metrics["persons"]
    # persons without labelled keypoints are misses for the engine, and nothing to COCO
    assert found.metrics["AP"] > found.metrics["engine"]["AP"] + 0.05 > 0.15


@pytest.mark.slow
def test_real_predictions_against_the_engine(root, stock_weights):
    data = root / "data" / "cabin_mini.yaml"
    found = evaluate(stock_weights, data, "val", imgsz=224, bootstrap=0, attention=False, device="cpu", verbose=False)
    assert found.metrics["AP"] > 0.2
    assert found.metrics["AP"] == pytest.approx(found.metrics["engine"]["AP"], abs=0.01)


@pytest.mark.slow
def test_an_exported_model_has_the_figures_of_the_checkpoint(data, checkpoint, tmp_path):
    copy = tmp_path / "tiny.pt"
    copy.write_bytes(checkpoint.read_bytes())
    YOLO(copy).export(format="onnx", imgsz=64, verbose=False)
    run_ = {
        "data": data,
        "split": "test",
        "imgsz": 64,
        "bootstrap": 0,
        "rect": False,
        "device": "cpu",
        "verbose": False,
    }
    torch_, onnx = (evaluate(copy.with_suffix(s), **run_) for s in (".pt", ".onnx"))
    assert onnx.metrics["attention"] is None and torch_.metrics["attention"] is not None
    np.testing.assert_allclose(onnx.detections.score, torch_.detections.score, atol=1e-3)
    assert onnx.metrics["keypoints"][-1]["AP"] == pytest.approx(torch_.metrics["keypoints"][-1]["AP"], abs=1e-3)
