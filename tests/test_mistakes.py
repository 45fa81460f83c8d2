"""The likeliest mistakes of a new user (docs/mistakes.md): each ends in one clear line, and nothing is left behind."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from mistake_cases import (
    FINETUNE_MISTAKES,
    card,
    copy_sample,
    in_pixels,
    labels,
    listed,
    nothing,
    without,
    write_models,
)

from dpose_yolo import cli
from dpose_yolo.export.formats import PACKAGES

TRAIN = ["train", "data=cabin.yaml", "model=tiny.yaml", "clusters=4", "epochs=1", "imgsz=64", "device=cpu"]
VAL = ["val", "model=pose.pt", "data=cabin.yaml", "imgsz=64", "device=cpu"]
CHECK = ["check", "data=cabin.yaml"]
CLUSTERS = ["clusters", "data=cabin.yaml", "clusters=4"]
PREDICT = ["predict", "source=cabin_mini/images/test"]
PARTS = "train: cabin_mini/images/train"
NO_POSE = "give a pose model, one that finds keypoints"
LENDS = "or take what fits of its weights: model=yolo11n-pose.yaml pretrained="
BOX = "has 0 keypoints, expected 17 keypoints (5 + 17 x 3 columns): it is a box without keypoints"
DRIVE = "a drive letter is Windows': leave path: out and write paths that start at the data YAML"
JSON = (
    "is JSON, not a data YAML: COCO keypoints become a YOLO-pose set by `dpose prepare coco src=person_keypoints.json"
)


def but(words: list[str], *changed: str) -> list[str]:
    """A command line with some settings in place of its own."""
    names = {word.partition("=")[0] for word in changed}
    return [*(word for word in words if word.partition("=")[0] not in names), *changed]


def json_file(folder: Path) -> None:
    (folder / "person_keypoints.json").write_text('{"images": [], "annotations": [], "categories": []}')


def two_cards(folder: Path) -> None:
    shutil.copy(folder / "cabin.yaml", folder / "cabin_mini" / "a.yaml")
    shutil.copy(folder / "cabin.yaml", folder / "cabin_mini" / "b.yaml")


boxes_only = labels(lambda words: words[:5])
# name: (what is done to the set, the words, what the line has to say)
MISTAKES = FINETUNE_MISTAKES | {
    "data misspelt": (nothing, but(TRAIN, "data=cabn.yaml"), ["no data file cabn.yaml: did you mean cabin.yaml?"]),
    "data nowhere": (
        nothing,
        but(CHECK, "data=data/my_set.yaml"),
        ["no data file data/my_set.yaml: set data= to", "(a relative path starts at the working directory, {cwd})"],
    ),
    "data from another folder": (
        lambda folder: (folder / "sub").mkdir(),
        but(VAL, "data=cabin.yaml", "model=../pose.pt"),
        ["no data file cabin.yaml", "starts at the working directory, {cwd})"],
    ),
    "model from another folder": (
        lambda folder: (folder / "sub").mkdir(),
        but(VAL, "data=../cabin.yaml", "model=weights/best.pt"),
        ["no model file weights/best.pt: give the path", "starts at the working directory, {cwd})"],
    ),
    "list from another folder": (
        listed("images/train/"),
        TRAIN,
        ["line 1 of {cwd}/train.txt names images/train/train_", "write ./ before it if it starts at the list"],
    ),
    "model misspelt": (nothing, but(VAL, "model=psoe.pt"), ["no model file psoe.pt: did you mean pose.pt?"]),
    "shipped model misspelt": (nothing, but(TRAIN, "model=dpose-152.yaml"), ["did you mean dpose-125.yaml?"]),
    "shipped model without dash": (nothing, ["info", "model=dpose250"], ["did you mean dpose-250.yaml?"]),
    "engine model misspelt": (nothing, but(TRAIN, "model=yolo11n-posse.yaml"), ["did you mean yolo11n-pose.yaml?"]),
    "weights not there": (
        nothing,
        but(TRAIN, "model=yolo11n-pose.pt"),
        ["get yolo11n-pose.pt once from https://", "or start from nothing with model=yolo11n-pose.yaml"],
    ),
    "train a detector": (nothing, but(TRAIN, "model=yolo11n.pt"), ["yolo11n.pt is a detect model", LENDS]),
    "train a segmenter": (nothing, but(TRAIN, "model=yolo11n-seg.pt"), ["yolo11n-seg.pt is a segment model", LENDS]),
    "train a classifier": (nothing, but(TRAIN, "model=yolo11n-cls.pt"), ["yolo11n-cls.pt is a classify model", LENDS]),
    "val a detector": (nothing, but(VAL, "model=yolo11n.pt"), [f"yolo11n.pt is a detect model: {NO_POSE}"]),
    "predict a segmenter": (nothing, [*PREDICT, "model=yolo11n-seg.pt"], [f"is a segment model: {NO_POSE}"]),
    "export a classifier": (nothing, ["export", "model=yolo11n-cls.pt"], [f"is a classify model: {NO_POSE}"]),
    "cam of a detector": (
        nothing,
        ["cam", "model=yolo11n.pt", "source=cabin_mini"],
        [f"is a detect model: {NO_POSE}, e.g. yolo11n-pose.pt"],
    ),
    "predict a stranger": (nothing, [*PREDICT, "model=stranger.onnx"], ["does not say that it is a driver-pose model"]),
    "predict an ONNX detector": (nothing, [*PREDICT, "model=detect.onnx"], ["detect.onnx is a detect model"]),
    "val an ONNX detector": (nothing, but(VAL, "model=detect.onnx"), [f"detect.onnx is a detect model: {NO_POSE}"]),
    "val a broken file": (nothing, but(VAL, "model=broken.pt"), ["broken.pt cannot be loaded as a model"]),
    "detection labels": (boxes_only, TRAIN, ["no image in it can be used, the first is", BOX]),
    "detection labels in val": (boxes_only, VAL, ["the val part", "no image in it can be used", BOX]),
    "backslashes": (
        card(PARTS, r"train: cabin_mini\images\train"),
        TRAIN,
        [r"train of cabin.yaml names cabin_mini\images\train, which does not exist: write / in place of \ "],
    ),
    "drive letter": (card(PARTS, r"train: C:\data\images\train"), CHECK, [r"names C:\data\images\train", DRIVE]),
    "drive letter, slashes": (card(PARTS, "train: D:/data/images/train"), TRAIN, ["names D:/data/images/train", DRIVE]),
    "drive letter in path:": (
        card(PARTS, "path: C:\\data\ntrain: images/train"),
        CLUSTERS,
        [r"path: C:\data of cabin.yaml is no folder here", DRIVE],
    ),
    "backslashes in quotes": (
        card(PARTS, r'train: "C:\data\images"'),
        TRAIN,
        [r"is not readable YAML: write paths with / in place of \: "],
    ),
    "backslashes in a list": (
        listed(".\\cabin_mini\\images\\train\\"),
        TRAIN,
        ["line 1 of {cwd}/train.txt names .\\cabin_mini", "write / in place of"],
    ),
    "drive letter in a list": (
        listed("C:\\cabin\\images\\"),
        CHECK,
        ["line 1 of {cwd}/train.txt names C:\\cabin", DRIVE],
    ),
    "backslash in data=": (nothing, but(CHECK, "data=.\\cabin.yaml"), ["did you mean ./cabin.yaml?"]),
    "two classes": (
        labels(lambda words: ["1", *words[1:]], first=2),
        TRAIN,
        [
            "2 images of the training part cannot be used",
            "line 1: class 1, the data YAML has 1",
            "or set skip_bad=True",
        ],
    ),
    "mixed keypoint counts": (
        labels(lambda words: words[: 5 + 13 * 3], first=1),
        TRAIN,
        ["1 image of the training part", "has 13 keypoints, expected 17 keypoints", "or set skip_bad=True"],
    ),
    "no kpt_shape": (card("kpt_shape: [17, 3]", ""), TRAIN, ["cabin.yaml has no kpt_shape: write kpt_shape: [number"]),
    "kpt_shape a number": (card("[17, 3]", "17"), CLUSTERS, ["has kpt_shape 17: write kpt_shape: [number"]),
    "kpt_shape of another set": (
        lambda folder: (card("[17, 3]", "[13, 3]")(folder), card("flip_idx:", "mirror:")(folder)),
        VAL,
        ["kpt_names of cabin.yaml has 17 names, kpt_shape has 13 keypoints"],
    ),
    "flip_idx too short": (
        card("[0, 2, 1, 4,", "[0, 2, 1,"),
        TRAIN,
        ["flip_idx of cabin.yaml must be 17 whole numbers", "it has 16 entries"],
    ),
    "flip_idx beyond": (card("[0, 2, 1, 4,", "[0, 2, 1, 40,"), CLUSTERS, ["each from 0 to 16 once", "40"]),
    "setting misspelt": (
        nothing,
        [*TRAIN, "balanse=1"],
        ["unknown setting 'balanse': did you mean balance or balance_end?"],
    ),
    "engine's setting misspelt": (nothing, [*VAL, "image_size=64"], ["did you mean imgsz?"]),
    "no =": (nothing, ["train", "data", "cabin.yaml"], ["cannot read 'data': write settings as name=value"]),
    "spaces around =": (nothing, ["train", "data", "=", "cabin.yaml"], ["without spaces around the ="]),
    "file alone": (nothing, ["predict", "pose.pt"], ["cannot read 'pose.pt': write settings as name=value"]),
    "wrong type": (
        nothing,
        but(TRAIN, "epochs=many"),
        ["epochs=many is not allowed: epochs takes a whole number from 1"],
    ),
    "no epochs": (nothing, but(TRAIN, "epochs=0"), ["epochs=0 is not allowed: epochs takes a whole number from 1"]),
    "out of range": (nothing, [*TRAIN, "balance=2"], ["balance=2 is not allowed: balance takes 0 to 1"]),
    "engine's out of range": (nothing, [*TRAIN, "lr0=-1"], ["'lr0=-1' is an invalid value"]),
    "size of nothing": (nothing, but(TRAIN, "imgsz=0"), ["imgsz=0 is not allowed: imgsz takes pixels"]),
    "cache of nothing": (nothing, [*TRAIN, "cache=rma"], ["cache=rma is not allowed: cache takes True, False, ram or"]),
    "freeze of nothing": (nothing, [*TRAIN, "freeze=all"], ["freeze=all is not allowed"]),
    "no batch": (nothing, [*VAL, "batch=0"], ["batch=0 is not allowed: batch takes a whole number from 1"]),
    "no such device": (nothing, but(TRAIN, "device=gpu"), ["device=gpu is not there: set device=cpu"]),
    "no such device in val": (
        nothing,
        but(VAL, "device=7", "attention=False"),
        ["device=7 is not there: set device=cpu"],
    ),
    "COCO JSON": (json_file, but(TRAIN, "data=person_keypoints.json"), [JSON]),
    "COCO JSON in check": (json_file, ["check", "data=person_keypoints.json"], [JSON]),
    "no labels": (without("labels"), TRAIN, ["none of its images has a label: they are looked for in", "labels/train"]),
    "no labels in val": (
        without("labels"),
        VAL,
        ["none of the 4 images of the val part has a label", "labels/val/val_"],
    ),
    "empty labels": (labels(lambda words: []), TRAIN, ["all 12 label files of the training part are empty"]),
    "empty labels in val": (labels(lambda words: []), VAL, ["all 4 label files of the val part are empty"]),
    "no val": (
        card("val: cabin_mini/images/val", ""),
        TRAIN,
        ["has no part 'val': it has train, test: name the images"],
    ),
    "val folder missing": (
        without("images/val"),
        TRAIN,
        ["val of cabin.yaml names cabin_mini/images/val, which does not exist"],
    ),
    "val folder empty": (without("images/val", keep=True), TRAIN, ["no images in the val part of cabin.yaml"]),
    "part misspelt": (nothing, [*VAL, "split=tset"], ["cabin.yaml has no part 'tset': it has train, val, test"]),
    "labels in pixels": (labels(in_pixels), TRAIN, ["these are pixels, write shares of the image"]),
    "one label in pixels": (labels(in_pixels, first=1), VAL, ["1 image of the val part", "these are pixels"]),
    "data a folder": (
        nothing,
        but(TRAIN, "data=cabin_mini"),
        ["cabin_mini is a folder with 0 YAML files: set data= to a data YAML, e.g."],
    ),
    "data a folder of two": (
        two_cards,
        but(CHECK, "data=cabin_mini"),
        ["2 YAML files: set data= to one of them: ", "b.yaml"],
    ),
    "no toolkit": (nothing, ["export", "model=pose.pt", "format=ncnn"], ["format=ncnn needs", "pip install"]),
    "format misspelt": (nothing, ["export", "model=pose.pt", "format=onxx"], ["did you mean onnx?"]),
    "export of an export": (
        nothing,
        ["export", "model=detect.onnx"],
        ["is not a .pt checkpoint: export starts from one"],
    ),
    "dst in src": (
        nothing,
        ["prepare", "video", "src=cabin_mini", "dst=cabin_mini"],
        ["lie in each other: set dst= to a folder outside"],
    ),
    "no such source": (
        nothing,
        ["predict", "model=pose.pt", "source=drive.mp4"],
        ["no image, folder or video drive.mp4"],
    ),
}


@pytest.fixture(scope="module")
def clean(tmp_path_factory, root) -> Path:
    """The small copy, and models beside it."""
    folder = tmp_path_factory.mktemp("clean") / "clean"
    folder.mkdir()
    copy_sample(root, folder)
    write_models(folder)
    return folder


def contents(folder: Path) -> set[str]:
    """Everything in a folder but the engine's caches, which `*.cache` and `*.postures.npz` beside labels are."""
    files = (file for file in folder.rglob("*") if not file.name.endswith((".cache", ".postures.npz")))
    return {str(file.relative_to(folder)) for file in files}


@pytest.fixture(autouse=True)
def without_ncnn(monkeypatch):
    """Its toolkit is missing, also where it is installed."""
    monkeypatch.setitem(PACKAGES, "ncnn", ("ncnn>=999",))


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_ends_in_one_clear_line(name, clean, tmp_path, monkeypatch, capfd):
    spoil, words, said = MISTAKES[name]
    folder = tmp_path / "set"
    shutil.copytree(clean, folder)
    spoil(folder)
    cwd = folder / "sub" if (folder / "sub").is_dir() else folder
    before = contents(folder)
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", ["dpose", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capfd.readouterr()
    assert end.value.code == 1
    (line,) = err.splitlines()
    assert line.startswith("dpose: error: ") and len(line) < 900
    for part in said:
        assert part.format(cwd=cwd) in f"{line} "
    assert "Traceback" not in out and "ignoring corrupt" not in out and "WARNING" not in out
    assert "Error:" not in line and "DPOSE_DEBUG" not in line  # no fault that nobody foresaw
    assert contents(folder) == before


def test_the_copy_itself_is_sound(clean, tmp_path, monkeypatch, capfd):
    """Otherwise the mistakes above would be refused for something else."""
    folder = tmp_path / "set"
    shutil.copytree(clean, folder)
    monkeypatch.chdir(folder)
    assert cli.run([*CHECK, "strict=False"]) == 0
    assert "error" not in (folder / "runs" / "check" / "check.csv").read_text()
    from dpose_yolo.dataset.first_look import first_look

    first_look(folder / "cabin.yaml", ("train", "val", "test"))
    for spoil in (listed("./cabin_mini/images/train/"), listed(f"{folder}/cabin_mini/images/train/")):
        shutil.copy(clean / "cabin.yaml", folder)
        spoil(folder)
        first_look(folder / "cabin.yaml", ("train", "val"))
    monkeypatch.setattr(sys, "argv", ["dpose", "info", "model=tiny.yaml", "imgsz=64"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
