"""`dpose clusters`: the posture atlas of a data set, and what is new in another one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpose_yolo.commands.common import output_folder, refuse_foreign
from dpose_yolo.commands.usage import flag, require
from dpose_yolo.errors import DPoseError
from dpose_yolo.settings import resolve

if TYPE_CHECKING:
    from dpose_yolo.engine.postures import PoseTable
    from dpose_yolo.report.atlas_page import Shown

OWN = ("data", "split", "seed", "images", "bic", "compare", "compare_split", "project", "name", "exist_ok")
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
    "outside",
)
TOLD = ("clusters", "refits", "mixtures", "balance", "repeat_cap", "covariance", "posture_scale")


def main(settings: dict[str, Any]) -> None:
    """Fit the mixture on the training part of a data set; write table and atlas of a part."""
    refuse_foreign(settings, (*OWN, *DPOSE), "clusters")
    data_file = require(settings, "data", "clusters")
    dpose = resolve({k: v for k, v in settings.items() if k in DPOSE})
    split, images = str(settings.get("split", "train")), flag(settings, "images", True)
    wanted, numbers = tried_numbers(settings.get("bic", False))
    seed = settings.get("seed", 0)
    if type(seed) is not int or seed < 0:
        raise DPoseError(f"seed={seed} must be a whole number from 0")
    if "compare_split" in settings and "compare" not in settings:
        raise DPoseError("compare_split is the part of compare=: give compare= a data YAML, too")
    from dpose_yolo.engine.compat import require_engine

    require_engine()
    from dpose_yolo.engine.postures import BY_SIZE, averaged_plan, bic_curve, posture_mixtures
    from dpose_yolo.posture import evenness_told
    from dpose_yolo.report.atlas import save_atlas
    from dpose_yolo.report.atlas_page import save_atlas_page
    from dpose_yolo.report.tables import cluster_table, members, save_tables

    view, cache, skeleton = read_part(data_file, "train", dpose, images)
    # The mixture is the training part's, whichever part it is shown on; training fits and keeps the same one.
    training = view.table
    mixtures = posture_mixtures(training, dpose, seed, where=f"the training part of {data_file}", cache=cache)
    mixture = mixtures[0]
    if split != "train":
        view, _, _ = read_part(data_file, split, dpose, images)
    new = None
    if settings.get("compare") is not None:
        part = str(settings.get("compare_split", "train"))
        new, _, _ = read_part(settings["compare"], part, dpose, images)
        require_same_keypoints(training, str(data_file), new.table, str(settings["compare"]))
    curve = bic_curve(training, dpose, numbers, seed) if wanted else mixture.bic_curve_
    table, names = view.table, view.names
    plan, own = averaged_plan(table, mixtures, dpose), members(table, mixture)
    frame = cluster_table(table, mixture, plan, names, own)
    folder = output_folder(settings, "clusters")
    save_tables(frame, mixture, folder, curve)
    mixture.save(folder / "postures.npz", key=mixture.key_, keypoint_names=table.names)
    save_atlas(
        table, mixture, plan, folder / "atlas.png", images=images, skeleton=skeleton, names=names, curve=curve
    )  # fmt: skip
    _print(frame)
    if dpose["clusters"] == "by_size":
        print(f"{BY_SIZE} ({len(mixture.weights_)} of {training.labelled_poses()} poses)")
    print(evenness_told(frame["natural_share"], frame["balanced_share"], dpose["balance"], table.labelled_poses()))
    left_out = ", ".join(table.names[k] for k in mixture.left_out_)
    if left_out:
        print(f"left out of the postures, almost never labelled: {left_out}")
    title, written, section = f"{data_file}, {split} part", "", []
    if new is not None:
        sets = (title, f"{settings['compare']}, {settings.get('compare_split', 'train')} part")
        section = _compare(mixture, training, view, new, own.typical, sets, seed, folder, skeleton)
        written = ", compare.csv, compare.json, compare.png"
    told = {k: dpose[k] for k in TOLD} | {"seed": seed}
    save_atlas_page(
        folder / "atlas.html", title, view, mixture, frame,
        own=own, curve=curve, settings=told, skeleton=skeleton, comparison=section,
    )  # fmt: skip
    print(f"\natlas.html, atlas.png, clusters.csv, clusters.json, postures.npz{written} in {folder}")


def read_part(data: Any, split: str, dpose: dict[str, Any], images: bool) -> tuple[Shown, Path, Any]:
    """A labelled part and how to show it, the folder of its labels, and the skeleton of the data YAML."""
    from dpose_yolo.engine.labels import load_labels
    from dpose_yolo.engine.postures import keypoint_names, pose_table
    from dpose_yolo.evaluation.data import find_index, image_names
    from dpose_yolo.report.atlas_page import Shown
    from dpose_yolo.report.drawing import limbs

    labels, dictionary, cache = load_labels(data, split, dpose["skip_bad"], dpose["outside"])
    table = pose_table(labels, keypoint_names(dictionary), dpose["posture_scale"])
    names, _ = image_names(find_index(data, dictionary, split), table.files, asked=False)
    skeleton = dictionary.get("skeleton")
    root = str(Path(dictionary["path"]).resolve())
    return Shown(table, root, names, limbs(table.names, skeleton), images), cache, skeleton


def tried_numbers(bic: Any) -> tuple[bool, list[int] | None]:
    """Whether a BIC curve is wanted, and over which numbers of clusters; None for those of `clusters=auto`.

    Raises:
        DPoseError: for anything else than True, False and whole numbers.
    """
    if isinstance(bic, bool):
        return bic, None
    if isinstance(bic, str):
        bic = [int(word) if word.strip().isdecimal() else word for word in bic.strip("[]() ").split(",")]
    numbers = bic if isinstance(bic, list) else [bic]
    if not numbers or not all(type(n) is int and 1 <= n <= 1024 for n in numbers):
        raise DPoseError(f"bic={bic} is not allowed: bic takes True, False or numbers of clusters, e.g. bic=4,8,16")
    return True, numbers


def require_same_keypoints(old: PoseTable, old_name: str, new: PoseTable, new_name: str) -> None:
    """Refuse two sets whose keypoints differ in number, order or name.

    Raises:
        DPoseError: naming the first difference.
    """
    from dpose_yolo.keypoints import full_names

    if len(old.names) != len(new.names):
        what = f"{len(old.names)} keypoints a pose in one, {len(new.names)} in the other"
    else:
        pairs = enumerate(zip(full_names(old.names), full_names(new.names), strict=True))
        differing = next(((k, a, b) for k, (a, b) in pairs if a != b), None)
        if differing is None:
            return
        what = "keypoint {} is {} in one, {} in the other".format(*differing)
    raise DPoseError(
        f"{old_name} and {new_name} cannot be compared: {what}; bring both to the same keypoints and kpt_names"
    )


def _compare(
    mixture: Any, training: PoseTable, old: Shown, new: Shown, typical: Any, sets: tuple[str, str], seed: int,
    folder: Path, skeleton: Any,
) -> list[str]:  # fmt: skip
    """Compare two sets, write and print the tables and the picture; the section of the page."""
    from dpose_yolo.engine.postures import covariance_floor
    from dpose_yolo.keypoints import full_names
    from dpose_yolo.posture.shift import compare_postures
    from dpose_yolo.posture.usual import fit_usual
    from dpose_yolo.report import shift as report
    from dpose_yolo.report.drawing import limbs
    from dpose_yolo.report.shift_page import section

    floor = covariance_floor(training)
    usual = fit_usual(training.features(), seed, reg_covar=floor)
    if isinstance(usual, str):
        raise DPoseError(f"new postures cannot be told: {usual}")
    shift = compare_postures(mixture, usual, old.table.features(), new.table.features(), seed, floor)
    old.pairs = new.pairs = limbs(training.names, skeleton)
    df = report.shift_table(shift, old, new, typical)
    report.save_shift(df, shift, old, new, sets, folder)
    drawn = (df, shift, mixture, full_names(training.names), old.pairs, sets)
    report.save_shift_chart(*drawn, folder / "compare.png")
    report.print_shift(df, sets)
    return section(df, shift, old, new, sets)


def _print(frame: Any) -> None:
    from rich.table import Table

    from dpose_yolo.report.plain import plain_console

    table = Table(box=None, pad_edge=False)
    shown = [c for c in ("cluster", "poses", "natural_share", "balanced_share", "posture", "purity") if c in frame]
    for column in shown:
        table.add_column(column.replace("_", " "), justify="left" if column == "posture" else "right")
    for row in frame[shown].itertuples(index=False):
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row))
    plain_console().print(table)
