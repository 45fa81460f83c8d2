"""Seconds and peak memory of the posture mixture.

    python benchmarks/mixture.py --poses 1000000 --missing random

The poses are made up: 17 keypoints, 24 postures with a long tail, correlated keypoints. `--missing patterns`
hides whole keypoints in 40 recurring patterns (the legs below the dashboard, the far arm, ...), about 30 % of
the keypoints; `--missing random` hides 30 % of them independently, so that nearly every pose has a pattern of
its own; `--missing none` hides nothing.
"""

import argparse
import resource
import time

import numpy as np

from dpose_yolo.posture import PostureMixture

KEYPOINTS, POSTURES, PATTERNS, HIDDEN = 17, 24, 40, 0.3


def made_up_features(poses: int, missing: str, seed: int = 0) -> np.ndarray:
    """(poses, 34) float32 features in units of box size, NaN = missing."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 0.25, (1, KEYPOINTS * 2)) + rng.normal(0, 0.12, (POSTURES, KEYPOINTS * 2))
    loadings = rng.normal(0, 0.025, (POSTURES, 6, KEYPOINTS * 2))  # six ways to vary in each posture
    share = 1.0 / np.arange(1, POSTURES + 1) ** 1.2
    posture = rng.choice(POSTURES, poses, p=share / share.sum())
    x = np.empty((poses, KEYPOINTS * 2), np.float32)
    hidden_patterns = rng.random((PATTERNS, KEYPOINTS)) < HIDDEN
    frequency = rng.dirichlet(np.full(PATTERNS, 0.5))
    for at in range(0, poses, 50_000):
        own = posture[at : at + 50_000]
        part = centres[own] + 0.02 * rng.standard_normal((len(own), KEYPOINTS * 2))
        part += np.einsum("nk,nkd->nd", rng.standard_normal((len(own), 6)), loadings[own])
        hidden = np.zeros((len(own), KEYPOINTS), bool)
        if missing == "patterns":
            hidden = hidden_patterns[rng.choice(PATTERNS, len(own), p=frequency)]
        elif missing == "random":
            hidden = rng.random((len(own), KEYPOINTS)) < HIDDEN
        part[np.repeat(hidden, 2, axis=1)] = np.nan
        x[at : at + 50_000] = part
    return x


def main() -> None:
    """Fit, compute all responsibilities, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poses", type=int, default=27_000)
    parser.add_argument("--missing", choices=("patterns", "random", "none"), default="patterns")
    parser.add_argument("--clusters", default="16", help="a number, or auto")
    parser.add_argument("--covariance", default="full")
    args = parser.parse_args()
    x = made_up_features(args.poses, args.missing)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    clusters = args.clusters if args.clusters == "auto" else int(args.clusters)
    mixture = PostureMixture(clusters, covariance_type=args.covariance)
    start, cpu = time.perf_counter(), time.process_time()
    mixture.fit(x)
    fitted = time.perf_counter()
    resp = mixture.predict_proba(x)
    done, cpu = time.perf_counter(), time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    kinds = len(np.unique(np.packbits(np.isnan(x[:, ::2]), axis=1), axis=0))
    print(
        f"poses {args.poses}  missing {args.missing} ({np.isnan(x).mean():.0%}, {kinds} patterns)  "
        f"clusters {args.clusters} -> {resp.shape[1]} {args.covariance}\n"
        f"fit {fitted - start:.1f} s  predict_proba {done - fitted:.1f} s  sum {done - start:.1f} s  "
        f"(processor time {cpu:.1f} s)  converged {mixture.converged_}\n"
        f"peak {peak:.0f} MB (of it {before:.0f} MB before the fit, features included)"
    )


if __name__ == "__main__":
    main()
