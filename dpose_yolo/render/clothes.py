"""Clothes, hair and face of a posed body.

Garments are cut from the tights that come with the base mesh: the tights are posed like the skin, blown up along
their normals with folds, and cut where sleeve, collar and hem are. The skin below is cut away, so that it cannot poke
through.
All cuts are fields over the base mesh at rest, the same for every shape.
"""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from dpose_yolo.render.body import LEFT_EYE, RIGHT_EYE, Body, BodyModel
from dpose_yolo.render.materials import draw_cloth, draw_colour, draw_hair, draw_skin
from dpose_yolo.render.meshes import DRIVER, SPOT, Material, Mesh, Surface, clip, normals, ribbon, rounded_box, tube
from dpose_yolo.render.rotations import cross, unit

TEXTURED = 0.7  # share of bodies with a skin texture where there are any
UNDER = 0.012  # metres by which skin reaches under the edge of a garment
WRIST = 0.44  # metres along the arm of the base mesh
# hairline of the base mesh: height at places from the back of the head to the forehead
HAIRLINE_Z = (-0.09, -0.04, 0.0, 0.045, 0.07, 0.13, 0.16)
HAIRLINE_Y = (0.635, 0.65, 0.69, 0.748, 0.765, 0.79, 0.80)


@lru_cache(maxsize=2)
def arm_fields(model: BodyModel) -> tuple[np.ndarray, np.ndarray]:
    """Metres along the arm from the shoulder (V,), about a metre less off the arm, and the arm's share (V,)."""
    share, lower = np.zeros(len(model.vertices)), np.zeros(len(model.vertices))
    for name, index in model.index.items():
        if name.startswith(("upperarm", "lowerarm", "wrist", "finger")):
            weight = np.where(model.weight_bones == index, model.weights, 0).sum(1)
            share += weight
            lower += 0 if name.startswith("upperarm") else weight
    along = np.zeros(len(model.vertices))
    for side, sign in (("L", 1), ("R", -1)):
        joint = [
            model.vertices[model.joints[model.index[f"{b}.{side}"]]].mean(0)
            for b in ("upperarm01", "lowerarm01", "wrist")
        ]
        upper, fore = joint[1] - joint[0], joint[2] - joint[1]
        first = (model.vertices - joint[0]) @ unit(upper)
        second = np.linalg.norm(upper) + (model.vertices - joint[1]) @ unit(fore)
        mine = model.vertices[:, 0] * sign > 0
        along = np.where(mine, (1 - lower) * first + lower * second, along)
    return along + share - 1, share


def dress(
    body: Body, rng: np.random.Generator, identity: int = DRIVER, skins: dict[str, tuple[Path, ...]] | None = None
) -> list[Mesh]:
    """Meshes of a posed body with skin, face, hair and clothes.

    Args:
        body: posed and updated, fingers included.
        rng: source of chance.
        identity: in the id buffer.
        skins: skin textures by gender and people; without one of the body's the skin is procedural.
    """
    model, shape = body.model, body.shape
    rest = body.rest_vertices()
    posed = body.vertices(rest)
    base = model.vertices
    dark = float(np.clip(shape.people[0] + 0.35 * shape.people[1] + 0.15 * shape.people[2], 0, 1))
    skin, hair = draw_skin(rng, dark), draw_hair(rng, shape.age, dark)
    meshes, covered = _garments(model, posed, rng)
    people = ("african", "asian", "caucasian")[int(np.argmax(shape.people))]
    files = (skins or {}).get(f"{shape.gender}-{people}", ())
    if files and rng.random() < TEXTURED:
        tone = float(rng.uniform(0.8, 1.2))
        texture = str(files[rng.integers(len(files))])
        textured = Material((tone, tone, tone), skin.specular, infrared=skin.infrared and 1.5 * tone, texture=texture)
        corner, place, faces = _seams(model)
        surface = clip(
            Surface(posed[corner], faces, {"rest": base[corner], "uv": model.uv[place]}), (UNDER - covered)[corner]
        )
        meshes.append(
            Mesh(surface.vertices, surface.faces, textured, rest=surface.extra["rest"], uv=surface.extra["uv"])
        )
    else:
        surface = clip(Surface(posed, model.faces["body"], {"rest": base}), UNDER - covered)
        meshes.append(Mesh(surface.vertices, surface.faces, skin, rest=surface.extra["rest"]))
    meshes += _face(body, posed, skin, hair, rng, bool(meshes[-1].material.texture))
    meshes += _hair(body, posed, hair, rng)
    meshes += _worn(body, rng)
    return [replace(mesh, identity=identity) for mesh in meshes]


@lru_cache(maxsize=2)
def _seams(model: BodyModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Skin with vertices doubled at seams of the texture: vertex and uv numbers (N,), and faces (F, 3) of these."""
    pairs = np.stack([model.faces["body"].ravel(), model.uv_faces["body"].ravel()], 1)
    unique, index = np.unique(pairs, axis=0, return_inverse=True)
    return unique[:, 0], unique[:, 1], index.reshape(-1, 3)


def _folds(rest: np.ndarray, rng: np.random.Generator, height: float) -> np.ndarray:
    """Folds of cloth (V,) in metres between 0 and `height`: a few waves in random directions."""
    total = np.zeros(len(rest))
    for frequency in (25, 45, 80):
        wave = unit(rng.normal(size=3)) * frequency * rng.uniform(0.7, 1.3)
        total += np.sin(rest @ wave + rng.uniform(0, 6.28) + 2 * np.sin(rest @ (wave[[1, 2, 0]] * 0.6)))
    return height * (0.5 + total / 6)


def _inflated(model: BodyModel, posed: np.ndarray, group: str, amount: np.ndarray) -> np.ndarray:
    """All vertices, those of a mesh group moved along their normals by `amount` (V,) metres."""
    return posed + normals(posed, model.faces[group]) * amount[:, None]


def _garments(model: BodyModel, posed: np.ndarray, rng: np.random.Generator) -> tuple[list[Mesh], np.ndarray]:
    """Garments, and how deep below them a vertex of the skin is: a field (V,), positive where covered."""
    uniform, base = rng.uniform, model.vertices
    along, arm = arm_fields(model)
    x, y, z = base.T
    kind = rng.choice(["shirt", "long", "jacket", "sleeveless"], p=[0.34, 0.34, 0.24, 0.08])
    sleeve = {"shirt": uniform(0.1, 0.24), "long": uniform(0.34, WRIST), "jacket": WRIST + 0.01, "sleeveless": -0.02}[
        kind
    ]
    # a neckline is a cylinder around the neck, in front of which a V may be cut; below 5 cm it is a high collar
    opening = uniform(0.066, 0.1) if kind != "jacket" else uniform(0.045, 0.075)
    collar_field = np.minimum(np.maximum(np.hypot(x, z - 0.005) - opening, 0.53 - y), 0.602 - y)
    if rng.random() < 0.35:
        collar_field = np.minimum(collar_field, np.maximum(0.58 - uniform(0.05, 0.14) + 1.8 * abs(x) - y, 0.03 - z))
    hem = uniform(-0.06, 0.08)
    top = np.minimum.reduce([sleeve - along, collar_field, y - hem + arm])
    waist, ankle = hem + 0.08, uniform(-0.74, -0.68) if rng.random() < 0.85 else uniform(-0.4, -0.2)
    bottom = np.minimum.reduce([waist - y, y - ankle, 0.5 - arm])
    shoes = -0.725 - y
    thickness = uniform(0.012, 0.022) if kind == "jacket" else uniform(0.005, 0.01)
    cloth, trousers = draw_cloth(rng), draw_cloth(rng, 0.15)
    shoe = Material(draw_colour(rng, 0.01, 0.4), 0.15)
    parts = [
        (top, thickness, uniform(0.004, 0.016), cloth),
        (bottom, 0.004, uniform(0.003, 0.008), trousers),
        (shoes, 0.008, 0.0, shoe),
    ]
    meshes = []
    for field, offset, fold, material in parts:
        shell = _inflated(model, posed, "tights", offset + _folds(base, rng, fold))
        cut = clip(Surface(shell, model.faces["tights"], {"rest": base}), field)
        meshes.append(Mesh(cut.vertices, cut.faces, material, rest=cut.extra["rest"]))
    if kind == "jacket" and rng.random() < 0.6:  # a band of the shirt below shows where the jacket is open
        opening = np.minimum(uniform(0.02, 0.06) - abs(x) + 0.25 * (y - 0.35), np.minimum(z - 0.03, collar_field))
        shell = _inflated(model, posed, "tights", thickness + _folds(base, rng, 0.012) + 0.003)
        cut = clip(Surface(shell, model.faces["tights"], {"rest": base}), np.minimum(opening, y - hem))
        if len(cut.faces):
            meshes.append(Mesh(cut.vertices, cut.faces, draw_cloth(rng, 0.3), rest=cut.extra["rest"]))
    return meshes, np.maximum.reduce([top, bottom, shoes])


@lru_cache(maxsize=2)
def _head_faces(model: BodyModel) -> np.ndarray:
    faces = model.faces["body"]
    return faces[(model.vertices[faces, 1] > 0.6).all(1)]


def _patch(
    body: Body, posed: np.ndarray, keep: np.ndarray, offset: np.ndarray | float, material: Material
) -> list[Mesh]:
    """A patch of the head's skin where `keep` is positive, lifted by `offset` metres."""
    model = body.model
    lifted = posed + normals(posed, model.faces["body"]) * np.broadcast_to(offset, len(posed))[:, None]
    cut = clip(Surface(lifted, _head_faces(model), {"rest": model.vertices}), keep)
    return [Mesh(cut.vertices, cut.faces, material, rest=cut.extra["rest"])] if len(cut.faces) else []


def _face(
    body: Body, posed: np.ndarray, skin: Material, hair: Material, rng: np.random.Generator, textured: bool
) -> list[Mesh]:
    """Eyes, brows, lips (unless a texture shows them) and sometimes a beard."""
    model = body.model
    x, y, z = model.vertices.T
    uniform, meshes = rng.uniform, []
    iris = draw_colour(rng, 0.01, 0.12, 0.6)
    for eye in (LEFT_EYE, RIGHT_EYE):
        vertices = model.vertices[eye]
        centre = vertices.mean(0) + [0, 0, 0.013]
        white = Material((0.5, 0.48, 0.46), 0.3, SPOT, (centre[0], centre[1], centre[2]), colour2=iris, duty=0.0078)
        faces = model.faces["eyes"]
        faces = faces[((faces >= eye.start) & (faces < eye.stop)).all(1)] - eye.start
        meshes.append(Mesh(posed[eye], faces, white, rest=vertices))
    brow = 1 - ((abs(x) - 0.034) / 0.022) ** 2 - ((y - 0.7535 - 0.1 * (abs(x) - 0.03)) / uniform(0.0035, 0.007)) ** 2
    meshes += _patch(body, posed, np.minimum(brow, z - 0.08), 0.0025, hair)
    red = uniform(0.3, 0.8) if body.shape.gender == "female" else uniform(0.0, 0.3)
    lips = np.array(skin.colour) * [1 - 0.2 * red, 1 - 0.6 * red, 1 - 0.5 * red] * uniform(0.7, 0.95)
    lip = 1 - (x / 0.026) ** 2 - ((y - 0.648) / 0.011) ** 2
    material = replace(skin, colour=tuple(lips), colour2=tuple(lips), specular=0.2)
    if not textured:
        meshes += _patch(body, posed, np.minimum(lip, z - 0.1), 0.001, material)
    if body.shape.gender == "male" and rng.random() < 0.4:
        length = uniform(0.002, 0.02)
        jaw = np.minimum(0.665 - y + 0.35 * np.clip(0.12 - z, 0, 1), z - 0.035)
        if rng.random() < 0.25:  # moustache only
            jaw = 0.01 - abs(y - 0.668) - 0.2 * np.clip(abs(x) - 0.025, 0, 1)
        beard = np.minimum.reduce([jaw, -lip * 0.02, y - 0.607])
        meshes += _patch(body, posed, beard, np.clip(beard, 0, 0.02) / 0.02 * length + 0.001, hair)
    return meshes


def _hair(body: Body, posed: np.ndarray, hair: Material, rng: np.random.Generator) -> list[Mesh]:
    """Short hair is the lifted scalp, long hair the hair mesh of the base mesh, cut to length; some heads are bald."""
    model, uniform = body.model, rng.uniform
    _, y, z = model.vertices.T
    female = body.shape.gender == "female"
    if rng.random() < (0.01 if female else 0.05 + 0.15 * body.shape.age):
        return []
    shift = uniform(-0.012, 0.012) + (0.03 * body.shape.age * rng.random() if not female else 0)
    scalp = y - np.interp(z, HAIRLINE_Z, HAIRLINE_Y) - shift * (z > 0.05)
    length = uniform(0.004, 0.03) if rng.random() < 0.8 else uniform(0.03, 0.06)
    grow = length * np.clip(scalp / 0.03, 0, 1) * (0.75 + _folds(model.vertices * 1.8, rng, 0.5))
    meshes = _patch(body, posed, scalp, grow + 0.001, hair)
    if rng.random() < (0.65 if female else 0.08):
        shell = _inflated(model, posed, "hair", _folds(model.vertices * 1.5, rng, 0.02) - 0.008)
        end = uniform(0.3, 0.62)
        face = np.maximum(0.085 - z, y - 0.79)  # nothing before the face
        keep = np.minimum(y - end - _folds(model.vertices * 2, rng, 0.03), face)
        cut = clip(Surface(shell, model.faces["hair"], {"rest": model.vertices}), keep)
        if len(cut.faces):
            meshes.append(Mesh(cut.vertices, cut.faces, hair, rest=cut.extra["rest"]))
    elif female and rng.random() < 0.6:  # bun or pony tail
        centre = body.on_bone(
            "head", (body.face_rest[3:5].mean(0) + [0, uniform(-0.02, 0.07), -uniform(0.1, 0.13)])[None]
        )[0]
        half = (0.03, uniform(0.03, 0.1), 0.03) if rng.random() < 0.5 else (0.035,) * 3
        meshes.append(rounded_box(centre, half, hair, body.frame("head"), 0.9))
    return meshes


def _worn(body: Body, rng: np.random.Generator) -> list[Mesh]:
    """Glasses and headgear, which belong to the driver: what they cover does not count as hidden."""
    meshes: list[Mesh] = []
    uniform = rng.uniform
    eyes = body.face_rest[1:3] - [0, 0, 0.013]
    middle, ears = eyes.mean(0), body.face_rest[3:5]
    on_head = lambda points: body.on_bone("head", np.asarray(points, float))  # noqa: E731
    if rng.random() < 0.4:
        frame = Material(draw_colour(rng, 0.005, 0.15), 0.4)
        dark = rng.random() < 0.35
        width, height, angle = uniform(0.02, 0.027), uniform(0.014, 0.023), np.arange(14) / 14 * 2 * np.pi
        for eye, ear in zip(eyes, ears, strict=True):
            sign = np.sign(eye[0])
            centre = eye + [0.003 * sign, -0.002, 0.026]
            ring = centre + np.stack(
                [width * np.cos(angle), height * np.sin(angle), -0.15 * abs(width * np.cos(angle) * 0.5)], 1
            )
            meshes.append(tube(on_head(ring), 0.0018, frame, 5, True))
            hinge = centre + [width * sign, 0.005, -0.004]
            meshes.append(tube(on_head([hinge, [ear[0], hinge[1], ear[2] + 0.01]]), 0.0018, frame, 5))
            if dark:
                lens = Material(draw_colour(rng, 0.004, 0.03), 0.6)
                meshes.append(
                    rounded_box(on_head(centre[None])[0], (width, height, 0.002), lens, body.frame("head"), 0.9)
                )
        meshes.append(tube(on_head(eyes * [0.25, 1, 1] + [0, 0.002, 0.028]), 0.0018, frame, 5))
    if rng.random() < 0.13:
        cloth = draw_cloth(rng, 0.4)
        half = np.array([0.088, 0.1, 0.108]) * uniform(0.97, 1.06) * body.scale
        centre = middle + [0, 0.035, -0.1 * body.scale]
        dome = rounded_box(centre, half, cloth, roundness=0.95)
        cut = clip(Surface(dome.vertices, dome.faces), dome.vertices[:, 1] - middle[1] - uniform(0.035, 0.055))
        meshes.append(Mesh(on_head(cut.vertices), cut.faces, cloth, rest=cut.vertices))
        if rng.random() < 0.7:
            turn = -1.0 if rng.random() < 0.12 else 1.0
            brim = middle + [0, 0.052, (0.05 if turn > 0 else -0.23)]
            meshes.append(rounded_box(on_head(brim[None])[0], (0.07, 0.006, 0.06), cloth, body.frame("head"), 0.7))
    return meshes


def belt(body: Body, worn: list[Mesh], rng: np.random.Generator) -> list[Mesh]:
    """Seat belt from the window-side shoulder to the buckle, laid on the clothes `worn`, and across the lap."""
    chest = body.frame("spine01")[:, 2]
    if chest[1] < -0.55:  # bent down so far that the belt hangs free
        return []
    shoulder, neck = body.joint("upperarm01.L"), body.joint("neck01")
    start = 0.62 * shoulder + 0.38 * neck + 0.03 * unit(shoulder - body.joint("spine05"))
    end = body.joint("upperleg01.R") + [-0.06, 0.04, 0.02]
    torso, legs = worn[0].vertices[::2], worn[1].vertices
    material = Material(draw_colour(rng, 0.01, 0.4, 0.2), 0.05)
    anchor = start + [0.06, 0.06, -0.22]
    upper = [anchor, start]
    diagonal = _laid(start, end, chest, torso, 16, 0.16)
    lap_end = body.joint("upperleg01.L") + [0.08, 0.03, 0.02]
    lap = _laid(end, lap_end, unit(np.array([0.0, 0.8, 0.6])), legs, 10, 0.12)
    meshes = []
    for line, out in ((np.array([*upper[:1], *diagonal]), chest), (lap, np.array([0.0, 0.8, 0.6]))):
        across = unit(cross(out, unit(line[-1] - line[0])))
        meshes.append(ribbon(line, across, 0.022, material, identity=DRIVER))
    return meshes


def _laid(
    start: np.ndarray, end: np.ndarray, out: np.ndarray, cloud: np.ndarray, count: int, most: float
) -> np.ndarray:
    """Points (count, 3) on a line, lifted along `out` by at most `most` metres onto a cloud of points, and smoothed."""
    line = start + (end - start) * np.linspace(0, 1, count)[:, None]
    height = np.zeros(count)
    for i, point in enumerate(line):
        offset = cloud - point
        up = offset @ out
        near = ((offset - up[:, None] * out) ** 2).sum(1) < 0.035**2
        height[i] = up[near & (up < most)].max(initial=0.0)
    height[1:-1] = np.maximum(height[1:-1], (height[:-2] + height[2:]) / 2)
    height[1:-1] = (height[:-2] + 2 * height[1:-1] + height[2:]) / 4
    return line + (height + 0.008)[:, None] * out
