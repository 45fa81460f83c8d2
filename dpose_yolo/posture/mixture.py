"""Posture mixture: clusters of normalised poses (paper section 3.2, Eq. 3), at home with missing keypoints."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import logsumexp
from sklearn.base import BaseEstimator
from threadpoolctl import threadpool_limits

from dpose_yolo.errors import DPoseError
from dpose_yolo.posture.fitting import (
    MixtureFit,
    MixtureSettings,
    dense,
    fit_mixture,
    parameter_count,
)
from dpose_yolo.posture.marginal import BLOCK_ROWS, log_densities
from dpose_yolo.posture.mixture_checks import check_features, check_parameters
from dpose_yolo.posture.mixture_file import read_state, write_state


class PostureMixture(BaseEstimator):
    """Gaussian mixture over posture features with missing keypoints (paper section 3.2, Eq. 3).

    {P_j} = G{P | mu_j, Sigma_j, pi_j}, j = 1..N: scikit-learn's GaussianMixture fits poses whose missing
    coordinates are completed by draws (see `fitting.fit_mixture`); `predict_proba` and `score_samples`
    complete nothing: they use the exact marginal over the observed coordinates.

    Args:
        n_components: number of clusters, or "auto" for the smallest BIC over `component_range`.
        covariance_type: "full", "tied", "diag" or "spherical".
        reg_covar: added to the covariances' diagonals, in squared feature units. 1e-4 is (1 % of the box
            size)^2,
            about the error of labelling by hand: no cluster may be narrower than that. For features in pixels
            (`scale="none"`) multiply it by a typical box area.
        component_range: smallest and largest number tried by "auto".
        min_labelled: a keypoint labelled in a smaller share of poses is left out of the features.
        max_fit: poses sampled for the fit; responsibilities are computed for all poses.
        n_init: k-means starts.
        max_iter: EM steps of one fit at most.
        tol: EM stops when the mean log-likelihood gains less.
        imputation_rounds: redraws of the missing coordinates before the last fit.
        random_state: seed; the same seed gives the same mixture.

    Attributes:
        weights_: (C,) mixing weights pi_j, falling; C may be smaller than n_components (empty clusters are
            dropped).
        means_: (C, D) mu_j over the D used coordinates.
        covariances_: Sigma_j in scikit-learn's shapes.
        used_: (D,) columns of the features that are used.
        left_out_: indices of the keypoints left out for want of labels.
        n_components_: C.
        n_features_in_: 2K.
        n_fit_: poses in the fit.
        bic_curve_: {number of clusters: BIC}; one entry unless "auto".
        converged_, n_iter_: of the last EM.
        key_, keypoint_names_: what `save` wrote, after `load`; else "" and ().
    """

    def __init__(
        self,
        n_components: int | str = 16,
        *,
        covariance_type: str = "full",
        reg_covar: float = 1e-4,
        component_range: tuple[int, int] = (2, 32),
        min_labelled: float = 0.05,
        max_fit: int = 9000,
        n_init: int = 3,
        max_iter: int = 100,
        tol: float = 1e-3,
        imputation_rounds: int = 6,
        random_state: int = 0,
    ):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.reg_covar = reg_covar
        self.component_range = component_range
        self.min_labelled = min_labelled
        self.max_fit = max_fit
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.imputation_rounds = imputation_rounds
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: None = None, *, source: str = "the data") -> "PostureMixture":
        """Fit the mixture to features (N, 2K), NaN = missing.

        Args:
            X: posture features, see `features.posture_features`.
            y: ignored, scikit-learn's convention.
            source: where the poses come from, for error lines.

        Raises:
            DPoseError: bad parameters; no poses, no labelled keypoints, infinite values, more clusters than
            poses.
        """
        check_parameters(self.get_params())
        X = check_features(X, source)
        self.n_features_in_ = X.shape[1]
        used, self.left_out_ = self._labelled_columns(X, source)
        self.used_ = np.flatnonzero(used)
        rows = np.flatnonzero(~np.isnan(X[:, used]).all(1))
        if not self._auto and int(self.n_components) > len(rows):
            raise DPoseError(
                f"clusters={self.n_components} but only {len(rows)} poses with labelled keypoints in {source}: "
                f"set clusters to at most {len(rows)} or auto"
            )
        rng = np.random.default_rng([self.random_state, 0])
        if len(rows) > self.max_fit:
            rows = np.sort(rng.choice(rows, self.max_fit, replace=False))
        x = X[rows][:, used].astype(np.float64)
        self.n_fit_ = len(x)
        self.bic_curve_: dict[int, float] = {}
        best = self._fit_auto(x) if self._auto else self._fit_one(x, int(self.n_components))
        self._keep(best)
        self.key_ = ""
        self.keypoint_names_: tuple[str, ...] = ()
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Responsibilities (N, C) of the clusters for features (N, 2K), by the exact marginal likelihood.

        A pose with nothing observed gets the mixing weights, so that it keeps its natural sampling weight.
        """
        joint, unseen = self._log_joint(X)
        for at in range(0, len(joint), BLOCK_ROWS):  # in place: N x C is the largest array here
            part = joint[at : at + BLOCK_ROWS]
            part -= part.max(1, keepdims=True)
            np.exp(part, out=part)
            part /= part.sum(1, keepdims=True)
        joint[unseen] = self.weights_
        return joint

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Most responsible cluster (N,) of features (N, 2K)."""
        return self._log_joint(X)[0].argmax(1)

    def assign(self, X: np.ndarray) -> np.ndarray:
        """Most responsible cluster (N,), -1 for a pose without anything observed that the mixture uses."""
        joint, unseen = self._log_joint(X)
        cluster = joint.argmax(1)
        cluster[unseen] = -1
        return cluster

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """Log-likelihood (N,) of the observed coordinates; 0 where nothing is observed."""
        joint, unseen = self._log_joint(X)
        scores = logsumexp(joint, axis=1)
        scores[unseen] = 0.0
        return scores

    def score(self, X: np.ndarray, y: None = None) -> float:
        """Mean of `score_samples`."""
        return float(self.score_samples(X).mean())

    def bic(self, X: np.ndarray) -> float:
        """Bayesian information criterion (smaller is better) on the poses that show anything."""
        joint, unseen = self._log_joint(X)
        poses = int((~unseen).sum())
        free = parameter_count(self.covariance_type, self.n_components_, len(self.used_))
        return float(-2 * logsumexp(joint[~unseen], axis=1).sum() + free * np.log(max(poses, 1)))

    def save(self, path: str | Path, *, key: str = "", keypoint_names: Sequence[str] = ()) -> None:
        """Write the fitted mixture to one .npz, atomically.

        Args:
            path: file to write.
            key: content key of the labels and settings behind the fit (`weights.labels_key`).
            keypoint_names: names of the K keypoints, for reports.
        """
        self._check_fitted()
        meta = {
            "params": self.get_params(),
            "key": key,
            "keypoint_names": list(keypoint_names),
            "bic_curve": {str(n): bic for n, bic in self.bic_curve_.items()},
            "left_out": list(self.left_out_),
            "n_features_in": self.n_features_in_,
            "n_fit": self.n_fit_,
            "converged": self.converged_,
            "n_iter": self.n_iter_,
        }
        arrays = {name: getattr(self, f"{name}_") for name in ("weights", "means", "covariances", "used")}
        write_state(Path(path), meta, arrays)

    @classmethod
    def load(cls, path: str | Path) -> "PostureMixture":
        """Read a mixture written by `save`; DPoseError on anything else."""
        meta, arrays = read_state(Path(path))
        try:
            self = cls(**{**meta["params"], "component_range": tuple(meta["params"]["component_range"])})
            self._keep(
                MixtureFit(
                    arrays["weights"],
                    arrays["means"],
                    arrays["covariances"],
                    meta["converged"],
                    meta["n_iter"],
                )
            )
            self.used_ = arrays["used"]
            self.left_out_, self.n_features_in_ = list(meta["left_out"]), int(meta["n_features_in"])
            self.n_fit_ = int(meta["n_fit"])
            self.bic_curve_ = {int(n): float(bic) for n, bic in meta["bic_curve"].items()}
            self.key_, self.keypoint_names_ = str(meta["key"]), tuple(meta["keypoint_names"])
            check_parameters(self.get_params())
            d, c = len(self.used_), len(self.weights_)
            shape = {"full": (c, d, d), "tied": (d, d), "diag": (c, d), "spherical": (c,)}[self.covariance_type]
            if self.means_.shape != (c, d) or self.covariances_.shape != shape:
                raise ValueError("array shapes do not fit together")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DPoseError(f"{path} is not a usable posture mixture ({error}): delete it and fit again") from error
        return self

    @property
    def _auto(self) -> bool:
        return self.n_components == "auto"

    def _keep(self, fit: MixtureFit) -> None:
        self.weights_, self.means_, self.covariances_ = fit.weights, fit.means, fit.covariances
        self.n_components_, self.converged_, self.n_iter_ = len(fit.weights), fit.converged, fit.n_iter

    def _fit_one(self, x: np.ndarray, components: int) -> MixtureFit:
        settings = MixtureSettings(
            self.covariance_type, self.reg_covar, self.tol, self.max_iter, self.n_init, self.imputation_rounds
        )
        # a stream of its own for each number: "auto" that settles on n gives the mixture that n_components=n
        # gives
        rng = np.random.default_rng([self.random_state, 1, components])
        fit = fit_mixture(x, components, settings, rng)
        covariances = dense(fit.covariances, self.covariance_type, x.shape[1])
        with threadpool_limits(1, user_api="blas"):
            likelihood = logsumexp(log_densities(x, fit.means, covariances) + np.log(fit.weights), axis=1).sum()
        free = parameter_count(self.covariance_type, len(fit.weights), x.shape[1])
        self.bic_curve_[components] = float(-2 * likelihood + free * np.log(len(x)))
        return fit

    def _fit_auto(self, x: np.ndarray) -> MixtureFit:
        """Smallest BIC: steps of 1 up to 6, then growing by about a quarter, then the gaps beside the best."""
        low, high = (min(bound, len(x)) for bound in self.component_range)
        coarse = [low]
        while coarse[-1] < high:
            coarse.append(min(high, coarse[-1] + max(1, coarse[-1] // 4)))
        fits = {n: self._fit_one(x, n) for n in coarse}
        while True:
            best = min(self.bic_curve_, key=lambda n: (self.bic_curve_[n], n))
            gaps = [n for n in (best - 1, best + 1) if low <= n <= high and n not in fits]
            if not gaps:
                self.bic_curve_ = dict(sorted(self.bic_curve_.items()))
                return fits[best]
            fits.update({n: self._fit_one(x, n) for n in gaps})

    def _labelled_columns(self, X: np.ndarray, source: str) -> tuple[np.ndarray, list[int]]:
        seen = ~np.isnan(X)
        share = seen.reshape(len(X), -1, 2).all(2)[seen.any(1)].mean(0) if seen.any() else np.zeros(X.shape[1] // 2)
        keep = (share >= self.min_labelled) & (share > 0)
        if not keep.any():
            raise DPoseError(f"no keypoint is labelled in {100 * self.min_labelled:g} % of the poses of {source}: "
                             "check the visibility flags (0 = unlabelled)")  # fmt: skip
        return np.repeat(keep, 2), [int(k) for k in np.flatnonzero(~keep)]

    def _log_joint(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._check_fitted()
        X = check_features(X, "the data", empty=True)
        if X.shape[1] != self.n_features_in_:
            raise DPoseError(
                f"features have {X.shape[1]} columns but the mixture was fitted on {self.n_features_in_}: "
                "use the same keypoints, or fit again"
            )
        x = X[:, self.used_] if len(self.used_) < X.shape[1] else X
        with threadpool_limits(1, user_api="blas"):  # narrow products: see fit_mixture
            joint = log_densities(x, self.means_, dense(self.covariances_, self.covariance_type, x.shape[1]))
        joint += np.log(self.weights_)
        return joint, np.isnan(x).all(1)

    def _check_fitted(self) -> None:
        if not hasattr(self, "weights_"):
            raise DPoseError("the posture mixture is not fitted: call fit first")
