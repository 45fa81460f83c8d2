"""`dpose prepare coco` and `dripe`: images with COCO keypoint JSON."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dpose_yolo.dataset.label_text import label_text
from dpose_yolo.errors import DPoseError
from dpose_yolo.posture import posture_features
from dpose_yolo.prepare import coco_json
from dpose_yolo.prepare.clips import Track, owner_totals, picture_jobs
from dpose_yolo.prepare.coco_json import Annotated, Counts
from dpose_yolo.prepare.files import files_below, named, relative, require_inside, source_folder
from dpose_yolo.prepare.options import Options
from dpose_yolo.prepare.plan import Names, Plan, Shot
from dpose_yolo.prepare.splits import assign, describe, refuse_shared

PART_WORD = re.compile(r"(train|val|test)(?![a-z])", re.IGNORECASE)  # train2017, person_keypoints_val, autob_coco_test
MIRRORED = (5, 6, 7, 8)  # EXIF orientations of a picture that lies on its side


class Unusable(NamedTuple):
    """An image that is left out: the kind of reason, and its name."""

    kind: str
    name: str


def plan_coco(src: str, options: Options, track: Track) -> Plan:
    """A JSON file, or a folder with one for each part (their names tell which).

    Raises:
        DPoseError: for what is no COCO keypoint set, or names files outside the source.
    """
    path = Path(src)
    if path.is_file():
        return _plan(path.parent, {"": path}, options, track, [f"Made from {path.name} (COCO keypoints)."])
    root = source_folder(src)
    files = _part_files([f for f in files_below(root) if f.suffix == ".json" and f.name != "prepare.json"], root)
    return _plan(
        root, files, options, track, [f"Made from {', '.join(f.name for f in files.values())} (COCO keypoints)."]
    )


def plan_dripe(src: str, options: Options, track: Track) -> Plan:
    """DriPE: `splits/split_N/autob_coco_{train,val,test}.json` and a flat folder of images.

    Raises:
        DPoseError: when these are missing.
    """
    root = source_folder(src)
    folder = root / "splits" / f"split_{options.split}"
    files = {part: folder / f"autob_coco_{part}.json" for part in ("train", "val", "test")}
    files = {part: require_inside(root, file, "the source") for part, file in files.items() if file.is_file()}
    if "train" not in files:
        raise DPoseError(
            f"no {folder}/autob_coco_train.json: set src= to the folder of DriPE, split= to one of its splits"
        )
    comment = [f"DriPE, split {options.split} of its authors: real drivers, labelled by hand."]
    return _plan(root, files, options, track, comment)


def _part_files(files: list[Path], root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        words = {word.lower() for word in PART_WORD.findall(file.stem)}
        part = words.pop() if len(words) == 1 else ""
        if not part and len(files) > 1:
            continue
        if part in found:
            raise DPoseError(
                f"{found[part]} and {file} are both for {part}: set src= to one file, or leave one per part"
            )
        found[part] = file
    if not found or ("" not in found and "train" not in found):
        raise DPoseError(f"no JSON for the training part in {root}: set src= to a JSON file, or name one *train*.json")
    return found


def _plan(root: Path, files: dict[str, Path], options: Options, track: Track, comment: list[str]) -> Plan:
    sets = {part: coco_json.read(file, options.category) for part, file in files.items()}
    keypoints = next(iter(sets.values())).keypoints
    for found in sets.values():
        if found.keypoints != keypoints:
            raise DPoseError(
                f"{found.file} has other keypoints than {next(iter(sets.values())).file}: convert them apart"
            )
    names, counts = Names(), Counts()
    left_out: list[tuple[str, str]] = []
    shots: list[Shot] = []
    features: list[np.ndarray] = []
    for part, found in sets.items():
        folder = _images_folder(found, root, options)
        for image in track(found.images, f"{found.file.name}: reading labels"):
            made = _shot(image, found, root, folder, options, names, counts)
            if isinstance(made, Unusable):
                left_out.append(made)
                continue
            shot, rows = made
            shot.part = part
            shots.append(shot)
            features.append(_feature(rows, len(keypoints.names)))
    if not shots:
        raise DPoseError(f"no image of {', '.join(f.name for f in files.values())} can be used: " + _why(left_out))
    said = _split(shots, options, list(files))
    left_out += [("person whose box lies outside the image", "")] * counts.boxes
    left_out += [("keypoint outside the image, now unlabelled", "")] * counts.points
    totals = owner_totals([(shot, 1) for shot in shots], options.frames)
    jobs = picture_jobs(shots, options, totals, track, np.array(features))
    return Plan(jobs, keypoints, comment, said, left_out)


def _why(left_out: list[tuple[str, str]]) -> str:
    return f"{left_out[0][1]}: {left_out[0][0]}" if left_out else "it has none"


def _shot(
    image: dict[str, Any],
    found: Annotated,
    root: Path,
    folder: Path,
    options: Options,
    names: Names,
    counts: Counts,
) -> tuple[Shot, np.ndarray] | Unusable:
    where = f"image {image['id']} of {found.file.name}"
    name = image.get("file_name")
    file = named(root, name, where, folder)
    persons = found.persons.get(image["id"], [])
    shown = relative(file, root)
    if not persons and not (options.empty and image["id"] not in found.crowds):
        return Unusable("image without a person", shown)
    if not file.is_file():
        return Unusable("picture that is not there", shown)
    size = _size(file)
    if size is None:
        return Unusable("broken picture", shown)
    told = coco_json.size_of(image)
    if told is not None and told != size:
        sizes = f"{size[0]}x{size[1]}, not {told[0]}x{told[1]}"
        return Unusable("picture of another size than its labels say", f"{shown}: {sizes}")
    rows = coco_json.rows(persons, size, len(found.keypoints.names), where, counts)
    if persons and not len(rows):
        return Unusable("image without a person", shown)
    subject = _subject(image, name, options, where)
    stem = names.free(str(Path(str(name)).with_suffix("")))
    return Shot(stem, "", shown, file, None, subject, label=label_text(rows)), rows


def _subject(image: dict[str, Any], name: Any, options: Options, where: str) -> str:
    if options.subject is None:
        return ""
    if options.subject == "folder":
        parts = Path(str(name)).parts
        if len(parts) < 2:
            raise DPoseError(f"{where} lies in no folder: subject=folder needs file names like vp1/a.jpg")
        return parts[0]
    value = image.get(options.subject)
    if not isinstance(value, int | str) or value == "":
        raise DPoseError(
            f"{where} has no {options.subject!r}: set subject= to a field that names the subject, or to folder"
        )
    return str(value)


def _size(file: Path) -> tuple[int, int] | None:
    """Width and height of a picture as the engine counts them, from its head only."""
    try:
        with Image.open(file) as image:
            width, height = image.size
            return (height, width) if image.getexif().get(274) in MIRRORED else (width, height)
    except Exception:  # a decoder may raise anything over bytes that somebody broke
        return None


def _images_folder(found: Annotated, root: Path, options: Options) -> Path:
    """Where the file names of a JSON start: the folder that has most of the first of them."""
    if options.images is not None:
        folder = named(root, options.images, "images=")
        if not folder.is_dir():
            raise DPoseError(f"images={options.images} is no folder in {root}")
        return folder
    probes = [str(image.get("file_name")) for image in found.images[:20]]
    below = [Path(entry.path) for entry in sorted(os.scandir(root), key=lambda e: e.name) if entry.is_dir()]
    deeper = [path for folder in below for path in sorted(folder.iterdir()) if path.is_dir()]
    places = [root, found.file.parent, *below, *deeper]
    hits = [sum((place / name).is_file() for name in probes) for place in places]
    return places[int(np.argmax(hits))]


def _feature(rows: np.ndarray, count: int) -> np.ndarray:
    """Normalised posture of the largest person; NaN for an image without one."""
    if not len(rows):
        return np.full(2 * count, np.nan, np.float32)
    row = rows[int((rows[:, 3] * rows[:, 4]).argmax())]
    return posture_features(row[None, 5:].reshape(1, count, 3), row[None, 1:5])[0]


def _split(shots: list[Shot], options: Options, parts: list[str]) -> list[str]:
    """Fill in the parts of a single file; make sure that no subject is in two."""
    if parts != [""]:
        if options.val or options.test:
            raise DPoseError("val= and test= are for a single JSON: this source comes with parts of its own")
        if options.subject is not None:
            found = refuse_shared(((shot.subject, shot.part) for shot in shots), "the source")
            return [describe(found)]
        return ["the parts are the source's own; it names no subjects, so nobody can say that the parts share none"]
    sizes = Counter(shot.subject or shot.source for shot in shots)
    found = assign(sizes, options.val, options.test, options.seed)
    for shot in shots:
        shot.part = found[shot.subject or shot.source]
    if options.subject is not None:
        return [describe(found)]
    if options.val or options.test:
        return ["split by image: the source does not tell the subjects; subject= names the field that does"]
    return ["all of it is the training part, which stands in for the validation part, too: val=0.2 makes one"]
