"""`dpose clusters`: the posture atlas of a data set."""

from __future__ import annotations

from typing import Any

from dpose_yolo.commands.common import output_folder, refuse_foreign
from dpose_yolo.commands.usage import require
from dpose_yolo.errors import DPoseError
from dpose_yolo.settings import resolve

DPOSE = (
    "clusters",
    "refits",
    "mixtures",
    "balance",
    "repeat_cap",
    "responsibility",
    "posture_scale",
    "covariance",
    "min_labelled",
    "skip_bad",
)


def main(settings: dict[str, Any]) -> None:
    """Fit the mixture on the training part of a data set; write table and atlas of a part."""
    own = ("data", "split", "seed", "images", "project", "name", "exist_ok")
    refuse_foreign(settings, (*own, *DPOSE), "clusters")
    data_file = require(settings, "data", "clusters")
    dpose = resolve({k: v for k, v in settings.items() if k in DPOSE})
    split = str(settings.get("split", "train"))
    from dpose_yolo.engine.compat import require_engine
    from dpose_yolo.engine.labels import load_labels

    require_engine()
    labels, data, folder = load_labels(data_file, "train", dpose["skip_bad"])
    from dpose_yolo.engine.postures import averaged_plan, keypoint_names, pose_table, posture_mixtures
    from dpose_yolo.evaluation.data import find_index, image_names
    from dpose_yolo.report.atlas import save_atlas
    from dpose_yolo.report.tables import cluster_table, save_tables

    seed = settings.get("seed", 0)
    if not isinstance(seed, int):
        raise DPoseError(f"seed={seed} must be a whole number")
    # The mixture is the training part's, whichever part it is shown on; training fits and keeps the same one.
    table = pose_table(labels, keypoint_names(data), dpose["posture_scale"])
    mixtures = posture_mixtures(table, dpose, seed, where=f"the training part of {data_file}", cache=folder)
    mixture = mixtures[0]
    if split != "train":
        labels, data, _ = load_labels(data_file, split, dpose["skip_bad"])
        table = pose_table(labels, keypoint_names(data), dpose["posture_scale"])
    plan = averaged_plan(table, mixtures, dpose)
    names, _ = image_names(find_index(data_file, data, split), table.files, asked=False)
    frame = cluster_table(table, mixture, plan, names)
    folder = output_folder(settings, "clusters")
    save_tables(frame, mixture, folder)
    mixture.save(folder / "postures.npz", key=mixture.key_, keypoint_names=table.names)
    save_atlas(
        table,
        mixture,
        plan,
        folder / "atlas.png",
        images=settings.get("images", True),
        skeleton=data.get("skeleton"),
        names=names,
    )
    _print(frame)
    left_out = ", ".join(table.names[k] for k in mixture.left_out_)
    if left_out:
        print(f"left out of the postures, almost never labelled: {left_out}")
    print(f"\natlas.png, clusters.csv, clusters.json, postures.npz in {folder}")


def _print(frame: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    shown = [c for c in ("cluster", "poses", "natural_share", "balanced_share", "posture", "purity") if c in frame]
    for column in shown:
        table.add_column(column.replace("_", " "), justify="left" if column == "posture" else "right")
    for row in frame[shown].itertuples(index=False):
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row))
    Console().print(table)
