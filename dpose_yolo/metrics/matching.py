"""COCO's matching kept as a record, from which AP follows for any weighting of the images.

A bootstrap replicate is a multiplicity for each image, and matching never looks beyond one image. So images are matched
once, and the AP of every replicate, and of every group of images, comes from weighted sums over the record.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpose_yolo.arrays import read_arrays
from dpose_yolo.errors import DPoseError
from dpose_yolo.metrics.samples import OKS_AREA, Detections, Truth
from dpose_yolo.metrics.similarity import object_keypoint_similarity, pairs_by_image
from dpose_yolo.report.drawing import replacing

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # OKS, as in COCO
RECALLS = np.linspace(0.0, 1.0, 101)
FORMAT, VERSION = "dpose-matches", 1
_AT50, _AT75 = 0, 5
_CELLS = 4_000_000  # numbers in the largest array of a chunk of replicates, 32 MB


@dataclass
class Matches:
    """What became of D detections at T = 10 OKS thresholds, in N images.

    Attributes:
        image: (D,) image of each detection, in COCO's order: falling score, then image.
        score: (D,) falling.
        matched: (T, D) bool, the detection found a person (a true positive).
        ignored: (T, D) bool, it lies on a person without labelled keypoints and does not count.
        truths: (N,) persons with labelled keypoints in each image.
        oks_area: share of the box area that OKS took as area.
        max_detections: detections that counted in an image.
    """

    image: np.ndarray
    score: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    truths: np.ndarray
    oks_area: float = OKS_AREA
    max_detections: int = 20

    def average_precision(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """AP, AP50 and AP75 of B weightings of the images.

        An image of weight w counts as w copies of it would: precision and recall are ratios of weighted counts, and
        within the copies of a true positive both only rise, so the envelope of the precision is that of the copies.
        (Among equal scores of different images the order of the copies is not defined; COCO's order is kept here.)

        Args:
            weights: (B, N) or (N,) weights >= 0; None takes every image once. A mask gives the AP of those images.

        Returns:
            three arrays (B,), or (1,) for one weighting; NaN where the weights leave no person.

        Raises:
            DPoseError: weights of another number of images, negative or not finite.
        """
        table = np.full((len(THRESHOLDS), self._rows(weights)), np.nan)
        for rows, counts, used in self._chunks(weights):
            with np.errstate(invalid="ignore", divide="ignore"):
                persons = counts @ self.truths
                every = np.cumsum(counts[:, self.image[used]], axis=1)  # (b, D) detections up to each
                for t in range(len(THRESHOLDS)):
                    table[t, rows] = self._precision(t, used, counts, every, persons)
            table[:, rows][:, persons == 0] = np.nan
        return table.mean(0), table[_AT50], table[_AT75]

    def average_recall(self, weights: np.ndarray | None = None) -> np.ndarray:
        """AR of B weightings of the images; arguments and result as `average_precision`."""
        found = np.stack([np.bincount(self.image[row], minlength=len(self.truths)) for row in self.matched])  # (T, N)
        result = np.full(self._rows(weights), np.nan)
        for rows, counts, _ in self._chunks(weights):
            with np.errstate(invalid="ignore", divide="ignore"):
                result[rows] = (counts @ found.T / (counts @ self.truths)[:, None]).mean(1)
        return result

    def save(self, path: str | Path) -> Path:
        """Write an .npz of plain arrays, in one step, and return its path.

        Raises:
            DPoseError: when it cannot be written.
        """
        meta = {"format": FORMAT, "version": VERSION, "oks_area": self.oks_area, "max_detections": self.max_detections}
        arrays = {name: getattr(self, name) for name in ("image", "score", "matched", "ignored", "truths")}
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, meta=np.array(json.dumps(meta)), **arrays)  # type: ignore[arg-type]
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Matches:
        """Read what `save` wrote.

        Raises:
            DPoseError: a file that is missing, broken, foreign or of another version.
        """
        if not Path(path).is_file():
            raise DPoseError(f"there are no matches at {path}: evaluate the model first")
        try:
            arrays = read_arrays(Path(path))
            meta = json.loads(str(arrays.pop("meta")))
            if (meta["format"], meta["version"]) != (FORMAT, VERSION):
                raise DPoseError(f"{path} holds '{meta['format']}' version {meta['version']}: evaluate the model again")
            return cls(**arrays, oks_area=meta["oks_area"], max_detections=meta["max_detections"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DPoseError(f"{path} is broken or holds no matches: evaluate the model again") from error

    def _rows(self, weights: np.ndarray | None) -> int:
        return 1 if weights is None or np.ndim(weights) == 1 else len(weights)

    def _chunks(self, weights: np.ndarray | None):
        """Slices of the replicates with their weights (b, N), and the detections of images that have any weight."""
        n = len(self.truths)
        table = np.ones((1, n)) if weights is None else np.atleast_2d(np.asarray(weights))
        if table.ndim != 2 or table.shape[1] != n:
            raise DPoseError(f"weights have shape {table.shape}: expected (replicates, {n} images)")
        if table.size and not (np.isfinite(table).all() and table.min() >= 0):
            raise DPoseError("weights of images have to be finite and at least 0")
        drawn: np.ndarray = np.any(table, axis=0)
        used = np.flatnonzero(drawn[self.image])
        step = max(1, _CELLS // max(1, len(used), n))
        for start in range(0, len(table), step):
            rows = slice(start, min(start + step, len(table)))
            yield rows, table[rows].astype(np.float64), used

    def _precision(
        self, t: int, used: np.ndarray, counts: np.ndarray, every: np.ndarray, persons: np.ndarray
    ) -> np.ndarray:
        """(b,) mean of the interpolated precision over the 101 recalls at threshold t."""
        hits, skipped = np.flatnonzero(self.matched[t, used]), np.flatnonzero(self.ignored[t, used])
        if not len(hits):
            return np.zeros(len(counts))
        # Only a true positive can end a step of the envelope; of the others their count before it is enough.
        true = np.cumsum(counts[:, self.image[used[hits]]], axis=1)  # (b, hits)
        positives = every[:, hits]
        if len(skipped):
            left_out = np.cumsum(counts[:, self.image[used[skipped]]], axis=1)
            left_out = np.pad(left_out, ((0, 0), (1, 0)))
            positives -= left_out[:, np.searchsorted(skipped, hits)]
        precision = true / (positives + np.spacing(1))
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(RECALLS, true / persons[:, None], side="right")  # (b, hits) recalls up to each hit
        return (precision * np.diff(reached, axis=1, prepend=0)).sum(1) / len(RECALLS)


def match(truth: Truth, detections: Detections, oks_area: float = OKS_AREA, max_detections: int = 20) -> Matches:
    """Match detections to persons as COCO does, at every OKS threshold.

    In each image and in falling score a detection takes the free person with the highest OKS from the threshold on,
    one with labelled keypoints before one without.

    Args:
        truth: labelled persons, original image pixels.
        detections: of the same images.
        oks_area: share of the box area that OKS takes as area.
        max_detections: best detections of an image that count.

    Returns:
        the record; its AP at equal weights is that of `coco_metrics`.

    Raises:
        DPoseError: detections of other images or of other keypoints; an `oks_area` that is none.
    """
    areas, labelled = truth.areas(oks_area), np.asarray(truth.labelled().any(1))
    kept, matched, ignored = [np.zeros(0, np.int64)], [np.zeros((10, 0), bool)], [np.zeros((10, 0), bool)]
    for _, persons, found in pairs_by_image(truth, detections):
        found = found[:max_detections]
        oks = object_keypoint_similarity(
            detections.keypoints[found], truth.keypoints[persons], truth.boxes[persons], areas[persons], truth.sigmas
        )
        hit, skip = _match_image(oks, labelled[persons])
        kept.append(found)
        matched.append(hit)
        ignored.append(skip)
    rows = np.concatenate(kept)
    order = np.argsort(-detections.score[rows], kind="stable")
    rows = rows[order]
    return Matches(
        image=detections.image[rows],
        score=detections.score[rows],
        matched=np.concatenate(matched, axis=1)[:, order],
        ignored=np.concatenate(ignored, axis=1)[:, order],
        truths=np.bincount(truth.image[labelled], minlength=len(truth.files)),
        oks_area=float(oks_area),
        max_detections=int(max_detections),
    )


def _match_image(oks: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matches of one image.

    Args:
        oks: (d, p) OKS, detections by falling score.
        counts: (p,) bool, persons with labelled keypoints.

    Returns:
        matched and ignored, each (T, d) bool.
    """
    matched, ignored = np.zeros((len(THRESHOLDS), len(oks)), bool), np.zeros((len(THRESHOLDS), len(oks)), bool)
    if not oks.size:
        return matched, ignored
    able = oks[None] >= np.minimum(THRESHOLDS, 1 - 1e-10)[:, None, None]  # (T, d, p)
    free: np.ndarray = np.any(able, axis=1)  # (T, p) persons that anything can still take
    levels, last = np.arange(len(THRESHOLDS)), oks.shape[1] - 1
    for d in np.flatnonzero(able.any((0, 2))):
        open_ = able[:, d] & free
        rank = np.where(open_, oks[d] + 2.0 * counts, -1.0)  # persons that count come first
        best = last - rank[:, ::-1].argmax(1)  # the last of equals, as in COCO
        took = open_[levels, best]
        matched[:, d] = took & counts[best]
        ignored[:, d] = took & ~counts[best]
        free[levels[took], best[took]] = False
        if not free.any():
            break
    return matched, ignored
