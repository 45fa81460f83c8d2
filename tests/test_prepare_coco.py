"""`dpose prepare coco`, `dripe` and `statefarm`: labels, parts, and what a hostile file cannot do."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from prepare_cases import coco_json, index_of, labels_of, person, picture, problems, tree_of

from dpose_yolo.cli import run
from dpose_yolo.errors import DPoseError


def image(path: Path, i: int = 0, size: tuple[int, int] = (80, 60)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture(i, size))
    return path


def annotation(image_id: int, box: list[float], count: int = 17, **more: Any) -> dict[str, Any]:
    x, y, w, h = box
    points = [v for k in range(count) for v in (x + w * (k + 1) / (count + 2), y + h * (k % 5 + 1) / 7, 2)]
    return {"image_id": image_id, "category_id": 1, "bbox": box, "keypoints": points, "iscrowd": 0, **more}


def small(root: Path, names: list[str], **more: Any) -> Path:
    """A JSON of images with one person each, and the images."""
    for i, name in enumerate(names):
        image(root / "images" / name, i)
    raw = {
        "images": [{"id": i, "file_name": n, "width": 80, "height": 60} for i, n in enumerate(names)],
        "annotations": [annotation(i, [10, 10, 50, 40]) for i in range(len(names))],
        "categories": [person()],
        **more,
    }
    root.mkdir(exist_ok=True)
    (root / "labels.json").write_text(json.dumps(raw))
    return root / "labels.json"


def prepare(source: str, src: Path, dst: Path, *words: str) -> list[dict[str, str]]:
    assert run(["prepare", source, f"src={src}", f"dst={dst}", *words]) == 0
    return index_of(dst)


def test_there_and_back(mini_dataset, tmp_path):
    """A YOLO-pose set written as COCO JSON comes back the same, to the sixth digit, images byte by byte."""
    data = mini_dataset().parent
    root = tmp_path / "coco"
    for part in ("train", "val", "test"):
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        for file in (data / "images" / part).iterdir():
            (root / part).mkdir(exist_ok=True)
            (root / part / file.name).write_bytes(file.read_bytes())
        (root / "annotations" / f"person_keypoints_{part}2017.json").write_text(
            json.dumps(coco_json(data / "images" / part))
        )
    rows = prepare("coco", root, tmp_path / "set")
    assert Counter(r["split"] for r in rows) == {"train": 24, "val": 8, "test": 8}
    for row in rows:
        name = Path(row["file"])
        assert (tmp_path / "set" / name).read_bytes() == (data / name).read_bytes()
        assert np.abs(labels_of(tmp_path / "set", row["file"]) - labels_of(data, row["file"])).max() < 1e-5
    assert problems(tmp_path / "set") == []
    from dpose_yolo.engine.labels import load_labels

    labels, _, _ = load_labels(tmp_path / "set" / "data.yaml", "val")
    assert len(labels) == 8


def test_persons_crowds_boxes_and_points(tmp_path):
    file = small(tmp_path / "src", ["a.jpg", "crowd.jpg", "nobody.jpg", "outside.jpg"])
    raw = json.loads(file.read_text())
    two = annotation(0, [-10, 20, 40, 60])  # reaches beyond the left and the lower edge
    two["keypoints"] = [-5, 30, 2, 10, 30, 1, *([0] * 45)]
    raw["annotations"] = [
        raw["annotations"][0],
        two,
        annotation(0, [0, 0, 80, 60], iscrowd=1),
        annotation(1, [0, 0, 80, 60], iscrowd=1),
        annotation(3, [90, 10, 20, 20]),
    ]
    file.write_text(json.dumps(raw))
    rows = prepare("coco", file, tmp_path / "set")
    assert [r["file"] for r in rows] == ["images/train/a.jpg"]
    first, second = labels_of(tmp_path / "set", rows[0]["file"])
    assert np.allclose(first[:5], [0, 35 / 80, 0.5, 50 / 80, 40 / 60], atol=1e-6)
    assert np.allclose(second[:5], [0, 15 / 80, 40 / 60, 30 / 80, 40 / 60], atol=1e-6)
    assert second[5:8].tolist() == [0, 0, 0] and np.allclose(second[8:11], [10 / 80, 0.5, 1])
    lost = json.loads((tmp_path / "set" / "prepare.json").read_text())["left_out"]
    assert lost["image without a person"] == {
        "count": 3,
        "first": [f"images/{n}.jpg" for n in ("crowd", "nobody", "outside")],
    }
    assert lost["keypoint outside the image, now unlabelled"]["count"] == 1
    assert lost["person whose box lies outside the image"]["count"] == 1
    kept = prepare("coco", file, tmp_path / "with", "empty=True")  # of a crowd it is not known who is there
    assert [r["file"] for r in kept] == ["images/train/a.jpg", "images/train/nobody.jpg"]
    assert (tmp_path / "with" / "labels" / "train" / "nobody.txt").read_text() == ""


def test_keypoints_of_another_kind(tmp_path):
    names = ["head_top", "neck", "left_wrist", "right_wrist"]
    file = small(tmp_path / "src", ["a.png"], categories=[person(names, [[1, 2], [2, 4]])])
    raw = json.loads(file.read_text())
    raw["annotations"] = [annotation(0, [10, 10, 50, 40], 4)]
    file.write_text(json.dumps(raw))
    prepare("coco", file, tmp_path / "set")
    card = yaml.safe_load((tmp_path / "set" / "data.yaml").read_text())
    assert card["kpt_shape"] == [4, 3] and card["flip_idx"] == [0, 1, 3, 2] and card["kpt_names"] == {0: names}
    assert card["skeleton"] == [[0, 1], [1, 3]] and "kpt_oks_sigmas" not in card
    assert card["val"] == card["train"] == "images/train"  # the engine wants one


def test_parts_by_subject(tmp_path):
    names = [f"vp{i % 5}/{i:02d}.jpg" for i in range(20)]
    file = small(tmp_path / "src", names)
    rows = prepare("coco", file, tmp_path / "set", "subject=folder", "val=0.2", "test=0.2")
    assert Counter(r["split"] for r in rows) == {"train": 12, "val": 4, "test": 4}
    assert len({(r["subject"], r["split"]) for r in rows}) == 5
    assert problems(tmp_path / "set") == []


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "a/../../secret.jpg", "/etc/hostname", "link.jpg", "C:\\a.jpg", 7, ""]
)
def test_file_names_that_leave_the_source_are_refused(tmp_path, name):
    image(tmp_path / "secret.jpg")
    file = small(tmp_path / "src", ["good.jpg"])
    (tmp_path / "src" / "images" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    raw = json.loads(file.read_text())
    raw["images"].append({"id": 9, "file_name": name, "width": 80, "height": 60})
    raw["annotations"].append(annotation(9, [10, 10, 50, 40]))
    file.write_text(json.dumps(raw))
    before = tree_of(tmp_path)
    with pytest.raises(DPoseError, match=r"image 9 of labels.json|leads out of|absolute"):
        run(["prepare", "coco", f"src={file}", f"dst={tmp_path / 'set'}", "images=images"])
    assert tree_of(tmp_path) == before


HOSTILE: list[tuple[str, Any, str]] = [
    ("", "[1, 2", "is not readable JSON"),
    ("", "[" * 100_000, "is not readable JSON"),
    ("", "[]", "is no COCO JSON"),
    ("images", {}, "images must be a list of records"),
    ("images", [{"id": 0}, {"id": 0}], "image 1 of .* has the id 0"),
    ("annotations", [annotation(5, [1, 1, 2, 2])], "belongs to image 5"),
    ("annotations", [annotation(0, [1, 1, float("nan"), 2])], "bbox of image 0 .* must be 4 numbers"),
    ("annotations", [{**annotation(0, [1, 1, 2, 2]), "keypoints": [1]}], "51 numbers"),
    ("annotations", [{**annotation(0, [1, 1, 2, 2]), "keypoints": [1, 1, 3] * 17}], "a flag other than 0, 1 and 2"),
    ("annotations", [{**annotation(0, [1, 1, 2, 2]), "bbox": ["__import__('os')", 1, 1, 1]}], "must be 4 numbers"),
    (
        "categories",
        [person(), {**person(), "id": 2, "name": "dog"}],
        r"several categories with keypoints \('person', 'dog'\)",
    ),
    ("categories", [person(skeleton=[[0, 99]])], None),
    ("categories", [person(["a", "b"], [[1, 3]])], r"the skeleton of .* has the entry \[1, 3\]"),
]


@pytest.mark.parametrize(("field", "value", "line"), HOSTILE, ids=[str(i) for i in range(len(HOSTILE))])
def test_files_that_are_no_coco_json(tmp_path, field, value, line):
    file = small(tmp_path / "src", ["a.jpg"])
    if field:
        file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    else:
        file.write_text(value)
    if line is None:  # COCO's keypoints have COCO's limbs, whatever the file says
        assert len(prepare("coco", file, tmp_path / "set")) == 1
        return
    with pytest.raises(DPoseError, match=line) as error:
        run(["prepare", "coco", f"src={file}", f"dst={tmp_path / 'set'}"])
    assert "\n" not in str(error.value) and not (tmp_path / "set").exists()


def test_broken_and_missing_pictures_are_named_and_left_out(tmp_path, capsys):
    file = small(tmp_path / "src", ["a.jpg", "cut.jpg", "gone.jpg", "text.jpg", "other.jpg"])
    folder = tmp_path / "src" / "images"
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-300])
    (folder / "gone.jpg").unlink()
    (folder / "text.jpg").write_text("no picture")
    image(folder / "other.jpg", size=(60, 80))
    rows = prepare("coco", file, tmp_path / "set")
    assert [r["file"] for r in rows] == ["images/train/a.jpg"] and not list((tmp_path / "set").rglob("cut.*"))
    said = capsys.readouterr().out
    assert "1 x picture of another size than its labels say (images/other.jpg: 60x80, not 80x60)" in said
    assert "1 x picture that is not there (images/gone.jpg)" in said and "2 x broken picture" in said
    assert problems(tmp_path / "set") == []


def test_dripe(tmp_path):
    root = tmp_path / "src"
    small(root, [f"img_{i}.jpg" for i in range(9)])
    raw = json.loads((root / "labels.json").read_text())
    (root / "labels.json").unlink()
    (root / "splits" / "split_1").mkdir(parents=True)
    for n, part in enumerate(("train", "val", "test")):
        own = raw["images"][3 * n : 3 * n + 3]
        text = json.dumps({**raw, "images": own, "annotations": raw["annotations"][3 * n : 3 * n + 3]})
        (root / "splits" / "split_1" / f"autob_coco_{part}.json").write_text(text)
    rows = prepare("dripe", root, tmp_path / "set")
    assert [r["split"] for r in rows] == ["train"] * 3 + ["val"] * 3 + ["test"] * 3
    assert rows[0]["file"] == "images/train/img_0.jpg" and rows[0]["source"] == "images/img_0.jpg"
    assert problems(tmp_path / "set") == []
    with pytest.raises(DPoseError, match=r"no .*split_2/autob_coco_train.json"):
        run(["prepare", "dripe", f"src={root}", f"dst={tmp_path / 'other'}", "split=2"])


def statefarm(root: Path) -> Path:
    rows = [(f"p{s:03d}", f"c{i % 3}", f"img_{s}{i}.jpg") for s in range(5) for i in range(6)]
    for n, (_, action, name) in enumerate(rows):
        image(root / "imgs" / "train" / action / name, n)
    with (root / "driver_imgs_list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("subject", "classname", "img"), *rows])
    return root


def test_statefarm_is_split_by_subject(tmp_path):
    rows = prepare("statefarm", statefarm(tmp_path / "src"), tmp_path / "set")
    assert Counter(r["split"] for r in rows) == {"train": 24, "val": 6}
    assert len({(r["subject"], r["split"]) for r in rows}) == 5
    assert Counter(r["activity"] for r in rows) == {"safe_driving": 10, "texting_right": 10, "phone_right": 10}
    assert not (tmp_path / "set" / "labels").exists() and problems(tmp_path / "set") == []
    some = prepare("statefarm", tmp_path / "src", tmp_path / "some", "frames=15", "test=0.2")
    assert Counter(r["split"] for r in some) == {"train": 9, "val": 3, "test": 3}
    assert Counter(r["activity"] for r in some) == {"safe_driving": 5, "texting_right": 5, "phone_right": 5}


@pytest.mark.parametrize("row", ["p1,../../..,a.jpg", "p1,c0,../../../../a.jpg", "p1,/etc,hostname"])
def test_statefarm_tables_that_leave_the_source_are_refused(tmp_path, row):
    table = statefarm(tmp_path / "src") / "driver_imgs_list.csv"
    table.write_text(table.read_text() + row + "\n")
    with pytest.raises(DPoseError, match=r"line 32 of .*driver_imgs_list.csv names"):
        run(["prepare", "statefarm", f"src={tmp_path / 'src'}", f"dst={tmp_path / 'set'}"])
    assert not (tmp_path / "set").exists()


def test_real_labels_there_and_back(shared_data, tmp_path):
    data = shared_data / "coco_mini_pose"
    root = tmp_path / "src"
    (root / "images").mkdir(parents=True)
    for file in (data / "images" / "val").iterdir():
        (root / "images" / file.name).write_bytes(file.read_bytes())
    (root / "val.json").write_text(json.dumps(coco_json(data / "images" / "val")))
    rows = prepare("coco", root / "val.json", tmp_path / "set")
    for row in rows:
        truth = labels_of(data, f"images/val/{Path(row['file']).name}")
        assert np.abs(labels_of(tmp_path / "set", row["file"]) - truth).max() < 1e-4, row


def splits(root: Path, names: dict[str, str], folders: dict[str, str]) -> Path:
    """A COCO tree whose numbering restarts in each split; each split's pictures have a size of their own."""
    for n, part in enumerate(names):
        size = (80 + 10 * n, 60)
        records = [{"id": i, "file_name": f"{i}.jpg", "width": size[0], "height": 60} for i in range(3 - n)]
        if part in folders:
            for record in records:
                image(root / folders[part] / record["file_name"], record["id"], size)
        for record in records:  # a JSON that does not tell the sizes cannot notice other pictures
            del record["width"], record["height"]
        raw = {"images": records, "categories": [person()]}
        raw["annotations"] = [annotation(r["id"], [10, 10, 50, 40]) for r in records]
        (root / names[part]).parent.mkdir(parents=True, exist_ok=True)
        (root / names[part]).write_text(json.dumps(raw))
    return root


TREES = {
    "roboflow": ("train/_annotations.coco.json", "valid/_annotations.coco.json", "train", "valid"),
    "official": ("annotations/person_keypoints_train2017.json", "annotations/person_keypoints_val2017.json",
                 "train2017", "val2017"),
    "words": ("training.json", "instances_validation.json", "images/training", "images/validation"),
}  # fmt: skip


@pytest.mark.parametrize("tree", TREES)
def test_pictures_of_a_split_are_those_of_its_own_folder(tmp_path, tree, capsys):
    train, val, of_train, of_val = TREES[tree]
    root = splits(tmp_path / "src", {"train": train, "val": val}, {"train": of_train, "val": of_val})
    if tree == "official":
        for name in ("captions_train2017", "instances_train2017", "instances_val2017", "image_info_test2017"):
            (root / "annotations" / f"{name}.json").write_text("{}")
    rows = prepare("coco", root, tmp_path / "set")
    assert Counter(r["split"] for r in rows) == {"train": 3, "val": 2}
    for row in rows:
        width = cv2.imread(str(tmp_path / "set" / row["file"])).shape[1]
        assert width == {"train": 80, "val": 90}[row["split"]], row
    if tree == "official":
        assert "passed over, of another task: annotations/captions_train2017.json" in capsys.readouterr().out


def test_labels_never_go_to_the_pictures_of_another_split(tmp_path):
    """Where the pictures of val are missing, those of the same names in train are others."""
    root = splits(tmp_path / "src", {"train": "train.json", "val": "val.json"}, {"train": "train"})
    rows = prepare("coco", root, tmp_path / "set")
    assert Counter(r["split"] for r in rows) == {"train": 3}
    lost = json.loads((tmp_path / "set" / "prepare.json").read_text())["left_out"]
    assert lost["picture that is not there"]["count"] == 2


def test_two_folders_with_the_same_names_are_refused(tmp_path):
    root = splits(tmp_path / "src", {"train": "labels.json"}, {"train": "front"})
    for i in range(3):
        image(root / "rear" / f"{i}.jpg", 9)
    with pytest.raises(DPoseError, match=r"may be those in .*front or in .*rear: set images= to the right"):
        run(["prepare", "coco", f"src={root}", f"dst={tmp_path / 'set'}"])
    assert len(prepare("coco", root, tmp_path / "set", "images=front")) == 3


@pytest.mark.parametrize("name", ["labels.json", "trainval.json"])
def test_json_files_of_no_split_are_named(tmp_path, name):
    root = splits(tmp_path / "src", {"train": "train.json", "other": name}, {"train": "train"})
    with pytest.raises(DPoseError, match=rf"{name} does not say of which split it is"):
        run(["prepare", "coco", f"src={root}", f"dst={tmp_path / 'set'}"])


def test_annotations_that_are_mended_or_leave_their_image_out(tmp_path, capsys):
    names = ["ok", "text_ids", "flat", "no_box", "bare", "nowhere", "short", "flat_and_bare"]
    file = small(tmp_path / "src", [f"{n}.jpg" for n in names])
    raw = json.loads(file.read_text())
    given = raw["annotations"]
    given[1] |= {"image_id": "1", "category_id": "1", "iscrowd": "0"}
    given[2]["bbox"] = [10, 10, 0, 40]
    del given[3]["bbox"]
    given[4]["keypoints"] = []
    given[5] |= {"bbox": [0, 0, 0, 0], "keypoints": [0] * 51}
    given[6]["keypoints"] = given[6]["keypoints"][:-3]
    given[7] |= {"bbox": [0, 0, 0, 0], "keypoints": []}
    file.write_text(json.dumps(raw))
    rows = prepare("coco", file, tmp_path / "set", "empty=True")
    assert [Path(r["file"]).stem for r in rows] == names[:5]
    points = np.array(given[2]["keypoints"]).reshape(-1, 3)[:, :2] / (80, 60)
    for row in rows[2:4]:
        box = labels_of(tmp_path / "set", row["file"])[0, 1:5]
        assert np.allclose(box[:2] - box[2:] / 2, points.min(0), atol=1e-5) and np.allclose(box[2:], np.ptp(points, 0))
    assert not labels_of(tmp_path / "set", rows[4]["file"])[0, 5:].any()
    out = capsys.readouterr().out
    assert "2 persons have no box of any extent: it is drawn around their keypoints" in out
    assert "1 persons have no keypoints" in out and "left out: 3 x image with an unusable person" in out
    assert "short.jpg: keypoints of image 6 of labels.json must be 51 numbers" in out


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"category_id": 7}, "annotation 1 of .* has the category_id 7, which no category of the file has"),
        ({"iscrowd": "maybe"}, "annotation 1 of .* has iscrowd 'maybe': write 0 or 1"),
        ({}, r"images 0 and 1 of .* are one picture, images/a.jpg: give its persons one image id"),
    ],
)
def test_annotations_whose_meaning_is_not_plain_are_refused(tmp_path, change, line):
    file = small(tmp_path / "src", ["a.jpg", "b.jpg"])
    raw = json.loads(file.read_text())
    raw["annotations"][1] |= change
    if not change:
        raw["images"][1]["file_name"] = "a.jpg"
    file.write_text(json.dumps(raw))
    with pytest.raises(DPoseError, match=line):
        run(["prepare", "coco", f"src={file}", f"dst={tmp_path / 'set'}"])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["tif", "jpg"])
def test_pictures_that_are_turned_keep_their_labels(tmp_path, kind, orientation):
    from PIL import Image

    file = small(tmp_path / "src", [f"a.{kind}"])
    exif = Image.Exif()
    exif[274] = orientation
    stored = (60, 80) if orientation > 4 else (80, 60)
    extra = {"tiffinfo": {274: orientation}} if kind == "tif" else {"exif": exif}
    Image.new("RGB", stored, "gray").save(tmp_path / "src" / "images" / f"a.{kind}", **extra)
    assert len(prepare("coco", file, tmp_path / "set")) == 1
    from dpose_yolo.dataset.images import look

    seen = look(str(tmp_path / "src" / "images" / f"a.{kind}"))
    assert (seen.problem, seen.width, seen.height) == (None, 80, 60)
