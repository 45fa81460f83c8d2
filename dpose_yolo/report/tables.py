"""Tables of the posture clusters: what each holds, how often it is drawn, what it looks like (paper 3.2)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dpose_yolo.dataset.index import NAME_COLUMNS
from dpose_yolo.errors import DPoseError
from dpose_yolo.report.drawing import replacing
from dpose_yolo.report.plain import save_csv

if TYPE_CHECKING:
    from dpose_yolo.engine.postures import PoseTable, PosturePlan
    from dpose_yolo.posture.mixture import PostureMixture


@dataclass
class Members:
    """Which pose belongs to which cluster.

    Attributes:
        features: (P, D) used posture features, NaN = missing.
        cluster: (P,) likeliest cluster, -1 for a pose without any labelled keypoint in use.
        score: (P,) log-likelihood for each observed coordinate, so that poses with fewer labels compare.
        typical: (C,) pose nearest to the cluster's mean, -1 for a cluster that is nobody's likeliest.
    """

    features: np.ndarray
    cluster: np.ndarray
    score: np.ndarray
    typical: np.ndarray


def members(table: PoseTable, mixture: PostureMixture) -> Members:
    """Assign every pose to its likeliest cluster and find each cluster's most typical pose."""
    features = table.features()
    used = features[:, mixture.used_]
    observed = (~np.isnan(used)).sum(1)
    cluster = mixture.assign(features)
    score = mixture.score_samples(features) / np.maximum(observed, 1)
    typical = np.full(len(mixture.weights_), -1)
    for j in range(len(typical)):
        own = np.flatnonzero(cluster == j)
        if len(own):
            own = own[observed[own] >= np.median(observed[own])]  # few labels are easily near the mean
            distance = np.nanmean((used[own] - mixture.means_[j]) ** 2, axis=1)
            typical[j] = own[distance.argmin()]
    return Members(used, cluster, score, typical)


def posture_names(csv_path: str | Path, files: Sequence[str]) -> list[str | None]:
    """Look up the posture or action name of each image in a CSV file.

    Args:
        csv_path: table with the column `file` and one of `posture`, `action`, `name`, see `csv_column`.
        files: N image paths.

    Returns:
        N names, None for images that the table does not know.

    Raises:
        DPoseError: as `csv_column`, and for a table without any of these columns.
    """
    names = csv_column(csv_path, files, NAME_COLUMNS)
    if names is None:
        columns = ", ".join(map(str, _read_csv(csv_path).columns))
        raise DPoseError(f"{csv_path} has the columns {columns}: it needs `file` and one of {', '.join(NAME_COLUMNS)}")
    return names


def csv_column(csv_path: str | Path, files: Sequence[str], columns: Sequence[str]) -> list[str | None] | None:
    """Look up a word for each image in a CSV file.

    Args:
        csv_path: table with the column `file`: a name or the end of a path (`vp1/img_0001.jpg`); the longest end that
            matches wins. A column `split` tells files of one name in several parts apart, by the folder they lie in.
        files: N image paths.
        columns: names of the column; the first that the table has is read.

    Returns:
        N words, None for images that the table does not know; or None if the table has no such column.

    Raises:
        DPoseError: for a table that is missing, has no column `file`, gives one file two words, or knows none of
            the files.
    """
    frame = _read_csv(csv_path)
    column = next((c for c in columns if c in frame), None)
    if "file" not in frame:
        raise DPoseError(f"{csv_path} has the columns {', '.join(map(str, frame.columns))}: it needs `file`")
    if column is None:
        return None
    known = _known(frame, column, csv_path)
    words = [_longest_end(_parts(file), known) for file in files]
    if len(files) and not any(words):
        raise DPoseError(
            f"{csv_path} knows none of the {len(files)} images (the first is {files[0]}): its column `file` "
            "must hold their names or the ends of their paths"
        )
    return words


def _read_csv(csv_path: str | Path) -> pd.DataFrame:
    try:
        with open(csv_path, "rb") as file:  # given a name, pandas would fetch a URL
            return pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DPoseError(f"there is no table of posture names at {csv_path}: give a CSV file") from error
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise DPoseError(f"{csv_path} is not readable as CSV: {' '.join(str(error).split())}") from error


def _known(frame: pd.DataFrame, column: str, csv_path: str | Path) -> dict[tuple[str, ...], str]:
    """Word by end of a path; where several parts have different files of one name, the part's folder belongs to it."""
    rows = [(_parts(file), word) for file, word in zip(frame["file"], frame[column], strict=True)]
    words = Counter(parts for parts, word in set(rows) if word)
    splits = list(frame["split"]) if "split" in frame else [""] * len(rows)
    known: dict[tuple[str, ...], str] = {}
    for (parts, word), split in zip(rows, splits, strict=True):
        end = (split, *parts) if split and words[parts] > 1 else parts
        if word and known.setdefault(end, word) != word:
            raise DPoseError(f"{csv_path} calls {'/'.join(end)} both '{known[end]}' and '{word}': keep one row a file")
    return known


def _parts(file: str) -> tuple[str, ...]:
    return tuple(part for part in PurePosixPath(file.strip().replace("\\", "/")).parts if part != ".")


def _longest_end(parts: tuple[str, ...], known: dict[tuple[str, ...], str]) -> str | None:
    return next((known[parts[at:]] for at in range(len(parts)) if parts[at:] in known), None)


def cluster_table(
    table: PoseTable,
    mixture: PostureMixture,
    plan: PosturePlan,
    names: Sequence[str | None] | None = None,
    own: Members | None = None,
) -> pd.DataFrame:
    """One row a cluster, numbered from 0 in the mixture's order (falling weight), as in `posture_draws.csv`.

    Columns: `cluster`; `poses`, `images` (counted by their likeliest cluster; without a labelled pose they
    count nowhere); `natural_share`, `balanced_share` (of the images' and of the draws' responsibility, each
    sums to 1); `draws` (expected in an epoch); `largest_draws` (most of one image of the cluster);
    `typical_file` (pose nearest to the mean); `rarest_file`, `rarest_log_likelihood` (least likely member,
    nats for each observed coordinate); `left_out` (keypoints that take no part in the postures); with `names`
    also `posture`, the commonest name among the cluster's poses, and `purity`, its share of those that have a
    name.

    Args:
        table: the labelled persons.
        mixture: fitted posture mixture.
        plan: expected draws of the same images.
        names: N posture names of the images, see `posture_names`.
        own: `members(table, mixture)` where it is at hand.

    Raises:
        DPoseError: when table, plan and names speak of different numbers of images.
    """
    images = len(table.files)
    if len(plan.expected) != images or (names is not None and len(names) != images):
        told = f", {len(names)} names" if names is not None else ""
        raise DPoseError(f"{images} images but a plan for {len(plan.expected)}{told}: take all from the same labels")
    own = own or members(table, mixture)
    counts = np.bincount(own.cluster[own.cluster >= 0], minlength=len(mixture.weights_))
    natural, balanced = plan.shares(np.ones(images)), plan.shares(plan.expected)
    draws = plan.expected @ plan.responsibilities
    posed = np.zeros(images, bool)
    posed[table.image[own.cluster >= 0]] = True
    left_out = " ".join(table.names[k] for k in mixture.left_out_)
    rows = []
    for j in range(len(mixture.weights_)):
        poses = np.flatnonzero(own.cluster == j)
        in_images = np.flatnonzero((plan.cluster == j) & posed)
        rarest = poses[own.score[poses].argmin()] if len(poses) else -1
        row: dict[str, Any] = {
            "cluster": j,
            "poses": int(counts[j]),
            "images": len(in_images),
            "natural_share": float(natural[j]),
            "balanced_share": float(balanced[j]),
            "draws": float(draws[j]),
            "largest_draws": float(plan.expected[in_images].max()) if len(in_images) else 0.0,
            "typical_file": table.files[table.image[own.typical[j]]] if len(poses) else None,
            "rarest_file": table.files[table.image[rarest]] if len(poses) else None,
            "rarest_log_likelihood": float(own.score[rarest]) if len(poses) else None,
            "left_out": left_out,
        }
        if names is not None:
            row["posture"], row["purity"] = majority([names[i] for i in table.image[poses]])
        rows.append(row)
    return pd.DataFrame(rows)


def majority(names: Sequence[str | None]) -> tuple[str | None, float | None]:
    """Commonest name (the first in the alphabet of equals) and its share of the named."""
    named = Counter(name for name in names if name)
    if not named:
        return None, None
    name, count = min(named.items(), key=lambda item: (-item[1], item[0]))
    return name, count / named.total()


def save_tables(
    df: pd.DataFrame, mixture: PostureMixture, folder: str | Path, curve: Mapping[int, float] | None = None
) -> tuple[Path, Path]:
    """Write `clusters.csv` and `clusters.json`, each in one step; the JSON also tells of the fit.

    Args:
        df: from `cluster_table`.
        mixture: the mixture behind it.
        folder: where to; made if missing.
        curve: BIC by number of clusters; by default what the mixture's own fit tried.

    Returns:
        Paths of the two files.

    Raises:
        DPoseError: when a file cannot be written.
    """
    count = mixture.n_features_in_ // 2
    tried = mixture.bic_curve_ if curve is None else curve
    names = list(mixture.keypoint_names_) or [str(k) for k in range(count)]
    content = {
        "keypoints": names,
        "left_out": [names[k] for k in mixture.left_out_],
        "settings": {name: plain_value(value) for name, value in mixture.get_params().items()},
        "fitted_poses": mixture.n_fit_,
        "log_likelihood_unit": "nats for each observed coordinate",
        "bic": [{"clusters": int(n), "bic": float(bic)} for n, bic in sorted(tried.items())],
        "clusters": records(df),
    }
    csv_path, json_path = Path(folder) / "clusters.csv", Path(folder) / "clusters.json"
    with replacing(csv_path) as temporary:
        save_csv(df, temporary)
    with replacing(json_path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return csv_path, json_path


def records(df: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as dicts of JSON values."""
    return [{str(k): plain_value(v) for k, v in row.items()} for row in df.to_dict(orient="records")]


def plain_value(value: Any) -> Any:
    """A JSON value: numpy's numbers as Python's, what is missing as null."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple):
        return [plain_value(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
