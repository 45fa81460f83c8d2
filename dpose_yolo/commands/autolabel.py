"""`dpose autolabel`: labels by the agreement of several models."""

from __future__ import annotations

from typing import Any

from dpose_yolo.commands.check import progress
from dpose_yolo.commands.common import refuse_foreign
from dpose_yolo.commands.usage import flag, require, whole
from dpose_yolo.errors import DPoseError
from dpose_yolo.folders import listed_paths

OWN = ("source", "teacher", "dst", "split", "driver", "roi", "every", "flip", "overwrite", "empty", "review", "fewest")
RULES = ("least", "agree", "sure", "weak")
MODEL = ("imgsz", "conf", "iou", "device")


def main(settings: dict[str, Any]) -> int:
    """Label a source; the exit status is 1 where nothing could be labelled."""
    refuse_foreign(settings, (*OWN, *RULES, *MODEL), "autolabel")
    source, dst = (require(settings, name, "autolabel") for name in ("source", "dst"))
    paths = _paths(require(settings, "teacher", "autolabel"))
    switches = {name: flag(settings, name, name == "flip") for name in ("flip", "overwrite", "empty")}
    most = 0 if settings.get("review") in (0, False) else whole(settings, "review", 200)
    every = whole(settings, "every", 10)
    numbers = {name: _number(settings, name) for name in (*RULES, "conf", "iou") if settings.get(name) is not None}
    driver, roi = _driver(settings)
    sizes = _sizes(settings.get("imgsz"), len(paths))

    from dpose_yolo.autolabel.journal import Journal
    from dpose_yolo.autolabel.panel import Panel
    from dpose_yolo.autolabel.pictures import Pictures
    from dpose_yolo.autolabel.review import save_review
    from dpose_yolo.autolabel.run import Labelling, flag_shares, save_table, settings_of
    from dpose_yolo.autolabel.target import find_target, write_card, write_index, write_labelled_list
    from dpose_yolo.autolabel.teachers import Finder, flip_of, load_teacher
    from dpose_yolo.autolabel.votes import Rules
    from dpose_yolo.keypoints import full_names, sigmas_of
    from dpose_yolo.report.drawing import limbs

    conf, iou = numbers.pop("conf", 0.25), numbers.pop("iou", 0.5)
    rules = Rules(fewest=whole(settings, "fewest", 3), **numbers)
    pictures = Pictures(source, str(settings.get("split", "train")), every)
    unnamed = pictures.unnamed()
    if unnamed:
        print(f"{unnamed} files are left out: names that are not UTF-8 have to be changed")
    target = find_target(pictures, dst)
    teachers = [
        load_teacher(path, imgsz=size, conf=conf, device=settings.get("device"))
        for path, size in zip(paths, sizes, strict=True)
    ]
    card = pictures.card
    names = full_names(card.names if card else next((t for t in teachers if isinstance(t, Finder)), teachers[0]).names)
    panel = Panel(teachers, names, switches["flip"], driver, roi, iou)
    sigmas = sigmas_of(names, card.raw.get("kpt_oks_sigmas") if card else None)
    pairs = limbs(names, card.skeleton if card else None)
    sides = (card.flip_idx if card else None) or flip_of(names)
    if panel.unknown:
        print(f"no teacher knows {', '.join(panel.unknown)}: never labelled")
    decides = settings_of(pictures, panel, rules, conf=conf, imgsz=sizes, empty=switches["empty"])
    with Journal(target.reports / "progress.db", decides) as journal:
        work = Labelling(
            pictures, target, panel, rules, sigmas, journal, switches["overwrite"], empty=switches["empty"]
        )
        with progress() as track:
            counts = work.run(track)
        if counts["labelled"] and not target.beside:
            write_card(target, names, sigmas, sides, pairs)
            write_index(target)
        if counts["labelled"] + counts["kept"] and target.beside and pictures.card:
            file = write_labelled_list(target, pictures.card)
            print(f"{file}: the images that have a label; train on it, the others are no background")
        save_table(journal, names, target.reports / "labels.csv")
        if most:
            save_review(journal, target, names, target.reports / "review.html", most, pairs)
        _tell(journal, counts, flag_shares(journal, names))
    written = ", ".join(("labels.csv", *(["review.html"] if most else [])))
    print(f"{written} in {target.reports}" + ("" if target.beside else f"; data set {target.root / 'data.yaml'}"))
    if not counts["labelled"] + counts["kept"]:
        raise DPoseError(f"nothing in {source} could be labelled: {target.reports / 'labels.csv'} says why")
    return 0


def _tell(journal: Any, counts: dict[str, int], flags: dict[str, list[int]]) -> None:
    """Print what happened, and the flags of each keypoint."""
    from rich.table import Table

    from dpose_yolo.report.plain import plain_console

    words = {"labelled": "labelled", "kept": "kept their label", "nobody": "without a driver", "broken": "broken"}
    print(", ".join(f"{counts[state]} {text}" for state, text in words.items() if counts[state]) or "no pictures")
    for state in ("broken", "nobody"):
        first = journal.first(state)
        if first:
            print(f"the first {words[state]}: {first.record['source']}: {first.record['reason']}")
    table = Table(box=None, pad_edge=False)
    for column in ("keypoint", "agreed %", "weak %", "none %"):
        table.add_column(column, justify="left" if column == "keypoint" else "right")
    for name, shares in flags.items():
        total = sum(shares)
        if total:
            table.add_row(name, *(f"{100 * share / total:.0f}" for share in shares))
    if table.rows:
        plain_console().print(table)


def _paths(value: Any) -> list[str]:
    paths = [str(p) for p in value] if isinstance(value, list | tuple) else listed_paths(str(value))
    if not all(paths):
        raise DPoseError(f"teacher={value} has an empty name: write teacher=a.pt,b.pt")
    twice = next((p for p in paths if paths.count(p) > 1), None)
    if twice:
        raise DPoseError(f"teacher {twice} is given twice: its vote would count double")
    return paths


def _sizes(value: Any, count: int) -> list[int | None]:
    """Input size of each teacher."""
    values = value if isinstance(value, list | tuple) else [value] * count
    if len(values) != count:
        raise DPoseError(f"imgsz={value} has {len(values)} sizes for {count} teachers: give one, or one for each")
    for size in values:
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 32):
            raise DPoseError(f"imgsz={value} is not allowed: give whole numbers from 32")
    return list(values)


def _number(settings: dict[str, Any], name: str) -> float:
    value = settings[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DPoseError(f"{name}={value} is not allowed: give a number")
    if name in ("conf", "iou") and not 0 < value < 1:
        raise DPoseError(f"{name}={value} is not allowed: give a number between 0 and 1")
    return float(value)


def _driver(settings: dict[str, Any]) -> tuple[str, tuple[float, ...] | None]:
    """Who is labelled, and the region."""
    from dpose_yolo.autolabel.persons import DRIVERS
    from dpose_yolo.runtime.driver import check_roi

    driver, roi = str(settings.get("driver", "largest")), check_roi(settings.get("roi"))
    if driver not in DRIVERS:
        raise DPoseError(f"driver={driver} is not allowed: driver takes {', '.join(DRIVERS)}")
    if (driver == "region") != (roi is not None):
        raise DPoseError("driver=region and roi=[x1,y1,x2,y2] (shares of the picture) go together: give both")
    return driver, roi
