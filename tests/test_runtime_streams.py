"""Streams of the light runtime: folders, videos, cameras that fail, smoothing, drawings, records, and the command."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx_files import TWO, two_persons, write_onnx

from dpose_yolo.cli import run
from dpose_yolo.errors import DPoseError
from dpose_yolo.runtime import Driver, DriverPose, Frame, OneEuro, open_source, sources
from dpose_yolo.runtime.draw import Gallery, draw_driver
from dpose_yolo.runtime.records import open_records

NAMES = ["nose", "left_wrist", "right_wrist"]
TOLD = {**TWO, "kpt_names": {0: NAMES}}


@pytest.fixture
def model(tmp_path) -> Path:
    return write_onnx(tmp_path / "two.onnx", two_persons(), TOLD)


@pytest.fixture
def drive(tmp_path) -> Path:
    """A video of 12 frames, 10 a second, each with its own grey."""
    path = tmp_path / "drive.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for i in range(12):
        video.write(np.full((48, 64, 3), 20 * i, np.uint8))
    video.release()
    return path


class Camera:
    """Stands in for cv2.VideoCapture: `script` says what each read gives, a picture's grey or None."""

    def __init__(self, script: list, opens: bool = True):
        self.script, self.opens, self.released = script, opens, 0

    def isOpened(self) -> bool:
        return self.opens

    def read(self):
        value = self.script.pop(0) if self.script else None
        return (False, None) if value is None else (True, np.full((4, 4, 3), value, np.uint8))

    def get(self, what: int) -> float:
        return 0.0

    def getBackendName(self) -> str:
        return "FFMPEG"

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Time that passes only while somebody sleeps."""
    now = [0.0]
    monkeypatch.setattr(sources.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sources.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    return now


def test_a_folder_with_broken_files(tmp_path, model):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "c.jpg"):
        cv2.imwrite(str(folder / name), np.full((32, 64, 3), 90, np.uint8))
    cv2.imwrite(str(folder / "d.png"), np.full((32, 64), 30_000, np.uint16))
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:20])
    (folder / "e.jpg").write_bytes(b"")
    (folder / "f.mp4").write_text("no video")
    (folder / "notes.txt").write_text("no picture")
    source = open_source(folder)
    found = list(DriverPose(model).stream(source))
    assert [Path(frame.name).name for frame, _ in found] == ["a.png", "c.jpg", "d.png"]
    assert all(driver.score == pytest.approx(0.8) for _, driver in found)
    assert found[2][0].image.dtype == np.uint16
    assert (source.counts.frames, source.counts.broken) == (3, 3) and "b.png" in source.counts.first_broken


def test_a_single_broken_file_is_an_error(tmp_path):
    for name, line in (("x.png", "cannot be read as a picture"), ("x.mp4", "cannot be read as a video")):
        path = tmp_path / name
        path.write_text("neither")
        with pytest.raises(DPoseError, match=line):
            list(open_source(path))


@pytest.mark.parametrize(
    ("source", "line"),
    [("missing.jpg", "no image, folder or video missing.jpg"), (None, "no picture, folder"), (True, "no picture")],
)
def test_sources_that_are_none(source, line):
    with pytest.raises(DPoseError, match=line):
        open_source(source)


def test_a_folder_without_pictures_and_a_file_of_another_kind(tmp_path):
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(DPoseError, match="no pictures or videos in"):
        open_source(tmp_path)
    with pytest.raises(DPoseError, match="is no picture or video"):
        open_source(tmp_path / "notes.txt")


def test_frames_of_a_video_with_their_times(drive):
    frames = list(open_source(str(drive)))
    assert len(frames) == 12 and [f.number for f in frames] == list(range(12))
    assert [f.seconds for f in frames] == pytest.approx([i / 10 for i in range(12)], abs=1e-3)
    assert [round(float(f.image.mean()) / 20) for f in frames] == list(range(12)) and frames[0].fps == 10


def test_frames_that_cannot_be_decoded_are_counted_and_passed_over(tmp_path):
    path = tmp_path / "drive.mp4"
    path.write_bytes(b"")
    source = open_source(path, capture=lambda name: Camera([10, None, None, 20, 30, None]))
    assert [(int(f.image[0, 0, 0]), f.number) for f in source] == [(10, 0), (20, 3), (30, 4)]
    assert source.counts.broken == 2  # the last failure is the end of the video


def test_a_video_with_a_damaged_middle(drive, model):
    data = bytearray(drive.read_bytes())
    middle = len(data) // 2
    data[middle - 600 : middle + 600] = bytes(1200)  # about two frames
    drive.write_bytes(data)
    source = open_source(drive)
    found = list(DriverPose(model).stream(source))
    assert 6 <= len(found) <= 12 and all(driver is not None for _, driver in found)
    assert source.counts.frames == len(found) and source.counts.broken == 12 - len(found)  # some decode to a grey
    assert all(a.seconds < b.seconds for (a, _), (b, _) in pairwise(found))


def test_a_camera_that_drops_out_is_opened_again(clock):
    scripts = [[1, 2, None, 3, *[None] * 5], [], [4, 5, *[None] * 5]]
    cameras = []

    def capture(where):
        cameras.append(Camera(scripts.pop(0), opens=len(cameras) != 1) if scripts else Camera([], opens=False))
        return cameras[-1]

    source = open_source(0, capture=capture, patience=10)
    frames = list(source)
    assert [int(f.image[0, 0, 0]) for f in frames] == [1, 2, 3, 4, 5]
    assert [f.number for f in frames] == list(range(5)) and all(f.utc.endswith("+00:00") for f in frames)
    assert source.counts.dropouts == 2 and source.counts.broken == 11
    assert source.counts.ended == "camera 0 gave no picture for 10 s"
    assert all(camera.released for camera in cameras)


def test_a_camera_that_never_gives_a_picture(clock):
    with pytest.raises(DPoseError, match="camera 3 gives no picture"):
        list(open_source("3", capture=lambda where: Camera([], opens=False), patience=5))
    with pytest.raises(DPoseError, match="camera rtsp://car/1 gives no picture"):
        list(open_source("rtsp://car/1", capture=lambda where: Camera([]), patience=5))


def test_arrays_that_are_no_pictures_are_counted(model):
    arrays = [np.zeros((9, 9), np.uint8), None, np.zeros((0, 4), np.uint8), np.zeros((9, 9, 3), float)]
    source = open_source([*arrays, np.zeros((9, 9, 3), np.uint8)])
    assert [frame.number for frame, _ in DriverPose(model).stream(source)] == [0, 4]
    assert (source.counts.frames, source.counts.broken) == (2, 3)


def driver_at(x: float, y: float) -> Driver:
    points = np.array([[x, y], [x + 10, y], [x, y + 10]], np.float32)
    return Driver(np.array([x, y, x + 30, y + 40], np.float32), points, np.ones(3, np.float32), 0.9)


def test_one_euro_calms_noise_and_follows_motion():
    rng = np.random.default_rng(0)
    steady = OneEuro()
    noisy = [driver_at(100 + n[0], 100 + n[1]) for n in rng.normal(0, 0.5, (200, 2))]
    smooth = [steady(d, i / 30).keypoints[0, 0] for i, d in enumerate(noisy)]
    assert np.std(smooth[50:]) < 0.5 * np.std([d.keypoints[0, 0] for d in noisy[50:]])
    assert np.mean(smooth[50:]) == pytest.approx(100, abs=0.1)
    fast = OneEuro()
    path = [100 + 200 * i / 30 for i in range(60)]  # 200 px, four box diagonals, a second
    lag = [x - fast(driver_at(x, 100), i / 30).keypoints[0, 0] for i, x in enumerate(path)]
    slow = OneEuro(beta=0)
    lag_without = [x - slow(driver_at(x, 100), i / 30).keypoints[0, 0] for i, x in enumerate(path)]
    assert 0 < lag[-1] < 6 < 25 < lag_without[-1]  # a low pass of 1 Hz lags by speed / (2 pi 1 Hz), 32 px


def test_one_euro_begins_afresh_after_a_gap_and_leaves_nobody_alone():
    steady = OneEuro(forget=0.5)
    first = steady(driver_at(0, 0), 0.0)
    assert np.array_equal(first.keypoints, driver_at(0, 0).keypoints)
    assert steady(None, 0.1) is None
    near = steady(driver_at(10, 0), 0.2)
    assert 0 < near.keypoints[0, 0] < 10 and near.score == 0.9
    assert steady(driver_at(50, 0), 0.8).keypoints[0, 0] == 50  # 0.6 s later
    with pytest.raises(DPoseError, match="min_cutoff=0"):
        OneEuro(min_cutoff=0)


def test_one_euro_takes_no_infinite_numbers():
    for low, beta in ((float("inf"), 10), (1, float("inf")), (float("nan"), 10)):
        with pytest.raises(DPoseError, match="none of them infinite"):
            OneEuro(low, beta)


def test_a_picture_by_its_path_and_a_picture_for_a_model(tmp_path, model):
    cv2.imwrite(str(tmp_path / "one.jpg"), np.full((64, 64, 3), 90, np.uint8))
    assert DriverPose(model)(tmp_path / "one.jpg").score == pytest.approx(0.8)
    with pytest.raises(DPoseError, match=r"one.jpg is a picture or video, not a model: DriverPose\("):
        DriverPose(tmp_path / "one.jpg")
    with pytest.raises(DPoseError, match=r"none.jpg cannot be read"):
        DriverPose(model)("none.jpg")


def test_drawings_show_what_is_sure():
    picture = np.zeros((60, 60), np.uint8)
    driver = driver_at(10, 10)
    drawn = draw_driver(picture, driver, NAMES)
    assert drawn.shape == (60, 60, 3) and not picture.any()
    left_blue, right_red = drawn[10, 20].tolist(), drawn[20, 10].tolist()
    assert left_blue[0] > 2 * left_blue[2] and right_red[2] > 2 * right_red[0]
    hidden = draw_driver(picture, replace(driver, scores=np.array([1, 0.4, 1], np.float32)), NAMES)
    assert hidden[10, 20].tolist() != left_blue and hidden[20, 10].tolist() == right_red
    assert not draw_driver(picture, None, NAMES).any()


def test_drawn_pictures_of_the_same_name_and_videos(tmp_path):
    with Gallery(tmp_path / "out", NAMES) as gallery:
        for folder in ("a", "b"):
            gallery.add(Frame(np.zeros((8, 8, 3), np.uint8), f"{folder}/x.png"), None)
        for i in range(5):
            gallery.add(Frame(np.zeros((32, 48), np.uint8), "0", i, i / 10, "2026-01-01T00:00:00", 10.0), None)
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["camera_0.mp4", "x.png", "x_2.png"]
    assert len(list(open_source(tmp_path / "out" / "camera_0.mp4"))) == 5


def test_a_drawn_video_that_is_cut_short_is_an_error_and_not_put_in_place(tmp_path, model, drive, monkeypatch):
    """OpenCV drops frames without a word where the disk is full."""

    class Full:
        def __init__(self, *args):
            self.video, self.frames = writer(*args), 0

        def write(self, frame):
            self.frames += 1
            if self.frames < 4:
                self.video.write(frame)

        def __getattr__(self, name):
            return getattr(self.video, name)

    writer = cv2.VideoWriter
    Full.fourcc = writer.fourcc
    monkeypatch.setattr(cv2, "VideoWriter", Full)
    words = ["predict", f"model={model}", f"source={drive}", f"project={tmp_path / 'runs'}", "records=False"]
    with pytest.raises(DPoseError, match=r"drive.avi is cut short after 3 of 12 frames: make room in"):
        run(words)
    assert not (tmp_path / "runs").exists()


def test_threads_that_share_a_model_get_their_own_answers(model):
    pose = DriverPose(model)

    class Slow:
        def run(self, names, inputs):
            (blob,) = inputs.values()
            before = blob.copy()
            time.sleep(0.02)
            assert (blob == before).all()  # no other thread writes to it
            answer = two_persons()
            answer[0, 4] *= float(blob.max())
            return [answer]

    pose.session = Slow()
    pictures = [np.full((48, 64, 3), grey, np.uint8) for grey in (120, 160, 200, 240)] * 2
    with ThreadPoolExecutor(4) as threads:
        scores = [driver.score for driver in threads.map(pose, pictures)]
    assert scores == pytest.approx([0.8 * p.max() / 255 for p in pictures]) and pose.pictures == 8


def test_records_hold_every_frame_and_appear_at_the_end(tmp_path):
    driver = driver_at(1, 2)
    with open_records(tmp_path, NAMES) as records:
        records.add(Frame(None, "a.mp4", 0, 0.0), driver)
        records.add(Frame(None, "a.mp4", 1, 0.04), None)
        records.about["model"] = "best.onnx"
        assert not (tmp_path / "poses.csv").exists()
    rows = list(csv.DictReader((tmp_path / "poses.csv").open()))
    assert [r["time_s"] for r in rows] == ["0.0", "0.04"] and rows[1]["score"] == rows[1]["nose_x"] == ""
    assert [float(rows[0][k]) for k in ("x1", "y2", "left_wrist_x", "right_wrist_y")] == [1, 42, 11, 12]
    told = json.loads((tmp_path / "poses.json").read_text())
    assert told["keypoints"] == NAMES and told["model"] == "best.onnx"
    assert told["frames"][0]["points"] == [[1, 2, 1], [11, 2, 1], [1, 12, 1]] and told["frames"][1]["score"] is None


def test_records_of_a_failed_run_are_not_put_in_place(tmp_path):
    with pytest.raises(RuntimeError), open_records(tmp_path, NAMES) as records:
        records.add(Frame(None, "a.mp4"), None)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with open_records(tmp_path, NAMES):
        pass
    assert json.loads((tmp_path / "poses.json").read_text()) == {"keypoints": NAMES, "frames": []}


def test_the_command_on_a_video(tmp_path, model, drive, capsys):
    words = ["predict", f"model={model}", f"source={drive}", f"project={tmp_path / 'runs'}", "smooth=True"]
    assert run(words) == 0
    out = capsys.readouterr().out
    assert "12 frames, a driver in 12" in out and "frames per second" in out
    folder = tmp_path / "runs" / "predict"
    assert sorted(p.name for p in folder.iterdir()) == ["drive.mp4", "poses.csv", "poses.json"]
    told = json.loads((folder / "poses.json").read_text())
    assert len(told["frames"]) == told["counts"]["frames"] == told["drivers"] == 12
    assert set(told["ms"]) == {"prepare", "network", "read"} and told["frames_per_second"] > 0
    assert told["frames"][3]["points"][0] == [10.0, 12.0, 0.9]  # 64x48 px, 8 px of border above
    assert len(list(open_source(folder / "drive.mp4"))) == 12
    assert run([*words, "save=False", "records=False"]) == 0
    assert not (tmp_path / "runs" / "predict-2").exists()


def test_the_command_runs_without_torch_and_the_engine(tmp_path, model, drive):
    code = (
        "import sys; sys.modules['torch'] = sys.modules['ultralytics'] = None\n"
        "from dpose_yolo.cli import run\n"
        f"sys.exit(run(['predict', 'model={model}', 'source={drive}', 'project={tmp_path / 'runs'}']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "12 frames" in done.stdout, done.stderr
    assert (tmp_path / "runs" / "predict" / "poses.csv").is_file()


WRONG = [
    ("confidence=0.5", "dpose predict takes no setting 'confidence'"),
    ("record=True", "did you mean records?"),
    ("imgsz=320", "takes 64x64 pixels, not imgsz=320"),
    ("smooth=much", "smooth=much is not allowed"),
    ("save=maybe", "save=maybe is not allowed"),
    ("patience=0", "patience=0 is not allowed"),
    ("roi=1,2,3", "roi=1,2,3 is not allowed"),
    ("threads=0", "threads=0 must be a whole number"),
]


@pytest.mark.parametrize(("word", "line"), WRONG)
def test_the_command_refuses_what_it_does_not_take(word, line, tmp_path, model, drive):
    with pytest.raises(DPoseError) as error:
        run(["predict", f"model={model}", f"source={drive}", f"project={tmp_path / 'runs'}", word])
    assert line in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_a_source_that_fails_leaves_no_folder(tmp_path, model):
    (tmp_path / "x.mp4").write_text("no video")
    with pytest.raises(DPoseError, match="cannot be read as a video"):
        run(["predict", f"model={model}", f"source={tmp_path / 'x.mp4'}", f"project={tmp_path / 'runs'}"])
    assert not any((tmp_path / "runs").rglob("*"))


def test_a_folder_named_by_a_number_is_no_camera(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "007").mkdir()
    cv2.imwrite(str(tmp_path / "007" / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "7").mkdir()
    kinds = [open_source(source).kind for source in ("007", "8", 7)]
    assert kinds == ["pictures", "camera", "camera"]
