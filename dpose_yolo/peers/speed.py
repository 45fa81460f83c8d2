"""How fast the networks of exported files are on this machine, by turns: without torch and the engine."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.peers.base import Network
from dpose_yolo.peers.cost import file_cost
from dpose_yolo.peers.latency import interleaved
from dpose_yolo.peers.memory import model_memory
from dpose_yolo.peers.networks import load_network

__all__ = ["example", "load_network", "measure_models"]


def example(network: Network, size: int) -> np.ndarray:
    """An input of noise: 0..255 for whole numbers, 0..1 for others. What is seen does not change the time.

    Args:
        network: a loaded file.
        size: side of the picture, where the file leaves it open.

    Raises:
        DPoseError: for an input that is no picture.
    """
    shape = [n or (1 if at == 0 else size) for at, n in enumerate(network.input_shape)]
    if len(shape) != 4:
        raise DPoseError(f"an input of shape {shape} is no picture: dpose bench takes models of pictures")
    noise = np.random.default_rng(0).random(shape, np.float32)
    if np.issubdtype(network.input_type, np.integer):
        noise *= min(255, np.iinfo(network.input_type).max)
    return noise.astype(network.input_type)


def measure_models(
    paths: Sequence[Path],
    titles: Sequence[str],
    threads: Sequence[int] = (1, 2),
    rounds: int = 20,
    repeats: int = 10,
    size: int = 640,
) -> list[dict[str, Any]]:
    """Time, memory and size of the networks in several files.

    The models take turns (`peers.latency.interleaved`), so that what slows the machine down slows all of them; so
    ratios to the first model are taken within rounds. Processor time tells what a network costs on a machine that has
    other work to do.

    Args:
        paths: M files, .onnx or .tflite.
        titles: what they are called.
        threads: numbers of CPU threads.
        rounds: turns of each model, with `repeats` timed runs each.
        repeats: see `rounds`.
        size: side of inputs that files leave open.

    Returns:
        A dict a model: title, input, megabytes, parameters, gflops, memory_mb, and under `threads` for each number of
        threads: ms, ms_p99, per_second, ratio, ratio_low, ratio_high (how many times as fast as the first model,
        median and quartiles over rounds), cpu_ms, cpu_ratio.

    Raises:
        DPoseError: for a file that cannot be loaded or run.
    """
    rows: list[dict[str, Any]] = []
    for path, title in zip(paths, titles, strict=True):
        network = load_network(path, 1)
        shape = example(network, size).shape
        cost = file_cost(path, size)
        runtime, whole = model_memory(path, 1, size)
        about: dict[str, Any] = {"model": title, "path": str(path), "input": "x".join(map(str, shape)), "threads": {}}
        about |= {"megabytes": path.stat().st_size / 1e6, "parameters": cost.parameters, "gflops": cost.gflops}
        rows.append({**about, "memory_mb": whole, "memory_of_model_mb": whole - runtime})
    for count in threads:
        seconds = _seconds(paths, count, rounds, repeats, size)
        for row, told in zip(rows, _figures(seconds), strict=True):
            row["threads"][str(count)] = told
    return rows


def _seconds(paths: Sequence[Path], threads: int, rounds: int, repeats: int, size: int) -> np.ndarray:
    """(M, rounds, repeats, 2) by the clock on the wall and by the processor's."""
    networks = [load_network(path, threads) for path in paths]
    inputs = [example(network, size) for network in networks]
    runs = [lambda _, __, n=n, x=x: n(x) for n, x in zip(networks, inputs, strict=True)]  # type: ignore[misc]
    nothing = [(np.zeros(0), np.zeros(0))] * repeats

    def clock() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    return interleaved(runs, nothing, rounds, clock=clock).reshape(len(paths), rounds, repeats, 2)


def _figures(seconds: np.ndarray) -> list[dict[str, float]]:
    """Figures of each model from (M, rounds, repeats, 2) seconds."""
    by_round = np.median(seconds, 2)  # (M, rounds, 2)
    ratios = by_round[:1] / by_round
    result = []
    for own, ratio in zip(seconds, ratios, strict=True):
        wall, cpu = 1000 * own[..., 0].ravel(), 1000 * own[..., 1].ravel()
        low, middle, high = np.quantile(ratio[:, 0], [0.25, 0.5, 0.75])
        result.append(
            {
                "ms": float(np.median(wall)),
                "ms_p99": float(np.quantile(wall, 0.99)),
                "per_second": 1000 / float(np.median(wall)),
                "ratio": float(middle),
                "ratio_low": float(low),
                "ratio_high": float(high),
                "cpu_ms": float(np.median(cpu)),
                "cpu_ratio": float(np.median(ratio[:, 1])),
            }
        )
    return result


def machine() -> dict[str, Any]:
    """Processor, cores, load and versions, for beside the table."""
    import os

    import onnxruntime

    from dpose_yolo import __version__
    from dpose_yolo.report.machine import machine as processor

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": load,
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "dpose_yolo": __version__,
    }
