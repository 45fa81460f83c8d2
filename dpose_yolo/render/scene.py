"""Scenes: labels without rendering (`draw_labels`) and rendered samples (`Renderer`)."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.render.assets import Assets, load_assets
from dpose_yolo.render.cabin import build_cabin, occupants
from dpose_yolo.render.camera import Camera
from dpose_yolo.render.clothes import belt, dress
from dpose_yolo.render.composition import (
    CABIN_STREAM,
    LOOK_STREAM,
    SENSOR_STREAM,
    Composition,
    Sample,
    SceneSpec,
    about_composition,
    compose,
    flat_labels,
    mirror_labels,
)
from dpose_yolo.render.gl import Rasterizer
from dpose_yolo.render.light import Light, draw_light
from dpose_yolo.render.meshes import DRIVER, HELD, Mesh
from dpose_yolo.render.postures import POSTURES
from dpose_yolo.render.props import held
from dpose_yolo.render.sensor import expose, through_lens, wide_camera_scale
from dpose_yolo.render.visibility import Picture, driver_box, visible

__all__ = ["POSTURES", "Composition", "Renderer", "Sample", "SceneSpec", "compose", "draw_labels"]

CABINS = 2  # interiors that are tried before the bare one
ENOUGH_VISIBLE = 0.4  # share of the keypoints in the image
NEAR_CAMERA, BARE_NEAR_CAMERA = 0.08, 0.35  # metres around the camera that are kept free


def draw_labels(spec: SceneSpec) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Draw the labels of a scene without rendering it: for coverage, aiming and tuning.

    Returns:
        Keypoints (17, 3) [x, y, v] in pixels, the same as those of the rendered sample, but with v = 2 for all in the
        image; the box (4,) x1, y1, x2, y2 around the projected body, without hair and cloth; and what was drawn.

    Raises:
        DPoseError: as `compose`.
    """
    composition = compose(spec, load_assets(spec.licence), fingers=False)
    keypoints, box = flat_labels(composition, spec.size)
    if composition.side == "right":
        keypoints, box = mirror_labels(keypoints, box, spec.size[0])
    return keypoints, box, about_composition(spec, composition)


def build(composition: Composition, spec: SceneSpec, assets: Assets, cabin: int = 0) -> tuple[list[Mesh], Light, str]:
    """Meshes and light of a scene, and the name of its interior.

    Args:
        composition: driver and camera.
        spec: seed and look.
        assets: optional items.
        cabin: 0 for the first interior; higher numbers are further ones, the last without things that may hide the
            driver.
    """
    look = np.random.default_rng([spec.seed, LOOK_STREAM])
    place = np.array(composition.camera.position)
    worn = dress(composition.body, look, skins=assets.skins)
    if look.random() < 0.75:
        worn += belt(composition.body, worn, look)
    pose = composition.pose
    if pose.prop:
        worn += held(composition.body, pose.prop, pose.prop_hand, look)
    light = draw_light(look, spec.look, assets.skies)
    inside = np.random.default_rng([spec.seed, CABIN_STREAM, cabin])
    meshes = worn + build_cabin(composition.layout, inside, cabin < CABINS)
    if cabin < CABINS:
        meshes += occupants(assets.body, composition.layout, place, inside)
    gap = NEAR_CAMERA if cabin < CABINS else BARE_NEAR_CAMERA
    return [mesh for mesh in meshes if not _blocks(mesh, place, gap)], light, "procedural"


def _blocks(mesh: Mesh, place: np.ndarray, gap: float) -> bool:
    """Whether a part of the cabin comes within `gap` metres of the camera's place, where it would fill the image."""
    if mesh.identity in (DRIVER, HELD):
        return False
    low, high = mesh.vertices.min(0) - gap, mesh.vertices.max(0) + gap
    if not ((place > low) & (place < high)).all():
        return False
    if (high - low).max() < 1.0:
        return True
    return bool(((mesh.vertices - place) ** 2).sum(1).min() < gap * gap)


def label(composition: Composition, picture: Picture, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray | None]:
    """Keypoints (17, 3) with visibility from the buffers, and the box (4,) of the driver's pixels, both unmirrored."""
    keypoints, _ = flat_labels(composition, size)
    factor = picture.fine.shape[1] / size[0]
    pixels, depth = composition.camera.project(composition.points, size)
    focal = composition.camera.focal(size[1]) * factor
    seen = visible(pixels * factor, depth, focal, picture.fine, picture.depth)
    keypoints[:, 2] = np.where(keypoints[:, 2] > 0, np.where(seen, 2.0, 1.0), 0.0)
    box = driver_box(picture.fine)
    return keypoints, None if box is None else box / factor


class Renderer:
    """Renders scenes; make it in the process that uses it.

    Args:
        assets: of `load_assets`; None loads those of each spec's licence.

    Raises:
        DPoseError: no assets, no moderngl, no EGL; each with what to install.
    """

    def __init__(self, assets: Assets | None = None):
        self._assets = assets
        if assets is None:
            load_assets()
        self._rasterizer = Rasterizer()

    def close(self) -> None:
        """Release the OpenGL context."""
        self._rasterizer.close()

    def __enter__(self) -> "Renderer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def render(self, spec: SceneSpec) -> Sample:
        """Render one sample; the same spec gives the same labels, and on one machine the same pixels.

        Raises:
            DPoseError: as `compose`.
        """
        assets = self._assets or load_assets(spec.licence)
        composition = compose(spec, assets)
        for cabin in range(CABINS + 1):
            meshes, light, interior = build(composition, spec, assets, cabin)
            picture = self.draw(composition.camera, meshes, light, spec.size)
            keypoints, box = label(composition, picture, spec.size)
            if box is not None and (keypoints[:, 2] == 2).sum() >= ENOUGH_VISIBLE * (keypoints[:, 2] > 0).sum():
                break
        if box is None:
            raise DPoseError(f"render: seed {spec.seed} shows no driver in '{spec.posture}': use another seed")
        look = np.random.default_rng([spec.seed, SENSOR_STREAM])
        image = expose(picture.colour, picture.identity == DRIVER, light.infrared, look)
        if composition.side == "right":
            keypoints, box = mirror_labels(keypoints, box, spec.size[0])
            image = np.ascontiguousarray(image[:, ::-1])
        about = {**about_composition(spec, composition), "interior": interior, "light": light.name}
        files = sorted({light.file, *(mesh.material.texture for mesh in meshes)} - {""})
        return Sample(image, keypoints, box, {**about, "items": assets.credits(files)})

    def draw(self, camera: Camera, meshes: list[Mesh], light: Light, size: tuple[int, int]) -> Picture:
        """Draw meshes at twice the size, through the lens, and halve the colours."""
        scale = wide_camera_scale(camera, size)
        wide = replace(camera, fov=2 * float(np.degrees(np.arctan(scale * np.tan(np.radians(camera.fov) / 2)))))
        large = (2 * size[0], 2 * size[1])
        colour, identity, depth = self._rasterizer.draw(meshes, wide, large, light)
        if any(camera.distortion):
            colour = through_lens(colour, camera, large, scale)
            identity, depth = (through_lens(part, camera, large, scale, True) for part in (identity, depth))
        half = cv2.resize(np.ascontiguousarray(colour), size, interpolation=cv2.INTER_AREA)
        return Picture(half, identity[::2, ::2], identity, depth)
