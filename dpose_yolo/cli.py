"""The `dpose` command. This module stays free of torch and of the engine, so that help answers at once."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from dpose_yolo import __version__
from dpose_yolo.errors import DPoseError, printable

COMMANDS = {
    "train": "train a pose model with balanced postures and keypoint attention",
    "finetune": "a trained model for a new cabin from few images; what it gained and lost",
    "val": "accuracy of a model: by keypoint, by posture, with intervals; attention quality",
    "predict": "driver poses of images, folders or videos",
    "export": "write a model as ONNX, TensorRT, OpenVINO ..., proven against PyTorch; one driver, INT8",
    "compare": "several models, and those of other projects, in one table with cost and latency",
    "ablate": "what each part brings: baseline, balance, attention, both, over several seeds",
    "sweep": "any setting at several values, over several seeds, in one table",
    "bench": "how fast models are, in turns; or what training with and without each part costs",
    "prepare": "a data set from videos, pictures, Drive&Act, DriPE, COCO keypoints or State Farm",
    "render": "rendered drivers for the postures that a data set lacks; how well renders cover real labels",
    "autolabel": "labels for images or videos by the agreement of several models, with a page to review them",
    "check": "is a data set sound: images, labels, duplicates, subjects, postures",
    "clusters": "posture atlas of a data set, before and after balancing; what is new in another set",
    "cam": "attention maps: where a model looks for a keypoint",
    "info": "parameters and GFLOPs of a model, as one JSON line",
    "forget": "take the training images off a checkpoint that carries some (memory=)",
    "settings": "the settings that DPOSE adds to the engine's, with range and default",
}

# Commands that take words without a name, and the setting under which they get them, as a list.
POSITIONAL = {"bench": "what", "compare": "models", "prepare": "source", "render": "what"}

# Commands that take one word without a name, and its setting.
ONE_WORD = {"check": "data", "clusters": "data", "info": "model", "forget": "model"}
# Words of other tools, and what does the same here.
ELSEWHERE = {
    "track": "dpose predict finds the driver in each frame, smooth=True steadies it over a video",
    "test": "dpose val split=test",
    "benchmark": "dpose bench models a.onnx b.onnx",
    "tune": "dpose sweep",
    "detect": "dpose predict",
}

# Names and paths stay as they are typed, even where they look like numbers.
AS_TYPED = (
    "name", "project", "data", "compare", "model", "cfg", "resume", "names", "mixture", "src", "dst", "replay", "old",
    "start", "source", "teacher", "pretrained", "distill_model", "render", "rendered", "camera", "postures", "size",
)  # fmt: skip

# What a light install (docs/deploy.md) has not.
FULL_INSTALL = (
    "ultralytics",
    "torch",
    "torchvision",
    "sklearn",
    "scipy",
    "pandas",
    "matplotlib",
    "rich",
    "onnx",
    "faster_coco_eval",
)

EXAMPLES = """examples
  dpose train data=data/cabin_mini.yaml model=dpose-125.yaml imgsz=320 epochs=100
  dpose train cfg=paper data=my_cabin.yaml                 the recipe of the paper
  dpose train data=my_cabin.yaml clusters=auto balance=0.5 att=0
  dpose finetune model=best.pt data=new_cabin.yaml replay=old_cabin.yaml
  dpose val model=runs/train/weights/best.pt data=data/cabin_mini.yaml split=test
  dpose compare runs/train/weights/best.pt movenet_lightning.onnx data=data/cabin_mini.yaml split=test
  dpose predict model=best.pt source=drive.mp4
  dpose prepare video src=footage dst=data/my_cabin frames=5000
  dpose render dst=renders data=my_cabin.yaml postures=rare images=2000
  dpose train data=my_cabin.yaml render=renders/data.yaml
  dpose autolabel source=drives teacher=yolo11n-pose.pt,yolov8n-pose.pt dst=my_cabin
  dpose check data=my_cabin.yaml strict=True
  dpose clusters data=my_cabin.yaml clusters=32
  dpose cam model=best.pt source=image.jpg keypoints=left_wrist,right_wrist
  dpose export model=best.pt format=onnx imgsz=480
  dpose bench models best.onnx movenet_lightning.onnx
  dpose info model=dpose-125.yaml imgsz=640"""


def help_page() -> str:
    """The page that `dpose` alone prints."""
    width = max(map(len, COMMANDS)) + 2
    lines = [
        f"dpose_yolo {__version__}: light driver-pose models (AGPL-3.0)",
        "",
        "usage: dpose COMMAND name=value ...",
        "",
    ]
    lines += ["commands"]
    lines += [f"  {name:<{width}}{text}" for name, text in COMMANDS.items()]
    lines += ["", EXAMPLES, "", "`dpose COMMAND help` tells what a command takes. Settings besides DPOSE's own are the"]
    lines += ["engine's (Ultralytics): epochs, batch, imgsz, device, optimizer, ..."]
    return "\n".join(lines)


def parse_value(text: str) -> Any:
    """Value of `name=value`: numbers, True/False, None, lists like [4,6]; anything else is text."""
    import yaml

    try:
        return float(text) if "e" in text.lower() and text[0] in "-+.0123456789" else _plain(yaml.safe_load(text), text)
    except (ValueError, yaml.YAMLError):
        return text


def _plain(value: Any, text: str) -> Any:
    """Dates and mappings that YAML makes of plain words stay text."""
    if text == "None":
        return None
    return value if isinstance(value, bool | int | float | list | str) else text


def parse_arguments(arguments: list[str], positional: str | None = None) -> dict[str, Any]:
    """`name=value` words as a dict.

    Args:
        arguments: the words after the command.
        positional: name under which words without a `=` are collected in a list; None refuses them.

    Raises:
        DPoseError: for a word of another form, or a name given twice.
    """
    settings: dict[str, Any] = {}
    for word in arguments:
        name, equals, value = word.partition("=")
        if positional and not equals and not name.startswith("-"):
            settings.setdefault(positional, []).append(word)
            continue
        name = name.removeprefix("--").replace("-", "_")
        if not equals or not name:
            raise DPoseError(f"cannot read {word!r}: write settings as name=value, without spaces around the =")
        if value == "":
            raise DPoseError(f"{name}= has no value: write {name}=value")
        if name in settings:
            raise DPoseError(f"{name} is given twice")
        settings[name] = value if name in AS_TYPED and value not in ("True", "False") else parse_value(value)
    return settings


def run(arguments: list[str]) -> int:
    """Run one command line; the exit status."""
    if arguments[:1] == ["help"] and arguments[1:2]:
        arguments = [arguments[1], "help"]
    if not arguments or arguments[0] in ("help", "-h", "--help"):
        print(help_page())
        return 0
    if arguments[0] in ("version", "-v", "--version"):
        print(__version__)
        return 0
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        import difflib

        if command in ELSEWHERE:
            raise DPoseError(f"there is no command {command!r} here: {ELSEWHERE[command]}")
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        raise DPoseError(
            f"unknown command {command!r}: " + (f"did you mean {near[0]}?" if near else "see `dpose help`")
        )
    from dpose_yolo.commands import usage

    if rest and rest[0] in ("help", "-h", "--help"):
        print(usage.page(command))
        return 0
    if command == "settings":
        usage.print_settings(rest)
        return 0
    alone = ONE_WORD.get(command)
    if alone and len(rest) > 0 and "=" not in rest[0] and not rest[0].startswith("-"):
        rest = [f"{alone}={rest[0]}", *rest[1:]]
    settings = parse_arguments(rest, POSITIONAL.get(command))
    main_function: Callable[[dict[str, Any]], int | None] = import_module(f"dpose_yolo.commands.{command}").main
    return main_function(settings) or 0


class _Unheard(io.FileIO):
    """Standard output or error: what is written after its reader is gone is dropped."""

    def write(self, data: Any) -> int:
        """See the base."""
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            return memoryview(data).nbytes


def _outlive_readers() -> None:
    """Let no closed pipe end the work (`dpose train ... | head`), and no name that is not UTF-8 be unprintable."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        binary = getattr(stream, "buffer", None)
        raw = getattr(binary, "raw", binary)
        if type(raw) is not io.FileIO:
            continue
        stream.flush()
        heard = io.BufferedWriter(_Unheard(raw.fileno(), "w", closefd=False))
        live = raw.isatty() or name == "stderr" or binary is raw
        setattr(sys, name, io.TextIOWrapper(heard, stream.encoding, "backslashreplace", line_buffering=live))


def main() -> None:
    """Entry point: errors of the user's input are one line on standard error, with exit status 1."""
    _outlive_readers()
    try:
        status = run(sys.argv[1:])
    except DPoseError as error:
        print(f"dpose: error: {printable(str(error))}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("dpose: stopped", file=sys.stderr)
        status = 130
    except Exception as error:
        # A fault of ours or of the engine that no check foresaw; the place is for whoever reports it.
        if os.environ.get("DPOSE_DEBUG"):
            raise
        print(f"dpose: error: {printable(_unforeseen(error))}", file=sys.stderr)
        status = 1
    sys.exit(status)


def _unforeseen(error: Exception) -> str:
    """One line on an error that is not the user's input: a package of the full install, or a fault."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in FULL_INSTALL:
        command = " ".join(["dpose", *sys.argv[1:2]])
        return (
            f"{command} needs {error.name}, which is not installed here: run it on a machine with the full install "
            "(pip install '.[export]' in a checkout of dpose_yolo)"
        )
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text} (DPOSE_DEBUG=1 shows where)"
