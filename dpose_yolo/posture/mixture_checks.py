"""What `PostureMixture` accepts, told in one line where it does not."""

from typing import Any

import numpy as np

from dpose_yolo.errors import DPoseError

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= least)


def _number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


def _range(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and _whole(value[0], 1) and _whole(value[1], value[0])


def check_parameters(params: dict[str, Any]) -> None:
    """Raise DPoseError on the first parameter that cannot be; `params` as from `get_params`."""
    clusters = params["n_components"]
    p = params
    checks = {
        "n_components": (clusters == "auto" or _whole(clusters, 1), "a whole number >= 1 or 'auto'"),
        "covariance_type": (p["covariance_type"] in COVARIANCE_TYPES, f"one of {', '.join(COVARIANCE_TYPES)}"),
        "reg_covar": (_number(p["reg_covar"]) and p["reg_covar"] > 0, "a number > 0"),
        "component_range": (_range(p["component_range"]), "(smallest, largest), whole numbers >= 1"),
        "min_labelled": (_number(p["min_labelled"]) and 0 <= p["min_labelled"] <= 1, "a share between 0 and 1"),
        "max_fit": (_whole(p["max_fit"], 1), "a whole number >= 1"),
        "n_init": (_whole(p["n_init"], 1), "a whole number >= 1"),
        "max_iter": (_whole(p["max_iter"], 1), "a whole number >= 1"),
        "tol": (_number(p["tol"]) and p["tol"] >= 0, "a number >= 0"),
        "imputation_rounds": (_whole(p["imputation_rounds"], 0), "a whole number >= 0"),
        "random_state": (_whole(p["random_state"], 0), "a whole number >= 0"),
    }
    for name, (good, need) in checks.items():
        if not good:
            raise DPoseError(f"posture mixture: {name}={params[name]!r} is not possible, set it to {need}")
    if clusters != "auto" and clusters > params["max_fit"]:
        raise DPoseError(f"clusters={clusters} but max_fit={params['max_fit']} poses are fitted: raise max_fit")


def check_features(X: np.ndarray, source: str, empty: bool = False) -> np.ndarray:
    """Features as a float array (N, 2K); DPoseError on wrong shapes, no poses (unless `empty`), infinite values."""
    X = np.asarray(X)
    if X.dtype not in (np.float32, np.float64):
        X = X.astype(np.float64)
    if X.ndim != 2 or X.shape[1] == 0 or X.shape[1] % 2:
        raise DPoseError(f"posture features have shape {X.shape}: expected (poses, 2 x keypoints)")
    if not len(X) and not empty:
        raise DPoseError(f"no poses in {source}: the posture mixture needs labelled persons")
    if np.isinf(X).any():
        row = int(np.flatnonzero(np.isinf(X).any(1))[0])
        raise DPoseError(f"pose {row} of {source} has an infinite coordinate: correct its label (NaN means missing)")
    return X
