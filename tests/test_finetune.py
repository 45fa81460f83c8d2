"""`dpose finetune` on drawn drivers: what is mixed, kept and frozen, what is refused, and the table at the end."""

from __future__ import annotations

import csv
import json
from copy import copy, deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from engine_models import make_batch, tiny_model
from finetune_cases import build_world, short_run
from stick_figures import build_dataset
from ultralytics.data.augment import Compose
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import DEFAULT_CFG_DICT

from dpose_yolo import DPoseError
from dpose_yolo.cli import run
from dpose_yolo.commands.finetune import main as finetune_main
from dpose_yolo.engine import averaging
from dpose_yolo.engine.averaging import average_weights, average_with_start
from dpose_yolo.engine.carried import carried_postures
from dpose_yolo.engine.criterion import DPoseCriterion
from dpose_yolo.engine.finetune import FineTuneTrainer
from dpose_yolo.engine.keep import KeepCriterion
from dpose_yolo.engine.randomness import parts_of


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> SimpleNamespace:
    """An old and a new data set, and a model trained on the old one."""
    return build_world(
        tmp_path_factory.mktemp("finetune"), {}, {"train": 13, "val": 6, "test": 6}, epochs=12, clusters=4,
        optimizer="AdamW", lr0=0.01, nbs=8, mosaic=0, warmup_epochs=0,
    )  # fmt: skip


@pytest.fixture
def base(world, tmp_path) -> dict:
    """Settings of a short fine-tuning."""
    return short_run(world, tmp_path)


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open()))


class Recording(FineTuneTrainer):
    """Remembers the images of every batch."""

    def preprocess_batch(self, batch):
        self.__dict__.setdefault("seen", []).append(list(batch["im_file"]))
        return super().preprocess_batch(batch)


def test_replay_is_exact_in_every_batch_and_even_over_postures(world, base):
    trainer = Recording(**base, replay=world.old, replay_share=0.4, balance=1.0)
    trainer.train()
    assert len(trainer.seen) == 60  # an epoch has 60 batches at least
    old = str(Path(world.old).parent)
    for files in trainer.seen:
        assert (len(files), sum(f.startswith(old) for f in files)) == (8, 3)
    draws = rows(trainer.save_dir / "replay_draws.csv")
    assert sum(int(r["draws"]) for r in draws) == 180
    # by the starting model's own mixture: 45 draws of each of its four postures; 2 of 24 images show the rarest
    assert len(draws) == len(world.trainer.draws.mixture.weights_) == 4
    assert [float(r["effective"]) for r in draws] == pytest.approx([0.25] * 4, abs=1e-3)
    assert float(draws[-1]["natural"]) < 0.1
    assert sum(int(r["draws"]) for r in rows(trainer.save_dir / "posture_draws.csv")) == 300
    assert {Path(f).name for files in trainer.seen for f in files if not f.startswith(old)} == {
        f"train_{i:04d}.png" for i in range(13)
    }


def test_input_and_length_follow_from_model_and_images(world, base):
    trainer = FineTuneTrainer(**{k: v for k, v in base.items() if k not in ("epochs", "batch")})
    assert (trainer.args.imgsz, trainer.args.mosaic, trainer.args.nbs) == (64, 0, 13)
    assert trainer.epochs == 35  # 1100 13^0.25 steps, 60 an epoch
    assert (trainer.dpose["clusters"], trainer.dpose["att"], trainer.dpose["start"]) == (1, 0.0, world.start)
    mine = FineTuneTrainer(**{**base, "imgsz": 96, "lr0": 0.5, "clusters": 2, "name": "mine"})
    assert (mine.args.imgsz, mine.args.lr0, mine.epochs, mine.dpose["clusters"]) == (96, 0.5, 1, 2)


def test_with_old_data_attention_is_trained_at_its_own_weight(world, base):
    trainer = FineTuneTrainer(**base, replay=world.old)
    trainer.train()
    assert trainer.dpose["att"] == 40.0  # what auto is with the readout
    (row,) = rows(trainer.save_dir / "results.csv")
    assert float(row["train/att_loss"]) > 0
    names = list(load_checkpoint(trainer.last)[0].state_dict())  # the readout exists in training only
    assert names == list(load_checkpoint(world.start)[0].state_dict())


@pytest.mark.parametrize(
    ("settings", "new", "old"),
    [
        ({}, 0.0, 0.0),  # as the start was trained
        ({"new_mosaic": 0.5}, 0.5, 0.0),
        ({"new_mosaic": 0.25, "mosaic": 0.75}, 0.25, 0.75),
        ({"mosaic": 0.75}, 0.75, 0.75),
        ({"replay_share": 0, "new_mosaic": 1}, 1.0, None),
    ],
)
def test_the_new_images_can_be_shown_in_other_mosaics(world, base, settings, new, old):
    trainer = FineTuneTrainer(**{**base, "epochs": 20, **settings}, replay=world.old)
    everywhere = trainer.args.mosaic
    trainer.setup_model()
    found = trainer.build_dataset(trainer.data["train"], "train", 8)
    parts = [new] if old is None else [new, old]
    assert [mosaic_of(part) for part in parts_of(found)] == parts
    assert (trainer.args.mosaic, trainer.args.close_mosaic) == (everywhere, 2)
    assert mosaic_of(trainer.build_dataset(trainer.data["val"], "val", 8)) is None
    found.close_mosaic(copy(trainer.args))
    assert [mosaic_of(part) for part in parts_of(found)] == [0.0] * len(parts)


def mosaic_of(dataset) -> float | None:
    """Share of a set's images that are shown in mosaics; None where its images are only resized."""
    first = dataset.transforms.transforms[0]
    return first.transforms[0].p if isinstance(first, Compose) else None


def test_frozen_layers_and_norms_stay(world, base):
    before = load_checkpoint(world.start)[0].state_dict()
    trainer = FineTuneTrainer(**base, freeze=3)
    trainer.train()
    after = load_checkpoint(trainer.last)[0].state_dict()
    for name, value in after.items():
        same = torch.equal(value, before[name])
        if name.startswith(("model.0.", "model.1.", "model.2.")) or "running_" in name:
            assert same, name  # norms=frozen: the starting model's statistics
        elif name.endswith("conv.weight"):
            assert not same, name
    free = FineTuneTrainer(**base, norms="trained", keep=0, name="free")
    free.train()
    moved = load_checkpoint(free.last)[0].state_dict()
    assert not torch.equal(moved["model.0.bn.running_mean"], before["model.0.bn.running_mean"])
    assert not torch.equal(moved["model.0.conv.weight"], before["model.0.conv.weight"])


def test_postures_travel_in_the_checkpoint_and_are_joined(world, base):
    model, _ = load_checkpoint(world.start)
    carried = carried_postures(model, world.start)
    mixture, table = world.trainer.draws.mixture, world.trainer.draws.table
    assert (carried.mixture.assign(table.features()) == mixture.assign(table.features())).all()
    assert carried.counts.sum() == 24 and list(carried.mixture.keypoint_names_) == table.names
    assert all(not isinstance(v, torch.nn.Module) for v in model.dpose_postures.values())
    trainer = FineTuneTrainer(**base)
    trainer.train()
    assert trainer.draws.change is not None
    again = carried_postures(load_checkpoint(trainer.last)[0], trainer.last)
    assert again.counts.sum() == 24 + 13 and len(again.counts) == len(carried.counts) + 1


def test_new_postures_are_drawn_more(world, base):
    weights = {}
    for factor in (1, 4):
        trainer = FineTuneTrainer(**base, new_postures=factor, balance=0, name=f"factor{factor}")
        trainer._setup_train()
        weights[factor], foreign = trainer.draws.weights, trainer.draws.change.foreign
    assert foreign.any()
    assert weights[4] / weights[1] == pytest.approx([4 if f else 1 for f in foreign])


@pytest.mark.parametrize(("head", "end2end"), [("Pose", False), ("Pose26", True)])
def test_distillation_is_zero_at_the_start_and_leaves_the_rest_alone(head, end2end):
    model, batch = tiny_model(head, end2end), make_batch()
    teacher = deepcopy(model).eval()
    model.eval()  # batch norms as the teacher's
    model.model[-1].train()
    for module in model.model[-1].modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    base = model.init_criterion()
    criterion = KeepCriterion(model.init_criterion(), teacher, 2.0)
    preds = model.predict(batch["img"])
    plain, items = base(preds, batch)
    loss, told = criterion(preds, batch)
    assert torch.equal(loss[:-1], plain) and list(told) == [*items, "keep_loss"]
    assert loss[-1].item() == pytest.approx(0, abs=1e-5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.05)
    moved = criterion(model.predict(batch["img"]), batch)[0]
    assert moved[-1].item() > 1e-3 and moved[-1].requires_grad
    assert not any(p.grad is not None for p in teacher.parameters())
    with torch.no_grad():
        assert criterion(model.predict(batch["img"]), batch)[0][-1] == 0
    assert deepcopy(criterion).teacher is teacher and hasattr(criterion, "update") == end2end


@pytest.mark.parametrize(("head", "end2end"), [("Pose", False), ("Pose26", True)])
def test_with_old_images_in_the_batch_only_those_are_held(head, end2end):
    model, batch = tiny_model(head, end2end), make_batch()
    teacher = deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.05)
    images = batch["img"].shape[0]
    kept = [1]
    criterion = KeepCriterion(model.init_criterion(), teacher, 2.0, lambda _: kept)
    found = criterion(model.predict(batch["img"]), batch)[0][-1] / images
    assert deepcopy(criterion).old is criterion.old
    alone = KeepCriterion(lambda *_: (torch.zeros(3), {}), teacher, 2.0)
    expected = alone(model.predict(batch["img"][kept]), {"img": batch["img"][kept]})[0][-1]
    assert found.item() == pytest.approx(expected.item(), rel=1e-4) and found.item() > 1e-3
    kept = []
    assert criterion(model.predict(batch["img"]), batch)[0][-1] == 0


def test_distillation_beside_attention_leaves_a_plain_checkpoint(world, base):
    trainer = FineTuneTrainer(**base, att=1.0, keep=3.0, val=True)
    trainer._setup_train()
    outer = trainer.model.criterion
    assert isinstance(outer, DPoseCriterion) and isinstance(outer.base, KeepCriterion) and outer.base.weight == 3.0
    trainer = FineTuneTrainer(**base, att=1.0, keep=3.0, val=True, name="whole")
    trainer.train()
    told = rows(trainer.csv)[0]
    assert float(told["train/keep_loss"]) > 0 and float(told["train/att_loss"]) > 0
    assert float(told["val/keep_loss"]) == 0
    model, _ = load_checkpoint(trainer.best)
    assert not model.criterion and list(model.state_dict()) == list(load_checkpoint(world.start)[0].state_dict())


def test_a_resumed_run_has_the_same_settings_and_ends_the_same(world, base):
    class Broken(FineTuneTrainer):
        def run_callbacks(self, event):
            super().run_callbacks(event)
            if event == "on_model_save" and self.epoch == 0:
                raise KeyboardInterrupt

    broken = Broken(**{**base, "epochs": 2}, replay=world.old, keep=0.5)
    worker = FineTuneTrainer(
        cfg={**DEFAULT_CFG_DICT, "save_dir": ""}, overrides={**vars(broken.args), "exist_ok": True}, _callbacks=None
    )
    assert worker.dpose == broken.dpose and worker.save_dir == broken.save_dir and worker.epochs == 2
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    resumed = FineTuneTrainer(resume=str(broken.last))
    assert resumed.dpose == broken.dpose and resumed.dpose["start"] == world.start
    resumed.train()
    assert [int(r["epoch"]) for r in rows(resumed.csv)] == [1, 2]
    assert sum(int(r["draws"]) for r in rows(resumed.save_dir / "replay_draws.csv")) == 2 * 60 * 3  # of 8
    whole = FineTuneTrainer(**{**base, "epochs": 2, "name": "whole"}, replay=world.old, keep=0.5)
    whole.train()
    one, other = (load_checkpoint(t.last)[0].state_dict() for t in (resumed, whole))
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def changed(card: str, folder: Path, **entries) -> str:
    """A copy of a data card beside nothing, with other entries."""
    content = yaml.safe_load(Path(card).read_text()) | {"path": str(Path(card).parent), **entries}
    path = folder / "other.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
    return str(path)


@pytest.mark.parametrize(
    ("settings", "entries", "words"),
    [
        (
            {},
            {"kpt_names": {0: ["chin", *[str(k) for k in range(16)]]}},
            "different keypoint names: number 0 is nose and",
        ),
        ({}, {"names": {0: "passenger"}}, "different classes: number 0 is driver and passenger"),
        ({}, {"channels": 1}, "different channels: 3 and 1"),
        ({"batch": 1}, {}, "batch=1 has no room for a new and an old image"),
        ({"replay_shar": 0.3}, {}, "unknown setting 'replay_shar': did you mean replay_share"),
        ({"replay_share": 2}, {}, "replay_share=2 is not allowed: replay_share takes 0 to 0.95"),
        ({"model": "dpose-125.yaml"}, {}, "finetune needs a trained model"),
    ],
)
def test_refusals(world, base, tmp_path, settings, entries, words):
    other = changed(world.old, tmp_path, **entries)
    with pytest.raises(DPoseError, match=words) as error:
        FineTuneTrainer(**{**base, "replay": other, **settings}).train()
    assert "\n" not in str(error.value)
    if entries:
        assert world.new in str(error.value) and other in str(error.value)


def test_a_model_of_other_keypoints_is_refused(world, base, tmp_path):
    card = build_dataset(tmp_path / "few", train=4, val=2, test=2, keypoints=5)
    with pytest.raises(DPoseError, match=r"gives keypoints of shape \[17, 3\], but .*few.data.yaml has \[5, 3\]"):
        FineTuneTrainer(**{**base, "data": str(card)})


def test_table_is_what_val_says(world, tmp_path, capsys):
    project = f"project={tmp_path / 'runs'}"
    common = [f"model={world.start}", f"data={world.new}", project, "device=cpu", "verbose=False", "refits=0"]
    assert run(["finetune", *common, f"replay={world.old}", "epochs=2", "batch=8", "bootstrap=50"]) == 0
    told = capsys.readouterr().out
    folder = tmp_path / "runs" / "finetune"
    result = json.loads((folder / "finetune.json").read_text())
    assert result["advice"]["sentence"] in told and result["advice"]["sentence"] in (folder / "finetune.md").read_text()
    table = {(r["data"], r["measure"]): r for r in result["rows"]}
    assert set(result["postures"]) == {"lacking", "new", "foreign_share"}
    models = {"before": world.start, "after": str(folder / "weights" / "best.pt")}
    for title, data in (("new", world.new), ("old", world.old)):
        for when, model in models.items():
            mixture = folder / "postures.npz" if title == "new" else Path(world.start).parent.parent / "postures.npz"
            run(
                ["val", f"model={model}", f"data={data}", "split=test", project, f"name={title}-{when}", "device=cpu",
                 "imgsz=64", "batch=8", "bootstrap=0", "attention=False", "plots=False", f"mixture={mixture}"]
            )  # fmt: skip
            metrics = json.loads((tmp_path / "runs" / f"{title}-{when}" / "metrics.json").read_text())
            expected = {"AP": metrics["AP"], "AP50": metrics["AP50"], "tail_AP": metrics["clusters"]["tail"]}
            expected |= {f"AP {k['keypoint']}": k["AP"] for k in metrics["keypoints"] if k["keypoint"] != "all"}
            for measure, value in expected.items():
                assert table[title, measure][when] == pytest.approx(value, abs=1e-9), (title, when, measure)
    assert table["old", "AP"]["before"] > 0.05  # an equality of zeros would say nothing
    for row in result["rows"]:
        if row["measure"] == "AP":
            assert row["change"] == pytest.approx(row["after"] - row["before"]) and row["low"] <= row["high"]
    assert len(rows(folder / "finetune.csv")) == len(result["rows"]) == 2 * (4 + 17)


def test_images_outside_the_data_folder(world, base, tmp_path):
    """Refused for new, replayed and old data alike, taken with `outside=True`, also where the table is made."""
    away = {}
    for name, card in (("new", world.new), ("old", world.old)):
        content = yaml.safe_load(Path(card).read_text())
        content |= {part: str(Path(card).parent / content[part]) for part in ("train", "val", "test")}
        away[name] = tmp_path / name / "data.yaml"
        away[name].parent.mkdir()
        away[name].write_text(yaml.safe_dump(content))
    for given in ({"data": away["new"]}, {"replay": away["old"]}, {"old": away["old"]}):
        with pytest.raises(DPoseError, match=r"outside the data folder .* or set outside=True"):
            FineTuneTrainer(**{**base, **{k: str(v) for k, v in given.items()}})
    assert not (tmp_path / "runs").exists()
    given = {**base, "data": away["new"], "replay": away["old"], "outside": True, "bootstrap": 20}
    assert run(["finetune", *(f"{k}={v}" for k, v in given.items())]) == 0
    table = json.loads((tmp_path / "runs" / "finetune" / "finetune.json").read_text())
    assert {note.split(":")[0] for note in table["notes"]} >= {"new", "old"}


def weights(path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path)[0].state_dict()


def test_a_set_share_of_the_starting_model_is_in_the_final_weights(world, base):
    trainer = FineTuneTrainer(**base, start_share=0.25)
    trainer.train()
    before, last, best = weights(world.start), weights(trainer.last), weights(trainer.best)
    for name, value in best.items():
        if value.is_floating_point():
            wanted = 0.25 * before[name] + 0.75 * last[name]
            assert torch.allclose(value, wanted, atol=1e-3, rtol=2e-3), name  # half precision
    assert any(not torch.equal(best[n], last[n]) for n in best)
    average_with_start(trainer.best, world.start, 0.25, None)  # as when the end of a training comes again
    assert all(torch.equal(value, best[name]) for name, value in weights(trainer.best).items())
    whole = FineTuneTrainer(**base, start_share=0, name="whole")
    whole.train()
    assert whole.averaging is None
    assert all(torch.equal(v, weights(whole.last)[n]) for n, v in weights(whole.best).items())


@pytest.mark.parametrize(("half", "share"), [(0.6, 0.5), (0.4, 0.0)])
def test_the_half_way_model_is_taken_only_where_no_barrier_lies_before_it(world, base, monkeypatch, half, share):
    seen, before = [], weights(world.start)

    def ap(model, part, **engine):
        moved = sum(float((v - before[n].float()).abs().sum()) for n, v in weights(model).items())
        seen.append((moved, len(part.truth.files), engine["imgsz"]))
        # Told by its weights: the start, half-way, the fine-tuned one; half-way between 0.2 and 0.9 is 0.55.
        return 0.2 if moved == 0 else half if ".saving" in str(model) else 0.9

    monkeypatch.setattr(averaging, "_ap", ap)
    trainer = FineTuneTrainer(**base)
    trainer.train()
    (start, middle, tuned), images, sizes = zip(*seen, strict=True)
    assert start == 0 and middle == pytest.approx(tuned / 2, rel=0.02) and images == (13,) * 3 and sizes == (64,) * 3
    assert (trainer.averaging.share, trainer.averaging.half) == (share, half)
    same = all(torch.equal(v, weights(trainer.last)[n]) for n, v in weights(trainer.best).items())
    assert same == (share == 0)
    assert f"half-way {half:.3f}" in trainer.averaging.sentence()
    assert not list((trainer.save_dir / "weights").glob(".*"))


def test_the_half_way_model_is_measured_and_told(world, base, capsys):
    run(["finetune", *(f"{k}={v}" for k, v in base.items()), "bootstrap=0"])
    told = capsys.readouterr().out
    assert "weights: " in told and "AP on the new training images: start" in told
    result = json.loads((Path(base["project"]) / "finetune" / "finetune.json").read_text())
    assert any(note.startswith("weights: ") for note in result["notes"])


def test_models_of_other_weights_are_not_averaged():
    model, other = tiny_model("Pose", False), tiny_model("Pose", False)
    kept = deepcopy(model.state_dict())
    with torch.no_grad():
        for value in other.parameters():
            value += 1.0
    assert average_weights(other, model, 0.25)
    name = "model.0.conv.weight"
    assert torch.allclose(model.state_dict()[name], kept[name] + 0.25, atol=1e-6)
    moved = deepcopy(model.state_dict())
    assert not average_weights(other.fuse(verbose=False), model, 0.5)
    assert all(torch.equal(v, moved[n]) for n, v in model.state_dict().items())


def test_a_fading_balance_is_refused(base):
    with pytest.raises(DPoseError, match="balance_end is for dpose train"):
        FineTuneTrainer(**base, balance_end=0.3)


def test_with_replay_nothing_is_averaged_unless_asked(world, base):
    trainer = FineTuneTrainer(**base, replay=world.old)
    assert trainer.start_share() == 0.0
    assert FineTuneTrainer(**base, replay=world.old, start_share=0.3, name="asked").start_share() == 0.3


def test_torchrun_is_refused(world, base, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(DPoseError, match="torchrun"):
        finetune_main({"model": world.start, "data": world.new})
