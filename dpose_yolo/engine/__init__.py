"""The adapter: the only part of dpose_yolo that knows the Ultralytics engine."""
