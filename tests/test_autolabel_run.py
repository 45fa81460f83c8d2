"""What `dpose autolabel` reads and writes: sources, new and existing sets, resuming, the page."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from autolabel_cases import NAMES, SpotTeacher, spots, write_spots

from dpose_yolo.autolabel import review_page
from dpose_yolo.autolabel.journal import Entry, Journal
from dpose_yolo.autolabel.pictures import Pictures
from dpose_yolo.autolabel.target import Target, pixel_label_text
from dpose_yolo.cli import run
from dpose_yolo.dataset.card import read_card
from dpose_yolo.dataset.check import check
from dpose_yolo.dataset.findings import Findings
from dpose_yolo.dataset.labels import read_label
from dpose_yolo.errors import DPoseError


@pytest.fixture
def teachers(tmp_path, monkeypatch) -> dict[str, SpotTeacher]:
    """Teachers that the command finds under their name."""
    made = {name: SpotTeacher(tmp_path / name) for name in ("a.pt", "b.pt")}
    monkeypatch.setattr("dpose_yolo.autolabel.teachers.load_teacher", lambda path, **_: made[Path(path).name])
    return made


def label(source, dst, *more: str, teacher: str = "a.pt,b.pt") -> int:
    return run(["autolabel", f"source={source}", f"dst={dst}", f"teacher={teacher}", *more])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, save for the database, whose pages depend on the order of writing."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix != ".db")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def data_set(folder: Path, count: int = 3) -> Path:
    """A set with images and no labels."""
    write_spots(folder / "images" / "train", count)
    card = folder / "data.yaml"
    raw = {"train": "images/train", "names": {0: "driver"}, "kpt_shape": [3, 3], "kpt_names": {0: NAMES}}
    card.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return card


def test_a_folder_becomes_a_sound_data_set(tmp_path, teachers, capsys):
    write_spots(tmp_path / "drive" / "monday", 3)
    write_spots(tmp_path / "drive", 2, ".jpg")
    assert label(tmp_path / "drive", tmp_path / "set") == 0
    out = capsys.readouterr().out
    assert "5 labelled" in out and re.search(r"left_wrist +100 +0 +0", out)
    written = read_label(str(tmp_path / "set/labels/train/monday/002.txt"), 3, 3, 1)
    assert not written.problems
    expected = [0, 61 / 120, 40.5 / 90, 78 / 120, 71 / 90, 0.5, 15 / 90, 2, 0.75, 60 / 90, 2, 32 / 120, 66 / 90, 2]
    assert written.rows[0] == pytest.approx(expected, abs=1e-6)
    raw = yaml.safe_load((tmp_path / "set/data.yaml").read_text(encoding="utf-8"))
    assert "path" not in raw and raw["flip_idx"] == [0, 2, 1] and raw["kpt_names"] == {0: NAMES}
    assert raw["kpt_oks_sigmas"] == [0.026, 0.062, 0.062] and raw["train"] == raw["val"] == "images/train"
    findings = Findings()
    check(read_card(tmp_path / "set" / "data.yaml"), findings)
    assert findings.of_level("error") == 0
    index = rows(tmp_path / "set/index.csv")
    assert [r["source"] for r in index] == ["000.jpg", "001.jpg", "monday/000.png", "monday/001.png", "monday/002.png"]
    table = rows(tmp_path / "set/autolabel/train/labels.csv")
    assert len(table) == 5 * 3
    assert {r["flag"] for r in table} == {"2"} and float(table[0]["certainty"]) == pytest.approx(0.9**0.5, abs=0.01)


def test_a_killed_run_goes_on_to_the_same_result(tmp_path, teachers, monkeypatch):
    write_spots(tmp_path / "drive", 6)
    label(tmp_path / "drive", tmp_path / "whole" / "set")
    for teacher in teachers.values():
        teacher.calls = 0
    teachers["b.pt"].stop = 6  # two views an image: breaks off in the fourth
    with pytest.raises(KeyboardInterrupt):
        label(tmp_path / "drive", tmp_path / "broken" / "set")
    assert len(list((tmp_path / "broken/set/labels/train").iterdir())) == 3
    assert not (tmp_path / "broken/set/data.yaml").exists()
    teachers["b.pt"].stop = 10**9
    write = Target.write

    def fails(self, item, image, text):  # power fails when the votes of the next image are in, before the files
        monkeypatch.setattr(Target, "write", write)
        raise KeyboardInterrupt

    monkeypatch.setattr(Target, "write", fails)
    with pytest.raises(KeyboardInterrupt):
        label(tmp_path / "drive", tmp_path / "broken" / "set")
    label(tmp_path / "drive", tmp_path / "broken" / "set")
    assert teachers["b.pt"].calls == 2 * 6  # nobody looked twice
    whole, broken = tree(tmp_path / "whole"), tree(tmp_path / "broken")
    page = "set/autolabel/train/review.html"
    assert {k: v for k, v in whole.items() if k != page} == {k: v for k, v in broken.items() if k != page}
    # the page differs in the name of its place, under which a browser keeps the marks
    assert re.sub(rb'"id":"\w+"', b"", whole[page]) == re.sub(rb'"id":"\w+"', b"", broken[page])
    label(tmp_path / "drive", tmp_path / "broken" / "set")
    assert teachers["b.pt"].calls == 2 * 6
    with pytest.raises(DPoseError, match=r"was begun with agree=.*, now it is 0.25: give the same again"):
        label(tmp_path / "drive", tmp_path / "broken" / "set", "agree=0.25")


def test_labels_beside_the_images_of_a_set(tmp_path, teachers):
    card = data_set(tmp_path / "set")
    labels = tmp_path / "set/labels/train"
    labels.mkdir(parents=True)
    own = "0 0.5 0.5 0.2 0.2 0.5 0.5 2 0 0 0 0 0 0\n"
    (labels / "000.txt").write_text(own)
    (labels / "001.txt").write_text("\n")
    before = tree(tmp_path / "set/images")
    assert label(card, tmp_path / "set") == 0
    assert (labels / "000.txt").read_text() == own
    assert read_label(str(labels / "001.txt"), 3, 3, 1).rows[0, -3:] == pytest.approx([31 / 120, 66 / 90, 2], abs=1e-6)
    assert tree(tmp_path / "set/images") == before and not (tmp_path / "set/index.csv").exists()
    table = rows(tmp_path / "set/autolabel/train/labels.csv")
    assert [(r["image"], r["state"]) for r in table if not r["keypoint"]] == [("images/train/000.png", "kept")]
    label(card, card, "overwrite=True")  # the YAML names its folder, too
    assert read_label(str(labels / "000.txt"), 3, 3, 1).rows[0, -3:] == pytest.approx([30 / 120, 66 / 90, 2], abs=1e-6)
    assert teachers["a.pt"].calls == 2 * 3


def test_nobody_there(tmp_path, teachers, capsys):
    card = data_set(tmp_path / "set", 1)
    for name in ("100", "101"):
        cv2.imwrite(str(tmp_path / f"set/images/train/{name}.png"), np.full((90, 120, 3), 40, np.uint8))
    labels = tmp_path / "set/labels/train"
    labels.mkdir(parents=True)
    (labels / "100.txt").write_text("0 0.5 0.5 0.2 0.2 0.5 0.5 2 0 0 0 0 0 0\n")
    label(card, tmp_path / "set", "empty=True", "overwrite=True")
    assert "2 without a driver" in capsys.readouterr().out
    assert (labels / "101.txt").read_text() == ""
    assert (labels / "100.txt").read_text()  # a label is never replaced by nothing
    label(tmp_path / "set/images", tmp_path / "new")
    assert [p.name for p in (tmp_path / "new").rglob("*.png")] == ["000.png"]


def test_broken_pictures_are_counted_and_named(tmp_path, teachers, capsys):
    write_spots(tmp_path / "drive", 2, ".jpg")
    whole = (tmp_path / "drive/000.jpg").read_bytes()
    (tmp_path / "drive/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "drive/none.png").write_bytes(b"")
    (tmp_path / "drive/film.mp4").write_bytes(b"no film")
    label(tmp_path / "drive", tmp_path / "set")
    out = capsys.readouterr().out
    assert "2 labelled, 3 broken" in out and "the first broken: cut.jpg: " in out
    broken = {
        r["image"]: r["reason"] for r in rows(tmp_path / "set/autolabel/train/labels.csv") if r["state"] == "broken"
    }
    assert set(broken) == {f"images/train/{name}" for name in ("cut.jpg", "none.png", "film.mp4")}
    assert broken["images/train/none.png"] == "the file is empty"
    (tmp_path / "drive/none.png").write_bytes(cv2.imencode(".png", spots())[1].tobytes())
    label(tmp_path / "drive", tmp_path / "set")  # mended
    assert "3 labelled, 2 broken" in capsys.readouterr().out
    (tmp_path / "only").mkdir()
    (tmp_path / "only/cut.jpg").write_bytes(whole[:200])
    with pytest.raises(DPoseError, match=r"nothing in .*only could be labelled"):
        label(tmp_path / "only", tmp_path / "other")


def test_each_nth_frame_of_a_video(tmp_path, teachers):
    video = cv2.VideoWriter(str(tmp_path / "drive.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20, (120, 90))
    for i in range(12):
        video.write(spots(right=(30 + i, 66)))
    video.release()
    label(tmp_path / "drive.avi", tmp_path / "set", "every=5", "split=val")
    assert sorted(p.name for p in (tmp_path / "set/images/val").iterdir()) == [f"drive_{n:06d}.jpg" for n in (0, 5, 10)]
    last = read_label(str(tmp_path / "set/labels/val/drive_000010.txt"), 3, 3, 1).rows[0]
    assert last[-3] * 120 == pytest.approx(40, abs=0.6)
    index = rows(tmp_path / "set/index.csv")
    assert [(r["frame"], r["time_s"]) for r in index] == [("0", "0.0"), ("5", "0.25"), ("10", "0.5")]


def test_a_set_with_labels_of_its_own_is_no_place_for_a_new_one(tmp_path, teachers):
    card = data_set(tmp_path / "set")
    label(card, tmp_path / "set")
    write_spots(tmp_path / "drive", 1)
    before = card.read_bytes()
    with pytest.raises(DPoseError, match="holds files that autolabel did not write"):
        label(tmp_path / "drive", tmp_path / "set", "split=val")
    assert card.read_bytes() == before


def test_a_second_part(tmp_path, teachers):
    write_spots(tmp_path / "drive", 2)
    label(tmp_path / "drive", tmp_path / "set")
    label(tmp_path / "drive", tmp_path / "set", "split=val", "sure=0.99")
    raw = yaml.safe_load((tmp_path / "set/data.yaml").read_text(encoding="utf-8"))
    assert (raw["train"], raw["val"]) == ("images/train", "images/val")
    assert [r["split"] for r in rows(tmp_path / "set/index.csv")] == ["train"] * 2 + ["val"] * 2
    weak = read_label(str(tmp_path / "set/labels/val/000.txt"), 3, 3, 1).rows[0]
    assert weak[7::3].tolist() == [1, 1, 1]


def test_names_that_would_share_a_label(tmp_path, teachers):
    write_spots(tmp_path / "drive", 2, ".jpg")
    write_spots(tmp_path / "drive", 1, ".png")
    label(tmp_path / "drive", tmp_path / "set")
    names = sorted(p.name for p in (tmp_path / "set/labels/train").iterdir())
    assert names == ["000_jpg.txt", "000_png.txt", "001.txt"]


def test_label_rows():
    points = np.array([[[10.0, 20.0], [99.0, 50.0]]])
    text = pixel_label_text(np.array([[-10.0, 0, 50, 110]]), points, np.array([[1, 0]]), 100, 100)
    assert text == "0 0.250000 0.500000 0.500000 1.000000 0.100000 0.200000 1 0 0 0\n"


def test_the_journal_answers_in_order(tmp_path):
    with Journal(tmp_path / "j.db", {"agree": 0.5, "roi": (0, 1)}) as journal:
        for key, certainty in (("b", 0.5), ("a", 0.7), ("c", 0.1)):
            journal.put(Entry(key, "labelled", certainty, record={"source": key}))
        journal.put(Entry("d", "broken", record={"source": "d"}))
        assert [e.key for e in journal.entries()] == ["a", "b", "c", "d"]
        assert [e.key for e in journal.least_certain(2)] == ["c", "b"]
        assert journal.counts() == {"writing": 0, "labelled": 3, "nobody": 0, "kept": 0, "broken": 1}
    Journal(tmp_path / "j.db", {"agree": 0.5, "roi": [0, 1]})
    (tmp_path / "k.db").write_bytes(b"no database" * 200)
    with pytest.raises(DPoseError, match=r"k\.db cannot be used"):
        Journal(tmp_path / "k.db", {})


def page_data(page: str) -> dict:
    return json.loads(re.search(r"id=data>(.*?)</script>", page, re.DOTALL)[1])


def test_the_page_holds_the_least_certain_images(tmp_path, teachers):
    write_spots(tmp_path / "drive", 4)
    teachers["b.pt"].shift = 1.0
    cv2.imwrite(str(tmp_path / "drive" / "<b>&'x.png"), spots())
    teachers["a.pt"].confidence = 0.7
    label(tmp_path / "drive", tmp_path / "set", "review=3")
    page = (tmp_path / "set/autolabel/train/review.html").read_text(encoding="utf-8")
    data = page_data(page)
    with Journal(tmp_path / "set/autolabel/train/progress.db", {}) as journal:
        kept = {e.record["image"]: e.certainty for e in journal.entries()}
    assert [im["file"] for im in data["images"]] == sorted(kept, key=lambda k: (kept[k], k))[:3]
    assert data["names"] == NAMES
    image = data["images"][0]
    jpeg = base64.b64decode(image["src"].removeprefix("data:image/jpeg;base64,"))
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (90, 120, 3)
    assert [p[2] for p in image["persons"][0]["points"]] == [2, 2, 2]
    # nothing is fetched; only the page's own script may run
    assert set(re.findall(r"https?://[^'\" ]+", page)) == {"http://www.w3.org/2000/svg"}
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script == [review_page.SCRIPT]
    assert base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode() in page


def test_file_names_are_no_markup(tmp_path, teachers):
    (tmp_path / "drive").mkdir()
    cv2.imwrite(str(tmp_path / "drive" / "a<script>alert(1)<x.png"), spots())
    label(tmp_path / "drive", tmp_path / "<b>set")
    page = (tmp_path / "<b>set/autolabel/train/review.html").read_text(encoding="utf-8")
    assert page_data(page)["images"][0]["file"] == "images/train/a<script>alert(1)<x.png"
    assert page.count("<script") == 2 and "<b>" not in page


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["agre=0.5"], "takes no setting 'agre': did you mean agree"),
        (["driver=region"], r"driver=region and roi=\[x1,y1,x2,y2\]"),
        (["roi=[0,0,1,1]"], "go together"),
        (["driver=front"], "driver=front is not allowed"),
        (["sure=2"], "sure=2.0 is not allowed"),
        (["every=0"], "every=0 must be a whole number from 1"),
        (["imgsz=[320,640,640]"], "3 sizes for 2 teachers"),
        (["split=holdout"], "split takes train, val, test"),
        (["conf=1.5"], "conf=1.5 is not allowed"),
        (["flip=maybe"], "flip takes True or False"),
        (["source=nowhere"], "no image, folder or video nowhere"),
        (["dst=DRIVE/inside"], "lies in the source"),
        (["dst=FULL"], "holds files that autolabel did not write"),
        (["teacher=a.pt,a.pt"], "a.pt is given twice"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, teachers, words, text):
    write_spots(tmp_path / "drive", 1)
    write_spots(tmp_path / "full", 1)
    given = {"source": str(tmp_path / "drive"), "dst": str(tmp_path / "set"), "teacher": "a.pt,b.pt"}
    given |= dict(word.split("=", 1) for word in words)
    given["dst"] = given["dst"].replace("DRIVE", str(tmp_path / "drive")).replace("FULL", str(tmp_path / "full"))
    with pytest.raises(DPoseError, match=text) as caught:
        run(["autolabel", *(f"{name}={value}" for name, value in given.items())])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "set").exists()


def test_a_set_that_cannot_hold_flags(tmp_path, teachers):
    card = data_set(tmp_path / "set")
    card.write_text(card.read_text().replace("- 3\n- 3", "- 3\n- 2"))
    with pytest.raises(DPoseError, match=r"labels with flags need kpt_shape \[3, 3\]"):
        label(card, tmp_path / "set")


def test_a_part_that_is_not_there(tmp_path):
    with pytest.raises(DPoseError, match="has no part val: set split= to train"):
        Pictures(data_set(tmp_path / "set"), "val")


@pytest.mark.slow
def test_real_models_agree_on_a_drawn_driver(root, tmp_path, shared_data):
    weights = shared_data.parent / "weights"
    if not (weights / "yolo11n-pose.pt").is_file():
        pytest.skip("no weights beside the larger data sets")
    source = tmp_path / "one.jpg"
    source.write_bytes((root / "data/cabin_mini/images/test/test_00006.jpg").read_bytes())
    label(source, tmp_path / "set", "imgsz=320", teacher=str(weights / "yolo11n-pose.pt"))
    got = read_label(str(tmp_path / "set/labels/train/one.txt"), 17, 3, 1).rows[0]
    truth = read_label(str(root / "data/cabin_mini/labels/test/test_00006.txt"), 17, 3, 1).rows[0]
    points, labels = got[5:].reshape(17, 3), truth[5:].reshape(17, 3)
    both = (points[:, 2] > 0) & (labels[:, 2] > 0)
    assert both[[5, 6]].all() and both.sum() >= 4  # the shoulders; one teacher labels little of a rendered driver
    assert np.median(np.hypot(*(points - labels)[both, :2].T)) < 0.03


def test_a_driver_that_is_not_agreed_on_is_no_background(tmp_path, teachers):
    """Images: agreed on, seen by one teacher only, two keypoints not agreed, and nobody."""
    from dpose_yolo.engine.labels import load_labels

    card = data_set(tmp_path / "set", 4)
    cv2.imwrite(str(tmp_path / "set/images/train/003.png"), np.full((90, 120, 3), 40, np.uint8))
    found = teachers["b.pt"].find

    def odd(views):
        answer = found(views)
        at = round(float(answer[0].points[0, 2, 0])) if len(answer[0].points) else 0
        if at == 31:  # 001
            return [type(f)(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 3, 3))) for f in answer]
        if at == 32:  # 002
            for f in answer:
                f.points[:, 1:, 2] = 0
        return answer

    teachers["b.pt"].find = odd
    label(card, tmp_path / "set", "empty=True")
    labels = tmp_path / "set/labels/train"
    states = {r["image"][-7:-4]: r["reason"] for r in rows(tmp_path / "set/autolabel/train/labels.csv") if r["reason"]}
    assert (labels / "000.txt").read_text() and (labels / "003.txt").read_text() == ""
    assert not (labels / "001.txt").exists() and not (labels / "002.txt").exists()
    assert states["001"].startswith("too few ")
    assert states["002"] == "too few keypoints agreed" and states["003"] == "no person found"
    listed = (tmp_path / "set/data_autolabel_train.txt").read_text().split()
    assert sorted(listed) == ["./images/train/000.png", "./images/train/003.png"]
    yaml_file = tmp_path / "set/data_autolabel.yaml"
    yaml_file.write_text(yaml_file.read_text() + "val: data_autolabel_train.txt\n")
    assert len(load_labels(yaml_file)[0]) == 2

    marked = tmp_path / "bad_images.txt"
    marked.write_text("images/train/003.png\n")
    words = ["check", f"data={yaml_file}", f"project={tmp_path / 'runs'}", "images=False"]
    assert run([*words, "fix=True", f"drop={marked}"]) == 0
    kept = (tmp_path / "set/data_autolabel_checked_train.txt").read_text()
    assert kept == "./images/train/000.png\n"
    marked.write_text("images/train/nowhere.png\n")
    with pytest.raises(DPoseError, match=r"names images/train/nowhere.png, which is no image of"):
        run([*words, "fix=True", f"drop={marked}"])
    with pytest.raises(DPoseError, match="give fix=True, too"):
        run([*words, f"drop={marked}"])
