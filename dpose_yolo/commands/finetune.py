"""`dpose finetune`: a trained model for a new cabin, and what it gained and lost."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpose_yolo.commands.usage import require, whole
from dpose_yolo.errors import DPoseError
from dpose_yolo.settings import load_cfg

if TYPE_CHECKING:
    from dpose_yolo.engine.finetune import FineTuneTrainer
    from dpose_yolo.engine.resume import TrainedRun
    from dpose_yolo.evaluation.data import EvaluationPart

MEASURE = ("split", "bootstrap")  # settings of the measurement, which the training does not take
PARTS = ("val", "test")
MACHINE = ("device", "batch", "workers")  # settings of the validation, which may change before a table is made


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
    from dpose_yolo.engine import checks
    from dpose_yolo.engine.given import with_run_folder

    settings = checks.run_to_resume(with_run_folder(settings, "finetune"))
    done = only_table_missing(settings) if settings.get("resume") else None
    run, written = make_table(done, split, bootstrap) if done else train(settings, split, bootstrap)
    files = ["weights/best.pt", *written, "args.yaml", "postures.npz", "posture_draws.csv", "replay_draws.csv"]
    print(f"\nResults in {run.save_dir}: {', '.join(f for f in files if (run.save_dir / f).exists())}")


def train(
    settings: dict[str, Any], split: str | None, bootstrap: int
) -> tuple[FineTuneTrainer | TrainedRun, list[str]]:
    """Fine-tune and make the table; the trainer and the names of the files."""
    from ultralytics.utils import LOGGER

    from dpose_yolo.engine.files import holding
    from dpose_yolo.engine.finetune import FineTuneTrainer

    trainer = FineTuneTrainer(**settings)
    try:
        parts = evaluation_parts(trainer, split)  # before the training: what cannot be measured on costs no time
    except BaseException:
        trainer.leave_nothing()
        raise
    begun = time.monotonic()
    trainer.train()
    seconds = round(time.monotonic() - begun, 1)
    try:
        with holding(trainer.save_dir):
            return trainer, report(trainer, parts, bootstrap, seconds)
    except KeyboardInterrupt:
        LOGGER.warning(f"Stopped after the training; dpose finetune resume={trainer.last} makes the table")
        raise
    except DPoseError as error:
        line = f"{error}; the training is done: dpose finetune resume={trainer.last} makes the table"
        raise DPoseError(line) from error


def only_table_missing(settings: dict[str, Any]) -> TrainedRun | None:
    """The run to go on with if it was ended after its training and before its table was written; else None."""
    from dpose_yolo.engine.finetune import FILES
    from dpose_yolo.engine.resume import trained_run
    from dpose_yolo.engine.run_files import with_whole_paths
    from dpose_yolo.report import finetune as written

    run = trained_run(Path(str(settings["resume"])))
    if run is None or (run.save_dir / written.FILES[-1]).exists():  # the last to be written
        return None
    for name in MACHINE:
        setattr(run.args, name, settings.get(name, getattr(run.args, name)))
    moved = with_whole_paths({k: v for k, v in settings.items() if v}, ("data", *FILES))
    run.args.data = moved.get("data", run.args.data)
    run.dpose.update({name: str(moved[name]) for name in FILES if name in moved})
    run.dpose["outside"] |= bool(settings.get("outside"))
    return run


def make_table(run: TrainedRun, split: str | None, bootstrap: int) -> tuple[FineTuneTrainer | TrainedRun, list[str]]:
    """Make the table of a run whose training is done; the run and the names of the files."""
    from ultralytics.utils import LOGGER

    from dpose_yolo.engine.files import holding, sweep_finished

    with holding(run.save_dir):
        sweep_finished(run.save_dir)
        LOGGER.info(f"The training in {run.save_dir} is done: only its table is missing")
        return run, report(run, evaluation_parts(run, split), bootstrap, None)


def evaluation_parts(trainer: FineTuneTrainer | TrainedRun, split: str | None = None) -> dict[str, EvaluationPart]:
    """The parts to measure on: of the new data and, where there is one, of the old.

    Args:
        trainer: of the fine-tuning, or what its folder tells.
        split: which part; None for test where the data has one, else val.
    """
    from dpose_yolo.engine.memory import is_carried
    from dpose_yolo.engine.same_labels import judged_split
    from dpose_yolo.evaluation.data import load_part

    replayed = trainer.dpose["replay"]
    old = trainer.dpose["old"] or ("" if is_carried(replayed) else replayed)  # carried images were trained on
    files = {"new": str(trainer.args.data), "old": old}
    skip, outside = trainer.dpose["skip_bad"], trainer.dpose["outside"]
    return {
        title: load_part(file, split or judged_split(file, outside), skip_bad=skip, outside=outside)
        for title, file in files.items()
        if file
    }


def report(
    trainer: FineTuneTrainer | TrainedRun, parts: dict[str, EvaluationPart], bootstrap: int, seconds: float | None
) -> list[str]:
    """Measure before and after on all parts, write and print it; names of the files.

    What the training has found is read from its checkpoint: with several GPUs, or after a break, another process has
    found it.

    Args:
        trainer: of the fine-tuning, or what its folder tells.
        parts: to measure on.
        bootstrap: replicates behind the intervals.
        seconds: that the training took, None where nobody knows.
    """
    from dpose_yolo.engine.averaging import averaging_of
    from dpose_yolo.engine.finetune import change_of
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
    averaging, change = averaging_of(tuned), change_of(tuned)
    if averaging is not None:
        notes.append(averaging.sentence())
    if change is not None:
        notes.append(change["sentence"])
    old = changes["old"].differences["AP"] if "old" in changes else None
    advice = verdict(changes["new"].differences["AP"], old, trainer.dpose["max_drop"])
    result = {
        "start": start,
        "model": str(tuned),
        "seconds": seconds,
        "settings": {k: v for k, v in sorted(vars(trainer.args).items())},
        "postures": change and {name: change[name] for name in ("lacking", "new", "foreign_share")},
        "rows": [row for one in changes.values() for row in one.rows()],
        "notes": notes,
        "advice": {"ship": advice.ship, "sentence": advice.sentence},
    }
    result = jsonable(result)
    written = save_finetune(result, trainer.save_dir)
    print_finetune(result)
    return written
