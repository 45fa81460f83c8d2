"""Compare model designs: accuracy of a short equal training from nothing, and latency in ONNX Runtime.

    python benchmarks/designs.py train data=statefarm_pose/data.yaml designs=dpose-125,p4-silu seeds=0,1
    python benchmarks/designs.py latency designs=dpose-125,p4-silu imgsz=480 peer=yolo11n-pose.pt
    python benchmarks/designs.py table

A design is a name (`benchmarks/designs/NAME.yaml` or `dpose_yolo/cfg/models/NAME.yaml`) or the path of a
model YAML. Rows are written to `out=` as soon as they are known, and a row that is already there is not
computed again: its key holds a digest of the YAML's meaning, so an edited design is a new one. Everything
runs on one CPU thread.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

# Before torch and the engine are imported: one thread, and no look at the network.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false")

import numpy as np
import torch
import yaml
from ultralytics import YOLO
from ultralytics.nn.tasks import PoseModel
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import get_flops

HERE = Path(__file__).resolve().parent
FOLDERS = (HERE / "designs", HERE.parent / "dpose_yolo" / "cfg" / "models")
DEFAULTS = {
    "data": "",
    "designs": "dpose-125",
    "imgsz": "",
    "epochs": "30",
    "seeds": "0",
    "batch": "32",
    "rounds": "60",
    "peer": "",
    "out": "runs/designs",
}
# The same for every design. No mosaic: a driver fills the image. No flip: the wheel stays on its side.
# val=False: the last epoch is judged, so that no design profits from choosing its best epoch on the part it
# is judged on. nbs = batch: one optimizer step per batch.
TRAINING = {
    "optimizer": "AdamW",
    "lr0": 2e-3,
    "cos_lr": True,
    "warmup_bias_lr": 0.0,
    "mosaic": 0.0,
    "fliplr": 0.0,
    "cache": "ram",
    "amp": False,
    "plots": False,
    "val": False,
    "device": "cpu",
    "exist_ok": True,
    "verbose": False,
}
TRAIN_KEY = ("design", "digest", "data", "seed", "imgsz", "epochs", "batch")
TRAIN_FIELDS = (*TRAIN_KEY, "ap", "ap50", "box_ap", "seconds")
LATENCY_KEY = ("design", "digest", "imgsz")
LATENCY_FIELDS = (*LATENCY_KEY, "peer", "rounds", "ms", "peer_ms", "ratio")
Row = dict[str, str]


def find(design: str) -> Path:
    """The YAML of a design, by name or by path; leaves with one line when there is none."""
    for path in (Path(design), *(folder / f"{design}.yaml" for folder in FOLDERS)):
        if path.is_file():
            return path
    folders = " or ".join(str(folder) for folder in FOLDERS)
    sys.exit(f"no design '{design}': give the path of a model YAML or a name from {folders}")


def digest(path: Path) -> str:
    """Eight hex digits that change with the meaning of a YAML, not with its comments."""
    content = json.dumps(yaml.safe_load(path.read_text()), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def size(path: Path) -> tuple[float, float, float]:
    """Parameters (M) and GFLOPs at 640 and 480, by the engine's counter, before fusing."""
    model = PoseModel(str(path), ch=3, verbose=False)
    parameters = sum(p.numel() for p in model.parameters())
    return parameters / 1e6, get_flops(model, 640), get_flops(model, 480)


def read(file: Path) -> list[Row]:
    """All finished rows of a CSV file, none when it does not exist."""
    if not file.exists():
        return []
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def append(file: Path, fields: tuple[str, ...], row: dict[str, Any]) -> None:
    """Write one row at once, so that a broken run loses nothing that was finished."""
    new = not file.exists()
    with file.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, fields)
        if new:
            writer.writeheader()
        writer.writerow(row)


def finished(rows: list[Row], key: dict[str, Any]) -> bool:
    """Whether a row with this key is among the rows."""
    return any(all(row[name] == str(value) for name, value in key.items()) for row in rows)


def train(design: str, settings: dict[str, str], seed: int, out: Path) -> None:
    """Train one design from nothing with one seed and write its AP (the engine's validator, last epoch)."""
    path, file = find(design), out / "train.csv"
    imgsz, epochs, batch = (int(settings[name]) for name in ("imgsz", "epochs", "batch"))
    data = Path(settings["data"])
    values = (path.stem, digest(path), f"{data.parent.name}/{data.name}", seed, imgsz, epochs, batch)
    key = dict(zip(TRAIN_KEY, values, strict=True))
    if finished(read(file), key):
        return print(f"{path.stem} seed {seed}: finished before")
    start = time.perf_counter()
    model = YOLO(str(path), task="pose")
    # A quarter faster on a CPU and the same mathematics.
    model.add_callback("on_train_start", lambda trainer: trainer.model.to(memory_format=torch.channels_last))
    metrics = model.train(
        data=settings["data"],
        imgsz=imgsz,
        epochs=epochs,
        batch=batch,
        nbs=batch,
        seed=seed,
        project=str((out / "runs").resolve()),
        name=f"{path.stem}-{key['digest']}-{data.stem}-{imgsz}-{epochs}-seed{seed}",
        **TRAINING,
    )
    scores = {"ap": metrics.pose.map, "ap50": metrics.pose.map50, "box_ap": metrics.box.map}
    row = {name: f"{value:.4f}" for name, value in scores.items()}
    append(file, TRAIN_FIELDS, {**key, **row, "seconds": f"{time.perf_counter() - start:.0f}"})
    print(f"{path.stem} seed {seed}: AP {row['ap']} AP50 {row['ap50']}", flush=True)


def export(model: Path, imgsz: int, out: Path) -> Path:
    """ONNX file of a model YAML (random weights: only time is asked for) or of a checkpoint."""
    mark = digest(model) if model.suffix == ".yaml" else "weights"
    folder = out / "onnx" / f"{model.stem}-{mark}-{imgsz}"
    target = folder / f"{model.stem}.onnx"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # The engine writes beside a checkpoint, which may be read-only, and a YAML's export into the current
        # folder: give it a copy, and for a YAML the checkpoint path that it goes by.
        copy = Path(shutil.copyfile(model, folder / model.name))
        yolo = YOLO(str(copy), task="pose")
        yolo.model.pt_path = str(target.with_suffix(".pt"))
        yolo.export(format="onnx", imgsz=imgsz, device="cpu")
    return target


def interleave(models: dict[str, Path], imgsz: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every model in every round; the models take turns, so that all see the same machine."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    image = np.random.default_rng(0).random((1, 3, imgsz, imgsz), dtype=np.float32)
    sessions = {
        name: onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        for name, file in models.items()
    }
    times: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(-5, rounds):  # five rounds to warm up
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: image})
            if turn >= 0:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def latency(designs: list[str], settings: dict[str, str], out: Path) -> None:
    """Measure the unmeasured designs beside the peer; ratio: median over rounds of peer time / own time."""
    file, imgsz, rounds = out / "latency.csv", int(settings["imgsz"]), int(settings["rounds"])
    peer = Path(settings["peer"]) if settings["peer"] else None
    paths = {path.stem: path for path in map(find, designs)}
    keys = {n: dict(zip(LATENCY_KEY, (n, digest(p), imgsz), strict=True)) for n, p in paths.items()}
    missing = {name: path for name, path in paths.items() if not finished(read(file), keys[name])}
    if not missing:
        return
    models = {name: export(path, imgsz, out) for name, path in missing.items()}
    if peer:
        models["peer"] = export(peer, imgsz, out)
    times = interleave(models, imgsz, rounds)
    for name in missing:
        row = {**keys[name], "rounds": rounds, "ms": f"{statistics.median(times[name]):.2f}"}
        if peer:
            ratio = statistics.median(p / t for p, t in zip(times["peer"], times[name], strict=True))
            row |= {
                "peer": peer.stem,
                "peer_ms": f"{statistics.median(times['peer']):.2f}",
                "ratio": f"{ratio:.2f}",
            }
        append(file, LATENCY_FIELDS, row)


def setting(row: Row) -> str:
    """How a row was trained, but for the seed, in words."""
    return f"{row['data']} {row['imgsz']} px {row['epochs']} epochs"


def table(out: Path) -> str:
    """Markdown table of all finished rows whose YAML is still the one that was measured."""
    trained, timed = read(out / "train.csv"), read(out / "latency.csv")
    lines = [
        "| design | params M | GFLOPs 640 | GFLOPs 480 | training | AP (each seed) | AP50 (each seed) "
        "| latency ms | times as fast as the peer |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for design in dict.fromkeys(row["design"] for row in trained + timed):
        path = find(design)
        mark = digest(path)
        counted = " | ".join(f"{value:.3f}" for value in size(path))
        clock = next((r for r in timed if r["design"] == design and r["digest"] == mark), None)
        speed = f"{clock['ms']} | {clock['ratio']}" if clock else " | "
        own = [row for row in trained if row["design"] == design and row["digest"] == mark]
        # One line for each way of training; an empty one for a design that was only timed.
        for what in dict.fromkeys(map(setting, own)) or {"": None}:
            runs = [row for row in own if setting(row) == what]
            scores = " | ".join(", ".join(row[name] for row in runs) for name in ("ap", "ap50"))
            lines.append(f"| {design} | {counted} | {what} | {scores} | {speed} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Read `command key=value ...`, run it and print the table."""
    command, pairs = (arguments[0] if arguments else ""), [a.partition("=") for a in arguments[1:]]
    unknown = [name for name, _, _ in pairs if name not in DEFAULTS]
    if command not in {"train", "latency", "table"} or unknown:
        complaint = f"\nunknown: {', '.join(unknown)}" if unknown else ""
        sys.exit(f"{__doc__}\nsettings: {', '.join(DEFAULTS)}{complaint}")
    settings = {**DEFAULTS, **{name: value for name, _, value in pairs}}
    settings["imgsz"] = settings["imgsz"] or ("192" if command == "train" else "480")
    torch.set_num_threads(1)
    LOGGER.setLevel(logging.ERROR)
    out, designs = Path(settings["out"]), settings["designs"].split(",")
    out.mkdir(parents=True, exist_ok=True)
    if command == "train":
        if not settings["data"]:
            sys.exit("train needs data=path/to/data.yaml")
        for seed in settings["seeds"].split(","):
            for design in designs:
                train(design, settings, int(seed), out)
    elif command == "latency":
        latency(designs, settings, out)
    print(table(out))


if __name__ == "__main__":
    main(sys.argv[1:])
