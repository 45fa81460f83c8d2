"""The training recipe: which settings a run takes from it, and that what the user gives goes first."""

import math

import pytest
import yaml
from test_trainer import rows, weights
from ultralytics import YOLO
from ultralytics.models.yolo.pose import PoseTrainer
from ultralytics.utils import DEFAULT_CFG_DICT

from dpose_yolo import DPoseTrainer
from dpose_yolo.cli import run
from dpose_yolo.errors import DPoseError
from dpose_yolo.recipe import default_epochs, recipe, section, start_of
from dpose_yolo.settings import load_cfg
from dpose_yolo.study.plan import ablate_plan, sweep_plan

TRAINING = ("optimizer", "lr0", "lrf", "cos_lr", "warmup_bias_lr", "mosaic", "fliplr", "scale")


def short(base: dict) -> dict:
    """The short run of `base` without the settings that a recipe has."""
    return {k: v for k, v in base.items() if k not in (*section("from_scratch"), "epochs")}


@pytest.mark.parametrize(
    ("given", "start"),
    [
        ({}, "from_scratch"),
        ({"model": "dpose-125.yaml"}, "from_scratch"),
        ({"model": "yolo11n-pose.pt"}, "pretrained"),
        ({"model": "yolo11n-pose.pt", "pretrained": False}, "from_scratch"),
        ({"model": "dpose-125.yaml", "pretrained": "best.pt"}, "pretrained"),
    ],
)
def test_a_checkpoint_has_a_recipe_of_its_own(given, start):
    assert start_of(given) == start
    assert recipe(given)["lr0"] == section(start)["lr0"]


def test_every_name_of_the_file_is_an_ultralytics_setting():
    for start in ("from_scratch", "pretrained"):
        assert set(section(start)) <= set(DEFAULT_CFG_DICT)


def test_what_the_user_gives_is_not_taken_from_the_recipe():
    taken = recipe({"lr0": 0.5, "mosaic": 0.0, "epochs": 7}, images=100)
    assert not {"lr0", "mosaic", "epochs"} & set(taken)
    assert taken["optimizer"] == section("from_scratch")["optimizer"]
    assert recipe({"recipe": "ultralytics"}, images=100) == {}
    with pytest.raises(DPoseError, match="recipe"):
        recipe({"recipe": "papers"})


@pytest.mark.parametrize(("batch", "nbs"), [(None, 16), (16, 16), (48, 48), (-1, 16), (0.6, 16)])
def test_every_batch_is_an_optimizer_step(batch, nbs):
    assert recipe({} if batch is None else {"batch": batch})["nbs"] == nbs


@pytest.mark.parametrize("start", ["from_scratch", "pretrained"])
def test_the_default_length_grows_with_the_root_of_the_images(start):
    rule = section(start)["epochs"]
    low, high = rule["range"]
    lengths = [default_epochs(n, start) for n in (1, 50, 627, 3569, 20_000, 10_000_000)]
    assert lengths == sorted(lengths, reverse=True)
    assert (lengths[0], lengths[-1]) == (high, low)
    assert lengths[2] == pytest.approx(rule["scale"] / math.sqrt(627), rel=0.05)
    assert (
        recipe({"model": "a.pt" if start == "pretrained" else "a.yaml", "fraction": 0.25}, 2508)["epochs"] == lengths[2]
    )
    assert "epochs" not in recipe({})


def test_a_run_takes_the_recipe_and_says_so(base, caplog):
    trainer = DPoseTrainer(**short(base), name="plain")
    wanted = section("from_scratch")
    assert {k: getattr(trainer.args, k) for k in TRAINING} == {k: wanted[k] for k in TRAINING}
    assert trainer.args.nbs == base["batch"] and trainer.epochs == trainer.args.epochs == default_epochs(
        24, "from_scratch"
    )
    saved = yaml.safe_load((trainer.save_dir / "args.yaml").read_text())
    assert (saved["epochs"], saved["lr0"], saved["recipe"]) == (trainer.epochs, wanted["lr0"], "dpose")
    lines = [r.message for r in caplog.records if r.message.startswith("Recipe")]
    assert (
        len(lines) == 1 and f"epochs={trainer.epochs} for 24 images" in lines[0] and f"lr0={wanted['lr0']}" in lines[0]
    )


def test_the_preset_ultralytics_leaves_ultralytics_defaults(base):
    trainer = DPoseTrainer("ultralytics", **short(base), name="preset")
    names = [*TRAINING, "nbs", "epochs"]
    assert {k: getattr(trainer.args, k) for k in names} == {k: DEFAULT_CFG_DICT[k] for k in names}
    assert load_cfg("paper")["recipe"] == "ultralytics"  # what the paper does not name is not ours either


def test_without_dpose_it_is_ultralytics_trainer_at_the_recipe(base):
    settings = {**short(base), "epochs": 2, "warmup_epochs": 0}
    ours = DPoseTrainer(**settings, name="ours", balance=0, att=0)
    ours.train()
    plain = {k: v for k, v in settings.items() if not k.startswith("att_")}
    engine = PoseTrainer(overrides={**plain, **recipe(settings), "name": "engine"})
    engine.train()
    for a, b in zip(rows(engine.csv), rows(ours.csv), strict=True):
        assert {k: v for k, v in a.items() if k != "time"} == {k: v for k, v in b.items() if k != "time"}
    for (name, a), b in zip(weights(engine.last).items(), weights(ours.last).values(), strict=True):
        assert a.equal(b), name


def test_python_yolo_and_command_line_train_alike(base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {k: v for k, v in short(base).items() if k != "project"}
    settings |= {"epochs": 1, "clusters": 2, "att": 0, "val": False}
    DPoseTrainer(**settings).train()
    YOLO(settings["model"], task="pose").train(trainer=DPoseTrainer, **settings)
    assert run(["train", *(f"{k}={v}" for k, v in settings.items())]) == 0
    names = ["train", "train-2", "train-3"]
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == names
    found = [yaml.safe_load((tmp_path / "runs" / name / "args.yaml").read_text()) for name in names]
    own = ("name", "save_dir", "model", "session")
    assert all({k: v for k, v in one.items() if k not in own} == {k: v for k, v in found[0].items() if k not in own}
               for one in found)  # fmt: skip


def test_studies_train_by_the_recipe(base):
    data = {"data": base["data"], "seeds": 1}
    arms = ablate_plan(data).arms
    assert {a.settings["lr0"] for a in arms} == {section("from_scratch")["lr0"]}
    assert {a.settings["epochs"] for a in arms} == {default_epochs(24, "from_scratch")}
    rates = [a.settings["lr0"] for a in sweep_plan({**data, "model": "dpose-125.yaml,start.pt", "epochs": 1}).arms]
    assert rates == [section("from_scratch")["lr0"], section("pretrained")["lr0"]]
    plain = ablate_plan({**data, "cfg": "ultralytics", "epochs": 3}).arms[0].settings
    assert "lr0" not in plain and plain["recipe"] == "ultralytics"
