"""Images that a checkpoint carries: chosen evenly, packed, replayed without the old data, taken off."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import yaml
from finetune_cases import build_world, short_run
from ultralytics.nn.tasks import load_checkpoint

from dpose_yolo import DPoseError, DPoseTrainer
from dpose_yolo.cli import run
from dpose_yolo.commands.finetune import main as finetune_main
from dpose_yolo.engine.checkpoints import read_checkpoint
from dpose_yolo.engine.finetune import FineTuneTrainer
from dpose_yolo.engine.memory import NAME, carried_images, forget_images, is_carried, pack_images, unpack_images
from dpose_yolo.engine.models import engine_model
from dpose_yolo.posture.spread import spread


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> SimpleNamespace:
    """An old and a new data set, and a model of the old one that carries 10 of its images."""
    return build_world(
        tmp_path_factory.mktemp("memory"), {}, {"train": 13, "val": 6, "test": 6}, epochs=3, clusters=4, memory=10,
        optimizer="AdamW", lr0=0.01, nbs=8, mosaic=0, warmup_epochs=0,
    )  # fmt: skip


@pytest.fixture
def base(world, tmp_path) -> dict:
    return short_run(world, tmp_path)


def label(folder: Path, i: int, size=(40, 60), persons: int = 1, channels: int = 3) -> dict:
    """One of the engine's label dicts with its image, smooth so that JPEG keeps it."""
    random = np.random.default_rng(i)
    image = cv2.resize(random.integers(0, 255, (4, 4, channels), np.uint8), size, interpolation=cv2.INTER_LINEAR)
    file = folder / f"{i}.png"
    cv2.imwrite(str(file), image)
    keypoints = random.random((persons, 5, 3)).astype(np.float32)
    keypoints[..., 2] = random.integers(0, 3, keypoints.shape[:2])  # the engine adds a flag where labels have none
    return {
        "im_file": str(file), "cls": np.zeros((persons, 1), np.float32),
        "bboxes": random.random((persons, 4)).astype(np.float32), "keypoints": keypoints,
    }  # fmt: skip


def test_spread_takes_turns_until_clusters_are_empty():
    cluster = np.repeat([3, 0, 7, 5], [100, 2, 40, 9])
    for count, expected in ((4, [1, 1, 1, 1]), (12, [2, 3, 4, 3]), (44, [2, 9, 17, 16])):
        chosen = spread(cluster, count, seed=1)
        assert len(chosen) == count == len(set(chosen)) and (np.diff(chosen) > 0).all()
        found = [int((cluster[chosen] == c).sum()) for c in (0, 5, 7, 3)]
        assert found[0] == min(2, expected[0]) and found[1] == min(9, found[1])
        rest = [f for f, most in zip(found, (2, 9, 40, 100), strict=True) if f < most]
        assert max(rest) - min(rest) <= 1
    assert (spread(cluster, 1000) == np.arange(151)).all()
    assert not np.array_equal(spread(cluster, 12, seed=1), spread(cluster, 12, seed=2))
    assert len(spread(np.zeros(0, int), 3)) == 0


@pytest.mark.parametrize(("dims", "channels"), [(3, 3), (2, 3), (3, 1)])
def test_packed_images_and_labels_come_back(tmp_path, dims, channels):
    sizes = [(40, 60), (200, 100), (64, 64)]
    labels = [
        label(tmp_path, i, s, persons=p, channels=channels)
        for i, (s, p) in enumerate(zip(sizes, (1, 2, 0), strict=True))
    ]
    data = {
        "kpt_shape": [5, dims],
        "names": {0: "driver"},
        "channels": channels,
        "flip_idx": [0, 2, 1, 3, 4],
        "path": "/somewhere",
    }
    content = pack_images([(labels, np.array([0, 1, 1]))], 10, 64, data)
    model = SimpleNamespace(**{NAME: content})
    assert carried_images(model) == 3 and carried_images(SimpleNamespace()) == 0
    card = unpack_images(model, "best.pt", tmp_path / "carried", data)
    assert is_carried(card) and "/somewhere" not in card.read_text()
    for i, one in enumerate(labels):
        image = cv2.imread(str(card.parent / "images" / f"{i:05d}.jpg"), cv2.IMREAD_UNCHANGED)
        width, height = sizes[i]
        scale = min(1, 64 / max(width, height))  # made smaller, never larger
        assert image.shape[:2] == (round(height * scale), round(width * scale)) and (image.ndim == 2) == (channels == 1)
        whole = cv2.imread(one["im_file"], cv2.IMREAD_UNCHANGED)
        smaller = cv2.resize(whole, image.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(image.astype(float) - smaller).mean() < 6
        rows = [line.split() for line in (card.parent / "labels" / f"{i:05d}.txt").read_text().splitlines()]
        assert len(rows) == len(one["bboxes"])
        for row, box, keypoints in zip(rows, one["bboxes"], one["keypoints"], strict=True):
            found = np.array(row, float)
            assert row[0] == "0" and np.allclose(found[1:5], box, atol=1e-6)
            shown = keypoints * (keypoints[:, 2:] > 0) if dims == 3 else keypoints[:, :2]
            assert np.allclose(found[5:].reshape(5, dims), shown, atol=1e-6)


def test_sets_give_equal_numbers_as_far_as_they_can(tmp_path):
    few, many = ([label(tmp_path, 100 * s + i) for i in range(n)] for s, n in ((1, 3), (2, 20)))
    data = {"kpt_shape": [5, 3], "names": {0: "driver"}}
    for count, first in ((4, 2), (5, 2), (10, 3)):
        content = pack_images([(many, np.zeros(20, int)), (few, np.zeros(3, int))], count, 64, data)
        boxes = {tuple(b) for b in content["persons"][:, 1:5].tolist()}
        assert len(boxes) == count and sum(tuple(lb["bboxes"][0].tolist()) in boxes for lb in few) == first
    with pytest.raises(DPoseError, match="memory keeps images of 1 or 3 channels"):
        pack_images([(few, np.zeros(3, int))], 2, 64, {**data, "channels": 5})


def test_a_fine_tuning_replays_what_the_start_carries(world, base, caplog):
    start = load_checkpoint(world.start)[0]
    assert carried_images(start) == 10
    finetune_main({**base, "replay_share": 0.25, "bootstrap": 0})
    folder = Path(base["project"]) / "finetune"
    draws = list(csv.DictReader((folder / "replay_draws.csv").open()))
    assert sum(int(r["draws"]) for r in draws) == 120  # 2 of 8 in each of 60 batches
    assert sum(int(r["draws"]) for r in draws if int(r["cluster"]) == 0) > 0
    assert not (folder / "carried").exists()  # gone with the end of the training
    assert "of 10 old ones" in caplog.text or "old ones (of 10)" in caplog.text
    result = json.loads((folder / "finetune.json").read_text())
    assert {row["data"] for row in result["rows"]} == {"new"}  # carried images are trained on, not judged by
    assert "Replay: 10 images that" in caplog.text
    tuned = load_checkpoint(folder / "weights/last.pt")[0]
    assert carried_images(tuned) == 0  # they do not travel on by themselves
    without = FineTuneTrainer(**base, recall=False, name="without")
    without.train()
    assert not without.dpose["replay"] and not (without.save_dir / "carried").exists()
    assert without.keep_weight() == 1 and without.draws.old is None


def test_a_resumed_run_goes_on_with_the_carried_images(world, base):
    whole = FineTuneTrainer(**{**base, "epochs": 2}, name="whole")
    whole.train()
    assert Path(whole.dpose["replay"]).parent == whole.save_dir / "carried" and whole.keep_weight() == 0

    class Broken(FineTuneTrainer):
        def save_model(self):
            super().save_model()
            raise KeyboardInterrupt

    broken = Broken(**{**base, "epochs": 2}, name="broken")
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    assert len(list((broken.save_dir / "carried/images").glob("*.jpg"))) == 10
    moved = broken.save_dir.rename(broken.save_dir.with_name("moved"))  # with its pictures, or without
    shutil.rmtree(moved / "carried")
    again = FineTuneTrainer(resume=str(moved / "weights/last.pt"))
    again.train()
    assert Path(again.dpose["replay"]).parent == moved / "carried" and not (moved / "carried").exists()
    a, b = (load_checkpoint(t.last)[0].state_dict() for t in (whole, again))
    assert all(torch.equal(v, b[k]) for k, v in a.items())


def test_memory_of_old_and_new_travels_on_where_asked(world, base):
    trainer = FineTuneTrainer(**base, memory=8, replay=world.old)
    trainer.train()
    card = unpack_images(load_checkpoint(trainer.last)[0], "x", trainer.save_dir / "look", trainer.data)

    def boxes(folder: Path) -> np.ndarray:
        return np.array([f.read_text().split()[1:5] for f in sorted(folder.glob("*.txt"))], float)

    carried = boxes(card.parent / "labels")
    assert len(carried) == 8
    for source in (world.old, world.new):
        distance = np.abs(carried[:, None] - boxes(Path(source).parent / "labels/train")).max(-1).min(1)
        assert (distance < 1e-5).sum() == 4


def test_a_record_of_a_run_brings_no_pictures_of_its_own(world, base):
    """`cfg=args.yaml` of a run that replayed carried images: another start, another run's images, or none."""
    first = FineTuneTrainer(**base, name="first")
    record = yaml.safe_load((first.save_dir / "args.yaml").read_text())
    assert is_carried(record["replay"])
    again = FineTuneTrainer(record, name="again")
    assert Path(again.dpose["replay"]).parent == again.save_dir / "carried"
    assert not FineTuneTrainer(record, name="none", recall=False).dpose["replay"]


def test_memory_changes_no_weight_and_needs_postures(world):
    plain = DPoseTrainer(**{**world.settings, "memory": 0}, name="plain")
    plain.train()
    a, b = (load_checkpoint(t)[0].state_dict() for t in (world.start, plain.last))
    assert all(torch.equal(v, b[k]) for k, v in a.items())
    with pytest.raises(DPoseError, match="memory= chooses images by their postures"):
        DPoseTrainer(**{**world.settings, "balance": 0.0}, name="refused")


def test_forget_takes_them_off(world, tmp_path, capsys, monkeypatch):
    path = tmp_path / "best.pt"
    path.write_bytes(Path(world.start).read_bytes())
    before = load_checkpoint(path)[0]
    size = path.stat().st_size
    monkeypatch.chdir(tmp_path)
    run(["info", "model=best.pt", "imgsz=64"])
    assert json.loads(capsys.readouterr().out)["carried_images"] == 10
    for told in ("10 images taken off", "carries no images: left as it is"):
        run(["forget", "model=best.pt"])
        assert told in capsys.readouterr().out
    after = load_checkpoint(path)[0]
    assert carried_images(after) == 0 and path.stat().st_size < size
    assert after.dpose_postures["keypoints"] == before.dpose_postures["keypoints"]
    assert all(torch.equal(v, after.state_dict()[k]) for k, v in before.state_dict().items())
    assert forget_images(path) == 0 and list(tmp_path.iterdir()) == [path]


def test_forget_takes_them_off_the_file_behind_a_link_and_off_a_student(world, tmp_path):
    path, link = tmp_path / "best.pt", tmp_path / "latest.pt"
    path.write_bytes(Path(world.start).read_bytes())
    os.symlink(path, link)
    assert forget_images(link) == 10 and link.is_symlink() and carried_images(load_checkpoint(path)[0]) == 0

    class Broken(DPoseTrainer):
        def save_model(self):
            super().save_model()
            raise KeyboardInterrupt

    teacher = {"distill_model": world.start, "name": "taught", "project": str(tmp_path)}
    broken = Broken(**{**world.settings, **teacher})
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    assert carried_images(read_checkpoint(broken.last)["ema"]) == 10
    with pytest.raises(DPoseError, match="is of an unfinished training"):
        forget_images(broken.last)


def test_recall_takes_what_a_data_file_says_otherwise(world, base, tmp_path):
    """The carried labels are the model's keypoints, so those of the new data, whatever its YAML calls its class."""
    card = yaml.safe_load(Path(world.new).read_text())
    card |= {"path": str(Path(world.new).parent), "names": {0: "someone"}}
    card.pop("flip_idx", None)
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(card))
    for settings in ({}, {"single_cls": True}):
        trainer = FineTuneTrainer(**{**base, "data": str(other), "fliplr": 0.0}, **settings, outside=True)
        trainer.train()
        assert trainer.draws.old is not None
    with pytest.raises(DPoseError, match="recall='perhaps' is not allowed"):
        FineTuneTrainer(**base, recall="perhaps")


def test_damaged_memory_is_told(tmp_path):
    data = {"kpt_shape": [5, 3], "names": {0: "driver"}}
    content = pack_images([([label(tmp_path, 1)], np.zeros(1, int))], 1, 64, data)
    for change in ({"version": 9}, {"sizes": None}):
        with pytest.raises(DPoseError, match=r"the images that best\.pt carries cannot be used.*recall=False"):
            unpack_images(SimpleNamespace(**{NAME: {**content, **change}}), "best.pt", tmp_path / "x", data)
    model = SimpleNamespace(**{NAME: content})
    for change in ({"kpt_shape": [4, 3]}, {"names": {}}):
        with pytest.raises(DPoseError, match=r"the images that best\.pt carries cannot be used.*recall=False"):
            unpack_images(model, "best.pt", tmp_path / "x", {**data, **change})
    assert not (tmp_path / "x").exists()
    assert carried_images(SimpleNamespace(**{NAME: {**content, "sizes": None}})) == 0


def test_images_that_cannot_be_written_leave_no_run(world, base, monkeypatch):
    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DPoseError, match=r"cannot write to .*carried: No space left on device"):
        FineTuneTrainer(**base, name="full").train()
    assert not (Path(base["project"]) / "full" / "carried").exists()


@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_exported_files_hold_no_image(world, tmp_path, form):
    path = tmp_path / "best.pt"
    path.write_bytes(Path(world.start).read_bytes())
    content = getattr(load_checkpoint(path)[0], NAME)
    image = content["bytes"][: content["sizes"][0]].numpy().tobytes()
    assert image in path.read_bytes()
    exported = Path(engine_model(path).export(format=form, imgsz=64, verbose=False))
    assert exported.suffix == f".{form}" and image not in exported.read_bytes()
