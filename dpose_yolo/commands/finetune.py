"""`dpose finetune`: a trained model for a new cabin, and what it gained and lost."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from dpose_yolo.commands.common import absolute_project
from dpose_yolo.commands.usage import require, whole
from dpose_yolo.errors import DPoseError
from dpose_yolo.settings import load_cfg

if TYPE_CHECKING:
    from dpose_yolo.engine.finetune import FineTuneTrainer
    from dpose_yolo.evaluation.data import EvaluationPart

MEASURE = ("split", "bootstrap")  # settings of the measurement, which the training does not take
PARTS = ("val", "test")


def main(settings: dict[str, Any]) -> None:
    """Fine-tune, measure before and after, and say whether the result should be shipped."""
    if os.environ.get("RANK", "-1") != "-1":  # the table is measured by the engine's validation, in one process
        raise DPoseError("dpose finetune cannot be started by torchrun: its few images fit one machine; set device=0,1")
    cfg = settings.pop("cfg", None)
    settings = {**(load_cfg(cfg) if cfg else {}), **settings}
    split = settings.pop("split", None)
    if split not in (None, *PARTS):
        raise DPoseError(f"split={split} is not allowed: split takes {' or '.join(PARTS)}, test if the data has one")
    bootstrap = whole(settings, "bootstrap", 1000) if settings.get("bootstrap") not in (0, False) else 0
    settings.pop("bootstrap", None)
    if not settings.get("resume"):
        require(settings, "model", "finetune")
        require(settings, "data", "finetune")
        settings = absolute_project(settings)
        settings.setdefault("name", "finetune")
    from dpose_yolo.engine.finetune import FineTuneTrainer

    trainer = FineTuneTrainer(**settings)
    parts = evaluation_parts(trainer, split)  # before the training: what cannot be measured on costs no time
    begun = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - begun
    written = report(trainer, parts, bootstrap, seconds)
    files = ["weights/best.pt", *written, "args.yaml", "postures.npz", "posture_draws.csv", "replay_draws.csv"]
    print(f"\nResults in {trainer.save_dir}: {', '.join(f for f in files if (trainer.save_dir / f).exists())}")


def evaluation_parts(trainer: FineTuneTrainer, split: str | None = None) -> dict[str, EvaluationPart]:
    """The parts to measure on: of the new data and, where there is one, of the old.

    Args:
        trainer: of the fine-tuning.
        split: which part; None for test where the data has one, else val.
    """
    from dpose_yolo.engine.finetune import judged_split
    from dpose_yolo.evaluation.data import load_part

    files = {"new": str(trainer.args.data), "old": trainer.dpose["old"] or trainer.dpose["replay"]}
    skip, outside = trainer.dpose["skip_bad"], trainer.dpose["outside"]
    return {
        title: load_part(file, split or judged_split(file, outside), skip_bad=skip, outside=outside)
        for title, file in files.items()
        if file
    }


def report(trainer: FineTuneTrainer, parts: dict[str, EvaluationPart], bootstrap: int, seconds: float) -> list[str]:
    """Measure before and after on all parts, write and print it; names of the files."""
    from dpose_yolo.engine.averaging import averaging_of
    from dpose_yolo.evaluation.change import measure_change, posture_groups
    from dpose_yolo.evaluation.evaluate import jsonable
    from dpose_yolo.finetune.verdict import verdict
    from dpose_yolo.report.finetune import print_finetune, save_finetune

    start, tuned = trainer.dpose["start"], trainer.best if trainer.best.exists() else trainer.last
    engine = {k: getattr(trainer.args, k) for k in ("imgsz", "batch", "device", "workers")}
    changes, notes = {}, []
    for title, part in parts.items():
        # The tail of the new data is that of the run, as `dpose val` of its model takes it; the old data's that of the
        # starting model.
        clusters = posture_groups(part, "auto", tuned if title == "new" else start, trainer.args.seed)
        changes[title] = measure_change(title, (start, tuned), part, clusters, bootstrap, trainer.args.seed, **engine)
        notes.append(f"{title}: {part.split} part of {part.data_file}, {len(part.truth.files)} images")
        if clusters:
            notes.append(f"{title}, tail: the third of postures that training shows least, {clusters.told}")
    averaging = averaging_of(tuned)  # of the file: with several GPUs, another process has made it
    if averaging is not None:
        notes.append(averaging.sentence())
    change = getattr(trainer.draws, "change", None)
    if change is not None:
        notes.append(change.sentence("the new data"))
    old = changes["old"].differences["AP"] if "old" in changes else None
    advice = verdict(changes["new"].differences["AP"], old, trainer.dpose["max_drop"])
    result = {
        "start": start,
        "model": str(tuned),
        "seconds": round(seconds, 1),
        "settings": {k: v for k, v in sorted(vars(trainer.args).items())},
        "postures": change and {"lacking": change.lacking, "new": change.new, "foreign_share": change.share},
        "rows": [row for one in changes.values() for row in one.rows()],
        "notes": notes,
        "advice": {"ship": advice.ship, "sentence": advice.sentence},
    }
    result = jsonable(result)
    written = save_finetune(result, trainer.save_dir)
    print_finetune(result)
    return written
