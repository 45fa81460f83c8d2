"""Links that a data YAML names: `dpose check` and the engine look at the same images and the same labels."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from stick_figures import build_dataset
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset

from dpose_yolo.autolabel.pictures import Pictures
from dpose_yolo.cli import run
from dpose_yolo.dataset.card import read_card
from dpose_yolo.dataset.files import label_of, part_images
from dpose_yolo.errors import DPoseError


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """The data YAML of `tmp/set`; `tmp/elsewhere/images` has the same images with labels of their own."""
    build_dataset(tmp_path / "set", train=8, val=4, test=4)
    shutil.copytree(tmp_path / "set", tmp_path / "elsewhere")
    for label in (tmp_path / "elsewhere" / "labels").rglob("*.txt"):
        label.write_text(label.read_text().replace("0 ", "0.0 ", 1))
    return tmp_path / "set" / "data.yaml"


def link(place: Path, target: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place)
    place.symlink_to(target)


def linked_part(card: Path) -> Path:
    link(card.parent / "images" / "train", card.parents[1] / "elsewhere" / "images" / "train")
    return card


def linked_part_of_another_name(card: Path) -> Path:
    (card.parents[1] / "elsewhere" / "images" / "train").rename(card.parents[1] / "photos")
    link(card.parent / "images" / "train", card.parents[1] / "photos")
    return card


def linked_inside(card: Path) -> Path:
    shutil.move(card.parent / "images" / "train", card.parent / "store")
    link(card.parent / "images" / "train", card.parent / "store")
    return card


def linked_folders(card: Path) -> Path:
    for kind in ("images", "labels"):
        link(card.parent / kind, card.parents[1] / "elsewhere" / kind)
    return card


def linked_folder_of_a_list(card: Path) -> Path:
    link(card.parent / "images", card.parents[1] / "elsewhere" / "images")
    (card.parent / "images" / "train.txt").write_text("./train/train_0001.png\n./train/train_0003.png\n")
    card.write_text(yaml.safe_dump({**yaml.safe_load(card.read_text()), "train": "images/train.txt"}))
    return card


def linked_list(card: Path) -> Path:
    (card.parent / "lists").mkdir()
    (card.parent / "lists" / "a.txt").write_text("./../images/train/train_0001.png\n")
    link(card.parent / "train.txt", card.parent / "lists" / "a.txt")
    card.write_text(yaml.safe_dump({**yaml.safe_load(card.read_text()), "train": "train.txt"}))
    return card


def linked_root(card: Path) -> Path:
    link(card.parents[1] / "way", card.parent)
    return card.parents[1] / "way" / "data.yaml"


ALL = (
    linked_part,
    linked_part_of_another_name,
    linked_inside,
    linked_folders,
    linked_folder_of_a_list,
    linked_list,
    linked_root,
)


@pytest.mark.parametrize("change", ALL)
def test_images_and_labels_are_those_of_the_engine(card: Path, change: Callable[[Path], Path]) -> None:
    card = change(card)
    spec = check_det_dataset(str(card), autodownload=False)
    engine = YOLODataset(img_path=spec["train"], data=spec, task="pose", imgsz=64, augment=False)
    images = sorted(part_images(read_card(card), "train"))
    assert images == [os.path.normpath(label["im_file"]) for label in engine.labels]
    assert [label_of(image) for image in images] == list(map(os.path.normpath, engine.label_files))
    out = card.parents[1] / "runs"
    assert run(["check", f"data={card}", f"project={out}"]) == 0
    rows = list(csv.DictReader((out / "check" / "check.csv").open()))
    unlabelled = [row["file"] for row in rows if row["kind"] == "unlabelled_image"]
    assert len(unlabelled) == sum(not len(label["cls"]) for label in engine.labels)
    assert all(file.startswith("images/train/train_") for file in unlabelled)  # as the user knows them


@pytest.mark.parametrize("change", [linked_folders, linked_list, linked_root])
def test_lists_of_the_good_ones_lead_the_engine_to_the_same_labels(card: Path, change: Callable[[Path], Path]) -> None:
    card = change(card)
    spec = check_det_dataset(str(card), autodownload=False)
    before = YOLODataset(img_path=spec["train"], data=spec, task="pose", imgsz=64, augment=False)
    assert run(["check", f"data={card}", f"project={card.parents[1] / 'runs'}", "fix=True"]) == 0
    spec = check_det_dataset(str(card.parent / "data_checked.yaml"), autodownload=False)
    after = YOLODataset(img_path=spec["train"], data=spec, task="pose", imgsz=64, augment=False)
    assert [Path(f).resolve() for f in after.label_files] == [Path(f).resolve() for f in before.label_files]
    assert sum(len(label["cls"]) for label in after.labels) == sum(len(label["cls"]) for label in before.labels) > 0


@pytest.mark.parametrize("change", [linked_part, linked_folder_of_a_list])
def test_a_link_out_of_the_folder_without_its_labels_cannot_be_listed(
    card: Path, change: Callable[[Path], Path]
) -> None:
    change(card)
    with pytest.raises(DPoseError, match=r"images/train/train_000\d.png is reached through a link, .* set path: in"):
        run(["check", f"data={card}", f"project={card.parents[1] / 'runs'}", "fix=True"])
    assert not list(card.parent.glob("data_checked*"))


@pytest.mark.parametrize("change", [linked_part_of_another_name, linked_folders, linked_root])
def test_autolabel_knows_pictures_behind_a_link_by_their_written_names(
    card: Path, change: Callable[[Path], Path]
) -> None:
    pictures = Pictures(change(card), "train")
    assert sorted(pictures.key_of(file) for file in pictures) == [f"train_{i:04d}.png" for i in range(8)]
    assert {pictures.shown(file)[:19] for file in pictures} == {"images/train/train_"}
