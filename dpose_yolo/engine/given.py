"""Merge the settings of the user from cfg, overrides and keywords."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from ultralytics.utils import DEFAULT_CFG_DICT

from dpose_yolo import settings as dpose_settings
from dpose_yolo.folders import absolute_project


def _is_engine_cfg(cfg: Any) -> bool:
    """Whether `cfg` is a complete engine configuration, as the engine itself hands to its trainers."""
    values = vars(cfg) if isinstance(cfg, SimpleNamespace) else cfg
    complete = isinstance(values, Mapping) and set(DEFAULT_CFG_DICT) <= set(values)
    return complete and not set(dpose_settings.specification()) & set(values)


def merged_settings(cfg: Any, overrides: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings the user gave, the later ones going before the earlier; a `cfg` among them is read first."""
    merged: dict[str, Any] = {}
    given = {**overrides, **settings}
    for source in (cfg, given.pop("cfg", None)):
        if isinstance(source, SimpleNamespace):
            source = vars(source)
        if isinstance(source, Mapping):
            # A complete engine configuration says nothing where it holds the engine's default.
            engine = _is_engine_cfg(source)
            merged.update({k: v for k, v in source.items() if not engine or v != DEFAULT_CFG_DICT.get(k, "")})
        elif source:
            merged.update(dpose_settings.load_cfg(source))
    return {**dpose_settings.of_any_run(merged), **given}


def with_run_folder(given: Mapping[str, Any], command: str) -> dict[str, Any]:
    """Complete settings with `project` and `name`, so that Python and the command line write to `./runs/<name>` alike.

    A run that is resumed from a checkpoint keeps its folder, and so does one whose `save_dir` is given.

    Args:
        given: settings of the user.
        command: default of `name`, `train` or `finetune`.
    """
    resume, model = given.get("resume"), str(given.get("model", ""))
    checkpoint_named = not given.get("data") if command == "finetune" else model.endswith(".pt")
    from_checkpoint = resume and (resume is not True or (not given.get("name") and checkpoint_named))
    if given.get("save_dir") or from_checkpoint:
        return dict(given)
    return {**absolute_project(given), "name": given.get("name") or command}
