"""The sample set that ships with the project, the Drive&Act card and the drawn dataset of the tests."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset
from ultralytics.utils.metrics import OKS_SIGMA

SPLITS = {"train": 640, "val": 84, "test": 168}


@pytest.fixture(scope="module")
def data(root: Path) -> Path:
    return root / "data"


@pytest.fixture(scope="module")
def sample(data: Path) -> Path:
    return data / "cabin_mini"


@pytest.fixture(scope="module")
def index(sample: Path) -> list[dict[str, str]]:
    with (sample / "index.csv").open(newline="") as f:
        return list(csv.DictReader(f))


def postures(index: list[dict[str, str]], split: str) -> Counter[str]:
    return Counter(row["posture"] for row in index if row["split"] == split)


def engine_counts(card: Path, split: str) -> tuple[int, int, int]:
    """Images that the engine reads, objects in them, and images it calls missing or corrupt."""
    spec = check_det_dataset(str(card), autodownload=False)
    dataset = YOLODataset(img_path=spec[split], data=spec, task="pose", imgsz=96, augment=False)
    # cache_labels() reports what it found; get_labels() keeps no count of the corrupt ones
    found = dataset.cache_labels(Path(card.parent / f"{split}.cache"))["results"]
    return len(dataset.labels), sum(len(x["cls"]) for x in dataset.labels), found[1] + found[3]


def test_the_sample_is_at_most_eight_megabytes(sample: Path) -> None:
    made = (".cache", ".npz")  # what commands leave beside labels
    size = sum(p.stat().st_size for p in sample.rglob("*") if p.is_file() and p.suffix not in made)
    assert 4_000_000 < size <= 8_000_000


def test_index_agrees_with_the_files(sample: Path, index: list[dict[str, str]]) -> None:
    assert Counter(row["split"] for row in index) == SPLITS
    listed = {(row["split"], Path(row["file"]).stem) for row in index}
    for kind, suffix in (("images", ".jpg"), ("labels", ".txt")):
        on_disk = {(p.parent.name, p.stem) for p in (sample / kind).rglob(f"*{suffix}")}
        assert on_disk == listed, kind
    assert {row["camera"] for row in index} == {"mirror", "codriver", "a_pillar_driver"}
    assert len({row["posture"] for row in index}) == 28


def test_every_label_row_is_one_driver_with_17_keypoints(sample: Path) -> None:
    for path in (sample / "labels").rglob("*.txt"):
        rows = np.loadtxt(path, ndmin=2)
        assert rows.shape == (1, 5 + 17 * 3), path
        cls, box, points = rows[0, 0], rows[0, 1:5], rows[0, 5:].reshape(17, 3)
        assert cls == 0, path
        assert (box > 0).all() and (box <= 1).all(), path
        assert (box[:2] - box[2:] / 2 > -1e-4).all() and (box[:2] + box[2:] / 2 < 1 + 1e-4).all(), path
        assert np.isin(points[:, 2], (0, 1, 2)).all(), path
        assert (points[:, :2] >= 0).all() and (points[:, :2] <= 1).all(), path
        assert (points[points[:, 2] == 0, :2] == 0).all(), path
        assert (points[:, 2] > 0).sum() >= 6, path


def test_no_image_is_in_two_places(sample: Path) -> None:
    hashes = Counter(hashlib.sha256(p.read_bytes()).hexdigest() for p in (sample / "images").rglob("*.jpg"))
    assert len(hashes) == sum(SPLITS.values())


def test_training_part_is_long_tailed_and_test_part_balanced(index: list[dict[str, str]]) -> None:
    train, test = postures(index, "train"), postures(index, "test")
    assert 0.25 <= max(train.values()) / train.total() <= 0.40
    assert train.most_common(1)[0][0] == "drive_two_hands"
    assert len(train) == 28 and 3 <= min(train.values()) <= 5
    assert max(train.values()) / min(train.values()) > 50
    assert len(test) == 28 and set(test.values()) == {6}


def test_validation_part_has_the_natural_shares(index: list[dict[str, str]]) -> None:
    train, val = postures(index, "train"), postures(index, "val")
    gap = max(abs(train[p] / train.total() - val[p] / val.total()) for p in train)
    assert gap < 0.03


def test_every_posture_of_the_test_part_is_seen_by_several_cameras(index: list[dict[str, str]]) -> None:
    for posture in postures(index, "test"):
        cameras = Counter(r["camera"] for r in index if r["split"] == "test" and r["posture"] == posture)
        assert len(cameras) >= 2, posture


@pytest.mark.parametrize("how", ["absolute", "relative", "from its folder"])
def test_the_engine_finds_the_images_from_everywhere(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    card = data / "cabin_mini.yaml"
    monkeypatch.chdir(data if how == "from its folder" else tmp_path)
    given = {
        "absolute": str(card),
        "relative": os.path.relpath(card, tmp_path),
        "from its folder": card.name,
    }[how]
    spec = check_det_dataset(given, autodownload=False)
    for split in SPLITS:
        assert Path(spec[split]) == data / "cabin_mini" / "images" / split


@pytest.mark.parametrize("split", SPLITS)
def test_the_engine_reads_every_image(data: Path, tmp_path: Path, split: str) -> None:
    # a copy, since the engine writes its cache files beside the labels
    shutil.copytree(
        data / "cabin_mini",
        tmp_path / "cabin_mini",
        ignore=lambda d, names: [n for n in names if n.endswith(".cache")],
    )
    card = shutil.copy(data / "cabin_mini.yaml", tmp_path)
    assert engine_counts(Path(card), split) == (SPLITS[split], SPLITS[split], 0)


def test_drive_act_card_is_complete_and_loads(data: Path, tmp_path: Path) -> None:
    card = Path(shutil.copy(data / "drive_act.yaml", tmp_path))
    raw = yaml.safe_load(card.read_text())
    rng = np.random.default_rng(0)
    for place in {*raw["train"], *raw["val"], *raw["test"]}:
        folder = tmp_path / place
        labels = tmp_path / place.replace("images", "labels")
        folder.mkdir(parents=True)
        labels.mkdir(parents=True)
        cv2.imwrite(str(folder / "a.jpg"), rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
        (labels / "a.txt").write_text("0 0.5 0.5 0.8 0.8" + " 0.5 0.5 2" * 17 + "\n")
    assert engine_counts(card, "train") == (11, 11, 0)
    assert engine_counts(card, "test") == (4, 4, 0)
    spec = check_det_dataset(str(card), autodownload=False)
    assert set(spec["train"]).isdisjoint(spec["test"])
    persons = {int(re.findall(r"vp(\d+)$", p)[0]) for p in [*spec["train"], *spec["test"]]}
    assert persons == set(range(1, 16))


@pytest.mark.parametrize("name", ["cabin_mini.yaml", "drive_act.yaml"])
def test_keypoints_of_the_cards(data: Path, name: str) -> None:
    card = yaml.safe_load((data / name).read_text())
    names = card["kpt_names"][0]
    assert card["kpt_shape"] == [len(names), 3] == [17, 3]
    assert "path" not in card  # the engine would resolve it against the working directory
    # flip_idx swaps the sides of every name
    swapped = [n.replace("left", "?").replace("right", "left").replace("?", "right") for n in names]
    assert [names[i] for i in card["flip_idx"]] == swapped
    np.testing.assert_allclose(card["kpt_oks_sigmas"], OKS_SIGMA, atol=1e-6)
    limbs = {frozenset(pair) for pair in card["skeleton"]}
    assert len(limbs) == 19 and all(len(pair) == 2 and max(pair) < 17 for pair in limbs)
    # the drawing is symmetric: mirrored limbs are limbs
    assert {frozenset(card["flip_idx"][k] for k in pair) for pair in limbs} == limbs


@pytest.mark.parametrize("keypoints", [17, 14, 5])
def test_drawn_dataset_is_read_without_loss(mini_dataset, keypoints: int) -> None:
    card = mini_dataset(train=24, val=4, test=4, keypoints=keypoints)
    assert engine_counts(card, "train") == (24, 24, 0)
    index = list(csv.DictReader((card.parent / "index.csv").open()))
    counts = postures(index, "train").most_common()
    assert len(counts) == 4 and counts[0][0] == "two_hands" and counts[0][1] > 2 * counts[-1][1]


def test_requirements_mirror_pyproject(root: Path) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("tomllib came with Python 3.11")
    import tomllib

    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lines = [x.strip() for x in (root / "requirements.txt").read_text().splitlines()]
    assert [x for x in lines if x and not x.startswith("#")] == project["dependencies"]
