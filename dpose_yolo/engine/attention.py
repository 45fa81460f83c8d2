"""The attention term on an engine model: from a batch and its assignment to one loss (paper 3.3)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpose_yolo.attention import (
    KeypointTarget,
    attention_loss,
    attention_map,
    choose_keypoints,
    keypoint_cam,
    keypoint_heatmap,
    score_gradients,
)
from dpose_yolo.engine.graph import (
    EngineModel,
    FeatureTap,
    attention_layers,
    batch_norm,
    head_output,
    needed_outputs,
    run_layers,
    split_keypoints,
)
from dpose_yolo.engine.persons import persons_of


def uniform_draws(files: Sequence[str], seed: int, step: int) -> np.ndarray:
    """One number in [0, 1) for each image, a pure function of file name, seed and step.

    The keypoint an image attends to then needs no random state: a resumed run, and a run split over devices, makes the
    same choices as the plain one.

    Args:
        files: B image paths; only their names count, so that a moved data set draws the same.
        seed: of the run.
        step: of the run.

    Returns:
        (B,) float64.
    """
    names = np.array([zlib.crc32(Path(f).name.encode()) for f in files], dtype=np.uint64)
    with np.errstate(over="ignore"):  # wrap-around is what the mixing (splitmix64) is made of
        z = (
            names
            + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
            + np.uint64(0xD1B54A32D192ED03) * np.uint64(step)
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) / 2**53


@dataclass
class Assignment:
    """What the engine's assigner decided for a batch: detached tensors over A prediction cells.

    Attributes:
        foreground: (B, A) bool, cells that answer for a person.
        person: (B, A) long, which of the image's persons.
        score: (B, A) how well the cell fits.
    """

    foreground: torch.Tensor
    person: torch.Tensor
    score: torch.Tensor


class AttentionTerm:
    """Keypoint attention loss of an engine pose model.

    Args:
        model: the engine model, not wrapped for distribution.
        settings: DPOSE settings (`att_*`).
        seed: of the run.
        visible: lowest visibility flag a keypoint must have to be attended to.
        live: tap the training forward pass; False for the averaged copy that only validates.
    """

    def __init__(
        self, model: EngineModel, settings: dict[str, Any], seed: int = 0, visible: int = 2, live: bool = True
    ):
        """See the class."""
        self.model = model
        self.settings = settings
        self.seed = seed
        self.visible = visible
        self.layers = attention_layers(model, settings["att_layers"])
        self.tap = FeatureTap(model, {*needed_outputs(model, self.layers[0]), *self.layers}) if live else None

    def training(
        self, raw_keypoints: torch.Tensor, batch: dict[str, Any], assignment: Assignment, step: int
    ) -> torch.Tensor:
        """Attention loss of a training batch, averaged over its images, connected to the weights.

        Args:
            raw_keypoints: (B, K * 3, A) raw keypoint output of the training forward pass.
            batch: the engine's batch.
            assignment: of this batch.
            step: training step, for the choice of keypoints.
        """
        assert self.tap is not None
        tapped = self.tap.take()
        targets = self.choose(batch, assignment, step)
        frozen = self.settings["att_bn"] == "frozen"
        autocast = torch.is_autocast_enabled(raw_keypoints.device.type)
        # Maps of a frozen backbone are no part of the training graph; order 2 still trains the layers after them.
        detached = not all(y.requires_grad for y in tapped.values())
        if not frozen and not autocast and not detached:
            # The graph of the training pass itself carries the gradient.
            keypoints = split_keypoints(raw_keypoints, self.model.model[-1].kpt_shape)
            return self._loss([tapped[i] for i in self.layers], keypoints, targets, batch)
        # Otherwise the layers after the map run a second time: with frozen batch norms, so that the map of an image is
        # its own, and in full precision, since a half-precision inner gradient underflows or poisons the weights.
        tapped = {i: y if y.requires_grad else y.detach().requires_grad_() for i, y in tapped.items()}
        return self._replay(tapped, targets, batch, frozen)

    def validation(self, batch: dict[str, Any], assignment: Assignment) -> torch.Tensor:
        """Attention loss of a validation batch, averaged over its images, detached.

        The engine validates without gradients, so the pass is made again here from the map on.
        """
        with torch.inference_mode(False), torch.enable_grad():
            # Tensors made in inference mode cannot take part in autograd; their copies can.
            image = batch["img"].detach().clone().float()
            plain = {k: v.detach().clone() if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
            copies = [t.detach().clone() for t in (assignment.foreground, assignment.person, assignment.score)]
            targets = self.choose(plain, Assignment(*copies), step=0)
            start = self.layers[0]
            with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
                outputs = run_layers(self.model, {}, 0, start + 1, image)
            tapped = {i: outputs[i].clone().requires_grad_() for i in needed_outputs(self.model, start)}
            return self._replay(tapped, targets, plain, frozen=True).detach()

    def choose(self, batch: dict[str, Any], assignment: Assignment, step: int) -> list[KeypointTarget]:
        """Draw `att_keypoints` keypoints of assigned persons for each image, different ones where it has as many."""
        device = assignment.person.device
        keypoints, boxes = persons_of(batch, device)
        draw = torch.from_numpy(uniform_draws(batch["im_file"], self.seed, step)).to(device)
        assigned = torch.where(assignment.foreground, assignment.person, -1)
        number = self.settings["att_keypoints"]
        # Equal steps around the circle from one draw: no keypoint comes twice before all have come.
        draws = [(draw + k / number) % 1.0 for k in range(number)]
        return [choose_keypoints(keypoints, assigned, assignment.score, boxes, d, self.visible) for d in draws]

    def _replay(
        self, tapped: dict[int, torch.Tensor], targets: list[KeypointTarget], batch: dict[str, Any], frozen: bool
    ) -> torch.Tensor:
        """Run the layers after the first map again and take the loss there."""
        start, layers = self.layers[0], self.model.model
        with torch.autocast(batch["img"].device.type, enabled=False), batch_norm(layers[start + 1 :], frozen):
            outputs = run_layers(self.model, {i: y.float() for i, y in tapped.items()}, start + 1, len(layers) - 1)
            keypoints = head_output(self.model, outputs)["kpts"]
            return self._loss([outputs[i] for i in self.layers], keypoints, targets, batch)

    def _loss(
        self, maps: list[torch.Tensor], keypoints: torch.Tensor, targets: list[KeypointTarget], batch: dict[str, Any]
    ) -> torch.Tensor:
        """Eq. 4 to 8 for every drawn keypoint and attended layer, averaged over keypoints, layers and images."""
        s = self.settings
        total = keypoints.new_zeros(())
        for target in targets:
            scores = target.scores(keypoints, logit=s["att_target"] == "logit")
            gradients = score_gradients(scores, maps, differentiable=s["att_order"] == 2)  # Eq. 4
            for feature, gradient in zip(maps, gradients, strict=True):
                cam = keypoint_cam(feature, gradient)  # Eq. 5
                attention = attention_map(cam, s["att_omega"], s["att_sigma"])  # Eq. 6
                height, width = cam.shape[1:]
                stride = (batch["img"].shape[2] / height, batch["img"].shape[3] / width)
                radius = target.size * s["att_radius"]
                heatmap = keypoint_heatmap(target.points, radius, (height, width), stride)  # Eq. 7
                total = total + attention_loss(attention, heatmap, target.weight, s["att_norm"]).mean()  # Eq. 8
        return total / (len(maps) * len(targets))
