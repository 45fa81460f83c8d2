"""What renders and what draws labels, and the processes in which both are done."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.render.labels import LabelSet, from_drawn
from dpose_yolo.render.scene import SceneSpec

Drawn = tuple[np.ndarray, np.ndarray, dict[str, Any]]
DRAWN_HERE = 500  # labels that are not worth starting processes for
CAMERAS_TRIED = 20  # for a scene whose own camera does not see the driver


@dataclass(frozen=True)
class Tools:
    """The renderer, as worker processes get it.

    Attributes:
        renderer: opens one: `render(spec)` gives a `Sample`, `close()` ends it.
        draw: the label of a scene without rendering.
        postures: names of its postures.
        sample_camera: draws a camera.
        read_camera: the camera that a name or the path of a file stands for.
    """

    renderer: Callable[[], Any]
    draw: Callable[[SceneSpec], Drawn]
    postures: tuple[str, ...] = ()
    sample_camera: Callable[[np.random.Generator], Any] | None = None
    read_camera: Callable[[str], Any] | None = None


def own_tools() -> Tools:
    """The renderer of this package."""
    from dpose_yolo.render.scene import POSTURES, Renderer, draw_labels

    return Tools(Renderer, draw_labels, tuple(POSTURES), one_side_camera, named_camera)


def named_camera(name: str) -> Any:
    """The camera that `camera=` names: a mount, `any` for any of them (None), or a camera file.

    Raises:
        DPoseError: for a name that is neither.
    """
    from dpose_yolo.render.camera import MOUNTS, load_camera

    if name == "any":
        return None
    if name in MOUNTS:
        return MOUNTS[name]
    if not Path(name).exists():
        raise DPoseError(f"no camera {name!r}: give any, {', '.join(MOUNTS)} or the path of a camera file")
    return load_camera(name)


def one_side_camera(rng: np.random.Generator) -> Any:
    """Draw a camera of a car whose steering wheel is on a certain side, so that the side is fitted with it."""
    from dpose_yolo.render.camera import draw_camera

    return replace(draw_camera(rng), drive="left" if rng.random() < 0.5 else "right")


def require_possible(scenes: Sequence[SceneSpec], draw: Callable[[SceneSpec], Drawn]) -> None:
    """Draw one label of each posture before anything is written.

    Raises:
        DPoseError: for a posture or camera that the renderer cannot show.
    """
    for scene in {scene.posture: scene for scene in scenes}.values():
        draw(scene)


def draw_many(
    scenes: Sequence[SceneSpec], draw: Callable[[SceneSpec], Drawn], workers: int = 1
) -> tuple[LabelSet, np.ndarray]:
    """Labels of scenes of one image size, without rendering.

    Args:
        scenes: to draw.
        draw: draws one.
        workers: processes; 1 draws in this one.

    Returns:
        The labels, and (N,) whether each scene has one: False where its camera does not see the driver.
    """
    if workers > 1 and len(scenes) > DRAWN_HERE:
        with processes(workers, multiprocessing.get_context("spawn"), start_worker) as pool:
            found = list(pool.map(partial(_drawn, draw), scenes, chunksize=64))
    else:
        found = [_drawn(draw, scene) for scene in scenes]
    seen = np.array([one is not None for one in found], bool)
    return from_drawn([one for one in found if one is not None], scenes[0].size), seen


def _drawn(draw: Callable[[SceneSpec], Drawn], scene: SceneSpec) -> Drawn | None:
    try:
        return draw(scene)
    except DPoseError:
        return None


def seen_scenes(
    scenes: Sequence[SceneSpec], draw: Callable[[Sequence[SceneSpec]], tuple[LabelSet, np.ndarray]], seed: int
) -> list[SceneSpec]:
    """Scenes in which the camera sees the driver: others take the camera of another scene.

    Raises:
        DPoseError: for a posture that none of the cameras tried can see.
    """
    rng = np.random.default_rng([seed, 4])
    found, todo = list(scenes), np.arange(len(scenes))
    for _ in range(CAMERAS_TRIED):
        seen = draw([found[i] for i in todo])[1]
        todo = todo[~seen]
        if not len(todo):
            return found
        for i in todo:
            found[i] = replace(found[i], camera=scenes[int(rng.integers(len(scenes)))].camera)
    raise DPoseError(f"posture {found[todo[0]].posture} cannot be seen by the cameras: leave it out of postures=")


def start_worker() -> None:
    """Prepare a worker: it leaves the keyboard to its parent and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


@contextmanager
def processes(workers: int, context: Any, start: Callable[..., None], *arguments: Any) -> Iterator[ProcessPoolExecutor]:
    """Worker processes; on an error, what they have not begun is given up.

    Raises:
        DPoseError: when a worker dies.
    """
    pool = ProcessPoolExecutor(workers, context, start, arguments)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise DPoseError(
            "a worker process ended before its work was done, perhaps for want of memory: "
            "set fewer workers=; the same command goes on from there"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
