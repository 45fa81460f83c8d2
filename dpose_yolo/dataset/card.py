"""The data YAML, read without the engine and without believing it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from dpose_yolo.dataset.paths import inside
from dpose_yolo.errors import DPoseError
from dpose_yolo.hints import missing_data, windows_path
from dpose_yolo.keypoints import names_of, sigmas_of

PARTS = ("train", "val", "test")
LARGEST_CARD = 1_000_000  # bytes; a data YAML has a few thousand
MOST_CLASSES = 10_000
LONGEST_NAME = 100  # characters of the name of a class or keypoint


@dataclass(frozen=True)
class Card:
    """A data YAML whose paths are known to lie inside the data folder.

    Attributes:
        file: the YAML.
        root: data folder: `path:`, or the folder that holds the YAML.
        parts: full paths of folders and lists by part, in the order train, val, test; links are followed, as the
            engine does it (ultralytics/data/utils.py, check_det_dataset): labels lie beside what a link leads to.
        written: the same paths as the YAML has them, links not followed; they lie in the data folder.
        count: keypoints of a label, K.
        dims: numbers of a keypoint: 3 with visibility flag, 2 without.
        classes: number of classes.
        flip_idx: K indices, or None where the YAML has none.
        names: K keypoint names; where the YAML has none, COCO's for 17 keypoints, else numbers.
        skeleton: pairs of keypoint indices, or None.
        raw: the whole YAML.
    """

    file: Path
    root: str
    parts: dict[str, tuple[str, ...]]
    written: dict[str, tuple[str, ...]]
    count: int
    dims: int
    classes: int
    flip_idx: list[int] | None
    names: list[str]
    skeleton: list[Any] | None
    raw: dict[str, Any]

    @cached_property
    def links(self) -> list[tuple[str, str]]:
        """Folders that are reached through a link, the data folder last: where it leads, and how it is written."""
        written = [place for places in self.written.values() for place in places]
        folders = [place if os.path.isdir(place) else os.path.dirname(place) for place in written]
        pairs = [(os.path.realpath(folder), folder) for folder in (*folders, self.root)]
        return [(real, folder) for real, folder in dict.fromkeys(pairs) if real != folder]

    def as_written(self, path: str) -> str:
        """A path of the part's images as the user knows it: through the links that lead there."""
        for real, written in self.links:
            if path == real or path.startswith(real.rstrip(os.sep) + os.sep):
                return written + path[len(real.rstrip(os.sep)) :]
        return path


def read_card(data: Any) -> Card:
    """Read a data YAML; nothing in it is executed or downloaded.

    Raises:
        DPoseError: for a file that is missing, no YAML mapping, lacks what a pose data set needs, or names paths
            outside the data folder.
    """
    file = data_file(data)
    raw = read_yaml(file)
    root = data_folder(raw, file)
    written = {name: found for name in PARTS if (found := places(raw.get(name), root, f"{name} of {file}"))}
    if not written:
        raise DPoseError(f"{file} names no images: write train: and val: with folders or lists of images")
    count, dims, classes, flip = checked_labels(raw, file)
    return Card(
        file=file,
        root=root,
        parts={name: tuple(map(os.path.realpath, found)) for name, found in written.items()},
        written=written,
        count=count,
        dims=dims,
        classes=classes,
        flip_idx=flip,
        names=names_of(raw.get("kpt_names"), count),
        skeleton=raw.get("skeleton") if isinstance(raw.get("skeleton"), list) else None,
        raw=raw,
    )


class _Loader(yaml.SafeLoader):
    """The safe loader without aliases, by which a short file can stand for billions of values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse an alias, compose any other node."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.YAMLError(f"line {mark.line + 1} repeats a value by an alias (*name): write it out")
        return super().compose_node(parent, index)


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file, by the safe loader.

    Raises:
        DPoseError: when there is none.
    """
    try:
        if file.stat().st_size > LARGEST_CARD:
            raise DPoseError(f"{file} has more than {LARGEST_CARD // 1_000_000} MB: that is no data YAML")
        raw = yaml.load(file.read_text(encoding="utf-8-sig"), _Loader)
    except OSError as error:
        raise DPoseError(f"{file} cannot be read ({error.strerror or error}): set data= to a data YAML") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a broken encoding is a ValueError
        escape = "write paths with / in place of \\: " if "escape character" in str(error) else ""
        raise DPoseError(f"{file} is not readable YAML: {escape}{' '.join(str(error).split())[:200]}") from error
    if not isinstance(raw, dict):
        raise DPoseError(f"{file} must hold `name: value` lines, found {type(raw).__name__}")
    return {str(k): v for k, v in raw.items()}


def data_file(data: Any) -> Path:
    """Path of a data YAML that exists; a folder stands for the only YAML in it.

    Raises:
        DPoseError: for anything else.
    """
    if not isinstance(data, str | Path) or not str(data):
        raise DPoseError(f"data={data!r} is not a path: set data= to one data YAML")
    file = Path(data)
    if file.is_dir():
        cards = _cards(file)
        if len(cards) != 1:
            others = [str(f) for f in cards or _cards(file.resolve().parent)][:5]
            instead = f"set data= to one of them: {', '.join(others)}" if cards else "set data= to a data YAML"
            beside = f", e.g. {others[0]}" if others and not cards else ""
            raise DPoseError(f"{file} is a folder with {len(cards)} YAML files: {instead}{beside}")
        return cards[0]
    if not file.is_file():
        raise DPoseError(missing_data(data))
    if file.suffix.lower() == ".json":
        raise DPoseError(
            f"{file} is JSON, not a data YAML: COCO keypoints become a YOLO-pose set by `dpose prepare coco "
            f"src={file} images=FOLDER dst=NEW_FOLDER`, then set data= to its data.yaml"
        )
    if file.suffix.lower() not in (".yaml", ".yml"):
        raise DPoseError(
            f"{file} is not a data YAML (.yaml): set data= to the file that names train:, val: and kpt_shape:"
        )
    return file


def _cards(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])


def data_folder(raw: dict[str, Any], file: Path) -> str:
    """Full path of the data folder: `path:`, or the folder of the YAML.

    Raises:
        DPoseError: for a `path:` that is no folder.
    """
    given = raw.get("path")
    if given is None or given == "":
        return os.path.abspath(file.parent)
    if not isinstance(given, str) or "\0" in given or not os.path.isdir(given):
        if isinstance(given, str) and (hint := windows_path(given)):
            raise DPoseError(f"path: {given} of {file} is no folder here{hint}")
        raise DPoseError(
            f"path: {given} of {file} is no folder (a relative one starts at the working directory): leave path: out, "
            "then the parts are relative to the YAML, or write a full path"
        )
    return os.path.abspath(given)


def places(value: Any, root: str, where: str, exist: bool = True) -> tuple[str, ...]:
    """Full paths of a part of a data YAML: folders and lists, one or several.

    Args:
        value: what the YAML has for the part.
        root: data folder.
        where: what names it, as the beginning of an error line.
        exist: refuse what does not exist.

    Raises:
        DPoseError: for a path outside the data folder.
    """
    if value is None or value == "" or value == []:
        return ()
    found = []
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, str) and entry.startswith("../") and not os.path.exists(os.path.join(root, entry)):
            entry = entry[3:]  # as the engine does it: exports of some tools start with ../ and mean the folder itself
        place = inside(root, entry, where)
        if exist and not os.path.exists(place):
            raise DPoseError(no_such_place(where, entry, place))
        found.append(place)
    return tuple(found)


def no_such_place(where: str, entry: str, place: str) -> str:
    """The line for a folder or list of a part that does not exist."""
    hint = windows_path(entry) or f": {place} should be a folder or a list"
    return f"{where} names {entry}, which does not exist{hint}"


def keypoint_shape(shape: Any, file: Path) -> tuple[int, int]:
    """Keypoints of a label and numbers of a keypoint, by `kpt_shape`.

    Raises:
        DPoseError: where it is missing or of another form.
    """
    whole = isinstance(shape, list) and len(shape) == 2 and all(type(v) is int for v in shape)
    if not whole or not 1 <= shape[0] <= 10_000 or shape[1] not in (2, 3):
        has = "no kpt_shape" if shape is None else f"kpt_shape {shape!r}"
        raise DPoseError(f"{file} has {has}: write kpt_shape: [number of keypoints, 3], e.g. [17, 3]")
    return shape[0], shape[1]


def class_count(raw: dict[str, Any], file: Path) -> int:
    """Number of classes.

    Raises:
        DPoseError: where the YAML names none, or numbers them with gaps, or gives another number by `nc`.
    """
    names, given = raw.get("names"), raw.get("nc")
    count = len(names) if isinstance(names, dict | list) else 0
    if not count:
        count = given if type(given) is int and names is None else 0
    elif given is not None and given != count:
        raise DPoseError(f"{file} has nc: {given} and {count} names: give one name for each class, or leave nc: out")
    if isinstance(names, dict) and sorted(str(key) for key in names) != sorted(str(n) for n in range(count)):
        raise DPoseError(f"names of {file} have the numbers {list(names)[:10]}: number the classes from 0 without gaps")
    if not 1 <= count <= MOST_CLASSES:
        if given is not None or count:
            raise DPoseError(f"{file} has {count or given} classes: give 1 to {MOST_CLASSES}")
        raise DPoseError(f"{file} has no class names: write names: and below it 0: driver")
    return count


def checked_names(given: Any, count: int, file: Path) -> None:
    """Refuse `kpt_names` that do not name each keypoint once, in words that reports can hold.

    Raises:
        DPoseError: for such names; None, and a mapping without entries, name nothing and are right.
    """
    for names in given.values() if isinstance(given, dict) else [given] if given is not None else []:
        if not isinstance(names, list) or len(names) != count:
            has = len(names) if isinstance(names, list) else repr(names)[:60]
            raise DPoseError(f"kpt_names of {file} has {has} names, kpt_shape has {count} keypoints: name each once")
        _refuse_unprintable(names, f"kpt_names of {file}")


def _refuse_unprintable(names: Iterable[Any], where: str) -> None:
    for name in map(str, names):
        if not name.isprintable() or len(name) > LONGEST_NAME:
            raise DPoseError(f"{where} has the name {name[:20]!r}: write at most {LONGEST_NAME} printable characters")


def checked_labels(raw: dict[str, Any], file: Path) -> tuple[int, int, int, list[int] | None]:
    """What a data YAML says of its labels, by the one rule of all commands.

    Returns:
        Keypoints of a label, numbers of a keypoint, classes, `flip_idx`.

    Raises:
        DPoseError: for the first entry that is wrong.
    """
    count, dims = keypoint_shape(raw.get("kpt_shape"), file)
    classes, flip = class_count(raw, file), checked_flip(raw.get("flip_idx"), count, file)
    named = raw.get("names")
    _refuse_unprintable(named.values() if isinstance(named, dict) else named or (), f"names of {file}")
    checked_names(raw.get("kpt_names"), count, file)
    sigmas_of([""] * count, raw.get("kpt_oks_sigmas"))
    return count, dims, classes, flip


def checked_flip(flip: Any, count: int, file: Path) -> list[int] | None:
    """`flip_idx`, or None where the YAML has none.

    Raises:
        DPoseError: unless it names each keypoint once.
    """
    if flip is None or flip == []:
        return None
    if not isinstance(flip, list) or any(type(k) is not int for k in flip) or sorted(flip) != list(range(count)):
        has = f"{len(flip)} entries" if isinstance(flip, list) and len(flip) != count else repr(flip)
        raise DPoseError(
            f"flip_idx of {file} must be {count} whole numbers, each from 0 to {count - 1} once, as kpt_shape has "
            f"{count} keypoints; it has {has}: write for each keypoint the one it becomes in a mirror"
        )
    return flip
