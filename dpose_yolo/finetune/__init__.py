"""What fine-tuning decides by rule: how long and how fast for how many images, and whether the result is to be used.

Plain Python and numpy; the adapter to the engine is `dpose_yolo/engine/finetune.py`.
"""
