"""`dpose bench train`: what balance and attention cost in time and memory of a training step."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dpose_yolo.commands.common import output_folder
from dpose_yolo.commands.usage import require, whole
from dpose_yolo.errors import DPoseError
from dpose_yolo.recipe import recipe
from dpose_yolo.settings import load_cfg, refuse_unknown, resolve, specification
from dpose_yolo.study.plan import arm_names
from dpose_yolo.study.runner import slots
from dpose_yolo.study.turns import ALWAYS_ON, COST_ARMS, DEFAULT_ARMS, ENGINE_FIXED, cost_table, run_turns

OWN = ("what", "steps", "rounds", "arms", "threads", "project", "name", "exist_ok", "cfg")
# What `ENGINE_FIXED` and the arms decide.
FIXED = (*ENGINE_FIXED, "resume", "save_dir", "time")


def main(settings: dict[str, Any]) -> None:
    """Time the arms in turns, and write table and figures."""
    data = str(Path(str(require(settings, "data", "bench"))).resolve())
    steps, rounds = whole(settings, "steps", 40), whole(settings, "rounds", 5)
    threads = whole(settings, "threads", slots()[0].threads)
    chosen = arm_names(settings.get("arms", list(DEFAULT_ARMS)), COST_ARMS)
    cfg = settings.get("cfg")
    given = {**(load_cfg(cfg) if cfg else {}), **{k: v for k, v in settings.items() if k not in OWN}}
    given = {k: v for k, v in given.items() if k not in FIXED or k in settings}
    _check(given, data)
    own = resolve({k: v for k, v in given.items() if k in specification()})
    engine = {
        "model": "dpose-125.yaml",
        **{k: v for k, v in given.items() if k not in own},
        **ENGINE_FIXED,
        "data": data,
    }
    engine |= recipe({**engine, "recipe": own["recipe"]})  # Ultralytics' own trainer knows no recipe
    with TemporaryDirectory(prefix="dpose-bench-") as place:
        arms = {}
        for name in chosen:
            _, changed, plain = COST_ARMS[name]
            there = {**engine, "project": str(Path(place) / "runs"), "name": name}
            arms[name] = ({**there, **({} if plain else {**own, **ALWAYS_ON, **changed})}, plain)
        table, about = run_turns(arms, Path(place), steps, rounds, threads, int(own["att_interval"]))
    rows = cost_table(table, about, float(own["att_start"]))
    from dpose_yolo.report.cost import print_costs, save_costs

    folder = output_folder(settings, "bench")
    conditions = {"data": data, "engine": engine, "dpose": own, "rounds": rounds, "threads": threads, "arms": about}
    files = save_costs(rows, table, conditions, folder)
    print_costs(rows, conditions)
    print(f"\n{', '.join(f.name for f in files)} in {folder}")


def _check(given: dict[str, Any], data: str) -> None:
    """Refuse what is unknown, decided by the benchmark, or not there."""
    for name in given:
        if name in FIXED:
            raise DPoseError(f"dpose bench does not take {name}: it decides that itself")
    for name in ("balance", "att"):
        if given.get(name) == 0:
            raise DPoseError(f"{name}=0 leaves nothing to measure: dpose bench switches parts off itself")
    device = given.get("device")
    if isinstance(device, list | tuple) or "," in str(device):
        raise DPoseError(f"device={device} are several: dpose bench takes turns in one process an arm; give one device")
    from dpose_yolo.engine.checks import require_data_file, require_model_file
    from dpose_yolo.engine.compat import require_engine

    require_engine()
    from ultralytics.utils import DEFAULT_CFG_DICT
    from ultralytics.utils.torch_utils import select_device

    if given.get("channels_last") and select_device(device, verbose=False).type == "cpu":
        raise DPoseError("channels_last on a CPU is DPOSE's alone, the plain engine would run without it: leave it out")

    refuse_unknown(given, DEFAULT_CFG_DICT)
    require_data_file(data)
    require_model_file(given.get("model", "dpose-125.yaml"))
