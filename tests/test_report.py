"""Cluster tables, posture atlas and attention overlays: the numbers they show and what is drawn."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from atlas_cases import SETTINGS, SHARES, fitted, known, stick_table
from stick_figures import NAMES, POSTURES

from dpose_yolo.engine.postures import posture_plan
from dpose_yolo.errors import DPoseError
from dpose_yolo.keypoints import side_of
from dpose_yolo.posture.features import posture_features
from dpose_yolo.report.atlas import save_atlas
from dpose_yolo.report.drawing import limbs, replacing
from dpose_yolo.report.overlays import blend, save_overlays
from dpose_yolo.report.skeleton import keypoint_covariances
from dpose_yolo.report.tables import cluster_table, members, posture_names, save_tables

LSP = [
    *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist"),
    *("right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top"),
]


def near(image: np.ndarray, rgb: tuple[int, int, int], tolerance: int = 12) -> int:
    """Pixels of about a colour in a BGR image."""
    return int((np.abs(image.astype(int) - np.array(rgb[::-1])).max(-1) <= tolerance).sum())


# ---------------------------------------------------------------------------------------------------------- tables


def test_table_counts_and_shares() -> None:
    table, names = stick_table()
    mixture, plan = known(table, names)
    df = cluster_table(table, mixture, plan, names)
    assert df["cluster"].tolist() == [0, 1, 2, 3]
    assert df["poses"].tolist() == df["images"].tolist() == sorted(SHARES.values(), reverse=True)
    assert df["posture"].tolist() == list(SHARES)
    assert df["purity"].tolist() == [1.0] * 4
    assert df["natural_share"].sum() == pytest.approx(1)
    assert df["natural_share"].tolist() == pytest.approx([n / 52 for n in SHARES.values()], abs=1e-3)
    assert df["balanced_share"].tolist() == pytest.approx([0.25] * 4, abs=1e-3)
    assert df["draws"].sum() == pytest.approx(52)
    assert df["largest_draws"].tolist() == pytest.approx([13 / n for n in SHARES.values()], abs=1e-2)


def test_typical_and_rarest_pose_of_a_cluster() -> None:
    table, names = stick_table()
    mixture, plan = known(table, names)
    odd = 5  # of the largest cluster: an arm where nobody has it, but not so far as to change sides
    table.keypoints[odd, 9] += [0, 18, 0]
    table.keypoints[odd, 9, 2] = 2
    df = cluster_table(table, mixture, plan)
    assert df.loc[0, "rarest_file"] == table.files[odd]
    features = posture_features(table.keypoints, table.boxes)
    per_coordinate = mixture.score_samples(features)[odd] / (~np.isnan(features[odd, mixture.used_])).sum()
    assert df.loc[0, "rarest_log_likelihood"] == pytest.approx(per_coordinate, rel=1e-4)
    own = members(table, mixture)
    inside = np.flatnonzero(own.cluster == 0)
    error = np.nanmean((own.features - mixture.means_[0]) ** 2, 1)
    assert error[own.typical[0]] <= np.median(error[inside])
    assert "posture" not in df


def test_poses_without_labels_and_images_without_poses_count_nowhere() -> None:
    table, _ = stick_table()
    mixture, _ = fitted(table, 4)
    table.files.append("background.png")
    table.keypoints[0, :, 2] = 0
    plan = posture_plan(table, mixture, SETTINGS)
    df = cluster_table(table, mixture, plan)
    assert df["poses"].sum() == df["images"].sum() == 51
    assert df["natural_share"].sum() == pytest.approx(1)
    assert df["draws"].sum() == pytest.approx(53)


def test_majority_name_and_purity_by_hand() -> None:
    table, drawn = stick_table()
    mixture, plan = known(table, drawn)
    names: list[str | None] = ["a"] * 9 + ["b"] * 15 + [None] * 6 + ["c"] * 6 + ["b"] * 6 + [None] * 10
    df = cluster_table(table, mixture, plan, names)
    assert df["posture"].tolist()[:2] == ["b", "b"]  # equals: the first in the alphabet
    assert df["purity"].tolist()[:2] == [15 / 24, 0.5]
    assert df.loc[2:, ["posture", "purity"]].isna().all(axis=None)


def test_plan_of_other_images_is_refused() -> None:
    table, names = stick_table()
    mixture, plan = fitted(table, 2)
    table.files.append("one_more.png")
    with pytest.raises(DPoseError, match=r"53 images but a plan for 52, 52 names"):
        cluster_table(table, mixture, plan, names)


def test_saved_tables(tmp_path: Path) -> None:
    table, names = stick_table()
    table.keypoints[:, 15:, 2] = 0
    mixture, plan = fitted(table, "auto", component_range=(2, 5))
    mixture.keypoint_names_ = tuple(NAMES)
    names[40:] = [None] * 12
    df = cluster_table(table, mixture, plan, names)
    csv_path, json_path = save_tables(df, mixture, tmp_path / "run")
    with open(csv_path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["poses"]) for row in rows) == 52
    assert sum(float(row["balanced_share"]) for row in rows) == pytest.approx(1, abs=1e-4)
    assert rows[0]["left_out"] == "left_ankle right_ankle"
    content = json.loads(json_path.read_text(), parse_constant=pytest.fail)  # NaN is no JSON
    assert content["left_out"] == ["left_ankle", "right_ankle"]
    assert content["settings"]["covariance_type"] == "diag"
    assert {entry["clusters"] for entry in content["bic"]} == {2, 3, 4, 5}
    best = min(content["bic"], key=lambda entry: entry["bic"])
    assert best["clusters"] == len(content["clusters"]) == len(rows)
    assert any(row["posture"] is None and row["purity"] is None for row in content["clusters"])
    assert sorted(p.name for p in csv_path.parent.iterdir()) == ["clusters.csv", "clusters.json"]


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "clusters.csv"
    path.write_text("old")
    with pytest.raises(ValueError, match="half way"), replacing(path) as temporary:
        temporary.write_text("new")
        raise ValueError("half way")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "file").touch()
    with pytest.raises(DPoseError, match="cannot write"), replacing(tmp_path / "file" / "x.png"):
        pass


# ------------------------------------------------------------------------------------------------- names from a CSV


def test_posture_names_by_the_longest_end_of_the_path(tmp_path: Path) -> None:
    table = tmp_path / "names.csv"
    table.write_text("camera,action,file\nc,phone,vp1/im.jpg\nc,radio,im.jpg\nc,,empty.jpg\nc,eat,sub\\win.jpg\n")
    files = ["/data/vp1/im.jpg", "/data/vp2/im.jpg", "/data/other.jpg", "/d/empty.jpg", "x/sub/win.jpg"]
    assert posture_names(table, files) == ["phone", "radio", None, None, "eat"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no table"),
        ("file,camera\na.jpg,x\n", "it needs `file` and one of posture, action, name"),
        ("file,name\na.jpg,x\na.jpg,y\n", "calls a.jpg both 'x' and 'y'"),
        ("file,name\nb.jpg,x\n", "knows none of the 1 images"),
        ("", "not readable as CSV"),
    ],
)
def test_bad_name_tables_are_told_in_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "names.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DPoseError, match=message) as error:
        posture_names(path, ["a.jpg"])
    assert "\n" not in str(error.value)


# ----------------------------------------------------------------------------------------------------------- atlas


def test_a_table_of_names_is_never_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """pandas fetches a name that is a URL."""
    asked: list[object] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: asked.append(args))
    with pytest.raises(DPoseError, match=r"there is no table of posture names at https://example\.com/names\.csv"):
        posture_names("https://example.com/names.csv", ["a.jpg"])
    assert not asked


def test_limbs_from_names() -> None:
    assert len(limbs(NAMES)) == 19  # COCO's
    assert limbs([str(k) for k in range(17)]) == limbs(NAMES)
    assert limbs([str(k) for k in range(14)]) == []
    joined = {frozenset((LSP[a], LSP[b])) for a, b in limbs(LSP)}
    assert {frozenset(("left_elbow", "left_wrist")), frozenset(("head_top", "neck"))} <= joined
    assert not any("left_elbow" in pair and "right_wrist" in pair for pair in joined)
    assert limbs(LSP, [[0, 13]]) == [(0, 13)]
    for bad in ([[0, 14]], [[0, 1, 2]], [[-1, 2]], [3], ["ab"]):
        with pytest.raises(DPoseError, match="keypoint indices from 0 to 13"):
            limbs(LSP, bad)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("left_wrist", ("left", "wrist")), ("LWrist", ("left", "wrist")), ("wrist-r", ("right", "wrist")),
        ("rightHip", ("right", "hip")), ("nose", ("", "nose")), ("3", ("", "3")), ("left", ("", "left")),
    ],
)  # fmt: skip
def test_sides_of_names(name: str, side: tuple[str, str]) -> None:
    assert side_of(name) == side


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_spread_is_that_of_the_mixture(covariance: str) -> None:
    table, _ = stick_table()
    mixture, _ = fitted(table, 3, covariance_type=covariance)
    spread = keypoint_covariances(mixture)
    assert spread.shape == (3, 17, 2, 2)
    want = {
        "full": lambda: mixture.covariances_[2][6:8, 6:8],
        "tied": lambda: mixture.covariances_[6:8, 6:8],
        "diag": lambda: np.diag(mixture.covariances_[2][6:8]),
        "spherical": lambda: mixture.covariances_[2] * np.eye(2),
    }[covariance]()
    assert spread[2, 3] == pytest.approx(want)


@pytest.mark.parametrize(("clusters", "names"), [(1, NAMES), (2, NAMES), (4, LSP), (32, NAMES)])
def test_atlas_of_any_size(tmp_path: Path, clusters: int, names: list[str]) -> None:
    table, postures = stick_table(tmp_path, repeat=2)
    table.keypoints, table.names = table.keypoints[:, : len(names)], list(names)
    mixture, plan = fitted(table, clusters)
    drawn = cv2.imread(str(save_atlas(table, mixture, plan, tmp_path / "atlas.png", names=postures)))
    height, width = drawn.shape[:2]
    assert 1000 <= width <= 2500
    assert 0.4 < width / height < 2.5
    blocks = drawn[: height // 4 * 4, : width // 4 * 4].reshape(4, height // 4, 4, width // 4, 3)
    assert blocks.std((1, 3, 4)).min(1).max() > 5  # somewhere a whole band without an empty block
    assert near(drawn, (0x00, 0x72, 0xB2)) > 200  # left limbs
    assert near(drawn, (0xD5, 0x5E, 0x00)) > 200  # right limbs
    assert near(drawn, (0x00, 0x9E, 0x73)) > 1000  # drawn shares
    picture = (np.abs(drawn[..., 2].astype(int) - 255) < 6) & (drawn[..., 0] < 6)  # red + some green, no blue
    assert picture.sum() > 10000 * clusters**0.5


def test_atlas_without_readable_images_is_the_atlas_of_skeletons(tmp_path: Path) -> None:
    table, _ = stick_table()
    mixture, plan = fitted(table, 4)
    missing = cv2.imread(str(save_atlas(table, mixture, plan, tmp_path / "a.png")))
    none = cv2.imread(str(save_atlas(table, mixture, plan, tmp_path / "b.png", images=False)))
    assert np.array_equal(missing, none)
    assert none.std() > 10


def test_atlas_leaves_out_what_the_mixture_leaves_out_and_takes_a_skeleton(tmp_path: Path) -> None:
    table, _ = stick_table()
    table.keypoints[:, [7, 9], 2] = 0  # the whole left arm below the shoulder
    mixture, plan = fitted(table, 2)
    assert mixture.left_out_ == [7, 9]
    joined = cv2.imread(str(save_atlas(table, mixture, plan, tmp_path / "a.png", skeleton=[[5, 7], [11, 13]])))
    bare = cv2.imread(str(save_atlas(table, mixture, plan, tmp_path / "b.png", skeleton=[[5, 7]])))
    points = cv2.imread(str(save_atlas(table, mixture, plan, tmp_path / "c.png", skeleton=[])))
    assert np.array_equal(bare, points)  # nothing leads to a keypoint that is not there
    assert near(joined, (0x00, 0x72, 0xB2)) > near(points, (0x00, 0x72, 0xB2)) + 200


def test_atlas_shows_the_bic_curve_and_survives_an_empty_cluster(tmp_path: Path) -> None:
    table, _ = stick_table()
    mixture, plan = fitted(table, 3)
    before = cv2.imread(str(save_atlas(table, mixture, plan, tmp_path / "a.png", images=False)))
    mixture.bic_curve_ = {2: -1000.0, 3: -2000.0, 4: -1500.0}
    after = cv2.imread(str(save_atlas(table, mixture, plan, tmp_path / "b.png", images=False)))
    changed = np.argwhere((before != after).any(-1))
    assert len(changed) > 1000
    assert changed[:, 0].min() > 0.5 * len(before)  # only the charts

    mixture.means_[2] = mixture.means_[0]  # now nobody's likeliest
    mixture.covariances_[2], mixture.weights_[2] = mixture.covariances_[0], mixture.weights_[0] / 1000
    plan = posture_plan(table, mixture, SETTINGS)
    df = cluster_table(table, mixture, plan)
    assert df.loc[2, "poses"] == 0
    assert pd.isna(df.loc[2, "typical_file"])
    assert cv2.imread(str(save_atlas(table, mixture, plan, tmp_path / "c.png"))).std() > 5


# -------------------------------------------------------------------------------------------------------- overlays


def test_blend_keeps_the_picture_where_attention_is_zero() -> None:
    picture = np.full((40, 60, 3), 100, np.uint8)
    attention = np.zeros((4, 6), np.float32)
    attention[1, 4] = 1
    mixed = blend(picture, attention)
    assert mixed.shape == (40, 60, 3)
    assert np.abs(mixed[25:, :20].astype(int) - 100).max() == 0
    strongest = np.unravel_index(np.abs(mixed.astype(int) - 100).sum(-1).argmax(), (40, 60))
    assert 8 <= strongest[0] <= 22 and 38 <= strongest[1] <= 52  # the map's cell (1, 4), ten times as large
    assert mixed[15, 45].min() > 120  # magma's bright end


@pytest.mark.parametrize("shape", [(240, 320), (500, 90), (30, 900), (1200, 1600)])
def test_overlays_of_any_shape(tmp_path: Path, shape: tuple[int, int]) -> None:
    height, width = shape
    picture = np.full((height, width, 3), 60, np.uint8)
    maps = {"left_wrist": np.eye(20, dtype=np.float32), "nose": np.full((7, 9), 2.0), "r": np.ones((1, 1))}
    points = {"left_wrist": (width * 0.25, height * 0.5, 0.9), "r": (-50.0, 5.0, 0.1)}
    drawn = cv2.imread(str(save_overlays(picture, maps, points, tmp_path / "o.png", title="try")))
    assert 500 <= drawn.shape[1] <= 2500 and drawn.shape[0] <= 2500
    assert near(drawn, (60, 60, 60)) > 1000  # the picture
    assert near(drawn, (0xD5, 0x5E, 0x00)) > 20  # the point


def test_overlays_mark_the_predicted_place(tmp_path: Path) -> None:
    picture = np.full((200, 200, 3), 60, np.uint8)
    maps = {"nose": np.zeros((5, 5))}
    drawn = {}
    for x in (50, 150):
        path = save_overlays(picture, maps, {"nose": (x, 100, 0.5)}, tmp_path / f"{x}.png")
        image = cv2.imread(str(path))
        first = np.flatnonzero((np.abs(image.astype(int) - 60).max(-1) < 3).sum(0) > 100)
        orange = np.abs(image.astype(int) - np.array([0x00, 0x5E, 0xD5])).max(-1) < 12
        marks = orange[:-80]  # without the key at the foot
        drawn[x] = (np.argwhere(marks)[:, 1].mean() - first[0]) / 360  # panels are 360 px wide
    assert drawn[50] == pytest.approx(0.25, abs=0.01)
    assert drawn[150] == pytest.approx(0.75, abs=0.01)


def test_seventeen_keypoints_stay_on_one_readable_page(tmp_path: Path) -> None:
    picture = np.full((240, 320, 3), 60, np.uint8)
    maps = dict.fromkeys(NAMES, np.ones((20, 20), np.float32))
    drawn = cv2.imread(str(save_overlays(picture, maps, {}, tmp_path / "a.png")))
    assert max(drawn.shape) <= 2500
    assert 0.5 < drawn.shape[1] / drawn.shape[0] < 2


def test_heatmaps_are_one_more_column(tmp_path: Path) -> None:
    picture = np.full((240, 320, 3), 60, np.uint8)
    maps, zero = {"nose": np.ones((20, 20))}, {"nose": np.zeros((4, 4))}
    two = cv2.imread(str(save_overlays(picture, maps, {}, tmp_path / "a.png")))
    three = cv2.imread(str(save_overlays(picture, maps, {}, tmp_path / "b.png", heatmaps=zero)))
    assert near(three, (60, 60, 60), 2) == pytest.approx(2 * near(two, (60, 60, 60), 2), rel=0.02)


@pytest.mark.parametrize(
    ("picture", "maps", "message"),
    [
        (np.zeros((8, 8), np.uint8), {"a": np.ones((2, 2))}, r"uint8 \(8, 8\): expected"),
        (np.zeros((8, 8, 3)), {"a": np.ones((2, 2))}, r"float64 \(8, 8, 3\): expected"),
        (np.zeros((8, 8, 3), np.uint8), {}, "no attention maps"),
        (np.zeros((8, 8, 3), np.uint8), {"a": np.array([[np.nan, 0]])}, "attention map of a .* 1 values that are not"),
        (np.zeros((8, 8, 3), np.uint8), {"a": np.ones(4)}, "expected finite"),
    ],
)
def test_bad_overlays_are_told(tmp_path: Path, picture: np.ndarray, maps: dict, message: str) -> None:
    with pytest.raises(DPoseError, match=message):
        save_overlays(picture, maps, {}, tmp_path / "o.png")
    assert not list(tmp_path.iterdir())


def test_reports_need_no_torch(root: Path) -> None:
    code = (
        "import sys, dpose_yolo.report.atlas, dpose_yolo.report.overlays, dpose_yolo.report.tables;"
        "print([m for m in ('torch', 'ultralytics', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_postures_used_here_exist() -> None:
    assert set(SHARES) <= set(POSTURES)
