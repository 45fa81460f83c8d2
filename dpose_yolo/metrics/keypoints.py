"""Which keypoints a model finds: AP of single keypoints, PCK, error, and what it takes for visible."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dpose_yolo.errors import DPoseError
from dpose_yolo.metrics.matching import match
from dpose_yolo.metrics.samples import OKS_AREA, Detections, Truth, require_same
from dpose_yolo.metrics.similarity import assign_by_box

NAN = float("nan")


def keypoint_table(
    truth: Truth,
    detections: Detections,
    oks_area: float = OKS_AREA,
    pck: Sequence[float] = (0.05, 0.10),
    visible: float = 0.5,
) -> pd.DataFrame:
    """One row a keypoint, and a last row `all` over all keypoints together (there AP is the mean of the rows).

    AP is that of one keypoint at a time, in the sense of DriPE (Guesdon et al., ICCV workshops 2021): COCO's AP as if
    only this keypoint were labelled, the detections ranked by their confidence in it. What lies on a person whose
    keypoint is not labelled does not count there; `false_visible` tells of it.

    For the other columns a person is found by the best scored detection with a box IoU of at least 0.5, whatever its
    keypoints (`assign_by_box`). Distances are shares of the person's size, the root of the box area. Persons without
    any labelled keypoint take part in the finding only.

    Columns:
        keypoint: name. labelled: labels with visibility 1 or 2.
        AP: see above.
        pck_05, pck_10: labelled keypoints nearer than 5 and 10 % of the size; a person not found counts as wrong.
        error: median distance as a share of the size, found persons.
        false_visible: of the unlabelled keypoints of found persons, the share with a confidence >= `visible`.
        missed_visible: of the keypoints labelled visible (2), the share below it, or of a person not found.
        visible_pck_10, visible_error: of the keypoints labelled visible.
        hidden_count, hidden_pck_10, hidden_error: of those labelled hidden (1).

    Shares of nothing are NaN.

    Args:
        truth: labelled persons, original image pixels.
        detections: of the same images.
        oks_area: share of the box area that OKS takes as area.
        pck: distances as shares of the size; the last one is that of the hidden and the visible keypoints.
        visible: confidence from which on a keypoint is called visible.

    Raises:
        DPoseError: detections of other images or of other keypoints; settings that are no shares.
    """
    require_same(truth, detections)
    if not pck or min(pck) <= 0:
        raise DPoseError(f"pck={list(pck)}: give shares of the person's size above 0, such as 0.05 and 0.10")
    counted = truth.labelled().any(1)
    found = assign_by_box(truth, detections)
    distance, confidence = _found_keypoints(truth, detections, found)
    state, distance, confidence = truth.keypoints[counted, :, 2], distance[counted], confidence[counted]
    aps = np.array([_single_ap(truth, detections, k, oks_area) for k in range(len(truth.names))])
    rows = []
    for k, name in enumerate([*truth.names, "all"]):
        at = slice(k, k + 1) if k < len(aps) else slice(None)
        known = aps[at][~np.isnan(aps[at])]
        own = state[:, at].ravel()
        row = {"keypoint": name, "labelled": int((own > 0).sum()), "AP": float(known.mean()) if len(known) else NAN}
        rows.append({**row, **_row(own, distance[:, at].ravel(), confidence[:, at].ravel(), pck, visible)})
    return pd.DataFrame(rows)


def _found_keypoints(truth: Truth, detections: Detections, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance as a share of the size and confidence, each (P, K); infinite and minus infinite where not found."""
    distance = np.full(truth.keypoints.shape[:2], np.inf)
    confidence = np.full(truth.keypoints.shape[:2], -np.inf)
    on = np.flatnonzero(found >= 0)
    points = detections.keypoints[found[on]]
    size = np.sqrt(np.maximum(truth.box_areas()[on], 1.0))[:, None]
    distance[on] = np.linalg.norm(points[..., :2] - truth.keypoints[on, :, :2], axis=2) / size
    confidence[on] = points[..., 2]
    return distance, confidence


def _row(
    state: np.ndarray, distance: np.ndarray, confidence: np.ndarray, pck: Sequence[float], visible: float
) -> dict[str, float]:
    """Shares and errors of some keypoints, all arrays (R,), see `keypoint_table`."""
    labelled, seen, hidden = state > 0, state == 2, state == 1
    last, name = pck[-1], _column(pck[-1])
    return {
        **{_column(share): _share(distance[labelled] <= share) for share in pck},
        "error": _median(distance[labelled]),
        "false_visible": _share(confidence[~labelled & np.isfinite(confidence)] >= visible),
        "missed_visible": _share(confidence[seen] < visible),
        f"visible_{name}": _share(distance[seen] <= last),
        "visible_error": _median(distance[seen]),
        "hidden_count": int(hidden.sum()),
        f"hidden_{name}": _share(distance[hidden] <= last),
        "hidden_error": _median(distance[hidden]),
    }


def _single_ap(truth: Truth, detections: Detections, k: int, oks_area: float) -> float:
    one = detections.select([k])
    one.score = one.keypoints[:, 0, 2]
    return float(match(truth.select([k]), one, oks_area).average_precision()[0][0])


def _column(share: float) -> str:
    return f"pck_{100 * share:02.0f}"


def _share(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else NAN


def _median(distance: np.ndarray) -> float:
    found = distance[np.isfinite(distance)]
    return float(np.median(found)) if len(found) else NAN
