"""Gaussians with missing coordinates: exact marginal densities and conditional draws.

The marginal of a Gaussian over the observed coordinates o needs Sigma_oo; every pattern of missing
coordinates m has another one. With the precision P = inv(Sigma) it comes from the (usually much smaller)
block P_mm instead:

    log|Sigma_oo| = log|Sigma| + log|P_mm|
    z_o' inv(Sigma_oo) z_o = z' P z - y_m' inv(P_mm) y_m     z = x - mean with zeros at m,  y = P z
    x_m | x_o ~ N(mean_m - inv(P_mm) y_m, inv(P_mm))

With P_mm = L L' and W = inv(L) the quadratic form is |W y_m|^2 and a draw is mean_m + W' (e - W y_m), e ~
N(0, I). W depends on pattern and Gaussian only, so it is computed once for both, in batches of patterns of
equal size.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

LOG_2PI = float(np.log(2 * np.pi))
BLOCK_ROWS = 8192
BLOCK_PATTERNS = 1024
LAPACK_PATTERNS = 64
BLOCK_NUMBERS = 2_000_000  # rows x m x m in one block: 16 MB of gathered W


class Block(NamedTuple):
    """Poses whose patterns miss the same number m of coordinates."""

    rows: np.ndarray  # (n,) row numbers
    columns: np.ndarray  # (U, m) missing coordinates of each pattern
    local: np.ndarray  # (n,) pattern of each row, into columns


def missing_blocks(missing: np.ndarray) -> Iterator[Block]:
    """Cut poses (N, D; True = missing) into blocks of bounded memory, each row once, patterns kept together."""
    packed = np.packbits(missing, axis=1)
    width = packed.shape[1]
    keys = np.zeros((len(packed), max(8, width)), np.uint8)
    keys[:, :width] = packed
    flat = keys.view(np.uint64 if width <= 8 else f"V{width}")[:, 0]
    _, first, which, counts = np.unique(flat, return_index=True, return_inverse=True, return_counts=True)
    patterns = missing[first]  # (U, D)
    rows = np.argsort(which, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)])
    sizes = patterns.sum(1)
    for size in np.unique(sizes):
        limit = int(min(BLOCK_ROWS, max(256, BLOCK_NUMBERS // max(1, size * size))))
        members = np.flatnonzero(sizes == size)
        columns = np.nonzero(patterns[members])[1].reshape(len(members), size)
        lone = counts[members] >= limit // 8  # enough poses for a block with one W, free of gathering
        for u in np.flatnonzero(lone):
            own = rows[starts[members[u]] : starts[members[u] + 1]]
            for at in range(0, len(own), BLOCK_ROWS):
                part = own[at : at + BLOCK_ROWS]
                yield Block(part, columns[u : u + 1], np.zeros(len(part), np.intp))
        yield from _shared_blocks(np.flatnonzero(~lone), members, columns, rows, starts, limit)


def _shared_blocks(
    few: np.ndarray,
    members: np.ndarray,
    columns: np.ndarray,
    rows: np.ndarray,
    starts: np.ndarray,
    limit: int,
) -> Iterator[Block]:
    """Blocks of many patterns with few poses each: at most about `limit` rows and BLOCK_PATTERNS patterns."""
    counts = starts[members[few] + 1] - starts[members[few]]
    bins = np.cumsum(counts) // limit if len(few) else counts
    cuts = np.flatnonzero(np.diff(bins)) + 1
    for group in np.split(np.arange(len(few)), cuts):
        for at in range(0, len(group), BLOCK_PATTERNS):
            part = group[at : at + BLOCK_PATTERNS]
            own = [rows[starts[u] : starts[u + 1]] for u in members[few[part]]]
            yield Block(np.concatenate(own), columns[few[part]], np.repeat(np.arange(len(part)), counts[part]))


def _factors(precision: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """W = inv(chol(P_mm)) (U, m, m) and log|P_mm| (U,) of every pattern.

    For many patterns LAPACK, called once per tiny matrix, spends its time in calls; a loop over the m columns
    with the patterns in the last (contiguous) axis is several times faster.
    """
    u, m = columns.shape
    p = precision[columns[:, :, None], columns[:, None, :]]
    if u < LAPACK_PATTERNS:
        w = np.linalg.inv(np.linalg.cholesky(p))
        return w, -2.0 * np.log(np.diagonal(w, axis1=1, axis2=2)).sum(1)
    p = np.ascontiguousarray(p.transpose(1, 2, 0))  # (m, m, U)
    chol, w = np.zeros_like(p), np.zeros_like(p)
    for j in range(m):
        column = p[j:, j] - np.einsum("iku,ku->iu", chol[j:, :j], chol[j, :j])
        chol[j:, j] = column / np.sqrt(column[0])
        w[j, j] = 1.0 / chol[j, j]
        w[j, :j] = -np.einsum("ku,kju->ju", chol[j, :j], w[:j, :j]) * w[j, j]
    log_det = -2.0 * np.log(w[np.arange(m), np.arange(m)]).sum(0)
    return np.ascontiguousarray(w.transpose(2, 0, 1)), log_det


def _apply(matrices: np.ndarray, local: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Each row's matrix (U, m, m)[local] times its vector (n, m)."""
    if len(matrices) == 1:
        return vectors @ matrices[0].T
    return np.einsum("nij,nj->ni", matrices[local], vectors)


def precisions_of(covariances: np.ndarray) -> np.ndarray:
    """Symmetric inverses of (..., D, D) covariances."""
    inverse = np.linalg.inv(covariances)
    return (inverse + np.swapaxes(inverse, -1, -2)) / 2


def log_densities(x: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> np.ndarray:
    """Log density of the observed coordinates of each pose under each Gaussian.

    Args:
        x: (N, D), NaN = missing.
        means: (C, D).
        covariances: (C, D, D), or (1, D, D) shared by all, or variances (C, D).

    Returns:
        (N, C) float64; 0 where nothing is observed (the empty product).
    """
    out = np.zeros((len(x), len(means)))
    if covariances.ndim == 2:
        for at in range(0, len(x), BLOCK_ROWS):
            part = slice(at, at + BLOCK_ROWS)
            _diagonal_log_densities(x[part], means, covariances, out[part])
        return out
    precisions = precisions_of(covariances)
    log_dets = np.linalg.slogdet(covariances)[1]
    for rows, columns, local in missing_blocks(np.isnan(x)):
        m, d = columns.shape[1], x.shape[1]
        if m == d:
            continue  # nothing observed
        values = x[rows].astype(np.float64)
        observed = ~np.isnan(values)
        values[~observed] = 0.0
        own = columns[local]
        for k, precision in enumerate(precisions):
            w, log_det = _factors(precision, columns)
            constant = (d - m) * LOG_2PI + log_dets[k] + log_det[local]
            for c in [k] if len(precisions) > 1 else range(len(means)):
                z = values - observed * means[c]
                y = z @ precision
                square = np.einsum("nd,nd->n", z, y)
                if m:
                    square -= np.square(_apply(w, local, np.take_along_axis(y, own, 1))).sum(1)
                out[rows, c] = -0.5 * (constant + square)
    return out


def _diagonal_log_densities(x: np.ndarray, means: np.ndarray, variances: np.ndarray, out: np.ndarray) -> None:
    values = x.astype(np.float64)
    observed = ~np.isnan(values)
    values[~observed] = 0.0
    for c in range(len(means)):
        square = np.square(values - observed * means[c]) @ (1.0 / variances[c])
        out[:, c] = -0.5 * (square + observed @ (np.log(variances[c]) + LOG_2PI))


def draw_missing(
    x: np.ndarray, component: np.ndarray, means: np.ndarray, covariances: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Complete poses: missing coordinates drawn from their Gaussian's conditional given the observed ones.

    Draws, not conditional means: means would lack the residual variance, and poses that lack the same
    keypoint would collapse onto a thin sheet that looks like a cluster of its own.

    Args:
        x: (N, D), NaN = missing.
        component: (N,) the Gaussian each pose is completed from.
        means, covariances: as in `log_densities`.
        rng: source of the draws.

    Returns:
        (N, D) float64 without NaN; observed coordinates untouched.
    """
    out = x.astype(np.float64)
    missing = np.isnan(out)
    noise = rng.standard_normal(out.shape)
    if covariances.ndim == 2:
        drawn = means[component] + np.sqrt(covariances[component]) * noise
        return np.where(missing, drawn, out)
    precisions = precisions_of(covariances)
    for c in np.unique(component):
        precision = precisions[c if len(precisions) > 1 else 0]
        poses = np.flatnonzero((component == c) & missing.any(1))
        for block, columns, local in missing_blocks(missing[poses]):
            rows, own = poses[block][:, None], columns[local]
            w, _ = _factors(precision, columns)
            y = np.where(missing[poses[block]], 0.0, out[poses[block]] - means[c]) @ precision
            residual = noise[rows, own] - _apply(w, local, np.take_along_axis(y, own, 1))
            out[rows, own] = means[c][own] + _apply(w.transpose(0, 2, 1), local, residual)
    return out
