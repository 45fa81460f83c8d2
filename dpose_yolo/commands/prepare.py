"""`dpose prepare`: a YOLO-pose data set from videos, pictures and labels of other forms."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from dpose_yolo.commands.common import progress_bar, refuse_foreign
from dpose_yolo.commands.usage import require
from dpose_yolo.errors import DPoseError

# Where each source is read.
SOURCES = {
    "drive_act": ("drive_act", "plan"),
    "dripe": ("coco", "plan_dripe"),
    "coco": ("coco", "plan_coco"),
    "statefarm": ("statefarm", "plan"),
    "video": ("footage", "plan"),
}


def main(settings: dict[str, Any]) -> None:
    """Prepare a data set, or go on with one that was interrupted."""
    source = _source(settings.pop("source", []))
    from dpose_yolo.prepare.options import EVERYWHERE, OWN, read_options

    refuse_foreign(settings, (*EVERYWHERE, *OWN[source]), "prepare")
    src, dst = (str(require(settings, name, "prepare")) for name in ("src", "dst"))
    options = read_options(source, settings)
    _apart(Path(src), Path(dst))
    from dpose_yolo.commands.check import progress
    from dpose_yolo.prepare.files import content_of
    from dpose_yolo.prepare.output import Output
    from dpose_yolo.prepare.plan import total_work
    from dpose_yolo.prepare.work import estimate, in_words, prepare, require_space

    content = content_of(Path(src))
    recipe = {"source": source, "src": Path(src).resolve().name, "content": content, **options.recipe(source)}
    out = Output(Path(dst), recipe)
    state = out.state()
    if state == "complete":
        out.tidy()
        print(f"{dst} is complete already, by the same settings")
        report(out.record(), Path(dst))
        return
    module, function = SOURCES[source]
    with progress() as track:
        plan = getattr(import_module(f"dpose_yolo.prepare.{module}"), function)(src, options, track)
    images, size = estimate(plan, options.quality)
    free = require_space(out, size)
    bound = "" if options.frames else "at most "
    print(f"{bound}{images} images, about {in_words(size)} ({in_words(free)} free) -> {dst}", flush=True)
    if state == "begun":
        print("going on where it was interrupted", flush=True)
    with progress_bar(total_work(plan.jobs), "frames and pictures") as tick:
        record = prepare(plan, out, Path(src), options.quality, tick)
    report(record, Path(dst))


def _source(words: list[str]) -> str:
    if len(words) != 1:
        raise DPoseError(f"dpose prepare needs one source: dpose prepare {'|'.join(SOURCES)} src=... dst=...")
    if words[0] not in SOURCES:
        import difflib

        near = difflib.get_close_matches(words[0], SOURCES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use {', '.join(SOURCES)}"
        raise DPoseError(f"unknown source {words[0]!r}: {hint}")
    return words[0]


def _apart(src: Path, dst: Path) -> None:
    """Refuse a set inside its own source, which would be read as part of it the next time."""
    one, other = src.resolve(), dst.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise DPoseError(f"src={src} and dst={dst} lie in each other: set dst= to a folder outside the source")


def report(record: dict[str, Any], dst: Path) -> None:
    """Print what was made and what was left out."""
    for sentence in record.get("how", []):
        print(sentence)
    for kind, lost in record.get("left_out", {}).items():
        names = ", ".join(lost["first"][:3])
        more = " ..." if lost["count"] > 3 and names else ""
        print(f"left out: {lost['count']} x {kind}" + (f" ({names}{more})" if names else ""))
    counts = ", ".join(f"{part} {count}" for part, count in record.get("images", {}).items())
    print(f"{counts} images; {dst / 'data.yaml'}, index.csv, prepare.json")
