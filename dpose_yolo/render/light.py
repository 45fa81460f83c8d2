"""Light of a scene: daylight by a panorama and a sun, or night with a near-infrared lamp beside the camera."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.render.rotations import unit

BRIGHTEST = 20.0  # of a panorama: the sun is a light of its own


@dataclass(frozen=True)
class Light:
    """Light of one scene.

    Attributes:
        panorama: (H, W, 3) float32 linear RGB, up at the top row, mean about 0.6.
        harmonics: (9, 3) its irradiance in spherical harmonics.
        sun: (3,) unit direction to the sun; `sun_colour` is black without one.
        ambient: strength of the sky inside the cabin; `shade` (0 to 1) darkens towards the floor.
        window_gain: brightness of what is seen through the windows against the cabin.
        lamp: colour of the lamp at the camera, in radiance at one metre.
        blinds: wave vector (3,) of sun stripes and their duty; duty 0 for none.
        infrared: near-infrared: albedos are grey.
        name: kind of light; `file` is the panorama's, "" for a procedural one.
    """

    panorama: np.ndarray
    harmonics: np.ndarray
    sun: np.ndarray
    sun_colour: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ambient: float = 0.7
    shade: float = 0.5
    window_gain: float = 4.0
    lamp: tuple[float, float, float] = (0.0, 0.0, 0.0)
    blinds: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    infrared: bool = False
    name: str = "day"
    file: str = ""


def draw_light(rng: np.random.Generator, look: str, skies: tuple[Path, ...] = ()) -> Light:
    """Draw a light; `look` is "colour", "infrared" or "mixed" (either, evenly)."""
    if look == "mixed":
        look = "colour" if rng.random() < 0.5 else "infrared"
    file = ""
    if skies and rng.random() < 0.6:
        path = skies[rng.integers(len(skies))]
        panorama, file = read_panorama(path), str(path)
        panorama = np.roll(panorama, int(rng.integers(panorama.shape[1])), 1)
    else:
        panorama = procedural_sky(rng)
    sun = unit(np.array([rng.uniform(-1, 1), rng.uniform(0.25, 1), rng.uniform(-0.6, 1)]))
    if look == "infrared":
        strength = float(rng.uniform(0.25, 0.7))
        panorama = panorama * float(np.exp(rng.uniform(np.log(0.002), np.log(0.12))))
        panorama = np.repeat(panorama.mean(2, keepdims=True), 3, 2)
        return Light(
            *(panorama, harmonics_of(panorama), sun),
            lamp=(strength,) * 3,
            window_gain=float(rng.uniform(0.3, 1.5)),
            infrared=True,
            name="infrared",
            file=file,
        )
    shining = rng.random() < 0.7
    strength = float(rng.uniform(0.2, 3.0)) * shining
    warm = float(rng.uniform(0.75, 1.0))
    blinds = (0.0, 0.0, 0.0, 0.0)
    if shining and rng.random() < 0.15:
        wave = unit(rng.normal(size=3)) * rng.uniform(15, 70)
        blinds = (float(wave[0]), float(wave[1]), float(wave[2]), float(rng.uniform(0.6, 1.4)))
    return Light(
        *(panorama, harmonics_of(panorama), sun),
        sun_colour=(strength, strength * (0.5 + 0.5 * warm), strength * warm**2),
        ambient=float(rng.uniform(0.4, 0.9)),
        shade=float(rng.uniform(0, 1)),
        window_gain=float(np.exp(rng.uniform(0.0, np.log(12)))),
        blinds=blinds,
        name="sun" if shining else "overcast",
        file=file,
    )


def procedural_sky(rng: np.random.Generator) -> np.ndarray:
    """Panorama (48, 96, 3) of blurred colour blocks: ground, a band of buildings and trees, and sky."""
    rows, columns = 48, 96
    blocks = rng.uniform(0, 1, (6, 14, 3)).astype(np.float32)
    blocks = 0.35 * blocks + 0.65 * blocks.mean(2, keepdims=True) * rng.uniform(0.7, 1.2, 3)
    image = cv2.resize(blocks.astype(np.float32), (columns, rows), interpolation=cv2.INTER_CUBIC)
    skyline = rows * 0.5 - rng.uniform(0, 8) * np.repeat(rng.random(24), 4)
    sky = np.arange(rows)[:, None] < skyline[None]
    tint = np.array([rng.uniform(0.6, 1.0), rng.uniform(0.8, 1.0), 1.0])
    gradient = np.linspace(rng.uniform(0.8, 2.0), rng.uniform(1.0, 2.4), rows)[:, None, None]
    image = np.where(
        sky[..., None], gradient * tint * (0.8 + 0.3 * image.mean(2, keepdims=True)), image * rng.uniform(0.3, 1.0)
    )
    image[rows // 2 + 2 :] *= rng.uniform(0.3, 0.9)
    image = np.clip(image, 0.01, None).astype(np.float32)
    return image / image.mean() * np.float32(0.6)


@lru_cache(maxsize=32)
def read_panorama(path: Path) -> np.ndarray:
    """Read an HDR panorama baked by `assets`, (H, W, 3) float32.

    Raises:
        DPoseError: an unreadable file.
    """
    try:
        return np.load(path).astype(np.float32)
    except (OSError, ValueError) as error:
        raise DPoseError(f"render: panorama {path} cannot be read: run `dpose render assets` again") from error


def harmonics_of(panorama: np.ndarray) -> np.ndarray:
    """Irradiance (9, 3) of a panorama, by Ramamoorthi and Hanrahan 2001; order 1, y, z, x, xy, yz, zz, xz, xx - yy."""
    rows, columns = panorama.shape[:2]
    theta = ((np.arange(rows) + 0.5) / rows * np.pi)[:, None]
    phi = ((np.arange(columns) + 0.5) / columns - 0.5) * 2 * np.pi
    x, y, z = np.sin(theta) * np.cos(phi), np.cos(theta) + 0 * phi, np.sin(theta) * np.sin(phi)
    area = np.sin(theta) * (np.pi / rows) * (2 * np.pi / columns) + 0 * phi
    basis = [0.282 + 0 * x, 0.488 * y, 0.488 * z, 0.488 * x, 1.092 * x * y, 1.092 * y * z]
    basis += [0.315 * (3 * z * z - 1), 1.092 * x * z, 0.546 * (x * x - y * y)]
    weights = np.array([1.0, 2 / 3, 2 / 3, 2 / 3, 0.25, 0.25, 0.25, 0.25, 0.25])
    radiance = np.minimum(panorama, BRIGHTEST).reshape(-1, 3)
    return (np.stack(basis).reshape(9, -1) * area.ravel()) @ radiance * weights[:, None]
