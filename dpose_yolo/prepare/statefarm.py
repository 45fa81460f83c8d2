"""`dpose prepare statefarm`: the pictures of State Farm's distracted drivers, split by subject; it has no keypoints."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from dpose_yolo.errors import DPoseError
from dpose_yolo.prepare.card import COCO_17
from dpose_yolo.prepare.clips import Track, owner_totals, picture_jobs
from dpose_yolo.prepare.files import named, relative, source_folder
from dpose_yolo.prepare.options import Options
from dpose_yolo.prepare.plan import Names, Plan, Shot
from dpose_yolo.prepare.splits import assign, describe

TABLE = "driver_imgs_list.csv"
ACTIONS = {
    "c0": "safe_driving",
    "c1": "texting_right",
    "c2": "phone_right",
    "c3": "texting_left",
    "c4": "phone_left",
    "c5": "radio",
    "c6": "drinking",
    "c7": "reaching_behind",
    "c8": "hair_makeup",
    "c9": "talking_to_passenger",
}


def plan(src: str, options: Options, track: Track) -> Plan:
    """Read the table; the images lie in `imgs/train/<class>/`, `train/<class>/` or `<class>/`.

    Raises:
        DPoseError: for a missing or malformed table, or one that names files outside the source.
    """
    root = source_folder(src)
    table = root / TABLE
    rows = _rows(table)
    places = [folder for folder in (root / "imgs" / "train", root / "train", root) if folder.is_dir()]
    parts = assign(Counter(row["subject"] for row in rows), options.val, options.test, options.seed)
    names, shots, left_out = Names(), [], []
    for number, row in enumerate(track(rows, "looking for the pictures"), 2):
        where = f"line {number} of {table}"
        found = [named(root, f"{row['classname']}/{row['img']}", where, place) for place in places]
        file = next((f for f in found if f.is_file()), None)
        if file is None:
            left_out.append(("picture that is not there", f"{row['classname']}/{row['img']}"))
            continue
        subject = row["subject"]
        shot = Shot(names.free(subject, Path(row["img"]).stem), parts[subject], relative(file, root), file)
        shot.subject, shot.activity = subject, ACTIONS.get(row["classname"], row["classname"])
        shots.append(shot)
    if not shots:
        raise DPoseError(f"no picture of {table} is there: expected {root}/imgs/train/c0/img_1.jpg and so on")
    totals = owner_totals([(shot, 1) for shot in shots], options.frames)
    jobs = picture_jobs(shots, options, totals, track)
    comment = [
        "State Farm Distracted Driver Detection, without labels. Subject and action of each image: index.csv.",
        "Images of identifiable people, under the rules of the competition of that name on Kaggle.",
    ]
    return Plan(jobs, COCO_17, comment, [describe(parts)], left_out)


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if not {"subject", "classname", "img"} <= set(reader.fieldnames or ()):
                raise DPoseError(f"{table} needs the columns subject,classname,img: it has {reader.fieldnames}")
            rows = list(reader)
    except FileNotFoundError as error:
        raise DPoseError(f"no {table}: set src= to the folder that holds {TABLE} and imgs/") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DPoseError(f"{table} is not readable as CSV: {' '.join(str(error).split())[:200]}") from error
    for number, row in enumerate(rows, 2):
        if not all(isinstance(row[name], str) and row[name] for name in ("subject", "classname", "img")):
            raise DPoseError(f"line {number} of {table} lacks a subject, a class or a picture")
    return rows
