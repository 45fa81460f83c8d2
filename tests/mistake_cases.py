"""What new users do wrong to a small copy of the sample set, and small files that are not what is asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import torch
import yaml
from engine_models import tiny_yaml
from onnx import TensorProto, helper
from ultralytics import YOLO

Spoil = Callable[[Path], None]
CARD = "cabin.yaml"
SIZES = {"train": 12, "val": 4, "test": 4}


def copy_sample(root: Path, folder: Path) -> None:
    """A few images of each part of the sample set, with their labels and card, as `cabin.yaml` in a new folder."""
    source = root / "data" / "cabin_mini"
    for part, count in SIZES.items():
        images = sorted((source / "images" / part).iterdir())
        for kind in ("images", "labels"):
            (folder / "cabin_mini" / kind / part).mkdir(parents=True)
        for image in images[:: len(images) // count][:count]:
            shutil.copy(image, folder / "cabin_mini" / "images" / part)
            shutil.copy(source / "labels" / part / f"{image.stem}.txt", folder / "cabin_mini" / "labels" / part)
    shutil.copy(root / "data" / "cabin_mini.yaml", folder / CARD)


def write_models(folder: Path) -> None:
    """Models of all kinds with random weights, small ones, under the names that published ones have."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_yaml()))
    torch.manual_seed(0)
    for name in ("yolo11n", "yolo11n-seg", "yolo11n-cls"):
        YOLO(f"{name}.yaml").save(folder / f"{name}.pt")
    YOLO(str(folder / "tiny.yaml"), task="pose").save(folder / "pose.pt")
    (folder / "broken.pt").write_bytes(b"no checkpoint")
    images, output = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 64, 64]) for name in ("images", "output0")
    )
    graph = helper.make_graph([helper.make_node("Identity", ["images"], ["output0"])], "g", [images], [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "stranger.onnx")
    helper.set_model_props(model, {"task": "detect", "names": "{0: 'person'}", "imgsz": "[64, 64]"})
    onnx.save(model, folder / "detect.onnx")


def card(old: str, new: str) -> Spoil:
    """Replace some text of the data YAML, which has to be there."""

    def spoil(folder: Path) -> None:
        text = (folder / CARD).read_text()
        assert old in text
        (folder / CARD).write_text(text.replace(old, new))

    return spoil


def labels(change: Callable[[list[str]], list[str]], first: int = 1000) -> Spoil:
    """Change the words of each label file, or of the first ones of each part."""

    def spoil(folder: Path) -> None:
        for part in SIZES:
            for file in sorted((folder / "cabin_mini" / "labels" / part).glob("*.txt"))[:first]:
                words = change(file.read_text().split())
                file.write_text(" ".join(words) + "\n" * bool(words))

    return spoil


def in_pixels(words: list[str]) -> list[str]:
    """A label with pixels of a 320x240 picture in place of shares."""
    scaled = [float(w) * (320 if i % 2 else 240) for i, w in enumerate(words[1:5], 1)]
    points = words[5:]
    for k in range(0, len(points), 3):
        points[k : k + 2] = [f"{float(points[k]) * 320:.1f}", f"{float(points[k + 1]) * 240:.1f}"]
    return [words[0], *(f"{v:.1f}" for v in scaled), *points]


def listed(prefix: str) -> Spoil:
    """The training part by a list of images, each line with a beginning as somebody might write it."""

    def spoil(folder: Path) -> None:
        card("train: cabin_mini/images/train", "train: train.txt")(folder)
        names = sorted(file.name for file in (folder / "cabin_mini" / "images" / "train").iterdir())
        (folder / "train.txt").write_bytes("".join(f"{prefix}{name}\r\n" for name in names).encode())

    return spoil


def without(place: str, keep: bool = False) -> Spoil:
    """Remove a folder below the images and labels, or only what is in it."""

    def spoil(folder: Path) -> None:
        shutil.rmtree(folder / "cabin_mini" / place)
        if keep:
            (folder / "cabin_mini" / place).mkdir()

    return spoil


def nothing(folder: Path) -> None:
    """The mistake is in the words alone."""


def old_data(*spoils: Spoil) -> Spoil:
    """A second set of the same kind, `old/cabin.yaml`; it is that which is spoilt."""

    def spoil(folder: Path) -> None:
        (folder / "old").mkdir()
        shutil.copy(folder / CARD, folder / "old")
        shutil.copytree(folder / "cabin_mini", folder / "old" / "cabin_mini")
        for one in spoils:
            one(folder / "old")

    return spoil


def empty_labels(part: str) -> Spoil:
    """Nobody is labelled in a part."""

    def spoil(folder: Path) -> None:
        for file in (folder / "cabin_mini" / "labels" / part).glob("*.txt"):
            file.write_text("")

    return spoil


TUNE = ["finetune", "model=pose.pt", "data=cabin.yaml", "epochs=1", "imgsz=64", "device=cpu"]
OLD = "replay=old/cabin.yaml"
NO_TEST = card("test: cabin_mini/images/test", "")
# Of a fine-tuning, joined with `MISTAKES` in test_mistakes.py: what is done to the set, the words, what the line says.
FINETUNE_MISTAKES: dict[str, tuple[Spoil, list[str], list[str]]] = {
    "test folder empty": (
        without("images/test", keep=True),
        TUNE,
        ["no images in the test part of", "cabin.yaml"],
    ),
    "old test folder empty": (
        old_data(without("images/test", keep=True)),
        [*TUNE, OLD],
        ["no images in the test part of", "old/cabin.yaml"],
    ),
    "test labels empty": (empty_labels("test"), TUNE, ["all 4 label files of the test part are empty"]),
    "old test labels empty": (
        old_data(empty_labels("test")),
        [*TUNE, OLD],
        ["all 4 label files of the test part are empty"],
    ),
    "split without such a part": (NO_TEST, [*TUNE, "split=test"], ["cabin.yaml has no part 'test': it has train, val"]),
    "split without such an old part": (
        old_data(NO_TEST),
        [*TUNE, OLD, "split=test"],
        ["old/cabin.yaml has no part 'test': it has train, val"],
    ),
    "new data replayed": (nothing, [*TUNE, "replay=cabin.yaml"], ["replay=cabin.yaml is the new data itself"]),
    "a fraction of the data": (nothing, [*TUNE, "fraction=0.5"], ["fraction is for dpose train: name the images"]),
    "model to resume is not there": (nothing, ["finetune", "resume=last.pt"], ["no checkpoint last.pt to resume from"]),
}
