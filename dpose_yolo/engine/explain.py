"""Where a trained model looks for a keypoint: class activation maps of single images (paper Fig. 4)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ultralytics.data.augment import LetterBox
from ultralytics.nn.tasks import load_checkpoint

from dpose_yolo.attention import keypoint_cam, score_gradients
from dpose_yolo.engine.graph import (
    EngineModel,
    attention_layers,
    head_output,
    needed_outputs,
    run_layers,
    split_keypoints,
)
from dpose_yolo.engine.postures import keypoint_names
from dpose_yolo.errors import DPoseError


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


def load_pose_model(path: str | Path) -> EngineModel:
    """Load a pose checkpoint for evaluation.

    Raises:
        DPoseError: when there is no such file or it is not a pose model.
    """
    if not Path(path).is_file():
        raise DPoseError(f"no model file {path}: give the path of a .pt checkpoint")
    try:
        model, _ = load_checkpoint(path)
    except Exception as error:
        raise DPoseError(f"{path} is not a model checkpoint: {' '.join(str(error).split())[:200]}") from error
    if getattr(model, "task", None) != "pose":
        raise DPoseError(f"{path} is a {getattr(model, 'task', 'non-YOLO')} model: give a pose model")
    return model


def model_keypoint_names(model: EngineModel) -> list[str]:
    """Names of the model's keypoints, or numbers where the checkpoint carries none."""
    return keypoint_names({"kpt_names": getattr(model, "kpt_names", None), "kpt_shape": model.model[-1].kpt_shape})


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
    layers = attention_layers(model, layers)
    head = model.model[-1]
    names = model_keypoint_names(model)
    height, width = image.shape[:2]
    stride = max(int(model.stride.max()), 32)
    size = -(-imgsz // stride) * stride
    boxed = LetterBox((size, size), auto=False)(image=image)
    gain = min(size / height, size / width)
    wide, high = round(width * gain), round(height * gain)
    left, top = round((size - wide) / 2 - 0.1), round((size - high) / 2 - 0.1)  # as the engine's letterbox rounds
    channels = model.yaml.get("channels", 3)
    plain = boxed[..., ::-1] if channels == 3 else boxed.mean(-1, keepdims=True)
    tensor = torch.from_numpy(np.ascontiguousarray(plain.transpose(2, 0, 1))).float()[None] / 255
    tensor = tensor.to(next(model.parameters()).device)
    with torch.no_grad():
        model(tensor)  # sets the head's anchors for this size, which decoding needs
        early = run_layers(model, {}, 0, layers[0] + 1, tensor)
    with torch.enable_grad():
        tapped = {i: early[i].detach().requires_grad_() for i in needed_outputs(model, layers[0])}
        outputs = run_layers(model, tapped, layers[0] + 1, len(model.model) - 1)
        raw = head_output(model, outputs, keypoints_only=False)
        best = int(raw["scores"][0].amax(0).argmax())
        keypoint_logits = raw["kpts"][0, :, 2, best]
        decoded = split_keypoints(head.kpts_decode(raw["kpts"].detach().flatten(1, 2)), head.kpt_shape)[0, :, :, best]
        explanation = Explanation({}, {}, float(raw["scores"].detach()[0].amax(0)[best].sigmoid()))
        for k in keypoints:
            score = keypoint_logits[k] if logit else keypoint_logits[k].sigmoid()
            features = [outputs[i] for i in layers]
            gradients = score_gradients(score[None], features)
            total = np.zeros((height, width), np.float32)
            for feature, gradient in zip(features, gradients, strict=True):
                cam = keypoint_cam(feature, gradient)[None].detach()
                cam = torch.nn.functional.interpolate(cam, size=(size, size), mode="bilinear", align_corners=False)
                inside = cam[:, :, top : top + high, left : left + wide]
                full = torch.nn.functional.interpolate(
                    inside, size=(height, width), mode="bilinear", align_corners=False
                )
                total += (full / full.amax().clamp(min=1e-12))[0, 0].cpu().numpy() / len(layers)
            x, y, confidence = (float(v) for v in decoded[k])
            explanation.maps[names[k]] = total
            explanation.points[names[k]] = ((x - left) / gain, (y - top) / gain, confidence)
    return explanation
