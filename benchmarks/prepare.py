"""How fast `dpose prepare video` is beside a bare OpenCV loop that reads the whole video and writes the same frames.

    python benchmarks/prepare.py [video=drive.mp4] [rounds=5] [seconds=60] [frames=200]

Without `video=` one of 1280x1024 pixels is made: a moving picture with noise, mpeg4, 30 frames a second. For each way
to choose frames, the command (looking at the video, choosing, writing, index and card; not the start of Python) and the
loop (`read` of every frame, `imwrite` of those that the command chose, at the same quality) take turns. Printed are the
best times of both and the median of the rounds' ratios loop / command, by the clock and by CPU time (of all threads; a
busy machine disturbs it less).
"""

import contextlib
import io
import shutil
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from dpose_yolo.cli import run
from dpose_yolo.prepare.output import INDEX

QUALITY = 95


def make(path: Path, seconds: int) -> Path:
    """A video in which something always moves."""
    rng = np.random.default_rng(0)
    base = cv2.resize(rng.integers(0, 255, (32, 40), np.uint8), (1600, 1024), interpolation=cv2.INTER_CUBIC)
    noise = [rng.normal(0, 3, (1024, 1280)).astype(np.int16) for _ in range(4)]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30.0, (1280, 1024))
    for i in range(30 * seconds):
        at = int(160 + 150 * np.sin(i / 90))
        image = (base[:, at : at + 1280] + noise[i % 4]).clip(0, 255).astype(np.uint8)
        cv2.circle(image, (int(640 + 400 * np.cos(i / 25)), 600), 120, 200, -1)
        writer.write(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


def now() -> np.ndarray:
    """Clock and CPU time, seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def prepared(video: Path, dst: Path, *words: str) -> tuple[np.ndarray, list[int]]:
    """Seconds of the command, and the frames it chose."""
    shutil.rmtree(dst, ignore_errors=True)
    start = now()
    with contextlib.redirect_stdout(io.StringIO()):
        run(["prepare", "video", f"src={video}", f"dst={dst}", f"quality={QUALITY}", *words])
    took = now() - start
    rows = (dst / INDEX).read_text().splitlines()[1:]
    return took, [int(row.split(",")[1].rpartition("#")[2]) for row in rows]


def bare(video: Path, dst: Path, chosen: list[int]) -> np.ndarray:
    """Seconds of the loop."""
    shutil.rmtree(dst, ignore_errors=True)
    dst.mkdir()
    wanted = set(chosen)
    start = now()
    capture, number = cv2.VideoCapture(str(video)), 0
    while True:
        good, image = capture.read()
        if not good:
            break
        if number in wanted:
            cv2.imwrite(str(dst / f"{number:06d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        number += 1
    capture.release()
    return now() - start


def main(words: list[str]) -> None:
    """Print a Markdown table."""
    given = dict(word.split("=", 1) for word in words)
    budget = f"frames={given.get('frames', 200)}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own = given.get("video")
        video = Path(own) if own else make(folder / "made.mp4", int(given.get("seconds", 60)))
        prepared(video, folder / "set", "choose=even", "frames=5")  # imports, file cache
        print("| choice | images | command, s | CPU | bare loop, s | CPU | ratio | ratio of CPU |")
        print("|---|---:|---:|---:|---:|---:|---:|---:|")
        for choice in (
            ("choose=variety", budget),
            ("choose=variety",),
            ("choose=even", budget),
            ("choose=random", budget),
        ):
            turns = []
            for _ in range(int(given.get("rounds", 5))):
                took, chosen = prepared(video, folder / "set", *choice)
                turns.append((took, bare(video, folder / "loop", chosen)))
            ours, loops = np.array(turns).transpose(1, 0, 2)  # (rounds, clock and CPU)
            figures = (*ours.min(0), *loops.min(0), *np.median(loops / ours, axis=0))
            print(f"| {' '.join(choice)} | {len(chosen)} | {' | '.join(f'{v:.2f}' for v in figures)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
