"""Every command opens exactly the files it is given, asks no network, and leaves the user's files as they are."""

from __future__ import annotations

import socket
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from engine_models import tiny_yaml
from stick_figures import build_dataset
from ultralytics import YOLO

from dpose_yolo import DPoseError, cli

QUOTED = "in/driver's/best.pt"  # not there; in/drivers/best.pt is
PUBLISHED = "yolo11n-pose.pt"  # damaged
URL = "https://example.com/yolo11n-pose.pt"
TRAIN = ["train", "data=mini/data.yaml", "epochs=1", "imgsz=64", "device=cpu"]
TUNE = ["finetune", "data=mini/data.yaml", "epochs=1", "imgsz=64", "device=cpu"]
# Settings that name a model, with what else their command needs.
SETTINGS = [
    [*TRAIN, "model="],
    [*TRAIN, "model=tiny.yaml", "pretrained="],
    [*TRAIN, "model=tiny.yaml", "att=0", "distill_model="],
    [*TRAIN, "resume="],
    [*TUNE, "model="],
    [*TUNE, "model=in/drivers/best.pt", "distill_model="],
    [*TUNE, "resume="],
    ["val", "data=mini/data.yaml", "imgsz=64", "device=cpu", "model="],
    ["predict", "source=mini/images/val", "imgsz=64", "device=cpu", "model="],
    ["export", "data=mini/data.yaml", "imgsz=64", "model="],
    ["cam", "source=mini/images/val", "imgsz=64", "model="],
    ["info", "model="],
    ["forget", "model="],
    ["compare", "data=mini/data.yaml", "imgsz=64", "device=cpu", ""],
    ["bench", "models", ""],
    ["autolabel", "source=mini/images/val", "dst=labelled", "teacher=in/drivers/best.pt,"],
    ["clusters", "mixture="],
    ["check", "data="],
    ["val", "model=in/drivers/best.pt", "data="],
    [*TUNE, "model=in/drivers/best.pt", "replay="],
    ["prepare", "coco", "dst=prepared", "src="],
]


@pytest.fixture
def attempts(monkeypatch) -> list[object]:
    """Attempts to reach the network, which all fail."""
    seen: list[object] = []

    def refuse(*args: object, **kwargs: object) -> None:
        seen.append(args)
        raise OSError("no network in this test")

    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    return seen


def fill(folder: Path) -> None:
    """A data set, a model under the name that the quoted path has without its quote, and damaged and strange ones."""
    build_dataset(folder / "mini", train=6, val=2, test=2, size=48)
    (folder / "in" / "drivers").mkdir(parents=True)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_yaml()))
    YOLO(str(folder / "tiny.yaml"), task="pose").save(folder / "in" / "drivers" / "best.pt")
    (folder / PUBLISHED).write_bytes(b"")
    layers = tiny_yaml()
    layers["backbone"][0] = [-1, 1, "TorchVision", [8, "resnet18", "DEFAULT", True, 2]]
    (folder / "vision.yaml").write_text(yaml.safe_dump(layers))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_no_setting_reaches_the_network_or_another_file_and_nothing_is_deleted(tmp_path, monkeypatch, attempts):
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = files_of(tmp_path)
    values = [QUOTED, PUBLISHED, URL, "ul://user/project/model.pt", "yolo11n-pose", "vision.yaml"]
    for *words, setting in SETTINGS:
        for value in values:
            with pytest.raises(DPoseError) as told:
                cli.run([*words, setting + value])
            line = str(told.value)
            assert "\n" not in line and attempts == [], (words, value, line)
            if value == QUOTED and "model=" in setting:
                assert QUOTED in line, line
            if value == PUBLISHED and setting == "model=":
                assert f"{PUBLISHED}" in line and "damaged" in line, line
    after = files_of(tmp_path)
    assert {name: after.get(name) for name in before} == before


def test_any_characters_in_paths_are_read_alike_in_every_setting(tmp_path, monkeypatch, attempts):
    name = "driver's [a] {1}, 50% ?#&a=b " + "".join(unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    folder = tmp_path / name
    fill(tmp_path / "plain")
    (tmp_path / "plain").rename(folder)
    monkeypatch.chdir(folder)
    model = f" {name}.pt"  # relative, and it begins with a blank
    Path("in/drivers/best.pt").rename(model)
    small = ["imgsz=64", "device=cpu", f"data={folder}/mini/data.yaml", f"project={folder}/runs", "exist_ok=True"]
    train = ["train", *small, "epochs=1", "batch=6", "clusters=2", "plots=False", f"model={model}"]
    images = f"source={folder}/mini/images/val"
    one, other, *_ = sorted(Path("mini/images/train").iterdir())
    np.save(one.with_suffix(".npy"), np.zeros((48, 48, 3), np.uint8))  # the user's, as are all files here
    other.with_suffix(".npy").write_bytes(b"notes")
    cv2.imwrite("whole.jpg", cv2.imread(str(one)))
    one.write_bytes(Path("whole.jpg").read_bytes() + b"of a camera")
    mine = files_of(folder)
    best = f"{folder}/runs/{name}/weights/best.pt"
    commands = [
        [*train, f"pretrained={model}", f"distill_model={model}", f"name={name}", "cache=disk"],
        ["val", *small, f"model={best}", "attention=False", "bootstrap=0"],
        ["predict", images, "imgsz=64", "device=cpu", f"model={best}", f"project={folder}/runs"],
        ["cam", images, "imgsz=64", "limit=1", f"model={best}", f"project={folder}/runs"],
        ["info", "imgsz=64", f"model={best}"],
        ["export", "imgsz=64", "verify=False", f"model={best}"],
        ["val", *small, f"model={best[:-3]}.onnx", "attention=False", "bootstrap=0"],
        [
            "autolabel",
            images,
            f"teacher={best},{folder}/{model}",
            f"dst={folder}/labelled",
            "empty=True",
            "conf=0.01",
            "sure=0.1",
            "weak=0.05",
        ],
        ["check", f"data={folder}/mini/data.yaml", f"project={folder}/runs"],
    ]
    for words in commands:
        assert cli.run(words) == 0, words
    assert attempts == []
    after = files_of(folder)
    assert {path: after.get(path) for path in mine} == mine
    one.write_bytes(cut := Path("whole.jpg").read_bytes()[:-2])
    with pytest.raises(DPoseError, match=r"train_0000.png: .*the JPEG is cut off"):
        cli.run([*train, "name=cut"])
    assert one.read_bytes() == cut
    assert Path(best).is_file() and not (tmp_path / name.replace("'", "")).exists()
