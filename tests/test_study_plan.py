"""Which arms a study has, and which settings it refuses."""

from __future__ import annotations

import json

import pytest
from study_cases import ablation

from dpose_yolo.cli import parse_arguments, run
from dpose_yolo.errors import DPoseError
from dpose_yolo.settings import defaults
from dpose_yolo.study.plan import seed_list, sweep_plan, values_of
from dpose_yolo.study.state import (
    changed_setting,
    epochs_done,
    locked,
    run_record,
    training_seconds,
)

OFF = {"kpt_far": 0, "pose_score": 0}


def test_ablation_has_the_four_arms_of_table_1():
    plan = ablation(balance=0.5, att=2, epochs=7, seeds=2, **OFF)
    shown = [(a.name, a.label, a.settings["balance"], a.settings["att"]) for a in plan.arms]
    assert shown == [
        ("baseline", "baseline", 0, 0),
        ("balance", "+ balance", 0.5, 0),
        ("attention", "+ attention", 0, 2),
        ("both", "both", 0.5, 2),
    ]
    assert plan.reference == "baseline" and plan.seeds == [0, 1]
    rest = [{k: v for k, v in a.settings.items() if k not in ("balance", "att")} for a in plan.arms]
    assert all(r == rest[0] for r in rest) and rest[0]["epochs"] == 7
    # All of DPOSE's settings stand in the record, so that a changed default is noticed later.
    assert set(defaults()) <= set(plan.arms[0].settings)
    assert plan.arms[0].settings["val"] is False and "seeds" not in plan.arms[0].settings


def test_ablation_with_keypoint_losses_has_arms_for_them():
    plan = ablation(balance=0.5, att=2, kpt_far=3, pose_score=0.25)
    names = ("balance", "att", "kpt_far", "pose_score")
    assert {a.name: tuple(a.settings[n] for n in names) for a in plan.arms} == {
        "baseline": (0, 0, 0, 0),
        "balance": (0.5, 0, 0, 0),
        "attention": (0, 2, 0, 0),
        "both": (0.5, 2, 0, 0),
        "losses": (0, 0, 3, 0.25),
        "all": (0.5, 2, 3, 0.25),
    }
    auto = {a.name: tuple(a.settings[n] for n in names[2:]) for a in ablation().arms}
    assert {n for n, v in auto.items() if v == (1, 0.5)} == {"losses", "all"} and auto["both"] == (0, 0)
    with pytest.raises(DPoseError, match="arms has no 'all': the arms are baseline, balance, attention, both"):
        ablation(arms="baseline,all", **OFF)


def test_some_arms_and_another_reference():
    plan = ablation(arms="balance,both", reference="both")
    assert [a.name for a in plan.arms] == ["balance", "both"] and plan.reference == "both"


def test_preset_is_unfolded():
    both = ablation(cfg="paper", epochs=5, arms="both").arms[-1].settings
    assert both["att"] == 5 and both["att_order"] == 2 and both["epochs"] == 5 and both["optimizer"] == "Adam"


def test_sweep_of_words_and_numbers_as_typed():
    plan = sweep_plan(parse_arguments(["data=x.yaml", "clusters=8,16,auto", "seeds=4,9", "att_layers=[[4,6]]"]))
    assert [a.settings["clusters"] for a in plan.arms] == [8, 16, "auto"]
    assert [a.name for a in plan.arms] == ["clusters-8", "clusters-16", "clusters-auto"]
    assert plan.seeds == [4, 9] and plan.reference == "clusters-8" and plan.swept == {"clusters": [8, 16, "auto"]}
    assert all(a.settings["att_layers"] == [4, 6] for a in plan.arms)


def test_sweep_of_a_grid_with_engine_settings_and_lists():
    words = ["data=x.yaml", "lr0=1e-3,0.01", "att_layers=auto,[4,6]", "baseline=True"]
    plan = sweep_plan(parse_arguments(words))
    assert [(a.settings["lr0"], a.settings["att_layers"]) for a in plan.arms] == [
        (0.001, "auto"),
        (0.001, "auto"),
        (0.001, [4, 6]),
        (0.01, "auto"),
        (0.01, [4, 6]),
    ]
    assert [a.name for a in plan.arms][:3] == ["baseline", "lr0-0.001_att_layers-auto", "lr0-0.001_att_layers-4-6"]
    base = plan.arms[0].settings
    assert [base[n] for n in ("balance", "att", "kpt_far", "pose_score")] == [0, 0, 0, 0]
    assert plan.reference == "baseline"


@pytest.mark.parametrize("wanted", ["balance-0.5", "balance=0.5", "0.5", 0.50])
def test_reference_by_name_label_or_value(wanted):
    assert sweep_plan({"data": "x.yaml", "balance": [0, 0.5, 1], "reference": wanted}).reference == "balance-0.5"
    # `reference=1.0` is a number by the time it comes here, and the arm is called balance-1
    assert sweep_plan({"data": "x.yaml", "balance": [0, 1], "reference": 1.0}).reference == "balance-1"


def test_values():
    assert values_of("8,16,auto") == [8, 16, "auto"]
    assert values_of("1e-3,none,True") == [0.001, "none", True]
    assert values_of([[4, 6], 6]) == [[4, 6], 6]
    assert values_of("soft") == ["soft"] and values_of(3) == [3]


def test_seeds():
    assert seed_list(3) == [0, 1, 2] and seed_list([7]) == [7] and seed_list("3,4") == [3, 4]
    for wrong in (0, -1, True, "many", [1, 1], [0.5], []):
        with pytest.raises(DPoseError, match="seeds="):
            seed_list(wrong)


def test_part_is_test_where_the_data_has_one(tmp_path):
    card = tmp_path / "data.yaml"
    for text, part in (("val: v\ntest: t\n", "test"), ("val: v\ntest:\n", "val")):
        card.write_text(text)
        assert ablation(data=str(card), epochs=1).evaluation["split"] == part
    assert ablation(data=str(card), epochs=1, split="train").evaluation["split"] == "train"


WRONG = [
    (["ablate"], "dpose ablate needs data="),
    (["ablate", "data=x.yaml", "seed=1"], "does not take seed: a study runs several"),
    (["ablate", "data=x.yaml", "resume=True"], "goes on by itself"),
    (["ablate", "data=x.yaml", "att=0"], "att=0 leaves nothing to take away"),
    (["ablate", "data=x.yaml", "arms=balance,nothing"], "arms has no 'nothing'"),
    (["ablate", "data=x.yaml", "reference=nothing"], "reference=nothing is no arm"),
    (["ablate", "data=x.yaml", "weights=first"], "weights=first must be last or best"),
    (["ablate", "data=x.yaml", "weights=best", "val=False"], "weights=best is chosen on the validation part"),
    (["ablate", "data=x.yaml", "parallel=0"], "parallel=0 must be a whole number"),
    (["ablate", "data=x.yaml", "clusters=8,16"], "clusters='8,16' is not allowed"),
    (["ablate", "data=x.yaml", "epoch=3"], "unknown setting 'epoch'"),
    (["ablate", "data=missing.yaml"], "no data file"),
    (["ablate", "data=x.yaml", "time=0.1"], "does not take time: it would give every arm another number of epochs"),
    (["ablate", "data=x.yaml", "arms=both,both"], "arms=both,both names one twice"),
    (["ablate", "report=1", "project=missing"], "report=1 must be True or False"),
    (["sweep", "data=x.yaml", "clusters=8,8"], "needs a setting with several values"),
    (["ablate", "report=True", "project=missing"], "no study in"),
    (["sweep", "data=x.yaml"], "needs a setting with several values"),
    (["sweep", "data=x.yaml", "balance=0.5,2"], "balance=2 is not allowed"),
    (["sweep", "data=x.yaml", "balance=0,1", "baseline=2"], "baseline=2 must be True or False"),
    (["sweep", "data=x.yaml", "model=a/m.yaml,b/m.yaml"], "two arms would have the same folder model-m"),
    (["sweep", "data=x.yaml", "lr0=0.1,fast"], "the settings of lr0=fast cannot be used"),
]


@pytest.mark.parametrize(("words", "line"), WRONG, ids=[" ".join(w) for w, _ in WRONG])
def test_wrong_settings_get_one_line_and_write_nothing(words, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DPoseError) as error:
        run(words)
    assert line in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


# State on disk


def test_results_csv_of_a_resumed_run_and_a_line_that_is_being_written(tmp_path):
    csv = tmp_path / "results.csv"
    assert epochs_done(csv) == 0 and training_seconds(csv) == 0
    csv.write_text("epoch,time,train/box_loss\n1,10,0.1\n2,21.5,0.1\n3,9,0.1\n4,20,0.1\n5,3")
    assert epochs_done(csv) == 5
    csv.write_text("epoch,time,train/box_loss\n1,10,0.1\n2,21.5,0.1\n3,9,0.1\n4,20,0.1\n5")
    assert epochs_done(csv) == 4 and training_seconds(csv) == 21.5 + 20


def test_a_changed_setting_is_named(tmp_path):
    arm = ablation(epochs=5).arms[1]
    record = run_record(arm, 0, {})
    assert changed_setting(tmp_path, record) is None
    (tmp_path / "arm.json").write_text(json.dumps(record))
    assert changed_setting(tmp_path, record) is None
    longer = run_record(ablation(epochs=6).arms[1], 0, {})
    assert changed_setting(tmp_path, longer) == "epochs=5, now 6"
    engine = run_record(ablation(epochs=5, lr0=0.1).arms[1], 0, {})
    assert changed_setting(tmp_path, engine) == "lr0=0.004, now 0.1"
    engine = run_record(ablation(epochs=5, mixup=0.1).arms[1], 0, {})
    assert changed_setting(tmp_path, engine) == "no mixup, now 0.1"
    elsewhere = run_record(ablation(epochs=5, device="cpu", workers=0).arms[1], 0, {})
    assert changed_setting(tmp_path, elsewhere) is None
    old = {**record, "train": {k: v for k, v in record["train"].items() if k != "repeat_cap"}}
    (tmp_path / "arm.json").write_text(json.dumps(old))
    assert changed_setting(tmp_path, record) is None  # a setting that the older version did not have


def test_two_commands_do_not_share_a_folder(tmp_path):
    pytest.importorskip("fcntl")
    with locked(tmp_path), pytest.raises(DPoseError, match="another command works on"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
