"""What a driver holds, placed in the closed hand or on the lap."""

import numpy as np

from dpose_yolo.render.body import Body
from dpose_yolo.render.materials import draw_colour
from dpose_yolo.render.meshes import HELD, Material, Mesh, rounded_box, tube
from dpose_yolo.render.posing import palm_point
from dpose_yolo.render.rotations import rotation_x, unit


def held(body: Body, prop: str, hand: str, rng: np.random.Generator) -> list[Mesh]:
    """Meshes of a prop.

    Args:
        body: posed and updated.
        prop: name as in `postures.Posture.prop`.
        hand: "L" or "R" holds it, "both" hold its edges, "lap" carries it.
        rng: source of chance.
    """
    uniform = rng.uniform
    plain = Material(draw_colour(rng, 0.005, 0.6), 0.4)
    vivid = Material(draw_colour(rng, 0.05, 0.9, 0.9), 0.3)
    paper = Material((0.75, 0.74, 0.7), 0.02, 3, (uniform(60, 150), 0, 0), colour2=(0.25, 0.25, 0.28), duty=0.5)
    options: dict = {"identity": HELD}
    if hand in ("both", "lap"):
        centre, axes = _between(body, hand)
        if prop == "laptop":
            base = rounded_box(centre, (0.16, 0.008, 0.11), plain, axes, 0.15, **options)
            tilt = axes @ rotation_x(-uniform(10, 35))
            lid = centre + axes @ [0, 0, 0.11] + tilt @ [0, 0.1, 0]
            return [base, rounded_box(lid, (0.16, 0.1, 0.005), plain, tilt, 0.15, **options)]
        if prop == "bag":
            half = (uniform(0.12, 0.18), uniform(0.08, 0.14), uniform(0.06, 0.1))
            return [rounded_box(centre + [0, 0.06, 0], half, vivid, axes, 0.6, **options)]
        if prop == "tablet":
            return [rounded_box(centre, (0.12, 0.005, 0.085), plain, axes, 0.2, **options)]
        half = (
            (uniform(0.22, 0.3), 0.001, uniform(0.16, 0.22))
            if prop == "newspaper"
            else (0.1, 0.008, uniform(0.07, 0.1))
        )
        return [
            rounded_box(
                centre, half, paper if prop == "newspaper" or rng.random() < 0.5 else vivid, axes, 0.15, **options
            )
        ]
    point, axes = palm_point(body, hand)
    along, across, out = axes.T
    upright = unit(across + 0.6 * np.array([0.0, 1, 0]))
    if prop == "phone":
        long = unit(across + uniform(0.3, 1.5) * along)
        turned = np.stack([np.cross(long, out), long, out], 1)
        tilt = turned @ rotation_x(uniform(-15, 15))
        return [rounded_box(point - 0.01 * out, (0.036, 0.074, 0.005), plain, tilt, 0.2, **options)]
    if prop in ("cup", "bottle"):
        tall, wide = (
            (uniform(0.045, 0.07), uniform(0.032, 0.042))
            if prop == "cup"
            else (uniform(0.09, 0.12), uniform(0.028, 0.036))
        )
        line = [point + upright * tall * k for k in (-1, -0.9, 0.55, 0.62, 0.95, 1.0)]
        shape = [0.9, 1, 1, 1, 1.05, 1.05] if prop == "cup" else [0.9, 1, 1, 0.8, 0.4, 0.4]
        return [tube(line, wide * np.array(shape), vivid, 12, **options)]
    if prop in ("cigarette", "pen"):
        length = 0.085 if prop == "cigarette" else 0.14
        colour = Material((0.8, 0.79, 0.76)) if prop == "cigarette" else plain
        tip = point + 0.035 * along
        return [tube([tip, tip + length * unit(along + 0.8 * across)], 0.004, colour, 6, **options)]
    if prop == "glasses":
        return [tube([point, point + 0.07 * across, point + 0.13 * across], 0.003, plain, 6, **options)]
    half = {"bag": (0.1, 0.13, 0.06), "food": (0.045, 0.03, 0.03)}.get(prop, (0.05, 0.05, 0.03))
    return [
        rounded_box(
            point + 0.02 * out - (0.1 * np.array([0, 1, 0]) if prop == "bag" else 0), half, vivid, axes, 0.7, **options
        )
    ]


def _between(body: Body, hand: str) -> tuple[np.ndarray, np.ndarray]:
    """Centre (3,) and axes (3, 3) (right, up, away) of what two hands hold or the lap carries."""
    left, right = palm_point(body, "L")[0], palm_point(body, "R")[0]
    if hand == "lap":
        knees = (body.joint("lowerleg01.L") + body.joint("lowerleg01.R")) / 2
        centre = 0.55 * knees + np.array([0.0, 0.1, 0.0])
        return centre, np.stack([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]], 1)
    centre = (left + right) / 2
    right_axis = unit(left - right)
    eye = body.on_bone("head", body.face_rest[:1])[0]
    up = unit(eye - centre)
    up = unit(up - right_axis * (up @ right_axis))
    return centre, np.stack([right_axis, up, np.cross(right_axis, up)], 1)
