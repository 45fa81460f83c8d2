"""Everything that `dpose val` says about a model, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ultralytics.utils import LOGGER

from dpose_yolo import __version__
from dpose_yolo.engine.models import engine_model
from dpose_yolo.errors import DPoseError
from dpose_yolo.evaluation.attention import attention_quality
from dpose_yolo.evaluation.data import EvaluationPart, load_part
from dpose_yolo.evaluation.postures import PostureGroups, cluster_groups, name_groups
from dpose_yolo.evaluation.predict import MAX_DETECTIONS, evaluate_engine_model
from dpose_yolo.evaluation.single import ends_in_one_driver, evaluate_single
from dpose_yolo.metrics.bootstrap import bootstrap_weights, group_numbers, interval
from dpose_yolo.metrics.coco import coco_metrics
from dpose_yolo.metrics.keypoints import keypoint_table
from dpose_yolo.metrics.matching import Matches, match
from dpose_yolo.metrics.postures import PostureReport, posture_metrics
from dpose_yolo.metrics.samples import OKS_AREA, Detections
from dpose_yolo.metrics.similarity import person_oks
from dpose_yolo.report.tables import plain_value

PCK = (0.05, 0.10)  # shares of the person size
RADIUS, CAM_IMAGES = 0.1, 100
VISIBLE = 0.5  # keypoint confidence from which a model calls a keypoint visible


@dataclass
class Evaluation:
    """What was measured.

    Attributes:
        metrics: all figures, ready for JSON (None where a figure does not exist).
        keypoints: one row a keypoint, and `all`.
        postures: one row a cluster, None without clusters.
        names: one row a posture or action name, None without names.
        matches: match record, for the bootstrap of differences between models.
        detections: in original pixels.
        part: the labels.
        clusters: the division into clusters, None without.
        person_oks: (P,) OKS of each labelled person, NaN without labelled keypoints.
    """

    metrics: dict[str, Any]
    keypoints: pd.DataFrame
    postures: pd.DataFrame | None
    names: pd.DataFrame | None
    matches: Matches
    detections: Detections
    part: EvaluationPart
    clusters: PostureGroups | None
    person_oks: np.ndarray


def evaluate(
    model: Any,
    data: Any = None,
    split: str = "val",
    *,
    oks_area: float = OKS_AREA,
    bootstrap: int = 1000,
    names: Any = None,
    mixture: Any = "auto",
    attention: bool = True,
    cam_limit: int = CAM_IMAGES,
    att_layers: str | list[int] = "auto",
    att_radius: float = RADIUS,
    skip_bad: bool = False,
    outside: bool = False,
    seed: int = 0,
    postures: Mapping[str, Any] | None = None,
    part: EvaluationPart | None = None,
    clusters: PostureGroups | None = None,
    folder: str | Path | None = None,
    **engine: Any,
) -> Evaluation:
    """Run a model over a data part and measure it: accuracy, keypoints, postures, attention.

    Args:
        model: path of a .pt checkpoint or an exported model, also of one that ends in one driver.
        data: path of a data YAML.
        split: part of the data.
        oks_area: OKS area as a share of the box area.
        bootstrap: replicates behind the intervals, 0 for none.
        names: CSV of posture or action names and subjects, see `load_part`.
        mixture: which posture mixture, see `cluster_groups`.
        attention: measure the attention maps (.pt only).
        cam_limit: images whose maps are measured at most.
        att_layers: backbone layers of the maps, as the setting.
        att_radius: of the disc around a label in which attention counts as being on it, a share of the person size.
        skip_bad: leave unusable images out instead of refusing them.
        outside: take images outside the data folder, too.
        seed: of the bootstrap, of the images for the attention maps, and of a mixture that has to be fitted.
        postures: settings of a mixture that has to be fitted: clusters, covariance, min_labelled, posture_scale.
        part: the labels where they have been read; then `data`, `split`, `names`, `skip_bad` and `outside` are theirs.
        clusters: the division into clusters where it has been made; then `mixture` and `postures` are not looked at.
        folder: where the engine may write.
        **engine: settings of the engine's validation: imgsz, batch, device, conf, ...

    Raises:
        DPoseError: for anything that cannot be used.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise DPoseError(f"seed={seed} must be a whole number from 0, below 2**32")
    single = ends_in_one_driver(model)
    yolo = None if single else engine_model(model)
    part = part or load_part(data, split, names=names, skip_bad=skip_bad, outside=outside)
    clusters = clusters or _clusters(part, mixture, model, postures, seed)
    detections, own = (
        evaluate_single(model, part, **engine)
        if single
        else evaluate_engine_model(yolo, part=part, folder=folder, **engine)
    )
    result = measure(part, detections, clusters, oks_area=oks_area, bootstrap=bootstrap, seed=seed)
    looked = None
    if attention and Path(str(model)).suffix == ".pt":
        looked = _attention(
            str(model), part, int(own["imgsz"]), cam_limit, att_radius, att_layers, engine.get("device"), seed
        )
    # The engine's box figures stood at the top before there were others, and stay there.
    result.metrics.update(model=str(model), engine=own, attention=looked, **{k: own[k] for k in ("box_AP", "box_AP50")})
    return result


def measure(
    part: EvaluationPart,
    detections: Detections,
    clusters: PostureGroups | None = None,
    *,
    oks_area: float = OKS_AREA,
    bootstrap: int = 1000,
    seed: int = 0,
    max_detections: int = MAX_DETECTIONS,
) -> Evaluation:
    """Measure detections, whichever model they come from.

    Args:
        part: the labels.
        detections: of the same images, in original pixels.
        clusters: division into clusters (`cluster_groups`), None for none.
        oks_area: OKS area as a share of the box area.
        bootstrap: replicates behind the intervals, 0 for none.
        seed: of the bootstrap.
        max_detections: persons of an image that count, the likeliest ones.

    Returns:
        The evaluation; in its metrics `model`, `engine` and `attention` are None.

    Raises:
        DPoseError: for detections of other keypoints, and an `oks_area` that is no share.
    """
    truth = part.truth
    matches = match(truth, detections, oks_area, max_detections)
    weights = bootstrap_weights(len(truth.files), part.subjects, bootstrap, seed) if bootstrap else None
    by_cluster = posture_metrics(matches, clusters.image, clusters.train_counts, weights) if clusters else None
    named = name_groups(part)
    by_name = posture_metrics(matches, named.image, named.train_counts, weights, named.names) if named else None
    keypoints = keypoint_table(truth, detections, oks_area, PCK, VISIBLE)
    metrics = {
        "model": None,
        "data": part.data_file,
        "split": part.split,
        "images": len(truth.files),
        "persons": len(truth.image),
        "persons_labelled": int(truth.labelled().any(1).sum()),
        "oks_area": oks_area,
        "max_detections": max_detections,
        "oks_sigmas": truth.sigmas,
        "pck_thresholds": PCK,
        "visible_confidence": VISIBLE,
        **coco_metrics(truth, detections, oks_area, max_detections),
        "intervals": _intervals(matches, weights),
        "engine": None,
        "clusters": by_cluster.summary() if by_cluster else None,
        "names": _named(by_name, named) if by_name and named else None,
        "keypoints": keypoints.to_dict(orient="records"),
        "attention": None,
        "mixture": clusters.told if clusters else None,
        "bootstrap": _bootstrap(part, bootstrap, seed),
        "version": __version__,
    }
    return Evaluation(
        metrics=jsonable(metrics),
        keypoints=keypoints,
        postures=by_cluster.rows if by_cluster else None,
        names=by_name.rows if by_name else None,
        matches=matches,
        detections=detections,
        part=part,
        clusters=clusters,
        person_oks=person_oks(truth, detections, oks_area),
    )


def jsonable(value: Any) -> Any:
    """The same with plain lists, numbers and None (also for what is not a finite number), as JSON has them."""
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [jsonable(v) for v in value]
    return plain_value(value)


def _clusters(
    part: EvaluationPart, mixture: Any, model: Any, postures: Mapping[str, Any] | None, seed: int
) -> PostureGroups | None:
    """The division into clusters; `auto` goes on without where there can be none, as for a handful of images."""
    try:
        return cluster_groups(part, mixture, model, postures, seed)
    except DPoseError as error:
        if mixture != "auto" or postures:
            raise
        LOGGER.warning(f"no posture clusters: {error}")
        return None


def _intervals(matches: Matches, weights: np.ndarray | None) -> dict[str, Any] | None:
    if weights is None:
        return None
    values = (*matches.average_precision(weights), matches.average_recall(weights))
    return {name: interval(v) for name, v in zip(("AP", "AP50", "AP75", "AR"), values, strict=True)}


def _bootstrap(part: EvaluationPart, replicates: int, seed: int) -> dict[str, Any]:
    by_subject = part.subjects_known()
    groups = len(set(group_numbers(part.subjects))) if by_subject and part.subjects else len(part.truth.files)
    return {
        "replicates": replicates,
        "by": "subject" if by_subject else "image",
        "groups": groups,
        "seed": seed,
        "level": 0.95,
    }


def _named(report: PostureReport, groups: PostureGroups) -> dict[str, Any]:
    """The summary by names; without training counts there is no head and no tail."""
    summary = report.summary()
    if not groups.train_counts.any():
        summary.update({k: None for k in summary if k.split("_")[0] in ("head", "medium", "tail")})
        report.rows["third"] = ""
    return {**summary, "source": groups.told}


def _attention(
    model: str,
    part: EvaluationPart,
    imgsz: int,
    limit: int,
    radius: float,
    layers: str | list[int],
    device: Any,
    seed: int,
) -> dict[str, Any] | None:
    """Quality of the attention maps; None with a word where the model has none."""
    try:
        found = attention_quality(model, part.truth, imgsz, limit, radius, layers, device, seed)
    except DPoseError as error:
        LOGGER.warning(f"attention maps are not measured: {error}")
        return None
    *rows, total = found.rows.to_dict(orient="records")
    del total["keypoint"]
    told = {"images": found.images, "layers": found.layers, "radius": radius, "keypoints": rows}
    return jsonable({**total, **told})
