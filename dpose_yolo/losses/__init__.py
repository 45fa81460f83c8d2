"""Losses beyond the engine's. Torch only: nothing here knows the engine."""

from dpose_yolo.losses.keypoints import far_keypoint_loss

__all__ = ["far_keypoint_loss"]
