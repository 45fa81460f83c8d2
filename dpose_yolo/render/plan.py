"""Which scenes a set consists of, decided before anything is rendered: image i does not depend on who renders it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.keypoints import COCO_NAMES, coco_sigmas
from dpose_yolo.render.scene import SceneSpec

SIGMAS = np.array(coco_sigmas(COCO_NAMES))
BATCH = 16  # images of a job: what an interruption costs a worker at most


@dataclass(frozen=True)
class ScenePlan:
    """All scenes of a set.

    Attributes:
        scenes: one an image.
        wanted: what each is rendered for: a posture or a cluster.
        val: share of the images that form the validation part.
    """

    scenes: tuple[SceneSpec, ...]
    wanted: tuple[str, ...]
    val: float = 0.0

    def jobs(self) -> list[range]:
        """Image numbers of each job."""
        count = len(self.scenes)
        return [range(at, min(at + BATCH, count)) for at in range(0, count, BATCH)]

    def part(self, i: int) -> str:
        """Part of image i: train, or every 1/val-th image val."""
        return "val" if int((i + 1) * self.val) > int(i * self.val) else "train"

    def digest(self) -> str:
        """Hash of everything that decides about the images."""
        sha = hashlib.sha256(repr(self.val).encode())
        for scene, wanted in zip(self.scenes, self.wanted, strict=True):
            sha.update(repr((replace(scene, target=None), wanted)).encode())
            if scene.target is not None:
                sha.update(np.ascontiguousarray(scene.target, "<f8").tobytes())
        return sha.hexdigest()


def posture_scenes(
    names: Sequence[str], images: int, seed: int, cameras: Sequence[Any], base: Mapping[str, Any]
) -> list[SceneSpec]:
    """Scenes of the named postures, each equally often; scene i follows from the seed and i alone.

    Args:
        names: postures.
        images: number of scenes.
        seed: of the set.
        cameras: of which each scene takes one; None stands for any.
        base: fields that all scenes have: look, size, licence.
    """
    scenes = []
    for i in range(images):
        rng = np.random.default_rng([seed, i])
        camera = cameras[int(rng.integers(len(cameras)))]
        scenes.append(SceneSpec(int(rng.integers(2**62)), names[i % len(names)], camera, **base))
    return scenes


def spread_out(counts: Sequence[int]) -> np.ndarray:
    """(sum,) index of the group of each place, so that every group is spread evenly over the places."""
    places = [(np.arange(n) + 0.5) / n for n in counts if n]
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner[np.lexsort((owner, np.concatenate(places)))] if places else owner


def whole_shares(shares: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers in proportion to shares that sum to `total`, the largest remainders rounded up."""
    exact = np.asarray(shares, np.float64) * total
    counts = np.floor(exact + 1e-9).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: total - int(counts.sum())]] += 1
    return counts


def chosen_postures(given: Any, known: Sequence[str]) -> list[str]:
    """Names of `postures=all` or `postures=NAME,...`.

    Raises:
        DPoseError: for a name that the renderer does not know, or one given twice.
    """
    import difflib

    if given in (None, "all"):
        return list(known)
    names = [str(n).strip() for n in (given if isinstance(given, list) else str(given).split(","))]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"use all, rare or some of {', '.join(sorted(known))}"
            raise DPoseError(f"no posture {name!r}: {hint}")
    if len(set(names)) < len(names):
        raise DPoseError(f"postures={','.join(names)} names a posture twice")
    return names
