"""The attention term whose maps a linear readout gives (`att_map=readout`), on an engine model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dpose_yolo.attention import readout_layer, readout_loss, readout_target
from dpose_yolo.engine.attention import Assignment
from dpose_yolo.engine.checkpoints import models_of
from dpose_yolo.engine.graph import EngineModel, FeatureTap, readout_layers, run_layers
from dpose_yolo.engine.persons import persons_of

# Name of the readout on the model: a submodule, so that the optimizer, the moving average, devices and resumed runs
# carry it; outside the engine's layer list, so that no prediction or export sees it.
READOUT = "dpose_readout"
FINEST = 4  # input pixels per cell of the maps


def add_readout(model: EngineModel, settings: dict[str, Any], weights: EngineModel = None) -> None:
    """Put the readout of each attended layer on a model.

    Args:
        model: engine pose model.
        settings: DPOSE settings.
        weights: model of a checkpoint; its readout, if it has one of the same shape, is gone on with.
    """
    layers = readout_layers(model, settings["att_layers"])
    keypoints = model.model[-1].kpt_shape[0]
    parts = {
        str(i): readout_layer(channels, keypoints, max(1, stride // FINEST)) for i, (channels, stride) in layers.items()
    }
    readout = nn.ModuleDict(parts)
    known = getattr(weights, READOUT, None)
    if known is not None:
        state, wanted = known.float().state_dict(), readout.state_dict()
        if {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in wanted.items()}:
            readout.load_state_dict(state)
    setattr(model, READOUT, readout)


def remove_readout(model: EngineModel) -> bool:
    """Take the readout off a model; whether there was one."""
    if not hasattr(model, READOUT):
        return False
    delattr(model, READOUT)
    return True


def strip_readout(content: dict[str, Any]) -> bool:
    """Take the readout out of the content of a checkpoint of a finished training; whether there was one."""
    return any([remove_readout(m) for m in models_of(content)])


class ReadoutTerm:
    """Keypoint attention loss from the readout of an engine pose model; stands where `AttentionTerm` does.

    Args:
        model: the engine model with its readout, not wrapped for distribution.
        settings: DPOSE settings (`att_*`).
        live: tap the training forward pass; False for the averaged copy that only validates.
    """

    def __init__(self, model: EngineModel, settings: dict[str, Any], live: bool = True):
        """See the class."""
        self.model = model
        self.settings = settings
        self.layers = [int(i) for i in getattr(model, READOUT)]
        self.tap = FeatureTap(model, self.layers) if live else None

    def training(
        self, raw_keypoints: torch.Tensor, batch: dict[str, Any], assignment: Assignment, step: int
    ) -> torch.Tensor:
        """Attention loss of a training batch, averaged over its images; only `batch` is used of the arguments."""
        assert self.tap is not None
        return self._loss(self.tap.take(), batch)

    def validation(self, batch: dict[str, Any], assignment: Assignment) -> torch.Tensor:
        """Attention loss of a validation batch; only `batch` is used of the arguments."""
        with torch.no_grad():
            return self._loss(run_layers(self.model, {}, 0, self.layers[-1] + 1, batch["img"].float()), batch)

    def _loss(self, outputs: dict[int, torch.Tensor], batch: dict[str, Any]) -> torch.Tensor:
        """Mean over layers and images."""
        height, width = batch["img"].shape[2:]
        readout = getattr(self.model, READOUT)
        keypoints, boxes = persons_of(batch, outputs[self.layers[0]].device)
        size = ((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])).clamp(min=1).sqrt()
        losses = []
        for layer in self.layers:
            maps = readout[str(layer)](outputs[layer])
            shape = (maps.shape[2], maps.shape[3])
            stride = (height / shape[0], width / shape[1])
            target = readout_target(keypoints, size, self.settings["att_radius"], shape, stride)
            losses.append(readout_loss(maps, target).mean())
        return torch.stack(losses).mean()
