"""`dpose check`: is a data set fit to train on and to measure with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpose_yolo.commands.common import leave_none, output_folder, refuse_foreign
from dpose_yolo.commands.usage import flag, require
from dpose_yolo.errors import DPoseError

OWN = ("data", "names", "strict", "fix", "drop", "images", "seed", "project", "name", "exist_ok")


def main(settings: dict[str, Any]) -> int:
    """Check a data set; the exit status is 1 with `strict=True` if there are errors or warnings."""
    refuse_foreign(settings, OWN, "check")
    data = require(settings, "data", "check")
    strict, fix, images = flag(settings, "strict", False), flag(settings, "fix", False), flag(settings, "images", True)
    seed = settings.get("seed", 0)
    if type(seed) is not int or seed < 0:
        raise DPoseError(f"seed={seed} must be a whole number from 0")
    names, drop = settings.get("names"), settings.get("drop")
    if drop is not None and not fix:
        raise DPoseError(f"drop={drop} leaves images out of the lists that fix=True writes: give fix=True, too")
    from dpose_yolo.dataset.card import read_card
    from dpose_yolo.dataset.check import check
    from dpose_yolo.dataset.findings import Findings
    from dpose_yolo.dataset.mend import drop_images, write_lists
    from dpose_yolo.report.check import print_findings, save_findings
    from dpose_yolo.report.drawing import replacing, sweep_killed

    card = read_card(data)
    folder = output_folder(settings, "check")
    findings = Findings()
    sweep_killed(folder, "check")
    try:
        with (
            replacing(folder / "check.csv") as temporary,
            temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
            progress() as track,
        ):
            findings.write_to(file)
            checked = check(card, findings, None if names is None else str(names), seed, track)
    except BaseException:
        leave_none(folder)
        raise
    save_findings(checked, folder / "check.html", images)
    print_findings(checked)
    print(f"\ncheck.csv, check.html in {folder}")
    if drop is not None:
        drop_images(card, checked.scan, Path(str(drop)))
    if fix:
        yaml_file, written = write_lists(card, checked.scan)
        counts = ", ".join(f"{part} {kept} images ({out} left out)" for part, (kept, out) in written.items())
        print(f"{yaml_file}: {counts}; nothing was changed or deleted")
    return int(strict and findings.of_level("error") + findings.of_level("warning") > 0)


@contextmanager
def progress() -> Iterator[Any]:
    """A progress bar on standard error while something is done, if that is a terminal; gives a wrapper of loops."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from dpose_yolo.report.plain import plain_console

    console = plain_console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:

        def track(items: Iterable[Any], text: str) -> Iterable[Any]:
            total = len(items) if isinstance(items, Sized) else None
            return bar.track(items, total=total, description=text)

        yield track
