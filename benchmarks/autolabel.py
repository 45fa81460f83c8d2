r"""How right the labels of `dpose autolabel` are, against labels that a data set already has.

    python benchmarks/autolabel.py votes data=lspet_pose/data.yaml split=val images=200 votes=lspet.npz \
        teacher=yolo11n-pose.pt,yolov8n-pose.pt,movenet_lightning.onnx,blazepose_full.tflite
    python benchmarks/autolabel.py grid votes=lspet.npz,statefarm.npz     # thresholds, on one half of the images
    python benchmarks/autolabel.py report votes=lspet.npz                 # error and calibration, on the other half

`votes` runs the teachers once, on all images, `images=` evenly spaced ones or `drawn=` random ones, and keeps every
vote; the other two only decide again. Persons are those that a label overlaps by 0.5 or more; errors are distances to
the label in shares of the person's size, sqrt(box width x height). A TFLite file runs in OpenCV where ai-edge-litert
is not installed. Nothing of an image is kept or shown.
"""

import itertools
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from dpose_yolo.autolabel.panel import Ballot, Panel
from dpose_yolo.autolabel.teachers import PeerTeacher, Teacher, load_teacher
from dpose_yolo.autolabel.votes import Rules
from dpose_yolo.dataset.card import read_card
from dpose_yolo.dataset.files import label_of, part_images
from dpose_yolo.dataset.labels import poses, read_label
from dpose_yolo.keypoints import COCO_NAMES, full_names, sigmas_of
from dpose_yolo.metrics.similarity import box_iou
from dpose_yolo.peers.blazepose import BlazePose
from dpose_yolo.peers.names import match_keypoints
from dpose_yolo.runtime.pictures import plain_picture, with_channels
from dpose_yolo.runtime.sources import read_picture


class OpenCVBlazePose:
    """BlazePose's TFLite file in OpenCV's reader, as the adapter takes a network."""

    def __init__(self, path: str):
        self.input_shape, self.input_type, self.metadata = (1, 256, 256, 3), np.dtype(np.float32), {}
        self.output_shapes = {"Identity": (1, 195), "Identity_3": (1, 64, 64, 39)}
        self.net = cv2.dnn.readNetFromTFLite(path, engine=cv2.dnn.ENGINE_CLASSIC)

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Landmarks and heatmaps."""
        self.net.setInput(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))
        landmarks, heatmaps = self.net.forward(["Identity", "Identity_3"])
        return {"Identity": landmarks, "Identity_3": heatmaps.transpose(0, 2, 3, 1)}


def teacher_of(path: str) -> Teacher:
    """A teacher by the product's way, save for TFLite without its runtime."""
    if path.endswith(".tflite") and find_spec("ai_edge_litert") is None:
        return PeerTeacher(Path(path), BlazePose(OpenCVBlazePose(path), (256, 256)))
    return load_teacher(path)


def cast_votes(given: dict[str, str]) -> None:
    """Run the teachers over a data part and keep every vote on a labelled person."""
    card, split = read_card(given["data"]), given.get("split", "val")
    files = sorted(part_images(card, split))
    if "drawn" in given:  # so that fewer are the first of more
        chosen = np.random.default_rng(0).permutation(len(files))[: int(given["drawn"])]
    else:
        count = min(int(given.get("images", len(files))), len(files))
        chosen = np.unique(np.linspace(0, len(files) - 1, count).round().astype(int))
    files = [files[i] for i in chosen]
    teachers = [teacher_of(path) for path in given["teacher"].split(",")]
    panel = Panel(teachers, COCO_NAMES, driver="all")
    order = match_keypoints(full_names(card.names), COCO_NAMES)
    rows, persons = [], 0
    for number, file in enumerate(track(files, description=card.file.parent.name)):
        image = with_channels(plain_picture(read_picture(file)), 3)
        height, width = image.shape[:2]
        points, boxes = poses(read_label(label_of(file), card.count, card.dims, card.classes).rows, 3, width, height)
        truth = np.concatenate([points, np.zeros_like(points[:, :1])], 1)[:, order]
        boxes = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1).astype(float)
        labelled = (truth[..., 2] > 0).any(1)
        persons += int(labelled.sum())
        ballots = panel.look(image)
        largest = max(ballots, key=lambda b: np.prod(b.box[2:] - b.box[:2])) if ballots else None
        for person in np.flatnonzero(labelled):
            overlap = box_iou(boxes[person][None], np.array([b.box for b in ballots]))[0] if ballots else np.zeros(1)
            if overlap.max() >= 0.5:
                best = ballots[int(overlap.argmax())]
                rows.append((number, truth[person], boxes[person], best, best is largest))
        if rows and (number % 20 == 19 or number == len(files) - 1):
            save_votes(given["votes"], rows, [number + 1, persons], teachers)
    largest_ones = sum(r[4] for r in rows)
    print(f"{len(files)} images, {len(rows)} of {persons} labelled persons found, {largest_ones} the largest")


def save_votes(path: str, rows: list, about: list[int], teachers: list[Teacher]) -> None:
    """Keep what there is so far: number of images and labelled persons, and the votes on each person found."""
    np.savez_compressed(
        path,
        image=[r[0] for r in rows],
        truth=[r[1] for r in rows],
        truth_box=[r[2] for r in rows],
        box=[r[3].box for r in rows],
        points=[r[3].points for r in rows],
        confidence=[r[3].confidence for r in rows],
        teacher=rows[0][3].teacher,
        largest=[r[4] for r in rows],
        about=about,
        teachers=[Path(t.path).name for t in teachers],
    )


class Votes:
    """Kept votes of one half of the images; `only` names teachers by number, None takes all."""

    def __init__(self, path: str, half: int, only: list[int] | None = None, flip: bool = True):
        data = np.load(path)
        mine = np.random.default_rng(0).permutation(int(data["about"][0]))[data["image"]] % 2 == half
        self.truth, self.boxes = data["truth"][mine], data["truth_box"][mine]
        self.sigmas = sigmas_of(COCO_NAMES)
        views = np.arange(len(data["teacher"]))
        keep = np.isin(data["teacher"], only if only is not None else data["teacher"]) & (flip | (views % 2 == 0))
        self.ballots = [
            Ballot(b, p[keep], c[keep], data["teacher"][keep])
            for b, p, c in zip(data["box"][mine], data["points"][mine], data["confidence"][mine], strict=True)
        ]

    def decide(self, rules: Rules) -> dict[str, np.ndarray]:
        """(P, K) flags, certainty, and error in shares of the person's size (NaN where there is no label)."""
        verdicts = [b.decide(self.sigmas, rules) for b in self.ballots]
        size = np.sqrt(np.prod(self.boxes[:, 2:] - self.boxes[:, :2], axis=1))
        error = np.linalg.norm([v.points for v in verdicts] - self.truth[..., :2], axis=-1) / size[:, None]
        error[self.truth[..., 2] == 0] = np.nan
        return {
            "flag": np.array([v.flags for v in verdicts]),
            "certainty": np.array([v.certainty for v in verdicts]),
            "error": error,
        }


def line(name: str, got: dict[str, np.ndarray], keypoints: list[int]) -> str:
    """One row of the table: shares of flags, then errors and shares within 0.05 and 0.1 of flags 2 and 1."""
    flag, error = got["flag"][:, keypoints], got["error"][:, keypoints]
    there = ~np.isnan(error)
    cells = [name, str(int(there.sum()))] + [f"{100 * (flag[there] == f).mean():.0f}" for f in (2, 1, 0)]
    for f in (2, 1):
        e = error[there & (flag == f)]
        cells += (
            [f"{np.median(e):.3f}", f"{np.quantile(e, 0.9):.3f}", *(f"{(e <= t).mean():.3f}" for t in (0.05, 0.1))]
            if len(e) >= 20
            else ["-"] * 4
        )
    return "| " + " | ".join(cells) + " |"


HEAD = """| keypoint | labels | 2 % | 1 % | 0 % | 2: median | 90 % | <= .05 | .1 | 1: median | 90 % | <= .05 | .1 |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""
PARTS = ["nose", "eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"]


def chosen_rules(given: dict[str, str]) -> Rules:
    """The defaults, or those given."""
    return Rules(**{k: float(given[k]) for k in ("least", "agree", "sure", "weak") if k in given})


def report(given: dict[str, str]) -> None:
    """Errors and calibration on the half that the thresholds were not chosen on."""
    rules = chosen_rules(given)
    only = [int(t) for t in given["only"].split(",")] if "only" in given else None
    for path in given["votes"].split(","):
        votes = Votes(path, int(given.get("half", 1)), only, given.get("flip", "True") == "True")
        got = votes.decide(rules)
        print(f"\n{Path(path).stem}: {len(votes.ballots)} persons, {rules}\n\n{HEAD}")
        for part in PARTS:
            keypoints = [k for k, name in enumerate(COCO_NAMES) if name.endswith(part)]
            if (~np.isnan(got["error"][:, keypoints])).sum() >= 20:
                print(line(part, got, keypoints))
        print(line("all", got, list(range(17))))
        calibration(got)


def calibration(got: dict[str, np.ndarray]) -> None:
    """Share of right points by certainty, and how well an image's certainty ranks its error."""
    there = ~np.isnan(got["error"])
    print("\n| certainty | points | <= .05 | <= .1 | median error |\n|---|---:|---:|---:|---:|")
    edges = [1e-9, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.01]
    for low, high in itertools.pairwise(edges):
        e = got["error"][there & (got["certainty"] >= low) & (got["certainty"] < high)]
        if len(e):
            shares = " | ".join(f"{(e <= t).mean():.3f}" for t in (0.05, 0.1))
            print(f"| {low:.1f} to {min(high, 1):.1f} | {len(e)} | {shares} | {np.median(e):.3f} |")


def grid(given: dict[str, str]) -> None:
    """Every combination of thresholds on the first half: labelled share and rightness of flags 2 and 1."""
    paths = given["votes"].split(",")
    halves = [Votes(path, 0) for path in paths]
    print("| least | agree | sure | weak |" + "".join(f" {Path(p).stem}: 2 % | right | 1 % | right |" for p in paths))
    print("|---|---|---|---|" + "---:|---:|---:|---:|" * len(paths))
    for least, agree in itertools.product((0.1, 0.3, 0.5), (0.3, 0.5, 0.7)):
        got = [half.decide(Rules(least, agree, 0, 0)) for half in halves]
        for sure, weak in ((0.6, 0.4), (0.65, 0.4), (0.65, 0.5), (0.7, 0.4), (0.7, 0.5), (0.8, 0.5)):
            cells = []
            for one in got:
                there, won = ~np.isnan(one["error"]), one["flag"] > 0
                strong = there & won & (one["certainty"] >= sure)
                faint = there & won & (one["certainty"] >= weak) & ~strong
                for on in (strong, faint):
                    cells += [f"{100 * on.sum() / there.sum():.0f}", f"{(one['error'][on] <= 0.1).mean():.3f}"]
            print(f"| {least} | {agree} | {sure} | {weak} | " + " | ".join(cells) + " |")


def main(words: list[str]) -> None:
    """`votes`, `grid` or `report`, then name=value words."""
    given = dict(word.split("=", 1) for word in words[1:])
    {"votes": cast_votes, "grid": grid, "report": report}[words[0]](given)


if __name__ == "__main__":
    main(sys.argv[1:])
