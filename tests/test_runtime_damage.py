"""What goes wrong on the road: damaged videos, files behind URLs, cameras that raise, signals, nothing to read."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx_files import TWO, two_persons, write_onnx

from dpose_yolo.cli import run
from dpose_yolo.errors import DPoseError
from dpose_yolo.runtime import DriverPose, open_source, sources
from dpose_yolo.runtime.stop import stop_signals

TOLD = {**TWO, "kpt_names": {0: ["nose", "left_wrist", "right_wrist"]}}


@pytest.fixture
def model(tmp_path) -> Path:
    return write_onnx(tmp_path / "two.onnx", two_persons(), TOLD)


def write_video(path: Path, code: str, frames: int, fps: float = 10) -> Path:
    """A video of 64x48 noise, so that a frame's share of the file is its share of the time."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, (64, 48))
    if not video.isOpened():
        pytest.skip(f"this OpenCV cannot write {code}")
    rng = np.random.default_rng(0)
    for _ in range(frames):
        video.write(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    video.release()
    return path


def wipe(path: Path, start: float, end: float) -> None:
    """Zeros in place of a share of a file."""
    data = bytearray(path.read_bytes())
    a, b = int(len(data) * start), int(len(data) * end)
    data[a:b] = bytes(b - a)
    path.write_bytes(data)


class Capture:
    """Stands in for cv2.VideoCapture: `script` says what each read gives: a grey, None, or an error that it raises."""

    def __init__(self, script: list, count: float = 0, backend: str = "FFMPEG"):
        self.script, self.count, self.backend, self.reads = script, count, backend, 0

    def isOpened(self) -> bool:
        return True

    def read(self):
        self.reads += 1
        value = self.script.pop(0) if self.script else None
        if isinstance(value, Exception):
            raise value
        return (False, None) if value is None else (True, np.full((4, 4, 3), value, np.uint8))

    def get(self, what: int) -> float:
        return self.count if what == cv2.CAP_PROP_FRAME_COUNT else 0.0

    def getBackendName(self) -> str:
        return self.backend

    def release(self) -> None:
        pass


def play(path: Path, script: list, count: float = 0, backend: str = "FFMPEG"):
    """Numbers of the frames that come out, the counts, and how often was read."""
    path.write_bytes(b"")
    capture = Capture(script, count, backend)
    source = open_source(path, capture=lambda name: capture)
    return [frame.number for frame in source], source.counts, capture.reads


def test_an_mp4_goes_on_after_more_damaged_frames_than_tries(tmp_path):
    path = write_video(tmp_path / "drive.mp4", "mp4v", 200)
    whole = [frame.image for frame in open_source(path)]
    wipe(path, 0.3, 0.6)
    source = open_source(path)
    frames = list(source)
    assert source.counts.broken > 2 * sources.TRIES and source.counts.frames + source.counts.broken == 200
    assert frames[-1].number == 199 and frames[-1].seconds == pytest.approx(19.9, abs=1e-3)
    assert np.array_equal(frames[0].image, whole[0]) and "cannot be decoded" in source.counts.first_broken


@pytest.mark.parametrize("end", ["wiped", "cut"])
def test_frames_that_an_avi_announces_and_does_not_give_are_counted(tmp_path, end):
    path = write_video(tmp_path / "drive.avi", "MJPG", 200)
    if end == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    else:
        wipe(path, 0.3, 0.6)
    source = open_source(path)
    frames = list(source)
    assert 100 < len(frames) < 160 and source.counts.broken == 200 - len(frames)
    assert source.counts.first_broken == f"{path}: {200 - len(frames)} of the 200 frames it announces never come"


WHOLE = [("avi", "MJPG"), ("avi", "XVID"), ("mp4", "mp4v"), ("mov", "mp4v"), ("mkv", "mp4v"), ("wmv", "WMV2")]


@pytest.mark.parametrize(("ending", "code"), WHOLE)
def test_whole_videos_have_nothing_broken(tmp_path, ending, code):
    for fps in (1, 12.5, 29.97, 120):
        for count in (1, 40):  # of the wmv with one frame, OpenCV says up to 1000
            source = open_source(write_video(tmp_path / f"drive.{ending}", code, count, fps))
            assert len(list(source)) == count and source.counts.broken == 0, (fps, count)


def test_headers_that_tell_more_less_or_nonsense(tmp_path):
    path, gap = tmp_path / "drive.mp4", [None] * 40
    assert play(path, [1, *gap, 2], 42)[0] == [0, 41]
    assert play(path, [1, *gap, 2])[0] == [0]  # without a number, 30 failures are the end
    numbers, counts, reads = play(path, [1, 2, *[None] * 6], 8)
    assert (numbers, counts.broken, reads) == ([0, 1], 6, 2 + sources.TRIES)
    numbers, counts, _ = play(path, [1, 2, 3, None, 4], 2)
    assert numbers == [0, 1, 2, 4] and counts.broken == 1  # the header tells too little
    for count in (-9.2e16, float("nan"), float("inf"), 2**31):
        numbers, counts, reads = play(path, [1, 2], count)
        assert (numbers, counts.broken, reads) == ([0, 1], 0, 2 + sources.TRIES), count
    for other, backend in ((tmp_path / "drive.mkv", "FFMPEG"), (path, "GSTREAMER")):  # where the number is a guess
        assert play(other, [1, 2], 1000, backend)[1].broken == 0


def test_a_read_that_raises_is_a_read_that_fails(tmp_path, monkeypatch):
    numbers, counts, _ = play(tmp_path / "drive.mp4", [1, cv2.error("bad packet"), 2])
    assert numbers == [0, 2] and counts.broken == 1
    monkeypatch.setattr(sources, "PAUSES", (0.001, 0.001))
    scripts = [[1, cv2.error("unplugged"), 2], [3]]
    source = open_source(0, capture=lambda where: Capture(scripts.pop(0) if scripts else []), patience=0.05)
    assert [int(frame.image[0, 0, 0]) for frame in source] == [1, 2, 3]
    assert source.counts.ended and source.counts.dropouts >= 1


def test_a_video_behind_a_url_is_read_once(tmp_path):
    path = write_video(tmp_path / "drive.mp4", "mp4v", 20)
    source = open_source(f"file://{path}", patience=0.2)
    assert [frame.number for frame in source] == list(range(20))
    assert source.kind == "pictures" and source.counts.broken == source.counts.dropouts == 0
    assert source.counts.ended is None
    opened = []

    def capture(where):
        opened.append(where)
        return Capture([1, 2], 2)

    assert len(list(open_source("https://car/a/Drive.MP4?key=a.b/c#t", capture=capture))) == 2 and len(opened) == 1


@pytest.mark.parametrize(("url", "count"), [("rtsp://car/live.ts", -9.2e16), ("http://car/stream", 500)])
def test_a_stream_stays_a_camera(url, count, monkeypatch):
    monkeypatch.setattr(sources, "PAUSES", (0.001, 0.001))
    source = open_source(url, capture=lambda where: Capture([1], count), patience=0.05)
    frames = iter(source)
    assert [next(frames).number for _ in range(3)] == [0, 1, 2] and source.kind == "camera"


@pytest.mark.parametrize("place", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("error")
def test_a_box_or_score_that_is_not_finite_is_no_driver(tmp_path, place, value):
    answer = two_persons()
    answer[0, place, 2] = value
    driver = DriverPose(write_onnx(tmp_path / "odd.onnx", answer, TWO))(np.zeros((64, 64, 3), np.uint8))
    if (place, value) == (4, -np.inf):  # less likely than anybody
        assert driver is not None and driver.score == pytest.approx(0.6)
    else:
        assert driver is None


@pytest.mark.parametrize("names", [["TERM"], ["HUP"], ["TERM", "HUP"]])
def test_a_signal_keeps_what_was_found(tmp_path, model, names):
    numbers = [getattr(signal, f"SIG{name}", None) for name in names]
    if None in numbers:
        pytest.skip("no such signal here")
    video = write_video(tmp_path / "long.avi", "MJPG", 3_000)
    code = "from dpose_yolo.cli import main; main()"
    words = ["predict", f"model={model}", f"source={video}", f"project={tmp_path / 'runs'}", "threads=1"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in numbers],  # tests may run under nohup
    )
    folder, end = tmp_path / "runs" / "predict", time.monotonic() + 300
    while not any(f.stat().st_size for f in folder.glob(".poses.*.csv")) and time.monotonic() < end:
        time.sleep(0.01)
    for number in numbers:
        process.send_signal(number)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 130, error.decode()
    assert sorted(f.name for f in folder.iterdir()) == ["long.mp4", "poses.csv", "poses.json"]
    rows = list(csv.DictReader((folder / "poses.csv").open()))
    told = json.loads((folder / "poses.json").read_text())
    assert 10 < len(rows) < 3_000 and abs(len(told["frames"]) - len(rows)) <= 1
    assert abs(len(list(open_source(folder / "long.mp4"))) - len(rows)) <= 1
    assert f"{told['counts']['frames']} frames, a driver in" in out.decode()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
def test_handlers_are_put_back_and_nohup_is_heeded():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        term = signal.getsignal(signal.SIGTERM)
        with stop_signals() as stop:
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN and signal.getsignal(signal.SIGTERM) is stop
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)  # the second one does not disturb what is being put in place
            assert stop.over
        assert signal.getsignal(signal.SIGTERM) == term
    finally:
        signal.signal(signal.SIGHUP, before)
    seen = []

    def elsewhere() -> None:
        with stop_signals() as stop:
            seen.append(signal.getsignal(signal.SIGTERM) is stop)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [False]


@pytest.mark.parametrize("what", ["folder", "video"])
def test_nothing_that_can_be_used_is_an_error_and_leaves_nothing(tmp_path, model, what):
    source = tmp_path / "drive"
    if what == "folder":
        source.mkdir()
        for name in ("a.jpg", "b.png"):
            (source / name).write_bytes(b"broken")
        line = f"no frame of {source} can be used; the first of 2: {source / 'a.jpg'}: cannot be read as a picture"
    else:
        source = write_video(tmp_path / "drive.mp4", "mp4v", 40)
        data = source.read_bytes()
        start, end = data.index(b"mdat") + 4, data.rindex(b"moov") - 4
        source.write_bytes(data[:start] + bytes(end - start) + data[end:])
        line = f"no frame of {source} can be used; the first of 40: {source}: 40 of the 40 frames it announces never"
    with pytest.raises(DPoseError) as error:
        run(["predict", f"model={model}", f"source={source}", f"project={tmp_path / 'runs'}"])
    assert line in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()
