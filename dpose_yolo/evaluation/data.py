"""A labelled data part as the metrics take it, with the names and subjects that a CSV gives its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.utils import LOGGER
from ultralytics.utils.metrics import OKS_SIGMA

from dpose_yolo.dataset.index import NAME_COLUMNS, SUBJECT_COLUMNS
from dpose_yolo.engine.labels import load_labels
from dpose_yolo.engine.postures import PoseTable, keypoint_names, pose_table
from dpose_yolo.errors import DPoseError
from dpose_yolo.keypoints import checked_sigmas
from dpose_yolo.metrics.samples import Truth
from dpose_yolo.report.tables import csv_column


@dataclass
class EvaluationPart:
    """One part of a data set, ready to be evaluated on.

    Attributes:
        truth: labels in original pixels.
        table: the same persons as the posture mixture takes them, in the same order.
        names: N posture or action names of the images (None where not known), or None without a CSV of names.
        subjects: N subjects, or None.
        data: the engine's data dictionary.
        data_file: path of the data YAML.
        split: which part.
        index: the CSV behind names and subjects.
        outside: whether images outside the data folder are taken.
    """

    truth: Truth
    table: PoseTable
    names: list[str | None] | None
    subjects: list[str | None] | None
    data: dict[str, Any]
    data_file: str
    split: str
    index: Path | None = None
    outside: bool = False
    _training: Any = field(default=None, repr=False)

    def training(self) -> tuple[list[dict[str, Any]], dict[str, Any], Path]:
        """Labels, data dictionary and label folder of the training part, as `load_labels` gives them; read once.

        Images that cannot be used are left out: they are no matter of this part.

        Raises:
            DPoseError: when there is no training part to read.
        """
        if self._training is None:
            self._training = load_labels(self.data_file, "train", skip_bad=True, outside=self.outside)
        return self._training

    def subjects_known(self) -> bool:
        """Whether the bootstrap can draw subjects rather than images."""
        return self.subjects is not None and any(self.subjects)


def load_part(
    data: Any, split: str = "val", *, names: Any = None, skip_bad: bool = False, outside: bool = False
) -> EvaluationPart:
    """Read the labels of a data part, and the names and subjects of its images.

    Args:
        data: path of a data YAML.
        split: part to read.
        names: CSV with the column `file` and `posture`, `action` or `name`, and `subject`; None looks for an
            `index.csv` beside the data YAML and the images.
        skip_bad: leave unusable images out instead of refusing them.
        outside: take images outside the data folder, too.

    Raises:
        DPoseError: for data that cannot be used, a part without labelled keypoints, and a CSV given by `names` that
            does not fit.
    """
    labels, dictionary, _ = load_labels(data, split, skip_bad, outside)
    table = pose_table(labels, keypoint_names(dictionary))
    if dictionary["kpt_shape"][1] == 2:  # labels without flags: the engine calls all of them 1, which is not "hidden"
        table.keypoints[..., 2] = np.where(table.keypoints[..., 2] > 0, 2, 0)
    if not (table.keypoints[..., 2] > 0).any():
        raise DPoseError(
            f"no keypoint is labelled in the {split} part of {data}: every visibility flag is 0, so there is nothing "
            "to measure; check that the labels are in YOLO-pose format with visibility 1 or 2"
        )
    index = find_index(data, dictionary, split, names)
    found, subjects = image_names(index, table.files, asked=names is not None)
    truth = _truth(labels, table, dictionary)
    return EvaluationPart(truth, table, found, subjects, dictionary, str(data), split, index, outside)


def _truth(labels: Sequence[dict[str, Any]], table: PoseTable, data: dict[str, Any]) -> Truth:
    centre, extent = table.boxes[:, :2].astype(np.float64), table.boxes[:, 2:].astype(np.float64)
    boxes = np.concatenate([centre - extent / 2, centre + extent / 2], 1)
    sizes = np.array([lb["shape"][::-1] for lb in labels])
    return Truth(table.files, sizes, table.image, table.keypoints, boxes, table.names, oks_sigmas(data))


def oks_sigmas(data: dict[str, Any]) -> np.ndarray:
    """(K,) OKS sigmas as the engine's `PoseValidator` chooses them: the data's, COCO's for 17 points, else 1/K.

    Raises:
        DPoseError: for `kpt_oks_sigmas` that are not one positive number a keypoint.
    """
    count = data["kpt_shape"][0]
    given = data.get("kpt_oks_sigmas")
    if not given:
        return np.asarray(OKS_SIGMA, np.float64).round(6) if data["kpt_shape"] == [17, 3] else np.full(count, 1 / count)
    return checked_sigmas(given, count)


def index_files(data_file: Any, data: dict[str, Any], split: str) -> list[Path]:
    """Where an index of posture or action names may lie: beside the images or the data YAML."""
    part = data[split]
    first = Path(part[0] if isinstance(part, list) else part)
    beside = Path(str(data_file)).parent / "index.csv"
    return list(
        dict.fromkeys([first / "index.csv", first.parent / "index.csv", first.parent.parent / "index.csv", beside])
    )


def find_index(data_file: Any, data: dict[str, Any], split: str, wanted: Any = None) -> Path | None:
    """The CSV of names and subjects: the wanted one, or an `index.csv` beside the data, or None."""
    if wanted is not None:
        return Path(str(wanted))
    return next((p for p in index_files(data_file, data, split) if p.is_file()), None)


def image_names(
    path: Path | None, files: Sequence[str], asked: bool = True
) -> tuple[list[str | None] | None, list[str | None] | None]:
    """Posture or action name, and subject, of each image.

    Args:
        path: the CSV, None for none.
        files: N image paths.
        asked: the user named the file: what is wrong with it is an error, not only a word.

    Raises:
        DPoseError: for a file that does not fit, if it was asked for.
    """
    if path is None:
        return None, None
    try:
        names, subjects = csv_column(path, files, NAME_COLUMNS), csv_column(path, files, SUBJECT_COLUMNS)
        if names is None and subjects is None:
            raise DPoseError(f"{path} has no column {', '.join(NAME_COLUMNS + SUBJECT_COLUMNS)}: it needs one of them")
    except DPoseError as error:
        if asked:
            raise
        LOGGER.warning(f"no posture names: {error}")
        return None, None
    return names, subjects
