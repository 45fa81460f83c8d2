"""`dpose finetune` on drawn drivers: what is mixed, kept and frozen, what is refused, and the table at the end."""

from __future__ import annotations

import json
from copy import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from finetune_cases import rows, short_run, usual_world
from stick_figures import build_dataset
from ultralytics.data.augment import Compose
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import DEFAULT_CFG_DICT

from dpose_yolo import DPoseError
from dpose_yolo.cli import run
from dpose_yolo.commands.finetune import main as finetune_main
from dpose_yolo.engine.carried import carried_postures
from dpose_yolo.engine.finetune import FineTuneTrainer
from dpose_yolo.engine.optimizers import SingleMuSGD
from dpose_yolo.engine.randomness import parts_of


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> SimpleNamespace:
    """An old and a new data set, and a model trained on the old one."""
    return usual_world(tmp_path_factory.mktemp("finetune"))


@pytest.fixture
def base(world, tmp_path) -> dict:
    """Settings of a short fine-tuning."""
    return short_run(world, tmp_path)


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
    trainer = FineTuneTrainer(**{k: v for k, v in base.items() if k not in ("epochs", "batch", "att")})
    assert (trainer.args.imgsz, trainer.args.mosaic, trainer.args.nbs) == (64, 0, 16)
    assert trainer.epochs == 20  # 630 13^0.25 steps, 60 an epoch
    assert (trainer.dpose["clusters"], trainer.dpose["att"], trainer.dpose["start"]) == (1, 40.0, world.start)
    mine = FineTuneTrainer(**{**base, "imgsz": 96, "lr0": 0.5, "clusters": 2, "name": "mine"})
    assert (mine.args.imgsz, mine.args.lr0, mine.epochs, mine.dpose["clusters"]) == (96, 0.5, 1, 2)


@pytest.mark.parametrize("old", [True, False])
def test_attention_is_trained_at_its_own_weight(world, base, old):
    trainer = FineTuneTrainer(**{**base, "att": "auto"}, replay=world.old if old else "")
    trainer.train()
    assert trainer.dpose["att"] == 40.0  # what auto is with the readout
    (row,) = rows(trainer.save_dir / "results.csv")
    assert float(row["train/att_loss"]) > 0
    names = list(load_checkpoint(trainer.last)[0].state_dict())  # the readout exists in training only
    assert names == list(load_checkpoint(world.start)[0].state_dict())


@pytest.mark.parametrize(
    ("settings", "new", "old"),
    [
        ({}, 0.5, 0.0),  # the old ones as the start was trained
        ({"new_mosaic": "auto"}, 0.5, 0.0),
        ({"mosaic": 0.75}, 0.75, 0.75),
        ({"mosaic": 0}, 0.0, 0.0),  # the user's word is for all images
        ({"new_mosaic": 0}, 0.0, 0.0),
        ({"new_mosaic": 0.25, "mosaic": 0.75}, 0.25, 0.75),
        ({"replay_share": 0}, 0.5, None),
        ({"replay_share": 0, "mosaic": 0.25}, 0.25, None),
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
    base["att"] = "auto"
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


def test_with_old_data_batch_norms_are_trained_and_by_muon(world, base):
    before = load_checkpoint(world.start)[0].state_dict()
    del base["lr0"]
    trainer = FineTuneTrainer(**base, replay=world.old)
    trainer.train()
    assert type(trainer.optimizer) is SingleMuSGD  # on the CPU
    rates = sorted({g["initial_lr"] for g in trainer.optimizer.param_groups})
    assert rates == pytest.approx([0.02, 0.06])  # the engine trains the class scores at three times the rate
    assert {g["momentum"] for g in trainer.optimizer.param_groups} == {0.9}
    moved = load_checkpoint(trainer.last)[0].state_dict()
    assert not torch.equal(moved["model.0.bn.running_mean"], before["model.0.bn.running_mean"])
    fixed = FineTuneTrainer(**base, replay=world.old, norms="frozen", optimizer="AdamW", name="fixed")
    fixed.train()
    assert isinstance(fixed.optimizer, torch.optim.AdamW) and fixed.args.lr0 == 0.002
    kept = load_checkpoint(fixed.last)[0].state_dict()
    assert all(torch.equal(kept[k], v) for k, v in before.items() if "running_" in k)


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


def test_a_resumed_run_has_the_same_settings_and_ends_the_same(world, base):
    class Broken(FineTuneTrainer):
        def run_callbacks(self, event):
            super().run_callbacks(event)
            if event == "on_model_save" and self.epoch == 0:
                raise KeyboardInterrupt

    base |= {"att": "auto", "epochs": 2}
    broken = Broken(**base, replay=world.old, keep=0.5)
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
    assert sum(int(r["draws"]) for r in rows(resumed.save_dir / "replay_draws.csv")) == 2 * 60 * 6  # of 8
    whole = FineTuneTrainer(**base, name="whole", replay=world.old, keep=0.5)
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


def test_a_fading_balance_is_refused(base):
    with pytest.raises(DPoseError, match="balance_end is for dpose train"):
        FineTuneTrainer(**base, balance_end=0.3)


def test_torchrun_is_refused(world, base, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(DPoseError, match="torchrun"):
        finetune_main({"model": world.start, "data": world.new})
