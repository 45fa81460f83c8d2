"""Rendered drivers: images with exact keypoints for a given camera and posture, aimed at what a data set lacks.

`scene` draws labels and renders images, `output` and `run` write a data set, `coverage` measures how near rendered
labels come to real ones, `aim` chooses postures and camera from the labels of a data set.
"""
