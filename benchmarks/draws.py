"""What posture balance really draws, where the postures have names that it does not know.

    python benchmarks/draws.py data=cabin/data.yaml clusters=8,16,32 covariance=full,tied refits=0,1 mixtures=1,5

Every combination of the comma lists is fitted to the training part. The names (CSV beside the data, column posture or
action) are only counted: head, medium and tail are thirds of the names by frequency, evenness is the entropy of the
names' shares over its largest value, and `effective` the number of different images an epoch is worth, (sum e)^2 /
sum e^2 of the expected draws e.
"""

import itertools
import sys

import numpy as np
import yaml

from dpose_yolo.engine.postures import averaged_plan, pose_table, posture_mixtures
from dpose_yolo.evaluation.data import load_part
from dpose_yolo.metrics.postures import frequency_thirds
from dpose_yolo.posture import evenness
from dpose_yolo.settings import resolve


def shares(expected: np.ndarray, names: np.ndarray) -> str:
    """One row: shares of head, medium and tail names, of the rarest and the commonest, evenness, effective images."""
    known, count = np.unique(names, return_counts=True)
    third = np.array(frequency_thirds(count))
    share = np.array([expected[names == name].sum() for name in known]) / expected.sum()
    thirds = " | ".join(f"{share[third == t].sum():.3f}" for t in ("head", "medium", "tail"))
    effective = expected.sum() ** 2 / (expected**2).sum()
    even = evenness(share)
    return f"{thirds} | {share.min():.4f} | {share.max():.3f} | {even:.3f} | {expected.max():.1f} | {effective:.0f} |"


def main(words: list[str]) -> None:
    """Print a Markdown table."""
    given = dict(word.split("=", 1) for word in words)
    part = load_part(given.pop("data"), "train", skip_bad=True)
    if part.names is None:
        raise SystemExit("benchmarks/draws.py needs a CSV of posture names beside the data")
    names = np.array([str(name) for name in part.names])
    print(f"{len(names)} images, {len(set(names))} names")
    print("| settings | head | medium | tail | rarest | commonest | evenness | most draws | effective |")
    print("|---|---|---|---|---|---|---|---|---|")
    print(f"| natural | {shares(np.ones(len(names)), names)}")
    lists = {name: [yaml.safe_load(v) for v in values.split(",")] for name, values in given.items()}
    for values in itertools.product(*lists.values()):
        chosen = dict(zip(lists, values, strict=True))
        settings = resolve(chosen)
        table = pose_table(part.training()[0], part.table.names, settings["posture_scale"])
        plan = averaged_plan(table, posture_mixtures(table, settings), settings)
        told = " ".join(f"{k}={v}" for k, v in chosen.items())
        print(f"| {told} | {shares(plan.expected, names)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
