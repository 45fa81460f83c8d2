"""Two data cards out of one set whose index names subjects: known drivers, and drivers to fine-tune on.

    python benchmarks/subjects.py data=statefarm_pose/data.yaml known=8 dst=cards
    dpose train data=cards/known.yaml outside=True model=dpose-125.yaml ...
    python benchmarks/finetune.py new=cards/new.yaml old=cards/known.yaml model=runs/train/weights/last.pt

The subjects of the training part are shuffled (`seed=0`). `known.yaml` has the first `known` of them: of each, a run of
a fifth of the images in order of file name is kept out of training, as `val`. `new.yaml` trains on all others and
evaluates on the val part of the set, whose subjects nobody has seen. No image is copied.
"""

import random
import sys
from pathlib import Path

import yaml

from dpose_yolo.cli import parse_arguments
from dpose_yolo.dataset.card import read_card
from dpose_yolo.dataset.files import part_images
from dpose_yolo.dataset.index import find_index
from dpose_yolo.errors import DPoseError
from dpose_yolo.report.tables import csv_column

HELD_OUT = 0.2


def subjects_of(data: Path) -> dict[str, list[str]]:
    """Training images by subject, sorted.

    Raises:
        DPoseError: for a set without an index of subjects.
    """
    card = read_card(data)
    index = find_index(card)
    if index is None:
        raise DPoseError(f"{data} has no index.csv: write one with the columns file and subject beside it")
    images = sorted(map(str, part_images(card, "train")))
    subjects = csv_column(index, images, ("subject",))
    if subjects is None:
        raise DPoseError(f"{index} has no column `subject`")
    found: dict[str, list[str]] = {}
    for image, subject in zip(images, subjects, strict=True):
        if subject is not None:
            found.setdefault(subject, []).append(image)
    return found


def write_card(data: Path, dst: Path, name: str, **parts: list[str]) -> None:
    """A card with a list of images for each part; everything else is that of `data`."""
    content = yaml.safe_load(data.read_text(encoding="utf-8"))
    content = {k: v for k, v in content.items() if k not in ("path", "train", "val", "test")}
    for part, images in parts.items():
        listed = dst / f"{name}-{part}.txt"
        listed.write_text("\n".join(images) + "\n", encoding="utf-8")
        content[part] = str(listed)
    (dst / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def main(words: list[str]) -> None:
    """Write the cards and say how many images they have."""
    given = parse_arguments(words)
    if not given.get("data") or not given.get("dst"):
        raise DPoseError("benchmarks/subjects.py needs data= (a data YAML) and dst= (a folder for the cards)")
    data, dst, count = Path(str(given["data"])).resolve(), Path(str(given["dst"])).resolve(), int(given.get("known", 8))
    by_subject = subjects_of(data)
    names = sorted(by_subject)
    if not 0 < count < len(names):
        raise DPoseError(f"known={count}: {data} has {len(names)} training subjects, give 1 to {len(names) - 1}")
    random.Random(int(given.get("seed", 0))).shuffle(names)
    train, held = [], []
    for name in names[:count]:
        cut = round(len(by_subject[name]) * (1 - HELD_OUT))
        train += by_subject[name][:cut]
        held += by_subject[name][cut:]
    new = [image for name in names[count:] for image in by_subject[name]]
    judged = sorted(part_images(read_card(data), "val"))
    dst.mkdir(parents=True, exist_ok=True)
    write_card(data, dst, "known", train=train, val=held)
    write_card(data, dst, "new", train=new, val=judged)
    print(f"known: {', '.join(sorted(names[:count]))}; {len(train)} images to train, {len(held)} to judge by")
    print(f"new: {', '.join(sorted(names[count:]))}; {len(new)} images to train, {len(judged)} of others to judge by")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DPoseError as error:
        sys.exit(f"error: {error}")
