"""Rendered drivers: images with exact keypoints for a given camera and a given posture.

`scene.draw_labels` draws labels without rendering, `scene.Renderer` renders images. Assets are fetched once by
`assets.fetch_assets` and kept in a cache folder.
"""
