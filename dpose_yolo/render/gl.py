"""Rasterizer: moderngl on a headless EGL context (Mesa's llvmpipe needs no graphics card).

Colour, identity and depth come from one pass, so that visibility flags agree with the picture to the pixel. The image
is drawn larger and halved instead of multisampled, because averaged identities would mean nothing.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.render.camera import FAR, NEAR, Camera
from dpose_yolo.render.light import Light
from dpose_yolo.render.meshes import Mesh, normals
from dpose_yolo.render.shaders import FRAGMENT, SHADOW_VERTEX, SKY_FRAGMENT, SKY_VERTEX, VERTEX

SHADOW, SHADOW_RADIUS = 512, 1.5  # pixels and metres of the sun's shadow map
ROW = 5  # texels a material


def view_matrix(axes: np.ndarray, position: np.ndarray) -> np.ndarray:
    """World to camera (4, 4) from rows right, up, forward; the camera looks along its -z."""
    matrix = np.eye(4)
    matrix[:3, :3] = axes * np.array([[1.0], [1.0], [-1.0]])
    matrix[:3, 3] = -matrix[:3, :3] @ position
    return matrix


def perspective(fov: float, aspect: float) -> np.ndarray:
    """Projection (4, 4) with a vertical field of view in degrees."""
    scale = 1 / np.tan(np.radians(fov) / 2)
    matrix = np.zeros((4, 4))
    matrix[0, 0], matrix[1, 1], matrix[3, 2] = scale / aspect, scale, -1
    matrix[2, 2:] = (FAR + NEAR) / (NEAR - FAR), 2 * FAR * NEAR / (NEAR - FAR)
    return matrix


class Rasterizer:
    """Draws meshes; make it in the process that uses it.

    Raises:
        DPoseError: moderngl or a headless EGL context is missing.
    """

    def __init__(self) -> None:
        os.environ.setdefault("LP_NUM_THREADS", "0")  # one thread: workers share the cores by process
        try:
            import moderngl
        except ImportError as error:
            raise DPoseError("render: moderngl is missing: pip install 'dpose_yolo[render]'") from error
        # torch loads Triton when it is first needed; loaded after Mesa's LLVM it ends the process (segmentation fault).
        with suppress(ImportError):
            import triton  # noqa: F401
        try:
            self.context: Any = moderngl.create_context(standalone=True, backend="egl")  # type: ignore[arg-type]
        except Exception as error:  # glcontext raises plain exceptions
            raise DPoseError(
                f"render: no headless OpenGL ({str(error).splitlines()[0]}): install the Debian packages "
                "libegl1 and libgl1-mesa-dri"
            ) from error
        self.context.gc_mode = "auto"  # without it every freed buffer stays allocated
        self._depth_test, self._strip = moderngl.DEPTH_TEST, moderngl.TRIANGLE_STRIP
        program = self.context.program
        # two variants: `discard` of textures with holes would cost all others the early depth test
        textured = FRAGMENT.replace("330\n", "330\n#define TEXTURED\n", 1)
        self._surfaces: list[Any] = [
            program(vertex_shader=VERTEX, fragment_shader=text) for text in (FRAGMENT, textured)
        ]
        self._sky: Any = program(vertex_shader=SKY_VERTEX, fragment_shader=SKY_FRAGMENT)
        self._caster: Any = program(vertex_shader=SHADOW_VERTEX, fragment_shader="#version 330\nvoid main() {}")
        self._shadow_map = self.context.depth_texture((SHADOW, SHADOW))
        self._shadow_map.compare_func = "<="
        self._shadow_buffer = self.context.framebuffer([], self._shadow_map)
        self._corners = self.context.buffer(np.array([-1, -1, 1, -1, -1, 1, 1, 1], "f4"))
        self._frames: dict[tuple[int, int], Any] = {}
        self._pictures: dict[str, Any] = {}

    def close(self) -> None:
        """Release the context."""
        self.context.release()

    def draw(
        self, meshes: Sequence[Mesh], camera: Camera, size: tuple[int, int], light: Light
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw meshes without lens distortion.

        Args:
            meshes: of the scene.
            camera: its distortion is not applied.
            size: (width, height) in pixels.
            light: sky, sun and lamp.

        Returns:
            Linear RGB (H, W, 3) float32, identity (H, W) uint8, and depth (H, W) float32 in metres along the viewing
            direction; where no mesh is, identity is 0 and depth `FAR`.
        """
        with self.context:  # makes it the current one: a process may hold several
            return self._draw(meshes, camera, (int(size[0]), int(size[1])), light)

    def _draw(
        self, meshes: Sequence[Mesh], camera: Camera, size: tuple[int, int], light: Light
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        context = self.context
        view = perspective(camera.fov, size[0] / size[1]) @ view_matrix(camera.axes(), np.array(camera.position))
        sun_view = _sun_view(light.sun)
        near = np.array(camera.position)
        ordered = sorted(meshes, key=lambda mesh: float(((mesh.vertices[::8] - near) ** 2).sum(1).min()))
        vertices, faces, batches, materials = pack(ordered, light.infrared)  # front to back: what is hidden costs less
        buffer, index = context.buffer(vertices.tobytes()), context.buffer(faces.tobytes())
        layout = (buffer, "3f 3f 3f 2f 2f", "position", "normal", "rest", "uv", "tags")
        context.enable(self._depth_test)
        self._shadow_buffer.use()
        self._shadow_buffer.clear(depth=1)
        self._caster["sun_view"].write(_gl(sun_view))
        if max(light.sun_colour) > 0:
            context.vertex_array(self._caster, [(buffer, "3f 40x", "position")], index).render()
        frame = self._frame(size)
        frame.use()
        frame.clear(depth=1)
        self._draw_sky(view, light)
        table = context.texture((ROW, len(materials)), 4, materials.tobytes(), dtype="f4")
        table.filter = (0x2600, 0x2600)  # GL_NEAREST: rows are not to be mixed
        table.use(1)
        self._shadow_map.use(2)
        arrays = []
        for surface in self._surfaces:
            _set_light(surface, view, sun_view, camera, light)
            arrays.append(context.vertex_array(surface, [layout], index, skip_errors=True))
        for texture, first, count in batches:
            if texture:
                self._picture(texture).use(0)
            arrays[bool(texture)].render(vertices=count, first=first)
        colour = np.frombuffer(frame.read(components=4, dtype="f2"), "f2").reshape(size[1], size[0], 4)[::-1]
        depth = np.frombuffer(frame.read(attachment=-1, components=1, dtype="f4"), "f4").reshape(size[1], size[0])[::-1]
        depth = NEAR * FAR / (FAR - depth * (FAR - NEAR))
        for thing in (*arrays, buffer, index, table):
            thing.release()
        return colour[..., :3].astype(np.float32), (colour[..., 3] + 0.5).astype(np.uint8), depth

    def _frame(self, size: tuple[int, int]) -> Any:
        if size not in self._frames:
            colour = self.context.texture(size, 4, dtype="f2")
            self._frames[size] = self.context.framebuffer([colour], self.context.depth_texture(size))
        return self._frames[size]

    def _picture(self, path: str) -> Any:
        if path not in self._pictures:
            image = cv2.imread(path, cv2.IMREAD_UNCHANGED)
            if image is None:
                raise DPoseError(f"render: texture {path} cannot be read: run `dpose render assets` again")
            if image.ndim == 2:
                image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
            image = cv2.resize(image[::-1], (512, 512), interpolation=cv2.INTER_AREA)
            code = cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGBA
            texture = self.context.texture((512, 512), 4, cv2.cvtColor(image, code).tobytes())
            texture.build_mipmaps()
            self._pictures[path] = texture
        return self._pictures[path]

    def _draw_sky(self, view: np.ndarray, light: Light) -> None:
        sky = light.panorama
        texture = self.context.texture((sky.shape[1], sky.shape[0]), 3, sky.astype("f4").tobytes(), dtype="f4")
        texture.use(0)
        self._sky["inverse_view"].write(_gl(np.linalg.inv(view)))
        self._sky["gain"] = light.window_gain
        self.context.disable(self._depth_test)
        array = self.context.vertex_array(self._sky, [(self._corners, "2f", "corner")])
        array.render(self._strip)
        self.context.enable(self._depth_test)
        texture.release()
        array.release()


def _gl(matrix: np.ndarray) -> bytes:
    return matrix.T.astype("f4").tobytes()


def _sun_view(sun: np.ndarray) -> np.ndarray:
    """Orthographic projection (4, 4) of the cabin's middle along the sun's direction."""
    right = np.cross(-sun, [0.1, 1.0, 0.0])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(right, -sun), -sun])
    centre = np.array([0.0, 0.2, 0.1])
    matrix = np.diag([1 / SHADOW_RADIUS, 1 / SHADOW_RADIUS, -1 / (2 * SHADOW_RADIUS), 1.0])
    return matrix @ view_matrix(axes, centre + sun * SHADOW_RADIUS)


def pack(
    meshes: Sequence[Mesh], infrared: bool
) -> tuple[np.ndarray, np.ndarray, list[tuple[str, int, int]], np.ndarray]:
    """Join meshes into one vertex and one index buffer.

    Returns:
        Vertices (V, 13) float32 [position, normal, rest, uv, material row, identity], faces (F, 3) int32, batches
        (texture, first index, number of indices), and the material table (M, ROW, 4) float32.
    """
    ordered = sorted(meshes, key=lambda mesh: mesh.material.texture)
    rows, faces, table = [], [], []
    batches: list[tuple[str, int, int]] = []
    start, first = 0, 0
    for number, mesh in enumerate(ordered):
        points = len(mesh.vertices)
        block = np.zeros((points, 13), np.float32)
        block[:, :3], block[:, 3:6] = mesh.vertices, normals(mesh.vertices, mesh.faces)
        block[:, 6:9] = mesh.vertices if mesh.rest is None else mesh.rest
        if mesh.uv is not None:
            block[:, 9:11] = mesh.uv
        block[:, 11:] = number, mesh.identity
        rows.append(block)
        faces.append(mesh.faces + start)
        texture, count = mesh.material.texture, mesh.faces.size
        if batches and batches[-1][0] == texture:
            batches[-1] = (texture, batches[-1][1], batches[-1][2] + count)
        else:
            batches.append((texture, first, count))
        start, first = start + points, first + count
        table.append(_material_row(mesh, infrared))
    return np.concatenate(rows), np.concatenate(faces).astype(np.int32), batches, np.array(table, np.float32)


def _material_row(mesh: Mesh, infrared: bool) -> list[list[float]]:
    material = mesh.material
    colour, colour2 = material.colour, material.colour2
    if infrared:
        grey = float(np.mean(colour)) if material.infrared is None else material.infrared
        second = grey * float(np.mean(colour2)) / max(float(np.mean(colour)), 0.01)
        colour, colour2 = (grey,) * 3, (min(second, 0.9),) * 3
    return [
        [*colour, material.specular],
        [0.0, 0.0, 0.0, float(material.pattern)],
        [*material.axis, material.duty],
        [*material.axis2, 0.0],
        [*colour2, 0.0],
    ]


@lru_cache(maxsize=1)
def missing_tools() -> str:
    """Why images cannot be rendered here, "" where they can."""
    try:
        Rasterizer().close()
    except DPoseError as error:
        return str(error)
    return ""


def _set_light(surface: Any, view: np.ndarray, sun_view: np.ndarray, camera: Camera, light: Light) -> None:
    surface["view"].write(_gl(view))
    surface["sun_view"].write(_gl(sun_view))
    surface["sky"].write(light.harmonics.astype("f4").tobytes())
    values = dict(
        picture=0, materials=1, shadow=2, eye=camera.position, sun=tuple(light.sun), sun_colour=light.sun_colour,
        lamp=light.lamp, ambient=light.ambient, depth_of_shade=light.shade, blinds=light.blinds,
        infrared=int(light.infrared),
    )  # fmt: skip
    for name, value in values.items():
        if name in surface:
            surface[name] = value
