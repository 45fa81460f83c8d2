"""From the engine's labels to posture-balanced draws (paper 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.data.utils import check_image
from ultralytics.utils import LOGGER

from dpose_yolo.errors import DPoseError
from dpose_yolo.keypoints import names_of
from dpose_yolo.posture.features import posture_features
from dpose_yolo.posture.mixture import PostureMixture
from dpose_yolo.posture.weights import (
    balanced_probabilities,
    expected_counts,
    harden,
    image_responsibilities,
    labels_key,
)

FIT_METHOD = 2  # raised when the fit changes, so that mixtures of the old one are not reused
# Of clusters=by_size. A mixture of 40 poses in 31 clusters finds any data even, and has nothing to balance.
POSES_A_CLUSTER, MOST_CLUSTERS = 8, 32
BY_SIZE = f"clusters not given: one for every {POSES_A_CLUSTER} poses, {MOST_CLUSTERS} at most"
SEED_STEP = 1000  # between the seeds of the mixtures of one training, so that trainings with seeds 0, 1, 2 share none


def number_of_clusters(clusters: int | str, poses: int) -> int | str:
    """Number of clusters to fit: `by_size` is one for every 8 labelled poses, at least 1 and at most 32.

    Args:
        clusters: the setting; a number and `auto` are returned as they are.
        poses: poses with at least one labelled keypoint.
    """
    return max(1, min(MOST_CLUSTERS, poses // POSES_A_CLUSTER)) if clusters == "by_size" else clusters


@dataclass
class PoseTable:
    """All labelled persons of a data part.

    Attributes:
        keypoints: (P, K, 3) x, y in pixels and visibility flag.
        boxes: (P, 4) centre x, y, width, height in pixels.
        image: (P,) index of the person's image.
        files: N image paths.
        names: K keypoint names.
        scale: unit of the postures, as the setting `posture_scale`.
    """

    keypoints: np.ndarray
    boxes: np.ndarray
    image: np.ndarray
    files: list[str]
    names: list[str]
    scale: str = "box"

    def labelled_poses(self) -> int:
        """Number of poses with at least one labelled keypoint."""
        return int((self.keypoints[..., 2] > 0).any(1).sum())

    def features(self) -> np.ndarray:
        """(P, 2K) posture features (Eq. 2), NaN where unlabelled."""
        return posture_features(self.keypoints, self.boxes, scale=self.scale)


def pose_table(labels: Sequence[dict[str, Any]], names: Sequence[str] = (), scale: str = "box") -> PoseTable:
    """Collect the engine's label dicts (normalised, one an image) into one table in pixels."""
    counts = [len(lb["bboxes"]) for lb in labels]
    image = np.repeat(np.arange(len(labels)), counts)
    # With rect=True the engine takes the shapes out of the labels: they are then read from the image headers again.
    shapes = [lb["shape"] if "shape" in lb else check_image(lb["im_file"])[1] for lb in labels]  # (height, width)
    size = np.array([s[::-1] for s in shapes], dtype=np.float32).reshape(-1, 2)[image]  # (P, [w, h])
    keypoints = np.concatenate([lb["keypoints"] for lb in labels]).astype(np.float32)
    if keypoints.shape[-1] == 2:
        keypoints = np.concatenate([keypoints, np.full_like(keypoints[..., :1], 2)], -1)
    keypoints[..., :2] *= size[:, None]
    boxes = np.concatenate([lb["bboxes"] for lb in labels]).astype(np.float32) * np.tile(size, 2)
    names = list(names) or [str(k) for k in range(keypoints.shape[1])]
    return PoseTable(keypoints, boxes, image, [lb["im_file"] for lb in labels], names, scale)


def keypoint_names(data: dict[str, Any]) -> list[str]:
    """Keypoint names of a data YAML (`kpt_names`, a list or a dict by class), see `keypoints.names_of`."""
    return names_of(data.get("kpt_names"), data["kpt_shape"][0])


def posture_mixture(
    table: PoseTable, settings: dict[str, Any], seed: int = 0, where: str = "the data", cache: Path | None = None
) -> PostureMixture:
    """Fit the posture mixture of a training part, or reuse the saved one if the labels are the same.

    Args:
        table: the labelled persons.
        settings: DPOSE settings (`clusters`, `covariance`, `min_labelled`).
        seed: of the fit.
        where: what to call the data in messages.
        cache: folder and stem of the saved mixture; None neither reads nor writes. Keyed on label content, so touching
            or copying files does not refit and editing a label does.

    Raises:
        DPoseError: for data no mixture can be fitted to.
    """
    if not len(table.keypoints) or not (table.keypoints[..., 2] > 0).any():
        raise DPoseError(
            f"no keypoint is labelled in {where}: every visibility flag is 0, so there is nothing to learn; "
            "check that the labels are in YOLO-pose format with visibility 1 or 2"
        )
    refits = settings["refits"]
    drawing = {k: settings[k] for k in ("responsibility", "repeat_cap")} if refits else {}
    clusters = number_of_clusters(settings["clusters"], table.labelled_poses())
    parameters = {
        "clusters": clusters,
        "covariance": settings["covariance"],
        "scale": table.scale,
        "min_labelled": settings["min_labelled"],
        "seed": seed,
        "method": FIT_METHOD,
        **({"refits": refits, **drawing} if refits else {}),
    }
    key = labels_key(table.keypoints, table.boxes, parameters)
    path = cache.with_name(f"{cache.name}.postures.npz") if cache else None
    if path and path.is_file():
        try:
            saved = PostureMixture.load(path)
            if saved.key_ == key:
                return saved
        except DPoseError as error:
            LOGGER.warning(f"{error}; fitting again")
    features = table.features()
    mixture = _unfitted(table, settings, clusters, seed).fit(features, source=where)
    # BIC on balanced draws would count rare poses as often as they are drawn: the number is that of the data.
    clusters, curve = lowest_bic(mixture.bic_curve_), mixture.bic_curve_
    for _ in range(refits):
        rows = balanced_poses(table, posture_plan(table, mixture, {**drawing, "balance": 1.0, "balance_end": 1.0}))
        mixture = _unfitted(table, settings, clusters, seed).fit(features[rows], source=where)
        mixture.bic_curve_ = curve
    mixture.key_, mixture.keypoint_names_ = key, tuple(table.names)
    if path:
        try:
            mixture.save(path, key=key, keypoint_names=table.names)
        except DPoseError as error:  # a read-only data folder must not stop the training
            LOGGER.info(f"Postures: {error}; it will be fitted again next time")
    return mixture


def lowest_bic(curve: Mapping[int, float]) -> int:
    """Number of clusters with the lowest BIC; of equal ones, the smaller number."""
    return min(curve, key=lambda n: (curve[n], n))


def covariance_floor(table: PoseTable) -> float:
    """What is added to the covariances' diagonals, in squared feature units: raw offsets are in pixels."""
    return 1e-4 * (max(float(np.median(table.boxes[:, 2:].prod(1))), 1.0) if table.scale == "none" else 1.0)


def _unfitted(table: PoseTable, settings: dict[str, Any], clusters: int | str, seed: int) -> PostureMixture:
    return PostureMixture(
        clusters,
        covariance_type=settings["covariance"],
        reg_covar=covariance_floor(table),
        min_labelled=settings["min_labelled"],
        random_state=seed,
    )


def bic_curve(
    table: PoseTable, settings: dict[str, Any], numbers: Sequence[int] | None = None, seed: int = 0
) -> dict[int, float]:
    """BIC of mixtures of several numbers of clusters, fitted to the poses as they are (no refit on balanced draws).

    Args:
        table: the labelled persons.
        settings: DPOSE settings (`covariance`, `min_labelled`).
        numbers: numbers of clusters; None tries those that `clusters=auto` would.
        seed: of the fits.

    Raises:
        DPoseError: for more clusters than poses.
    """
    features = table.features()
    if numbers is None:
        return dict(_unfitted(table, settings, "auto", seed).fit(features).bic_curve_)
    curve: dict[int, float] = {}
    for n in sorted(set(numbers)):
        curve |= _unfitted(table, settings, n, seed).fit(features).bic_curve_
    return curve


@dataclass
class PosturePlan:
    """How often each image is to be drawn in an epoch, and why.

    Attributes:
        responsibilities: (N, C) of images, averaged over their persons.
        cluster: (N,) likeliest cluster of each image.
        expected: (N,) expected draws in an epoch.
        at_end: (N,) those in the last epochs, when the balance has faded to its `balance_end`.
    """

    responsibilities: np.ndarray
    cluster: np.ndarray
    expected: np.ndarray
    at_end: np.ndarray

    def shares(self, draws: np.ndarray) -> np.ndarray:
        """(C,) share of each cluster in (N,) counts of draws, by responsibility."""
        mass = draws @ self.responsibilities
        return mass / max(mass.sum(), 1e-12)

    def counts(self, draws: np.ndarray) -> np.ndarray:
        """(C,) draws whose likeliest cluster it is."""
        return np.bincount(self.cluster, weights=draws, minlength=self.responsibilities.shape[1])


def balanced_poses(table: PoseTable, plan: PosturePlan) -> np.ndarray:
    """Poses as often as their images are drawn: as many indices as there are poses, evenly spaced in the running sum.

    A mixture of likelihood puts its components where most poses are: a posture of ten images gets none of its own. One
    fitted to balanced draws sees that posture as often as any other.
    """
    draws = plan.expected[table.image].cumsum()
    count = len(table.image)
    return np.searchsorted(draws, (np.arange(count) + 0.5) * draws[-1] / count)


def image_posture(table: PoseTable, mixture: PostureMixture, settings: dict[str, Any]) -> np.ndarray:
    """(N, C) responsibilities of images: the mean over their persons, the mean of all where there is none."""
    person = mixture.predict_proba(table.features())
    if settings["responsibility"] == "hard":
        person = harden(person)  # persons, not images: a background image belongs to no cluster more than to another
    image = image_responsibilities(person, table.image, len(table.files), mixture.weights_)
    # The mean over the other images leaves images without a person exactly at their natural weight.
    empty = np.bincount(table.image, minlength=len(table.files)) == 0
    image[empty] = image[~empty].mean(0)
    return image


def posture_plan(table: PoseTable, mixture: PostureMixture, settings: dict[str, Any]) -> PosturePlan:
    """Expected draws of every image, from the mixture and `balance`, `balance_end`, `responsibility`, `repeat_cap`."""
    responsibilities = image_posture(table, mixture, settings)
    first, last = (
        expected_counts(balanced_probabilities(responsibilities, balance), len(table.files), settings["repeat_cap"])
        for balance in (settings["balance"], settings["balance"] * settings["balance_end"])
    )
    return PosturePlan(responsibilities, responsibilities.argmax(1), first, last)


def posture_mixtures(
    table: PoseTable, settings: dict[str, Any], seed: int = 0, where: str = "the data", cache: Path | None = None
) -> list[PostureMixture]:
    """The posture mixture of a training part, and the others whose draws are averaged with its (`mixtures`).

    Arguments and errors are those of `posture_mixture`, which gives the first: the one that is shown and kept with a
    run.
    Natural draws (`balance=0`) need no other.
    """
    count = settings["mixtures"] if settings["balance"] > 0 else 1
    caches = [cache.with_name(f"{cache.name}.{i + 1}") if cache and i else cache for i in range(count)]
    return [posture_mixture(table, settings, seed + i * SEED_STEP, where, kept) for i, kept in enumerate(caches)]


def averaged_plan(table: PoseTable, mixtures: Sequence[PostureMixture], settings: dict[str, Any]) -> PosturePlan:
    """The plan of the first mixture, with expected draws that are the mean over all of them.

    Fits from different starts cut the postures differently, and with even draws a posture that happens to share a
    component with a common one is rare again. The mean keeps what the fits agree on and spreads the draws over more
    images.
    """
    plan = posture_plan(table, mixtures[0], settings)
    plans = [plan, *(posture_plan(table, mixture, settings) for mixture in mixtures[1:])]
    plan.expected, plan.at_end = (
        np.mean(draws, axis=0) for draws in ([p.expected for p in plans], [p.at_end for p in plans])
    )
    return plan
