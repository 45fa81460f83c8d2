"""`dpose check`: every planted defect is found, and nothing else."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from stick_figures import FLIP, build_dataset

from dpose_yolo.cli import run
from dpose_yolo.dataset.card import read_card
from dpose_yolo.dataset.files import IMAGE_SUFFIXES, label_of, part_images
from dpose_yolo.dataset.findings import Finding, Findings
from dpose_yolo.dataset.hashes import bit_counts, difference_hash, nearest
from dpose_yolo.dataset.images import likeness, look
from dpose_yolo.dataset.index import AMBIGUOUS, UNKNOWN, Index
from dpose_yolo.dataset.kinds import KINDS
from dpose_yolo.dataset.paths import inside
from dpose_yolo.dataset.scan import Sample, box_problem
from dpose_yolo.errors import DPoseError


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn set with subjects, each in one part."""
    folder = tmp_path_factory.mktemp("clean") / "set"
    build_dataset(folder, train=240, val=40, test=20, size=64)
    rows = list(csv.DictReader((folder / "index.csv").open()))
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "split", "posture", "subject"])
        for i, row in enumerate(rows):
            writer.writerow([row["file"], row["split"], row["posture"], f"{row['split']}-{i % 3}"])
    return folder


@pytest.fixture
def copy(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "set"))


def found(folder: Path, *words: str, status: int = 0) -> list[dict[str, str]]:
    out = folder.parent / "runs"
    assert run(["check", f"data={folder / 'data.yaml'}", f"project={out}", "exist_ok=True", *words]) == status
    return list(csv.DictReader((out / "check" / "check.csv").open()))


def label(folder: Path, stem: str) -> Path:
    return folder / "labels" / stem.split("_")[0] / f"{stem}.txt"


def image(folder: Path, stem: str) -> Path:
    return folder / "images" / stem.split("_")[0] / f"{stem}.png"


def words_of(path: Path) -> list[str]:
    return path.read_text().split()


def test_a_clean_set_has_no_findings(clean, capsys):
    assert found(clean, "strict=True") == []
    assert "nothing found" in capsys.readouterr().out


def edit(change: Callable[[list[str]], list[str]]) -> Callable[[Path, str], None]:
    def apply(folder: Path, stem: str) -> None:
        path = label(folder, stem)
        path.write_text(" ".join(change(words_of(path))) + "\n")

    return apply


def swap(row: list[str]) -> list[str]:
    points = [row[5 + 3 * k : 8 + 3 * k] for k in range(17)]
    return row[:5] + [word for k in FLIP for word in points[k]]


def truncate(folder: Path, stem: str) -> None:
    path = image(folder, stem)
    path.write_bytes(path.read_bytes()[:-200])


def to_other_part(folder: Path, stem: str) -> None:
    shutil.copy(image(folder, stem), folder / "images" / "val" / f"copy_{stem}.png")
    shutil.copy(label(folder, stem), folder / "labels" / "val" / f"copy_{stem}.txt")


def nearly_to_other_part(folder: Path, stem: str) -> None:
    cv2.imwrite(str(folder / "images" / "val" / f"near_{stem}.jpg"), cv2.imread(str(image(folder, stem))) + 3)
    shutil.copy(label(folder, stem), folder / "labels" / "val" / f"near_{stem}.txt")


def twice(folder: Path, stem: str) -> None:
    shutil.copy(image(folder, stem), folder / "images" / "train" / f"twice_{stem}.png")
    shutil.copy(label(folder, stem), folder / "labels" / "train" / f"twice_{stem}.txt")


def far_pose(row: list[str]) -> list[str]:
    rng = np.random.default_rng(1)
    points = [w for _ in range(17) for w in (f"{rng.uniform(0.1, 0.9):.4f}", f"{rng.uniform(0.1, 0.9):.4f}", "2")]
    return ["0", "0.5", "0.5", "0.9", "0.9", *points]


# kind, image it is planted in, what is done, file that the finding must name
PLANTED: list[tuple[str, str, Callable[[Path, str], None], str]] = [
    ("broken_image", "train_0100", truncate, "images/train/train_0100.png"),
    ("malformed_label", "train_0101", edit(lambda r: [*r[:7], "two", *r[8:]]), "images/train/train_0101.png"),
    ("keypoint_count", "train_0102", edit(lambda r: r[:-3]), "images/train/train_0102.png"),
    ("bad_class", "train_0103", edit(lambda r: ["3", *r[1:]]), "images/train/train_0103.png"),
    ("bad_visibility", "train_0104", edit(lambda r: [*r[:7], "-1", *r[8:]]), "images/train/train_0104.png"),
    ("out_of_range", "train_0105", edit(lambda r: [*r[:5], "48.0", *r[6:]]), "images/train/train_0105.png"),
    ("empty_box", "train_0106", edit(lambda r: [*r[:3], "0", *r[4:]]), "images/train/train_0106.png"),
    ("box_outside", "train_0107", edit(lambda r: [r[0], r[1], r[2], "1.0", "1.0", *r[5:]]), "train_0107.png"),
    ("point_in_corner", "train_0108", edit(lambda r: [*r[:5], "0", "0", "2", *r[8:]]), "train_0108.png"),
    ("box_misses_keypoints", "train_0109", edit(lambda r: ["0", "0.1", "0.9", "0.1", "0.1", *r[5:]]), "train_0109.png"),
    ("repeated_person", "train_0110", edit(lambda r: [*r, "\n", *r]), "images/train/train_0110.png"),
    ("swapped_sides", "train_0111", edit(swap), "images/train/train_0111.png"),
    ("outlier", "train_0112", edit(far_pose), "images/train/train_0112.png"),
    ("unseen_posture", "val_0009", edit(far_pose), "images/val/val_0009.png"),
    ("duplicate_across", "train_0113", to_other_part, "images/val/copy_train_0113.png"),
    ("near_duplicate_across", "train_0114", nearly_to_other_part, "images/val/near_train_0114.jpg"),
    ("duplicate", "train_0115", twice, "twice_train_0115.png"),
    ("unlabelled_image", "train_0116", lambda f, s: label(f, s).unlink(), "images/train/train_0116.png"),
    ("empty_label", "train_0117", lambda f, s: label(f, s).write_text("\n"), "images/train/train_0117.png"),
    ("orphan_label", "train_0118", lambda f, s: image(f, s).unlink(), "labels/train/train_0118.txt"),
    ("no_keypoints", "train_0119", edit(lambda r: [*r[:5], *["0"] * 51]), "images/train/train_0119.png"),
    (
        "shared_label",
        "train_0120",
        lambda f, s: cv2.imwrite(str(image(f, s).with_suffix(".bmp")), cv2.imread(str(image(f, s))) // 2),
        "images/train/train_0120.png",
    ),
]


def test_every_planted_defect_is_found_and_nothing_else(copy, capsys):
    for _, stem, plant, _ in PLANTED:
        plant(copy, stem)
    rows = list(csv.reader((copy / "index.csv").open()))
    for row in rows:
        if row[0] == "val_0001.png":  # a subject of the training part turns up in the validation part
            row[3] = "train-0"
        if row[0] == "val_0002.png":
            row[2] = "only_in_val"
    with (copy / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([*rows, ["val_0003.png", "val", "two_hands", "somebody else"]])
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    findings = found(copy, "strict=True", status=1)
    kinds = Counter(row["kind"] for row in findings)
    expected = Counter({kind: 1 for kind, *_ in PLANTED} | {"subject_across": 1, "unseen_name": 1, "index_conflict": 1})
    # a labelled corner and a box of the wrong size make unusual postures as well: nothing else may
    unusual = {Path(row["file"]).stem for row in findings if row["kind"] == "outlier"}
    assert unusual - {"train_0107", "train_0108"} == {"train_0112"}
    assert kinds - Counter(outlier=kinds["outlier"] - 1) == expected
    assert len(kinds) == 25
    for kind, _, _, file in PLANTED:
        rows_of_kind = [r for r in findings if r["kind"] == kind]
        assert any(r["file"].endswith(file) for r in rows_of_kind), (kind, rows_of_kind)
        assert all(r["how to mend"] for r in rows_of_kind)
    subject = next(r for r in findings if r["kind"] == "subject_across")
    assert subject["what"].startswith("subject train-0: 80 images of train, 1 images of val, e.g. images/val/val_0001")
    assert {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()} == before
    page = (copy.parent / "runs" / "check" / "check.html").read_text()
    assert all(f'id="{kind}"' in page for kind in kinds)
    assert page.count("data:image/jpeg;base64,") >= 15
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page
    assert "swapped" in capsys.readouterr().out


def test_a_keypoint_nobody_labelled_and_a_wrong_flip_idx(copy):
    for path in (copy / "labels" / "val").glob("*.txt"):
        row = words_of(path)
        path.write_text(" ".join([*row[:5], "0", "0", "0", *row[8:]]))
    card = yaml.safe_load((copy / "data.yaml").read_text())
    card["flip_idx"] = list(range(17))
    (copy / "data.yaml").write_text(yaml.safe_dump(card))
    findings = {row["kind"]: row["what"] for row in found(copy)}
    assert findings == {
        "never_labelled": "nose: in none of 40 persons",
        "flip_idx": "left_eye becomes left_eye, expected right_eye",
    }


def test_fix_writes_a_new_list_that_is_clean_and_deletes_nothing(copy):
    for kind, stem, plant, _ in PLANTED:
        if kind in ("broken_image", "keypoint_count", "swapped_sides", "duplicate_across", "near_duplicate_across"):
            plant(copy, stem)
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    found(copy, "fix=True")
    after = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    new = {p.name for p in set(after) - set(before)}
    assert new == {"data_checked.yaml", *(f"data_checked_{s}.txt" for s in ("train", "val", "test"))}
    assert {p: after[p] for p in before} == before
    lines = (copy / "data_checked_train.txt").read_text().splitlines()
    assert len(lines) == 240 - 5 and "./images/train/train_0100.png" not in lines
    assert run(["check", f"data={copy / 'data_checked.yaml'}", f"project={copy.parent / 'again'}", "strict=True"]) == 0
    found(copy, "fix=True")  # an earlier list stays
    assert (copy / "data_checked2.yaml").is_file() and (copy / "data_checked.yaml").read_bytes() == after[
        copy / "data_checked.yaml"
    ]


def test_a_file_name_cannot_put_anything_into_the_page(copy):
    evil = copy / "images" / "train" / "<img src=x onerror=alert(1)>.png"
    evil.write_bytes(b"no image")
    found(copy)
    page = (copy.parent / "runs" / "check" / "check.html").read_text()
    assert "<img src=x" not in page and "&lt;img src=x onerror" in page


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"train": "/etc"}, "outside the data folder"),
        ({"train": "images/../../other"}, "outside the data folder"),
        ({"train": ["images/train", "../../x"]}, "outside the data folder"),
        ({"train": 3}, "is not a path"),
        ({"train": "images/trian"}, "does not exist"),
        ({"kpt_shape": [17]}, "kpt_shape"),
        ({"flip_idx": [1, 2]}, "flip_idx"),
        ({"names": None}, "no class names"),
        ({"path": "nowhere"}, "is no folder"),
        ({"train": None, "val": None, "test": None}, "names no images"),
    ],
)
def test_a_wrong_data_yaml_gets_one_line(copy, change, line):
    raw = yaml.safe_load((copy / "data.yaml").read_text()) | change
    (copy / "data.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(DPoseError, match=line) as error:
        run(["check", f"data={copy / 'data.yaml'}", f"project={copy.parent / 'runs'}"])
    assert "\n" not in str(error.value)
    assert not (copy.parent / "runs").exists() or not list((copy.parent / "runs").rglob("check.*"))


def test_yaml_tags_do_not_run_anything(copy):
    (copy / "data.yaml").write_text(f"train: !!python/object/apply:os.system ['touch {copy}/ran']\n")
    with pytest.raises(DPoseError, match="not readable YAML"):
        read_card(copy / "data.yaml")
    assert not (copy / "ran").exists()


def test_a_list_may_not_leave_the_data_folder(copy):
    (copy / "train.txt").write_text("./images/train/train_0000.png\n./../outside.png\n")
    raw = yaml.safe_load((copy / "data.yaml").read_text()) | {"train": "train.txt"}
    (copy / "data.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(DPoseError, match=r"line 2 of .*train.txt names ./../outside.png, which lies outside"):
        list(part_images(read_card(copy / "data.yaml"), "train"))


@pytest.mark.parametrize("entry", ["../x", "/etc/passwd", "a/../../x", "", "a\0b", None])
def test_inside_refuses(tmp_path, entry):
    with pytest.raises(DPoseError):
        inside(tmp_path, entry, "here")


def test_inside_takes_what_stays_inside(tmp_path):
    assert inside(tmp_path, "a/../b", "here") == str(tmp_path / "b")
    assert inside(tmp_path, str(tmp_path / "c"), "here") == str(tmp_path / "c")


def test_missing_images_of_a_list_are_found(copy):
    lines = [f"./images/train/{p.name}" for p in sorted((copy / "images" / "train").iterdir())]
    (copy / "train.txt").write_text("\n".join([*lines, "./images/train/gone.png"]))
    raw = yaml.safe_load((copy / "data.yaml").read_text()) | {"train": "train.txt"}
    (copy / "data.yaml").write_text(yaml.safe_dump(raw))
    assert [(r["kind"], r["file"]) for r in found(copy)] == [("missing_image", "images/train/gone.png")]


def test_images_and_labels_are_found_as_the_engine_finds_them(clean):
    from ultralytics.data.utils import IMG_FORMATS, img2label_paths

    assert set(IMG_FORMATS) == IMAGE_SUFFIXES
    for path in ("/a/images/b/images/c.d.jpg", "/a/b/c.png", "/images/x.jpg"):
        assert label_of(path) == img2label_paths([path])[0]


def test_hashes():
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 2**63, (50,), dtype=np.uint64)
    assert bit_counts(numbers).tolist() == [bin(int(n)).count("1") for n in numbers]
    pool = [(np.arange(100 + at, 110 + at), numbers[at : at + 10]) for at in range(0, 50, 10)]
    where, bits = nearest(numbers[3:30:9] ^ np.uint64(5), pool)
    assert where.tolist() == [103, 112, 121] and bits.tolist() == [2] * 3
    assert nearest(numbers[:1], [*pool, *pool[:1]])[0].tolist() == [100]  # the first of two that are equally near
    assert nearest(numbers[:1], [])[1].min() > 64
    assert difference_hash(np.tile(np.arange(9), (8, 1))) == 2**64 - 1
    assert difference_hash(np.zeros((8, 9))) == 0


def test_looks_tell_changed_pictures_from_others(clean, tmp_path):
    first, second = (clean / "images" / "train" / f"train_000{i}.png" for i in (0, 1))
    again = tmp_path / "again.jpg"
    cv2.imwrite(str(again), cv2.resize(cv2.imread(str(first)), None, fx=2, fy=2), [cv2.IMWRITE_JPEG_QUALITY, 60])
    assert likeness(str(first), str(again)) < 6 < likeness(str(first), str(second))
    assert bin(look(str(first)).hash ^ look(str(again)).hash).count("1") <= 10
    assert (look(str(again)).width, look(str(again)).height) == (128, 128)
    again.write_bytes(again.read_bytes()[:-300])
    before = again.read_bytes()
    assert look(str(again)).problem and again.read_bytes() == before


def test_sample_is_even():
    counts = np.zeros(100)
    for seed in range(200):
        sample = Sample(10, 1, seed)
        for i in range(100):
            sample.add(np.full((1, 1, 3), i), np.zeros((1, 4)))
        counts[sample.poses()[0][:, 0, 0].astype(int)] += 1
    assert counts.sum() == 2000 and counts[:50].sum() == pytest.approx(1000, abs=120)


def test_hidden_keypoints_may_lie_outside_the_box():
    pose = np.array([[50, 50, 2], [60, 60, 2], [400, 400, 1]], float)
    assert box_problem(pose, np.array([55, 55, 20, 20])) is None
    assert box_problem(pose, np.array([300, 300, 20, 20])) == "2 of 2 visible keypoints lie outside the box"


def test_index_finds_the_longest_end(tmp_path):
    path = tmp_path / "index.csv"
    path.write_text(
        "file,split,subject\na.jpg,train,s1\na.jpg,val,s2\nvp1/b.jpg,,s3\nb.jpg,,s4\nc.jpg,,s1\nc.jpg,,s2\n"
    )
    index = Index(path)

    def subject(image: str, part: str) -> str | int:
        number = index.find(image, part)[0]
        return index.subjects[number] if number >= 0 else number

    assert subject("/x/train/a.jpg", "train") == "s1" and subject("/x/val/a.jpg", "val") == "s2"
    assert subject("/x/vp1/b.jpg", "train") == "s3" and subject("/x/vp2/b.jpg", "train") == "s4"
    assert subject("/x/c.jpg", "train") == AMBIGUOUS and subject("/x/d.jpg", "train") == UNKNOWN


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["strct=True"], "did you mean strict"),
        (["strict=maybe"], "strict takes True or False"),
        (["seed=-1"], "whole number"),
        (["names=nothing.csv"], "not readable as CSV"),
    ],
)
def test_wrong_settings_get_one_line(clean, tmp_path, words, line):
    with pytest.raises(DPoseError, match=line):
        run(["check", f"data={clean / 'data.yaml'}", f"project={tmp_path}", *words])
    assert list(tmp_path.iterdir()) == []


def test_postscript_named_like_a_picture_starts_no_program(tmp_path, monkeypatch):
    import subprocess

    from dpose_yolo.dataset.images import look

    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("a program was started"))
    file = tmp_path / "a.jpg"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\nshowpage\n%%EOF\n")
    assert look(str(file)).problem == "no picture of a kind that can be read"


def test_no_cell_of_the_findings_is_a_formula(tmp_path):
    file = tmp_path / "findings.csv"
    with file.open("w", newline="") as opened:
        findings = Findings()
        findings.write_to(opened)
        findings.add(Finding(next(iter(KINDS)), "train", "=cmd|x.jpg", 'says "a"'))
    row = next(csv.DictReader(file.open(newline="")))
    assert row["file"] == "'=cmd|x.jpg"
