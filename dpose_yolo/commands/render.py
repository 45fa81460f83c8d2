"""`dpose render`: rendered drivers, their assets, and how well they cover real labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpose_yolo.commands.common import leave_none, output_folder, progress_bar, refuse_foreign
from dpose_yolo.commands.usage import flag, require
from dpose_yolo.errors import DPoseError
from dpose_yolo.render.options import MIXTURE, NO_RECIPE, OTHERS, TYPED, read_options
from dpose_yolo.settings import resolve

WHAT = ("coverage", "assets")
DRAWN = ("images", "seed", "camera", "look", "licence", "postures", "size", "compare", "tries", "workers")
COVERAGE = ("data", "rendered", "split", "rendered_split", "oks_area", "project", "name", "exist_ok")


def main(settings: dict[str, Any]) -> None:
    """Render a set, or go on with one that was interrupted; measure coverage; fetch the assets."""
    words = settings.pop("what", [])
    if not words:
        return render(settings)
    if len(words) != 1 or words[0] not in WHAT:
        raise DPoseError(f"dpose render {' '.join(words)}: give coverage or assets, or nothing to render a set")
    return coverage(settings) if words[0] == "coverage" else assets(settings)


def render(settings: dict[str, Any]) -> None:
    """Render a set."""
    refuse_foreign(settings, (*TYPED, *OTHERS, *MIXTURE), "render")
    dst = Path(str(require(settings, "dst", "render")))
    options = read_options(settings)
    mixture = {k: v for k, v in settings.items() if k in MIXTURE}
    resolve(mixture)
    from dpose_yolo.prepare.work import in_words, require_space
    from dpose_yolo.render.make import make_plan
    from dpose_yolo.render.output import RenderedOutput
    from dpose_yolo.render.run import bytes_of, render_set
    from dpose_yolo.render.tools import own_tools

    recipe = {name: value for name, value in {**options, **mixture}.items() if name not in NO_RECIPE}
    out = RenderedOutput(dst, recipe)
    state = out.state()
    if state == "complete":
        out.tidy()
        print(f"{dst} is complete already, by the same settings")
        return report(out.record(), dst)
    tools = own_tools()
    plan, said = make_plan(options, mixture, tools)
    size = bytes_of(plan)
    free = require_space(out, size, "fewer images=, a smaller size=")
    print(f"{len(plan.scenes)} images, about {in_words(size)} ({in_words(free)} free) -> {dst}", flush=True)
    if state == "begun":
        print("going on where it was interrupted", flush=True)
    how = {"quality": options["quality"], "workers": options["workers"]}
    with progress_bar(len(plan.scenes), "images") as tick:
        record = render_set(plan, out, tools, **how, said=said, tick=tick)
    report(record, dst)


def report(record: dict[str, Any], dst: Path) -> None:
    """Print what was made."""
    for sentence in record.get("how", []):
        print(sentence)
    counts = ", ".join(f"{part} {count}" for part, count in record.get("images", {}).items())
    print(f"{counts} images; {dst / 'data.yaml'}, index.csv, CREDITS.txt, render.json")


def coverage(settings: dict[str, Any]) -> None:
    """Measure how near rendered labels come to those of a data set; images are not looked at."""
    refuse_foreign(settings, (*COVERAGE, *DRAWN, *MIXTURE), "render")
    data = require(settings, "data", "render")
    dpose = resolve({k: v for k, v in settings.items() if k in MIXTURE})
    options = read_options({k: v for k, v in settings.items() if k in (*DRAWN, "data")})
    if settings.get("rendered") and (drawn := [k for k in settings if k in DRAWN]):
        raise DPoseError(f"{drawn[0]}= is for labels that are drawn here: leave it out, or leave rendered= out")
    area = settings.get("oks_area", 0.53)
    if isinstance(area, bool) or not isinstance(area, int | float) or not 0 < area <= 1:
        raise DPoseError(f"oks_area={area} must be a number above 0, 1 at most")
    from dpose_yolo.render.coverage import GATE
    from dpose_yolo.render.make import measure_coverage
    from dpose_yolo.render.tools import own_tools
    from dpose_yolo.report.coverage import print_coverage, save_coverage

    parts = [str(settings.get(name, "train")) for name in ("split", "rendered_split")]
    tools = None if settings.get("rendered") else own_tools()
    found = measure_coverage(str(data), settings.get("rendered"), parts, options, dpose, tools, float(area))
    folder = output_folder(settings, "coverage")
    try:
        save_coverage(found, folder)
    except BaseException:
        leave_none(folder)
        raise
    print_coverage(found, GATE)
    print(f"\ncoverage.csv, coverage.json in {folder}")


def assets(settings: dict[str, Any]) -> None:
    """Fetch what the renderer shows, once."""
    refuse_foreign(settings, ("minimal",), "render")
    minimal = flag(settings, "minimal", False)
    from dpose_yolo.render.assets import fetch_assets

    print(f"assets in {fetch_assets(minimal)}")
