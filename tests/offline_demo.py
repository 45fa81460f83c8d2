"""Run the demo where there is no network, under a tracer that sees every process, and count attempts to reach one.

    python tests/offline_demo.py [EPOCHS]        `make offline`; 1 epoch unless said

Everything runs in a network namespace without any interface (`unshare`) under `strace`, which follows child processes.
The environment says nothing about being offline, and the engine's settings are new: what is seen is the default.

The runs: a control that tries to reach the network in ways that have to be seen; the engine with
`YOLO_OFFLINE=false`, whose attempts have to be seen too; the demo, and its model in a process that stays for a while
(ONNX Runtime sends its usage events late), which have to make none. Exit status 0 where that is so, 1 where not, 77
where it cannot be tried here, with the reason.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SENDS = ("connect", "sendto", "sendmsg", "sendmmsg")
STAY = 25  # seconds; ONNX Runtime 1.32 makes its first attempt within that
CANNOT = 77  # exit status, as of automake's skipped tests
# One process starts another, which asks for a name, connects and sends, by either version of the protocol.
CONTROL = """
import socket, subprocess, sys
child = '''
import socket
for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(family, kind) as s:
            try:
                s.connect((address, 80)) if kind == socket.SOCK_STREAM else s.sendto(b"x", (address, 53))
            except OSError:
                pass
'''
try:
    socket.getaddrinfo("example.invalid", 80)
except OSError:
    pass
sys.exit(subprocess.run([sys.executable, "-c", child]).returncode)
"""
LATE = f"""
import time
from dpose_yolo.runtime import DriverPose
DriverPose("runs/offline/train/weights/best.onnx")
time.sleep({STAY})
"""


@dataclass
class Seen:
    """What a trace tells.

    Attributes:
        attempts: calls that would reach another machine, or a resolver that would, as the tracer wrote them.
        local: places of this machine that were spoken to, with how often.
        calls: network calls in all.
    """

    attempts: list[str] = field(default_factory=list)
    local: Counter[str] = field(default_factory=Counter)
    calls: int = 0


def read_trace(text: str) -> Seen:
    """Count what `strace -f -e trace=%network` has written.

    A datagram to an address is an attempt as much as a connection; loopback addresses count too. Sockets of the
    machine itself (AF_UNIX) and questions to the kernel (AF_NETLINK) reach nobody else, and are named; but a socket of
    a resolver is an attempt, since that would ask the network.
    """
    seen = Seen()
    for line in text.splitlines():
        call = re.match(r"\d+\s+(\w+)\(", line)  # not the second half of a call that another process came between
        if not call:
            continue
        seen.calls += 1
        if call[1] not in SENDS:
            continue
        path = re.search(r'sun_path=(@?"[^"]*")', line)
        if re.search(r"sa_family=AF_INET6?\b", line) or (path and "resolve" in path[1]):
            seen.attempts.append(line)
        elif path:
            seen.local[f"AF_UNIX {path[1]}"] += 1
        elif "sa_family=AF_NETLINK" in line:
            seen.local["AF_NETLINK, the kernel"] += 1
        elif re.search(r"sa_family=AF_(?!UNSPEC)", line):
            seen.attempts.append(line)  # a family that nobody thought of
    return seen


def namespace() -> list[str]:
    """Start of a command that has no network, as root or not; empty where that is not allowed."""
    for options in (["-n"], ["-rn"]):
        if (
            shutil.which("unshare")
            and subprocess.run(["unshare", *options, "true"], capture_output=True).returncode == 0
        ):
            return ["unshare", *options]
    return []


def tracer(trace: str) -> list[str]:
    """Start of a command that is traced into a file; empty where that is not allowed."""
    plain = ["strace", "-f", "-qq", "-e", "signal=none", "-e", "trace=%network"]
    for options in (["--seccomp-bpf"], []):  # stops at these calls only, where the kernel and strace are new enough
        words = [*plain[:2], *options, *plain[2:], "-o", trace]
        if shutil.which("strace") and subprocess.run([*words, "true"], capture_output=True).returncode == 0:
            return words
    return []


def refusal() -> str | None:
    """Why it cannot be tried here, or None."""
    if not namespace():
        return "no network namespace can be made here (unshare -n, or -rn where not root)"
    if not shutil.which("strace"):
        return "there is no strace here (e.g. apt install strace)"
    if not tracer(os.devnull):
        return "strace is not allowed to trace here"
    return None


def watched(command: list[str], **environment: str) -> tuple[subprocess.CompletedProcess, Seen]:
    """Run a command without network, and what was seen of it and of its children.

    Its environment says nothing of what the engine may do, and names a new folder for the engine's settings.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("YOLO_", "ULTRALYTICS_", "DPOSE_", "ORT_"))}
    kept.pop("CI", None)  # some programs are silent where tests are run
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    with tempfile.TemporaryDirectory(prefix="dpose-offline-") as folder:
        trace = Path(folder) / "trace.txt"
        found = {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "YOLO_CONFIG_DIR": folder, **environment}
        words = [*namespace(), *tracer(str(trace)), *command]
        done = subprocess.run(words, cwd=ROOT, env=found, capture_output=True, text=True)
        return done, read_trace(trace.read_text(encoding="utf-8", errors="replace"))


def control() -> Seen:
    """What is seen of a program that tries."""
    done, seen = watched([sys.executable, "-c", CONTROL])
    assert done.returncode == 0, done.stderr
    return seen


def allowed() -> Seen:
    """What is seen of the engine when the setting lets it: it looks whether it is online as soon as it is imported."""
    done, seen = watched([sys.executable, "-c", "import dpose_yolo.engine.trainer"], YOLO_OFFLINE="false")
    assert done.returncode == 0, done.stderr
    return seen


def demo(epochs: int) -> Seen:
    """What is seen of the whole demo."""
    done, seen = watched(["bash", "scripts/demo.sh"], DEMO_EPOCHS=str(epochs), DEMO_OUT="runs/offline")
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    assert "Demo done" in done.stdout
    return seen


def late(**environment: str) -> Seen:
    """What is seen of a process that keeps the demo's exported model for a while."""
    done, seen = watched([sys.executable, "-c", LATE], **environment)
    assert done.returncode == 0, done.stderr[-1500:]
    return seen


def main(epochs: int = 1) -> int:
    """Try, print what was seen; the exit status."""
    reason = refusal()
    if reason:
        print(f"offline: not tried: {reason}")
        return CANNOT
    began = time.time()
    print(f"offline: {' '.join(namespace())}, {' '.join(tracer('FILE'))}")
    tried = control()
    print(f"offline: control, a child that tries: {len(tried.attempts)} attempts seen (4 and a name)")
    let = allowed()
    print(f"offline: YOLO_OFFLINE=false, the engine imported: {len(let.attempts)} attempts seen, the first:")
    print(f"  {let.attempts[0] if let.attempts else 'none'}")
    seen = demo(epochs)
    print(f"offline: the demo with {epochs} epochs: {len(seen.attempts)} attempts, {seen.calls} network calls in all")
    kept, free = late(), late(YOLO_OFFLINE="false")
    print(f"offline: its ONNX model, kept for {STAY} s: {len(kept.attempts)} attempts", end=" ")
    print(f"(with YOLO_OFFLINE=false {len(free.attempts)})")
    for line in seen.attempts + kept.attempts:
        print(f"  {line}")
    for place, count in sorted(seen.local.items()):
        print(f"  on this machine: {place}, {count} times")
    right = len(tried.attempts) >= 5 and bool(let.attempts) and not seen.attempts and not kept.attempts
    print(f"offline: {'as it should be' if right else 'NOT as it should be'}, {time.time() - began:.0f} s")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
