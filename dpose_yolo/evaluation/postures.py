"""Which posture each evaluated image shows, and how often training saw it (paper 3.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dpose_yolo.engine.postures import keypoint_names, pose_table, posture_mixture
from dpose_yolo.errors import DPoseError
from dpose_yolo.evaluation.data import EvaluationPart, image_names
from dpose_yolo.metrics.postures import largest_person_groups
from dpose_yolo.posture.mixture import PostureMixture
from dpose_yolo.settings import defaults, specification


@dataclass
class PostureGroups:
    """A division of the evaluated images into postures.

    Attributes:
        image: (N,) group of each image, that of its largest person; -1 for none.
        train_counts: (C,) how often training has it: poses for clusters, images for names.
        told: where the division comes from, in words.
        names: C names, None for numbered clusters.
        mixture: the posture mixture behind clusters.
    """

    image: np.ndarray
    train_counts: np.ndarray
    told: str
    names: list[str] | None = None
    mixture: PostureMixture | None = None


FEWEST_POSES = 16  # of a training part that no number of clusters was given for


def cluster_groups(
    part: EvaluationPart,
    mixture: Any = "auto",
    model: Any = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> PostureGroups:
    """Assign the evaluated images to the clusters of a posture mixture.

    Args:
        part: the labels.
        mixture: `auto` takes the mixture of the run that a checkpoint lies in (`run/weights/best.pt` has
            `run/postures.npz`) if its keypoints are the data's, and is `train` otherwise; `train` fits one to the
            training part, or reads the one that training or `dpose clusters` left there; or the path of a
            `postures.npz`.
        model: path of the checkpoint, for `auto`.
        settings: DPOSE settings of the fit (`clusters`, `covariance`, ...); defaults where not given.
        seed: of the fit.

    Raises:
        DPoseError: for a mixture that is missing, broken, or of other keypoints, and for a training part that no
            mixture can be fitted to.
    """
    given = {**defaults(), **{k: specification()[k].check(v) for k, v in (settings or {}).items()}}
    path = _mixture_file(mixture, model)
    if path and mixture == "auto" and not _fits(path, part):
        path = None
    scale = _scale(path, settings) if path else given["posture_scale"]
    table = cache = None
    try:
        labels, data, cache = part.training()
        table = pose_table(labels, keypoint_names(data), scale)
    except DPoseError as error:
        if path is None:
            raise DPoseError(f"no training part to take postures from ({error}): set mixture=postures.npz") from error
    if path:
        found, told = PostureMixture.load(path), f"mixture {path}"
        _refuse_other_keypoints(found, path, part)
    else:
        assert table is not None
        poses = table.labelled_poses()
        if given["clusters"] == "by_size" and poses < FEWEST_POSES:
            raise DPoseError(
                f"{poses} labelled poses in the training part of {part.data_file} are too few for clusters: "
                f"label {FEWEST_POSES}, or set clusters to at most {poses}"
            )
        found = posture_mixture(table, given, seed, where=f"the training part of {part.data_file}", cache=cache)
        told = f"mixture fitted to the training part of {part.data_file}"
    told += f", {len(found.weights_)} clusters"
    if table is None:
        counts = found.weights_ * found.n_fit_
        told += " (training part not at hand: its counts are the mixing weights)"
    else:
        cluster = found.assign(table.features())
        counts = np.bincount(cluster[cluster >= 0], minlength=len(found.weights_))
    own = replace(part.table, scale=scale)
    return PostureGroups(
        _largest(part, found.assign(own.features())), counts.round().astype(np.int64), told, None, found
    )


def name_groups(part: EvaluationPart) -> PostureGroups | None:
    """Group the evaluated images by their posture or action name; None where no CSV names them.

    Names that training never shows count 0 there; names that only training shows are groups without images.

    Args:
        part: the labels, with the CSV that names them.
    """
    if part.names is None or not any(part.names):
        return None
    try:
        labels, _, _ = part.training()
        seen, _ = image_names(part.index, [lb["im_file"] for lb in labels])
    except DPoseError:  # no training part, or none that the CSV knows
        seen = None
    counts = Counter(n for n in seen or [] if n)
    known = sorted({n for n in part.names if n} | set(counts), key=lambda n: (-counts[n], n))
    place = {name: i for i, name in enumerate(known)}
    image = np.array([place[n] if n else -1 for n in part.names])
    told = f"names of {part.index}" + ("" if counts else " (none of the training images is named: no head and tail)")
    return PostureGroups(image, np.array([counts[n] for n in known]), told, known)


def saved_mixture(model: Any, names: Sequence[str]) -> tuple[PostureMixture, str, str] | None:
    """The mixture of a checkpoint's run, if there is one of these keypoints.

    Args:
        model: path of the checkpoint.
        names: K keypoint names of the data.

    Returns:
        The mixture, the unit of its postures, and where it comes from in words.
    """
    path = _mixture_file("auto", model)
    try:
        found = PostureMixture.load(path) if path else None
    except DPoseError:
        return None
    if path is None or found is None or found.n_features_in_ != 2 * len(names):
        return None
    if list(found.keypoint_names_) not in ([], list(names)):
        return None
    return found, _scale(path, None), f"mixture {path}"


def _mixture_file(mixture: Any, model: Any) -> Path | None:
    if mixture == "train":
        return None
    if mixture == "auto":
        beside = Path(str(model)).resolve().parent.parent / "postures.npz" if isinstance(model, str | Path) else None
        return beside if beside and beside.is_file() else None
    if not Path(str(mixture)).is_file():
        raise DPoseError(f"mixture={mixture} is not there: give auto, train, or the path of a postures.npz")
    return Path(str(mixture))


def _fits(path: Path, part: EvaluationPart) -> bool:
    try:
        _refuse_other_keypoints(PostureMixture.load(path), path, part)
    except DPoseError:
        return False
    return True


def _refuse_other_keypoints(mixture: PostureMixture, path: Path, part: EvaluationPart) -> None:
    names = list(mixture.keypoint_names_)
    count = len(part.truth.names)
    if mixture.n_features_in_ != 2 * count or (names and names != part.truth.names):
        raise DPoseError(
            f"{path} is a mixture of {mixture.n_features_in_ // 2} keypoints ({', '.join(names[:3])} ...), not of the "
            f"data's {count}: set mixture=train, or give the postures.npz of a run on this data"
        )


def _scale(path: Path, settings: Mapping[str, Any] | None) -> str:
    """Unit of the postures of a saved mixture: as asked, as in the settings of its run, or the default."""
    spec = specification()["posture_scale"]
    if settings and "posture_scale" in settings:
        return str(spec.check(settings["posture_scale"]))
    try:
        run = yaml.safe_load((path.parent / "args.yaml").read_text(encoding="utf-8"))
        return str(spec.check(run["posture_scale"]))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, DPoseError):
        return str(spec.default)


def _largest(part: EvaluationPart, of_person: Sequence[int] | np.ndarray) -> np.ndarray:
    truth = part.truth
    return largest_person_groups(truth.image, truth.box_areas(), np.asarray(of_person), len(truth.files))
