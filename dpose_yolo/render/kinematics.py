"""Inverse kinematics of arms and legs, and closing hands."""

import numpy as np

from dpose_yolo.render.body import SIDES, Body
from dpose_yolo.render.rotations import about_axis, align, angle_about, cross, unit


def bend(
    root: np.ndarray, lengths: tuple[float, float], target: np.ndarray, pole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Middle and end joint of a two-bone limb that reaches for `target`.

    Args:
        root, target: (3,) metres.
        lengths: of the two bones.
        pole: (3,) direction to which the middle joint points.

    Returns:
        Middle and end joint (3,); the end falls short of a target that is out of reach, on the line to it.
    """
    a, b = lengths
    line = target - root
    distance = float(np.clip(np.sqrt(line @ line), abs(a - b) * 1.05 + 0.08, (a + b) * 0.995))
    line = unit(line)
    cosine = (a * a + distance * distance - b * b) / (2 * a * distance)
    pole = unit(pole - line * (line @ pole))
    middle = root + a * (line * cosine + pole * np.sqrt(max(0.0, 1 - cosine * cosine)))
    return middle, root + line * distance


def reach(
    body: Body,
    side: str,
    wrist: np.ndarray,
    pole: np.ndarray,
    fingers: np.ndarray | None = None,
    palm: np.ndarray | None = None,
    clavicle: float = 0.2,
) -> None:
    """Bring a wrist to a point: the clavicle follows, then two bones bend, then the hand is turned.

    Args:
        body: posed and updated.
        side: "L" or "R".
        wrist: (3,) target in metres.
        pole: (3,) direction of the elbow.
        fingers: (3,) direction of the hand; None leaves it along the forearm.
        palm: (3,) direction the palm faces; its twist is shared by forearm and wrist as in a real arm.
        clavicle: share of the shoulder's swing that the clavicle takes.
    """
    upper, lower, hand = f"upperarm01.{side}", f"lowerarm01.{side}", f"wrist.{side}"
    shoulder, elbow = body.joint(upper), body.joint(lower)
    body.turn(f"clavicle.{side}", align(elbow - shoulder, wrist - shoulder, clavicle))
    shoulder, elbow, old = body.joint(upper), body.joint(lower), body.joint(hand)
    lengths = float(np.linalg.norm(elbow - shoulder)), float(np.linalg.norm(old - elbow))
    middle, end = bend(shoulder, lengths, wrist, pole)
    hinge = cross(elbow - shoulder, old - elbow)  # at rest the arm is bent by 46 degrees: this is the elbow's axis
    swing = align(elbow - shoulder, middle - shoulder)
    axis = unit(middle - shoulder)
    twist = angle_about(axis, swing @ hinge, cross(middle - shoulder, end - middle))
    twist = (twist + 180) % 360 - 180
    body.turn(upper, about_axis(axis, 0.5 * twist) @ swing)
    body.turn(f"upperarm02.{side}", about_axis(axis, 0.5 * twist))
    body.turn(lower, align(body.joint(hand) - body.joint(lower), end - body.joint(lower)))
    if fingers is not None:
        _turn_hand(body, side, fingers, palm)


def _turn_hand(body: Body, side: str, fingers: np.ndarray, palm: np.ndarray | None) -> None:
    hand = f"wrist.{side}"
    wrist = body.joint(hand)
    direction = lambda: body.joint(f"finger3-1.{side}") - wrist  # noqa: E731
    forearm = unit(wrist - body.joint(f"lowerarm01.{side}"))
    bent = unit(fingers)
    if forearm @ bent < 0.35:  # a wrist bends by at most 70 degrees
        bent = unit(bent - forearm * (forearm @ bent)) * 0.94 + forearm * 0.35
    body.turn(hand, align(direction(), bent))
    if palm is not None:
        across = body.joint(f"finger5-1.{side}") - body.joint(f"finger2-1.{side}")
        normal = cross(across, direction()) * SIDES[side]
        twist = float(np.clip(angle_about(unit(direction()), normal, palm), -100, 100))
        body.turn(f"lowerarm02.{side}", about_axis(forearm, 0.5 * twist))
        body.turn(hand, align(direction(), bent))
        body.turn(hand, about_axis(unit(direction()), 0.5 * twist))


def step(body: Body, side: str, ankle: np.ndarray, pole: np.ndarray, sole: float = 0.0) -> None:
    """Bring an ankle to a point with the knee towards `pole`; `sole` degrees lift the toes."""
    upper, lower, foot = f"upperleg01.{side}", f"lowerleg01.{side}", f"foot.{side}"
    hip, knee, old = body.joint(upper), body.joint(lower), body.joint(foot)
    lengths = float(np.linalg.norm(knee - hip)), float(np.linalg.norm(old - knee))
    middle, end = bend(hip, lengths, ankle, pole)
    thigh = unit(middle - hip)
    swing = align(knee - hip, middle - hip)
    # keep the kneecap in the plane of the limb: forward at rest, towards the pole when bent
    twist = angle_about(thigh, swing @ body.frame("root") @ np.array([0.0, 0, 1]), pole)
    body.turn(upper, about_axis(thigh, 0.6 * twist) @ swing)
    body.turn(f"upperleg02.{side}", about_axis(thigh, 0.4 * twist))
    body.turn(lower, align(body.joint(foot) - body.joint(lower), end - body.joint(lower)))
    shin = unit(end - middle)
    level = np.array([0.0, np.sin(np.radians(sole)), np.cos(np.radians(sole))])
    toes = unit(level + 0.15 * SIDES[side] * np.array([1.0, 0, 0]))
    rest = body.frame(foot) @ np.array([0.0, -0.15, 1.0])
    if shin @ toes > 0.7:  # an ankle stretches by at most 45 degrees
        toes = unit(toes - shin * (shin @ toes)) * 0.7 + shin * 0.7
    body.turn(foot, align(rest, toes))


def curl(body: Body, side: str, amount: float, spread: np.ndarray) -> None:
    """Close the fingers: `amount` degrees a joint, scaled by `spread` (5,) for thumb to little finger."""
    across = unit(body.joint(f"finger2-1.{side}") - body.joint(f"finger5-1.{side}")) * SIDES[side]
    for finger in range(1, 6):
        share = 0.35 if finger == 1 else 1.0
        for joint in (1, 2, 3):
            body.turn(f"finger{finger}-{joint}.{side}", about_axis(across, -amount * share * spread[finger - 1]))
