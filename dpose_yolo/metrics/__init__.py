"""Metrics of driver poses: numpy, pandas and faster-coco-eval; nothing here knows the engine.

`samples` holds labels and detections, `coco` gives the COCO numbers, `matching` the same AP for any weighting of the
images, `bootstrap` intervals of it, `keypoints` and `postures` tell where a model is good.
"""

from dpose_yolo.metrics.bootstrap import Difference, bootstrap_weights, interval, paired, seed_mean_difference
from dpose_yolo.metrics.coco import coco_metrics
from dpose_yolo.metrics.keypoints import keypoint_table
from dpose_yolo.metrics.matching import Matches, match
from dpose_yolo.metrics.postures import (
    PostureReport,
    frequency_thirds,
    largest_person_groups,
    macro_average_precision,
    posture_metrics,
    third_mask,
)
from dpose_yolo.metrics.samples import OKS_AREA, Detections, Truth
from dpose_yolo.metrics.similarity import assign_by_box, person_oks

__all__ = [
    "OKS_AREA",
    "Detections",
    "Difference",
    "Matches",
    "PostureReport",
    "Truth",
    "assign_by_box",
    "bootstrap_weights",
    "coco_metrics",
    "frequency_thirds",
    "interval",
    "keypoint_table",
    "largest_person_groups",
    "macro_average_precision",
    "match",
    "paired",
    "person_oks",
    "posture_metrics",
    "seed_mean_difference",
    "third_mask",
]
