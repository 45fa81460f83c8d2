"""The way back from a fine-tuned model to the one it started from: an average of their weights.

Between two models of one training path the straight line of weights is often a path of good models, and half-way the
average knows what both know (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", WiSE-FT). Where the two
lie in different valleys, as after a move to pictures of another kind, the half-way model is worse than both; so it is
measured before it is taken.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from ultralytics.utils import LOGGER

from dpose_yolo.engine.checkpoints import read_checkpoint
from dpose_yolo.engine.files import move_into_place, staging, strip_checkpoint
from dpose_yolo.engine.graph import EngineModel
from dpose_yolo.evaluation.data import EvaluationPart
from dpose_yolo.evaluation.predict import MAX_DETECTIONS, evaluate_engine_model
from dpose_yolo.metrics.coco import coco_metrics
from dpose_yolo.metrics.samples import OKS_AREA

HALF = 0.5  # the starting model's share where nothing else is asked for
# How far the AP of the average has to be on the way from the start's to the fine-tuned model's. Good averages were at
# .66 to .72, bad ones at .42 to .56 (docs/benchmarks.md).
FAR_ENOUGH = 0.6
MARK = "dpose_averaged"  # key of a checkpoint whose weights are an average


@dataclass
class Averaging:
    """What was measured on the new training images, and what came of it.

    Attributes:
        share: of the starting model in the weights, 0 where the average was not taken.
        start, half, tuned: AP of the starting model, the average and the fine-tuned model; None where not measured.
    """

    share: float
    start: float | None = None
    half: float | None = None
    tuned: float | None = None

    def sentence(self) -> str:
        """What was done, in a sentence."""
        measured = ""
        if self.start is not None and self.half is not None and self.tuned is not None:
            measured = (
                f" (AP on the new training images: start {self.start:.3f}, half-way {self.half:.3f}, fine-tuned "
                f"{self.tuned:.3f})"
            )
        if not self.share:
            return f"weights: the fine-tuned model's; not averaged with the starting model{measured}"
        return f"weights: {self.share:.0%} of the starting model's, the rest the fine-tuned model's{measured}"


def average_weights(start: EngineModel, tuned: EngineModel, share: float) -> bool:
    """Move the weights of `tuned` towards `start`, in place; False, and nothing is moved, if they are not of one kind.

    Args:
        start: the starting model.
        tuned: the fine-tuned model.
        share: of the starting model, 0 to 1; batch norms' running statistics are averaged, too.
    """
    before, after = start.state_dict(), tuned.state_dict()
    if {n: v.shape for n, v in before.items()} != {n: v.shape for n, v in after.items()}:
        return False  # a fused model, say, whose weights mean something else under the same names
    with torch.no_grad():
        for name, value in after.items():
            if value.is_floating_point():
                value.copy_(share * before[name].float() + (1 - share) * value.float())
    return True


def averaging_of(best: Path) -> Averaging | None:
    """What a checkpoint says about how it was averaged; None where it was not."""
    mark = read_checkpoint(best).get(MARK)
    return Averaging(**mark) if mark else None


def average_with_start(
    best: Path, start: str, share: float | str, part: EvaluationPart | None, **engine: Any
) -> Averaging:
    """Put the average of a fine-tuned model and its start in the fine-tuned one's place, in one step.

    Args:
        best: checkpoint of the fine-tuned model; one that is an average already is left as it is.
        start: checkpoint of the starting model.
        share: of the starting model; `auto` is a half, taken only if its AP on `part` is six tenths of the way from the
            start's to the fine-tuned model's: that there is no barrier between them.
        part: the new training images, needed for `auto`.
        **engine: settings of the engine's validation: imgsz, batch, device, ...
    """
    done = averaging_of(best)
    if done is not None:
        return done
    strip_checkpoint(best)  # now, not later: it takes off what only training has, a teacher for instance
    content, beginning = (read_checkpoint(file) for file in (best, start))
    found = Averaging(HALF if share == "auto" else float(share))
    old = beginning.get("ema") or beginning["model"]
    with staging(best.parent) as folder:
        file = folder / best.name
        if not average_weights(old, content["model"], found.share):
            LOGGER.warning(f"{start} and the fine-tuned model have different weights: not averaged")
            return Averaging(0.0)
        torch.save(content, file)
        if share == "auto":
            assert part is not None
            found.start, found.half, found.tuned = (
                training_ap(model, part, **engine) for model in (start, str(file), str(best))
            )
            if found.half < found.start + FAR_ENOUGH * (found.tuned - found.start):
                found.share = 0.0  # the fine-tuned model stays, with the mark
                content = read_checkpoint(best)
        content[MARK] = asdict(found)
        torch.save(content, file)
        move_into_place(file, best.parent)
    return found


def training_ap(model: str, part: EvaluationPart, **engine: Any) -> float:
    """Keypoint AP of a checkpoint on the new training images.

    Args:
        model: path of the checkpoint.
        part: the images.
        **engine: settings of the engine's validation: imgsz, batch, device, ...
    """
    LOGGER.info(f"Measuring {Path(model).name} on {len(part.truth.files)} new training images")
    detections, _ = evaluate_engine_model(model, part=part, **engine)
    return float(coco_metrics(part.truth, detections, OKS_AREA, MAX_DETECTIONS)["AP"])
