"""`dpose prepare coco` and `dripe`: images with COCO keypoint JSON."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dpose_yolo.dataset.images import open_picture, upright_size
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

PART_OF = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
OTHER_TASKS = {
    "captions",
    "instances",
    "stuff",
    "panoptic",
    "image",
}  # first words of COCO's own files without keypoints
PROBES = 1000  # file names of a JSON by which the folder of its pictures is found


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
    jsons = [f for f in files_below(root) if f.suffix.lower() == ".json" and f.name != "prepare.json"]
    files, passed = _part_files(jsons, root)
    comment = [f"Made from {', '.join(relative(f, root) for f in files.values())} (COCO keypoints)."]
    plan = _plan(root, files, options, track, comment)
    plan.said += [f"passed over, of another task: {', '.join(relative(f, root) for f in passed)}"] if passed else []
    return plan


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


def part_of(path: Path) -> str:
    """Split that a relative path names (train2017, person_keypoints_val, valid/_annotations.coco.json), or "".

    The file's own name counts before its folders; one that names two splits names none.
    """
    for name in (path.stem, *(folder.name for folder in path.parents)):
        words = {PART_OF.get(word.lower(), "") for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)} - {""}
        if words:
            return words.pop() if len(words) == 1 else ""
    return ""


def _part_files(files: list[Path], root: Path) -> tuple[dict[str, Path], list[Path]]:
    """The JSON of each split, and those of COCO's other tasks, which are passed over beside keypoint files."""
    if any("keypoints" in file.stem for file in files):
        passed = [f for f in files if "keypoints" not in f.stem and re.split("[^a-z]", f.stem)[0] in OTHER_TASKS]
        files = [file for file in files if file not in passed]
    else:
        passed = []
    found: dict[str, Path] = {}
    for file in files:
        part = part_of(file.relative_to(root))
        if not part and len(files) > 1:
            raise DPoseError(
                f"{file} does not say of which split it is, {len(files) - 1} other JSON files are there: name it "
                "train, val or test, move it away, or set src= to one file"
            )
        if part in found:
            raise DPoseError(
                f"{found[part]} and {file} are both for {part}: set src= to one file, or leave one per split"
            )
        found[part] = file
    if not found or ("" not in found and "train" not in found):
        raise DPoseError(f"no JSON for the training split in {root}: set src= to a JSON file, or name one *train*.json")
    return found, passed


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
        folder = _images_folder(found, part, root, options)
        pictures: dict[str, Any] = {}
        for image in track(found.images, f"{found.file.name}: reading labels"):
            made = _shot(image, found, root, folder, options, names, counts)
            if isinstance(made, Unusable):
                left_out.append(made)
                continue
            shot, rows = made
            shot.part = part
            other = pictures.setdefault(os.path.realpath(shot.file), image["id"])
            if other != image["id"]:
                raise DPoseError(
                    f"images {other!r} and {image['id']!r} of {found.file} are one picture, {shot.source}: give its "
                    "persons one image id"
                )
            shots.append(shot)
            features.append(_feature(rows, len(keypoints.names)))
    if not shots:
        raise DPoseError(f"no image of {', '.join(f.name for f in files.values())} can be used: " + _why(left_out))
    said = _split(shots, options, list(files))
    left_out += [("person whose box lies outside the image", "")] * counts.boxes
    left_out += [("keypoint outside the image, now unlabelled", "")] * counts.points
    if counts.mended:
        said.append(f"{counts.mended} persons have no box of any extent: it is drawn around their keypoints")
    if counts.bare:
        said.append(f"{counts.bare} persons have no keypoints: only their box is labelled")
    totals = owner_totals([(shot, 1) for shot in shots], options.frames)
    jobs = picture_jobs(shots, options, totals, track, np.array(features))
    return Plan(jobs, keypoints, comment, said, left_out)


def _why(left_out: list[tuple[str, str]]) -> str:
    return f"{left_out[0][0]}: {left_out[0][1]}" if left_out else "it has none"


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
    try:
        rows = coco_json.rows(persons, size, len(found.keypoints.names), where, counts)
    except DPoseError as error:  # without that person the picture would teach that nobody is there
        return Unusable("image with an unusable person", f"{shown}: {error}")
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
        with open_picture(file) as image:
            return upright_size(image)
    except Exception:  # a decoder may raise anything over bytes that somebody broke
        return None


def _images_folder(found: Annotated, part: str, root: Path, options: Options) -> Path:
    """Where the file names of a JSON start: the folder of its split that has most of them, else one of no split.

    Folders of other splits are never looked into: where numbering restarts in each, they hold other pictures of the
    same names.

    Raises:
        DPoseError: where two folders have as many of them, so that nobody can say which pictures are meant.
    """
    base = root
    if options.images is not None:
        base = named(root, options.images, "images=")
        if not base.is_dir():
            raise DPoseError(f"images={options.images} is no folder in {root}")
    part = part or part_of(Path(found.file.name))
    names = [str(image.get("file_name")) for image in found.images]
    probes = names[:: max(1, len(names) // PROBES)]
    below = _folders(base)
    if found.file.parent not in below and found.file.parent.is_relative_to(base):
        below.append(found.file.parent)
    of_part = {place: part_of(place.relative_to(base)) for place in below}
    own = [place for place in below if part and of_part[place] == part]
    neutral = [place for place in below if not of_part[place] or not part]
    for places in (own, neutral):
        hits = {place: sum((place / name).is_file() for name in probes) for place in places}
        best = [place for place in places if hits[place] == max(hits.values())]
        if best and hits[best[0]]:
            if len(best) > 1:
                raise DPoseError(
                    f"the pictures of {found.file} may be those in {best[0]} or in {best[1]}: set images= to the right "
                    "folder, or give each split's folder its name (train, val, test)"
                )
            return best[0]
    return base


def _folders(base: Path) -> list[Path]:
    """A folder and those below it, three deep, hidden ones left out; one that links lead to twice is there once."""
    level, found = [base], [base]
    for _ in range(3):
        level = [
            Path(entry.path)
            for folder in level
            for entry in sorted(os.scandir(folder), key=lambda e: e.name)
            if entry.is_dir() and not entry.name.startswith(".")
        ]
        found += level
    return list({os.path.realpath(place): place for place in reversed(found)}.values())[::-1]


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
