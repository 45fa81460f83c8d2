"""Which training images quantisation sees: drawn evenly over the postures, as training draws them (paper 3.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from ultralytics.utils import LOGGER

from dpose_yolo.engine.labels import load_labels
from dpose_yolo.engine.postures import image_posture, keypoint_names, pose_table, posture_mixture
from dpose_yolo.errors import DPoseError
from dpose_yolo.evaluation.postures import saved_mixture
from dpose_yolo.posture.sampler import PostureSampler
from dpose_yolo.posture.weights import balanced_probabilities, expected_counts
from dpose_yolo.settings import defaults


def calibration_images(
    data: Any, count: int, how: str = "balanced", model: Any = None, seed: int = 0, outside: bool = False
) -> tuple[list[str], dict[str, Any]]:
    """Images of the training part.

    A long tail reaches the ranges of activations only if its postures are among the calibration images. `balanced`
    draws every image at most once, in expectation evenly over the clusters of the posture mixture; `random` draws
    uniformly.

    Args:
        data: path of a data YAML.
        count: number of images; all of them if there are fewer.
        how: `balanced` or `random`.
        model: path of the checkpoint; the mixture of its run is used if it has one of the same keypoints, else one is
            fitted to the training part.
        seed: of the draw and of the fit.
        outside: take images outside the data folder, too.

    Returns:
        Paths, and what is to be told of them: `how`, `images`, and for `balanced` the `mixture`, with the smallest and
        largest share of a cluster among them.

    Raises:
        DPoseError: for data that cannot be used.
    """
    labels, dictionary, cache = load_labels(data, "train", skip_bad=True, outside=outside)
    files = [label["im_file"] for label in labels]
    count = min(count, len(files))
    if how == "random":
        chosen = np.random.default_rng([seed, 2]).choice(len(files), count, replace=False)
        return [files[i] for i in sorted(chosen)], {"how": how, "images": count, "seed": seed}
    settings = defaults()
    names = keypoint_names(dictionary)
    found = saved_mixture(model, names)
    if found:
        mixture, scale, told = found
        table = pose_table(labels, names, scale)
    else:
        table = pose_table(labels, names, settings["posture_scale"])
        try:
            mixture = posture_mixture(table, settings, seed, where=f"the training part of {data}", cache=cache)
        except DPoseError as error:  # what it advises are settings of a training
            why = str(error).partition(":")[0]
            raise DPoseError(f"no even choice of calibration images ({why}): set calibrate=random") from error
        told = f"fitted to the training part of {data}"
    postures = image_posture(table, mixture, settings)
    try:
        expected = expected_counts(balanced_probabilities(postures, 1.0), count, repeat_cap=1.0)
    except DPoseError:  # so many that every image is needed
        expected = np.ones(len(files))
    drawn = PostureSampler(expected, postures.argmax(1), seed).counts(0)
    chosen = np.flatnonzero(drawn)
    shares = postures[chosen].sum(0) / len(chosen)
    about = {
        "how": how,
        "images": len(chosen),
        "seed": seed,
        "mixture": told,
        "clusters": len(shares),
        "smallest_share": float(shares.min()),
        "largest_share": float(shares.max()),
    }
    LOGGER.info(
        f"Calibration: {len(chosen)} images evenly over {len(shares)} postures ({told}), "
        f"{shares.min():.1%}-{shares.max():.1%} each"
    )
    return [files[i] for i in chosen], about
