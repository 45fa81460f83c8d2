"""The fit behind `PostureMixture`: scikit-learn's GaussianMixture on stochastically completed poses."""

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from dpose_yolo.errors import DPoseError
from dpose_yolo.posture.marginal import draw_missing, log_densities, precisions_of

SHORT_EM = 3  # EM steps that rank the k-means starts
START_EM = 3  # EM steps on the first completion: it is drawn anew afterwards, no use in converging on it
FEW_POSES = 4000  # poses of the starts and of the first redraws (100 a component, if that is more)
FINAL_REDRAWS = 2  # of all poses
EMPTY_POSES = 0.5  # a component that holds less than half a pose is empty


class MixtureSettings(NamedTuple):
    """What one fit needs to know."""

    covariance_type: str
    reg_covar: float
    tol: float
    max_iter: int
    n_init: int
    rounds: int


class MixtureFit(NamedTuple):
    """Parameters (scikit-learn's shapes) in the order of falling weight."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    converged: bool
    n_iter: int


def dense(covariances: np.ndarray, covariance_type: str, d: int) -> np.ndarray:
    """scikit-learn's covariances in the shapes of `marginal`: (C or 1, D, D) or variances (C, D)."""
    if covariance_type == "tied":
        return covariances[None]
    if covariance_type == "spherical":
        return np.repeat(covariances[:, None], d, axis=1)
    return covariances


def parameter_count(covariance_type: str, components: int, d: int) -> int:
    """Free parameters of a mixture, for BIC."""
    covariance = {
        "full": components * d * (d + 1) // 2,
        "tied": d * (d + 1) // 2,
        "diag": components * d,
        "spherical": components,
    }[covariance_type]
    return covariance + components * d + components - 1


def complete_by_one_gaussian(x: np.ndarray, reg_covar: float, rng: np.random.Generator, rounds: int = 2) -> np.ndarray:
    """First completion, before any cluster is known: draws from the conditionals of a single Gaussian.

    It starts from the pairwise covariance (every pair of coordinates over the poses that show both), made
    positive definite, and is re-estimated from the completed poses `rounds` times.
    """
    missing = np.isnan(x)
    if not missing.any():
        return x.astype(np.float64)
    observed = (~missing).astype(np.float64)
    mean = np.nanmean(x, axis=0)
    z = np.where(missing, 0.0, x - mean)
    cov = (z.T @ z) / np.maximum(observed.T @ observed, 1.0)
    values, vectors = np.linalg.eigh(cov)
    cov = (vectors * np.maximum(values, reg_covar)) @ vectors.T
    one = np.zeros(len(x), np.intp)
    filled = draw_missing(x, one, mean[None], cov[None], rng)
    for _ in range(rounds):
        mean = filled.mean(0)
        z = filled - mean
        cov = z.T @ z / len(z) + reg_covar * np.eye(len(mean))
        filled = draw_missing(x, one, mean[None], cov[None], rng)
    return filled


def fit_mixture(x: np.ndarray, components: int, settings: MixtureSettings, rng: np.random.Generator) -> MixtureFit:
    """Fit `components` Gaussians to poses with missing coordinates.

    1. k-means starts on the first completion, each followed by a few EM steps; the likeliest is kept.
    2. Stochastic EM, `rounds` times: draw each pose's component from its responsibilities given the
       *observed* coordinates, redraw the missing coordinates from that component's conditional, one EM step.
       The error of the first completion shrinks by the share of missing information each time.
    3. The same on all poses (1 and 2 use a part of them), with EM until it converges.
    4. Drop empty components, sort by weight.

    Without missing coordinates 2 is left out and 3 is plain EM. Every EM is scikit-learn's GaussianMixture.

    Args:
        x: (N, D), NaN = missing, at least one value in each row.
        components: number of Gaussians, at most N.
        settings: see `MixtureSettings`.
        rng: source of every draw.
    """
    if len(x) == 1:  # scikit-learn wants two
        x = np.repeat(x, 2, axis=0)
    few = x[rng.permutation(len(x))[: max(FEW_POSES, 100 * components)]]
    gaps = bool(np.isnan(x).any())
    with warnings.catch_warnings(), threadpool_limits(1):
        # One thread: OpenMP threads add up k-means centres in any order, and a seed's result has to be equal
        # to the bit; and products this narrow gain nothing from BLAS threads, which on a busy machine cost a
        # lot.
        warnings.simplefilter("ignore", ConvergenceWarning)  # told by `converged` instead
        try:
            filled = complete_by_one_gaussian(few, settings.reg_covar, rng)
            model = _best_start(filled, components, settings, rng)
            model = _em(filled, model, settings, START_EM)
            for _ in range(settings.rounds if gaps else 0):
                model = _em(_redraw(few, model, settings.covariance_type, rng), model, settings, 1)
            for left in reversed(range(FINAL_REDRAWS if gaps else 1)):
                filled = _redraw(x, model, settings.covariance_type, rng) if gaps else x
                model = _em(filled, model, settings, 1 if left else settings.max_iter)
        except (ValueError, np.linalg.LinAlgError) as error:
            line = str(error).splitlines()[0]
            raise DPoseError(f"clusters={components} could not be fitted ({line}): set fewer clusters") from error
    order = np.argsort(-model.weights_, kind="stable")
    order = order[model.weights_[order] * len(x) >= EMPTY_POSES]
    covariances = model.covariances_ if settings.covariance_type == "tied" else model.covariances_[order]
    weights = model.weights_[order] / model.weights_[order].sum()
    return MixtureFit(weights, model.means_[order], covariances, bool(model.converged_), int(model.n_iter_))


def _best_start(
    filled: np.ndarray, components: int, settings: MixtureSettings, rng: np.random.Generator
) -> GaussianMixture:
    starts = [
        GaussianMixture(
            components,
            covariance_type=settings.covariance_type,
            reg_covar=settings.reg_covar,
            max_iter=SHORT_EM,
            tol=settings.tol,
            random_state=int(rng.integers(2**31)),
        ).fit(filled)
        for _ in range(settings.n_init)
    ]
    return max(starts, key=lambda start: float(start.lower_bound_))


def _redraw(x: np.ndarray, model: GaussianMixture, covariance_type: str, rng: np.random.Generator) -> np.ndarray:
    """Complete `x` from the mixture: a component by responsibility, then the missing coordinates from it."""
    covariances = dense(model.covariances_, covariance_type, x.shape[1])
    logits = log_densities(x, model.means_, covariances) + np.log(model.weights_)
    component = (logits + rng.gumbel(size=logits.shape)).argmax(1)  # = a draw by responsibility
    return draw_missing(x, component, model.means_, covariances, rng)


def _em(filled: np.ndarray, start: GaussianMixture, settings: MixtureSettings, max_iter: int) -> GaussianMixture:
    """scikit-learn's EM, warm from another mixture's parameters (no k-means)."""
    if settings.covariance_type in ("full", "tied"):
        precisions = precisions_of(start.covariances_)
    else:
        precisions = 1.0 / start.covariances_
    return GaussianMixture(
        len(start.weights_),
        covariance_type=settings.covariance_type,
        reg_covar=settings.reg_covar,
        max_iter=max_iter,
        tol=settings.tol,
        weights_init=start.weights_ / start.weights_.sum(),
        means_init=start.means_,
        precisions_init=precisions,
    ).fit(filled)
