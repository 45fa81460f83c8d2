"""Posture statistics and balance sampling (paper section 3.2): numpy and scikit-learn only.

`features` normalises labelled poses (Eq. 2), `mixture` clusters them (Eq. 3), `weights` turns
responsibilities into expected draws an epoch, `sampler` draws images with exactly these expected counts,
`fading` moves the counts along the epochs.
"""

from dpose_yolo.posture.fading import FadingSampler
from dpose_yolo.posture.features import posture_features
from dpose_yolo.posture.mixture import PostureMixture
from dpose_yolo.posture.sampler import PostureSampler
from dpose_yolo.posture.weights import (
    balanced_probabilities,
    component_masses,
    evenness,
    evenness_told,
    expected_counts,
    harden,
    image_responsibilities,
    labels_key,
)

__all__ = [
    "FadingSampler",
    "PostureMixture",
    "PostureSampler",
    "balanced_probabilities",
    "component_masses",
    "evenness",
    "evenness_told",
    "expected_counts",
    "harden",
    "image_responsibilities",
    "labels_key",
    "posture_features",
]
