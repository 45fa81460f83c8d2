"""Where a trained model looks for a keypoint: class activation maps of single images (paper Fig. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate
from ultralytics.data.augment import LetterBox
from ultralytics.nn.tasks import load_checkpoint

from dpose_yolo.attention import keypoint_cam, score_gradients
from dpose_yolo.engine.checkpoints import why_unreadable
from dpose_yolo.engine.graph import (
    EngineModel,
    attention_layers,
    head_output,
    needed_outputs,
    run_layers,
    split_keypoints,
)
from dpose_yolo.engine.postures import keypoint_names
from dpose_yolo.engine.words import one_line
from dpose_yolo.errors import DPoseError
from dpose_yolo.hints import missing_model, not_a_pose_model


@dataclass
class Explanation:
    """Attention of one image.

    Attributes:
        maps: keypoint name to (H, W) map over the image, in [0, 1] of its own peak (Eq. 5).
        points: keypoint name to predicted x, y in image pixels, and confidence.
        score: box confidence of the driver.
    """

    maps: dict[str, np.ndarray]
    points: dict[str, tuple[float, float, float]]
    score: float


@dataclass
class KeypointCams:
    """Class activation maps of the likeliest driver in one image, on the input of the model.

    Attributes:
        maps: (L, K, h, w) maps of L layers and K keypoints over the picture's part of the input (letterbox borders
            removed), not negative, each in units of its own.
        points: (K, 3) predicted x, y in pixels of the image, and confidence.
        score: box confidence of the driver.
        gain: input pixels a pixel of the image.
        cell: side of a cell of the coarsest of the layers, in input pixels.
    """

    maps: torch.Tensor
    points: np.ndarray
    score: float
    gain: float
    cell: float


def load_pose_model(path: str | Path) -> EngineModel:
    """Load a pose checkpoint for evaluation.

    Raises:
        DPoseError: when there is no such file or it is not a pose model.
    """
    if not Path(path).is_file():
        raise DPoseError(missing_model(path, "give the path of a .pt checkpoint"))
    try:
        model, _ = load_checkpoint(path)
    except Exception as error:
        raise DPoseError(f"{path} is not a model checkpoint: {why_unreadable(error) or one_line(error)}") from error
    if getattr(model, "task", None) != "pose":
        raise DPoseError(not_a_pose_model(path, getattr(model, "task", "non-YOLO")))
    return model


def model_keypoint_names(model: EngineModel) -> list[str]:
    """Names of the model's keypoints, or numbers where the checkpoint carries none."""
    return keypoint_names({"kpt_names": getattr(model, "kpt_names", None), "kpt_shape": model.model[-1].kpt_shape})


@dataclass
class _Fitted:
    """An image on the model's square input: (3 or 1, S, S) in [0, 1], and where the picture lies in it."""

    tensor: torch.Tensor
    gain: float
    left: int
    top: int
    wide: int
    high: int


def _fit(model: EngineModel, image: np.ndarray, imgsz: int) -> _Fitted:
    height, width = image.shape[:2]
    stride = max(int(model.stride.max()), 32)
    size = -(-imgsz // stride) * stride
    boxed = LetterBox((size, size), auto=False)(image=image)
    gain = min(size / height, size / width)
    wide, high = round(width * gain), round(height * gain)
    left, top = round((size - wide) / 2 - 0.1), round((size - high) / 2 - 0.1)  # as the engine's letterbox rounds
    plain = boxed[..., ::-1] if model.yaml.get("channels", 3) == 3 else boxed.mean(-1, keepdims=True)
    tensor = torch.from_numpy(np.ascontiguousarray(plain.transpose(2, 0, 1))).float() / 255
    return _Fitted(tensor, gain, left, top, wide, high)


def keypoint_cams(
    model: EngineModel,
    images: Sequence[np.ndarray],
    keypoints: Sequence[int],
    imgsz: int = 640,
    layers: str | list[int] = "auto",
    logit: bool = True,
) -> list[KeypointCams]:
    """Class activation maps of the likeliest driver in each image; one backward pass a keypoint serves all of them.

    Args:
        model: engine pose model in evaluation mode.
        images: B pictures (H, W, 3) BGR, uint8.
        keypoints: indices of the K keypoints to explain.
        imgsz: input size of the model.
        layers: as the setting `att_layers`.
        logit: differentiate the keypoint logit rather than its confidence.
    """
    layers = attention_layers(model, layers)
    head = model.model[-1]
    fitted = [_fit(model, image, imgsz) for image in images]
    tensor = torch.stack([f.tensor for f in fitted]).to(next(model.parameters()).device)
    with torch.no_grad():
        model(tensor)  # sets the head's anchors for this size, which decoding needs
        early = run_layers(model, {}, 0, layers[0] + 1, tensor)
    with torch.enable_grad():
        tapped = {i: early[i].detach().requires_grad_() for i in needed_outputs(model, layers[0])}
        outputs = run_layers(model, tapped, layers[0] + 1, len(model.model) - 1)
        raw = head_output(model, outputs, keypoints_only=False)
        scores = raw["scores"].detach().amax(1)  # (B, A)
        best = scores.argmax(1)
        batch = torch.arange(len(images), device=best.device)
        logits = raw["kpts"][batch, :, 2, best]  # (B, all keypoints)
        features = [outputs[i] for i in layers]
        cams: list[list[torch.Tensor]] = [[] for _ in layers]
        for k in keypoints:
            gradients = score_gradients(logits[:, k] if logit else logits[:, k].sigmoid(), features)
            for found, feature, gradient in zip(cams, features, gradients, strict=True):
                found.append(keypoint_cam(feature, gradient).detach())
    decoded = split_keypoints(head.kpts_decode(raw["kpts"].detach().flatten(1, 2)), head.kpt_shape)
    predicted = decoded[batch, :, :, best][:, list(keypoints)].cpu().numpy().astype(np.float64)  # (B, K, 3)
    size = tensor.shape[2:]
    full = [interpolate(torch.stack(c, 1), size=size, mode="bilinear", align_corners=False) for c in cams]
    cell = max(size[0] / f.shape[2] for f in features)
    explained = []
    for b, f in enumerate(fitted):
        maps = torch.stack([c[b, :, f.top : f.top + f.high, f.left : f.left + f.wide] for c in full])
        points = (predicted[b] - [f.left, f.top, 0]) / [f.gain, f.gain, 1]
        explained.append(KeypointCams(maps, points, float(scores[b, best[b]].sigmoid()), f.gain, cell))
    return explained


def explain(
    model: EngineModel,
    image: np.ndarray,
    keypoints: list[int],
    imgsz: int = 640,
    layers: str | list[int] = "auto",
    logit: bool = True,
) -> Explanation:
    """Attention maps of the likeliest driver in one image.

    Args:
        model: engine pose model in evaluation mode.
        image: (H, W, 3) BGR, uint8.
        keypoints: indices of the keypoints to explain.
        imgsz: input size of the model.
        layers: as the setting `att_layers`; several are averaged.
        logit: differentiate the keypoint logit rather than its confidence.

    Returns:
        Maps over the whole image, letterbox borders removed.
    """
    (cams,) = keypoint_cams(model, [image], keypoints, imgsz, layers, logit)
    names = model_keypoint_names(model)
    explanation = Explanation({}, {}, cams.score)
    for i, k in enumerate(keypoints):
        full = interpolate(cams.maps[:, i : i + 1], size=image.shape[:2], mode="bilinear", align_corners=False)
        shares = full / full.flatten(1).amax(1).clamp(min=1e-12)[:, None, None, None]
        explanation.maps[names[k]] = shares.mean(0)[0].cpu().numpy()
        x, y, confidence = (float(v) for v in cams.points[i])
        explanation.points[names[k]] = (x, y, confidence)
    return explanation
