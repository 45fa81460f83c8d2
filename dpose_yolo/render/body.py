"""The driver's body: MakeHuman shape from targets, a skeleton of 64 bones, linear blend skinning, 17 COCO keypoints.

Frame of all results: metres, origin at the middle of the hip joints (the seat's H-point), +x the driver's left, +y up,
+z forward. At rest the body stands upright and faces +z.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.render.rotations import unit

BODY_VERTICES = 13380  # the first ones of the base mesh; the rest are helper meshes and joint cubes
LEFT_EYE, RIGHT_EYE = slice(14598, 14670), slice(14670, 14742)
# Annotators mark the visible eye, not the ball's centre, and the tragus, not the rim of the ear.
FACE_OFFSETS = np.array([[0, 0, 0], [0, 0, 0.013], [0, 0, 0.013], [-0.01, -0.005, 0.017], [0.01, -0.005, 0.017]])
SIDES = {"L": 1.0, "R": -1.0}


@dataclass(frozen=True)
class Shape:
    """A body shape.

    `age`, `muscle`, `weight` and `height` lie in 0..1 (0.5 is the average), `people` are shares of African, Asian and
    Caucasian features that sum to 1, `stature` is in metres, `arms` and `head_forward` are weights of the targets that
    lengthen the arms and carry the head forward (MakeHuman's arms are short against anthropometric tables).
    """

    gender: str
    age: float
    muscle: float
    weight: float
    height: float
    people: tuple[float, float, float]
    stature: float
    upper_arms: float
    lower_arms: float
    head_forward: float
    neck: float


def draw_shape(rng: np.random.Generator) -> Shape:
    """Draw the body of an adult driver."""
    gender = "male" if rng.random() < 0.55 else "female"
    people = rng.dirichlet((0.25, 0.25, 0.25))
    stature = rng.normal(1.765, 0.075) if gender == "male" else rng.normal(1.64, 0.07)
    return Shape(
        gender=gender,
        age=float(rng.beta(0.6, 1.6)),
        muscle=float(rng.beta(2, 2)),
        weight=float(rng.beta(1.8, 1.8)),
        height=float(rng.uniform(0.3, 0.7)),
        people=(float(people[0]), float(people[1]), float(people[2])),
        stature=float(np.clip(stature, 1.48, 1.98)),
        upper_arms=float(rng.uniform(0.3, 0.95)),
        lower_arms=float(rng.uniform(0.0, 0.35)),
        head_forward=float(rng.uniform(0.4, 1.6)),
        neck=float(rng.uniform(0.0, 1.0)),
    )


class BodyModel:
    """Mesh, rig and shape targets as baked by `baking.bake_body`; read-only, shared by all bodies.

    Raises:
        DPoseError: the baked file is missing.
    """

    def __init__(self, path: Path):
        if not path.is_file():
            raise DPoseError(
                f"render: no body mesh in {path.parent}: run `dpose render assets` once (needs the network)"
            )
        with np.load(path) as arrays:
            self.vertices = arrays["vertices"].astype(np.float64)
            self.uv = arrays["uv"]
            self.faces = {name: arrays[f"{name}_faces"] for name in ("body", "tights", "hair", "eyes")}
            self.uv_faces = {name: arrays[f"{name}_uv_faces"] for name in ("body", "tights", "hair", "eyes")}
            self.bones = [str(name) for name in arrays["bones"]]
            self.parents = arrays["parents"].tolist()
            self.joints = arrays["joints"]
            self.weight_bones = arrays["weight_bones"].astype(int)
            self.weights = arrays["weights"].astype(np.float64)
            self.targets = arrays["targets"].astype(np.float32)
            self.target_index = {str(name): i for i, name in enumerate(arrays["target_names"])}
        self.index = {name: i for i, name in enumerate(self.bones)}
        self.below = {name: self._descendants(i) for name, i in self.index.items()}
        coarse = [i for name, i in self.index.items() if not name.startswith("finger") or "-1." in name]
        self.below_coarse = {name: [i for i in below if i in set(coarse)] for name, below in self.below.items()}
        skin = self.vertices[:BODY_VERTICES]
        self.crown, self.sole = int(skin[:, 1].argmax()), int(skin[:, 1].argmin())
        self._find_face()
        hull = np.arange(0, BODY_VERTICES, 37)
        self.hull = np.unique(np.r_[hull, self.crown, self.sole])
        # `sparse`: the few vertices that labels need, and where each use finds its own among them
        chosen = [self.joints.ravel(), self.face_vertices, np.r_[LEFT_EYE], np.r_[RIGHT_EYE], self.hull]
        self.sparse = np.unique(np.concatenate(chosen))
        self._sparse_targets = self.targets[:, self.sparse]

    def _descendants(self, bone: int) -> list[int]:
        found = {bone}
        for i, parent in enumerate(self.parents):
            if parent in found:
                found.add(i)
        return sorted(found)

    def _find_face(self) -> None:
        """Vertices of the nose tip and of both ears (the rim's outermost point)."""
        skin, eye = self.vertices[:BODY_VERTICES], self.vertices[LEFT_EYE].mean(0)
        x, below_eyes = skin[:, 0], skin[:, 1] - eye[1]
        nose = (abs(x) < 0.008) & (below_eyes < 0) & (below_eyes > -0.08)
        ears = (below_eyes < 0.005) & (below_eyes > -0.06) & (skin[:, 2] < eye[2] - 0.05)
        pick = lambda mask, score: int(np.flatnonzero(mask)[score[mask].argmax()])  # noqa: E731
        self.face_vertices = np.array([pick(nose, skin[:, 2]), pick(ears, x), pick(ears, -x)])

    def shape_weights(self, shape: Shape) -> dict[str, float]:
        """Weights of the shape targets: bilinear between the levels of muscle, weight and age, as in MakeHuman."""
        weights: dict[str, float] = {}
        ages = {"young": 1 - shape.age, "old": shape.age}
        for age, age_share in ages.items():
            for people, share in zip(("african", "asian", "caucasian"), shape.people, strict=True):
                weights[f"{people}-{shape.gender}-{age}"] = share * age_share
            for muscle, muscle_share in _levels(shape.muscle).items():
                for weight, weight_share in _levels(shape.weight).items():
                    stem, share = (
                        f"{shape.gender}-{age}-{muscle}muscle-{weight}weight",
                        age_share * muscle_share * weight_share,
                    )
                    weights[f"universal-{stem}"] = share
                    end = "max" if shape.height > 0.5 else "min"
                    weights[f"{stem}-{end}height"] = share * abs(2 * shape.height - 1)
        weights["measure-upperarm-length-incr"] = shape.upper_arms
        weights["measure-lowerarm-length-incr"] = shape.lower_arms
        weights["head-trans-forward"] = shape.head_forward
        weights["measure-neck-circ-decr"] = shape.neck
        return {name: weight for name, weight in weights.items() if weight > 1e-4}


def _levels(value: float) -> dict[str, float]:
    """Shares of the levels min, average and max for a value in 0..1."""
    shares = {"min": max(0.0, 1 - 2 * value), "max": max(0.0, 2 * value - 1)}
    shares["average"] = 1 - shares["min"] - shares["max"]
    return {name: share for name, share in shares.items() if share > 1e-4}


class Body:
    """One body that can be posed; without `fingers` their outer joints stay as they are, which labels do not show.

    Attributes:
        rotation: (B, 3, 3) global bone rotations, position: (B, 3) joints, both of the last `update`.
        local: bone name -> (3, 3) rotation against its parent; bones that are not named keep their rest rotation.
    """

    def __init__(self, model: BodyModel, shape: Shape, fingers: bool = True):
        self.model, self.shape = model, shape
        self._below = model.below if fingers else model.below_coarse
        self._weights = model.shape_weights(shape)
        chosen = [model.target_index[name] for name in self._weights]
        factors = np.array(list(self._weights.values()), np.float32)
        sparse = model.vertices[model.sparse] + np.einsum("n,nvk->vk", factors, model._sparse_targets[chosen])
        at = lambda index: sparse[np.searchsorted(model.sparse, index)]  # noqa: E731
        self.scale = shape.stature / float(at(model.crown)[1] - at(model.sole)[1])
        self.rest_joints = at(model.joints).mean(1) * self.scale
        self._hull_rest = at(model.hull) * self.scale
        nose, left_ear, right_ear = at(model.face_vertices) * self.scale
        eyes = [at(np.r_[eye]).mean(0) * self.scale for eye in (LEFT_EYE, RIGHT_EYE)]
        face = np.stack([nose, *eyes, left_ear, right_ear])
        self.face_rest = face + FACE_OFFSETS
        parents = np.array(model.parents)
        self.offsets = np.where(parents[:, None] >= 0, self.rest_joints - self.rest_joints[parents], self.rest_joints)
        self.local: dict[str, np.ndarray] = {}
        self.rotation = np.tile(np.eye(3), (len(parents), 1, 1))
        self.position = self.rest_joints.copy()

    def update(self, below: str | None = None) -> None:
        """Forward kinematics of all bones, or of the bone `below` and its descendants."""
        model, rotation, position = self.model, self.rotation, self.position
        for i in self._below[below or "root"]:
            parent = model.parents[i]
            local = self.local.get(model.bones[i])
            if parent < 0:
                rotation[i] = np.eye(3) if local is None else local
                position[i] = self.offsets[i]
            else:
                rotation[i] = rotation[parent] if local is None else rotation[parent] @ local
                position[i] = position[parent] + rotation[parent] @ self.offsets[i]

    def joint(self, bone: str) -> np.ndarray:
        """Position (3,) of a bone's joint."""
        return self.position[self.model.index[bone]].copy()

    def frame(self, bone: str) -> np.ndarray:
        """Global rotation (3, 3) of a bone."""
        return self.rotation[self.model.index[bone]].copy()

    def turn(self, bone: str, rotation: np.ndarray) -> None:
        """Turn a bone and all below it by a `rotation` (3, 3) in world axes about its joint."""
        index = self.model.index[bone]
        parent = self.rotation[self.model.parents[index]]
        self.local[bone] = parent.T @ rotation @ self.rotation[index]
        self.update(bone)

    def seat(self) -> None:
        """Move the body so that the middle of the hip joints is the origin."""
        middle = (self.joint("upperleg01.L") + self.joint("upperleg01.R")) / 2
        self.position -= middle
        self.offsets[0] -= middle  # the root's own place, which `update` starts from

    def on_bone(self, bone: str, rest: np.ndarray) -> np.ndarray:
        """Points (N, 3) given at rest, carried along rigidly by a bone."""
        index = self.model.index[bone]
        return (rest - self.rest_joints[index]) @ self.rotation[index].T + self.position[index]

    def keypoints(self) -> np.ndarray:
        """COCO keypoints (17, 3) in metres."""
        face = self.on_bone("head", self.face_rest)
        rows = list(face)
        for bone in ("upperarm01", "lowerarm01", "wrist", "upperleg01", "lowerleg01", "foot"):
            for side in "LR":
                point = self.joint(f"{bone}.{side}")
                if bone == "lowerarm01":  # annotators mark the elbow nearer to its tip than the joint's centre
                    point = point + 0.03 * unit(point - self.joint(f"upperarm01.{side}"))
                rows.append(point)
        return np.stack(rows)

    def hull(self) -> np.ndarray:
        """About 360 posed skin vertices (N, 3) that span the body; enough for a box."""
        return self._skin(self._hull_rest, self.model.hull)

    def rest_vertices(self) -> np.ndarray:
        """All vertices (19158, 3) of this shape at rest, helper meshes included."""
        offsets = sum(weight * self.model.targets[self.model.target_index[n]] for n, weight in self._weights.items())
        return (self.model.vertices + offsets) * self.scale

    def vertices(self, rest: np.ndarray) -> np.ndarray:
        """All vertices (19158, 3) of `rest_vertices` in the current pose."""
        return self._skin(rest, slice(None))

    def _skin(self, rest: np.ndarray, chosen) -> np.ndarray:
        """Linear blend skinning of rest vertices whose numbers in the mesh are `chosen`."""
        shift = self.position - np.einsum("bij,bj->bi", self.rotation, self.rest_joints)
        transforms = np.concatenate([self.rotation, shift[:, :, None]], 2).reshape(-1, 12)
        bones, weights = self.model.weight_bones[chosen], self.model.weights[chosen]
        blended = sum(weights[:, k, None] * transforms[bones[:, k]] for k in range(bones.shape[1]))
        blended = np.asarray(blended).reshape(-1, 3, 4)
        return np.einsum("vij,vj->vi", blended[:, :, :3], rest) + blended[:, :, 3]
