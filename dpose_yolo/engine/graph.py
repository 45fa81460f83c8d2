"""Backbone layers of an engine model: which there are, tapping their outputs, and running the rest again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import nn
from ultralytics.nn.modules.head import Pose

from dpose_yolo.errors import DPoseError

# An engine model or layer: a torch module whose layer list, head and wiring (`model`, `yaml`, `i`, `f`) torch's own
# type does not know.
EngineModel: TypeAlias = Any


def _sources(layer: EngineModel) -> list[int]:
    """Absolute indices of the layers whose outputs this layer reads (the engine counts some from the end)."""
    origin = [layer.f] if isinstance(layer.f, int) else list(layer.f)
    return [j if j >= 0 else layer.i + j for j in origin]


def run_layers(
    model: EngineModel, outputs: dict[int, torch.Tensor], first: int, last: int, image: torch.Tensor | None = None
) -> dict[int, torch.Tensor]:
    """Run layers `first` to `last` - 1 of the engine's layer list, as its own forward pass does.

    Args:
        model: engine model (`model.model` is the layer list, the last one the head).
        outputs: outputs of earlier layers that these read, by layer index; extended in place.
        first: first layer to run.
        last: layer to stop before.
        image: (B, C, H, W) input, needed when `first` is 0.

    Returns:
        `outputs`.
    """
    for layer in model.model[first:last]:
        inputs = [image if j < 0 else outputs[j] for j in _sources(layer)]
        outputs[layer.i] = layer(inputs[0] if isinstance(layer.f, int) else inputs)
    return outputs


def needed_outputs(model: EngineModel, start: int) -> list[int]:
    """Layers up to `start` whose outputs the layers after it read."""
    later = {j for layer in model.model[start + 1 :] for j in _sources(layer)}
    return sorted({j for j in later if j <= start} | {start})


def head_output(
    model: EngineModel, outputs: dict[int, torch.Tensor], keypoints_only: bool = True
) -> dict[str, torch.Tensor]:
    """Raw output of the pose head from the neck outputs.

    End-to-end heads answer with the one-to-many branch: the one-to-one branch is cut off from the backbone.

    Args:
        model: engine pose model.
        outputs: outputs of the layers the head reads, by layer index.
        keypoints_only: leave the box and class branches out.

    Returns:
        `kpts` (B, K, 3, A): x, y, confidence logit of every prediction cell; with all branches also `scores` (B, C, A).
    """
    head = model.model[-1]
    branches = {**head.one2many, **({"box_head": None, "cls_head": None} if keypoints_only else {})}
    raw = head.forward_head([outputs[j] for j in _sources(head)], **branches)
    return {**raw, "kpts": split_keypoints(raw["kpts"], head.kpt_shape)}


def split_keypoints(raw: torch.Tensor, kpt_shape: Iterable[int]) -> torch.Tensor:
    """View the head's (B, K * 3, A) keypoint output as (B, K, 3, A)."""
    count, dims = kpt_shape
    return raw.view(raw.shape[0], count, dims, -1)


@contextmanager
def batch_norm(layers: Iterable[EngineModel], frozen: bool) -> Iterator[None]:
    """Run batch norms a second time in a step without leaving a trace.

    Args:
        layers: modules to search.
        frozen: True uses the running statistics, so that images do not influence each other; False uses the batch's
            own, as the training pass did, but does not count them into the running statistics again.
    """
    norms = [m for layer in layers for m in layer.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(m, m.training, m.momentum) for m in norms]
    counters = [(c, c.clone()) for m in norms if m.training and (c := m.num_batches_tracked) is not None]
    try:
        for m in norms:
            if frozen:
                m.eval()
            else:
                m.momentum = 0.0
        yield
    finally:
        for m, training, momentum in before:
            m.training, m.momentum = training, momentum
        if not frozen:
            for counter, count in counters:
                counter.copy_(count)


def map_shapes(model: EngineModel, length: int) -> dict[int, tuple[int, int]]:
    """Channels and stride of every layer with a map output among the first `length`, by layer index."""
    size = 256
    weight = next(model.parameters())
    image = torch.zeros(1, model.yaml.get("channels", 3), size, size, device=weight.device, dtype=weight.dtype)
    modes = [(m, m.training) for m in model.modules()]  # frozen layers have modes of their own
    model.eval()
    try:
        with torch.no_grad():
            outputs = run_layers(model, {}, 0, length, image)
    finally:
        for m, training in modes:
            m.training = training
    maps = {i: y for i, y in outputs.items() if isinstance(y, torch.Tensor) and y.ndim == 4}
    return {i: (y.shape[1], size // y.shape[2]) for i, y in maps.items()}


def backbone_strides(model: EngineModel) -> dict[int, int]:
    """Stride of every backbone layer with a map output, by layer index."""
    return {i: stride for i, (_, stride) in map_shapes(model, len(model.yaml["backbone"])).items()}


def _require_pose_head(model: EngineModel) -> None:
    head = model.model[-1]
    if not isinstance(head, Pose):
        raise DPoseError(f"the model ends in {type(head).__name__}, not in a pose head: use a -pose model")


def attention_layers(model: EngineModel, wanted: str | list[int]) -> list[int]:
    """Resolve the setting `att_layers` for maps by Grad-CAM.

    Args:
        model: engine pose model.
        wanted: `auto` for the last stride-16 layer of the backbone (fine enough for a wrist, deep enough to see the
            body), or layer numbers.

    Raises:
        DPoseError: for a layer outside the backbone, or a model without a keypoint confidence.
    """
    _require_pose_head(model)
    head = model.model[-1]
    if head.kpt_shape[1] != 3:
        raise DPoseError(
            "keypoint attention by gradcam needs a keypoint confidence, but kpt_shape has no visibility "
            f"({list(head.kpt_shape)}): label visibility (kpt_shape: [{head.kpt_shape[0]}, 3]), or set att_map=readout "
            "or att=0"
        )
    strides = backbone_strides(model)
    if isinstance(wanted, str):
        return [max((i for i, s in strides.items() if s == 16), default=max(strides))]
    return _known_layers(wanted, strides, "a backbone layer")


def readout_layers(model: EngineModel, wanted: str | list[int]) -> dict[int, tuple[int, int]]:
    """Resolve the setting `att_layers` for maps by readout: channels and stride by layer.

    Args:
        model: engine pose model.
        wanted: `auto` for the finest input of the head, which backbone and neck both shape, or layer numbers.

    Raises:
        DPoseError: for a layer that is not there or gives no map.
    """
    _require_pose_head(model)
    shapes = map_shapes(model, len(model.model) - 1)
    if isinstance(wanted, str):
        chosen = [min(_sources(model.model[-1]), key=lambda i: shapes[i][1])]
    else:
        chosen = _known_layers(wanted, {i: s for i, (_, s) in shapes.items()}, "a layer with a map")
    return {i: shapes[i] for i in chosen}


def _known_layers(wanted: list[int], strides: dict[int, int], what: str) -> list[int]:
    """The wanted layers in order, all of them known."""
    for layer in wanted:
        if layer not in strides:
            raise DPoseError(
                f"att_layers={layer} is not {what} of this model: choose from "
                f"{', '.join(f'{i} (stride {s})' for i, s in strides.items())}"
            )
    return sorted(set(wanted))


class FeatureTap:
    """Holds layer outputs of the training forward pass until the criterion takes them.

    The hooks sit on the live model only: they are set after the engine has copied it for its moving average, and
    checkpoints are written from that copy, so nothing of the tap is ever saved.
    """

    def __init__(self, model: EngineModel, layers: Iterable[int]):
        """Hook the outputs of `layers`."""
        self._outputs: dict[int, torch.Tensor] = {}
        self._handles = [model.model[i].register_forward_hook(self._keep(i)) for i in layers]

    def _keep(self, index: int):
        def hook(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            if module.training and torch.is_grad_enabled():
                self._outputs[index] = output

        return hook

    def take(self) -> dict[int, torch.Tensor]:
        """Outputs by layer index; the tap lets go of them."""
        outputs, self._outputs = self._outputs, {}
        return outputs

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._outputs = {}
