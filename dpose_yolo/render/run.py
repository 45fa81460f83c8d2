"""Render a set: jobs of a few images, each in one of several worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.keypoints import COCO_NAMES, coco_sigmas
from dpose_yolo.metrics.samples import OKS_AREA
from dpose_yolo.render.output import RenderedOutput
from dpose_yolo.render.plan import ScenePlan
from dpose_yolo.render.scene import SceneSpec

Drawn = tuple[np.ndarray, np.ndarray, dict[str, Any]]
SIGMAS = np.array(coco_sigmas(COCO_NAMES))
JPEG_SHARE = 0.35  # bytes of a pixel in a noisy JPEG of quality 95
TICK = Callable[[int], None]


@dataclass(frozen=True)
class Tools:
    """The renderer: what opens one, and what draws a label without rendering. Both are sent to worker processes."""

    renderer: Callable[[], Any]
    draw: Callable[[SceneSpec], Drawn]


def own_tools(assets: Any = None) -> Tools:
    """The renderer of this package.

    Args:
        assets: folder of the assets, None for the cache folder.
    """
    from dpose_yolo.render.scene import Renderer, draw_labels  # type: ignore[attr-defined]

    return Tools(partial(Renderer, assets), draw_labels)


def bytes_of(plan: ScenePlan) -> int:
    """Bytes that a set takes on disk, roughly."""
    return round(plan.images * (plan.size[0] * plan.size[1] * JPEG_SHARE + 4096))


def require_possible(plan: ScenePlan, draw: Callable[[SceneSpec], Drawn]) -> None:
    """Draw one label of each posture before anything is written.

    Raises:
        DPoseError: for a posture or camera that the renderer cannot show.
    """
    for number, wanted in enumerate(plan.wanted):
        if wanted.images:
            draw(plan.scenes(number, wanted)[0][0])


def target_oks(keypoints: np.ndarray, box: np.ndarray, target: np.ndarray, ratio: float) -> float:
    """OKS of a drawn label with a target, both moved to one box.

    Args:
        keypoints: (17, 3) pixels and visibility.
        box: (4,) x1, y1, x2, y2 pixels.
        target: (17, 3) shares of the box and visibility; keypoints of visibility 0 are left out.
        ratio: width by height of the target's box.
    """
    on = target[:, 2] > 0
    if not on.any():
        return 0.0
    places = (keypoints[:, :2] - box[:2]) / np.maximum(box[2:] - box[:2], 1e-6)
    square = ((places - target[:, :2]) ** 2 * (ratio, 1 / ratio)).sum(1)
    alike = np.where(keypoints[:, 2] > 0, np.exp(-square / (2 * OKS_AREA * (2 * SIGMAS) ** 2)), 0)
    return float(alike[on].sum() / on.sum())


def best_scene(scenes: list[SceneSpec], ratio: float, draw: Callable[[SceneSpec], Drawn]) -> SceneSpec:
    """The candidate whose label is nearest to its target; the first where there is no choice."""
    if len(scenes) == 1 or scenes[0].target is None:
        return scenes[0]
    scores = []
    for scene in scenes:
        keypoints, box, _ = draw(scene)
        scores.append(target_oks(keypoints, box, scene.target, ratio))  # type: ignore[arg-type]
    return scenes[int(np.argmax(scores))]


class Painter:
    """Renders the jobs of a plan, in this process.

    Args:
        plan: what to render.
        out: where to.
        tools: the renderer.
        quality: of the JPEG files.
    """

    def __init__(self, plan: ScenePlan, out: RenderedOutput, tools: Tools, quality: int):
        self.plan, self.out, self.tools, self.quality = plan, out, tools, quality
        self._order, self._jobs = plan.order(), plan.jobs()
        self._renderer: Any = None

    def job(self, number: int, stop: Callable[[], bool] = lambda: False) -> int:
        """Render a job and record it; the number of images, 0 if `stop` ended it."""
        if self._renderer is None:
            self._renderer = self.tools.renderer()
        rows, items = [], {}
        for i in self._jobs[number]:
            if stop():
                return 0
            wanted = self.plan.wanted[self._order[i]]
            scenes, ratio = self.plan.scenes(i, wanted)
            scene = best_scene(scenes, ratio, self.tools.draw)
            sample = self._renderer.render(scene)
            row = self.out.put_sample(i, self.plan.part(i), wanted.name, scene.seed, sample, self.quality)
            rows.append(row)
            items.update({str(k): str(v) for k, v in (sample.about.get("items") or {}).items()})
        self.out.finish_job(number, rows, items)
        return len(rows)

    def close(self) -> None:
        """Close the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


_painter: Painter | None = None  # of a worker process
_stop: Any = None


def _start_worker(stop: Any, *arguments: Any) -> None:
    """Prepare a worker: it leaves the keyboard to its parent and ends with it."""
    global _painter, _stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    _painter, _stop = Painter(*arguments), stop


def _work(number: int) -> int:
    assert _painter is not None
    return _painter.job(number, _stop.is_set)


def render_set(
    plan: ScenePlan,
    out: RenderedOutput,
    tools: Tools,
    *,
    quality: int = 95,
    workers: int = 1,
    said: list[str] | None = None,
    tick: TICK = lambda steps: None,
) -> dict[str, Any]:
    """Render a set, or go on with one that was interrupted.

    Args:
        plan: what to render.
        out: the folder.
        tools: the renderer.
        quality: of the JPEG files.
        workers: processes; 1 renders in this one.
        said: how the plan was decided, for the record.
        tick: told the number of images that are done.

    Returns:
        What render.json says.

    Raises:
        DPoseError: for a folder that cannot be written to, a scene that cannot be rendered, a worker that died.
    """
    with out.begun(plan.digest()):
        todo = []
        for number, images in enumerate(plan.jobs()):
            if out.finished(number):
                tick(len(images))
            else:
                todo.append(number)
        if workers > 1 and len(todo) > 1:
            _in_processes(todo, min(workers, len(todo)), tick, plan, out, tools, quality)
        else:
            painter = Painter(plan, out, tools, quality)
            try:
                for number in todo:
                    tick(painter.job(number))
            finally:
                painter.close()
        record = out.finish_set(plan, said or [])
    out.tidy()
    return record


def _in_processes(todo: list[int], workers: int, tick: TICK, *arguments: Any) -> None:
    context = multiprocessing.get_context("spawn")  # a GL context does not survive a fork
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, context, _start_worker, (stop, *arguments))
    try:
        for done in as_completed([pool.submit(_work, number) for number in todo]):
            tick(done.result())
    except BrokenProcessPool as error:
        raise DPoseError(
            "a worker process ended before its images were done, perhaps for want of memory: "
            "set fewer workers=; the same command goes on from there"
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
