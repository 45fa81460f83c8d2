"""Procedural car interior about the driver's H-point, other occupants, things that lie about."""

import numpy as np

from dpose_yolo.render.body import Body, BodyModel, draw_shape
from dpose_yolo.render.clothes import dress
from dpose_yolo.render.layout import Layout
from dpose_yolo.render.materials import draw_colour, draw_trim
from dpose_yolo.render.meshes import PASSENGER, Material, Mesh, moved, rounded_box, tube
from dpose_yolo.render.posing import apply_pose
from dpose_yolo.render.postures import draw_pose
from dpose_yolo.render.rotations import rotation_x, rotation_y, rotation_z

OCCUPANT_POSTURES = ("hands_in_lap", "looking_around", "texting", "hands_crossed", "sleeping", "drinking")


def build_cabin(layout: Layout, rng: np.random.Generator, clutter: bool = True) -> list[Mesh]:
    """Meshes of the interior.

    Args:
        layout: measures that the driver's pose was drawn for.
        rng: source of chance.
        clutter: also pillars near the camera's way, mirror and things that may hide the driver.
    """
    uniform = rng.uniform
    base = draw_colour(rng, 0.008, 0.4)
    trim = lambda: draw_trim(rng, base if rng.random() < 0.7 else None)  # noqa: E731
    cover = trim()
    meshes = _seat(np.zeros(3), layout.recline, cover, rng, 0.115)
    if rng.random() < 0.85:
        place = np.array([layout.passenger, uniform(-0.03, 0.03), uniform(-0.3, 0.12)])
        meshes += _seat(place, uniform(10, 40), cover, rng, 0.08)
    meshes += _wheel(layout, rng)
    meshes += _door(layout, trim, rng)
    meshes += _front(layout, trim, rng)
    meshes += _shell(layout, trim, cover, rng)
    if clutter:
        meshes += _loose(layout, trim, rng)
    return meshes


def _seat(place: np.ndarray, recline: float, cover: Material, rng: np.random.Generator, gap: float) -> list[Mesh]:
    """A seat for an H-point at `place`; `gap` metres lie between the H-point and the backrest's face."""
    uniform = rng.uniform
    angle = np.radians(recline)
    up, out = np.array([0, np.cos(angle), -np.sin(angle)]), np.array([0, np.sin(angle), np.cos(angle)])
    axes, width, depth, round_ = rotation_x(-recline), uniform(0.2, 0.27), uniform(0.05, 0.09), uniform(0.2, 0.6)
    half = (width, 0.36 + uniform(-0.04, 0.05), depth)
    meshes = [rounded_box(place + up * 0.3 - out * (gap + depth), half, cover, axes, round_)]
    cushion = rotation_x(-uniform(2, 12))
    meshes.append(rounded_box(place + [0, -0.2, 0.13], (width, 0.1, 0.3), cover, cushion, round_))
    if rng.random() < 0.6:
        for sign in (-1, 1):
            side = place + up * uniform(0.22, 0.34) - out * (gap - 0.01) + [sign * (width - 0.03), 0, 0]
            meshes.append(rounded_box(side, (0.045, 0.26, 0.08), cover, axes, 0.6))
    head = place + up * uniform(0.7, 0.84) - out * (gap + uniform(0.0, 0.06))
    meshes.append(
        rounded_box(
            head, (uniform(0.1, 0.15), uniform(0.08, 0.13), uniform(0.04, 0.07)), cover, axes, uniform(0.3, 0.7)
        )
    )
    post = place + up * 0.62 - out * (gap + 0.05)
    steel = Material((0.3, 0.3, 0.32), 0.6)
    for sign in (-1, 1):
        foot = post + [sign * 0.06, 0, 0]
        meshes.append(tube([foot, foot + up * 0.12], 0.007, steel, 6))
    return meshes


def _wheel(layout: Layout, rng: np.random.Generator) -> list[Mesh]:
    uniform = rng.uniform
    skin = Material(draw_colour(rng, 0.008, 0.2, 0.2), float(uniform(0, 0.4)))
    tilt = rotation_x(layout.wheel_tilt)
    ring = np.array([layout.rim(angle) for angle in range(0, 360, 12)])
    meshes = [tube(ring, uniform(0.012, 0.019), skin, 7, True)]
    hub = layout.wheel + tilt @ [0, 0, 0.02]
    meshes.append(rounded_box(hub, (uniform(0.05, 0.08), uniform(0.04, 0.07), 0.03), skin, tilt, 0.6))
    turned = uniform(-25, 25)
    spokes = [(0, 180, 270), (0, 180, 250, 290), (30, 150, 270), (20, 160)][rng.integers(4)]
    for angle in spokes:
        end = layout.rim(angle + turned)
        middle = (layout.wheel + end) / 2 + tilt @ [0, 0, 0.012]
        meshes.append(tube([hub, middle, end], uniform(0.009, 0.016), skin, 6))
    column = layout.wheel + tilt @ [0, -0.06, 0.3]
    meshes.append(tube([hub, column], 0.04, skin, 8))
    stalk = layout.wheel + tilt @ [0, 0, 0.05]
    for sign in (-1, 1):
        meshes.append(tube([stalk, stalk + tilt @ [sign * 0.15, uniform(0, 0.06), 0.01]], 0.007, skin, 5))
    return meshes


def _door(layout: Layout, trim, rng: np.random.Generator) -> list[Mesh]:
    uniform, window, sill, roof = rng.uniform, layout.window, layout.sill, layout.roof
    panel, pillar = trim(), trim()
    leaning = rotation_z(uniform(-4, 4))
    meshes = [
        rounded_box([window + 0.05, sill / 2 - 0.2, 0.15], (0.05, sill / 2 + 0.2, 1.2), panel, leaning, 0.15),
        rounded_box(
            [window - 0.01, uniform(-0.02, 0.15), uniform(0, 0.3)],
            (uniform(0.03, 0.07), uniform(0.02, 0.06), uniform(0.15, 0.4)),
            trim(),
            None,
            0.4,
        ),
    ]
    if rng.random() < 0.6:  # pocket or handle
        meshes.append(
            rounded_box(
                [window, uniform(0, 0.25), uniform(0.1, 0.6)],
                (uniform(0.01, 0.03), uniform(0.04, 0.12), uniform(0.06, 0.3)),
                trim(),
                None,
                0.5,
            )
        )
    rear, front = -uniform(0.1, 0.55), uniform(0.65, 1.0)
    lines = [
        (
            [[window + 0.03, sill - 0.1, rear - 0.02], [window, 0.6, rear - 0.1], [window - 0.1, roof, rear - 0.2]],
            (0.03, 0.08),
        ),
        (
            [
                [window + 0.03, sill - 0.05, front],
                [window - 0.02, 0.6, front - 0.25],
                [window - 0.12, roof, front - 0.6],
            ],
            (0.025, 0.05),
        ),
        (
            [[window - 0.11, roof - 0.02, -1.2], [window - 0.1, roof, 0], [window - 0.12, roof, front - 0.6]],
            (0.03, 0.07),
        ),
    ]
    meshes += [tube(line, uniform(*radius), pillar, 8) for line, radius in lines]
    if rng.random() < 0.4:  # grab handle
        place = [window - 0.07, roof - 0.05, uniform(-0.1, 0.25)]
        meshes.append(
            tube(
                np.array(place) + [[0, 0.03, -0.09], [-0.03, -0.01, -0.06], [-0.03, -0.01, 0.06], [0, 0.03, 0.09]],
                0.01,
                pillar,
                6,
            )
        )
    return meshes


def _front(layout: Layout, trim, rng: np.random.Generator) -> list[Mesh]:
    """Dashboard, instruments, console, gear lever."""
    uniform, wheel, dash = rng.uniform, layout.wheel, layout.dashboard
    board, middle = trim(), layout.passenger / 2
    height = uniform(0.18, 0.34)
    meshes = [
        rounded_box(
            [middle, height - 0.2, dash + 0.22],
            (0.85, 0.2, 0.24),
            board,
            rotation_x(uniform(-10, 10)),
            uniform(0.2, 0.5),
        ),
        rounded_box(
            [wheel[0], wheel[1] + uniform(-0.02, 0.06), dash], (0.17, uniform(0.06, 0.1), 0.1), board, None, 0.6
        ),
        rounded_box(
            [middle, uniform(0, 0.2), dash - 0.02], (0.13, 0.22, 0.1), trim(), rotation_x(-uniform(0, 35)), 0.3
        ),
        rounded_box(
            [middle, uniform(-0.22, -0.08), uniform(0.05, 0.3)],
            (uniform(0.07, 0.12), 0.1, uniform(0.3, 0.5)),
            trim(),
            None,
            0.3,
        ),
    ]
    screen = (
        Material((0.01, 0.01, 0.012), 0.5) if rng.random() < 0.6 else Material(draw_colour(rng, 0.05, 0.5, 0.9), 0.4)
    )
    if rng.random() < 0.7:
        place = [middle, height + uniform(-0.12, 0.06), dash - 0.07]
        meshes.append(
            rounded_box(
                place, (uniform(0.07, 0.13), uniform(0.04, 0.08), 0.008), screen, rotation_x(uniform(5, 30)), 0.15
            )
        )
    for x in (-0.28, 0.28):  # air vents
        meshes.append(rounded_box([x, height - 0.08, dash - 0.03], (0.05, 0.03, 0.015), trim(), None, 0.5))
    if rng.random() < 0.6:
        foot = np.array([middle + uniform(-0.04, 0.04), -0.05, uniform(0.15, 0.4)])
        meshes.append(tube([foot, foot + [0, uniform(0.08, 0.2), uniform(0, 0.08)]], 0.012, trim(), 6))
        meshes.append(rounded_box(foot + [0, 0.17, 0.05], (0.03, 0.04, 0.03), trim(), None, 0.8))
    return meshes


def _shell(layout: Layout, trim, cover: Material, rng: np.random.Generator) -> list[Mesh]:
    """Roof, far door, floor, rear bench."""
    uniform, roof, sill, far = rng.uniform, layout.roof, layout.sill, 2 * layout.passenger / 2 * 1.0 - layout.window
    middle = layout.passenger / 2
    light = Material(draw_colour(rng, 0.1, 0.7, 0.15), 0.02)
    meshes = [
        rounded_box([middle, roof + 0.04, -0.5], (0.75, 0.04, uniform(0.75, 0.95)), light, None, 0.15),
        rounded_box([far - 0.05, sill / 2 - 0.2, 0.15], (0.05, sill / 2 + 0.2, 1.2), trim(), None, 0.15),
        rounded_box([middle, layout.floor - 0.1, 0.2], (1.2, 0.05, 1.2), trim(), None, 0.2),
        tube(
            [[far, sill - 0.1, -0.35], [far + 0.03, 0.6, -0.42], [far + 0.1, roof, -0.5]],
            uniform(0.03, 0.07),
            trim(),
            8,
        ),
    ]
    if rng.random() < 0.7:
        meshes.append(rounded_box([middle, 0.1, -0.95], (0.7, 0.5, 0.1), cover, rotation_x(-22), 0.4))
        meshes.append(rounded_box([middle, -0.2, -0.7], (0.7, 0.1, 0.28), cover, None, 0.3))
    if rng.random() < 0.5:
        meshes.append(rounded_box([middle, sill - 0.35, -1.15], (0.75, 0.5, 0.1), trim(), rotation_x(-20), 0.3))
    return meshes


def _loose(layout: Layout, trim, rng: np.random.Generator) -> list[Mesh]:
    """Mirror, visors and things that lie about, none of them in the driver's place."""
    uniform, middle = rng.uniform, layout.passenger / 2
    meshes = []
    if rng.random() < 0.5:
        dark = Material(draw_colour(rng, 0.01, 0.1), 0.3)
        hanging = [middle + 0.05 + uniform(-0.05, 0.05), uniform(0.68, 0.82), uniform(0.5, 0.65)]
        meshes.append(rounded_box(hanging, (uniform(0.09, 0.13), 0.035, 0.02), dark, rotation_y(uniform(-30, 30)), 0.5))
    if rng.random() < 0.5:
        visor = [uniform(-0.05, 0.05), layout.roof - 0.03, 0.42]
        meshes.append(rounded_box(visor, (0.17, 0.008, 0.07), trim(), rotation_x(uniform(-10, 30)), 0.2))
    for _ in range(rng.integers(0, 5)):
        place = np.array([uniform(-1.0, 0.35), uniform(-0.15, 0.9), uniform(-0.95, 0.95)])
        by_driver = abs(place[0]) < 0.34 and -0.35 < place[2] < 0.65
        by_camera = place[0] < -0.3 and place[2] > -0.25 and place[1] > 0.02
        ahead = place[1] > 0.2 and place[2] > 0.4
        if not (by_driver or by_camera or ahead):
            turn = rotation_x(uniform(0, 90)) @ rotation_y(uniform(0, 90))
            thing = Material(draw_colour(rng, 0.01, 0.8, 0.9), 0.2)
            meshes.append(rounded_box(place, rng.uniform(0.02, 0.12, 3), thing, turn, uniform(0.1, 1)))
    return meshes


def occupant(model: BodyModel, place: np.ndarray, recline: float, rng: np.random.Generator) -> list[Mesh]:
    """Another person whose H-point is at `place`."""
    body = Body(model, draw_shape(rng))
    name = OCCUPANT_POSTURES[rng.integers(len(OCCUPANT_POSTURES))]
    pose = draw_pose(name, rng, recline, lambda angle: np.array([0.0, 0.12, 0.3]), floor=-0.32)
    apply_pose(body, pose)
    return [moved(mesh, np.eye(3), place) for mesh in dress(body, rng, PASSENGER)]


def occupants(model: BodyModel, layout: Layout, camera: np.ndarray, rng: np.random.Generator) -> list[Mesh]:
    """A front passenger in a seventh of the scenes and one in the rear in as many, never in the camera's place."""
    front = np.array([layout.passenger, 0.0, rng.uniform(-0.3, 0.0)])
    rear = np.array([rng.choice([0.0, layout.passenger]), 0.02, -0.72])
    meshes: list[Mesh] = []
    for place, recline in ((front, 22.0), (rear, 24.0)):
        distance = np.linalg.norm((camera - place - [0, 0.35, 0]) * [1, 0.6, 1])
        between = place is front and camera[0] < place[0] + 0.3
        if rng.random() < 0.15 and distance > 0.6 and not between:
            meshes += occupant(model, place, recline, rng)
    return meshes
