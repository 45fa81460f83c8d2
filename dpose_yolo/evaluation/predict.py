"""One pass of the engine's validator that also keeps what the model said, in original pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from ultralytics.models.yolo.pose import PoseValidator

from dpose_yolo.engine.checks import engine_errors
from dpose_yolo.engine.models import engine_model
from dpose_yolo.errors import DPoseError
from dpose_yolo.evaluation.data import EvaluationPart, load_part
from dpose_yolo.metrics.samples import Detections

MAX_DETECTIONS = 20  # persons of an image that count, COCO's number for keypoints
# Settings of the pass that are the caller's business, not the user's.
OURS = ("model", "data", "split", "project", "name", "exist_ok", "save_dir", "save_json", "mode", "task")


class CollectingValidator(PoseValidator):
    """The engine's pose validator, which keeps the likeliest persons of each image.

    Attributes:
        chosen: for each keypoint of the data the model's keypoint that answers for it, -1 where it has none; None
            where the two are the same.
        found: image path to (persons, 5 + K * 3): box x1, y1, x2, y2, score, and x, y, confidence of the keypoints, in
            original pixels, unrounded, falling by score.
    """

    def __init__(self, *args: Any, chosen: Sequence[int] | None = None, most: int = MAX_DETECTIONS, **kwargs: Any):
        """See the class; `most` persons are kept of each image."""
        super().__init__(*args, **kwargs)
        self.chosen = None if chosen is None else list(chosen)
        self.most = most
        self.found: dict[str, np.ndarray] = {}
        self.model_shape: list[int] = []
        self.kpt_shape: Any = None  # of the data

    def init_metrics(self, model: Any) -> None:
        """The engine's, after a look whether the model speaks of the data's keypoints."""
        super().init_metrics(model)
        # files of other exporters may not say; the engine then takes the data's shape as well
        self.model_shape = [int(v) for v in getattr(model, "kpt_shape", None) or self.kpt_shape]
        count, labelled = self.model_shape[0], self.kpt_shape[0]
        if self.chosen is None and count != labelled:
            raise DPoseError(
                f"the model gives {count} keypoints, but the data has {labelled}: use a model of this data"
            )
        if self.chosen is not None and (len(self.chosen) != labelled or max(self.chosen) >= count):
            raise DPoseError(f"{len(self.chosen)} keypoints chosen among {count}, but the data has {labelled}")

    def print_results(self) -> None:
        """Print nothing: `dpose val` reports its own metrics once."""

    def postprocess(self, preds: Any) -> list[dict[str, torch.Tensor]]:
        """The engine's, with the model's keypoints put into the data's order and given a confidence."""
        shape, self.kpt_shape = self.kpt_shape, self.model_shape  # the engine views the output by this attribute
        try:
            persons = super().postprocess(preds)
        finally:
            self.kpt_shape = shape
        for person in persons:
            points = person["keypoints"]
            if points.shape[-1] == 2:  # a model without keypoint confidences: the person's speaks for all
                points = torch.cat([points, person["conf"][:, None, None].expand(-1, points.shape[1], 1)], -1)
            if self.chosen is not None:
                points = torch.cat([points, torch.zeros_like(points[:, :1])], 1)[:, self.chosen]
            person["keypoints"] = points
        return persons

    def update_metrics(self, preds: list[dict[str, torch.Tensor]], batch: dict[str, Any]) -> None:
        """The engine's, and the persons are kept."""
        super().update_metrics(preds, batch)
        for i, pred in enumerate(preds):
            best = pred["conf"].argsort(descending=True, stable=True)[: self.most]
            about = self._prepare_batch(i, batch)
            scaled = self.scale_preds({k: v[best] for k, v in pred.items()}, about)
            row = [scaled["bboxes"], scaled["conf"][:, None], scaled["keypoints"].flatten(1)]
            self.found[about["im_file"]] = torch.cat([v.float() for v in row], 1).cpu().numpy()


def evaluate_engine_model(
    model: Any,
    data: Any = None,
    split: str = "val",
    *,
    part: EvaluationPart | None = None,
    keypoints: Sequence[int] | None = None,
    max_detections: int = MAX_DETECTIONS,
    folder: str | Path | None = None,
    **engine: Any,
) -> tuple[Detections, dict[str, float]]:
    """Run a model over a data part once, as `YOLO(model).val(rect=False, ...)` does.

    On square input, as models are trained, exported and run. The engine itself validates checkpoints on padded
    rectangles (`rect=True`), which cost a narrow model accuracy that its exported file has.

    Args:
        model: path of a .pt checkpoint or of an exported model, or the engine's `YOLO` object.
        data: path of a data YAML.
        split: part of the data.
        part: the labels, where they have been read (`load_part`); then `data` and `split` are theirs.
        keypoints: for each of the data's K keypoints the index of the model's keypoint that answers for it, -1 where it
            has none (its points are then 0 with confidence 0); None takes them one by one.
        max_detections: persons kept of each image, the likeliest ones.
        folder: where the engine may write (its own plots); None for nowhere.
        **engine: settings of the engine's validation: imgsz, batch, device, conf, iou, ...

    Returns:
        The detections in original pixels, clipped to the image as the engine's predictions are, falling by score
        within an image; and the engine's own figures: `AP`, `AP50`, `box_AP`, `box_AP50`, with the `imgsz` it used,
        and `preprocess_ms`, `inference_ms`, `postprocess_ms` an image.

    Raises:
        DPoseError: for a model or data that cannot be used.
    """
    part = part or load_part(data, split)
    yolo = engine_model(model) if isinstance(model, str | Path) else model
    name = model if isinstance(model, str | Path) else yolo.ckpt_path or yolo.model_name
    kept: list[CollectingValidator] = []

    def validator(args: dict[str, Any], _callbacks: Any) -> CollectingValidator:
        kept.append(CollectingValidator(None, target, args, _callbacks, chosen=keypoints, most=max_detections))
        return kept[0]

    settings = {"plots": False, "rect": False, **{k: v for k, v in engine.items() if k not in OURS}}
    with (
        TemporaryDirectory(prefix="dpose-val-") as nowhere,
        engine_errors(f"model={name} cannot be validated on {part.data_file}"),
    ):
        target = Path(folder) if folder else Path(nowhere)
        metrics = yolo.val(validator=validator, data=part.data_file, split=part.split, save_json=False, **settings)
    run = kept[0]
    figures = {
        "AP": float(metrics.pose.map),
        "AP50": float(metrics.pose.map50),
        "box_AP": float(metrics.box.map),
        "box_AP50": float(metrics.box.map50),
        "imgsz": run.args.imgsz if isinstance(run.args.imgsz, int) else max(run.args.imgsz),
        **{f"{k}_ms": float(v) for k, v in run.speed.items() if k != "loss"},
    }
    return _detections(run.found, part), figures


def _detections(found: dict[str, np.ndarray], part: EvaluationPart) -> Detections:
    files = part.truth.files
    if set(found) != set(files):
        odd = next(iter(set(found) ^ set(files)))
        raise DPoseError(f"the labels changed while the model ran: {odd} was seen by only one of the two; run again")
    rows = [found[f] for f in files]
    table = np.concatenate(rows).astype(np.float64)
    image = np.repeat(np.arange(len(files)), [len(r) for r in rows])
    return Detections(image, table[:, 4], table[:, :4], table[:, 5:].reshape(len(table), len(part.truth.names), 3))
