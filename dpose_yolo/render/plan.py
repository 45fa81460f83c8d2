"""Which scenes a set consists of: image i follows from the seed and i alone, whatever process renders it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.keypoints import COCO_NAMES, coco_sigmas
from dpose_yolo.render.scene import SceneSpec

SIGMAS = np.array(coco_sigmas(COCO_NAMES))
BATCH = 16  # images of a job: what an interruption costs a worker at most


@dataclass(frozen=True)
class Wanted:
    """A posture to render.

    Attributes:
        name: of the posture or cluster, for the record.
        images: how many.
        postures: names of postures of the renderer to start from.
        weights: of these names, summing to 1.
        targets: (M, 17, 3) keypoints to show, x and y in shares of the box, and visibility; M = 0 for none.
        ratios: (M,) width by height of their boxes in pixels.
    """

    name: str
    images: int
    postures: tuple[str, ...]
    weights: tuple[float, ...]
    targets: np.ndarray = field(default_factory=lambda: np.zeros((0, 17, 3)))
    ratios: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class ScenePlan:
    """All scenes of a set.

    Attributes:
        wanted: postures and their numbers of images.
        seed: of the set.
        cameras: cameras of the renderer, of which each image takes one; None stands for its own distribution.
        look: colour, infrared or mixed.
        size: width and height of the images, pixels.
        licence: any or cc0.
        val: share of the images that form the validation part.
        tries: labels that are drawn for an image with a target; the nearest to the target is rendered.
    """

    wanted: tuple[Wanted, ...]
    seed: int = 0
    cameras: tuple[Any, ...] = (None,)
    look: str = "colour"
    size: tuple[int, int] = (640, 480)
    licence: str = "any"
    val: float = 0.0
    tries: int = 1

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(w.images for w in self.wanted)

    def order(self) -> np.ndarray:
        """(images,) index into `wanted` of each image, as even along the set as can be."""
        counts = np.array([w.images for w in self.wanted])
        places = [(np.arange(n) + 0.5) / n for n in counts if n]
        owner = np.repeat(np.arange(len(counts)), counts)
        return owner[np.lexsort((owner, np.concatenate(places)))] if places else owner

    def jobs(self) -> list[range]:
        """Image numbers of each job."""
        return [range(at, min(at + BATCH, self.images)) for at in range(0, self.images, BATCH)]

    def part(self, i: int) -> str:
        """Part of image i: train, or every 1/val-th image val."""
        return "val" if int((i + 1) * self.val) > int(i * self.val) else "train"

    def scenes(self, i: int, wanted: Wanted) -> tuple[list[SceneSpec], float]:
        """Candidates for image i, which differ in their seeds only, and width by height of the target's box."""
        rng = np.random.default_rng([self.seed, i])
        posture = str(rng.choice(wanted.postures, p=wanted.weights))
        target, ratio = None, 1.0
        if len(wanted.targets):
            m = int(rng.integers(len(wanted.targets)))
            target, ratio = wanted.targets[m], float(wanted.ratios[m])
        seeds = rng.integers(2**62, size=self.tries if target is not None else 1)
        camera = self.cameras[int(rng.integers(len(self.cameras)))]
        fixed = (posture, camera, self.look, self.size, self.licence, target)
        return [SceneSpec(int(seed), *fixed) for seed in seeds], ratio

    def digest(self) -> str:
        """Hash of everything that decides about the images."""
        sha = hashlib.sha256(repr((self.seed, self.cameras, self.look, self.size, self.licence)).encode())
        sha.update(repr((self.val, self.tries)).encode())
        for w in self.wanted:
            sha.update(repr((w.name, w.images, w.postures, w.weights)).encode())
            sha.update(np.ascontiguousarray(w.targets, "<f8").tobytes())
        return sha.hexdigest()


def evenly(names: Sequence[str], images: int) -> tuple[Wanted, ...]:
    """The named postures, each equally often; what is left over goes to the first of them."""
    each, more = divmod(images, len(names))
    return tuple(Wanted(name, each + (i < more), (name,), (1.0,)) for i, name in enumerate(names))


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
