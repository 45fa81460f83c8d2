"""The settings that a user gave, from all the places where they may stand."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from ultralytics.utils import DEFAULT_CFG_DICT

from dpose_yolo import settings as dpose_settings


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
