"""COCO's keypoint AP and AR by faster-coco-eval, whose numbers are those of pycocotools."""

from __future__ import annotations

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from dpose_yolo.metrics.samples import OKS_AREA, Detections, Truth, require_same

ALL_SIZES = [[0.0, 1e10]]  # COCO's area range "all", pixels^2


def coco_metrics(
    truth: Truth, detections: Detections, oks_area: float = OKS_AREA, max_detections: int = 20
) -> dict[str, float]:
    """COCO's numbers for keypoints, over persons of all sizes.

    AP is the mean over the OKS thresholds 0.50, 0.55 ... 0.95 of the precision at 101 recalls; AP50 and AP75 are those
    at one threshold; AR is the mean over the thresholds of the largest recall. Persons without a labelled keypoint,
    and what is found at their place, do not count.

    Args:
        truth: labelled persons, original image pixels.
        detections: of the same images.
        oks_area: share of the box area that OKS takes as area. COCO takes the area of the segment, which keypoint
            labels do not have; 0.53 is the engine's value.
        max_detections: best detections of an image that count (COCO: 20 for keypoints).

    Returns:
        AP, AP50, AP75, AR in 0..1, NaN where no person has a labelled keypoint.

    Raises:
        DPoseError: detections of other images or of other keypoints; an `oks_area` that is none.
    """
    require_same(truth, detections)
    labels = truth.coco(oks_area)
    if not truth.labelled().any():
        return dict.fromkeys(("AP", "AP50", "AP75", "AR"), float("nan"))
    if not len(detections.image):
        return dict.fromkeys(("AP", "AP50", "AP75", "AR"), 0.0)
    gt = COCO(labels)
    run = COCOeval_faster(gt, gt.loadRes(detections.coco()), "keypoints", kpt_oks_sigmas=truth.sigmas)
    run.params.maxDets = [max_detections]
    run.params.areaRng, run.params.areaRngLbl = ALL_SIZES, ["all"]
    run.evaluate()
    run.accumulate()
    precision = np.asarray(run.eval["precision"])[:, :, 0, 0, 0].mean(1)  # (thresholds,) from (T, recalls, 1, 1, 1)
    recall = np.asarray(run.eval["recall"])[:, 0, 0, 0]
    return {
        "AP": float(precision.mean()),
        "AP50": float(precision[0]),
        "AP75": float(precision[5]),
        "AR": float(recall.mean()),
    }
