"""Several models on one data part: accuracy, paired differences to the first, cost, latency (paper Table 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import get_cpu_info

from dpose_yolo import __version__
from dpose_yolo.errors import DPoseError
from dpose_yolo.evaluation.data import EvaluationPart
from dpose_yolo.evaluation.evaluate import Evaluation, jsonable, measure
from dpose_yolo.evaluation.postures import PostureGroups, cluster_groups
from dpose_yolo.metrics.bootstrap import Difference, bootstrap_weights, paired
from dpose_yolo.metrics.postures import third_mask
from dpose_yolo.metrics.samples import OKS_AREA
from dpose_yolo.peers.contestants import Contestant
from dpose_yolo.peers.latency import hold_to_one_thread, interleaved, largest_persons, one_thread
from dpose_yolo.peers.names import common_keypoints, match_keypoints

PICTURES = 10  # that latency is measured on


@dataclass
class Comparison:
    """What was compared.

    Attributes:
        result: all figures, ready for JSON: conventions, and `models`, one dict a model.
        evaluations: of each model, in the same order.
    """

    result: dict[str, Any]
    evaluations: list[Evaluation]


def compare(
    contestants: Sequence[Contestant],
    part: EvaluationPart,
    *,
    keypoints: str = "all",
    mixture: Any = "auto",
    oks_area: float = OKS_AREA,
    bootstrap: int = 1000,
    rounds: int = 10,
    seed: int = 0,
) -> Comparison:
    """Evaluate models on the same labels and time them in turn.

    Args:
        contestants: the models; the others are held against the first.
        part: the labels.
        keypoints: `all` asks every model for all of the data's keypoints, `common` counts those that every model has.
        mixture: posture mixture behind head, medium and tail, the same for all models: `train`, the path of a
            `postures.npz`, or `auto`: `train`, and no tail where there is no training part.
        oks_area: OKS area as a share of the box area.
        bootstrap: replicates behind the intervals, 0 for none.
        rounds: turns of each model in the latency measurement, 0 for none.
        seed: of the bootstrap and of a mixture that has to be fitted.

    Raises:
        DPoseError: for a model that does not fit the data.
    """
    titles = short_titles([c.path for c in contestants])
    chosen = [_chosen(c, part) for c in contestants]
    kept = _kept_keypoints(titles, chosen, part, keypoints)
    clusters = _clusters(part, mixture, seed)
    seen = replace(part, truth=part.truth.select(kept))
    evaluations = []
    for title, contestant, answers in zip(titles, contestants, chosen, strict=True):
        LOGGER.info(f"\n{title} ({contestant.kind})")
        found = contestant.detect(part, answers).select(kept)
        evaluations.append(measure(seen, found, clusters, oks_area=oks_area, bootstrap=bootstrap, seed=seed))
        evaluations[-1].metrics["model"] = str(contestant.path)
    differences = _differences(evaluations, clusters, part, bootstrap, seed)
    seconds = measure_latency(contestants, part, rounds) if rounds else [None for _ in titles]
    rows = [_row(*about) for about in zip(titles, contestants, evaluations, differences, seconds, strict=True)]
    first = evaluations[0].metrics
    told = ("data", "split", "images", "persons", "oks_area", "max_detections", "mixture", "bootstrap")
    result = {
        **{name: first[name] for name in told},
        "keypoints": seen.truth.names,
        "left_out": [name for k, name in enumerate(part.truth.names) if k not in kept],
        "latency": _latency_terms(part, rounds),
        "models": rows,
        "version": __version__,
    }
    return Comparison(jsonable(result), evaluations)


def short_titles(paths: Sequence[Path]) -> list[str]:
    """Names that tell the files apart: the file's, the run's before `best` and `last`, and as many folders as it takes.

    Raises:
        DPoseError: for a file given twice.
    """
    whole = [path.resolve() for path in paths]
    for path, full in zip(paths, whole, strict=True):
        if whole.count(full) > 1:
            raise DPoseError(f"{path} is given twice")
    # `weights` is the same folder in every run and tells nothing
    parts = [[p for p in full.parts if p not in ("weights", full.anchor)] for full in whole]
    lengths = [1 + (full.stem in ("best", "last")) for full in whole]
    for _ in range(max(map(len, parts))):
        titles = ["/".join(p[-n:]) for p, n in zip(parts, lengths, strict=True)]
        lengths = [n + (titles.count(title) > 1) for n, title in zip(lengths, titles, strict=True)]
    return titles if len(set(titles)) == len(titles) else [str(full) for full in whole]


def _chosen(contestant: Contestant, part: EvaluationPart) -> list[int]:
    names = part.truth.names
    return list(range(len(names))) if contestant.names is None else match_keypoints(contestant.names, names)


def _kept_keypoints(
    titles: Sequence[str], chosen: Sequence[Sequence[int]], part: EvaluationPart, keypoints: str
) -> list[int]:
    """Which of the data's keypoints count.

    Raises:
        DPoseError: if a model lacks one and that was not allowed, or if too few are left.
    """
    names = part.truth.names
    kept = common_keypoints(chosen)
    for title, answers in zip(titles, chosen, strict=True):
        missing = [name for name, at in zip(names, answers, strict=True) if at < 0]
        if len(missing) == len(names):
            raise DPoseError(f"{title} has none of the data's keypoints ({', '.join(names[:4])} ...): leave it out")
        if missing and keypoints != "common":
            raise DPoseError(
                f"{title} has no {', '.join(missing)}: set keypoints=common to compare all models on the {len(kept)} "
                "keypoints that every one of them has"
            )
    if not kept or not part.truth.select(kept).labelled().any():
        raise DPoseError("the models have no labelled keypoint of the data in common: compare fewer of them")
    return kept


def _clusters(part: EvaluationPart, mixture: Any, seed: int) -> PostureGroups | None:
    if mixture != "auto":
        return cluster_groups(part, mixture, seed=seed)
    try:
        return cluster_groups(part, "train", seed=seed)
    except DPoseError as error:
        LOGGER.warning(f"no head, medium and tail: {error}")
        return None


def _differences(
    evaluations: Sequence[Evaluation], clusters: PostureGroups | None, part: EvaluationPart, bootstrap: int, seed: int
) -> list[dict[str, Difference | None]]:
    """AP and tail AP of each model less the first one's, with intervals over the same drawn images."""
    nothing: dict[str, Difference | None] = {"AP": None, "tail_AP": None}
    if not bootstrap:
        return [nothing] * len(evaluations)
    weights = bootstrap_weights(len(part.truth.files), part.subjects, bootstrap, seed)
    tail = third_mask(clusters.image, clusters.train_counts, "tail") if clusters else None
    base = evaluations[0].matches
    result = [nothing]
    for one in evaluations[1:]:
        of_tail = paired(one.matches, base, weights, images=tail) if tail is not None and tail.any() else None
        result.append({"AP": paired(one.matches, base, weights), "tail_AP": of_tail})
    return result


def measure_latency(contestants: Sequence[Contestant], part: EvaluationPart, rounds: int) -> list[np.ndarray | None]:
    """Seconds of each model for a picture in memory, by turns, on one thread; the person's box is given to peers."""
    truth = part.truth
    samples = largest_persons(truth.image, truth.boxes, truth.files, PICTURES)
    with one_thread():
        runs: list[Callable[..., Any]] = [c.runner() for c in contestants]
        return list(interleaved(runs, samples, rounds, before=hold_to_one_thread))


def _latency_terms(part: EvaluationPart, rounds: int) -> dict[str, Any] | None:
    pictures = min(PICTURES, len(np.unique(part.truth.image)))
    return {"rounds": rounds, "pictures": pictures, "threads": 1, "cpu": get_cpu_info()} if rounds else None


def _row(
    title: str,
    contestant: Contestant,
    evaluation: Evaluation,
    difference: dict[str, Difference | None],
    seconds: np.ndarray | None,
) -> dict[str, Any]:
    metrics, cost = evaluation.metrics, contestant.cost()
    size = contestant.input_size()
    clusters, names = metrics["clusters"] or {}, metrics["names"] or {}
    quartiles = None if seconds is None else np.quantile(1000 * seconds, [0.25, 0.5, 0.75])
    return {
        "model": title,
        "path": str(contestant.path),
        "kind": contestant.kind,
        "box_prior": contestant.factor,
        "input": None if size is None else f"{size[0]}x{size[1]}",
        "parameters": cost.parameters,
        "gflops": cost.gflops,
        "megabytes": _bytes(contestant.path) / 1e6,
        **{name: metrics[name] for name in ("AP", "AP50", "AP75", "AR")},
        "head_AP": clusters.get("head"),
        "medium_AP": clusters.get("medium"),
        "tail_AP": clusters.get("tail"),
        "tail_AP_names": names.get("tail"),
        "AP_interval": (metrics["intervals"] or {}).get("AP"),
        "tail_AP_interval": clusters.get("tail_interval"),
        "latency_ms": None if quartiles is None else quartiles[1],
        "latency_quartiles_ms": None if quartiles is None else [quartiles[0], quartiles[2]],
        "difference": {name: d and d._asdict() for name, d in difference.items()},
    }


def _bytes(path: Path) -> int:
    """Size of a file, or of all files of an exported folder."""
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
