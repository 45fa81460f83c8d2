"""The training recipe (`cfg/recipe.yaml`): a value for each Ultralytics setting that the user does not give."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dpose_yolo.settings import CFG_DIR, specification

BATCH = 16  # of `nbs` where Ultralytics chooses the batch size itself (batch=-1)


@cache
def _file() -> dict[str, dict[str, Any]]:
    return yaml.safe_load((CFG_DIR / "recipe.yaml").read_text(encoding="utf-8"))


def start_of(given: Mapping[str, Any]) -> str:
    """Section of the recipe: `pretrained` for a checkpoint (`model=` or `pretrained=`), else `from_scratch`."""
    pretrained = given.get("pretrained", True)
    if isinstance(pretrained, str | Path):
        return "pretrained"
    checkpoint = Path(str(given.get("model") or "")).suffix == ".pt"
    return "pretrained" if checkpoint and pretrained is not False else "from_scratch"


def section(start: str) -> dict[str, Any]:
    """Entries of the recipe file for a start; those of `pretrained` complete those of `from_scratch`."""
    return {**_file()["from_scratch"], **_file()[start]}


def default_epochs(images: int, start: str) -> int:
    """Epochs for a number of training images: scale / sqrt(images), within the limits of the file, to two digits.

    Optimizer steps thus grow with the square root of the number of images.

    Args:
        images: training images, at least 1.
        start: section of the recipe.
    """
    rule = section(start)["epochs"]
    low, high = rule["range"]
    epochs = min(high, max(low, rule["scale"] / math.sqrt(max(images, 1))))
    digits = 1 - math.floor(math.log10(epochs))
    return round(round(epochs, digits))


def recipe(given: Mapping[str, Any], images: int | None = None) -> dict[str, Any]:
    """Ultralytics settings of the recipe that the user did not give.

    Args:
        given: all settings of the user. `recipe`, `model`, `pretrained`, `batch`, `epochs`, `fraction` are looked at.
        images: training images; without a number, `epochs` is not part of the result.

    Returns:
        Settings by name; empty with `recipe=ultralytics`.
    """
    own = specification()["recipe"]
    if own.check(given.get("recipe", own.default)) == "ultralytics":
        return {}
    start = start_of(given)
    values = section(start)
    del values["epochs"]
    epochs = given.get("epochs")
    if epochs is None and images is not None:
        fraction = given.get("fraction", 1.0)
        share = float(fraction) if isinstance(fraction, int | float) and 0 < fraction <= 1 else 1.0
        epochs = values["epochs"] = default_epochs(round(images * share), start)
    batch = given.get("batch", BATCH)
    values["nbs"] = batch if isinstance(batch, int) and batch > 0 else BATCH
    if isinstance(epochs, int) and values.get("close_mosaic", 1) < 1:
        values["close_mosaic"] = max(1, round(values["close_mosaic"] * epochs))
    return {name: value for name, value in values.items() if given.get(name) is None}


def recipe_line(taken: Mapping[str, Any], given: Mapping[str, Any], images: int | None = None) -> str:
    """One line that names the settings taken from the recipe.

    Args:
        taken: result of `recipe`.
        given: all settings of the user.
        images: training images, if `epochs` follows from their number.
    """
    if not taken:
        return "Recipe: Ultralytics' defaults for what is not given (recipe=ultralytics)"
    of = f" for {images} images" if "epochs" in taken and images is not None else ""
    told = ", ".join(f"{name}={value}{of if name == 'epochs' else ''}" for name, value in taken.items())
    return f"Recipe ({start_of(given).replace('_', ' ')}): {told}; cfg=ultralytics uses Ultralytics' defaults instead"
