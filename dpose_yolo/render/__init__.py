"""Rendered drivers: images with exact keypoints for a given camera and a given posture, aimed at what a data set lacks.

`scene.draw_labels` draws labels without rendering, `scene.Renderer` renders images. Assets are fetched once by
`assets.fetch_assets` and kept in a cache folder. `output` and `run` write a data set, `coverage` measures how near
rendered labels come to real ones, `aim` and `fit` choose postures and cameras from the labels of a data set.
"""
