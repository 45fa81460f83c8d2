"""Render a set: jobs of a few images, each in one of several worker processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import replace
from typing import Any

from dpose_yolo.errors import DPoseError
from dpose_yolo.render.output import RenderedOutput
from dpose_yolo.render.plan import ScenePlan
from dpose_yolo.render.scene import Sample, SceneSpec
from dpose_yolo.render.tools import Tools, processes, start_worker

JPEG_SHARE = 0.35  # bytes of a pixel in a noisy JPEG of quality 95
ATTEMPTS, STRIDE = 8, 0x9E3779B97F4A7C1  # seeds that are tried for an image, and the step between them
TICK = Callable[[int], None]


def bytes_of(plan: ScenePlan) -> int:
    """Bytes that a set takes on disk, roughly."""
    return sum(round(scene.size[0] * scene.size[1] * JPEG_SHARE) + 4096 for scene in plan.scenes)


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
        self._jobs = plan.jobs()
        self._renderer: Any = None

    def job(self, number: int, stop: Callable[[], bool] = lambda: False) -> int:
        """Render a job and record it; the number of images, 0 if `stop` ended it."""
        if self._renderer is None:
            self._renderer = self.tools.renderer()
        rows, items = [], {}
        for i in self._jobs[number]:
            if stop():
                return 0
            scene, sample = self._rendered(self.plan.scenes[i])
            what = (self.plan.part(i), self.plan.wanted[i], scene.seed)
            rows.append(self.out.put_sample(i, *what, sample, self.quality))
            items.update({str(k): str(v) for k, v in (sample.about.get("items") or {}).items()})
        self.out.finish_job(number, rows, items)
        return len(rows)

    def _rendered(self, scene: SceneSpec) -> tuple[SceneSpec, Sample]:
        """Render a scene, by other seeds where the first shows no driver."""
        for attempt in range(ATTEMPTS):
            other = replace(scene, seed=(scene.seed + attempt * STRIDE) % 2**62)
            try:
                return other, self._renderer.render(other)
            except DPoseError:
                if attempt + 1 == ATTEMPTS:
                    raise
        raise AssertionError("ATTEMPTS is at least 1")

    def close(self) -> None:
        """Close the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


_painter: Painter | None = None  # of a worker process
_stop: Any = None


def _start_painter(stop: Any, *arguments: Any) -> None:
    global _painter, _stop
    start_worker()
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
    with processes(workers, context, _start_painter, stop, *arguments) as pool:
        try:
            for done in as_completed([pool.submit(_work, number) for number in todo]):
                tick(done.result())
        finally:
            stop.set()
