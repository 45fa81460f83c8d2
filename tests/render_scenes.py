"""What tests of the renderer share: reasons to skip, a hand-made scene, a ray caster to compare with."""

import numpy as np
import pytest

from dpose_yolo.errors import DPoseError
from dpose_yolo.render.assets import load_assets
from dpose_yolo.render.gl import missing_tools
from dpose_yolo.render.light import Light, harmonics_of


def _no_assets() -> str:
    try:
        load_assets("cc0")
    except DPoseError as error:
        return str(error)
    return ""


needs_assets = pytest.mark.skipif(bool(_no_assets()), reason=_no_assets() or "assets are there")
needs_gl = pytest.mark.skipif(bool(missing_tools()), reason=missing_tools() or "OpenGL is there")


def even_light() -> Light:
    """White light from everywhere."""
    sky = np.full((8, 16, 3), 0.6, np.float32)
    return Light(sky, harmonics_of(sky), np.array([0.0, 1.0, 0.0]))


def cast(origin: np.ndarray, rays: np.ndarray, meshes) -> tuple[np.ndarray, np.ndarray]:
    """Nearest hit of each ray with all triangles (Moeller and Trumbore 1997), without any acceleration.

    Args:
        origin: (3,) metres.
        rays: (N, 3) directions.
        meshes: of the scene.

    Returns:
        (N,) lengths in units of the rays, inf without a hit, and (N,) identities of what is hit.
    """
    triangles = np.concatenate([mesh.vertices[mesh.faces] for mesh in meshes])
    owner = np.concatenate([np.full(len(mesh.faces), mesh.identity) for mesh in meshes])
    a, edge1, edge2 = triangles[:, 0], triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    length, identity = np.full(len(rays), np.inf), np.zeros(len(rays), int)
    for i, ray in enumerate(rays):
        p = np.cross(ray, edge2)
        determinant = (edge1 * p).sum(1)
        with np.errstate(all="ignore"):
            inverse = 1 / determinant
            s = origin - a
            u = (s * p).sum(1) * inverse
            q = np.cross(s, edge1)
            v, t = (q @ ray) * inverse, (edge2 * q).sum(1) * inverse
            hit = (abs(determinant) > 1e-14) & (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0.04)
        if hit.any():
            first = np.flatnonzero(hit)[t[hit].argmin()]
            length[i], identity[i] = t[first], owner[first]
    return length, identity


def rays_of(camera, pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Rays (N, 3) through pixels of an undistorted image, of depth 1."""
    focal = camera.focal(size[1])
    x, y = (pixels[:, 0] - size[0] / 2) / focal, (size[1] / 2 - pixels[:, 1]) / focal
    return np.stack([x, y, np.ones(len(x))], 1) @ camera.axes()
