"""Where hands go: zones of the cabin, of the head and of the chest, each a box from which a grip point is drawn."""

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class Zone:
    """A box of grip points in metres.

    Attributes:
        x, y, z: ranges. In `mirrored` zones x counts outward from the body's middle for either hand; otherwise it is
            the cabin's x, in which the passenger sits on the negative side.
        frame: "seat" (axes of the cabin, about the H-point), "head" (axes of the head, about `anchor`) or "chest".
        anchor: keypoint of the head frame, "nose", "ear" or "eye" of the hand's own side.
        wrist: in the head and chest frames, ranges of the wrist from the grip point.
        pole: ranges of the elbow's direction, x outward.
        palm: direction the palm faces, x outward; None leaves it to the arm.
        curl: range of finger flexion in degrees a joint.
    """

    x: Range
    y: Range
    z: Range
    mirrored: bool = True
    frame: str = "seat"
    anchor: str = ""
    wrist: tuple[Range, Range, Range] = ((0, 0), (0, 0), (0, 0))
    pole: tuple[Range, Range, Range] = ((-0.15, 0.5), (-1, -1), (-0.3, 0.3))
    palm: tuple[float, float, float] | None = None
    curl: Range = (5, 45)


def _head(anchor: str, x: Range, y: Range, z: Range, wrist, pole, palm=None, curl=(15, 50)) -> Zone:
    return Zone(x, y, z, frame="head", anchor=anchor, wrist=wrist, pole=pole, palm=palm, curl=curl)


DOWN_POLE = ((-0.2, 0.6), (-1.0, -1.0), (-0.2, 0.5))
ZONES: dict[str, Zone] = {
    # on the driver's side of the cabin
    "lap": Zone((-0.08, 0.16), (0.08, 0.24), (0.18, 0.42), palm=(0, -1, 0)),
    "thigh": Zone((0.05, 0.18), (0.08, 0.14), (0.15, 0.42), palm=(0, -1, 0)),
    "hold": Zone((-0.1, 0.28), (0.04, 0.36), (0.04, 0.36), palm=(-0.6, 0.4, -0.6), curl=(25, 50)),
    "book": Zone((0.04, 0.16), (0.14, 0.36), (0.22, 0.42), palm=(-1, 0.3, -0.4), curl=(20, 45)),
    "keyboard": Zone((0.03, 0.15), (0.1, 0.2), (0.26, 0.4), palm=(0, -1, 0), curl=(10, 30)),
    "chest": Zone((-0.12, 0.12), (0.24, 0.44), (0.14, 0.32), palm=(-0.5, 0, -1), curl=(15, 45)),
    "sip": Zone((-0.1, 0.2), (0.26, 0.5), (0.0, 0.2), palm=(-0.8, 0, -0.5), curl=(25, 50)),
    "sill": Zone((0.28, 0.42), (0.22, 0.42), (0.05, 0.45), False, palm=(0, -1, 0)),
    "door": Zone((0.28, 0.42), (0.0, 0.25), (0.15, 0.5), False, palm=(1, 0, 0)),
    "outside": Zone((0.5, 0.85), (0.2, 0.55), (0.0, 0.5), False, curl=(0, 20)),
    "floor": Zone((-0.2, 0.2), (-0.34, -0.15), (0.4, 0.65), False),
    "front": Zone((0.05, 0.4), (0.3, 0.7), (0.55, 0.85), curl=(0, 20)),
    "aside": Zone((0.4, 0.8), (0.3, 0.65), (0.05, 0.4), curl=(0, 20)),
    "up": Zone((-0.05, 0.3), (0.84, 1.0), (0.0, 0.4), pole=((0.3, 1), (-0.3, 0.4), (-0.2, 0.8)), curl=(0, 50)),
    "visor": Zone((-0.2, 0.22), (0.66, 0.85), (0.25, 0.5), curl=(5, 30)),
    "overhead": Zone((-0.4, -0.1), (0.7, 0.85), (0.3, 0.55), False, curl=(5, 30)),
    "wave": Zone((0.12, 0.4), (0.5, 0.8), (0.15, 0.45), palm=(0, 0, 1), curl=(0, 12)),
    # between the seats and on the passenger's side
    "gear": Zone((-0.42, -0.24), (-0.06, 0.18), (0.12, 0.45), False, palm=(0, -1, 0), curl=(25, 55)),
    "radio": Zone((-0.48, -0.18), (0.1, 0.46), (0.42, 0.75), False, curl=(5, 35)),
    "console": Zone((-0.36, -0.05), (0.1, 0.42), (0.22, 0.5), False, curl=(5, 35)),
    "point": Zone((-0.55, -0.1), (0.3, 0.65), (0.4, 0.8), False, curl=(0, 40)),
    "behind": Zone((-0.5, -0.2), (0.1, 0.5), (-0.42, 0.05), False),
    "passenger": Zone((-0.75, -0.42), (0.0, 0.3), (-0.15, 0.4), False),
    "glovebox": Zone((-0.8, -0.5), (0.08, 0.35), (0.45, 0.75), False),
    "rear": Zone((-0.5, -0.1), (0.2, 0.55), (-0.75, -0.4), False),
    "seatback": Zone((-0.6, -0.35), (0.35, 0.62), (-0.3, 0.05), False),
    "buckle": Zone((-0.26, -0.12), (-0.05, 0.08), (-0.06, 0.1), False, curl=(20, 50)),
    "belt": Zone((0.14, 0.34), (0.3, 0.6), (-0.1, 0.12), False, curl=(20, 50)),
    # at the head: grip from the keypoint, wrist from the grip
    "ear": _head(
        *("ear", (0.01, 0.06), (-0.06, 0.03), (0.01, 0.09)),
        wrist=((-0.03, 0.04), (-0.15, -0.08), (0.03, 0.13)),
        pole=((-0.3, 0.5), (-1, -1), (-0.1, 0.6)),
        palm=(-1, 0, -0.2),
        curl=(25, 50),
    ),
    "mouth": _head(
        *("nose", (-0.02, 0.04), (-0.08, -0.03), (0.02, 0.09)),
        wrist=((-0.01, 0.06), (-0.13, -0.06), (0.0, 0.08)),
        pole=((-0.2, 0.6), (-1, -1), (-0.2, 0.5)),
        palm=(-0.6, 0, -1),
        curl=(25, 50),
    ),
    "chin": _head(
        *("nose", (0.0, 0.05), (-0.11, -0.06), (-0.02, 0.02)),
        wrist=((0.0, 0.05), (-0.11, -0.06), (0.0, 0.06)),
        pole=((-0.1, 0.6), (-1, -1), (0.0, 0.6)),
        palm=(-0.5, 0.4, -1),
        curl=(30, 60),
    ),
    "temple": _head(
        *("ear", (-0.01, 0.04), (0.0, 0.08), (0.02, 0.08)),
        wrist=((0.0, 0.06), (-0.13, -0.06), (0.0, 0.08)),
        pole=((0.1, 0.9), (-1, -0.6), (-0.3, 0.4)),
        palm=(-1, 0.2, 0),
    ),
    "eyes": _head(
        *("eye", (0.0, 0.05), (-0.03, 0.03), (0.02, 0.06)),
        wrist=((0.02, 0.08), (-0.14, -0.07), (0.0, 0.07)),
        pole=((0.0, 0.7), (-1, -0.6), (-0.2, 0.4)),
        palm=(-0.6, 0, -1),
        curl=(20, 40),
    ),
    "hair": _head(
        *("ear", (-0.06, 0.04), (0.03, 0.12), (-0.06, 0.12)),
        wrist=((0.01, 0.08), (-0.08, 0.01), (0.0, 0.07)),
        pole=((0.0, 1.0), (-1, -0.4), (-0.1, 0.8)),
        palm=(-1, -0.3, 0),
    ),
    "nape": _head(
        *("ear", (-0.05, 0.0), (-0.02, 0.06), (-0.13, -0.09)),
        wrist=((0.05, 0.1), (-0.02, 0.03), (-0.02, 0.03)),
        pole=((0.8, 1.0), (0.0, 0.7), (0.0, 0.8)),
        palm=(-0.3, 0, 1),
    ),
    "shoulder": Zone(
        *((-0.2, -0.06), (0.0, 0.08), (0.1, 0.18)),
        frame="chest",
        wrist=((0.03, 0.09), (-0.08, -0.02), (0.02, 0.06)),
        pole=DOWN_POLE,
        palm=(-0.4, 0, -1),
    ),
    "crossed": Zone(
        *((-0.16, -0.06), (-0.26, -0.16), (0.2, 0.26)),
        frame="chest",
        wrist=((0.05, 0.09), (-0.03, 0.03), (-0.02, 0.02)),
        pole=((0.3, 0.8), (-1, -1), (-0.2, 0.2)),
        palm=(-0.2, 0, -1),
    ),
}
