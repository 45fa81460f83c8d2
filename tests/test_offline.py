"""No network access unless the user asks: every attempt in a whole run is recorded, and there is none."""

from __future__ import annotations

import os
import subprocess
import sys

import offline_demo
import pytest
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


def test_a_model_that_is_not_there_counts_as_being_offline():
    """The mixed-precision check on CUDA continues without its model after a `ConnectionError`."""
    import ultralytics

    import dpose_yolo.engine.checkpoints  # noqa: F401 - applies the patches

    with pytest.raises(ConnectionError, match="nothing is downloaded"):
        ultralytics.YOLO(ultralytics.utils.Path("/nowhere/yolo26n.pt"))


def test_a_trace_is_counted_right():
    """Lines as strace 6.1 writes them."""
    trace = """\
11 socket(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC, IPPROTO_IP) = 3
11 connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("192.0.2.1")}, 16 <unfinished ...>
12 sendto(4, "x", 1, 0, {sa_family=AF_INET6, sin6_port=htons(53), inet_pton(AF_INET6, "::1", &sin6_addr)}, 28) = 1
11 <... connect resumed>)                 = -1 ENETUNREACH (Network is unreachable)
12 connect(3, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT (No such file or directory)
12 connect(3, {sa_family=AF_UNIX, sun_path="/run/systemd/resolve/io.systemd.Resolve"}, 42) = 0
13 sendto(3, [{nlmsg_len=20, nlmsg_type=RTM_GETADDR}], 20, 0, {sa_family=AF_NETLINK, nl_pid=0}, 12) = 20
13 connect(3, {sa_family=AF_UNSPEC}, 16) = 0
13 connect(3, {sa_family=AF_VSOCK, svm_cid=0x2, svm_port=0x1}, 16) = 0
13 sendto(5, "in a pair", 9, 0, NULL, 0) = 9
"""
    seen = offline_demo.read_trace(trace)
    assert [line.split("(")[0] for line in seen.attempts] == ["11 connect", "12 sendto", "12 connect", "13 connect"]
    assert seen.local == {'AF_UNIX "/var/run/nscd/socket"': 1, "AF_NETLINK, the kernel": 1}
    assert seen.calls == 9


@pytest.mark.slow
def test_the_demo_makes_no_attempt_where_an_attempt_is_seen():
    """`make offline`: no variable helps; the same tracer sees a child that tries, and the engine let free."""
    reason = offline_demo.refusal()
    if reason:
        pytest.skip(reason)
    tried = "\n".join(offline_demo.control().attempts)
    for address in ('sin_addr=inet_addr("192.0.2.1")', '"2001:db8::1"'):
        assert tried.count(address) == 2
    assert offline_demo.allowed().attempts  # YOLO_OFFLINE=false
    seen = offline_demo.demo(epochs=1)
    assert seen.attempts == []
    assert offline_demo.late().attempts == []


@pytest.mark.parametrize(("given", "wanted"), [({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")])
def test_the_usage_events_of_onnx_runtime_are_off(given, wanted):
    assert told_to_onnx_runtime("import dpose_yolo", given) == (wanted, "")


def test_they_are_left_alone_where_the_network_is_wanted():
    assert told_to_onnx_runtime("import dpose_yolo", {"YOLO_OFFLINE": "false"}) == ("None", "")


def test_an_onnx_runtime_imported_first_is_told_of():
    """It reads its environment then, and its own function to switch the events off does not stop them."""
    _, warned = told_to_onnx_runtime("import onnxruntime, dpose_yolo", {})
    assert "onnxruntime was imported before dpose_yolo, so its usage events stay on" in warned


def told_to_onnx_runtime(code: str, given: dict[str, str]) -> tuple[str, str]:
    """Its variable after some code in a process of its own, and what that process warned of."""
    kept = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "YOLO_OFFLINE")}
    code += "; import os; print(os.environ.get('ORT_DISABLE_TELEMETRY'))"
    done = subprocess.run([sys.executable, "-c", code], env={**kept, **given}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr
