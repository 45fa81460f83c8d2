"""What holds the old answers in a fine-tuning: distillation, and the average with the starting model."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from engine_models import make_batch, tiny_model
from finetune_cases import rows, short_run, usual_world
from ultralytics.nn.tasks import load_checkpoint

from dpose_yolo.cli import run
from dpose_yolo.engine import averaging, finetune
from dpose_yolo.engine.averaging import average_weights, average_with_start
from dpose_yolo.engine.criterion import DPoseCriterion
from dpose_yolo.engine.finetune import FineTuneTrainer
from dpose_yolo.engine.keep import KeepCriterion, frozen_teacher


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> SimpleNamespace:
    """An old and a new data set, and a model trained on the old one."""
    return usual_world(tmp_path_factory.mktemp("held"))


@pytest.fixture
def base(world, tmp_path) -> dict:
    """Settings of a short fine-tuning."""
    return short_run(world, tmp_path)


# Distillation


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


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("head", "end2end"), [("Pose", False), ("Pose", True), ("Pose26", False), ("Pose26", True)])
def test_quick_teacher_answers_as_the_model_does(head, end2end, channels_last):
    model, images = tiny_model(head, end2end), make_batch()["img"]
    model.model[-1].end2end = end2end
    model(images)  # running statistics of its own
    quick = frozen_teacher(deepcopy(model), torch.device("cpu"), channels_last)
    with torch.no_grad():
        plain, found = (m(images)[1] for m in (model.eval(), quick))
    plain, found = (p.get("one2many", p) for p in (plain, found))
    for name in ("scores", "kpts"):
        torch.testing.assert_close(found[name], plain[name], rtol=1e-4, atol=1e-4)
    for mine, its in zip(found["feats"], plain["feats"], strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-4)
    assert not quick.training and not any(p.requires_grad for p in quick.parameters())
    norms = sum(isinstance(m, torch.nn.BatchNorm2d) for m in quick.modules())
    assert (norms == 0) == (not end2end)


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
    base |= {"att": 1.0, "keep": 3.0, "val": True}
    trainer = FineTuneTrainer(**base)
    trainer._setup_train()
    outer = trainer.model.criterion
    assert isinstance(outer, DPoseCriterion) and isinstance(outer.base, KeepCriterion) and outer.base.weight == 3.0
    trainer = FineTuneTrainer(**base, name="whole")
    trainer.train()
    told = rows(trainer.csv)[0]
    assert float(told["train/keep_loss"]) > 0 and float(told["train/att_loss"]) > 0
    assert float(told["val/keep_loss"]) == 0
    model, _ = load_checkpoint(trainer.best)
    assert not model.criterion and list(model.state_dict()) == list(load_checkpoint(world.start)[0].state_dict())


# What the starting model knows of the new images


@pytest.mark.parametrize(("known", "rate"), [(0.4, 0.004), (0.02, 0.02)])
def test_a_start_that_knows_the_pictures_is_changed_gently(world, base, monkeypatch, caplog, known, rate):
    asked = []
    for name in ("lr0", "start_share"):
        del base[name]

    def ap(model, part, **engine):
        asked.append((model, part.split, len(part.truth.files), engine["imgsz"], engine["device"]))
        return known

    monkeypatch.setattr(finetune, "training_ap", ap)
    with caplog.at_level("INFO"):
        trainer = FineTuneTrainer(**base)
    assert trainer.args.lr0 == rate and trainer.args.optimizer == "MuSGD"
    assert trainer.start_share() == ("auto" if known > 0.1 else 0)
    assert asked == [(world.start, "train", 13, 64, "cpu")]
    assert ("does not know" in caplog.text) == (known < 0.1) and f"AP {known:.3f}" in caplog.text
    asked.clear()  # where the speed does not follow from it, it is not measured
    for given in ({"lr0": 0.01}, {"optimizer": "AdamW"}, {"replay": world.old}):
        FineTuneTrainer(**base, **given, name="other")
    assert not asked
    none = FineTuneTrainer(**base, replay=world.old, replay_share=0, name="none")
    assert asked and none.args.lr0 == rate
    asked.clear()
    del base["epochs"]  # with old data the length follows
    with_old = FineTuneTrainer(**base, replay=world.old, name="with")
    assert asked and (with_old.epochs, with_old.args.lr0) == (20 if known > 0.1 else 80, 0.02)


# Average


def weights(path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path)[0].state_dict()


def test_a_set_share_of_the_starting_model_is_in_the_final_weights(world, base):
    trainer = FineTuneTrainer(**{**base, "start_share": 0.25})
    trainer.train()
    before, last, best = weights(world.start), weights(trainer.last), weights(trainer.best)
    for name, value in best.items():
        if value.is_floating_point():
            wanted = 0.25 * before[name] + 0.75 * last[name]
            assert torch.allclose(value, wanted, atol=1e-3, rtol=2e-3), name  # half precision
    assert any(not torch.equal(best[n], last[n]) for n in best)
    average_with_start(trainer.best, world.start, 0.25, None)  # as when the end of a training comes again
    assert all(torch.equal(value, best[name]) for name, value in weights(trainer.best).items())
    whole = FineTuneTrainer(**base, name="whole")
    whole.train()
    assert whole.averaging is None
    assert all(torch.equal(v, weights(whole.last)[n]) for n, v in weights(whole.best).items())


@pytest.mark.parametrize(("half", "share"), [(0.63, 0.5), (0.61, 0.0), (0.4, 0.0)])
def test_the_half_way_model_is_taken_only_where_no_barrier_lies_before_it(world, base, monkeypatch, half, share):
    seen, before = [], weights(world.start)

    def ap(model, part, **engine):
        moved = sum(float((v - before[n].float()).abs().sum()) for n, v in weights(model).items())
        seen.append((moved, len(part.truth.files), engine["imgsz"]))
        # Told by its weights: the start, half-way, the fine-tuned one; six tenths of the way from 0.2 to 0.9 are 0.62.
        return 0.2 if moved == 0 else half if ".saving" in str(model) else 0.9

    monkeypatch.setattr(averaging, "training_ap", ap)
    trainer = FineTuneTrainer(**{**base, "start_share": "auto"})
    trainer.train()
    (start, middle, tuned), images, sizes = zip(*seen, strict=True)
    assert start == 0 and middle == pytest.approx(tuned / 2, rel=0.02) and images == (13,) * 3 and sizes == (64,) * 3
    assert (trainer.averaging.share, trainer.averaging.half) == (share, half)
    same = all(torch.equal(v, weights(trainer.last)[n]) for n, v in weights(trainer.best).items())
    assert same == (share == 0)
    assert f"half-way {half:.3f}" in trainer.averaging.sentence()
    assert not list((trainer.save_dir / "weights").glob(".*"))


def test_the_half_way_model_is_measured_and_told(world, base, capsys):
    base["start_share"] = "auto"
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


def test_with_replay_nothing_is_averaged_unless_asked(world, base):
    base |= {"start_share": "auto", "replay": world.old}
    assert FineTuneTrainer(**base).start_share() == 0.0
    assert FineTuneTrainer(**{**base, "start_share": 0.3, "name": "asked"}).start_share() == 0.3
