"""Labels of a data set on disk, read for comparison with rendered ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpose_yolo.engine.labels import load_labels
from dpose_yolo.engine.postures import PoseTable, keypoint_names, pose_table, posture_mixture
from dpose_yolo.evaluation.data import find_index, oks_sigmas
from dpose_yolo.posture.mixture import PostureMixture
from dpose_yolo.render.labels import LabelSet, from_engine
from dpose_yolo.report.tables import csv_column

CAMERA_COLUMNS = ("camera", "view")
POSTURE_COLUMNS = ("posture", "action", "activity", "name")


@dataclass
class ReadSet:
    """One part of a data set.

    Attributes:
        labels: its persons in shares of the image, with the columns `posture` and `camera` where index.csv has them.
        table: the same persons in pixels, in the same order.
        sigmas: (17,) OKS sigmas of the data.
        name: path of the data YAML.
        cache: folder where the mixture of the labels is kept.
    """

    labels: LabelSet
    table: PoseTable
    sigmas: np.ndarray
    name: str
    cache: Path

    def mixture(self, settings: Mapping[str, Any], seed: int = 0) -> PostureMixture:
        """The posture mixture that training on this part fits, too."""
        return posture_mixture(self.table, dict(settings), seed, f"the training part of {self.name}", self.cache)


def read_set(data: Any, split: str, settings: Mapping[str, Any]) -> ReadSet:
    """Read the labels of a part, and what its index.csv says of them.

    Args:
        data: path of a data YAML.
        split: part to read.
        settings: DPOSE settings (`skip_bad`, `outside`, `posture_scale`).

    Raises:
        DPoseError: for data that cannot be used, and keypoints that are not COCO's 17.
    """
    labels, dictionary, cache = load_labels(data, split, settings["skip_bad"], settings["outside"])
    names = keypoint_names(dictionary)
    found = from_engine(labels, names, f"the {split} part of {data}")
    index = find_index(data, dictionary, split)
    if index is not None:
        for column, columns in (("posture", POSTURE_COLUMNS), ("camera", CAMERA_COLUMNS)):
            words = csv_column(index, found.files, columns)
            if words is not None:
                found.columns[column] = [word or "" for word in words]
    table = pose_table(labels, names, settings["posture_scale"])
    return ReadSet(found, table, oks_sigmas(dictionary), str(data), cache)
