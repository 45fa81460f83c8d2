"""What the arms of a study reached: figures of each training, and differences to the reference with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dpose_yolo.errors import DPoseError
from dpose_yolo.metrics import Matches, bootstrap_weights, interval, macro_average_precision, seed_mean_difference
from dpose_yolo.study.groups import THIRDS, ImageGroups
from dpose_yolo.study.plan import show
from dpose_yolo.study.state import RESULTS, read_json, run_folder

# Figures of a training in the tables, in this order; `worst` is the AP of the worst cluster.
FIGURES = ("AP", "AP50", "AP75", "AR", "head", "medium", "tail", "macro", "worst")
NAMED = ("name_head", "name_medium", "name_tail", "name_macro")
OTHERS = ("box_AP", "energy", "pointing")
# Figures whose differences get an interval.
COMPARED = ("AP", "AP50", "AP75", "AR", "head", "medium", "tail", "macro", *NAMED)
REPLICATES = 1000


@dataclass
class StudyResults:
    """All that the tables and plots of a study need.

    Attributes:
        plan: content of `study.json`.
        runs: one row a finished training: arm, label, seed, the figures, train_seconds.
        summary: one row an arm: arm, label, swept values, seeds, and for each figure its mean and `_std` over seeds.
        differences: one row an arm but the reference, and figure: arm, label, figure, mean, low, high, seeds.
        intervals: one row an arm and figure (AP, tail): low, high of the mean over images and seeds.
        about: images, persons, replicates and so on, the same for all arms.
        left_out: trainings that are not in the tables, with the reason.
    """

    plan: dict[str, Any]
    runs: pd.DataFrame
    summary: pd.DataFrame
    differences: pd.DataFrame
    intervals: pd.DataFrame
    about: dict[str, Any]
    left_out: dict[str, str] = field(default_factory=dict)


def collect(study: Path) -> StudyResults:
    """Read what the finished trainings of a study left, and compare them.

    Raises:
        DPoseError: when there is no study, or no training of it is finished.
    """
    plan = read_json(study / "study.json")
    if plan is None:
        raise DPoseError(f"no study in {study}: run it first")
    rows: list[dict[str, Any]] = []
    kept: dict[tuple[str, int], Path] = {}
    left_out: dict[str, str] = {}
    first: dict[str, Any] | None = None
    for arm, about in plan["arms"].items():
        for seed in plan["seeds"]:
            folder = run_folder(study, arm, seed)
            reason = _unusable(folder, plan)
            metrics = None if reason else read_json(folder / "metrics.json")
            if metrics is not None and first is not None:
                reason = _other_conventions(first, metrics)
            if metrics is None or reason:
                left_out[folder.name] = str(reason)
                continue
            first = first or metrics
            rows.append({"arm": arm, "label": about["label"], "seed": seed, **figures(metrics)})
            kept[arm, seed] = folder
    if first is None:
        raise DPoseError(f"no training of {study} is finished: run the study again, without report=True")
    runs = pd.DataFrame(rows)
    comparison = Comparison(kept, _replicates(first))
    about = _about(first, comparison.groups, plan)
    arms = {arm: [s for a, s in kept if a == arm] for arm in plan["arms"]}
    differences = comparison.differences({k: v for k, v in arms.items() if v}, plan["reference"])
    labels = {arm: about_arm["label"] for arm, about_arm in plan["arms"].items()}
    differences.insert(1, "label", differences["arm"].map(labels))
    return StudyResults(
        plan,
        runs,
        summarise(runs, plan),
        differences,
        comparison.means({k: v for k, v in arms.items() if v}, ("AP", "tail")),
        about,
        left_out,
    )


def figures(metrics: dict[str, Any]) -> dict[str, float]:
    """The figures of one training's `metrics.json`, NaN where it has none."""
    clusters, names = metrics.get("clusters") or {}, metrics.get("names") or {}
    attention, engine = metrics.get("attention") or {}, metrics.get("engine") or {}
    found = {k: metrics.get(k) for k in ("AP", "AP50", "AP75", "AR")}
    found.update({k: clusters.get(k) for k in (*THIRDS, "macro")})
    found["worst"] = (clusters.get("worst") or {}).get("AP")
    found.update({k: names.get(k.removeprefix("name_")) for k in NAMED})
    found["box_AP"] = engine.get("box_AP")
    found.update({k: attention.get(k) for k in ("energy", "pointing")})
    found["train_seconds"] = metrics.get("train_seconds")
    return {k: float("nan") if v is None else float(v) for k, v in found.items()}


def summarise(runs: pd.DataFrame, plan: dict[str, Any]) -> pd.DataFrame:
    """One row an arm: mean over seeds and standard deviation (of the sample, NaN for one seed) of every figure."""
    rows = []
    for arm, about in plan["arms"].items():
        own = runs[runs["arm"] == arm]
        if not len(own):
            continue
        swept = plan.get("swept", {})
        # A baseline arm is off by its own name; with balance swept it is no point at balance=0, where att is on.
        named = {} if arm == "baseline" else about["values"]
        values = {k: _cell(named.get(k)) for k in swept}
        row: dict[str, Any] = {"arm": arm, "label": about["label"], **values, "seeds": len(own)}
        for name in (*FIGURES, *NAMED, *OTHERS, "train_seconds"):
            row[name], row[f"{name}_std"] = own[name].mean(), own[name].std(ddof=1)
        rows.append(row)
    return pd.DataFrame(rows)


def _cell(value: Any) -> Any:
    """A swept value as a cell of a table; lists as text."""
    return show(value) if isinstance(value, list | dict) else value


class Comparison:
    """Paired differences of arms on replicates of the images that are the same for all.

    Args:
        folders: folder of each finished training by arm and seed.
        replicates: of the bootstrap.
    """

    def __init__(self, folders: dict[tuple[str, int], Path], replicates: int = REPLICATES):
        """See the class.

        Raises:
            DPoseError: when trainings were evaluated on other images or clusters than the first.
        """
        self.matches = {key: Matches.load(folder / "matches.npz") for key, folder in folders.items()}
        self.groups = _one(folders)
        subjects = None if self.groups.subjects is None else list(self.groups.subjects)
        self.weights = bootstrap_weights(len(self.groups.files), subjects, replicates, seed=0)
        self._known: dict[tuple[Any, ...], Any] = {}

    def differences(self, arms: dict[str, list[int]], reference: str) -> pd.DataFrame:
        """Mean difference of each arm to the reference with its 95 % interval, over the seeds that both have."""
        columns = ["arm", "figure", "mean", "low", "high", "seeds"]
        rows = []
        for arm, seeds in arms.items():
            common = [s for s in seeds if s in arms.get(reference, [])]
            if arm == reference or not common:
                continue
            ours = [self.matches[arm, s] for s in common]
            bases = [self.matches[reference, s] for s in common]
            for figure in COMPARED:
                found = self._measure(figure)
                if found:
                    mask, measure = found
                    difference = seed_mean_difference(ours, bases, self.weights, images=mask, measure=measure)
                    rows.append([arm, figure, *difference, len(common)])
        return pd.DataFrame(rows, columns=columns)

    def means(self, arms: dict[str, list[int]], figures: Sequence[str]) -> pd.DataFrame:
        """95 % interval of each arm's mean over images and seeds, as `seed_mean_difference` draws them."""
        rows = []
        for arm, seeds in arms.items():
            for figure in figures:
                found = self._measure(figure)
                if not found:
                    continue
                mask, measure = found
                weights = self.weights if mask is None else self.weights * mask
                table = np.stack([measure(self.matches[arm, s], weights) for s in seeds])  # (S, B)
                drawn = np.random.default_rng(0).integers(len(seeds), size=(max(1, len(seeds) - 1), table.shape[1]))
                low, high = interval(np.take_along_axis(table, drawn, axis=0).mean(0))
                rows.append([arm, figure, low, high])
        return pd.DataFrame(rows, columns=["arm", "figure", "low", "high"])

    def _measure(self, figure: str) -> tuple[np.ndarray | None, Callable[[Matches, Any], np.ndarray]] | None:
        """Which images a figure is of (None: all) and how it is computed; None where it has no images."""
        groups = self.groups
        third = figure.removeprefix("name_")
        if third in THIRDS:
            mask = groups.mask(third, names=figure.startswith("name_"))
            return (mask, self._remembered(figure, 0)) if mask is not None and mask.any() else None
        if third == "macro":
            image = groups.name if figure == "name_macro" else groups.cluster
            return None if image is None else (None, self._kept((figure,), macro_average_precision(image)))
        if figure == "AR":
            return None, self._kept(("AR",), lambda matches, weights: matches.average_recall(weights))
        return None, self._remembered("AP", ("AP", "AP50", "AP75").index(figure))

    def _remembered(self, what: str, at: int) -> Callable[[Matches, Any], np.ndarray]:
        """One of AP, AP50, AP75; the three are computed together."""
        kept = self._kept(("precision", what), lambda matches, weights: matches.average_precision(weights))
        return lambda matches, weights: kept(matches, weights)[at]

    def _kept(self, key: tuple[Any, ...], compute: Callable[[Matches, Any], Any]) -> Callable[[Matches, Any], Any]:
        """A measure that is computed once a model: the reference is compared with every arm on the same replicates."""

        def value(matches: Matches, weights: Any) -> Any:
            # Within a key the weights are always the same: either the replicates or, one-dimensional, the mask.
            place = (*key, id(matches), np.ndim(weights))
            if place not in self._known:
                self._known[place] = compute(matches, weights)
            return self._known[place]

        return value


def _one(folders: dict[tuple[str, int], Path]) -> ImageGroups:
    """The images of a study; all its trainings have the same."""
    loaded = [(folder, ImageGroups.load(folder / "groups.npz")) for folder in folders.values()]
    first = loaded[0][1]
    for folder, other in loaded[1:]:
        if not first.same(other):
            raise DPoseError(
                f"{folder.name} was evaluated on other images or postures than {loaded[0][0].name}: the data changed "
                "in between; remove the metrics.json of both and run the study again"
            )
    return first


def _unusable(folder: Path, plan: dict[str, Any]) -> str | None:
    """Why a training cannot be in the tables."""
    record = read_json(folder / "arm.json")
    if record is None:
        return "not started"
    if not all((folder / name).is_file() for name in RESULTS):
        return "not finished"
    asked = plan["evaluation"]
    other = next((k for k, v in asked.items() if record["evaluation"].get(k) != v), None)
    return f"evaluated with another {other}" if other else None


def _other_conventions(first: dict[str, Any], metrics: dict[str, Any]) -> str | None:
    for name in ("images", "persons", "oks_area", "split"):
        if first.get(name) != metrics.get(name):
            return f"evaluated with {name} {metrics.get(name)}, the others with {first.get(name)}"
    return None


def _replicates(metrics: dict[str, Any]) -> int:
    return int((metrics.get("bootstrap") or {}).get("replicates") or REPLICATES)


def _about(metrics: dict[str, Any], groups: ImageGroups, plan: dict[str, Any]) -> dict[str, Any]:
    names = ("data", "split", "images", "persons", "oks_area", "max_detections", "mixture", "bootstrap", "version")
    about = {k: metrics.get(k) for k in names}
    about["replicates"] = _replicates(metrics)
    about["subjects"] = None if groups.subjects is None else len(np.unique(groups.subjects[groups.subjects != ""]))
    about["weights"] = plan["evaluation"]["weights"]
    return about
