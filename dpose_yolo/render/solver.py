"""A body pose, and optionally a camera, that shows given 2D keypoints."""

from dataclasses import replace

import numpy as np
from scipy.optimize import least_squares

from dpose_yolo.errors import DPoseError
from dpose_yolo.keypoints import COCO_NAMES, coco_sigmas
from dpose_yolo.render.body import SIDES, Body
from dpose_yolo.render.camera import Camera
from dpose_yolo.render.posing import apply_pose
from dpose_yolo.render.postures import Hand, Pose
from dpose_yolo.render.rotations import about_axis, unit

ANGLES = ("recline", "lean", "side", "twist", "hip_yaw", "yaw", "pitch", "roll", "neck")
ANGLE_SPREAD = np.array([10.0, 14, 10, 16, 6, 28, 18, 10, 16])  # degrees that a solution moves by without much cost
LOW = np.array([0.0, -20, -45, -80, -20, -95, -45, -30, -15])
HIGH = np.array([55.0, 70, 45, 60, 20, 95, 60, 30, 60])
REACH_SPREAD, SWIVEL_SPREAD, FOOT_SPREAD = 0.25, 40.0, 0.12  # metres, degrees, metres
CAMERA_SPREAD, ROLL_SPREAD = 0.15, 8.0
PRIOR = 0.03  # of one spread, in shares of the box
IMPOSSIBLE = 0.2  # mean distance in shares of the box that counts as not shown


def solve_keypoints(
    target: np.ndarray,
    camera: Camera,
    body: Body,
    start: Pose,
    size: tuple[int, int],
    in_box: bool = True,
    free_camera: bool = False,
    evaluations: int = 8,
) -> tuple[Pose, Camera, float]:
    """Find the pose near `start` whose keypoints in the image come nearest to a target, by least squares.

    Torso, head, wrists, elbows and feet are free within what a seated person can do; a prior keeps what the target does
    not tell, above all depth, near to `start`.

    Args:
        target: (17, 3) [x, y, v]; keypoints with v = 0 are free.
        camera: as seen by it.
        body: is left in the pose found, fingers excluded.
        start: a drawn pose.
        size: (width, height) of the image.
        in_box: x and y are shares of the driver's box; else pixels.
        free_camera: its position and roll may change too.
        evaluations: steps of the search.

    Returns:
        Pose, camera, and the mean distance of the labelled keypoints in shares of the box's size.

    Raises:
        DPoseError: a target without keypoints, or one that is missed by more than 20 % of the box.
    """
    target = np.asarray(target, float)
    labelled = check_target(target)
    problem = _Problem(target, labelled, camera, body, start, size, in_box, free_camera)
    low, high = problem.bounds()
    first = np.clip(problem.first, low + 1e-6, high - 1e-6)
    found = least_squares(
        problem.residuals, first, bounds=(low, high), x_scale=problem.spread, diff_step=1e-2, max_nfev=evaluations
    )
    pose, camera = problem.unpack(found.x)
    apply_pose(body, pose, False)
    error = float(np.sqrt((problem.distances(camera) ** 2).sum(1)).mean())
    if not error < IMPOSSIBLE:
        raise DPoseError(
            f"render: camera '{camera.name}' cannot show the target posture: the nearest pose is off by "
            f"{100 * error:.0f} % of the box; use another camera or posture"
        )
    return pose, camera, error


def check_target(target: np.ndarray) -> np.ndarray:
    """The labelled keypoints (17,) of a target; DPoseError for a wrong shape or fewer than four of them."""
    labelled = target[:, 2] > 0 if target.shape == (17, 3) else np.zeros(17, bool)
    if labelled.sum() < 4 or not np.isfinite(target[labelled]).all():
        raise DPoseError("render: a target posture has shape (17, 3) with at least 4 labelled keypoints")
    return labelled


class _Problem:
    """The variables of `solve_keypoints`: angles, wrists and elbows, feet, and the camera's place and roll."""

    def __init__(self, target, labelled, camera, body, start, size, in_box, free_camera):
        self.target, self.labelled, self.camera, self.body, self.size = (
            target[labelled, :2],
            labelled,
            camera,
            body,
            size,
        )
        self.in_box, self.free_camera = in_box, free_camera
        # OKS forgives more at the hips than at the eyes; the square root keeps the face from ruling the fit
        self.weights = np.sqrt(0.05 / np.array(coco_sigmas(COCO_NAMES))[labelled])[:, None]
        self.start = start
        apply_pose(body, start, False)
        self.hands, self.shoulders, wrists = {}, {}, []
        for side in SIDES:
            shoulder, elbow, wrist = (body.joint(f"{bone}.{side}") for bone in ("upperarm01", "lowerarm01", "wrist"))
            self.hands[side] = replace(
                start.hands[side],
                frame="seat",
                direction=body.joint(f"finger3-1.{side}") - wrist,
                pole=elbow - (shoulder + wrist) / 2,
                palm=None,
            )
            self.shoulders[side] = shoulder
            wrists.append(wrist)
        angles = [getattr(start, name) for name in ANGLES]
        self.first = np.concatenate([angles, np.ravel(wrists), [0.0, 0.0], start.feet.ravel(), np.zeros(4)])
        self.spread = np.concatenate(
            [
                ANGLE_SPREAD,
                [REACH_SPREAD] * 6,
                [SWIVEL_SPREAD] * 2,
                [FOOT_SPREAD] * 6,
                [CAMERA_SPREAD] * 3,
                [ROLL_SPREAD],
            ]
        )
        if not free_camera:
            self.first, self.spread = self.first[:-4], self.spread[:-4]

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Limits of all variables."""
        low, high = self.first - 3 * self.spread, self.first + 3 * self.spread
        low[:9], high[:9] = np.minimum(LOW, self.first[:9] - 1), np.maximum(HIGH, self.first[:9] + 1)
        return low, high

    def unpack(self, values: np.ndarray) -> tuple[Pose, Camera]:
        """Pose and camera of a vector of variables."""
        wrists, swivels, feet = values[9:15].reshape(2, 3), values[15:17], values[17:23].reshape(2, 3)
        hands: dict[str, Hand] = {}
        for i, side in enumerate(SIDES):
            hand = self.hands[side]
            axis = unit(wrists[i] - self.shoulders[side])
            hands[side] = replace(hand, grip=wrists[i], pole=about_axis(axis, swivels[i]) @ hand.pole)
        pose = replace(
            self.start,
            **{name: float(v) for name, v in zip(ANGLES, values[:9], strict=True)},
            hands=hands,
            feet=feet.copy(),
        )
        camera = self.camera
        if self.free_camera:
            x, y, z = (float(v) for v in np.array(camera.position) + values[23:26])
            camera = replace(camera, position=(x, y, z), roll=camera.roll + float(values[26]))
        return pose, camera

    def distances(self, camera: Camera) -> np.ndarray:
        """Offsets (N, 2) of the labelled keypoints from the target in shares of the box."""
        pixels, depth = camera.project(self.body.keypoints(), self.size)
        hull, hull_depth = camera.project(self.body.hull(), self.size)
        hull = np.clip(hull[hull_depth > 0.05], 0, self.size)
        if len(hull) < 2 or depth.min() < 0.02:
            return np.full((len(self.target), 2), 2.0)
        corner, extent = hull.min(0), np.maximum(np.ptp(hull, 0), 1.0)
        if self.in_box:
            return (pixels[self.labelled] - corner) / extent - self.target
        return (pixels[self.labelled] - self.target) / extent

    def residuals(self, values: np.ndarray) -> np.ndarray:
        """Weighted offsets and the prior."""
        pose, camera = self.unpack(values)
        apply_pose(self.body, pose, False)
        prior = PRIOR * (values - self.first) / self.spread
        return np.concatenate([(np.clip(self.distances(camera), -3, 3) * self.weights).ravel(), prior])
