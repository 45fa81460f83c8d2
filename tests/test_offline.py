"""No network access unless the user asks: every attempt in a whole run is recorded, and there is none."""

from __future__ import annotations

import subprocess
import sys

import yaml
from engine_models import tiny_yaml

RECORDER = """
import socket, sys
attempts = []
def refuse(name):
    def call(*args, **kwargs):
        attempts.append((name, args[-1] if args else None))
        raise OSError("no network in this test")
    return call
socket.getaddrinfo = refuse("getaddrinfo")
socket.gethostbyname = refuse("gethostbyname")
socket.create_connection = refuse("create_connection")
class Socket(socket.socket):
    def connect(self, address):
        attempts.append(("connect", address))
        raise OSError("no network in this test")
    connect_ex = sendto = connect
socket.socket = Socket
from dpose_yolo.cli import run
for words in {commands!r}:
    assert run(words) == 0
assert not attempts, attempts
"""


def test_train_validate_explain_and_export_touch_no_network(mini_dataset, tmp_path):
    data = mini_dataset()
    model = tmp_path / "tiny.yaml"
    model.write_text(yaml.safe_dump(tiny_yaml()))
    project, best = f"project={tmp_path / 'runs'}", tmp_path / "runs" / "train" / "weights" / "best.pt"
    commands = [
        [
            "train",
            f"data={data}",
            f"model={model}",
            "imgsz=64",
            "epochs=1",
            "batch=8",
            "clusters=3",
            "device=cpu",
            project,
        ],
        ["val", f"model={best}", f"data={data}", "imgsz=64", "device=cpu", "plots=True", project],
        ["cam", f"model={best}", f"source={data.parent / 'images' / 'val'}", "limit=1", "imgsz=64", project],
        ["export", f"model={best}", "imgsz=64"],
        ["predict", f"model={best}", f"source={data.parent / 'images' / 'val'}", "imgsz=64", "device=cpu", project],
    ]
    code = RECORDER.replace("{commands!r}", repr(commands))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]


def test_an_engine_imported_first_is_taken_offline_too():
    code = """
import socket
socket.getaddrinfo = lambda *args, **kwargs: [("answer",)]  # the engine believes it is online
import os
os.environ.pop("YOLO_OFFLINE", None)
from ultralytics import utils
assert utils.ONLINE
import dpose_yolo.engine.trainer
from ultralytics.utils import checks, events
assert not (utils.ONLINE or checks.ONLINE or events.ONLINE or events.events.enabled)
assert checks.check_font("Arial.ttf").is_file()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_amp_check_without_its_model_neither_downloads_nor_forgets_bad_cards(monkeypatch):
    import torch
    import ultralytics
    from ultralytics import utils

    from dpose_yolo.engine.offline import _local_amp_check

    seen = []

    def engine_check(model):
        try:
            ultralytics.YOLO("yolo26n.pt")
        except ConnectionError:
            seen.append("told that it is offline")
        return False  # as for a card of its list

    monkeypatch.setattr(utils, "WEIGHTS_DIR", utils.Path("/nowhere"))
    before = ultralytics.YOLO
    assert _local_amp_check(engine_check)(torch.nn.Linear(1, 1)) is False
    assert seen == ["told that it is offline"] and ultralytics.YOLO is before
