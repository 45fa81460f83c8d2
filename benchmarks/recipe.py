"""Measure training settings one at a time, with DPOSE on and off alike: how `cfg/recipe.yaml` was chosen.

    python benchmarks/recipe.py data=statefarm_pose/data_longtail.yaml epochs=60 name=recipe-60
    python benchmarks/recipe.py data=statefarm_pose/data_longtail.yaml epochs=60 model=yolo11n-pose.pt \
        levers=base,rate-,rate+ name=recipe-60-start

Every lever changes one thing of `BASE`, named beside it; each is trained with DPOSE at its defaults (`on`) and with
all its parts off (`off`), with the same seeds. The table is of the `val` split, which is what settings are chosen on.
Run again, it trains what is missing; `parallel=2` trains two at a time, each on its share of the cores.
"""

import sys
from typing import Any

from dpose_yolo.cli import parse_arguments
from dpose_yolo.errors import DPoseError
from dpose_yolo.study.command import run_study, study_folder
from dpose_yolo.study.plan import ENGINE, EVALUATION, Arm, Plan, complete, seed_list
from dpose_yolo.study.runner import slots

# The settings of all earlier studies of this project.
BASE: dict[str, Any] = {
    "imgsz": 160, "batch": 16, "nbs": 16, "optimizer": "AdamW", "lr0": 0.002, "lrf": 0.01, "cos_lr": True,
    "warmup_epochs": 3.0, "warmup_bias_lr": 0.0, "weight_decay": 0.0005, "mosaic": 0.0, "fliplr": 0.0, "scale": 0.5,
    "translate": 0.1, "hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4, "degrees": 0.0,
}  # fmt: skip
MACHINE: dict[str, Any] = {"cache": "ram", "device": "cpu", "channels_last": True, "val": False, "plots": False}
ULTRALYTICS: dict[str, Any] = {"nbs": 64, "optimizer": "auto", "lr0": 0.01, "cos_lr": False, "warmup_bias_lr": 0.1}
MOSAIC: dict[str, Any] = {"mosaic": 0.5, "close_mosaic": "10%"}
LEVERS: dict[str, dict[str, Any]] = {
    "base": {},
    "ultralytics": {**ULTRALYTICS, "mosaic": 1.0, "close_mosaic": 10, "fliplr": 0.5},
    "mosaic": MOSAIC,
    "mosaic-to-half": {"mosaic": 0.5, "close_mosaic": "50%"},
    "flip": {"fliplr": 0.5},
    "scale-": {"scale": 0.25},
    "scale+": {"scale": 0.75},
    "translate+": {"translate": 0.2},
    "colour-": {"hsv_h": 0.0, "hsv_s": 0.35, "hsv_v": 0.2},
    "colour+": {"hsv_h": 0.03, "hsv_s": 0.9, "hsv_v": 0.6},
    "rotate": {"degrees": 10.0},
    "nbs": {"nbs": 64},
    "rate--": {"lr0": 0.0005},
    "rate-": {"lr0": 0.001},
    "rate+": {"lr0": 0.004},
    "rate++": {"lr0": 0.008},
    "decay+": {"weight_decay": 0.05},
    "scale-+rate+": {"scale": 0.25, "lr0": 0.004},
    "scale--+rate+": {"scale": 0.1, "lr0": 0.004},
    "scale-+rate+translate-": {"scale": 0.25, "lr0": 0.004, "translate": 0.05},
    "scale-+rate+colour-": {"scale": 0.25, "lr0": 0.004, "hsv_h": 0.0, "hsv_s": 0.35, "hsv_v": 0.2},
    "scale-+rate--": {"scale": 0.25, "lr0": 0.0005},
    "scale-+rate+mosaic": {**MOSAIC, "scale": 0.25, "lr0": 0.004},
}
OWN = ("levers", "dpose", "seeds", "parallel", "project", "name")


def words_of(value: Any) -> list[str]:
    """A list, or text with commas."""
    return [str(v) for v in value] if isinstance(value, list) else str(value).split(",")


def closed(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with `close_mosaic` as a number of epochs where it is a share of them."""
    share = settings.get("close_mosaic")
    if not isinstance(share, str):
        return settings
    return {**settings, "close_mosaic": max(1, round(settings["epochs"] * float(share.rstrip("%")) / 100))}


def recipe_plan(given: dict[str, Any]) -> Plan:
    """The arms: every lever with DPOSE on and off.

    Raises:
        DPoseError: for a lever that is not in the table.
    """
    levers = words_of(given.get("levers") or list(LEVERS))
    unknown = [name for name in levers if name not in LEVERS]
    if unknown:
        raise DPoseError(f"levers={unknown[0]} is not one of {', '.join(LEVERS)}")
    user = {k: v for k, v in given.items() if k not in OWN}
    common = {"model": "dpose-125.yaml", "epochs": 60, **BASE, **MACHINE, **user}
    arms = []
    for lever in levers:
        for state in words_of(given.get("dpose") or "on,off"):
            changed = {**LEVERS[lever], **({} if state == "on" else ENGINE)}
            changed = {k: v for k, v in closed({**common, **changed}).items() if k in changed}
            arms.append(Arm(f"{state}-{lever}", f"{state} {lever}", changed, complete(common, changed)))
    evaluation = {**EVALUATION, "split": "val", "bootstrap": 200}
    return Plan("sweep", arms, seed_list(given.get("seeds", [11])), arms[0].name, {}, evaluation)


if __name__ == "__main__":
    words = parse_arguments(sys.argv[1:])
    if not words.get("data"):
        sys.exit("error: benchmarks/recipe.py needs data= (a data YAML)")
    try:
        sys.exit(run_study(recipe_plan(words), study_folder(words, "recipe"), slots(words.get("parallel"))))
    except DPoseError as error:
        sys.exit(f"error: {error}")
