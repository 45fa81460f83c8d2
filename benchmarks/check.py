"""Peak memory and time of `dpose check` on sets of growing size.

    python benchmarks/check.py images=2000,20000,100000

Each set is made up in a temporary folder (noise of 12 x 12 pixels, one labelled person an image, a row of index.csv)
and checked by a process of its own, which also writes the lists of `fix=True`; its processor time and peak resident
memory are printed, and the size of its temporary database. The last column is what each further image costs in memory,
beside the smallest set.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

CHECK = """
import resource, sys
from dpose_yolo.dataset.card import read_card
from dpose_yolo.dataset.check import check
from dpose_yolo.dataset.findings import Findings
from dpose_yolo.dataset.mend import write_lists
checked = check(read_card(sys.argv[1]), Findings())
write_lists(checked.card, checked.scan)
used = resource.getrusage(resource.RUSAGE_SELF)
pages, size = (checked.scan.spool.first(f"PRAGMA {name}")[0] for name in ("page_count", "page_size"))
print(used.ru_maxrss * 1024, used.ru_utime + used.ru_stime, pages * size)
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
    with (folder / "index.csv").open("w") as file:
        file.write("file,split,subject\n")
        for part in ("train", "val"):
            file.writelines(
                f"{p.name},{part},{part}{i % 9}\n" for i, p in enumerate((folder / "images" / part).iterdir())
            )
    card = folder / "data.yaml"
    card.write_text("train: images/train\nval: images/val\nnames: {0: driver}\nkpt_shape: [17, 3]\n")
    return card


def main(words: list[str]) -> None:
    """Print a Markdown table."""
    given = dict(word.split("=", 1) for word in words)
    print("| images | processor s | on disk, MB | peak memory, MB | bytes for each further image |")
    print("|---:|---:|---:|---:|---:|")
    first: tuple[int, float] | None = None
    for images in map(int, given.get("images", "2000,20000,100000").split(",")):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", CHECK, str(make(Path(folder), images))]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peak, seconds, disk = map(float, done.stdout.split())
            first = first or (images, peak)
            each = f"{(peak - first[1]) / (images - first[0]):.0f}" if images > first[0] else ""
            print(f"| {images} | {seconds:.0f} | {disk / 2**20:.0f} | {peak / 2**20:.0f} | {each} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
