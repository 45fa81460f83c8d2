"""Keypoint attention of the paper (section 3.3, Eq. 4-8). Torch only: nothing here knows the engine."""

from dpose_yolo.attention.cam import attention_map, keypoint_cam, score_gradients
from dpose_yolo.attention.heatmap import keypoint_heatmap
from dpose_yolo.attention.loss import attention_loss
from dpose_yolo.attention.readout import readout_layer, readout_loss, readout_target
from dpose_yolo.attention.targets import KeypointTarget, choose_keypoints

__all__ = [
    "KeypointTarget",
    "attention_loss",
    "attention_map",
    "choose_keypoints",
    "keypoint_cam",
    "keypoint_heatmap",
    "readout_layer",
    "readout_loss",
    "readout_target",
    "score_gradients",
]
