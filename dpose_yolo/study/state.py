"""What of a study is on disk: its plan, the record of each arm and seed, and how far each of them is.

<study>/study.json              the plan
<study>/postures.npz            the posture mixture that all arms are evaluated with
<study>/arms/<arm>-s<seed>/     one training: arm.json, log.txt, weights/, results.csv, metrics.json, matches.npz
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpose_yolo import __version__
from dpose_yolo.errors import DPoseError
from dpose_yolo.folders import locked_by_another
from dpose_yolo.report.drawing import replacing
from dpose_yolo.study.plan import Arm, Plan, show

# The last of them is written last: where it is, the others are complete.
RESULTS = ("groups.npz", "matches.npz", "metrics.json")
# Where a training runs is no matter of the recipe.
OF_THE_MACHINE = ("device", "workers", "cache", "verbose")


def run_folder(study: Path, arm: str, seed: int) -> Path:
    """Folder of one training."""
    return study / "arms" / f"{arm}-s{seed}"


def run_record(arm: Arm, seed: int, evaluation: dict[str, Any]) -> dict[str, Any]:
    """What `arm.json` says of one training; plain JSON values."""
    train = {**arm.settings, "seed": seed}
    record = {"arm": arm.name, "seed": seed, "train": train, "evaluation": evaluation, "version": __version__}
    return json.loads(json.dumps(record, default=str))


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON file, or None where there is none.

    Raises:
        DPoseError: when it is not a JSON mapping.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DPoseError(f"{path} is not readable ({error}): remove it and run the command again") from error
    if not isinstance(content, dict):
        raise DPoseError(f"{path} does not hold a record of a study: remove it and run the command again")
    return content


def write_json(path: Path, content: Any) -> None:
    """Write JSON in one step."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def changed_setting(folder: Path, record: dict[str, Any]) -> str | None:
    """Why a folder cannot take this training: the first setting its own training had otherwise, or None.

    Settings that one side does not know (an older or newer version) do not count.
    """
    before = read_json(folder / "arm.json")
    return None if before is None else _other_setting(before.get("train", {}), record["train"])


def other_recipe(study: Path, plan: Plan) -> tuple[Path, str] | None:
    """A training that the tables would show beside those of the plan, though it had other settings.

    Other seeds of the same arm must have all settings alike; other arms, all but those that either is named for.

    Returns:
        Its folder and what is different, or None.
    """
    before = read_json(study / "study.json") or {}
    for name, about in before.get("arms", {}).items():
        # In the words of JSON, as the records are.
        arms = [json.loads(json.dumps(vars(a), default=str)) for a in plan.arms]
        compared = [(a, ("seed",)) for a in arms if a["name"] == name]
        compared = compared or [(a, ("seed", *about["values"], *a["values"])) for a in arms]
        for seed in before["seeds"]:
            folder = run_folder(study, name, seed)
            record = read_json(folder / "arm.json")
            for arm, named in compared if record else ():
                changed = _other_setting(record["train"], arm["settings"], named) if record else None
                if changed:
                    return folder, changed
    return None


def _other_setting(old: dict[str, Any], new: dict[str, Any], named: Iterable[str] = ()) -> str | None:
    """The first setting that differs, in words; those of the machine and those `named` may."""
    free = {*OF_THE_MACHINE, *named}
    for name in new:
        if name in old and name not in free and old[name] != new[name]:
            return f"{name}={show(old[name])}, now {show(new[name])}"
    unknown = [n for n in (*old, *new) if (n in old) != (n in new) and n not in free]
    engine = next((n for n in unknown if not _added_later(n)), None)
    if engine:
        return (
            f"{engine}={show(old[engine])}, now not set" if engine in old else f"no {engine}, now {show(new[engine])}"
        )
    return None


def _added_later(name: str) -> bool:
    """DPOSE settings stand in every record; one that is missing came with another version of the package."""
    from dpose_yolo.settings import specification

    return name in specification()


def finished(folder: Path, record: dict[str, Any]) -> bool:
    """Whether a training and its evaluation, both as asked, are complete on disk."""
    before = read_json(folder / "arm.json")
    same = before is not None and before.get("evaluation") == record["evaluation"]
    return same and all((folder / name).is_file() for name in RESULTS)


def prepare_run(folder: Path, record: dict[str, Any]) -> None:
    """Write the record of a training that is about to start; results of another evaluation go."""
    before = read_json(folder / "arm.json")
    if before is None or before.get("evaluation") != record["evaluation"]:
        for name in reversed(RESULTS):
            (folder / name).unlink(missing_ok=True)
    write_json(folder / "arm.json", record)


def save_plan(study: Path, plan: Plan) -> dict[str, Any]:
    """Write `study.json`: the arms of this plan, and those of earlier ones that it does not name."""
    before = read_json(study / "study.json") or {}
    new = {arm.name: {"label": arm.label, "values": arm.values, "settings": arm.settings} for arm in plan.arms}
    arms = {**{k: v for k, v in before.get("arms", {}).items() if k not in new}, **new}
    content = {
        "kind": plan.kind,
        "version": __version__,
        "reference": plan.reference,
        "swept": plan.swept,
        "seeds": sorted({*before.get("seeds", []), *plan.seeds}),
        "evaluation": plan.evaluation,
        "arms": {k: arms[k] for k in _order(before, new)},
    }
    write_json(study / "study.json", content)
    return json.loads(json.dumps(content, default=str))


def _order(before: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Arms in the order of the plan, those of earlier plans after them."""
    return [*new, *(name for name in before.get("arms", {}) if name not in new)]


def epochs_done(results: Path) -> int:
    """Epochs that a training's `results.csv` tells of."""
    rows = _rows(results)
    return max((int(float(row["epoch"])) for row in rows), default=0)


def training_seconds(results: Path) -> float:
    """Seconds of training by `results.csv`; a resumed run starts its clock again, so its pieces are added up."""
    total = before = 0.0
    for row in _rows(results):
        now = float(row["time"])
        if now < before:
            total += before
        before = now
    return total + before


def _rows(results: Path) -> list[dict[str, str]]:
    """Rows of `results.csv` that are complete; the engine may be writing one just now."""
    try:
        with open(results, newline="", encoding="utf-8") as file:
            rows = [{k.strip(): v for k, v in row.items() if k} for row in csv.DictReader(file)]
    except OSError:
        return []
    return [row for row in rows if _is_number(row.get("epoch")) and _is_number(row.get("time"))]


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


@contextmanager
def locked(study: Path) -> Iterator[None]:
    """Keep a second command out of a study's folder; the lock goes with its process, however that ends.

    Raises:
        DPoseError: when another command is at work there.
    """
    try:
        import fcntl
    except ImportError:  # Windows: two commands at once are the user's to avoid
        yield
        return
    study.mkdir(parents=True, exist_ok=True)
    with open(study / ".lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if locked_by_another(error):
                raise DPoseError(f"another command works on {study}: wait for it, or choose another name=") from None
            print(f"{study} cannot be locked ({error.strerror}): see that no other command works there", flush=True)
        yield
