"""Two data sets by one mixture: planted new postures and planted gaps are found, and nothing else."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from stick_figures import NAMES, POSTURES, build_dataset, figure
from test_atlas_page import Page

from dpose_yolo.cli import run
from dpose_yolo.errors import DPoseError
from dpose_yolo.posture.features import posture_features
from dpose_yolo.posture.mixture import PostureMixture
from dpose_yolo.posture.shift import Shift, compare_postures
from dpose_yolo.posture.usual import fit_usual


def poses(counts: dict[str, int], seed: int) -> tuple[np.ndarray, list[str]]:
    """Features of drawn drivers; `lean` and `lie` are postures that no drawn set has."""
    rng = np.random.default_rng(seed)
    names = [name for name, count in counts.items() for _ in range(count)]
    keypoints = np.stack([figure(name if name in POSTURES else "two_hands", rng) for name in names])
    for pose, name in zip(keypoints, names, strict=True):
        if name == "lean":
            pose[:5, :2] += (-0.5, 0.3)
        if name == "lie":
            pose[:, :2] = pose[:, 1::-1]
    low, high = (np.where(keypoints[..., 2:] > 0, keypoints[..., :2], far) for far in (9, -9))
    low, high = low.min(1) - 0.04, high.max(1) + 0.04
    return posture_features(keypoints, np.concatenate([(low + high) / 2, high - low], 1)), names


@pytest.fixture(scope="module")
def old() -> tuple[np.ndarray, list[str], PostureMixture]:
    features, names = poses({"two_hands": 120, "phone_left": 60, "reach_right": 40, "stretch_up": 30}, 0)
    return features, names, PostureMixture(4, covariance_type="diag").fit(features)


def shift_of(old: tuple[np.ndarray, list[str], PostureMixture], counts: dict[str, int]) -> tuple[Shift, list[str]]:
    usual = fit_usual(old[0])
    assert not isinstance(usual, str)
    new, names = poses(counts, 1)
    return compare_postures(old[2], usual, old[0], new), names


def named(old: tuple[np.ndarray, list[str], PostureMixture], shift: Shift, name: str) -> int:
    """The cluster of a planted posture."""
    own = [c for c, n in zip(shift.old_cluster, old[1], strict=True) if n == name]
    return int(np.bincount(own).argmax())


def test_the_same_postures_have_no_news(old) -> None:
    counts = {"two_hands": 60, "phone_left": 30, "reach_right": 20, "stretch_up": 15}
    shift, _ = shift_of(old, counts)
    assert shift.mixture is None
    assert len(shift.fresh) == 0
    assert not shift.lacking.any()
    assert list(shift.new) == list(np.bincount(old[2].predict(poses(counts, 1)[0]), minlength=4))
    for name, count in counts.items():
        j = named(old, shift, name)
        assert shift.new[j] == pytest.approx(count, abs=3)
        assert shift.new_shares[j] == pytest.approx(shift.new[j] / 125)
        assert shift.old_shares[j] == pytest.approx(old[1].count(name) / 250, abs=0.02)
    assert shift.old_shares.sum() == pytest.approx(1)


def test_planted_new_postures_and_a_planted_lack(old) -> None:
    shift, names = shift_of(old, {"two_hands": 60, "reach_right": 30, "stretch_up": 1, "lean": 20, "lie": 12})
    unlike = shift.group >= 0
    assert [n for n, new in zip(names, unlike, strict=True) if new] == ["lean"] * 20 + ["lie"] * 12
    assert sorted(shift.fresh) == [12, 20]
    assert len(set(shift.group[91:111])) == 1  # each in a posture of its own
    assert len(set(shift.group[111:])) == 1
    assert set(np.flatnonzero(shift.lacking)) == {named(old, shift, "phone_left"), named(old, shift, "stretch_up")}
    assert shift.new_shares.sum() == pytest.approx(1)
    assert shift.new_shares[4:].sum() == pytest.approx(32 / 123)
    assert (shift.cluster[unlike] == -1).all()


def test_a_few_poses_prove_no_lack(old) -> None:
    shift, _ = shift_of(old, {"two_hands": 12})
    assert shift.new[named(old, shift, "stretch_up")] == 0
    assert not shift.lacking[named(old, shift, "stretch_up")]  # 12 draws without a posture of 12 % are no surprise


def test_one_odd_pose_and_poses_without_labels(old) -> None:
    usual = fit_usual(old[0])
    assert not isinstance(usual, str)
    new, _ = poses({"two_hands": 20, "lean": 1}, 2)
    new[3] = np.nan
    shift = compare_postures(old[2], usual, old[0], new)
    assert list(shift.fresh) == [1]
    assert shift.group[20] == 0
    assert shift.cluster[3] == shift.group[3] == -1
    assert shift.new.sum() == 19


def test_too_few_poses_to_say_what_is_usual() -> None:
    features, _ = poses({"two_hands": 99}, 0)
    assert fit_usual(features) == "99 poses of the training part have half of the keypoints: 100 are needed"


# --------------------------------------------------------------------------------------------------------- command


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sets")
    old, new = build_dataset(folder / "old", train=160, val=8, test=8), build_dataset(folder / "new", 60, 8, 8, seed=1)
    turned = [3, 17, 30, 44, 52]  # these lie on their side now
    for i in turned:
        path = folder / "new" / "labels" / "train" / f"train_{i:04d}.txt"
        row = np.array(path.read_text().split(), float)
        row[1:5] = row[[2, 1, 4, 3]]
        points = row[5:].reshape(-1, 3)
        points[:, :2] = points[:, 1::-1]
        path.write_text(" ".join(f"{v:.5f}" if n % 3 != 1 or n < 5 else f"{v:.0f}" for n, v in enumerate(row)) + "\n")
    return old, new


def test_the_command_tells_what_is_new(sets: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    words = [f"data={sets[0]}", f"compare={sets[1]}", "clusters=4", "covariance=diag", f"project={tmp_path}"]
    assert run(["clusters", *words]) == 0
    out = capsys.readouterr().out
    folder = tmp_path / "clusters"
    rows = list(csv.DictReader((folder / "compare.csv").open(encoding="utf-8")))
    assert [row["posture"] for row in rows[:4]] == ["0", "1", "2", "3"]
    fresh = [row for row in rows if row["state"] == "new"]
    unlike = sum(int(row["new_poses"]) for row in fresh)
    assert 5 <= unlike <= 7  # a drawn pose or two may be odd, too
    assert sum(int(row["new_poses"]) for row in rows) == 60
    assert sum(int(row["old_poses"]) for row in rows) == 160
    for column in ("old_share", "new_share"):
        assert sum(float(row[column]) for row in rows) == pytest.approx(1, abs=1e-4)
    assert f"{unlike} new poses are unlike all old ones" in out

    told = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    turned = {f"images/train/train_{i:04d}.png" for i in (3, 17, 30, 44, 52)}
    assert turned <= {entry["file"] for entry in told["unlike"]}
    assert len(told["unlike"]) == unlike
    assert all(entry["spreads"] > told["rule"]["unlike_from_spreads"] for entry in told["unlike"])
    assert told["new"] == {"data": f"{sets[1]}, train part", "poses": 60, "images": 60}

    page = Page((folder / "atlas.html").read_text(encoding="utf-8"))
    shown = {row[0]: row for row in page.rows if (len(row) == 8 and "new" in row[0]) or row[:1] == ["0"]}
    assert {"compare", "posture-0", "posture-new-0"} <= set(page.values("id"))
    assert shown["new 0"][-1] == "new"
    assert all(source.startswith("data:") for source in page.values("src"))
    drawn = cv2.imread(str(folder / "compare.png"))
    assert drawn.shape[1] == 1760
    assert drawn.std() > 5


def test_other_keypoints_are_refused(sets: tuple[Path, Path], tmp_path: Path) -> None:
    card = yaml.safe_load(sets[1].read_text())
    names = list(NAMES)
    names[7], names[8] = names[8], names[7]
    other = sets[1].with_name("other.yaml")
    other.write_text(yaml.safe_dump(card | {"kpt_names": {0: names}}))
    words = [f"data={sets[0]}", "clusters=2", f"project={tmp_path}"]
    with pytest.raises(DPoseError, match="keypoint 7 is left_elbow in one, right_elbow in the other"):
        run(["clusters", *words, f"compare={other}"])
    few = build_dataset(tmp_path / "few", train=8, val=8, test=8, keypoints=11)
    with pytest.raises(DPoseError, match="17 keypoints a pose in one, 11 in the other"):
        run(["clusters", *words, f"compare={few}"])
    assert not (tmp_path / "clusters").exists()
    with pytest.raises(DPoseError, match="give compare= a data YAML"):
        run(["clusters", *words, "compare_split=val"])
