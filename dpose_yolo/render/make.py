"""From settings to a plan of scenes, and from a plan to its coverage; what `dpose render` calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.render.coverage import Coverage, cover
from dpose_yolo.render.plan import ScenePlan, chosen_postures, posture_scenes
from dpose_yolo.render.tools import Tools, draw_many, require_possible, seen_scenes
from dpose_yolo.settings import resolve

POOL = 2000  # labels of all postures that are drawn at least to aim with
LOOKS = ("look", "size", "licence")  # settings that are fields of `SceneSpec`


def make_plan(options: Mapping[str, Any], mixture: Mapping[str, Any], tools: Tools) -> tuple[ScenePlan, list[str]]:
    """Decide which scenes a set consists of.

    With `data`, the camera is fitted to its training labels unless one is given; with `postures=rare`, the posture
    mixture of these labels says how many images of each posture even the union out.

    Args:
        options: from `read_options`.
        mixture: DPOSE settings of the posture mixture that were given.
        tools: the renderer.

    Returns:
        The plan, and how it was decided in words.

    Raises:
        DPoseError: for data or a camera file that cannot be used, and a posture that cannot be shown.
    """
    names, cameras, said = list(tools.postures), (None,), []
    base, seed = {name: options[name] for name in LOOKS}, options["seed"]
    if options["postures"] != "rare":
        names = chosen_postures(options["postures"], names)
    draw = partial(draw_many, draw=tools.draw, workers=options["workers"])
    real = None
    if options["data"]:
        from dpose_yolo.engine.compat import require_engine

        require_engine()
        from dpose_yolo.render.real import read_set

        dpose = resolve(mixture)
        real = read_set(options["data"], "train", dpose)
    if options["camera"]:
        cameras = (_need(tools.read_camera)(options["camera"]),)
    elif real is not None:
        from dpose_yolo.render.fit import fit_cameras

        cameras = fit_cameras(real.labels, _need(tools.sample_camera), draw, names, base, seed)
        said.append(f"camera: {len(set(cameras))} cameras fitted to {len(real.labels)} labels of {options['data']}")
    if real is None or options["postures"] != "rare":
        scenes = posture_scenes(names, options["images"], seed, cameras, base)
        if len(cameras) > 1:
            scenes = seen_scenes(scenes, draw, seed)
        wanted = [scene.posture for scene in scenes]
        require_possible(scenes, tools.draw)
    else:
        from dpose_yolo.render.aim import aim_scenes, lacking_postures

        other = read_set(options["compare"], "train", dpose) if options["compare"] else None
        lacking = lacking_postures(real, real.mixture(dpose, seed), options["images"], seed, other)
        pool = posture_scenes(names, max(POOL, options["images"]), seed, cameras, base)
        scenes, wanted, reached = aim_scenes(lacking, pool, draw, options["tries"], seed)
        said += [
            f"{p.name}: {p.natural:.0f} poses, {p.images} rendered, mean OKS {reached[p.name]:.2f} with them"
            for p in lacking
        ]
    return ScenePlan(tuple(scenes), tuple(wanted), options["val"]), said


def measure_coverage(
    data: str,
    rendered: Any,
    parts: Sequence[str],
    options: Mapping[str, Any],
    dpose: Mapping[str, Any],
    tools: Tools | None,
    area: float,
) -> Coverage:
    """Compare a part of a data set with a rendered set, or with labels that are drawn for it.

    Args:
        data: data YAML of the real labels.
        rendered: data YAML of the rendered ones; None draws them by `options`.
        parts: of the real and of the rendered set.
        options: from `read_options`, for labels that are drawn.
        dpose: DPOSE settings.
        tools: the renderer, for labels that are drawn.
        area: OKS area as a share of the box area.
    """
    from dpose_yolo.engine.compat import require_engine

    require_engine()
    from dpose_yolo.render.real import read_set

    training = read_set(data, "train", dpose)
    real = training if parts[0] == "train" else read_set(data, parts[0], dpose)
    if rendered is not None:
        labels = read_set(rendered, parts[1], dpose).labels
    else:
        scenes = make_plan(options, {}, _need(tools))[0].scenes
        labels = draw_many(scenes, _need(tools).draw, options["workers"])[0]
    clusters = training.mixture(dpose).assign(real.table.features())
    return cover(real.labels, labels, real.sigmas, np.asarray(clusters), area)


def _need(tool: Any) -> Any:
    if tool is None:
        raise DPoseError("the renderer has no cameras of its own: give camera=")
    return tool
