"""Peak memory and time of `dpose check` on sets of growing size.

    python benchmarks/check.py images=2000,20000,100000

Each set is made up in a temporary folder (noise of 12 x 12 pixels, one labelled person an image) and checked by a
process of its own, whose peak resident memory is printed. The last column is what each further image costs, beside the
smallest set.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

CHECK = """
import resource, sys, time
from dpose_yolo.dataset.card import read_card
from dpose_yolo.dataset.check import check
from dpose_yolo.dataset.findings import Findings
start = time.perf_counter()
check(read_card(sys.argv[1]), Findings())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, time.perf_counter() - start)
"""


def make(folder: Path, images: int) -> Path:
    """A set of noise, four fifths of it in the training part."""
    rng = np.random.default_rng(0)
    for part, count in (("train", images * 4 // 5), ("val", images - images * 4 // 5)):
        for kind in ("images", "labels"):
            (folder / kind / part).mkdir(parents=True)
        for i in range(count):
            cv2.imwrite(str(folder / "images" / part / f"{i:07d}.png"), rng.integers(0, 256, (12, 12), np.uint8))
            points = np.column_stack([rng.normal(0.5, 0.1, (17, 2)).clip(0.1, 0.9), np.full(17, 2)])
            row = " ".join(f"{v:.4g}" for v in points.ravel())
            (folder / "labels" / part / f"{i:07d}.txt").write_text(f"0 0.5 0.5 0.9 0.9 {row}\n")
    card = folder / "data.yaml"
    card.write_text("train: images/train\nval: images/val\nnames: {0: driver}\nkpt_shape: [17, 3]\n")
    return card


def main(words: list[str]) -> None:
    """Print a Markdown table."""
    given = dict(word.split("=", 1) for word in words)
    print("| images | seconds | peak memory, MB | bytes for each further image |\n|---:|---:|---:|---:|")
    first: tuple[int, float] | None = None
    for images in map(int, given.get("images", "2000,20000,100000").split(",")):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", CHECK, str(make(Path(folder), images))]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peak, seconds = map(float, done.stdout.split())
            first = first or (images, peak)
            each = f"{(peak - first[1]) / (images - first[0]):.0f}" if images > first[0] else ""
            print(f"| {images} | {seconds:.0f} | {peak / 2**20:.0f} | {each} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
