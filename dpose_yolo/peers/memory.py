"""Memory of a model: what a process of its own needs at most to load and run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dpose_yolo.errors import DPoseError

# Given a file or nothing; without a model it tells what Python and the runtime take by themselves.
_PROCESS = """
import sys
from dpose_yolo.peers.memory import resident_peak
from dpose_yolo.peers.speed import example, load_network
import onnxruntime
try:
    import ai_edge_litert.interpreter
except ImportError:
    pass
before = resident_peak()
network = load_network(sys.argv[1], int(sys.argv[2]))
for _ in range(5):
    network(example(network, int(sys.argv[3])))
print(before, resident_peak())
"""


def resident_peak() -> float:
    """Highest resident memory of this process so far, MB.

    On Linux from `VmHWM`: `ru_maxrss` of a child counts what its parent had when it started it.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        kilobytes = next(float(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        unit = 1 / 1024 if sys.platform == "darwin" else 1.0  # bytes there, kilobytes elsewhere
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return kilobytes * 1024 / 1e6


def model_memory(path: str | Path, threads: int = 1, size: int = 640) -> tuple[float, float]:
    """Peak memory of a process that loads and runs a file, MB.

    Args:
        path: .onnx or .tflite.
        threads: CPU threads of the network.
        size: side of the input, where the file leaves it open.

    Returns:
        With the runtime alone, and with the model.

    Raises:
        DPoseError: when the process breaks off.
    """
    command = [sys.executable, "-c", _PROCESS, str(path), str(threads), str(size)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DPoseError(f"the memory of {path} cannot be measured: {last[:200]}")
    before, after = done.stdout.split()[-2:]
    return float(before), float(after)
