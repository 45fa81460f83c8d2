"""A model before and after: both measured on the same labels, with the intervals of their differences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER

from dpose_yolo.errors import DPoseError
from dpose_yolo.evaluation.data import EvaluationPart
from dpose_yolo.evaluation.evaluate import Evaluation, evaluate
from dpose_yolo.evaluation.postures import PostureGroups, cluster_groups
from dpose_yolo.metrics.bootstrap import Difference, bootstrap_weights, paired
from dpose_yolo.metrics.postures import third_mask

NAN = float("nan")


@dataclass
class Change:
    """Two models on one data part.

    Attributes:
        title: what the part is called.
        before, after: their evaluations.
        differences: `AP` and, where there are postures, `tail_AP`: after less before; NaN ends without bootstrap.
    """

    title: str
    before: Evaluation
    after: Evaluation
    differences: dict[str, Difference]

    def rows(self) -> list[dict[str, Any]]:
        """One row a measure: `data`, `measure`, `before`, `after`, `change`, `low`, `high` (None where not known)."""
        first, second = self.before.metrics, self.after.metrics
        pairs = [(name, first[name], second[name]) for name in ("AP", "AP50", "AR")]
        if first["clusters"] and second["clusters"]:
            pairs.insert(1, ("tail_AP", first["clusters"]["tail"], second["clusters"]["tail"]))
        keypoints = zip(first["keypoints"], second["keypoints"], strict=True)
        pairs += [(f"AP {a['keypoint']}", a["AP"], b["AP"]) for a, b in keypoints if a["labelled"]]
        return [self._row(*pair) for pair in pairs if pair[0] != "AP all"]

    def _row(self, measure: str, before: float | None, after: float | None) -> dict[str, Any]:
        known = before is not None and after is not None
        told = self.differences.get(measure)
        ends = (None, None) if told is None or told.low != told.low else (told.low, told.high)
        change = after - before if before is not None and after is not None else None
        row = {"data": self.title, "measure": measure, "before": before, "after": after}
        return {**row, "change": change if known else None, "low": ends[0], "high": ends[1]}


def posture_groups(part: EvaluationPart, mixture: Any, model: Any, seed: int) -> PostureGroups | None:
    """Division of a part into postures, None with a word where there can be none."""
    try:
        return cluster_groups(part, mixture, model, seed=seed)
    except DPoseError as error:
        LOGGER.warning(f"no tail: {error}")
        return None


def measure_change(
    title: str,
    models: tuple[str | Path, str | Path],
    part: EvaluationPart,
    clusters: PostureGroups | None,
    bootstrap: int = 1000,
    seed: int = 0,
    **engine: Any,
) -> Change:
    """Measure two models on one part.

    Args:
        title: what to call the part.
        models: checkpoints before and after.
        part: the labels.
        clusters: division into postures, the same for both; None for no tail.
        bootstrap: replicates behind the intervals, 0 for none.
        seed: of the bootstrap.
        **engine: settings of the engine's validation.
    """
    own: dict[str, Any] = {"part": part, "clusters": clusters, "bootstrap": bootstrap, "seed": seed, "attention": False}
    before, after = (evaluate(model, **own, **engine) for model in models)
    tail = third_mask(clusters.image, clusters.train_counts, "tail") if clusters else None
    masks: dict[str, Any] = {"AP": None, **({"tail_AP": tail} if tail is not None and tail.any() else {})}
    differences = {}
    if bootstrap:
        weights = bootstrap_weights(len(part.truth.files), part.subjects, bootstrap, seed)
        for name, mask in masks.items():
            differences[name] = paired(after.matches, before.matches, weights, images=mask)
    else:
        differences["AP"] = Difference(after.metrics["AP"] - before.metrics["AP"], NAN, NAN)
    return Change(title, before, after, differences)
