"""The posture mixture of a training in its checkpoint, as plain tensors and words on the engine's model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.utils import LOGGER

from dpose_yolo.engine.graph import EngineModel
from dpose_yolo.engine.postures import PoseTable, keypoint_names, pose_table
from dpose_yolo.errors import DPoseError
from dpose_yolo.posture.carried import CarriedPostures, carry, pack, unpack
from dpose_yolo.posture.mixture import PostureMixture

NAME = "dpose_postures"  # attribute of the model


def carry_on(model: EngineModel, postures: CarriedPostures) -> None:
    """Put postures on a model, to travel in its checkpoint: tensors, which even restricted loading knows."""
    content = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in pack(postures).items()}
    setattr(model, NAME, content)


def training_postures(
    mixture: PostureMixture, table: PoseTable, held_out: Any, data: dict[str, Any]
) -> CarriedPostures:
    """Postures of a training part, with the validation part's labels as the unseen poses.

    Args:
        mixture: fitted to the training part.
        table: the training part.
        held_out: the engine's label dicts of the validation part.
        data: the engine's data dictionary.
    """
    unseen = np.zeros((0, 2 * len(table.names)), np.float32)
    if any(len(label["bboxes"]) for label in held_out):
        unseen = pose_table(held_out, keypoint_names(data), table.scale).features()
    return carry(mixture, table.features(), unseen, table.scale)


def carried_postures(model: EngineModel, path: str | Path) -> CarriedPostures | None:
    """The postures that a checkpoint brings, None if it brings none that can be read.

    Args:
        model: the loaded model.
        path: of its file, for the message.
    """
    content = getattr(model, NAME, None)
    if content is None:
        return None
    try:
        return unpack({k: v.cpu().numpy() if isinstance(v, torch.Tensor) else v for k, v in content.items()})
    except DPoseError as error:
        LOGGER.warning(f"{path}: {error}")
        return None
