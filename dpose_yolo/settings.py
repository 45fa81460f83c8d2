"""The DPOSE settings: read from `cfg/dpose.yaml`, checked in one place, torch-free so that help stays quick."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dpose_yolo.errors import DPoseError

CFG_DIR = Path(__file__).parent / "cfg"
PRESETS = ("dpose", "paper", "ultralytics")  # files of `CFG_DIR` that cfg= takes by name
# What `auto` stands for where balance or attention is on; with both off, nothing of DPOSE is.
AUTO = {"kpt_far": 1.0, "pose_score": 0.5}
# Keys of one run in its args.yaml: whoever starts from that file means its settings, not its folder or its start.
OF_ONE_RUN = ("save_dir", "resume", "exist_ok", "start")
# In a fine-tuning's folder, as long as it is at work: the images that its start carries, and their data YAML.
CARRIED, CARRIED_CARD = "carried", "carried_images.yaml"
ATTENTION = {"readout": 40.0, "gradcam": 1.0}  # what `att=auto` is, by `att_map`: measured, docs/benchmarks.md


@dataclass(frozen=True)
class Setting:
    """One setting of `cfg/dpose.yaml`.

    Attributes:
        name: as typed by the user.
        type: number, integer, choice, flag, layers or path.
        default: value when unset.
        help: one line.
        limits: lowest and highest number, both allowed.
        words: words that are allowed (the choices, or words besides a number).
    """

    name: str
    type: str
    default: Any
    help: str
    limits: tuple[float, float] | None = None
    words: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """What the setting takes, in words."""
        if self.type == "flag":
            return "True or False"
        if self.type == "layers":
            return "auto, a layer number or a list of them"
        if self.type == "choice":
            return " or ".join(self.words)
        if self.type == "path":
            return "the path of a file"
        low, high = self.limits or (float("-inf"), float("inf"))
        return " or ".join([f"{low:g} to {high:g}", *self.words])

    def check(self, value: Any) -> Any:
        """Return `value` in its plain type.

        Raises:
            DPoseError: naming the setting, the value and what is allowed.
        """
        checked = getattr(self, f"_check_{self.type}")(value)
        if checked is None:
            raise DPoseError(f"{self.name}={value!r} is not allowed: {self.name} takes {self.allowed} ({self.help})")
        return checked

    def _check_number(self, value: Any) -> float | str | None:
        if isinstance(value, str):
            if value in self.words:
                return value
            try:
                value = float(value)
            except ValueError:
                return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        low, high = self.limits or (float("-inf"), float("inf"))
        return float(value) if low <= value <= high and math.isfinite(value) else None

    def _check_integer(self, value: Any) -> int | str | None:
        number = self._check_number(value)
        if number is None or isinstance(number, str):
            return number
        return int(number) if number == int(number) else None

    def _check_choice(self, value: Any) -> str | None:
        # YAML reads a bare `none` as None in some spellings.
        text = "none" if value is None else str(value)
        return text if text in self.words else None

    def _check_flag(self, value: Any) -> bool | None:
        if isinstance(value, bool):
            return value
        return {"true": True, "false": False, "1": True, "0": False}.get(str(value).lower())

    def _check_path(self, value: Any) -> str | None:
        return str(value) if isinstance(value, str | Path) else "" if value is None else None

    def _check_layers(self, value: Any) -> str | list[int] | None:
        if value == "auto":
            return "auto"
        if isinstance(value, str):
            value = [part for part in value.strip("[]() ").split(",") if part.strip()]
        if isinstance(value, int) and not isinstance(value, bool):
            value = [value]
        if not isinstance(value, list | tuple) or not value:
            return None
        try:
            layers = [int(layer) for layer in value]
        except (TypeError, ValueError):
            return None
        return layers if all(layer >= 0 for layer in layers) else None


@cache
def specification(*commands: str) -> dict[str, Setting]:
    """All DPOSE settings by name, in the order of `cfg/dpose.yaml`; then those of single commands, if named.

    Args:
        *commands: whose own settings are added, as they stand in `cfg/commands/<command>.yaml`.
    """
    files = [CFG_DIR / "dpose.yaml", *(CFG_DIR / "commands" / f"{command}.yaml" for command in commands)]
    settings = {}
    for name, entry in [item for file in files for item in yaml.safe_load(file.read_text(encoding="utf-8")).items()]:
        limits = tuple(entry["range"]) if "range" in entry else None
        words = tuple(entry.get("choices", entry.get("or", ())))
        settings[name] = Setting(name, entry["type"], entry["default"], entry["help"], limits, words)
    return settings


def defaults() -> dict[str, Any]:
    """Default of every DPOSE setting."""
    return {name: setting.default for name, setting in specification().items()}


def resolve(given: Mapping[str, Any], *commands: str) -> dict[str, Any]:
    """Complete and check DPOSE settings.

    Args:
        given: settings by name; all names must be DPOSE settings.
        *commands: whose own settings belong to them, see `specification`.

    Raises:
        DPoseError: for the first value out of its range or unknown name.
    """
    refuse_unknown(given, (), *commands)
    values = {n: s.check(given[n]) if n in given else s.default for n, s in specification(*commands).items()}
    if values["att"] == "auto":
        values["att"] = ATTENTION[values["att_map"]]
    on = values["balance"] > 0 or values["att"] > 0
    values.update({n: value if on else 0.0 for n, value in AUTO.items() if values[n] == "auto"})
    return values


def refuse_unknown(names: Iterable[str], engine_names: Iterable[str], *commands: str) -> None:
    """Raise `DPoseError` for a name that neither DPOSE nor the engine knows, with the nearest right names."""
    own = specification(*commands)
    known = [*own, *engine_names]
    for name in names:
        if name in known:
            continue
        # DPOSE's own settings come first: `cluster` is nearer to `clusters` than to the engine's `classes`.
        near = difflib.get_close_matches(name, own, n=2) or difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`dpose settings` lists the DPOSE settings"
        raise DPoseError(f"unknown setting {name!r}: {hint}")


def refuse_engine_values(settings: Mapping[str, Any]) -> None:
    """Refuse values of the engine's settings that it takes without a word, or stumbles over later.

    Raises:
        DPoseError: for the first such value.
    """
    for name, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise DPoseError(f"{name}={value} is not allowed: give a finite number")
        negative = isinstance(value, int | float) and not isinstance(value, bool) and value < 0
        if name in _NOT_NEGATIVE and negative:
            raise DPoseError(f"{name}={value} is not allowed: {name} takes a number from 0")
    for name, (right, takes) in _ENGINE_VALUES.items():
        if settings.get(name) is not None and not right(settings[name]):
            raise DPoseError(f"{name}={settings[name]} is not allowed: {name} takes {takes}")


def _whole(value: Any, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def _sizes(value: Any) -> bool:
    """Whether a value is an input size, or height and width."""
    if isinstance(value, str):
        value = [int(word) if word.strip().isdecimal() else word for word in value.strip("[]() ").split(",")]
    sizes = value if isinstance(value, list | tuple) else [value]
    return 1 <= len(sizes) <= 2 and all(_whole(size, 32) for size in sizes)


def _batch(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return not number or value >= 1 or value == -1 or 0 < value < 1  # the engine names wrong types by itself


def _layers(value: Any) -> bool:
    return all(_whole(layer, 0) for layer in (value if isinstance(value, list | tuple) else [value]))


_NOT_NEGATIVE = frozenset(
    ("box", "cls", "dfl", "pose", "kobj", "rle", "dis", "patience", "time", "warmup_epochs", "workspace")
)
_ENGINE_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "imgsz": (_sizes, "pixels, a whole number from 32, e.g. imgsz=320"),
    "batch": (_batch, "a whole number from 1, or -1 to fill a graphics card"),
    "epochs": (lambda v: _whole(v, 1), "a whole number from 1"),
    "workers": (lambda v: not _whole(v, -(10**9)) or v >= 0, "a whole number from 0"),
    "cache": (lambda v: isinstance(v, bool) or v in ("ram", "disk"), "True, False, ram or disk"),
    "freeze": (_layers, "a number of layers or a list of layers, e.g. freeze=10"),
}


def load_cfg(cfg: str | Path) -> dict[str, Any]:
    """Read a YAML file of settings, or one of `PRESETS` by name.

    Raises:
        DPoseError: when there is no such file or it is not a mapping of settings.
    """
    path = Path(cfg)
    if not path.is_file() and path.stem in PRESETS and path.parent == Path("."):
        path = CFG_DIR / f"{path.stem}.yaml"
    if path.resolve() == (CFG_DIR / "dpose.yaml").resolve():
        return defaults()
    if not path.is_file():
        raise DPoseError(f"no settings file {cfg}: give the path of a YAML file, or a preset ({', '.join(PRESETS)})")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DPoseError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise DPoseError(f"{path} must hold `name: value` lines, found {type(values).__name__}")
    return of_any_run(values)


def of_any_run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they are; those of the record of a run (`args.yaml`) without what belongs to that run alone."""
    if "save_dir" not in settings:
        return dict(settings)
    kept = {k: v for k, v in settings.items() if k not in OF_ONE_RUN}
    if Path(str(kept.get("replay"))).name == CARRIED_CARD:
        del kept["replay"]
    if kept.get("device") in ("cpu", "mps") and kept.get("workers") == 0:
        del kept["workers"]  # the engine's for these devices, and slow on a GPU
    return kept


def model_file(name: str | Path) -> Path | None:
    """Path of a model that ships with the package (`dpose-125`, `dpose-125.yaml`), or None."""
    path = Path(name)
    if path.parent != Path(".") or path.exists():
        return None
    candidate = CFG_DIR / "models" / f"{path.stem}.yaml"
    return candidate if path.suffix in ("", ".yaml", ".yml") and candidate.is_file() else None
