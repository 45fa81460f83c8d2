"""Draw the embedded sample set `cabin_mini` from the full rendered cabin set.

Usage:
    python data/make_cabin_mini.py src=PATH_TO_CABIN [out=data/cabin_mini]

`src` is a YOLO-pose folder with `images/<split>`, `labels/<split>` and an `index.csv` of the columns
`file,split,posture,camera`. The draw is fixed (seed 0): the same source gives the same sample.

- train: every posture keeps its share of the source's long tail, but never fewer than three images
- val:   the same natural shares, without a floor (the rarest postures may be missing)
- test:  the same number of images of every posture

Inside a posture the cameras take turns, so that no posture is seen from one side only. Images are shrunk to
320x240; labels are normalised, so they are copied as they are.
"""

from __future__ import annotations

import csv
import random
import shutil
import sys
from collections import Counter, defaultdict
from pathlib import Path

import cv2

SIZE = (320, 240)  # width, height in pixels
JPEG_QUALITY = 75
TRAIN_TOTAL, TRAIN_FLOOR = 640, 3
VAL_TOTAL = 84
TEST_PER_POSTURE = 6
SEED = 0

Row = dict[str, str]


def proportional_counts(available: Counter[str], total: int, floor: int = 0) -> dict[str, int]:
    """Share `total` draws among postures in proportion to `available` (largest remainder), with a floor."""
    n = sum(available.values())
    if total > n:
        raise SystemExit(f"cannot draw {total} images from {n}")
    exact = {k: total * v / n for k, v in available.items()}
    counts = {k: min(available[k], max(floor, int(x))) for k, x in exact.items()}
    by_remainder = sorted(exact, key=lambda k: (counts[k] - exact[k], k))
    while (gap := total - sum(counts.values())) != 0:
        if gap > 0:
            for k in by_remainder[:gap]:
                counts[k] += counts[k] < available[k]
        else:  # the floor asked for more than the tail's share: the commonest posture pays for it
            counts[max(counts, key=lambda k: counts[k])] -= 1
    return counts


def take_turns(rows: list[Row], n: int, rng: random.Random) -> list[Row]:
    """Draw `n` rows at random, the cameras taking turns."""
    by_camera: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_camera[row["camera"]].append(row)
    queues = [by_camera[c] for c in sorted(by_camera)]
    for queue in queues:
        rng.shuffle(queue)
    rng.shuffle(queues)
    drawn: list[Row] = []
    while len(drawn) < n and any(queues):
        drawn += [queue.pop() for queue in queues if queue][: n - len(drawn)]
    return drawn


def draw(rows: list[Row]) -> list[Row]:
    """Choose the rows of all three parts from the source's index, in the order of their file names."""
    chosen: list[Row] = []
    for split in ("train", "val", "test"):
        rng = random.Random(f"{SEED}-{split}")
        part: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            if row["split"] == split:
                part[row["posture"]].append(row)
        available = Counter({posture: len(v) for posture, v in part.items()})
        if split == "test":
            counts = {posture: min(TEST_PER_POSTURE, n) for posture, n in available.items()}
        elif split == "train":
            counts = proportional_counts(available, TRAIN_TOTAL, TRAIN_FLOOR)
        else:
            counts = proportional_counts(available, VAL_TOTAL)
        for posture in sorted(part):
            chosen += take_turns(part[posture], counts[posture], rng)
    return sorted(chosen, key=lambda row: (row["split"], row["file"]))


def write(src: Path, out: Path, rows: list[Row]) -> None:
    """Write the shrunk images, their labels and `index.csv`."""
    for sub in ("images", "labels"):
        shutil.rmtree(out / sub, ignore_errors=True)
    for row in rows:
        image = cv2.imread(str(src / "images" / row["split"] / row["file"]), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise SystemExit(f"cannot read {src / 'images' / row['split'] / row['file']}")
        small = cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA)
        target = out / "images" / row["split"] / row["file"]
        target.parent.mkdir(parents=True, exist_ok=True)
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
        cv2.imwrite(str(target), small, options)
        label = (out / "labels" / row["split"] / row["file"]).with_suffix(".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_bytes((src / "labels" / row["split"] / label.name).read_bytes())
    with (out / "index.csv").open("w", newline="") as f:
        writer = csv.DictWriter(f, ["file", "split", "posture", "camera"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(argv: list[str]) -> None:
    """Read the key=value arguments, draw, write and print what came out."""
    args = dict(a.partition("=")[::2] for a in argv)
    if not args.get("src") or set(args) - {"src", "out"}:
        raise SystemExit("usage: python data/make_cabin_mini.py src=PATH_TO_CABIN [out=data/cabin_mini]")
    src = Path(args["src"])
    out = Path(args.get("out") or Path(__file__).parent / "cabin_mini")
    if not (src / "index.csv").is_file():
        raise SystemExit(f"no index.csv in {src}: give the folder of the full cabin set as src=PATH")
    with (src / "index.csv").open(newline="") as f:
        rows = draw(list(csv.DictReader(f)))
    write(src, out, rows)
    for split in ("train", "val", "test"):
        counts = Counter(row["posture"] for row in rows if row["split"] == split)
        ranked = counts.most_common()
        print(f"{split}: {sum(counts.values())} images, {len(counts)} postures, {ranked[0]} .. {ranked[-1]}")
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file() and p.suffix != ".cache")
    print(f"{size / 1e6:.2f} MB in {out}")


if __name__ == "__main__":
    main(sys.argv[1:])
