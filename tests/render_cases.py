"""A renderer of stick figures with the interface of the real one, for tests of what is around it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from stick_figures import POSTURES, draw, figure

from dpose_yolo import DPoseError
from dpose_yolo.render.plan import ScenePlan, posture_scenes
from dpose_yolo.render.scene import Sample, SceneSpec
from dpose_yolo.render.tools import Tools

NAMES = list(POSTURES)


@dataclass(frozen=True)
class Camera:
    """Scale of the driver in the picture, and the place of its centre."""

    scale: float = 1.0
    centre: tuple[float, float] = (0.5, 0.5)
    mount: str = "front"


def sample_camera(rng: np.random.Generator) -> Camera:
    return Camera(rng.uniform(0.3, 1.1), tuple(rng.uniform(0.2, 0.8, 2).tolist()))


def read_camera(path: str) -> Camera | None:
    if path == "any":
        return None
    if not Path(path).is_file():
        raise DPoseError(f"no camera file {path}: give the path of a YAML file")
    return Camera(float(Path(path).read_text()))


def draw_labels(spec: SceneSpec):
    """Label of a stick figure in a square picture."""
    if spec.posture not in POSTURES:
        raise DPoseError(f"posture {spec.posture} is impossible: its hand reaches through the roof")
    rng = np.random.default_rng(spec.seed)
    points = figure(spec.posture, rng)
    camera = spec.camera or Camera()
    points[:, :2] = (points[:, :2] - 0.5) * camera.scale + camera.centre
    points[~((points[:, :2] > 0) & (points[:, :2] < 1)).all(1)] = 0
    points[:, :2] *= spec.size
    on = points[points[:, 2] > 0, :2]
    if not len(on):
        raise DPoseError("the driver is not in the picture")
    box = np.concatenate([on.min(0) - 2, on.max(0) + 2]).clip(0, (*spec.size, *spec.size))
    about = {
        "posture": spec.posture,
        "camera": camera.mount,
        "body": {"age": int(rng.integers(18, 90))},
        "interior": "none",
        "light": "day",
        "side": "left",
        "items": {"stick": "CC0", f"hat {rng.integers(2)}": "CC-BY 4.0"},
    }
    return points, box, about


class FakeRenderer:
    """Draws what `draw_labels` says."""

    def __init__(self, assets=None):
        self.assets = assets

    def render(self, spec: SceneSpec) -> Sample:
        keypoints, box, about = draw_labels(spec)
        shares = keypoints / (*spec.size, 1)
        return Sample(draw(shares, spec.size[0], np.random.default_rng(spec.seed)), keypoints, box, about)

    def close(self) -> None:
        pass


@dataclass
class Slow(FakeRenderer):
    """Takes its time, and writes its process id down."""

    folder: Path
    seconds: float = 0.05

    def __post_init__(self) -> None:
        (self.folder / f"worker-{os.getpid()}").touch()

    def render(self, spec: SceneSpec) -> Sample:
        time.sleep(self.seconds)
        return super().render(spec)


class Dying(FakeRenderer):
    """Is killed by the system at its third image."""

    count = 0

    def render(self, spec: SceneSpec) -> Sample:
        self.count += 1
        if self.count == 3:
            os._exit(9)
        return super().render(spec)


class Blind(FakeRenderer):
    """Finds no driver with odd seeds; with no seed at all in `stretch_up`."""

    def render(self, spec: SceneSpec) -> Sample:
        if spec.seed % 2 or spec.posture == "stretch_up":
            raise DPoseError(f"seed {spec.seed} shows no driver in {spec.posture}")
        return super().render(spec)


class FullDisk(FakeRenderer):
    """The disk is full at the 20th image."""

    count = 0

    def render(self, spec: SceneSpec) -> Sample:
        self.count += 1
        if self.count == 20:
            raise OSError(28, "No space left on device")
        return super().render(spec)


FAKE = Tools(FakeRenderer, draw_labels, tuple(NAMES), sample_camera, read_camera)


def scenes_of(images: int, names=NAMES, seed: int = 0, cameras=(None,), side: int = 64) -> list[SceneSpec]:
    """Scenes of small pictures."""
    return posture_scenes(names, images, seed, cameras, {"look": "colour", "size": (side, side), "licence": "any"})


def plan_of(images: int, names=NAMES, seed: int = 0, val: float = 0.0) -> ScenePlan:
    """A plan of small pictures."""
    scenes = scenes_of(images, names, seed)
    return ScenePlan(tuple(scenes), tuple(scene.posture for scene in scenes), val)
