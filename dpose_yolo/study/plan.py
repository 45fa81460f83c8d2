"""Which arms a study has: from the settings of `dpose ablate` and `dpose sweep` to those of each training."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dpose_yolo.cli import parse_value
from dpose_yolo.errors import DPoseError
from dpose_yolo.recipe import recipe
from dpose_yolo.settings import load_cfg, model_file, resolve, specification

# What switches each part off: the two of the paper, and the keypoint losses that came later.
NO_BALANCE, NO_ATTENTION, NO_LOSSES = {"balance": 0.0}, {"att": 0.0}, {"kpt_far": 0.0, "pose_score": 0.0}
ENGINE = {**NO_BALANCE, **NO_ATTENTION, **NO_LOSSES}
# The arms of the paper's Table 1, and those that ask what the later losses add: folder name, name in tables, what they
# change.
ABLATION: dict[str, tuple[str, dict[str, Any]]] = {
    "baseline": ("baseline", ENGINE),
    "balance": ("+ balance", {**NO_ATTENTION, **NO_LOSSES}),
    "attention": ("+ attention", {**NO_BALANCE, **NO_LOSSES}),
    "both": ("both", NO_LOSSES),
    "losses": ("+ losses", {**NO_BALANCE, **NO_ATTENTION}),
    "all": ("all", {}),
}
LATER = ("losses", "all")
# Settings of an evaluation with their defaults; `split` is found from the data, `weights` is the checkpoint.
EVALUATION: dict[str, Any] = {
    "split": None,
    "weights": "last",
    "oks_area": 0.53,
    "bootstrap": 1000,
    "names": None,
    "attention": False,
    "cam_limit": 200,
}
# A study decides these itself.
DECIDED = {
    "seed": "a study runs several: set seeds=3, or seeds=[7] for that one",
    "resume": "a study goes on by itself when the same command is run again",
    "exist_ok": "a study goes on in its folder when the same command is run again",
    "save": "a study needs the checkpoints",
    "time": "it would give every arm another number of epochs; set epochs",
    "mode": "a study trains and evaluates",
    "task": "a study is of pose models",
}
# Never values of a sweep: they say where a training runs or what a study is about, not how it trains.
NOT_SWEPT = ("data", "device", "cfg")


@dataclass(frozen=True)
class Arm:
    """One line of the table: a training recipe, run once a seed.

    Attributes:
        name: of its folders.
        label: in tables and plots.
        values: what tells it from the other arms.
        settings: of the training, complete but for the seed; DPOSE's own with their defaults filled in.
    """

    name: str
    label: str
    values: dict[str, Any]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """A whole study.

    Attributes:
        kind: ablate or sweep.
        arms: in the order of the table.
        seeds: of every arm.
        reference: name of the arm that the others are compared with.
        swept: values of each swept setting, in order.
        evaluation: settings of the evaluation, see `EVALUATION`.
    """

    kind: str
    arms: list[Arm]
    seeds: list[int]
    reference: str
    swept: dict[str, list[Any]]
    evaluation: dict[str, Any]


def arm_names(chosen: Any, known: Iterable[str]) -> list[str]:
    """Arms as a list or as text with commas.

    Raises:
        DPoseError: for one that is not among the known, or named twice.
    """
    names = chosen if isinstance(chosen, list) else [c.strip() for c in str(chosen).split(",")]
    for name in names:
        if name not in known:
            raise DPoseError(f"arms has no {name!r}: the arms are {', '.join(known)}")
    if len(set(names)) < len(names):
        raise DPoseError(f"arms={','.join(names)} names one twice")
    return names


def ablate_plan(settings: Mapping[str, Any]) -> Plan:
    """The paper's Table 1: without both parts, with each of them, with both; and the same for the keypoint losses.

    Args:
        settings: of the user: training settings, `seeds`, `arms` (some of `ABLATION`), `reference`, and `EVALUATION`.

    Raises:
        DPoseError: for settings that cannot be used, or that leave two arms the same.
    """
    given, seeds, evaluation = _common(settings, "ablate")
    own = resolve({k: v for k, v in given.items() if k in specification()})
    given.update({name: own[name] for name in NO_LOSSES})  # what `auto` is with both parts on
    with_losses = any(own[name] > 0 for name in NO_LOSSES)
    possible = [name for name in ABLATION if with_losses or name not in LATER]
    chosen = arm_names(given.pop("arms", possible), possible)
    reference = str(given.pop("reference", chosen[0]))
    for name in (*NO_BALANCE, *NO_ATTENTION):
        if own[name] == 0:
            raise DPoseError(f"{name}=0 leaves nothing to take away: dpose ablate switches parts off itself")
    arms = [Arm(name, ABLATION[name][0], ABLATION[name][1], complete(given, ABLATION[name][1])) for name in chosen]
    return Plan("ablate", arms, seeds, _reference(arms, reference), {}, evaluation)


def sweep_plan(settings: Mapping[str, Any]) -> Plan:
    """The paper's Table 2 and its like: every combination of the settings that are given several values.

    Args:
        settings: of the user: training settings, of which some are lists or text with commas, `seeds`, `baseline`
            (add an arm that is the engine alone), `reference`, and `EVALUATION`.

    Raises:
        DPoseError: for settings that cannot be used, and where nothing has several values.
    """
    given, seeds, evaluation = _common(settings, "sweep")
    baseline = flag(given.pop("baseline", False), "baseline")
    reference = given.pop("reference", None)
    several = {k: values_of(v) for k, v in given.items() if k not in NOT_SWEPT}
    given.update({k: v[0] for k, v in several.items() if len(v) == 1})
    distinct = {k: _distinct(k, v) for k, v in several.items() if len(v) > 1}
    given.update({k: v[0] for k, v in distinct.items() if len(v) == 1})
    swept = {k: v for k, v in distinct.items() if len(v) > 1}
    if not swept:
        raise DPoseError("dpose sweep needs a setting with several values, e.g. clusters=8,16 or balance=0,0.5,1")
    arms = []
    for values in itertools.product(*swept.values()):
        changed = dict(zip(swept, values, strict=True))
        name = "_".join(f"{k}-{slug(v)}" for k, v in changed.items())
        label = ", ".join(f"{k}={show(v)}" for k, v in changed.items())
        arms.append(Arm(name, label, changed, complete(given, changed)))
    if baseline:
        first = {k: v[0] for k, v in swept.items()}
        arms.insert(0, Arm("baseline", "baseline", ENGINE, complete(given, {**first, **ENGINE})))
    names = [arm.name for arm in arms]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice:
        raise DPoseError(f"two arms would have the same folder {twice}: give values that differ in letters or digits")
    reference = _reference(arms, arms[0].name if reference is None else show(reference))
    return Plan("sweep", arms, seeds, reference, swept, evaluation)


def values_of(value: Any) -> list[Any]:
    """The values of a setting: those of a list or of text with commas, otherwise the one.

    A value that is a list itself stands in a list: `[[4,6]]` is the one value [4, 6], `auto,[4,6]` are two.
    """
    if isinstance(value, list | tuple):
        return [parse_value(v) if isinstance(v, str) else v for v in value]
    if not isinstance(value, str) or "," not in value or Path(value).exists():
        return [value]
    try:
        parts = yaml.safe_load(f"[{value}]")
    except yaml.YAMLError:
        parts = value.split(",")
    # YAML reads 1e-3 as text; the command line does not.
    return [parse_value(p.strip()) if isinstance(p, str) and p.strip() else p for p in parts]


def slug(value: Any) -> str:
    """A value as part of a folder name."""
    text = show(value)
    text = Path(text).stem if text.endswith((".yaml", ".yml", ".pt")) else text
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text).strip("-.") or "none"


def show(value: Any) -> str:
    """A value as the command line takes it, numbers without idle zeros."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return f"[{','.join(show(v) for v in value)}]"
    return str(value)


def seed_list(value: Any) -> list[int]:
    """`seeds=3` is 0, 1, 2; `seeds=[3,4]` or `seeds=3,4` are these.

    Raises:
        DPoseError: for anything else.
    """
    wrong = DPoseError(f"seeds={value} is neither a number of seeds from 1 nor a list of them, e.g. seeds=[3,4,5]")
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= 1000:
            raise wrong
        return list(range(value))
    seeds = values_of(value)
    whole = all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds) or (len(seeds) == 1 and isinstance(value, str)):
        raise wrong
    return seeds


def evaluation_part(data: str) -> str:
    """The part that is evaluated unless told: `test` where a data YAML has one, otherwise `val`."""
    try:
        card = yaml.safe_load(Path(data).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return "val"  # the check of the data file says what is wrong with it
    return "test" if isinstance(card, dict) and card.get("test") else "val"


def _common(settings: Mapping[str, Any], command: str) -> tuple[dict[str, Any], list[int], dict[str, Any]]:
    """Settings of the trainings (a `cfg` among them unfolded), seeds, settings of the evaluation."""
    given = dict(settings)
    cfg = given.pop("cfg", None)
    given = {**(load_cfg(cfg) if cfg else {}), **given}
    for name, why in DECIDED.items():
        if name in given:
            raise DPoseError(f"dpose {command} does not take {name}: {why}")
    if not given.get("data"):
        raise DPoseError(f"dpose {command} needs data=: the data YAML to train and evaluate on")
    evaluation = {k: given.pop(k, default) for k, default in EVALUATION.items()}
    evaluation["split"] = str(evaluation["split"] or evaluation_part(str(given["data"])))
    if evaluation["weights"] not in ("last", "best"):
        raise DPoseError(f"weights={evaluation['weights']} must be last or best: which checkpoint is evaluated")
    evaluation["attention"] = flag(evaluation["attention"], "attention")
    if evaluation["names"]:
        evaluation["names"] = str(Path(str(evaluation["names"])).resolve())
    best = evaluation["weights"] == "best"
    if best and given.get("val") is False:
        raise DPoseError("weights=best is chosen on the validation part: leave val=False out, or set weights=last")
    # A data YAML and models of the user's are found from anywhere then.
    given["data"] = str(Path(str(given["data"])).resolve())
    defaults = {"model": "dpose-125.yaml", "imgsz": 640, "val": best, "plots": False}
    seeds = seed_list(given.pop("seeds", 3))
    return {**defaults, **given}, seeds, evaluation


def complete(given: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an arm's training: what the user gave, what the arm changes, the recipe, DPOSE's defaults."""
    settings = {**given, **changed}
    images = None
    if settings.get("epochs") is None and Path(settings["data"]).exists():  # else the check of the data file says it
        from dpose_yolo.engine.checks import require_data

        images = require_data(settings["data"], ["train"], bool(settings.get("outside")))["train"]
    settings = {**settings, **recipe(settings, images)}
    settings.setdefault("epochs", 100)  # Ultralytics' default
    model = settings["model"]
    if isinstance(model, str) and model_file(model) is None and Path(model).exists():
        settings["model"] = str(Path(model).resolve())
    own = resolve({k: v for k, v in settings.items() if k in specification()})
    return {**settings, **own}


def _reference(arms: list[Arm], wanted: str) -> str:
    """Name of the arm called `wanted` by name, label, or by the value of the only swept setting.

    Raises:
        DPoseError: when there is none, or more than one.
    """
    plain = wanted.replace(" ", "")
    found = [a.name for a in arms if plain in (a.name, a.label.replace(" ", ""))]
    found = found or [a.name for a in arms if [show(v) for v in a.values.values()] == [plain]]
    if len(found) != 1:
        raise DPoseError(f"reference={wanted} is no arm of this study: it has {', '.join(a.name for a in arms)}")
    return found[0]


def _distinct(name: str, values: Iterable[Any]) -> list[Any]:
    """Values of a swept setting, each once, DPOSE's own in their plain type."""
    own = specification().get(name)
    distinct: list[Any] = []
    for value in values:
        checked = own.check(value) if own else value
        if checked not in distinct:
            distinct.append(checked)
    return distinct


def flag(value: Any, name: str) -> bool:
    """A setting that is True or False.

    Raises:
        DPoseError: for anything else.
    """
    if not isinstance(value, bool):
        raise DPoseError(f"{name}={value} must be True or False")
    return value
