"""Named driver postures, each a distribution of poses."""

from dataclasses import dataclass, field

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.render.zones import ZONES, Range

WHEEL = "wheel"


@dataclass(frozen=True)
class Posture:
    """Distribution of one posture in a left-hand drive car.

    Attributes:
        right, left: zones of the hands with their shares, e.g. {"gear": 1.0}; "wheel" is the steering wheel's rim.
        lean, side, twist: ranges in degrees added to the torso: forward, towards the passenger, towards the window.
        yaw, pitch: ranges in degrees added to the head: towards the window, downward.
        prop: what is held ("" for nothing) and its probability; `hand` is the hand that holds it, "both" for two.
        legs: "pedals", "near" (both feet near the seat), "up" (on the dashboard) or "spread".
        partner: the posture whose mirror image this one is in a right-hand drive car; "" for the posture itself.
        weight: share in draws over all postures.
    """

    right: dict[str, float]
    left: dict[str, float]
    lean: Range = (0, 0)
    side: Range = (0, 0)
    twist: Range = (0, 0)
    yaw: Range = (0, 0)
    pitch: Range = (0, 0)
    prop: str = ""
    hand: str = "R"
    prop_share: float = 0.85
    legs: str = "pedals"
    partner: str = ""
    weight: float = 1.0


@dataclass
class Hand:
    """Goal of one hand: see `zones.Zone` for the frames; `direction` is the wrist's offset from the grip point."""

    frame: str
    anchor: str
    grip: np.ndarray
    direction: np.ndarray | None
    pole: np.ndarray
    palm: np.ndarray | None
    curl: float
    spread: np.ndarray


@dataclass
class Pose:
    """One pose in numbers: angles in degrees, points in metres about the H-point.

    `neck` carries the head forward of the shoulders. `feet` are ankle targets (2, 3), left first; `knees` opens the
    legs. `prop` and `prop_hand` are what is held.
    """

    recline: float
    lean: float = 0.0
    side: float = 0.0
    twist: float = 0.0
    hip_yaw: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    neck: float = 0.0
    hands: dict[str, Hand] = field(default_factory=dict)
    feet: np.ndarray = field(default_factory=lambda: np.zeros((2, 3)))
    knees: np.ndarray = field(default_factory=lambda: np.zeros(2))
    sole: float = 0.0
    prop: str = ""
    prop_hand: str = "R"


def _p(right, left=WHEEL, **options) -> Posture:
    """Short form for the table: a zone name stands for that zone alone."""
    share = lambda zones: {zones: 1.0} if isinstance(zones, str) else zones  # noqa: E731
    return Posture(share(right), share(left), **options)


REST = {"wheel": 0.6, "lap": 0.12, "thigh": 0.1, "sill": 0.18}  # a left hand that has nothing to do
FREE = {"wheel": 0.5, "lap": 0.2, "thigh": 0.15, "gear": 0.15}  # a right hand that has nothing to do
POSTURES: dict[str, Posture] = {
    # driving
    "safe_driving": _p(WHEEL, WHEEL, weight=2),
    "drive_two_hands": _p(WHEEL, WHEEL, weight=2),
    "drive_one_hand_lap": _p({"lap": 0.6, "thigh": 0.4}, WHEEL),
    "drive_right_hand": _p(WHEEL, {"lap": 0.3, "thigh": 0.3, "sill": 0.4}),
    "drive_left_gear": _p("gear", WHEEL),
    "mirror_check": _p(FREE, REST, yaw=(-60, 45), pitch=(-12, 4)),
    "shoulder_check": _p(FREE, REST, yaw=(30, 75), twist=(0, 20)),
    "reverse_look_back": _p({"seatback": 0.7, "behind": 0.3}, WHEEL, yaw=(-95, -40), twist=(-40, -12), side=(0, 10)),
    "looking_around": _p(FREE, REST, yaw=(-70, 60), pitch=(-10, 15)),
    "talking_to_passenger": _p({**FREE, "point": 0.15}, REST, yaw=(-80, -20), twist=(-12, 2), weight=2),
    # phone
    "phone_right": _p("ear", REST, prop="phone", partner="phone_left", weight=2),
    "phone_left": _p(FREE, "ear", prop="phone", hand="L", partner="phone_right", weight=2),
    "texting_right": _p("hold", REST, prop="phone", pitch=(0, 26), yaw=(-18, 4), partner="texting_left", weight=2),
    "texting_left": _p(
        FREE, "hold", prop="phone", hand="L", pitch=(0, 26), yaw=(-6, 14), partner="texting_right", weight=2
    ),
    "texting": _p("hold", "hold", prop="phone", pitch=(4, 30)),
    "phone_speaker": _p({"mouth": 0.5, "chest": 0.5}, REST, prop="phone", pitch=(0, 12)),
    "phone_shoulder": _p(WHEEL, "ear", prop="phone", hand="L", side=(-8, 0), pitch=(-5, 5)),
    # eating, drinking, smoking
    "drinking": _p({"mouth": 0.65, "sip": 0.35}, REST, prop="cup", pitch=(-22, 6), weight=2),
    "drinking_bottle": _p("mouth", REST, prop="bottle", pitch=(-30, 0)),
    "drinking_left": _p(FREE, "mouth", prop="cup", hand="L", pitch=(-22, 6), partner="drinking"),
    "opening_bottle": _p("chest", "chest", prop="bottle", hand="L", pitch=(5, 30)),
    "closing_bottle": _p("chest", "chest", prop="bottle", hand="L", pitch=(0, 25)),
    "eating": _p({"mouth": 0.7, "chest": 0.3}, REST, prop="food", pitch=(0, 15)),
    "preparing_food": _p("hold", "hold", prop="food", pitch=(10, 35)),
    "smoking": _p({"mouth": 0.6, "chest": 0.2, "hold": 0.2}, REST, prop="cigarette"),
    "smoking_window": _p(FREE, {"sill": 0.5, "mouth": 0.5}, prop="cigarette", hand="L"),
    # reading, working
    "reading": _p("book", "book", prop="book", hand="both", pitch=(10, 35)),
    "reading_newspaper": _p("book", "book", prop="newspaper", hand="both", pitch=(5, 25)),
    "tablet": _p("book", "book", prop="tablet", hand="both", pitch=(8, 32)),
    "laptop": _p("keyboard", "keyboard", prop="laptop", hand="lap", prop_share=1.0, pitch=(10, 30), legs="near"),
    "writing": _p("keyboard", "hold", prop="pen", pitch=(12, 35)),
    # grooming
    "hair_makeup": _p({"hair": 0.5, "eyes": 0.2, "mouth": 0.15, "temple": 0.15}, REST, pitch=(-12, 8), weight=2),
    "hair_left": _p(FREE, {"hair": 0.7, "temple": 0.3}, pitch=(-8, 8), partner="hair_makeup"),
    "hair_both": _p("hair", "hair", pitch=(-8, 15)),
    "glasses_adjust": _p({"eyes": 0.6, "temple": 0.4}, REST),
    "putting_on_glasses": _p(
        {"eyes": 0.4, "temple": 0.6}, {"eyes": 0.4, "temple": 0.6}, prop="glasses", prop_share=0.4
    ),
    "rubbing_face": _p({"chin": 0.5, "mouth": 0.3, "eyes": 0.2}, REST),
    "elbow_sill_chin": _p(FREE, {"chin": 0.6, "temple": 0.4}, side=(-10, 0)),
    # controls
    "radio": _p(
        {"radio": 0.55, "console": 0.45}, REST, lean=(0, 14), side=(0, 6), yaw=(-35, 0), pitch=(0, 14), weight=2
    ),
    "multimedia": _p({"radio": 0.6, "point": 0.4}, REST, yaw=(-35, -5), pitch=(0, 12)),
    "visor": _p("visor", REST, pitch=(-18, 0)),
    "overhead_switch": _p("overhead", REST, pitch=(-25, -5)),
    "door_handle": _p(FREE, "door", yaw=(5, 45), side=(-8, 0)),
    "belt_pull": _p({"belt": 0.5, "chest": 0.5}, "belt", yaw=(15, 60), twist=(0, 20)),
    "belt_buckle": _p("buckle", {"buckle": 0.4, "lap": 0.6}, yaw=(-40, -5), pitch=(10, 35), side=(0, 8)),
    # reaching
    "reaching_behind": _p("behind", REST, twist=(-40, -10), side=(-3, 12), yaw=(-60, 0), weight=2),
    "rear_reach": _p("rear", REST, twist=(-55, -20), side=(0, 18), yaw=(-80, -20)),
    "passenger_reach": _p("passenger", REST, side=(4, 22), twist=(-20, 0), yaw=(-60, -10), pitch=(0, 20)),
    "glovebox": _p("glovebox", REST, lean=(12, 40), side=(8, 28), twist=(0, 15), yaw=(-50, -5), pitch=(0, 20)),
    "fetching_object": _p(
        {"passenger": 0.5, "glovebox": 0.3, "floor": 0.2}, REST, side=(0, 15), yaw=(-50, 0), pitch=(0, 20)
    ),
    "placing_object": _p({"passenger": 0.6, "gear": 0.4}, REST, prop="bag", side=(0, 14), yaw=(-50, -5), pitch=(0, 20)),
    "holding_bag": _p("lap", "lap", prop="bag", hand="lap", pitch=(0, 25)),
    "bend_down": _p({"floor": 0.8, "lap": 0.2}, {"floor": 0.4, "wheel": 0.4, "lap": 0.2}, lean=(25, 60), pitch=(5, 30)),
    # gestures and rest
    "wave_left": _p(FREE, "wave", yaw=(0, 50), partner="wave_right"),
    "wave_right": _p("wave", REST, yaw=(-30, 10), partner="wave_left"),
    "pointing": _p("point", REST, yaw=(-30, 10)),
    "arm_out_window": _p(FREE, "outside", yaw=(0, 60), side=(-10, 0)),
    "hands_behind_head": _p("nape", "nape", pitch=(-15, 5), legs="near"),
    "stretch_up": _p("up", "up", pitch=(-25, 5)),
    "hands_crossed": _p("crossed", "crossed", legs="near"),
    "hands_in_lap": _p({"lap": 0.5, "thigh": 0.5}, {"lap": 0.5, "thigh": 0.5}, legs="near"),
    "sleeping": _p(
        {"lap": 0.6, "thigh": 0.4},
        {"lap": 0.6, "thigh": 0.4},
        pitch=(5, 45),
        side=(-12, 12),
        yaw=(-35, 35),
        legs="near",
    ),
    "putting_on_jacket": _p(
        {"shoulder": 0.5, "behind": 0.2, "up": 0.3}, {"shoulder": 0.5, "aside": 0.5}, lean=(5, 25), twist=(-20, 20)
    ),
    # out of position
    "leaning_window": _p(FREE, {"sill": 0.5, "temple": 0.3, "lap": 0.2}, side=(-30, -12), yaw=(-10, 40)),
    "leaning_passenger": _p({"gear": 0.5, "passenger": 0.5}, REST, side=(14, 38), yaw=(-50, 10)),
    "slumped": _p(
        {"lap": 0.5, "thigh": 0.5}, {"lap": 0.5, "thigh": 0.5}, lean=(-12, 10), side=(-25, 25), pitch=(15, 50)
    ),
    "bent_forward": _p({"wheel": 0.5, "lap": 0.5}, {"wheel": 0.5, "lap": 0.5}, lean=(30, 60), pitch=(-20, 25)),
    "feet_up": _p({"lap": 0.5, "thigh": 0.5}, {"lap": 0.4, "sill": 0.6}, lean=(-10, 0), legs="up"),
    "arms_out": _p({"front": 0.6, "aside": 0.4}, {"front": 0.6, "aside": 0.4}),
    "turned_rear": _p(
        {"seatback": 0.5, "rear": 0.5}, {"wheel": 0.3, "seatback": 0.7}, twist=(-70, -30), yaw=(-80, -20)
    ),
}


def find_posture(name: str) -> Posture:
    """The posture of that name.

    Raises:
        DPoseError: an unknown name; the nearest one is suggested.
    """
    if name not in POSTURES:
        from difflib import get_close_matches

        near = get_close_matches(name, POSTURES, 1)
        hint = f"did you mean '{near[0]}'?" if near else "see dpose_yolo.render.POSTURES"
        raise DPoseError(f"render: no posture '{name}': {hint}")
    return POSTURES[name]


def draw_pose(
    name: str, rng: np.random.Generator, recline: float, rim, side: str = "left", floor: float = -0.3
) -> Pose:
    """Draw one pose of a posture.

    Args:
        name: key of `POSTURES`.
        rng: source of chance.
        recline: angle of the backrest in degrees.
        rim: function of an angle in degrees that returns the point (3,) on the steering wheel.
        side: "right" draws for a right-hand drive car: the pose is that of the mirrored scene, whose mirror image
            shows the posture of this name.
        floor: height of the heels against the H-point.

    Raises:
        DPoseError: an unknown posture.
    """
    posture = find_posture(name)
    if side == "right" and posture.partner:
        posture = POSTURES[posture.partner]
    uniform, normal = rng.uniform, rng.normal
    yaw = normal(-5, 13) if rng.random() < 0.8 else uniform(-70, 45)
    if posture.yaw != (0, 0):
        yaw = normal(0, 8)
    zones = {side_: _pick(rng, getattr(posture, hand)) for side_, hand in (("L", "left"), ("R", "right"))}
    pose = Pose(
        recline=recline,
        lean=uniform(0, 20) + uniform(*posture.lean),
        side=normal(0, 4) + uniform(*posture.side),
        twist=normal(-6, 8) + uniform(*posture.twist),
        hip_yaw=normal(0, 3),
        yaw=yaw + uniform(*posture.yaw),
        pitch=normal(-1, 8) + uniform(*posture.pitch),
        roll=normal(2, 5),
        neck=uniform(-2, 48),
        sole=uniform(0, 35),
    )
    for hand, sign in (("L", 1.0), ("R", -1.0)):
        pose.hands[hand] = _draw_hand(zones[hand], hand, sign, rng, rim)
    pose.feet, pose.knees = _draw_legs(posture.legs, rng, floor)
    if posture.prop and rng.random() < posture.prop_share:
        pose.prop, pose.prop_hand = posture.prop, posture.hand
    return pose


def _pick(rng: np.random.Generator, shares: dict[str, float]) -> str:
    names = list(shares)
    weights = np.array([shares[name] for name in names])
    return names[rng.choice(len(names), p=weights / weights.sum())]


def _draw_hand(name: str, side: str, sign: float, rng: np.random.Generator, rim) -> Hand:
    uniform = rng.uniform
    outward = np.array([sign, 1.0, 1.0])
    spread = rng.uniform(0.7, 1.1, 5)
    if name == WHEEL:
        low, high = (-10, 115) if side == "L" else (65, 190)
        if side == "R" and rng.random() < 0.5:
            low, high = 115, 275
        angle = uniform(40, 140) if rng.random() < 0.1 else uniform(low, high)
        pole = np.array([uniform(-0.15, 0.5), -1, uniform(-0.3, 0.3)]) * outward
        return Hand("seat", "", rim(angle), None, pole, np.array([-0.3 * sign, -0.7, 0.6]), uniform(30, 60), spread)
    zone = ZONES[name]
    grip = np.array([uniform(*zone.x), uniform(*zone.y), uniform(*zone.z)])
    wrist = np.array([uniform(*limits) for limits in zone.wrist])
    pole = unit_draw(rng, zone.pole) * outward
    palm = None if zone.palm is None else (np.array(zone.palm) + rng.normal(0, 0.3, 3)) * outward
    if zone.mirrored:
        grip, wrist = grip * outward, wrist * outward
    direction = wrist if zone.frame != "seat" else None
    return Hand(zone.frame, zone.anchor, grip, direction, pole, palm, uniform(*zone.curl), spread)


def unit_draw(rng: np.random.Generator, ranges) -> np.ndarray:
    """Draw a vector (3,) from three ranges."""
    return np.array([rng.uniform(*limits) for limits in ranges])


def _draw_legs(kind: str, rng: np.random.Generator, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Ankle targets (2, 3), left first, and the openings of the knees (2,)."""
    uniform = rng.uniform
    ankle = floor + 0.08
    left = [uniform(0.08, 0.2), ankle + uniform(-0.02, 0.05), uniform(0.5, 0.8)]
    right = [uniform(-0.16, -0.02), ankle + uniform(0, 0.1), uniform(0.6, 0.85)]
    if kind == "near":
        right = [uniform(-0.2, -0.05), ankle, uniform(0.4, 0.7)]
    if kind == "up":
        side = rng.integers(0, 3)
        raised = [uniform(0.0, 0.2), uniform(0.2, 0.42), uniform(0.65, 0.85)]
        left = raised if side != 1 else left
        right = [-uniform(0.05, 0.3), *raised[1:]] if side != 0 else right
    return np.array([left, right]), np.array([uniform(-0.1, 0.7), uniform(-0.1, 0.7)])
