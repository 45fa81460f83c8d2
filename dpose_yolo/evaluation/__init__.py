"""From a model and a data part to figures: labels and predictions in original pixels, postures, attention quality.

Joins the engine to `dpose_yolo.metrics`, which knows neither models nor files.
"""
