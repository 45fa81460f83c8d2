"""Mean skeletons of the posture clusters with their spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.collections import EllipseCollection, LineCollection

from dpose_yolo.keypoints import side_of
from dpose_yolo.report.drawing import SIDE_COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dpose_yolo.posture.mixture import PostureMixture


def keypoint_covariances(mixture: PostureMixture) -> np.ndarray:
    """(C, K', 2, 2) covariance of x and y of each used keypoint, from any of the four covariance types."""
    c, d = mixture.means_.shape
    covariances = mixture.covariances_
    x, y = np.arange(0, d, 2), np.arange(1, d, 2)
    if mixture.covariance_type in ("full", "tied"):
        full = np.broadcast_to(covariances, (c, d, d))
        blocks = [[full[:, x, x], full[:, x, y]], [full[:, y, x], full[:, y, y]]]
    else:
        diagonal = mixture.covariance_type == "diag"
        variances = covariances if diagonal else np.repeat(covariances[:, None], d, 1)
        nothing = np.zeros((c, d // 2))
        blocks = [[variances[:, x], nothing], [nothing, variances[:, y]]]
    return np.array(blocks).transpose(2, 3, 0, 1)


def extents(mixture: PostureMixture, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest (C, 2) x and y of each mean skeleton with its ellipses."""
    points = mixture.means_.reshape(len(mixture.means_), -1, 2)
    reach = np.sqrt(np.einsum("ckii->cki", spread))
    return (points - reach).min(1), (points + reach).max(1)


def frame(axes: Axes, low: np.ndarray, high: np.ndarray, half: np.ndarray, aspect: float) -> None:
    """Centre a skeleton in its axes of the given width / height; y runs down."""
    x, y = (low + high) / 2
    half = 1.04 * np.maximum(half, (high - low) / 2) + 1e-6
    tall = max(half[1], half[0] / aspect)
    axes.set(xlim=(x - tall * aspect, x + tall * aspect), ylim=(y + tall, y - tall), aspect="equal")
    axes.axis("off")


def draw_skeleton(
    axes: Axes,
    mixture: PostureMixture,
    j: int,
    spread: np.ndarray,
    labelled: np.ndarray | None,
    names: Sequence[str],
    pairs: Sequence[tuple[int, int]],
) -> None:
    """Mean posture of cluster j: limbs in the colour of their side, ellipses of one standard deviation."""
    used = [int(k) for k in mixture.used_[::2] // 2]
    place = dict(zip(used, mixture.means_[j].reshape(-1, 2), strict=True))
    side = {k: side_of(names[k])[0] for k in used}
    colours = [SIDE_COLOURS[side[k]] for k in used]
    values, vectors = np.linalg.eigh(spread)
    axes_of_ellipses = 2 * np.sqrt(np.maximum(values, 0))
    axes.add_collection(
        EllipseCollection(
            axes_of_ellipses[:, 0],
            axes_of_ellipses[:, 1],
            np.degrees(np.arctan2(vectors[:, 1, 0], vectors[:, 0, 0])),
            units="xy",
            offsets=mixture.means_[j].reshape(-1, 2),
            offset_transform=axes.transData,
            facecolors=colours,
            alpha=0.16,
            linewidths=0,
        )
    )
    drawn = [(a, b) for a, b in pairs if a in place and b in place]
    axes.add_collection(
        LineCollection(
            [(place[a], place[b]) for a, b in drawn],
            colors=[SIDE_COLOURS[side[a] if side[a] == side[b] else ""] for a, b in drawn],
            linewidths=1.6,
            capstyle="round",
            zorder=2,
        )
    )
    sure = np.zeros(len(used), bool) if labelled is None else labelled >= 0.5
    fill = [colour if known else "white" for colour, known in zip(colours, sure, strict=True)]
    x, y = mixture.means_[j].reshape(-1, 2).T
    axes.scatter(x, y, s=9, c=fill, edgecolors=colours, linewidths=0.8, zorder=3)
