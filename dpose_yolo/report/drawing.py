"""What the drawings share: colours, limbs of a keypoint set, writing files."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dpose_yolo.errors import DPoseError
from dpose_yolo.keypoints import full_names, side_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with every common kind of colour blindness.
BLUE, VERMILLION, GREEN, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#999999"
INK, FAINT, CARD = "#222222", "#6b6b6b", "#f6f6f4"
SIDE_COLOURS = {"left": BLUE, "right": VERMILLION, "": "#4d4d4d"}

_SAME_SIDE = [
    ("eye", "ear"), ("ear", "shoulder"), ("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "hand"),
    ("shoulder", "hip"), ("hip", "knee"), ("knee", "ankle"), ("ankle", "foot"),
]  # fmt: skip
_ACROSS = ("eye", "shoulder", "hip")
_TO_MIDDLE = [("nose", "eye"), ("neck", "shoulder"), ("thorax", "shoulder"), ("pelvis", "hip")]
_MIDDLE = [("head_top", "head"), ("head_top", "neck"), ("head", "neck"), ("nose", "neck"), ("neck", "thorax")]


def limbs(names: Sequence[str], skeleton: Sequence[Sequence[int]] | None = None) -> list[tuple[int, int]]:
    """Pairs of keypoints to join with a line.

    Args:
        names: K keypoint names; COCO's give COCO's 19 limbs, names nobody knows give none.
        skeleton: pairs of indices from 0 that replace the guess from the names.

    Raises:
        DPoseError: for a pair that is no pair, or names a keypoint that is not there.
    """
    if skeleton is not None:
        for pair in skeleton:
            whole = isinstance(pair, list | tuple) and all(isinstance(k, int) for k in pair)
            if not whole or len(pair) != 2 or not all(0 <= k < len(names) for k in pair):
                raise DPoseError(
                    f"skeleton has the entry {pair}: give pairs of keypoint indices from 0 to {len(names) - 1}"
                )
        return [(a, b) for a, b in skeleton]
    index = {side_of(name): k for k, name in enumerate(full_names(names))}
    pairs = [((s, a), (s, b)) for s in ("left", "right") for a, b in _SAME_SIDE]
    pairs += [(("left", part), ("right", part)) for part in _ACROSS]
    pairs += [(("", a), (s, b)) for a, b in _TO_MIDDLE for s in ("left", "right")]
    pairs += [(("", a), ("", b)) for a, b in _MIDDLE]
    if ("", "neck") in index:  # the neck carries the head
        pairs = [pair for pair in pairs if pair[0][1] != "ear"]
    return [(index[a], index[b]) for a, b in pairs if a in index and b in index]


def sweep_killed(folder: Path, stem: str) -> None:
    """Remove what `replacing` left of files whose names begin with `stem` where its process was killed."""
    for file in folder.glob(f".{glob.escape(stem)}*.tmp*"):
        number = re.search(r"\.(\d+)\.tmp", file.name)
        if number and not _runs(int(number[1])):
            file.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # of another user, or no number of a process
    return True


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary neighbour of `path` to write to; takes its place when the block ends well.

    Raises:
        DPoseError: when the file cannot be written.
    """
    path = Path(path)
    stem = path.stem if len(os.fsencode(path.name)) < 200 else hashlib.sha1(os.fsencode(path.name)).hexdigest()
    temporary = path.with_name(f".{stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise DPoseError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # gone already, or never there
            temporary.unlink()


def plain_texts(figure: Figure) -> None:
    """Have all texts of a figure drawn as they are: a name with `$` is no formula."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)  # type: ignore[attr-defined]


def save_figure(figure: Figure, path: str | Path, dpi: int) -> Path:
    """Write a figure as PNG, in one step, and return its path."""
    plain_texts(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png", facecolor="white", pil_kwargs={"compress_level": 4})
    return Path(path)
