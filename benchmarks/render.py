"""Images a second and memory of `dpose render`, and the time of its label-side steps.

    python benchmarks/render.py [images=200] [sizes=320x240,640x480] [workers=1,2] [look=colour] [licence=any]

Each row renders into a temporary folder in a process of its own: images a second with opening the renderer left out
(the first job of each worker is not counted), and the largest memory of a worker. Then labels a second without images,
and the seconds of the coverage oracle for 2,000 real labels and as many rendered ones as are drawn.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from dpose_yolo.cli import parse_arguments
from dpose_yolo.render.coverage import average_recall, nearest
from dpose_yolo.render.options import image_size
from dpose_yolo.render.output import RenderedOutput
from dpose_yolo.render.plan import BATCH, SIGMAS, ScenePlan, posture_scenes
from dpose_yolo.render.run import render_set
from dpose_yolo.render.tools import draw_many, own_tools

LABELS = 2000  # drawn without images


def measured(plan: ScenePlan, workers: int, pipe: Any) -> None:
    """Render a plan; send images a second, counted from the end of the first jobs, and the largest memory in MB."""
    times: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        out = RenderedOutput(Path(folder) / "set", {})
        render_set(plan, out, own_tools(), workers=workers, tick=lambda n: times.append((time.monotonic(), n)))
    counted = times[workers:]
    speed = sum(n for _, n in counted) / max(counted[-1][0] - times[workers - 1][0], 1e-9) if counted else float("nan")
    whose = resource.RUSAGE_CHILDREN if workers > 1 else resource.RUSAGE_SELF
    pipe.send((speed, resource.getrusage(whose).ru_maxrss / 1000))


def main() -> None:
    """Print a table."""
    given = parse_arguments(sys.argv[1:])
    images = int(given.get("images", 200))
    sizes = [image_size(word) for word in str(given.get("sizes", "320x240,640x480")).split(",")]
    counts = [int(word) for word in str(given.get("workers", "1,2")).split(",")]
    tools = own_tools()
    fixed = {name: str(given.get(name, default)) for name, default in (("look", "colour"), ("licence", "any"))}
    print(f"{'size':>9} {'workers':>7} {'images/s':>8} {'a worker':>8} {'memory MB':>9}")
    for size in sizes:
        for workers in counts:
            scenes = posture_scenes(
                tools.postures, max(images, BATCH * (workers + 1)), 0, [None], {**fixed, "size": size}
            )
            plan = ScenePlan(tuple(scenes), tuple(scene.posture for scene in scenes))
            ours, theirs = multiprocessing.get_context("spawn").Pipe()
            process = multiprocessing.get_context("spawn").Process(target=measured, args=(plan, workers, theirs))
            process.start()
            theirs.close()
            speed, memory = ours.recv()
            process.join()
            name = f"{size[0]}x{size[1]}"
            print(f"{name:>9} {workers:>7} {speed:>8.2f} {speed / workers:>8.2f} {memory:>9.0f}", flush=True)
    begun = time.monotonic()
    labels = draw_many(posture_scenes(tools.postures, LABELS, 0, [None], {**fixed, "size": sizes[0]}), tools.draw)[0]
    print(f"labels without images: {LABELS / (time.monotonic() - begun):.0f} a second")
    begun = time.monotonic()
    half = np.arange(len(labels)) % 2 == 0
    oks, _ = nearest(labels.select(half), labels.select(~half), SIGMAS)
    print(f"oracle of one half by the other: AR {average_recall(oks):.3f}, {time.monotonic() - begun:.2f} s")


if __name__ == "__main__":
    main()
