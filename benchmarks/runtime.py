"""Memory and time of the light runtime over many frames of a video: does memory grow, and what is not the network?

    python benchmarks/runtime.py model=best.onnx [source=drive.mp4] [frames=10000] [threads=1]

Every frame is decoded, letterboxed, run, read, smoothed by the One Euro filter and written to `poses.csv` and
`poses.json`, as `dpose predict smooth=True records=True` does. Without `source=` a video of that many 640x480 pixels
frames is made of the sample set's pictures; a video that is too short is read again from its beginning. Printed are
resident memory after each tenth of the frames, its slope after the first tenth, milliseconds a frame of preparing,
network and reading, and what a new process takes until the model is ready (interpreter, import, load; median of 9).
"""

import resource
import subprocess
import sys
import tempfile
import time
from itertools import chain, islice, repeat
from pathlib import Path

import cv2
import numpy as np

from dpose_yolo.runtime import DriverPose, OneEuro, open_source
from dpose_yolo.runtime.records import open_records

SAMPLE = Path(__file__).resolve().parent.parent / "data" / "cabin_mini" / "images" / "test"


def resident() -> float:
    """Resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


def make(path: Path, frames: int) -> Path:
    """A video of the sample set's pictures, which drift, with noise: no two frames are alike."""
    rng = np.random.default_rng(0)
    pictures = [cv2.resize(cv2.imread(str(p)), (672, 504)) for p in sorted(SAMPLE.glob("*.jpg"))]
    noise = [rng.normal(0, 3, (480, 640, 3)).astype(np.int16) for _ in range(4)]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30.0, (640, 480))
    for i in range(frames):
        x, y = int(16 + 16 * np.sin(i / 30)), int(12 + 12 * np.cos(i / 40))
        picture = pictures[i // 50 % len(pictures)][y : y + 480, x : x + 640]
        writer.write((picture + noise[i % 4]).clip(0, 255).astype(np.uint8))
    writer.release()
    return path


def starting(model: str, rounds: int = 9) -> tuple[float, float]:
    """Seconds from a new process to a model that is ready: on the clock, and of the processor."""
    code = f"from dpose_yolo.runtime import DriverPose; DriverPose({model!r}, threads=1)"
    wall, processor = [], []
    for _ in range(rounds):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall.append(time.perf_counter() - start)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return float(np.median(wall)), float(np.median(processor))


def main(words: list[str]) -> None:
    """Print two Markdown tables."""
    given = dict(word.split("=", 1) for word in words)
    if "model" not in given:
        sys.exit("runtime needs model=path/to/best.onnx")
    start = starting(given["model"])
    frames, threads = int(given.get("frames", 10000)), int(given.get("threads", 1))
    cv2.setNumThreads(threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = Path(given["source"]) if "source" in given else make(folder / "made.mp4", frames)
        pose, steady = DriverPose(given["model"], threads=threads), OneEuro()
        marks, drivers = [], 0
        with open_records(folder, pose.names) as records:
            # A source opened again and again is what a camera that drops out looks like, too.
            stream = chain.from_iterable(pose.stream(open_source(video)) for _ in repeat(None))
            for i, (frame, driver) in enumerate(islice(stream, frames), 1):
                smooth = steady(driver, frame.seconds)
                drivers += driver is not None
                records.add(frame, smooth)
                if i % max(frames // 100, 1) == 0:
                    marks.append((i, resident()))
    at, memory = np.array(marks).T
    late = at > frames / 10
    slope = np.polyfit(at[late], memory[late], 1)[0] * 1000
    print(f"{frames} frames, a driver in {drivers}; input {pose.card.size[1]}x{pose.card.size[0]}, threads={threads}\n")
    tenths = [int(i) for i in np.linspace(frames / 10, frames, 10)]
    print("| frames | " + " | ".join(map(str, tenths)) + " | MB in 1000 frames, after the first tenth |")
    print("|---|" + "---:|" * (len(tenths) + 1))
    print("| MB | " + " | ".join(f"{np.interp(t, at, memory):.1f}" for t in tenths) + f" | {slope:+.3f} |\n")
    each = {stage: 1000 * seconds / pose.pictures for stage, seconds in pose.seconds.items()}
    print("| prepare, ms | network, ms | read, ms | outside the network, share of it |\n|---:|---:|---:|---:|")
    outside = (each["prepare"] + each["read"]) / each["network"]
    print(f"| {each['prepare']:.3f} | {each['network']:.3f} | {each['read']:.3f} | {outside:.1%} |\n")
    print("| until the model is ready, s | of the processor, s |\n|---:|---:|\n| {:.2f} | {:.2f} |".format(*start))


if __name__ == "__main__":
    main(sys.argv[1:])
