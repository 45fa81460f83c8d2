"""The light runtime: the engine's answers without the engine, whatever the picture, and a line for a wrong model."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from export_cases import LOW, cabin_pictures, save_checkpoint
from onnx_files import TWO, two_persons, write_onnx
from stick_figures import NAMES
from ultralytics import YOLO

from dpose_yolo.cli import run
from dpose_yolo.errors import DPoseError
from dpose_yolo.runtime import DriverPose

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("run") / "tiny.pt", ROOT)


@pytest.fixture(scope="module")
def exported(checkpoint) -> Path:
    return Path(YOLO(checkpoint).export(format="onnx", imgsz=96, verbose=False))


def engine_answer(model: YOLO, picture: np.ndarray, size: int, conf: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Keypoints, box and score of the engine's first person, on the same square input."""
    found = model.predict(picture, imgsz=size, rect=False, conf=conf, verbose=False, device="cpu")[0]
    return found.keypoints.data[0].numpy(), found.boxes.xyxy[0].numpy(), float(found.boxes.conf[0])


def same(driver, answer, pixels: float) -> None:
    keypoints, box, score = answer
    assert np.abs(driver.keypoints - keypoints[:, :2]).max() <= pixels
    assert np.abs(driver.box - box).max() <= pixels
    assert np.abs(driver.scores - keypoints[:, 2]).max() <= 1e-3 and abs(driver.score - score) <= 1e-3


def test_the_engines_answers_on_cabin_pictures_of_odd_sizes(root, checkpoint, exported):
    pose, model = DriverPose(exported, conf=LOW), YOLO(checkpoint)
    sizes = [(320, 240), (97, 53), (211, 500), (96, 96), (1, 300), (640, 33)]
    for picture, size in zip(cabin_pictures(root, len(sizes)), sizes, strict=True):
        picture = cv2.resize(picture, size)
        driver = pose(picture)
        same(driver, engine_answer(model, picture, 96, LOW), 0.02)
        assert (driver.keypoints >= 0).all() and (driver.keypoints <= size).all()
    assert pose.names == tuple(NAMES) and pose.pictures == len(sizes)


def test_predict_writes_the_same_for_a_checkpoint_and_its_export(root, checkpoint, exported, tmp_path):
    pictures = tmp_path / "pictures"
    (pictures / "below").mkdir(parents=True)
    for i, picture in enumerate(cabin_pictures(root, 4)):
        cv2.imwrite(str(pictures / ("below" if i % 2 else ".") / f"{i}.png"), picture)
    tables = []
    for model in (checkpoint, exported):
        words = ["predict", f"model={model}", f"source={pictures}", f"conf={LOW}", f"project={tmp_path / model.suffix}"]
        assert run([*words, *(["imgsz=96"] if model == checkpoint else [])]) == 0
        folder = tmp_path / model.suffix / "predict"
        assert sorted(f.name for f in folder.iterdir()) == [
            "0.png",
            "1.png",
            "2.png",
            "3.png",
            "poses.csv",
            "poses.json",
        ]
        tables.append(pd.read_csv(folder / "poses.csv"))
    assert list(tables[0]) == list(tables[1]) and (tables[0]["source"] == tables[1]["source"]).all()
    numbers = [table.select_dtypes("number").to_numpy() for table in tables]
    assert np.nanmax(np.abs(numbers[0] - numbers[1])) < 0.05


def test_the_engines_answers_on_real_pictures(shared_data, tmp_path):
    weights = shared_data.parent / "weights" / "yolo11n-pose.pt"
    if not weights.is_file():
        pytest.skip(f"no pretrained weights {weights}")
    path = shutil.copy(weights, tmp_path)
    pose, model = DriverPose(YOLO(path).export(format="onnx", imgsz=320, verbose=False)), YOLO(path)
    files = sorted((shared_data / "coco_mini_pose" / "images" / "val").iterdir())[:8]
    files += sorted((shared_data / "statefarm_pose" / "images" / "val").iterdir())[:8]
    pictures = [cv2.imread(str(f)) for f in files]
    found = 0
    for picture in pictures:
        driver = pose(picture)
        if driver is None:
            assert not len(model.predict(picture, imgsz=320, rect=False, verbose=False, device="cpu")[0])
            continue
        found += 1
        same(driver, engine_answer(model, picture, 320, 0.25), 0.5)
    assert found >= 10


def test_grey_alpha_and_sixteen_bits_are_the_same_picture(root, exported):
    pose = DriverPose(exported, conf=LOW)
    grey = cv2.cvtColor(cabin_pictures(root, 1)[0], cv2.COLOR_BGR2GRAY)
    colour = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    expected = pose(colour)
    alpha = np.dstack([colour, np.full(grey.shape, 7, np.uint8)])
    wide = grey.astype(np.uint16) * 256 + 3
    for picture in (
        grey,
        grey[..., None],
        alpha,
        wide,
        wide[..., None],
        np.dstack([wide] * 3),
        colour[:, ::-1][:, ::-1],
    ):
        driver = pose(picture)
        assert np.abs(driver.keypoints - expected.keypoints).max() < 1e-3
        assert driver.score == pytest.approx(expected.score, abs=1e-6)
    twelve = DriverPose(exported, conf=LOW, bits=12)(grey.astype(np.uint16) * 16)
    assert np.abs(twelve.keypoints - expected.keypoints).max() < 1e-3


def test_colours_are_not_mixed_up(exported, root):
    """Blue and red exchanged is another picture: the order matters, and is OpenCV's."""
    picture = cabin_pictures(root, 1)[0].copy()
    picture[..., 0] //= 4
    pose = DriverPose(exported, conf=LOW)
    assert np.abs(pose(picture).scores - pose(picture[..., ::-1]).scores).max() > 1e-4


WRONG = [
    (None, "the picture is empty"),
    (np.zeros((0, 10, 3), np.uint8), "the picture is empty"),
    (np.zeros((10, 10, 3), np.float32), "a picture of float32 numbers"),
    (np.zeros((10, 10, 5), np.uint8), "a picture of shape (10, 10, 5)"),
    (np.zeros(10, np.uint8), "a picture of shape (10,)"),
]


@pytest.mark.parametrize(("picture", "line"), WRONG)
def test_pictures_that_are_none(picture, line, tmp_path):
    pose = DriverPose(write_onnx(tmp_path / "two.onnx", two_persons(), TWO))
    with pytest.raises(DPoseError) as error:
        pose(picture)
    assert line in str(error.value) and "\n" not in str(error.value)


def test_best_person_and_region_of_interest(tmp_path):
    path = write_onnx(tmp_path / "two.onnx", two_persons(), TWO)
    picture = np.zeros((32, 64, 3), np.uint8)  # letterboxed: 16 px above, scale 1
    passenger = DriverPose(path)(picture)
    assert passenger.score == pytest.approx(0.8)
    assert passenger.box.tolist() == [6, 0, 26, 32]  # centre 16, 32 - 16; 40 high, clipped to the picture
    assert passenger.keypoints.tolist() == [[10, 4], [16, 16], [22, 28]]
    assert passenger.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    driver = DriverPose(path, roi=(0.5, 0, 1, 1))(picture)
    assert driver.score == pytest.approx(0.6) and driver.keypoints[0].tolist() == [42, 2]
    assert DriverPose(path, roi="0.4,0,0.6,1")(picture) is None  # nobody's centre is there
    assert DriverPose(path, conf=0.9)(picture) is None
    assert DriverPose(path)(np.zeros((64, 128), np.uint8)).keypoints.tolist() == [[20, 8], [32, 32], [44, 56]]


def test_models_with_the_selection_inside_and_without_confidences(tmp_path):
    rows = np.zeros((1, 4, 6 + 9), np.float32)
    rows[0, 0] = [2, 4, 30, 50, 0.7, 0, *range(9)]
    rows[0, 1] = [40, 4, 60, 50, 0.5, 0, *range(10, 19)]
    picture = np.zeros((64, 64, 3), np.uint8)
    for told in ({**TWO, "end2end": True}, {**TWO, "args": {"nms": True}}):
        path = write_onnx(tmp_path / "rows.onnx", rows, told)
        driver = DriverPose(path)(picture)
        assert driver.box.tolist() == [2, 4, 30, 50] and driver.keypoints.tolist() == [[0, 1], [3, 4], [6, 7]]
        assert DriverPose(path, roi=(0.5, 0, 1, 1))(picture).score == pytest.approx(0.5)
    plain = np.zeros((1, 4 + 2 + 6, 2), np.float32)  # two classes; x and y only
    plain[0, :, 1] = [32, 32, 10, 10, 0.3, 0.6, 1, 2, 3, 4, 5, 6]
    told = {**TWO, "kpt_shape": [3, 2], "names": {0: "passenger", 1: "driver"}}
    driver = DriverPose(write_onnx(tmp_path / "plain.onnx", plain, told))(picture)
    assert driver.keypoints.tolist() == [[1, 2], [3, 4], [5, 6]] and driver.scores.tolist() == pytest.approx([0.6] * 3)


def test_a_model_for_grey_pictures(tmp_path):
    told = {**TWO, "channels": 1}
    pose = DriverPose(write_onnx(tmp_path / "grey.onnx", two_persons(), told, (1, 1, 64, 64)))
    assert pose.card.channels == 1
    for picture in (np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.uint8)):
        assert pose(picture).score == pytest.approx(0.8)


def test_numbers_that_are_not_finite_are_no_driver(tmp_path):
    answer = two_persons()
    answer[0, 5, 2] = np.nan
    assert DriverPose(write_onnx(tmp_path / "nan.onnx", answer, TWO))(np.zeros((64, 64, 3), np.uint8)) is None


def refused(path: Path, **settings) -> str:
    with pytest.raises(DPoseError) as error:
        DriverPose(path, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_models_that_are_none_are_refused(tmp_path, exported, checkpoint):
    cut = tmp_path / "cut.onnx"
    for length in (0, 100, exported.stat().st_size // 2, exported.stat().st_size - 10):
        cut.write_bytes(exported.read_bytes()[:length])
        assert "cannot be loaded as an ONNX model" in refused(cut), length
    cut.write_text("not a model")
    assert "cannot be loaded as an ONNX model" in refused(cut)
    assert "no model file" in refused(tmp_path / "missing.onnx")
    assert "is a PyTorch checkpoint" in refused(checkpoint)
    made = tmp_path / "made.onnx"
    cases = [
        ({}, "does not say that it is a driver-pose model"),
        ({"task": "pose"}, "does not say that it is a driver-pose model"),
        ({**TWO, "task": "detect"}, "is a detect model, not a pose model"),
        ({**TWO, "kpt_shape": "many"}, "has kpt_shape 'many'"),
        ({**TWO, "kpt_shape": [17, 3]}, "not the 56 numbers a person"),
        ({**TWO, "names": {0: "a", 1: "b"}}, "not the 15 numbers a person"),
    ]
    for told, line in cases:
        assert line in refused(write_onnx(made, two_persons(), told))
    assert "takes 2 pictures at a time" in refused(write_onnx(made, two_persons(), TWO, (2, 3, 64, 64)))
    assert "not one grey or colour picture" in refused(write_onnx(made, two_persons(), TWO, (1, 4, 64, 64)))


def test_settings_out_of_range_are_refused(tmp_path):
    path = write_onnx(tmp_path / "two.onnx", two_persons(), TWO)
    for settings, line in [
        ({"conf": 2}, "conf=2"),
        ({"bits": 17}, "bits=17"),
        ({"roi": "1,2"}, "roi=1,2"),
        ({"roi": (0.5, 0, 0.5, 1)}, "is not allowed"),
        ({"device": "tpu"}, "device=tpu is not known"),
        ({"device": 0}, "knows no NVIDIA card"),
    ]:
        assert line in refused(path, **settings)


def test_importing_and_running_needs_neither_torch_nor_the_engine(tmp_path):
    path = write_onnx(tmp_path / "two.onnx", two_persons(), TWO)
    code = (
        "import sys; sys.modules['torch'] = sys.modules['ultralytics'] = None\n"  # an import of them would fail
        "import numpy as np\n"
        "from dpose_yolo.runtime import DriverPose\n"
        f"assert DriverPose({str(path)!r})(np.zeros((9, 9), np.uint8)) is not None\n"
        "heavy = {'yaml', 'sklearn', 'scipy', 'pandas', 'matplotlib', 'rich', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_memory_stays_flat_over_ten_thousand_frames(tmp_path):
    pose = DriverPose(write_onnx(tmp_path / "two.onnx", two_persons(), TWO), threads=1)
    picture = np.zeros((64, 48, 3), np.uint8)
    most, frames = 0, 0
    for frame, driver in pose.stream(picture for _ in range(10_000)):
        assert driver is not None
        frames += 1
        if frame.number == 2_000:
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert frames == 10_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 2_000  # KiB
