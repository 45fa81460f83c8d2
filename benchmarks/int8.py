"""What quantisation costs: AP, AP of rare postures, size and time of one model in FP32, FP16 and INT8.

    python benchmarks/int8.py model=best.pt data=cabin/data.yaml split=test imgsz=160 [images=128] [rounds=20] [seeds=1]

INT8 with images drawn evenly over the postures and at random, with the pose head in floating point and quantised.
Time: the network alone, ONNX Runtime, one CPU thread, the files in turns on the same pictures; processor time, which
other work on the machine disturbs less than the clock on the wall.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from dpose_yolo.engine.models import engine_model
from dpose_yolo.evaluation.data import load_part
from dpose_yolo.evaluation.evaluate import measure
from dpose_yolo.evaluation.postures import cluster_groups
from dpose_yolo.evaluation.predict import evaluate_engine_model
from dpose_yolo.export.answers import Viewer
from dpose_yolo.export.calibration import calibration_images
from dpose_yolo.export.files import engine_export
from dpose_yolo.export.int8 import quantise
from dpose_yolo.export.options import Int8Options
from dpose_yolo.images import read_image
from dpose_yolo.peers.latency import interleaved
from dpose_yolo.runtime.card import open_session

CASES = [
    ("INT8, balanced, float head", {}),
    ("INT8, random, float head", {"calibrate": "random"}),
    ("INT8, balanced, head quantised", {"float_head": False}),
    ("INT8, random, head quantised", {"calibrate": "random", "float_head": False}),
    ("INT8, balanced, float head, symmetric", {"symmetric": True}),
]


def write(place: Path, model: str, data: str, size: int, images: int, seeds: int) -> dict[str, list[Path]]:
    """The files of each case, one a seed."""
    yolo = engine_model(model)
    engine = {"imgsz": size, "verbose": False, "format": "onnx"}
    plain = engine_export(yolo, place, "fp32", engine)
    cases = {"FP32": [plain], "FP16": [engine_export(yolo, place, "fp16", {**engine, "quantize": 16})]}
    viewer = Viewer((size, size), int(yolo.model.yaml.get("channels", 3)))
    for name, changed in CASES:
        options = Int8Options(images=images, **changed)
        cases[name] = []
        for seed in range(seeds):
            files, _ = calibration_images(data, images, options.calibrate, model, seed)
            target = place / f"{name.replace(' ', '_').replace(',', '')}_{seed}.onnx"
            blobs = [lambda file=file: viewer(read_image(file)).blob for file in files]
            quantise(plain, target, blobs, len(yolo.model.model) - 1, options)
            cases[name].append(target)
    return cases


def main(words: list[str]) -> None:
    """Print a Markdown table."""
    given = dict(word.split("=", 1) for word in words)
    model, data, size = given["model"], given["data"], int(given.get("imgsz", 640))
    images, rounds, seeds = (int(given.get(k, v)) for k, v in (("images", 128), ("rounds", 20), ("seeds", 1)))
    part = load_part(data, given.get("split", "val"))
    clusters = cluster_groups(part, "auto", model)
    viewer = Viewer((size, size), 3)
    pictures = [
        (viewer(read_image(file)).blob, np.zeros(4)) for file in part.truth.files[:: len(part.truth.files) // 10]
    ]
    with tempfile.TemporaryDirectory() as folder:
        cases = write(Path(folder), model, data, size, images, seeds)
        figures = {}
        for name, files in cases.items():
            rows = []
            for file in files:
                found, _ = evaluate_engine_model(file, part=part, imgsz=size, batch=1, verbose=False)
                metrics = measure(part, found, clusters, bootstrap=0).metrics
                rows.append(
                    [metrics["AP"], metrics["clusters"]["tail"], (metrics["names"] or {}).get("tail") or np.nan]
                )
            figures[name] = np.array(rows)
        sessions = [open_session(files[0], threads=1) for files in cases.values()]
        runs = [lambda blob, _, s=s: s.run(None, {s.get_inputs()[0].name: blob}) for s in sessions]
        seconds = interleaved(runs, pictures, rounds, clock=time.process_time)
        sizes = [files[0].stat().st_size for files in cases.values()]
    print(f"{model}, {part.split} part of {data}, {size} px, {images} calibration images, {seeds} seeds")
    print(
        "| model | AP | change | tail AP (clusters) | tail AP (names) | MB | CPU ms | times as fast as FP32 |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    base = figures["FP32"][0]
    per_round = np.median(seconds.reshape(len(sessions), rounds, -1), 2)
    for at, (name, rows) in enumerate(figures.items()):
        mean, spread = rows.mean(0), np.ptp(rows, 0)
        ap = f"{mean[0]:.4f}" + (f" (spread {spread[0]:.4f})" if len(rows) > 1 else "")
        ratio = np.median(per_round[0] / per_round[at])
        print(
            f"| {name} | {ap} | {mean[0] - base[0]:+.4f} | {mean[1]:.3f} ({mean[1] - base[1]:+.3f}) | "
            f"{mean[2]:.3f} ({mean[2] - base[2]:+.3f}) | {sizes[at] / 1e6:.2f} | "
            f"{1000 * np.median(seconds[at]):.2f} | {ratio:.2f} |"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
