"""Meshes and materials of the renderer, and the primitives that procedural parts are made of."""

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

PLAIN, STRIPES, CHECKS, NOISE, SPOT = range(5)  # kinds of patterns; shaders.py knows the same numbers
CABIN, DRIVER, HELD, PASSENGER = range(4)  # identities in the id buffer


@dataclass(frozen=True)
class Material:
    """Surface of a mesh.

    Attributes:
        colour: linear RGB albedo, 0 to 1.
        specular: strength of the highlight.
        pattern: PLAIN, STRIPES, CHECKS, NOISE (blotches, prints) or SPOT (an iris).
        axis, axis2: (3,) directions of the pattern in rest coordinates; their lengths are stripes (or blotches) a
            metre. For SPOT `axis` is its centre in metres.
        colour2: second colour of the pattern.
        duty: share of the first colour; sharpness of NOISE; radius in metres of SPOT.
        infrared: albedo in near infrared, None for the mean of `colour`.
        texture: file of a texture that multiplies `colour`, or "".
    """

    colour: tuple[float, float, float]
    specular: float = 0.05
    pattern: int = PLAIN
    axis: tuple[float, float, float] = (1.0, 0.0, 0.0)
    axis2: tuple[float, float, float] = (0.0, 1.0, 0.0)
    colour2: tuple[float, float, float] = (1.0, 1.0, 1.0)
    duty: float = 0.5
    infrared: float | None = None
    texture: str = ""


@dataclass(frozen=True)
class Mesh:
    """Triangles of one material and identity.

    Attributes:
        vertices: (V, 3) metres.
        faces: (F, 3) vertex numbers.
        material: the surface.
        rest: (V, 3) coordinates that patterns are fixed to, `vertices` where they are None.
        uv: (V, 2) texture coordinates.
        identity: CABIN, DRIVER, HELD or PASSENGER.
    """

    vertices: np.ndarray
    faces: np.ndarray
    material: Material
    rest: np.ndarray | None = None
    uv: np.ndarray | None = None
    identity: int = CABIN


@dataclass
class Surface:
    """A mesh before it has a material: `vertices` (V, 3), `faces` (F, 3), further per-vertex arrays by name."""

    vertices: np.ndarray
    faces: np.ndarray
    extra: dict[str, np.ndarray] = field(default_factory=dict)


def normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted vertex normals (V, 3)."""
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    u, v = b - a, c - a
    flat = np.stack(
        [
            u[:, 1] * v[:, 2] - u[:, 2] * v[:, 1],
            u[:, 2] * v[:, 0] - u[:, 0] * v[:, 2],
            u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0],
        ],
        1,
    )
    corners = faces.ravel()
    total = np.stack([np.bincount(corners, np.repeat(flat[:, k], 3), len(vertices)) for k in range(3)], 1)
    return total / np.maximum(np.sqrt((total**2).sum(1, keepdims=True)), 1e-12)


def clip(surface: Surface, keep: np.ndarray) -> Surface:
    """Cut a surface along the line where a field crosses zero.

    Args:
        surface: to cut.
        keep: (V,) field; what is positive stays. Triangles across the line are cut, so that the edge is smooth.

    Returns:
        The rest; new vertices on the line interpolate all per-vertex arrays.
    """
    inside = keep[surface.faces] > 0
    count = inside.sum(1)
    faces = [surface.faces[count == 3]]
    names = ["", *surface.extra]
    arrays = {"": surface.vertices, **surface.extra}
    added: dict[str, list[np.ndarray]] = {name: [] for name in names}
    total = len(surface.vertices)

    def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        nonlocal total
        share = (keep[a] / (keep[a] - keep[b]))[:, None]
        for name in names:
            values = arrays[name]
            added[name].append(values[a] * (1 - share) + values[b] * share)
        total += len(a)
        return np.arange(total - len(a), total)

    for number in (1, 2):  # corners inside
        chosen, odd = surface.faces[count == number], inside[count == number]
        # turn each triangle so that its lone corner, inside or outside, comes first; the winding stays
        first = np.argmax(odd if number == 1 else ~odd, 1)
        a, b, c = (chosen[np.arange(len(chosen)), (first + k) % 3] for k in range(3))
        if number == 1:
            faces.append(np.stack([a, cross(a, b), cross(a, c)], 1))
        else:
            ab, ac = cross(b, a), cross(c, a)
            faces += [np.stack([ab, b, c], 1), np.stack([ab, c, ac], 1)]
    merged = {name: np.concatenate([arrays[name], *added[name]]) for name in names}
    used, index = np.unique(np.concatenate(faces), return_inverse=True)
    return Surface(merged[""][used], index.reshape(-1, 3), {name: merged[name][used] for name in surface.extra})


@lru_cache(maxsize=32)
def _grid_faces(rows: int, columns: int) -> np.ndarray:
    """Triangles of a grid of vertices whose columns are closed to a tube."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    quads = np.stack([a, b, a + columns, b, b + columns, a + columns], -1)
    return quads.reshape(-1, 3)


def rounded_box(
    centre, half, material: Material, axes: np.ndarray | None = None, roundness: float = 0.3, **options
) -> Mesh:
    """Superellipsoid about `centre` (3,) with half sizes `half` (3,).

    Args:
        centre, half: metres.
        material: the surface.
        axes: (3, 3) columns are the box's own axes.
        roundness: near 0 a box, 1 an ellipsoid.
        **options: further fields of `Mesh`.
    """
    rows, columns = 10, 16
    v, u = np.linspace(-np.pi / 2, np.pi / 2, rows)[:, None], (np.arange(columns) + 0.5) / columns * 2 * np.pi
    power = lambda x: np.sign(x) * abs(x) ** roundness  # noqa: E731
    x, y = power(np.cos(v)) * power(np.cos(u)), power(np.cos(v)) * power(np.sin(u))
    points = np.stack([x, y, power(np.sin(v)) + 0 * u], -1).reshape(-1, 3) * np.asarray(half)
    vertices = (points if axes is None else points @ axes.T) + centre
    return Mesh(vertices, _grid_faces(rows, columns), material, rest=points + centre, **options)


def tube(points, radius, material: Material, sides: int = 8, closed: bool = False, **options) -> Mesh:
    """Tube of `radius` (one or one a point) along a line of points (N, 3); `closed` joins its ends to a ring."""
    line = np.asarray(points, float)
    along = np.roll(line, -1, 0) - np.roll(line, 1, 0) if closed else np.gradient(line, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    u = np.cross(along, [0.31, 0.87, 0.2])
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(along, u)
    angle = np.arange(sides) / sides * 2 * np.pi
    radius = np.broadcast_to(radius, len(line))[:, None, None]
    ring = np.cos(angle)[:, None] * u[:, None] + np.sin(angle)[:, None] * v[:, None]
    vertices = line[:, None] + radius * ring
    if closed:
        vertices = np.concatenate([vertices, vertices[:1]])
    else:  # close the ends
        vertices = np.concatenate([line[:1, None] + 0 * vertices[:1], vertices, line[-1:, None] + 0 * vertices[:1]])
    return Mesh(vertices.reshape(-1, 3), _grid_faces(len(vertices), sides), material, **options)


def ribbon(points: np.ndarray, across: np.ndarray, half_width: float, material: Material, **options) -> Mesh:
    """Flat band along points (N, 3), `across` (3,) or (N, 3) wide."""
    left, right = points - across * half_width, points + across * half_width
    i, n = np.arange(len(points) - 1), len(points)
    faces = np.concatenate([np.stack([i, i + 1, i + n], 1), np.stack([i + 1, i + n + 1, i + n], 1)])
    return Mesh(np.concatenate([left, right]), faces, material, **options)


def moved(mesh: Mesh, rotation: np.ndarray, shift: np.ndarray) -> Mesh:
    """Rotate a mesh about the origin, then shift it; its patterns move along."""
    rest = mesh.vertices if mesh.rest is None else mesh.rest
    return replace(mesh, vertices=mesh.vertices @ rotation.T + shift, rest=rest)
