"""What fine-tuning gains on a new cabin and loses on the old one, by number of new images (docs/finetune.md).

    python benchmarks/finetune.py new=statefarm_pose/data.yaml old=cabin/data.yaml model=cabin.pt imgsz=160

Arms, each with the same number of images through the network as `replay` has:

    engine   the engine's own training from the model, its default settings, new images only
    recipe   `dpose finetune` without old data or anything against forgetting (keep=0 norms=trained start_share=0)
    keep     `dpose finetune` without old data
    recall   `dpose finetune` without old data, from a model that carries some of their images (memory=)
    replay   `dpose finetune` with the old data
    scratch  `dpose train` on the new images from nothing

Settings: images=20,50,200,1000,all arms=... seeds=1 (seeds=[1]: that one alone) threads=2 project=runs/bench-finetune;
others are every training's.
The first images of one shuffled list are taken: larger sets hold the smaller ones. Without model= one is trained
on the old data (start_epochs=40, memory=1000). Every finished arm is a line of results.csv and is not run again;
table.md is written after each. Several commands may fill one folder at a time, each with model= and its own images= or
arms=.
"""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from dpose_yolo.cli import parse_arguments
from dpose_yolo.errors import DPoseError
from dpose_yolo.settings import specification
from dpose_yolo.study.plan import seed_list

ARMS = ("engine", "recipe", "keep", "recall", "replay", "scratch")
OWN = ("new", "old", "model", "images", "arms", "seeds", "threads", "project", "start_epochs", "job")
COLUMNS = (
    "seed", "images", "arm", "new_AP", "new_low", "new_high", "new_tail", "old_AP", "old_change", "old_low", "old_high",
    "old_tail", "minutes", "draws",
)  # fmt: skip


def subset(card: str, count: int | str, seed: int, folder: Path) -> tuple[Path, int]:
    """A data card with the first `count` training images of a shuffled list; and how many there are."""
    from dpose_yolo.engine.labels import load_labels
    from dpose_yolo.engine.same_labels import read_data

    files = sorted(label["im_file"] for label in load_labels(card, "train", skip_bad=True, outside=True)[0])
    random.Random(seed).shuffle(files)
    chosen = files if count == "all" else files[: int(count)]
    if count != "all" and len(chosen) < int(count):
        raise DPoseError(f"{card} has {len(files)} training images: ask for fewer than {count}")
    data = read_data(card, outside=True)
    content = yaml.safe_load(Path(card).read_text(encoding="utf-8"))
    content.pop("path", None)
    content |= {k: data[k] for k in ("val", "test") if data.get(k)}
    listed = folder / f"train-{count}-s{seed}.txt"
    listed.write_text("\n".join(sorted(chosen)) + "\n", encoding="utf-8")
    path = folder / f"data-{count}-s{seed}.yaml"
    path.write_text(yaml.safe_dump({**content, "train": str(listed)}, sort_keys=False), encoding="utf-8")
    return path, len(chosen)


def drawn(count: int, settings: dict[str, Any], start_ap: float | None) -> int:
    """Images through the network with replay, which follow from the start's AP: what every arm gets."""
    from dpose_yolo.finetune.rules import BATCH, epoch_batches, recipe, replay_share
    from dpose_yolo.posture.replay import old_in_batch

    batch = int(settings.get("batch", BATCH))
    rules = {**recipe(count, {**settings, "replay": "old"}, start_ap), **settings}
    new = batch - old_in_batch(batch, replay_share(settings))
    return int(rules["epochs"]) * epoch_batches(count, new) * batch


def for_training(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without those that only a fine-tuning knows."""
    return {k: v for k, v in settings.items() if k not in specification("finetune") or k in specification()}


def train(arm: str, data: Path, count: int, job: dict[str, Any]) -> tuple[Path, float, int]:
    """Train one arm: checkpoint, minutes and images through the network."""
    from ultralytics.models.yolo.pose import PoseTrainer

    from dpose_yolo import DPoseTrainer
    from dpose_yolo.engine.finetune import FineTuneTrainer, measured_start
    from dpose_yolo.finetune.rules import BATCH, epoch_batches, recipe

    common = {
        "batch": BATCH, "verbose": False, "plots": False, "val": False, **job["settings"], "data": str(data),
        "project": job["folder"], "name": f"{arm}-{job['images']}-s{job['seed']}", "exist_ok": True,
        "seed": job["seed"], "outside": True,  # the list of images lies in the benchmark's folder
    }  # fmt: skip
    start_ap = None if "epochs" in common else measured_start(job["model"], common)
    draws = drawn(count, job["settings"], start_ap)
    plain = max(1, round(draws / count))  # epochs where each is one pass over the new images
    size = min(common["batch"], count)
    tuned = max(1, round(draws / (epoch_batches(count, size) * size)))
    # What only one of the trainers knows is left to it.
    dpose = for_training(common)
    engine = {k: v for k, v in common.items() if k not in specification("finetune")}
    trainer: Any
    if arm == "replay":
        trainer = FineTuneTrainer(model=job["model"], replay=job["old"], **common)
    elif arm == "keep":
        trainer = FineTuneTrainer(model=job["model"], **{**common, "epochs": tuned, "recall": False})
    elif arm == "recall":
        trainer = FineTuneTrainer(model=job["model"], **common)
    elif arm == "recipe":
        trainer = FineTuneTrainer(
            model=job["model"],
            **{**common, "epochs": tuned, "keep": 0.0, "norms": "trained", "start_share": 0.0, "recall": False},
        )
    elif arm == "engine":
        trainer = PoseTrainer(overrides={**engine, "model": job["model"], "epochs": plain})
    else:
        own = ("epochs", "warmup_epochs", "att", "balance_end")
        plainly = {"optimizer": "AdamW", **common}  # its rules are for a start; from nothing it is as dpose train
        rules = {k: v for k, v in for_training(recipe(count, plainly)).items() if k not in own}
        # The published figures are from before `cfg/recipe.yaml`; so is the start below.
        rules |= {"recipe": "ultralytics", "model": "dpose-125.yaml", "mosaic": 0}
        trainer = DPoseTrainer(**{**rules, **dpose, "epochs": plain})
    begun = time.monotonic()
    trainer.train()
    return trainer.best if trainer.best.exists() else trainer.last, (time.monotonic() - begun) / 60, draws


def one(job: dict[str, Any]) -> None:
    """Run one arm and add its line to results.csv."""
    from dpose_yolo.engine.same_labels import judged_split
    from dpose_yolo.evaluation.change import measure_change, posture_groups
    from dpose_yolo.evaluation.data import load_part

    folder = Path(job["folder"])
    data, count = subset(job["new"], job["images"], job["seed"], folder)
    checkpoint, minutes, draws = train(job["arm"], data, count, job)
    row: dict[str, Any] = {k: job[k] for k in ("seed", "images", "arm")} | {"minutes": minutes, "draws": draws}
    engine = {k: v for k, v in job["settings"].items() if k in ("imgsz", "batch", "device")}
    for title, card in (("new", job["new"]), ("old", job["old"])):
        part = load_part(card, judged_split(card, outside=True), skip_bad=True, outside=True)
        groups = posture_groups(part, "train", None, 0)  # of all training images: the same tail for every arm
        found = measure_change(title, (job["model"], checkpoint), part, groups, 1000, 0, **engine)
        metrics, change = found.after.metrics, found.differences["AP"]
        row |= {f"{title}_AP": metrics["AP"], f"{title}_tail": metrics["clusters"] and metrics["clusters"]["tail"]}
        if title == "new":
            row |= dict(zip(("new_low", "new_high"), metrics["intervals"]["AP"], strict=True))
        else:
            row |= {"old_change": change.mean, "old_low": change.low, "old_high": change.high}
    path = folder / "results.csv"
    fresh = not path.exists()
    line = [f"{row[c]:.4f}" if isinstance(row[c], float) else row[c] for c in COLUMNS]
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, line] if fresh else [line])


def finished(folder: Path) -> list[dict[str, str]]:
    """Lines of results.csv; one that was cut short is left out."""
    path = folder / "results.csv"
    rows = list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []
    return [row for row in rows if all(row.get(c) for c in COLUMNS if "tail" not in c)]


def table(folder: Path) -> str:
    """Means over seeds as Markdown."""
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in finished(folder):
        groups.setdefault((row["images"], row["arm"]), []).append(row)

    def mean(rows: list[dict[str, str]], column: str, form: str = ".3f") -> str:
        return format(sum(float(r[column]) for r in rows) / len(rows), form)

    lines = ["| new images | arm | seeds | new AP | old AP | change of old AP | minutes | images drawn |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|")
    for (images, arm), rows in groups.items():
        cells = [
            mean(rows, "new_AP"),
            mean(rows, "old_AP"),
            mean(rows, "old_change", "+.3f"),
            mean(rows, "minutes", ".1f"),
        ]
        lines.append(f"| {images} | {arm} | {len(rows)} | {' | '.join(cells)} | {rows[0]['draws']} |")
    return "\n".join(lines) + "\n"


def carries_images(model: str) -> bool:
    """Whether a checkpoint carries images of its training."""
    from dpose_yolo.engine.explain import load_pose_model
    from dpose_yolo.engine.memory import carried_images

    return carried_images(load_pose_model(model)) > 0


def start_model(given: dict[str, Any], folder: Path, settings: dict[str, Any]) -> str:
    """The model to start from: the given one, or one trained on the old data here."""
    if "model" in given:
        return str(Path(str(given["model"])).resolve())
    path = folder / "start" / "weights" / "last.pt"
    from dpose_yolo.engine.checkpoints import read_checkpoint, unfinished

    if not path.exists() or unfinished(read_checkpoint(path)):  # none yet, or of a training to go on with
        words = {"recipe": "ultralytics", "model": "dpose-125.yaml", "mosaic": 0}
        words |= {"memory": 1000, "val": False, "plots": False}
        words |= {k: v for k, v in for_training(settings).items() if k != "epochs"}  # that of the arms
        words |= {"data": given["old"], "epochs": given.get("start_epochs", 40)}
        words |= {"project": folder, "name": "start", "resume": True}
        subprocess.run(
            [sys.executable, "-m", "dpose_yolo", "train", *(f"{k}={v}" for k, v in words.items())], check=True
        )
    return str(path)


def main(words: list[str]) -> None:
    """Run what is not finished, and write the table after each arm."""
    given = parse_arguments(words)
    if "job" in given:
        one(json.loads(Path(str(given["job"])).read_text(encoding="utf-8")))
        return
    for name in ("new", "old"):
        if name not in given:
            raise DPoseError(f"benchmarks/finetune.py needs {name}=: the data YAML of the {name} cabin")
    folder = Path(str(given.get("project", "runs/bench-finetune"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"device": "cpu", "imgsz": 160, **{k: v for k, v in given.items() if k not in OWN}}
    sizes = str(given.get("images", "20,50,200,1000,all")).strip("[]").split(",")
    arms = str(given.get("arms", ",".join(ARMS))).strip("[]").split(",")
    if set(arms) - set(ARMS):
        raise DPoseError(f"arms={','.join(arms)}: arms are {', '.join(ARMS)}")
    model = start_model(given, folder, settings)
    if "recall" in arms and not carries_images(model):
        if "arms" in given:
            raise DPoseError(f"{model} carries no images: train it with memory=1000, or leave out arms=recall")
        print(f"arm recall is left out: {model} carries no images (memory=)")
        arms.remove("recall")
    jobs = [(s, n.strip(), a) for s in seed_list(given.get("seeds", 1)) for n in sizes for a in arms]
    for seed, images, arm in jobs:
        if any((r["seed"], r["images"], r["arm"]) == (str(seed), images, arm) for r in finished(folder)):
            continue
        job = {
            "seed": seed, "images": images, "arm": arm, "model": model, "folder": str(folder), "settings": settings,
            "threads": int(given.get("threads", 2)), **{k: str(Path(str(given[k])).resolve()) for k in ("new", "old")},
        }  # fmt: skip
        path = folder / f"{arm}-{images}-s{seed}.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        environment = {**os.environ, "OMP_NUM_THREADS": str(job["threads"])}
        subprocess.run([sys.executable, __file__, f"job={path}"], check=True, env=environment)
        (folder / "table.md").write_text(table(folder), encoding="utf-8")
        print(table(folder), flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DPoseError as error:
        sys.exit(f"error: {error}")
