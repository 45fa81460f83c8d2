"""What of the evaluated images the comparison of arms needs: posture, name and subject of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpose_yolo.arrays import read_arrays
from dpose_yolo.errors import DPoseError
from dpose_yolo.metrics import third_mask
from dpose_yolo.report.drawing import replacing

THIRDS = ("head", "medium", "tail")


@dataclass
class ImageGroups:
    """The evaluated images of a study; the same for all its arms, since all are evaluated with one mixture.

    Attributes:
        files: (N,) image files, names only.
        cluster: (N,) posture cluster of each image, -1 for none.
        cluster_counts: (C,) training poses of each cluster.
        name: (N,) posture or action name of each image as an index, -1 for none; None without names.
        name_counts: training images of each name, or None.
        subjects: (N,) subject of each image, empty where not known; None where none is known.
    """

    files: np.ndarray
    cluster: np.ndarray
    cluster_counts: np.ndarray
    name: np.ndarray | None = None
    name_counts: np.ndarray | None = None
    subjects: np.ndarray | None = None

    @classmethod
    def of(cls, evaluation: Any) -> ImageGroups:
        """Those of an `evaluation.evaluate.Evaluation`."""
        from dpose_yolo.evaluation.postures import name_groups

        part, clusters = evaluation.part, evaluation.clusters
        names = name_groups(part)
        subjects = [s or "" for s in part.subjects] if part.subjects_known() else None
        return cls(
            np.array([Path(f).name for f in part.truth.files]),
            clusters.image,
            clusters.train_counts,
            None if names is None else names.image,
            None if names is None else names.train_counts,
            None if subjects is None else np.array(subjects),
        )

    def mask(self, third: str, names: bool = False) -> np.ndarray | None:
        """(N,) bool: images of the head, medium or tail postures, by cluster or by name; None without names."""
        if not names:
            return third_mask(self.cluster, self.cluster_counts, third)
        if self.name is None or self.name_counts is None or not self.name_counts.any():
            return None
        return third_mask(self.name, self.name_counts, third)

    def save(self, path: Path) -> None:
        """Write the arrays as npz, without pickle."""
        with replacing(path) as temporary:
            np.savez_compressed(temporary, **{k: v for k, v in vars(self).items() if v is not None})

    @classmethod
    def load(cls, path: Path) -> ImageGroups:
        """Read what `save` wrote.

        Raises:
            DPoseError: when the file is missing or another one.
        """
        try:
            return cls(**read_arrays(Path(path)))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DPoseError(f"{path} cannot be read ({error}): remove it and run the study again") from error

    def same(self, other: ImageGroups) -> bool:
        """Whether two evaluations are of the same images in the same clusters."""
        return np.array_equal(self.files, other.files) and np.array_equal(self.cluster, other.cluster)
