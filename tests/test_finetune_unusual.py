"""What a fine-tuning meets on a bad day: data and models that have moved, other batches, records of other runs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from finetune_cases import build_world, rows, short_run
from test_benchmarks import FOLDER as BENCHMARKS
from ultralytics.models.yolo.pose import PoseTrainer
from ultralytics.utils import DEFAULT_CFG_DICT

from dpose_yolo import DPoseError, DPoseTrainer
from dpose_yolo.cli import run
from dpose_yolo.commands.finetune import main as finetune_main
from dpose_yolo.commands.finetune import only_table_missing
from dpose_yolo.engine import finetune as engine_finetune
from dpose_yolo.engine.checkpoints import read_checkpoint
from dpose_yolo.engine.explain import load_pose_model
from dpose_yolo.engine.files import strip_checkpoint
from dpose_yolo.engine.finetune import FineTuneTrainer
from dpose_yolo.engine.memory import forget_images
from dpose_yolo.engine.same_labels import refuse_other_labels
from dpose_yolo.finetune.rules import recipe
from dpose_yolo.settings import load_cfg, specification


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> SimpleNamespace:
    """An old and a new data set, and a model of the old one that carries 6 of its images."""
    parts = {"train": 8, "val": 4}
    return build_world(tmp_path_factory.mktemp("unusual"), parts, parts, epochs=2, clusters=2, memory=6)


@pytest.fixture
def base(world, tmp_path) -> dict:
    return {**short_run(world, tmp_path), "epochs": 2}


class Broken(FineTuneTrainer):
    """Is broken off when its first checkpoint is written."""

    def run_callbacks(self, event):
        super().run_callbacks(event)
        if event == "on_model_save" and self.epoch == 0:
            raise KeyboardInterrupt


def broken(**settings) -> FineTuneTrainer:
    """A fine-tuning that was broken off after its first epoch."""
    trainer = Broken(**settings)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    return trainer


def stripped_and_stopped(trainer) -> None:
    """The engine's `final_eval`, stopped when it begins to validate."""
    strip_checkpoint(trainer.last)
    raise KeyboardInterrupt


# Records of other runs


@pytest.mark.parametrize("command", ["train", "finetune"])
def test_a_record_on_the_command_line_starts_another_run(world, base, monkeypatch, command):
    """`cfg=args.yaml` means the settings of a run, not its folder, its start, or the pictures that this carried."""
    first = FineTuneTrainer(**base, name="first", resume=True)  # as a job scheduler starts it
    record = first.save_dir / "args.yaml"
    saved = yaml.safe_load(record.read_text())
    assert saved["exist_ok"] and saved["start"] and Path(saved["replay"]).parent == first.save_dir / "carried"
    assert not {"save_dir", "resume", "exist_ok", "start", "replay"} & set(load_cfg(record))
    before = {f: f.read_bytes() for f in first.save_dir.rglob("*") if f.is_file()}
    made = []

    def train(self):
        made.append(self)
        raise DPoseError("made")

    monkeypatch.setattr(DPoseTrainer, "train", train)
    monkeypatch.setattr(FineTuneTrainer, "train", train)
    other = Path(base["project"]) / "other.pt"
    shutil.copy(world.start, other)
    given = [f"cfg={record}", f"model={other}"]
    if command == "train":  # which knows no settings of fine-tuning
        plain = {k: v for k, v in saved.items() if k not in specification("finetune") or k in specification()}
        (Path(base["project"]) / "plain.yaml").write_text(yaml.safe_dump(plain))
        given = [f"cfg={base['project']}/plain.yaml"]
    with pytest.raises(DPoseError, match="made"):
        run([command, *given])
    assert made[0].save_dir != first.save_dir and made[0].dpose["clusters"] == first.dpose["clusters"]
    if command == "finetune":
        assert made[0].dpose["start"] == str(other) == str(made[0].args.model)
    assert before == {f: f.read_bytes() for f in first.save_dir.rglob("*") if f.is_file()}


def test_a_start_alone_is_the_model(world, base):
    trainer = FineTuneTrainer(**{k: v for k, v in base.items() if k != "model"}, start=world.start)
    assert str(trainer.args.model) == trainer.dpose["start"] == world.start


# Data and models that do not go together


def test_an_image_is_new_or_old(world, base, tmp_path):
    card = yaml.safe_load(Path(world.new).read_text())
    both = [str(Path(c).parent / "images" / "train") for c in (world.old, world.new)]
    (tmp_path / "both.yaml").write_text(yaml.safe_dump({**card, "path": "", "train": both, "val": both[1]}))
    trainer = FineTuneTrainer(**base, replay=str(tmp_path / "both.yaml"), outside=True)
    with pytest.raises(DPoseError, match=r"^8 images are of data=.*new.* and of replay=.*both\.yaml, e\.g\. .*train"):
        trainer.train()
    assert not trainer.save_dir.exists()


def test_shapes_of_their_own_do_not_fit_into_one_batch(world, base):
    for replay in ({"replay": world.old}, {}):  # the latter: carried images
        with pytest.raises(DPoseError, match="rect=True cannot be used with old images in the batch"):
            FineTuneTrainer(**base, rect=True, **replay)
    FineTuneTrainer(**base, rect=True, recall=False)


def test_a_model_of_other_classes_is_refused(world):
    model = load_pose_model(world.start)
    data = {"kpt_shape": [17, 3], "names": {0: "driver"}}
    refuse_other_labels(model, "a.pt", data, "b.yaml")  # one class, whatever its name
    two = {**data, "names": {0: "driver", 1: "passenger"}}
    with pytest.raises(DPoseError, match=r"a\.pt knows the classes \w+, but b\.yaml has driver, passenger: give data"):
        refuse_other_labels(model, "a.pt", two, "b.yaml")
    refuse_other_labels(model, "a.pt", two, "b.yaml", classes=False)  # single_cls
    model.names = {0: "passenger", 1: "driver"}
    with pytest.raises(DPoseError, match="in the same order"):
        refuse_other_labels(model, "a.pt", two, "b.yaml")


@pytest.mark.parametrize("epochs", ["abc", 0, 2.5, [3]])
def test_epochs_that_mean_nothing(base, epochs):
    with pytest.raises(DPoseError, match="is not allowed: epochs takes a whole number from 1"):
        FineTuneTrainer(**{**base, "epochs": epochs})


@pytest.mark.parametrize(("start_ap", "epochs"), [(0.01, 80), (0.5, 18)])  # 4800 and 630 8^0.25 steps, 60 an epoch
def test_no_epochs_are_those_of_the_rules(base, monkeypatch, start_ap, epochs):
    monkeypatch.setattr(engine_finetune, "training_ap", lambda *_, **__: start_ap)
    assert FineTuneTrainer(**{**base, "epochs": None}).epochs == epochs  # with the images that the start carries


# Batches


def test_every_batch_is_a_step_whatever_size_it_comes_to(base):
    filled = FineTuneTrainer(**{**base, "batch": -1}, name="filled")  # to the card; 16 without one
    filled._setup_train()
    assert (filled.batch_size, filled.args.nbs, filled.accumulate) == (16, 16, 1)
    assert yaml.safe_load((filled.save_dir / "args.yaml").read_text())["batch"] == 16  # for a table that is made later
    for nbs, steps in ((None, 1), (32, 4)):
        first = broken(**base, **({} if nbs is None else {"nbs": nbs}), name=f"nbs{nbs}")
        again = FineTuneTrainer(resume=str(first.last), batch=8 if nbs else 4)
        again._setup_train()
        assert (again.accumulate, again.args.nbs) == (steps, nbs or 4)
        decay = [g["weight_decay"] for g in again.optimizer.param_groups]
        assert max(decay) == pytest.approx(0.0005)


def test_a_run_without_mixed_precision_goes_on_with_it(base):
    first = broken(**base)

    class Scaled(FineTuneTrainer):
        def _take_state(self, state):
            self.scaler = torch.amp.GradScaler("cpu", enabled=True)
            super()._take_state(state)

    Scaled(resume=str(first.last))._setup_train()


def test_what_is_expected_is_what_is_drawn_by(world, base):
    """Of new images with more draws for new postures, and of an epoch as long as it is."""
    trainer = FineTuneTrainer(**base, replay=world.old, new_postures=5)
    trainer._setup_train()
    sampler = trainer.draws.sampler
    for part, count in ((trainer.draws.new, sampler.new_count), (trainer.draws.old, sampler.old_count)):
        expected = part._expected(0)
        assert expected.sum() == pytest.approx(60 * count)
        shares = part.plan.shares(expected)
        part.drawn = part.sampler.counts(0)
        part.log(trainer.save_dir, 0, "draws.csv")
        found = rows(trainer.save_dir / "draws.csv")
        assert [float(r["expected"]) for r in found] == pytest.approx(shares.tolist(), abs=1e-5)
        off = [abs(float(r["expected"]) - float(r["effective"])) for r in found]
        assert max(off) < len(expected) / expected.sum()


# What has moved, or was taken away, in between


@pytest.mark.slow
def test_old_data_and_start_that_have_moved_can_be_given_again(world, base, tmp_path):
    for name in ("old", "new"):
        shutil.copytree(Path(getattr(world, name)).parent, tmp_path / name)
    start = tmp_path / "start.pt"
    shutil.copy(world.start, start)
    given = {"data": str(tmp_path / "new/data.yaml"), "replay": str(tmp_path / "old/data.yaml")}
    first = broken(**{**base, **given, "model": str(start)})
    for name in ("old", "new", "start.pt"):
        shutil.move(tmp_path / name, tmp_path / f"moved-{name}")
    here = {"data": str(tmp_path / "moved-new/data.yaml"), "replay": str(tmp_path / "moved-old/data.yaml")}
    with pytest.raises(DPoseError, match=r"^replay=.*old/data.yaml cannot be used"):
        FineTuneTrainer(resume=str(first.last), data=here["data"]).train()
    words = ["finetune", f"resume={first.last}", *(f"{k}={v}" for k, v in here.items())]
    words += [f"start={tmp_path}/moved-start.pt", "bootstrap=0"]
    assert run(words) == 0
    saved = yaml.safe_load((first.save_dir / "args.yaml").read_text())
    assert (saved["replay"], saved["start"]) == (here["replay"], str(tmp_path / "moved-start.pt"))
    (first.save_dir / "finetune.json").unlink()  # the table alone, from yet another place
    shutil.move(tmp_path / "moved-old", tmp_path / "again")
    with pytest.raises(DPoseError, match="moved-old"):
        run(words[:1] + words[1:2])
    assert run(["finetune", f"resume={first.last}", f"replay={tmp_path}/again/data.yaml", "bootstrap=0"]) == 0


def test_images_taken_off_the_start_stay_with_the_run_that_replays_them(world, base, tmp_path):
    start = tmp_path / "start.pt"
    shutil.copy(world.start, start)
    first = broken(**{**base, "model": str(start)})
    assert forget_images(start) == 6
    again = FineTuneTrainer(resume=str(first.last))
    saved = yaml.safe_load((again.save_dir / "args.yaml").read_text())
    assert saved["model"] == str(start)  # not the checkpoint it goes on from: for whoever starts from this record
    again.train()
    assert len(again.draws.old.table.files) == 6 and not (again.save_dir / "carried").exists()


def test_pictures_do_not_outlive_a_run(world, base, monkeypatch):
    """Stopped before its first checkpoint; and between the end of its training and the last validation."""

    class AtOnce(FineTuneTrainer):
        def preprocess_batch(self, batch):
            raise KeyboardInterrupt

    at_once = AtOnce(**base, name="once")
    with pytest.raises(KeyboardInterrupt):
        at_once.train()
    assert at_once.draws.old is not None and not (at_once.save_dir / "carried").exists()
    first = FineTuneTrainer(**{**base, "epochs": 1}, name="end")
    monkeypatch.setattr(PoseTrainer, "final_eval", stripped_and_stopped)
    with pytest.raises(KeyboardInterrupt):
        first.train()
    monkeypatch.undo()
    assert (first.save_dir / "carried").is_dir()
    assert only_table_missing({"resume": str(first.last)}) is not None
    finetune_main({"resume": str(first.last), "bootstrap": 0})
    assert not (first.save_dir / "carried").exists()


def test_forget_takes_them_off_every_checkpoint_of_a_finished_training(world, tmp_path):
    weights = tmp_path / "weights"
    weights.mkdir()
    early = {**read_checkpoint(world.start), "epoch": 1}  # as save_period keeps them
    torch.save(early, weights / "epoch1.pt")
    with pytest.raises(DPoseError, match="is of an unfinished training"):
        forget_images(weights / "epoch1.pt")
    shutil.copy(world.start, weights / "last.pt")
    assert forget_images(weights / "epoch1.pt") == 6 and read_checkpoint(weights / "epoch1.pt")["epoch"] == 1


# The benchmark


def test_rules_of_the_benchmark_from_nothing_are_settings_of_training(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import finetune

    monkeypatch.delitem(sys.modules, "finetune")
    for replay in ({}, {"replay": "old.yaml"}):
        rules = finetune.for_training(recipe(50, {**replay, "replay_share": 0.5, "norms": "frozen"}))
        assert "nbs" in rules and not set(rules) - set(specification()) - set(DEFAULT_CFG_DICT)


@pytest.mark.parametrize(
    ("settings", "start_ap", "images"),
    [({}, 0.5, 26880), ({}, 0.01, 76800), ({"epochs": 3}, None, 2880), ({"batch": 8, "epochs": 3}, 0.5, 1440)],
)
def test_every_arm_of_the_benchmark_gets_what_replay_takes(monkeypatch, settings, start_ap, images):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import finetune

    monkeypatch.delitem(sys.modules, "finetune")
    assert finetune.drawn(50, settings, start_ap) == images


@pytest.mark.slow
def test_every_arm_of_the_benchmark_runs_and_a_broken_start_goes_on(world, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import finetune

    monkeypatch.delitem(sys.modules, "finetune")
    given = [f"new={world.new}", f"old={world.old}", f"project={tmp_path}", "images=6", "imgsz=64", "threads=1"]
    settings = {"imgsz": 64, "device": "cpu", "clusters": 2, "epochs": 1}  # epochs: of the arms
    start = finetune.start_model({"old": world.old, "start_epochs": 2}, tmp_path, settings)
    content = read_checkpoint(start)
    assert content["epoch"] == -1 and content["train_args"]["epochs"] == 2
    before = Path(start).read_bytes()
    finetune.main([*given, "epochs=1", "batch=4", "clusters=2", "replay_share=0.5", "start_epochs=2"])
    assert Path(start).read_bytes() == before
    found = finetune.finished(tmp_path)
    assert {r["arm"] for r in found} == {"engine", "recipe", "keep", "recall", "replay", "scratch"}
    assert np.isfinite([float(r["new_AP"]) for r in found]).all() and {r["draws"] for r in found} == {"240"}
