"""`dpose prepare video`: which frames, names, splits, budget; interruption, foreign folders, space."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from prepare_cases import index_of, number_in, picture, problems, tree_of, write_video

from dpose_yolo.cli import run
from dpose_yolo.errors import DPoseError
from dpose_yolo.prepare.frames import Video


def prepare(src: Path, dst: Path, *words: str) -> list[dict[str, str]]:
    assert run(["prepare", "video", f"src={src}", f"dst={dst}", *words]) == 0
    return index_of(dst)


def number(row: dict[str, str]) -> int:
    return int(row["source"].rpartition("#")[2])


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three subjects: two videos, one video, and pictures only."""
    root = tmp_path_factory.mktemp("footage") / "src"
    write_video(root / "anna" / "one.mp4", 60, seed=1)
    write_video(root / "anna" / "more" / "two.mp4", 60, seed=2)
    write_video(root / "berta.mp4", 60, seed=3)
    (root / "carl").mkdir()
    for i in range(6):
        cv2.imwrite(str(root / "carl" / f"{i}.jpg"), picture(40 * i, seed=4))
    assert cv2.imwrite(str(root / "carl" / "grey.pgm"), picture(9, seed=4)[..., 0])
    return root


def test_frames_are_those_of_the_index(footage, tmp_path):
    rows = prepare(footage, tmp_path / "set", "every=0.2", "val=0.3")
    assert {r["subject"] for r in rows} == {"anna", "berta", "carl"}
    assert len({(r["subject"], r["split"]) for r in rows}) == 3 and {r["split"] for r in rows} == {"train", "val"}
    for row in rows:
        file = tmp_path / "set" / row["file"]
        if "#" in row["source"]:
            assert number_in(cv2.imread(str(file))) == number(row) and number(row) % 6 == 0
            assert float(row["time"]) == pytest.approx(number(row) / 30, abs=1e-3)
        elif file.suffix == ".png":
            assert np.array_equal(cv2.imread(str(file)), cv2.imread(str(footage / row["source"])))
        else:
            assert file.read_bytes() == (footage / row["source"]).read_bytes()
    assert sum(r["subject"] == "carl" for r in rows) == 7
    assert not (tmp_path / "set" / "labels").exists() and problems(tmp_path / "set") == []


def test_pictures_in_one_folder_are_one_subject(tmp_path, capsys):
    """Neighbouring frames never lie in training and validation both; videos beside them stay subjects of their own."""
    src = tmp_path / "drive7"
    write_video(src / "berta.mp4", 30, seed=3)
    for i in range(12):
        assert cv2.imwrite(str(src / f"frame_{i}.jpg"), picture(20 * i, seed=4))
    rows = prepare(src, tmp_path / "set", "val=0.3")
    assert {(r["subject"], r["split"]) for r in rows if "#" not in r["source"]} == {("drive7", "train")}
    assert {(r["subject"], r["split"]) for r in rows if "#" in r["source"]} == {("berta", "val")}
    (src / "berta.mp4").unlink()
    capsys.readouterr()
    rows = prepare(src, tmp_path / "alone", "val=0.3")
    assert len(rows) == 12 and {r["split"] for r in rows} == {"train"}
    assert "give each a folder of its own below src=" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("mode", ["variety", "even", "random"])
def test_a_budget_is_dealt_out_by_subject(footage, tmp_path, mode):
    rows = prepare(footage, tmp_path / "set", "every=0.1", "frames=24", f"choose={mode}", "val=0")
    assert len(rows) == 24 and len({r["file"] for r in rows}) == 24
    by = Counter(r["subject"] for r in rows)
    assert by["carl"] == 7 if mode != "variety" else by["carl"] >= 4, by  # all that there are
    assert max(by.values()) <= 9 and abs(by["anna"] - by["berta"]) <= 1, by
    again = prepare(footage, tmp_path / "again", "every=0.1", "frames=24", f"choose={mode}", "val=0")
    assert again == rows


def test_variety_passes_over_what_stands_still(tmp_path):
    """Half of the video stands still: by variety it gives a few frames, evenly taken half of them."""
    path = tmp_path / "src" / "a.mp4"
    path.parent.mkdir()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30.0, (320, 256))
    for i in range(160):
        writer.write(picture(0 if i < 80 else i))
    writer.release()
    shares = {}
    for mode in ("variety", "even"):
        rows = prepare(path, tmp_path / mode, "frames=20", "every=0.03", f"choose={mode}")
        assert len(rows) == 20
        shares[mode] = sum(number(r) < 80 for r in rows)
    assert shares["even"] == 10 and shares["variety"] <= 2, shares
    for apart, least, most in ((10, 81, 81), (40, 3, 60)):  # the fields at the top make 12 at least from frame to frame
        free = prepare(path, tmp_path / f"free{apart}", "every=0.03", f"apart={apart}")
        assert least <= len(free) <= most and sum(number(r) < 80 for r in free) == 1


def test_broken_videos_and_pictures_are_named(footage, tmp_path, capsys):
    src = Path(shutil.copytree(footage, tmp_path / "src"))
    (src / "berta.mp4").write_bytes(b"no video")
    (src / "carl" / "0.jpg").write_bytes((src / "carl" / "0.jpg").read_bytes()[:900])
    rows = prepare(src, tmp_path / "set", "val=0")
    said = capsys.readouterr().out
    assert "1 x video that cannot be read (berta.mp4)" in said and "1 x broken picture (carl/0.jpg" in said
    assert {r["subject"] for r in rows} == {"anna", "carl"} and problems(tmp_path / "set") == []
    with pytest.raises(DPoseError, match=r"nothing of the source can be used: berta.mp4: video that cannot be read"):
        run(["prepare", "video", f"src={src / 'berta.mp4'}", f"dst={tmp_path / 'none'}"])
    assert not (tmp_path / "none").exists()


class Skipping:
    """A capture whose decoder passes over frames 5 and 6 without a word."""

    def __init__(self, name: str):
        self.at = -1

    def isOpened(self) -> bool:
        return True

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FPS: 30.0, cv2.CAP_PROP_FRAME_COUNT: 12.0}.get(what, 1000 * self.at / 30)

    def grab(self) -> bool:
        self.at += 3 if self.at == 4 else 1
        return self.at < 12

    def release(self) -> None:
        pass


def test_frames_that_a_decoder_skips_do_not_shift_the_others():
    with Video(Path("a.mp4"), even=True, capture=Skipping) as video:
        assert list(video) == [0, 1, 2, 3, 4, 7, 8, 9, 10, 11] and video.lost == 2
    with Video(Path("a.mp4"), capture=Skipping) as video:  # of a video without labels the times may be uneven
        assert list(video) == list(range(10)) and video.lost == 0


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "dpose_yolo", "prepare", "video", *words]


def test_killed_in_the_middle_it_goes_on_to_the_same_tree(footage, tmp_path):
    words = ["every=0.05", "frames=60", "apart=0"]
    prepare(footage, tmp_path / "whole", *words)
    dst = tmp_path / "set"
    stopped = []
    for after in (1, 25, 45):  # files written
        process = subprocess.Popen(command(f"src={footage}", f"dst={dst}", *words), stdout=subprocess.DEVNULL)
        limit = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < limit:
            # os.walk, since rglob stumbles over folders that vanish under it
            if sum(name.endswith(".jpg") for _, _, names in os.walk(dst) for name in names) >= after:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        stopped.append(process.wait())
        assert not (dst / "data.yaml").exists() or stopped[-1] == 0
    assert -signal.SIGKILL in stopped
    prepare(footage, dst, *words)
    assert tree_of(dst) == tree_of(tmp_path / "whole")
    assert not (dst / ".prepare").exists()


def test_stopped_at_any_point_of_the_writing(footage, tmp_path, monkeypatch):
    """As if the power went when certain files take their place."""
    words = ["every=0.1", "frames=30"]
    prepare(footage, tmp_path / "whole", *words)
    dst, real = tmp_path / "set", os.replace
    done = 0

    def stop(source: object, target: object) -> None:
        nonlocal done
        done += 1
        if done in (1, 2, 5, 9, 16, 23, 31, 40, 52, 66):
            raise KeyboardInterrupt
        real(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "replace", stop)
    stops = 0
    for _ in range(12):
        try:
            prepare(footage, dst, *words)
            break
        except KeyboardInterrupt:
            stops += 1
            assert not (dst / "data.yaml").exists()
    assert 6 <= stops <= 10 and tree_of(dst) == tree_of(tmp_path / "whole")


def test_the_same_command_again_changes_nothing(footage, tmp_path, capsys):
    prepare(footage, tmp_path / "set", "frames=10")
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "set").rglob("*")}
    prepare(footage, tmp_path / "set", "frames=10")
    assert "is complete already" in capsys.readouterr().out
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "set").rglob("*")} == before
    with pytest.raises(DPoseError, match="was made with frames=10, not 11: set"):
        run(["prepare", "video", f"src={footage}", f"dst={tmp_path / 'set'}", "frames=11"])


def test_a_source_that_changed_meanwhile_is_refused(footage, tmp_path, monkeypatch):
    src = Path(shutil.copytree(footage, tmp_path / "src"))
    monkeypatch.setattr(
        "dpose_yolo.prepare.output.Output.complete", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        prepare(src, tmp_path / "set", "frames=10")
    monkeypatch.undo()
    (src / "carl" / "0.jpg").write_bytes((src / "carl" / "1.jpg").read_bytes())
    with pytest.raises(DPoseError, match="the source has changed since"):
        run(["prepare", "video", f"src={src}", f"dst={tmp_path / 'set'}", "frames=10"])


def test_a_complete_set_is_of_one_source(footage, tmp_path):
    """Another folder of the same name, and pictures that were added, are not "complete already"."""
    src = Path(shutil.copytree(footage, tmp_path / "a" / "src"))
    prepare(src, tmp_path / "set", "frames=10")
    moved = Path(shutil.copytree(src, tmp_path / "moved" / "src"))
    prepare(moved, tmp_path / "set", "frames=10")
    (moved / "carl" / "new.jpg").write_bytes((src / "carl" / "1.jpg").read_bytes())
    shutil.copytree(footage / "carl", tmp_path / "other" / "src")
    for source in (moved, tmp_path / "other" / "src"):
        with pytest.raises(DPoseError, match=r"the source has changed since .* or is another one of that name"):
            run(["prepare", "video", f"src={source}", f"dst={tmp_path / 'set'}", "frames=10"])


def test_foreign_folders_are_refused(footage, tmp_path):
    dst = tmp_path / "mine"
    dst.mkdir()
    (dst / "thesis.txt").write_text("all of it")
    with pytest.raises(DPoseError, match="is not empty and was not begun by this command"):
        run(["prepare", "video", f"src={footage}", f"dst={dst}"])
    assert [f.name for f in dst.iterdir()] == ["thesis.txt"]
    for place in (footage, footage / "set", footage.parent):
        with pytest.raises(DPoseError, match=r"lie in each other|not empty"):
            run(["prepare", "video", f"src={footage}", f"dst={place}"])
    link = tmp_path / "src"
    link.mkdir()
    (link / "a.jpg").symlink_to(footage / "carl" / "0.jpg")
    with pytest.raises(DPoseError, match="is a link that leads out of"):
        run(["prepare", "video", f"src={link}", f"dst={tmp_path / 'set'}"])


def test_too_little_space_is_told_before_anything_is_written(footage, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 10**9, 100_000))
    with pytest.raises(DPoseError, match=r"the set needs up to \d+\.\d [KM]B, .* has 100.0 KB free"):
        run(["prepare", "video", f"src={footage}", f"dst={tmp_path / 'set'}", "every=0.05"])
    assert not (tmp_path / "set").exists()


def test_the_estimate_is_near_what_is_written(footage, tmp_path):
    from dpose_yolo.prepare.footage import plan
    from dpose_yolo.prepare.options import read_options
    from dpose_yolo.prepare.work import estimate

    words = {"choose": "even", "every": 0.1}
    images, size = estimate(plan(str(footage), read_options("video", words), lambda items, text: items), 95)
    rows = prepare(footage, tmp_path / "set", "choose=even", "every=0.1")
    written = sum((tmp_path / "set" / r["file"]).stat().st_size for r in rows)
    assert images == len(rows) and written < size < 1.5 * written + 4096 * images


WRONG = [
    (["vidoe"], "unknown source 'vidoe': did you mean video?"),
    ([], "dpose prepare needs one source"),
    (["video", "coco"], "dpose prepare needs one source"),
    (["video", "dst=x"], "dpose prepare needs src="),
    (["video", "src=x"], "dpose prepare needs dst="),
    (["video", "src=missing", "dst=x"], "src=missing does not exist"),
    (["video", "src=x", "dst=y", "views=ceiling"], "dpose prepare takes no setting 'views'"),
    (["video", "src=x", "dst=y", "chose=even"], "did you mean choose?"),
    (["video", "src=x", "dst=y", "choose=all"], "choose=all is for pictures"),
    (["video", "src=x", "dst=y", "choose=best"], "choose takes variety, even, random, all"),
    (["video", "src=x", "dst=y", "frames=0"], "frames=0 must be a whole number from 1"),
    (["video", "src=x", "dst=y", "quality=101"], "quality=101 must be a whole number from 1 to 100"),
    (["video", "src=x", "dst=y", "val=0.9", "test=0.9"], "leave nothing for the training part"),
    (["drive_act", "src=x", "dst=y", "views=mirror"], "no view 'mirror'"),
    (["drive_act", "src=x", "dst=y", "conf=0.5,0.2"], "conf=0.5,0.2 must be two numbers"),
    (["drive_act", "src=x", "dst=y", "split=3"], "split takes paper, 0, 1, 2"),
    (["drive_act", "src=missing", "dst=y"], "src=missing is no folder"),
]


@pytest.mark.parametrize(("words", "line"), WRONG, ids=[" ".join(w) for w, _ in WRONG])
def test_wrong_words_get_one_line(tmp_path, monkeypatch, words, line):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DPoseError) as error:
        run(["prepare", *words])
    assert line in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_record_tells_settings_and_parts(footage, tmp_path):
    rows = prepare(footage, tmp_path / "set", "frames=12")
    record = json.loads((tmp_path / "set" / "prepare.json").read_text())
    assert record["recipe"]["source"] == "video" and record["recipe"]["frames"] == 12
    assert record["images"] == dict(Counter(r["split"] for r in rows))
    assert str(footage.parent) not in (tmp_path / "set" / "prepare.json").read_text()  # no path of the user's machine


# WebM of 40 frames whose head says 30 a second and 293 or 307 frames: one frame every 0.25 s, or 0.04 s and 1 s apart
VIDEOS = Path(__file__).parent / "videos"


@pytest.mark.parametrize("choose", ["variety", "even"])
@pytest.mark.parametrize("name", ["steady", "uneven"])
def test_times_of_frames_are_the_files_not_those_of_its_rate(tmp_path, name, choose):
    with Video(VIDEOS / f"{name}.webm") as video:
        times = [video.seconds() for _ in video]
    assert len(times) == 40 and times[-1] > 9.7
    (tmp_path / "src").mkdir()
    shutil.copy(VIDEOS / f"{name}.webm", tmp_path / "src")
    rows = prepare(tmp_path / "src", tmp_path / "set", "every=0.25", "apart=0", f"choose={choose}")
    assert all(float(row["time"]) == pytest.approx(times[number(row)], abs=1e-3) for row in rows)
    if name == "steady":
        assert len(rows) == 40
    elif choose == "variety":
        seconds = np.array([float(row["time"]) for row in rows])
        assert np.diff(seconds).min() > 0.12 and np.diff(seconds).max() < 1.2


def test_a_drawn_video_is_as_long_as_its_source(tmp_path):
    from dpose_yolo.runtime import open_source
    from dpose_yolo.runtime.draw import Gallery

    for name in ("steady", "uneven"):
        frames = list(open_source(VIDEOS / f"{name}.webm"))
        with Gallery(tmp_path, ["nose"]) as gallery:
            for frame in frames:
                gallery.add(frame, None)
        drawn = list(open_source(tmp_path / f"{name}.mp4"))
        assert drawn[-1].seconds == pytest.approx(frames[-1].seconds, abs=0.05)
