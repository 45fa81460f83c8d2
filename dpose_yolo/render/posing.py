"""Put a body into a pose: torso and head by angles, limbs by inverse kinematics."""

import numpy as np

from dpose_yolo.render.body import SIDES, Body
from dpose_yolo.render.kinematics import curl, reach, step
from dpose_yolo.render.postures import Hand, Pose
from dpose_yolo.render.rotations import about_axis, align, axis_angle, cross, rotation_x, rotation_y, rotation_z, unit

HAND = 0.075  # metres from the wrist to the middle of the grip
SPINE = ("spine04", "spine03", "spine02", "spine01")
NECK = (("neck01", 0.25, 0.7), ("neck02", 0.2, 0.3), ("neck03", 0.15, -0.3), ("head", 0.4, -0.7))
NECK_LIMIT = 80.0  # degrees between head and chest


def apply_pose(body: Body, pose: Pose, fingers: bool = True) -> None:
    """Seat a body and put it into a pose, H-point at the origin.

    When a hand's target is out of reach, the torso leans and twists towards it before the arm is bent. The head then
    takes back most of the torso's tilt, so that the driver looks ahead at pitch and yaw 0.

    Args:
        body: any body; its former pose is forgotten.
        pose: angles in degrees, points in metres.
        fingers: close the fingers too; labels need none.
    """
    body.local.clear()
    body.local["root"] = rotation_x(-pose.recline) @ rotation_y(pose.hip_yaw)
    for bone in SPINE:
        body.local[bone] = rotation_z(-pose.side / 4) @ rotation_y(pose.twist / 4) @ rotation_x(pose.lean / 4)
    body.update()
    body.seat()
    for number, (side, sign) in enumerate(SIDES.items()):
        pole = np.array([sign * pose.knees[number], 1.0, 0.15])
        step(body, side, pose.feet[number], pole, pose.sole)
    for _ in range(2):
        for side in SIDES:
            _lean_to(body, side, _wrist(body, side, pose.hands[side])[0])
    _turn_head(body, pose)
    for side in SIDES:
        hand = pose.hands[side]
        wrist, direction = _wrist(body, side, hand)
        palm = hand.palm if hand.palm is None or hand.frame == "seat" else _frame(body, hand.frame) @ hand.palm
        raised = 0.35 if wrist[1] > body.joint(f"upperarm01.{side}")[1] else 0.2
        reach(body, side, wrist, hand.pole, direction, palm, raised)
        if fingers:
            curl(body, side, hand.curl, hand.spread)


def _turn_head(body: Body, pose: Pose) -> None:
    """Turn neck and head: 80 % of the chest's tilt and 40 % of its twist are taken back, then the head is turned."""
    chest = body.frame("spine01")
    twist = float(np.degrees(np.arctan2(chest[0, 2], chest[2, 2])))
    tilt = align(np.array([0.0, 1.0, 0.0]), chest[:, 1], 0.2)
    turn = rotation_y(0.6 * twist + pose.yaw) @ rotation_x(pose.pitch) @ rotation_z(pose.roll)
    axis, angle = axis_angle(chest.T @ tilt @ turn)
    angle = min(angle, NECK_LIMIT)
    for bone, share, forward in NECK:
        body.local[bone] = about_axis(axis, angle * share) @ rotation_x(pose.neck * forward)
    body.update("neck01")


def _frame(body: Body, frame: str) -> np.ndarray:
    return body.frame("head" if frame == "head" else "spine01")


def _wrist(body: Body, side: str, hand: Hand) -> tuple[np.ndarray, np.ndarray]:
    """Wrist target (3,) and direction of the hand (3,)."""
    shoulder = body.joint(f"upperarm01.{side}")
    if hand.frame == "seat":
        if hand.direction is not None:  # a wrist given directly
            return hand.grip, hand.direction
        wrist = hand.grip - unit(hand.grip - shoulder) * HAND
        return wrist, hand.grip - wrist + np.array([0.0, 0.01, 0.0])
    axes = _frame(body, hand.frame)
    if hand.frame == "head":
        row = {"nose": 0, "eye": 1, "ear": 3}[hand.anchor] + (side == "R" and hand.anchor != "nose")
        origin = body.on_bone("head", body.face_rest[row : row + 1])[0]
    else:
        origin = (body.joint("upperarm01.L") + body.joint("upperarm01.R")) / 2
    grip = origin + axes @ hand.grip
    direction = np.zeros(3) if hand.direction is None else axes @ hand.direction
    return grip + direction, -direction


def _lean_to(body: Body, side: str, wrist: np.ndarray) -> None:
    """Turn the spine so that the shoulder comes within an arm's length of a wrist target."""
    shoulder, elbow = body.joint(f"upperarm01.{side}"), body.joint(f"lowerarm01.{side}")
    arm = np.linalg.norm(elbow - shoulder) + np.linalg.norm(body.joint(f"wrist.{side}") - elbow)
    line = wrist - shoulder
    missing = float(np.sqrt(line @ line) - 0.97 * arm)
    if missing <= 0:
        return
    goal = shoulder + unit(line) * missing
    for bone in SPINE:
        root = body.joint(bone)
        axis, angle = axis_angle(align(shoulder - root, goal - root))
        body.turn(bone, about_axis(axis, min(angle, 48.0) * 0.3))


def palm_point(body: Body, side: str) -> tuple[np.ndarray, np.ndarray]:
    """Middle of the grip (3,) and hand axes (3, 3): columns are the fingers' direction, across the palm, out of it."""
    wrist, finger = body.joint(f"wrist.{side}"), body.joint(f"finger3-1.{side}")
    along = unit(finger - wrist)
    across = body.joint(f"finger2-1.{side}") - body.joint(f"finger5-1.{side}")
    across = unit(across - along * (across @ along))
    out = cross(along, across) * SIDES[side]
    return finger + 0.012 * along + 0.025 * out, np.stack([along, across, out], 1)
