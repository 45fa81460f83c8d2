"""From responsibilities to expected draws an epoch (paper section 3.2, uniform sampling over the postures).

All functions take responsibilities as (N, C) rows that sum to one, of poses or of images.
"""

import hashlib
import json
import math
from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError

EMPTY_MASS = 1e-3  # poses; below it a component's mass is the rounding tail of others, and nobody's posture

# From three sets (docs/balance.md, "When it pays"): balance paid at 0.81, not for certain at 0.94, not at 0.96.
NEARLY_EVEN = 0.95
ENOUGH_POSES = 16  # a cluster, on average: the share of such a cluster is known to about a quarter of itself


def harden(resp: np.ndarray) -> np.ndarray:
    """Hard assignment (N, C): 1 at each row's largest responsibility, 0 elsewhere."""
    resp = _check(resp)
    hard = np.zeros_like(resp)
    hard[np.arange(len(resp)), resp.argmax(1)] = 1.0
    return hard


def component_masses(resp: np.ndarray) -> np.ndarray:
    """M_j = sum_i r_ij (C,): how many poses (or images) each component holds."""
    return _check(resp).sum(0)


def balanced_probabilities(resp: np.ndarray, balance: float = 1.0, hard: bool = False) -> np.ndarray:
    """Drawing probability of each row by ancestral sampling: a component by its target mass, then a row in it.

        t_j = (1 - balance) * pi_j + balance / C'        p_i = sum_j t_j r_ij / M_j

    pi_j = M_j / N is the component's natural mass, C' the number of components that hold anything; an empty
    one gets nothing. balance = 0 is exactly uniform over the rows, balance = 1 exactly even over the
    components.

    Args:
        resp: (N, C) responsibilities.
        balance: 0 (natural distribution) to 1 (even).
        hard: assign each row to its likeliest component first. For images with several persons, or without
            any, `harden` the poses before `image_responsibilities` instead: an image without persons belongs
            to no one component and would be counted as the most common posture.

    Returns:
        (N,) float64 that sums to 1.

    Raises:
        DPoseError: balance outside [0, 1], rows that are no responsibilities, no rows.
    """
    if not 0.0 <= balance <= 1.0:
        raise DPoseError(f"balance={balance} is outside [0, 1]: 0 is the natural distribution, 1 even over clusters")
    resp = harden(resp) if hard else _check(resp)
    n = len(resp)
    if balance == 0.0:
        return np.full(n, 1.0 / n)
    masses = resp.sum(0)
    held = masses > EMPTY_MASS
    if not held.any():
        return np.full(n, 1.0 / n)
    target = ((1 - balance) * masses[held] / masses[held].sum()) + balance / held.sum()
    p = resp[:, held] @ (target / masses[held])
    return p / p.sum()


def image_responsibilities(resp: np.ndarray, image_index: np.ndarray, n_images: int, mixing: np.ndarray) -> np.ndarray:
    """Responsibilities of images: the mean over an image's persons.

    A mean (not a sum) keeps every image one unit of mass, so a crowd does not outweigh a driver. Images
    without persons get `mixing`, the natural distribution: with p_i = sum_j t_j r_ij / M_j and M_j close to N
    pi_j their probability stays close to sum_j t_j / N = 1/N. Background images are neither boosted nor
    starved, whatever the balance.

    Args:
        resp: (P, C) responsibilities of the persons.
        image_index: (P,) image number of each person, 0 <= index < n_images.
        n_images: number of images N.
        mixing: (C,) distribution for images without persons, the mixture's `weights_`.

    Returns:
        (N, C) float64.
    """
    mixing = np.asarray(mixing, np.float64)
    resp = _check(resp) if len(resp) else np.zeros((0, len(mixing)))
    image_index = np.asarray(image_index, np.int64)
    if image_index.shape != (len(resp),) or resp.shape[1] != len(mixing):
        raise DPoseError(
            f"{len(resp)} persons of {resp.shape[1]} clusters, but {len(image_index)} image numbers and "
            f"{len(mixing)} mixing weights: they belong to different fits or label sets"
        )
    if len(image_index) and (image_index.min() < 0 or image_index.max() >= n_images):
        raise DPoseError(f"image numbers run from {image_index.min()} to {image_index.max()}, not in 0..{n_images - 1}")
    persons = np.bincount(image_index, minlength=n_images)
    sums = np.stack([np.bincount(image_index, resp[:, j], n_images) for j in range(len(mixing))], axis=1)
    means = sums / np.maximum(persons, 1)[:, None]
    means[persons == 0] = mixing / mixing.sum()
    return means


def expected_counts(p: np.ndarray, epoch_length: int, repeat_cap: float = math.inf) -> np.ndarray:
    """Expected draws of each image in an epoch, none above `repeat_cap`.

    e_i = min(cap, s * p_i) with s such that the sum stays epoch_length: what a capped image loses goes to the
    others in proportion. So a mislabelled outlier, alone in its cluster, is not shown a hundred times an
    epoch.

    Args:
        p: (N,) drawing probabilities.
        epoch_length: draws in an epoch E.
        repeat_cap: most draws of one image in an epoch (a fractional cap is kept on average, its ceiling
            always).

    Returns:
        (N,) float64 that sums to E.

    Raises:
        DPoseError: the images under the cap cannot fill the epoch, or nonsensical input.
    """
    p = np.asarray(p, np.float64)
    if p.ndim != 1 or not np.isfinite(p).all() or (p < 0).any() or not p.sum() > 0:
        raise DPoseError("drawing probabilities have to be finite, >= 0 and not all zero")
    if epoch_length < 1 or not repeat_cap > 0:
        raise DPoseError(f"epoch_length={epoch_length} and repeat_cap={repeat_cap} have to be at least 1 and above 0")
    able = int((p > 0).sum())
    if repeat_cap * able < epoch_length:
        raise DPoseError(
            f"repeat_cap={repeat_cap:g} times {able} images is less than the epoch of {epoch_length} draws: "
            f"set repeat_cap to at least {math.ceil(epoch_length / able)} or shorten the epoch"
        )
    expected, free = np.zeros(len(p)), p > 0
    while free.any():  # each pass caps at least one more image; a handful of passes in practice
        capped = able - int(free.sum())
        left = epoch_length - (repeat_cap * capped if capped else 0.0)
        expected[free] = p[free] * (left / p[free].sum())
        over = free & (expected > repeat_cap)
        if not over.any():
            break
        expected[over] = repeat_cap
        free &= ~over
    return expected


def evenness(shares: np.ndarray) -> float:
    """Entropy of shares over its largest value: 1 where all are alike, towards 0 where one has everything.

    Args:
        shares: (C,) shares or counts, >= 0, not all zero.
    """
    share = np.asarray(shares, np.float64) / np.sum(shares)
    if len(share) == 1:
        return 1.0
    return float(-(share * np.log(np.maximum(share, 1e-300))).sum() / math.log(len(share)))


def evenness_told(natural: np.ndarray, drawn: np.ndarray, balance: float, poses: int) -> str:
    """How even the postures are by themselves and as drawn, and whether balance can be expected to pay.

    Args:
        natural, drawn: (C,) share of each cluster in the images and in the draws.
        balance: the setting.
        poses: that the clusters were counted from; with few in a cluster their evenness is chance, and nothing is
            concluded from it.
    """
    own = evenness(natural)
    told = f"evenness of the clusters (1 is even) {own:.3f}, drawn {evenness(drawn):.3f}"
    if own < NEARLY_EVEN or balance == 0 or poses < ENOUGH_POSES * len(natural):
        return told
    return f"{told}: nearly even by themselves, so that balance has little to give; compare with balance=0"


def labels_key(keypoints: np.ndarray, boxes: np.ndarray, params: dict[str, Any]) -> str:
    """Content key (sha256, 64 hex digits) of labels and settings.

    A saved mixture is reused while this key stays the same: it depends on what the labels say, in which
    order, and on the settings, not on file times, paths or dtypes (float32 and float64 of the same values
    give the same key).

    Args:
        keypoints: (P, K, 2 or 3).
        boxes: (P, 4).
        params: plain settings (JSON values).
    """
    digest = hashlib.sha256(b"dpose-labels-1")
    for array in (keypoints, boxes):
        plain = np.ascontiguousarray(array, dtype="<f4") + np.float32(0)  # -0 becomes 0
        plain = np.where(np.isnan(plain), np.float32(np.nan), plain).astype("<f4")  # one NaN for all
        digest.update(repr(plain.shape).encode())
        digest.update(plain.tobytes())
    try:
        text = json.dumps(params, sort_keys=True, default=lambda value: value.item())
    except (TypeError, ValueError, AttributeError) as error:
        raise DPoseError(f"settings of the labels' key are not plain values: {error}") from error
    digest.update(text.encode())
    return digest.hexdigest()


def _check(resp: np.ndarray) -> np.ndarray:
    resp = np.asarray(resp, np.float64)
    if resp.ndim != 2 or not resp.size:
        raise DPoseError(f"responsibilities have shape {resp.shape}: expected (poses or images, clusters), not empty")
    if not np.isfinite(resp).all() or (resp < 0).any() or np.abs(resp.sum(1) - 1).max() > 1e-3:
        raise DPoseError("responsibilities have to be finite, >= 0 and sum to 1 in each row")
    return resp
