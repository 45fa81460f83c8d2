"""A study from its plan to its tables: what `dpose ablate` and `dpose sweep` do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dpose_yolo.errors import DPoseError
from dpose_yolo.settings import refuse_unknown, specification
from dpose_yolo.study.plan import Plan, flag
from dpose_yolo.study.progress import Progress
from dpose_yolo.study.runner import Job, Launch, Outcome, Slot, launch, run_jobs, slots
from dpose_yolo.study.state import (
    changed_setting,
    finished,
    locked,
    other_recipe,
    prepare_run,
    run_folder,
    run_record,
    save_plan,
)

# Settings that say how a study is run, not what it is of.
RUNNING = ("parallel", "devices", "project", "name", "report")


def study_command(command: str, plan: Callable[[dict[str, Any]], Plan], settings: dict[str, Any]) -> int:
    """What a study's command does with the words of the user; the exit status, 1 if a training failed."""
    study = study_folder(settings, command)
    if flag(settings.get("report", False), "report"):
        report(study)
        return 0
    places = slots(settings.get("parallel"), settings.get("devices"))
    return run_study(plan({k: v for k, v in settings.items() if k not in RUNNING}), study, places)


def study_folder(settings: Mapping[str, Any], command: str) -> Path:
    """Where a study lives: `project/name`, `runs/<command>` unless told; never numbered, so that it can go on."""
    return Path(str(settings.get("project") or "runs")).resolve() / str(settings.get("name") or command)


def run_study(
    plan: Plan, study: Path, places: list[Slot] | None = None, start: Launch = launch, check: bool = True
) -> int:
    """Run what is not finished yet, and make the tables.

    Args:
        plan: what to run.
        study: folder of the study.
        places: where processes run.
        start: starts the process of a training.
        check: look at settings and data, and fit the posture mixture, before anything starts.

    Returns:
        The exit status: 1 if a training failed.

    Raises:
        DPoseError: before anything is written, for settings that cannot be used or that differ from those a training
            in this folder was run with.
    """
    if check:
        check_settings(plan)
    todo = unfinished(plan, study)
    mixture = fit_postures(plan, study) if check and todo else None
    with locked(study):
        if mixture is not None:
            mixture.save(study / "postures.npz", key=mixture.key_, keypoint_names=mixture.keypoint_names_)
        save_plan(study, plan)
        jobs = []
        for name, (folder, record) in todo.items():
            prepare_run(folder, record)
            jobs.append(Job(name, folder, int(record["train"]["epochs"])))
        total = len(plan.arms) * len(plan.seeds)
        ready = total - len(jobs)
        print(f"{study}: {len(plan.arms)} arms x {len(plan.seeds)} seeds" + (f", {ready} finished" if ready else ""))
        folders, epochs = {j.name: j.folder for j in jobs}, {j.name: j.epochs for j in jobs}
        outcome = Outcome()
        if jobs:
            with Progress(folders, epochs, ready) as progress:
                outcome = run_jobs(jobs, places or slots(), progress, start)
        if outcome.done or ready:
            report(study)
    for name, reason in outcome.failed.items():
        print(f"{name} failed: {reason} (more in {folders[name] / 'log.txt'})")
    if outcome.failed:
        print("run the same command again to go on with them")
    return 1 if outcome.failed else 0


def unfinished(plan: Plan, study: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Trainings that are still to run: name to folder and record, seed by seed, so that early results compare arms.

    Raises:
        DPoseError: when a training in the folder was run with other settings.
    """
    todo = {}
    for seed in plan.seeds:
        for arm in plan.arms:
            folder = run_folder(study, arm.name, seed)
            record = run_record(arm, seed, plan.evaluation)
            changed = changed_setting(folder, record)
            if changed:
                raise DPoseError(
                    f"{folder} was trained with {changed}: give the study another name=, or remove that folder to "
                    "train it again"
                )
            if not finished(folder, record):
                todo[folder.name] = (folder, record)
    other = other_recipe(study, plan)
    if other:
        raise DPoseError(
            f"{other[0]} was trained with {other[1]}, and would stand in the same table: give the study another name=, "
            "or remove that folder"
        )
    return todo


def check_settings(plan: Plan) -> None:
    """Check names and values of all arms as the trainer will, and that data and models are there.

    Raises:
        DPoseError: for the first that cannot be used.
    """
    from dpose_yolo.engine.compat import require_engine

    require_engine()
    from ultralytics.cfg import get_cfg
    from ultralytics.utils import DEFAULT_CFG, DEFAULT_CFG_DICT

    from dpose_yolo.engine import checks

    for arm in plan.arms:
        refuse_unknown(arm.settings, DEFAULT_CFG_DICT)
        engine = {k: v for k, v in arm.settings.items() if k not in specification()}
        with checks.engine_errors(f"the settings of {arm.label} cannot be used"):
            get_cfg(DEFAULT_CFG, engine)
        if not isinstance(engine["epochs"], int) or engine["epochs"] < 1:
            raise DPoseError(f"epochs={engine['epochs']} must be a whole number from 1")
    for arm in plan.arms:
        checks.require_data_file(arm.settings["data"])
        checks.require_model_file(arm.settings["model"])


def fit_postures(plan: Plan, study: Path) -> Any:
    """Check the evaluated part, and fit the mixture that says for all arms which postures are rare.

    It is fitted to the training part with the default settings, whatever the arms sample by, once a study.

    Returns:
        The mixture, or None where the study has one.

    Raises:
        DPoseError: for data that cannot be used.
    """
    from dpose_yolo.engine.labels import load_labels
    from dpose_yolo.evaluation.data import load_part
    from dpose_yolo.evaluation.postures import cluster_groups

    settings = plan.arms[0].settings
    evaluation = plan.evaluation
    reading = {k: bool(settings.get(k, False)) for k in ("skip_bad", "outside")}
    # The engine's label caches of all parts are written here, once, and not by several trainings at the same time.
    load_labels(settings["data"], "val", **reading)
    part = load_part(settings["data"], evaluation["split"], names=evaluation["names"], **reading)
    return None if (study / "postures.npz").is_file() else cluster_groups(part, "train").mixture


def report(study: Path) -> None:
    """Make the tables and plots of a study from what is finished, and show the short one."""
    from dpose_yolo.report.study import print_study, save_study
    from dpose_yolo.study.results import collect

    results = collect(study)
    files = save_study(results, study)
    print_study(results)
    print(f"\n{', '.join(f.name for f in files)} in {study}")
