"""One training of a study and its evaluation: `python -m dpose_yolo.study.arm FOLDER [DEVICE]`.

Started by `runner`, one process each, so that a crash, a kill or a leak stays with the one training. What to do is in
`FOLDER/arm.json`; what is there already is not done again. The process ends with the one that started it: standard
input is a pipe from there.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from dpose_yolo.errors import DPoseError
from dpose_yolo.study.state import read_json, training_seconds, write_json


def main(arguments: list[str]) -> int:
    """Train and evaluate what the folder's record says; the exit status."""
    folder = Path(arguments[0])
    device = arguments[1] if len(arguments) > 1 else None
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        record = read_json(folder / "arm.json")
        if record is None:
            raise DPoseError(f"no {folder / 'arm.json'}: start studies with dpose ablate or dpose sweep")
        if device is not None:
            record["train"]["device"] = device
        train(folder, record)
        evaluate_arm(folder, record)
    except DPoseError as error:
        print(f"dpose: error: {error}", flush=True)
        return 1
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        print(f"dpose: error: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
        return 1
    return 0


def _end_with_parent() -> None:
    """A study that is killed must not leave trainings behind that a second start would meet."""
    while os.read(0, 1024):  # not through sys.stdin, whose lock would trouble the interpreter's own end
        pass
    os._exit(3)


def train(folder: Path, record: dict[str, Any]) -> None:
    """Train from the start, or go on from `last.pt`, or do nothing if the training is over."""
    from dpose_yolo.commands import train as command

    last = folder / "weights" / "last.pt"
    epoch = trained_epochs(last)
    settings = record["train"]
    if epoch is not None and (epoch < 0 or epoch >= settings["epochs"]):
        _strip(folder)
        return
    if epoch is None:
        shutil.rmtree(folder / "weights", ignore_errors=True)
        (folder / "results.csv").unlink(missing_ok=True)
        place = {"project": str(folder.parent), "name": folder.name, "exist_ok": True}
        command.main({**settings, **place})
        return
    print(f"going on after epoch {epoch}", flush=True)
    # Its own record of where it lies may be of another machine, or of before the study was moved.
    again = {"resume": str(last), "save_dir": str(folder.resolve()), "data": settings["data"]}
    # What concerns the machine may have been changed since, for want of memory for one.
    again.update({k: settings[k] for k in ("device", "workers", "cache") if k in settings})
    command.main(again)


def trained_epochs(checkpoint: Path) -> int | None:
    """Epochs behind a checkpoint of the engine: -1 after a complete training, None without a readable one.

    Raises:
        DPoseError: for one that cannot be read though it is whole, and one that holds more than a model.
    """
    if not checkpoint.is_file():
        return None
    from dpose_yolo.engine.checkpoints import DAMAGED, NO_CHECKPOINT, read_checkpoint, why_unreadable

    try:
        epoch = read_checkpoint(checkpoint)["epoch"]
    except KeyError:
        return None
    except DPoseError as error:
        reason = error.__cause__ and why_unreadable(error.__cause__)
        if reason not in (DAMAGED, NO_CHECKPOINT):  # a stranger's; or a disk, or another engine, that does not read it
            raise DPoseError(f"{error}; remove {checkpoint.parent} to train it again") from error
        print(f"{checkpoint} cannot be read ({reason}): starting again", flush=True)
        return None
    return -1 if epoch < 0 else epoch + 1


def _strip(folder: Path) -> None:
    """What the engine does at the end of a training, for one that was broken off between its last epoch and that."""
    from dpose_yolo.engine.files import strip_checkpoint

    for name in ("best.pt", "last.pt"):
        path = folder / "weights" / name
        if (trained_epochs(path) or -1) >= 0:
            strip_checkpoint(path)


def evaluate_arm(folder: Path, record: dict[str, Any]) -> None:
    """Evaluate the trained checkpoint and write `groups.npz`, `matches.npz` and, last, `metrics.json`."""
    from dpose_yolo.evaluation.evaluate import evaluate
    from dpose_yolo.study.groups import ImageGroups

    train_settings, asked = record["train"], record["evaluation"]
    found = evaluate(
        str(folder / "weights" / f"{asked['weights']}.pt"),
        train_settings["data"],
        split=asked["split"],
        names=asked["names"],
        oks_area=asked["oks_area"],
        bootstrap=asked["bootstrap"],
        attention=asked["attention"],
        cam_limit=asked["cam_limit"],
        mixture=str(folder.parent.parent / "postures.npz"),
        skip_bad=train_settings.get("skip_bad", False),
        outside=train_settings.get("outside", False),
        imgsz=train_settings["imgsz"],
        **({"device": train_settings["device"]} if "device" in train_settings else {}),
    )
    ImageGroups.of(found).save(folder / "groups.npz")
    found.matches.save(folder / "matches.npz")
    seconds = training_seconds(folder / "results.csv")
    write_json(folder / "metrics.json", {**found.metrics, "train_seconds": round(seconds, 1)})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
