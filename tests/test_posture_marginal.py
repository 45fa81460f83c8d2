import numpy as np
import pytest
from scipy.stats import multivariate_normal

from dpose_yolo.posture import marginal
from dpose_yolo.posture.marginal import draw_missing, log_densities, missing_blocks


def gaussians(components: int, d: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    a = rng.normal(0, 0.1, (components, d, d))
    return rng.normal(0, 0.3, (components, d)), a @ a.swapaxes(1, 2) + 1e-3 * np.eye(d)


def reference(x, means, covariances):
    """Observed sub-vector by sub-vector with scipy."""
    out = np.zeros((len(x), len(means)))
    for i, row in enumerate(x):
        o = np.flatnonzero(~np.isnan(row))
        for c in range(len(means)) if len(o) else []:
            out[i, c] = multivariate_normal.logpdf(row[o], means[c][o], covariances[c][np.ix_(o, o)])
    return out


@pytest.mark.parametrize("lapack_patterns", [1, 10_000])  # both ways to the factors
def test_log_densities_equal_scipy_on_the_observed_coordinates(monkeypatch, lapack_patterns):
    monkeypatch.setattr(marginal, "LAPACK_PATTERNS", lapack_patterns)
    means, covariances = gaussians(3, 10)
    rng = np.random.default_rng(1)
    x = rng.normal(0, 0.4, (300, 10))
    x[rng.random(x.shape) < 0.4] = np.nan  # by coordinate: any pattern counts
    x[:20] = rng.normal(0, 0.4, (20, 10))  # nothing missing
    x[20] = np.nan
    x[21, 1:] = np.nan
    np.testing.assert_allclose(log_densities(x, means, covariances), reference(x, means, covariances), atol=1e-8)
    assert (log_densities(x, means, covariances)[20] == 0).all()


def test_a_shared_covariance_and_variances():
    means, covariances = gaussians(3, 6)
    rng = np.random.default_rng(2)
    x = rng.normal(0, 0.4, (100, 6)).astype(np.float32)
    x[rng.random(x.shape) < 0.3] = np.nan
    tied = np.repeat(covariances[:1], 3, axis=0)
    np.testing.assert_allclose(log_densities(x, means, covariances[:1]), reference(x, means, tied), atol=1e-8)
    variances = rng.uniform(0.01, 0.1, (3, 6))
    diagonal = np.stack([np.diag(v) for v in variances])
    np.testing.assert_allclose(log_densities(x, means, variances), reference(x, means, diagonal), atol=1e-8)


def test_blocks_hold_every_pose_once_with_its_own_missing_coordinates():
    rng = np.random.default_rng(3)
    missing = rng.random((20_000, 18)) < rng.choice([0.02, 0.5], 20_000)[:, None]
    seen = np.zeros(len(missing), int)
    for rows, columns, local in missing_blocks(missing):
        seen[rows] += 1
        rebuilt = np.zeros((len(rows), 18), bool)
        np.put_along_axis(rebuilt, columns[local], True, 1)
        np.testing.assert_array_equal(rebuilt, missing[rows])
        assert len(rows) * columns.shape[1] ** 2 <= 4 * marginal.BLOCK_NUMBERS
    assert (seen == 1).all()


def test_more_than_64_coordinates_make_patterns_too():
    missing = np.zeros((10, 150), bool)
    missing[5:, 149] = True
    assert sorted(block.columns.shape for block in missing_blocks(missing)) == [(1, 0), (1, 1)]


def test_draws_have_the_conditional_mean_and_covariance():
    means, covariances = gaussians(1, 5, seed=4)
    x = np.tile(np.array([0.1, np.nan, -0.2, np.nan, 0.3]), (40_000, 1))
    drawn = draw_missing(x, np.zeros(len(x), int), means, covariances, np.random.default_rng(5))
    np.testing.assert_array_equal(drawn[:, [0, 2, 4]], x[:, [0, 2, 4]])
    m, o, s = [1, 3], [0, 2, 4], covariances[0]
    gain = s[np.ix_(m, o)] @ np.linalg.inv(s[np.ix_(o, o)])
    mean = means[0][m] + gain @ (x[0, o] - means[0][o])
    covariance = s[np.ix_(m, m)] - gain @ s[np.ix_(o, m)]
    deviation = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(drawn[:, m].mean(0), mean, atol=0.02 * deviation.max())
    np.testing.assert_allclose(np.cov(drawn[:, m].T), covariance, atol=0.03 * deviation.max() ** 2)
