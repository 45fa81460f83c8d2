"""Who sits where and how, before which camera: what a scene is composed of.

A scene is drawn in a left-hand drive cabin. For a right-hand drive car it is drawn with the mirrored camera, and image
and labels are mirrored at the end, which is exact.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.render.assets import Assets
from dpose_yolo.render.body import Body, draw_shape
from dpose_yolo.render.camera import Camera, CameraRange, draw_camera
from dpose_yolo.render.layout import Layout, draw_layout
from dpose_yolo.render.posing import apply_pose
from dpose_yolo.render.postures import Pose, draw_pose, find_posture
from dpose_yolo.render.solver import check_target, solve_keypoints

LOOKS = ("colour", "infrared", "mixed")
FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]  # left and right COCO keypoints
# independent sources of chance of one seed
POSE_STREAM, CAMERA_STREAM, LOOK_STREAM, CABIN_STREAM, SENSOR_STREAM = range(5)
TRIES = 60  # cameras and poses that are drawn until the driver is in view
RIGHT_HAND_DRIVE = 0.2
SOLUTIONS = 3  # persons and poses that a target is tried from
NEAREST = 0.3  # metres from the camera to head and torso


@dataclass(frozen=True)
class SceneSpec:
    """What to render.

    Attributes:
        seed: source of everything that is not given.
        posture: name in `POSTURES`.
        camera: a `Camera`, a `CameraRange` (drawn from), or None for any mount.
        look: "colour", "infrared" (night, grey) or "mixed".
        size: (width, height) in pixels.
        licence: "any", or "cc0" to use CC0 items only.
        target: (17, 3) keypoints [x, y, v] wanted, x and y as shares of the driver's box; None for none. The pose that
            comes nearest is solved for, starting from the posture.
    """

    seed: int
    posture: str
    camera: Any | None = None
    look: str = "colour"
    size: tuple[int, int] = (640, 480)
    licence: str = "any"
    target: np.ndarray | None = None


@dataclass(frozen=True)
class Sample:
    """A rendered image and its labels.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        keypoints: (17, 3) [x, y, v] in pixels; v is 2 visible, 1 hidden, 0 outside of the image.
        box: (4,) x1, y1, x2, y2 in pixels, from the driver's own pixels.
        about: posture, camera, body, interior, light, seed, side, and the items used with their licences.
    """

    image: np.ndarray
    keypoints: np.ndarray
    box: np.ndarray
    about: dict[str, Any]


@dataclass
class Composition:
    """A posed driver before a camera, in the left-hand drive cabin that is rendered.

    `camera` is the one to render with; where `side` is "right", the image is to be mirrored afterwards. `points`
    (17, 3) are keypoints in metres.
    """

    body: Body
    pose: Pose
    layout: Layout
    camera: Camera
    side: str
    points: np.ndarray


def check_spec(spec: SceneSpec) -> None:
    """Raise DPoseError for an unknown posture or look, a size that is too small, or a target of the wrong shape."""
    find_posture(spec.posture)
    if spec.look not in LOOKS:
        raise DPoseError(f"render: look '{spec.look}' is unknown: choose from {', '.join(LOOKS)}")
    if min(spec.size) < 32 or max(spec.size) > 4096:
        raise DPoseError(f"render: size {spec.size[0]}x{spec.size[1]} is outside of 32 to 4096 pixels")
    if spec.camera is not None and not isinstance(spec.camera, Camera | CameraRange):
        raise DPoseError("render: a camera is a Camera, a CameraRange or None: read a file with load_camera")
    if spec.target is not None:
        check_target(np.asarray(spec.target, float))


def compose(spec: SceneSpec, assets: Assets, fingers: bool = True) -> Composition:
    """Draw driver, pose and camera until the driver is in view.

    Raises:
        DPoseError: a wrong spec, or the camera does not see enough of the driver.
    """
    check_spec(spec)
    rng = np.random.default_rng([spec.seed, POSE_STREAM])
    camera_rng = np.random.default_rng([spec.seed, CAMERA_STREAM])
    failed = 0
    for _ in range(TRIES):
        camera = _camera(spec.camera, camera_rng)
        side = "right" if rng.random() < RIGHT_HAND_DRIVE else "left"
        if camera.drive != "any":
            side = camera.drive
        body = Body(assets.body, draw_shape(rng), fingers)
        layout = draw_layout(rng)
        pose = draw_pose(spec.posture, rng, layout.recline, layout.rim, side, layout.floor)
        if side == "right":
            camera = replace(camera, roll=-camera.roll)
        apply_pose(body, pose, fingers)
        if not in_view(body.keypoints(), camera, spec.size):
            continue
        if spec.target is not None:
            try:
                pose, camera = _solve(spec, camera, side, body, pose)
            except DPoseError:
                failed += 1
                if failed == SOLUTIONS:
                    raise
                continue
            layout = replace(layout, recline=pose.recline)
            apply_pose(body, pose, fingers)
        points = body.keypoints()
        if in_view(points, camera, spec.size):
            return Composition(body, pose, layout, camera, side, points)
    raise DPoseError(
        f"render: posture '{spec.posture}' is not in view of camera '{camera.name}' in {TRIES} tries: "
        "move or widen the camera"
    )


def _solve(spec: SceneSpec, camera: Camera, side: str, body: Body, pose: Pose) -> tuple[Pose, Camera]:
    """Pose, and camera where none is given, that show the target of a spec."""
    target = np.array(spec.target, float)
    if side == "right":
        target = target[FLIP]
        target[:, 0] = 1 - target[:, 0]
    pose, camera, _ = solve_keypoints(target, camera, body, pose, spec.size, free_camera=spec.camera is None)
    return pose, camera


def _camera(camera: Any, rng: np.random.Generator) -> Camera:
    if isinstance(camera, Camera):
        return camera
    return camera.draw(rng) if isinstance(camera, CameraRange) else draw_camera(rng)


def in_view(points: np.ndarray, camera: Camera, size: tuple[int, int]) -> bool:
    """Whether the image shows at least 4 keypoints of head and shoulders, and 6 of head, arms and hips.

    No keypoint of head or torso is nearer than 30 cm, where it would fill the image.
    """
    pixels, depth = camera.project(points, size)
    if depth[[*range(7), 11, 12]].min() < NEAREST:
        return False
    inside = (depth > 0.1) & ((pixels > 0) & (pixels < size)).all(1)
    return bool(inside[:7].sum() >= 4 and inside[:13].sum() >= 6)


def flat_labels(composition: Composition, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (17, 3) with v = 2 in the image and 0 outside, and the box (4,) of the body's hull, both unmirrored."""
    pixels, depth = composition.camera.project(composition.points, size)
    inside = (depth > 0.05) & ((pixels >= 0) & (pixels < size)).all(1)
    keypoints = np.where(inside[:, None], np.column_stack([pixels, np.full(17, 2.0)]), 0.0)
    hull, depth = composition.camera.project(composition.body.hull(), size)
    hull = np.clip(hull[depth > 0.05], 0, size)
    return keypoints, np.concatenate([hull.min(0), hull.max(0)])


def mirror_labels(keypoints: np.ndarray, box: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the mirrored image: x is mirrored, left and right keypoints change places."""
    keypoints, box = keypoints[FLIP].copy(), box.copy()
    labelled = keypoints[:, 2] > 0
    keypoints[labelled, 0] = width - keypoints[labelled, 0]
    box[[0, 2]] = width - box[[2, 0]]
    return keypoints, box


def about_composition(spec: SceneSpec, composition: Composition) -> dict[str, Any]:
    """Describe what was drawn, in plain values."""
    shape, camera = composition.body.shape, composition.camera
    return {
        "posture": spec.posture,
        "camera": camera.name,
        "body": f"{shape.gender}-{25 + round(45 * shape.age)}y-{round(100 * shape.stature)}cm",
        "seed": spec.seed,
        "side": composition.side,
        "position": camera.position,
        "look_at": camera.look_at,
        "roll": -camera.roll if composition.side == "right" else camera.roll,
        "fov": camera.fov,
    }
