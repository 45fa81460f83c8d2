"""Random materials: cloth, skin, hair, plastic, leather. Colours are linear RGB."""

import colorsys

import numpy as np

from dpose_yolo.render.meshes import CHECKS, NOISE, STRIPES, Material
from dpose_yolo.render.rotations import cross, unit

Colour = tuple[float, float, float]


def _tuple(values) -> Colour:
    return (float(values[0]), float(values[1]), float(values[2]))


def draw_colour(rng: np.random.Generator, low: float = 0.01, high: float = 0.5, saturation: float = 0.35) -> Colour:
    """Draw a colour: value log-uniform between `low` and `high`; most are dull, a fifth are as vivid as they come."""
    value = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    vivid = rng.random() ** 2 * saturation if rng.random() < 0.8 else rng.uniform(0, 0.9)
    return _tuple(colorsys.hsv_to_rgb(rng.random(), float(vivid), value))


def draw_trim(rng: np.random.Generator, base: Colour | None = None) -> Material:
    """Plastic, leather or fabric of a cabin; near to `base` where it is given."""
    colour = draw_colour(rng) if base is None else _tuple(np.array(base) * rng.uniform(0.4, 1.8))
    return Material(colour, specular=float(rng.uniform(0, 0.3)), **_pattern(rng, colour, 0.5, 40.0, (0.08, 0.04, 0.88)))


def draw_cloth(rng: np.random.Generator, share: float = 0.55) -> Material:
    """Cloth of a garment: plain, striped, checked or printed. In near infrared most dyes are bright."""
    colour = draw_colour(rng, 0.012, 0.75, 0.9)
    pattern = _pattern(rng, colour, share, 25.0, (0.4, 0.25, 0.35), own_colour=True)
    infrared = float(rng.uniform(0.1, 0.75)) if rng.random() < 0.7 else float(np.mean(colour))
    return Material(colour, specular=float(rng.uniform(0, 0.12)), infrared=infrared, **pattern)


def _pattern(rng, colour, share: float, most: float, kinds, own_colour: bool = False) -> dict:
    """A pattern as fields of `Material`; `most` is the finest one in periods a metre."""
    if rng.random() > share:
        return {}
    kind = int(rng.choice([STRIPES, CHECKS, NOISE], p=kinds))
    axis = [unit(rng.normal(size=3)), np.array([0, 1.0, 0]), np.array([1.0, 0, 0])][rng.integers(3)]
    across = unit(cross(axis, np.array([0.3, 0.2, 0.9])))
    fine = float(np.exp(rng.uniform(np.log(6), np.log(most))))
    second = draw_colour(rng, 0.012, 0.75, 0.9) if own_colour and (kind != NOISE or rng.random() < 0.5) else None
    second = _tuple(np.clip(np.array(colour) * rng.uniform(0.3, 1.8, 3), 0, 0.9)) if second is None else second
    return dict(
        pattern=kind,
        axis=_tuple(axis * fine),
        axis2=_tuple(across * fine * rng.uniform(0.7, 1.4)),
        colour2=second,
        duty=float(rng.uniform(0.3, 0.85)),
    )


def draw_skin(rng: np.random.Generator, dark: float) -> Material:
    """Skin between pale (`dark` = 0) and dark (1), with blotches of a few percent."""
    tones = np.array([[0.72, 0.46, 0.34], [0.52, 0.3, 0.19], [0.28, 0.14, 0.08], [0.09, 0.045, 0.03]])
    place = float(np.clip(dark + rng.normal(0, 0.12), 0, 1)) * (len(tones) - 1)
    tone = np.array([np.interp(place, range(len(tones)), tones[:, k]) for k in range(3)]) * rng.uniform(0.85, 1.1)
    second = np.clip(tone * rng.uniform([0.85, 0.75, 0.75], [1.05, 1.0, 1.0]), 0, 1)
    infrared = float(np.interp(dark, [0, 1], [0.62, 0.42]))  # skin is bright in near infrared at any tone
    wave = (float(rng.uniform(25, 60)), 0.0, 0.0)
    return Material(
        *(_tuple(tone), float(rng.uniform(0.02, 0.25)), NOISE),
        axis=wave,
        colour2=_tuple(second),
        duty=0.25,
        infrared=infrared,
    )


def draw_hair(rng: np.random.Generator, age: float, dark: float) -> Material:
    """Hair: black to blond, grey with age, sometimes dyed."""
    kinds = np.array([[0.008, 0.007, 0.006], [0.045, 0.022, 0.012], [0.12, 0.06, 0.03], [0.35, 0.22, 0.1]])
    grey = np.array([0.35, 0.35, 0.36]) * rng.uniform(0.6, 1.5)
    share = rng.dirichlet(np.array([1.0, 1.0, 0.6, 0.5]) * (0.5 if dark < 0.5 else 0.1) + [dark, 0, 0, 0])
    colour = share @ kinds
    if rng.random() < age * 1.2:
        colour = colour + (grey - colour) * rng.uniform(0.3, 1)
    if rng.random() < 0.04:
        colour = np.array(draw_colour(rng, 0.05, 0.4, 1.0))
    wave = unit(rng.normal(size=3)) * rng.uniform(60, 140)
    light = _tuple(np.clip(colour * rng.uniform(1.1, 1.6), 0, 0.8))
    grey_level = float(np.clip(colour.mean() * 1.5 + 0.08, 0, 0.6))
    return Material(
        _tuple(colour), float(rng.uniform(0.02, 0.2)), NOISE, _tuple(wave), colour2=light, infrared=grey_level
    )
