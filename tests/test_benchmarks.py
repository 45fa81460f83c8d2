"""The commands behind docs/benchmarks.md still fit the project that they measure."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from dpose_yolo.dataset.card import read_card
from dpose_yolo.errors import DPoseError

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"

IMPORT_ALL = """
import importlib, pathlib, sys
sys.path.insert(0, sys.argv[1])
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.py")):
    importlib.import_module(path.stem)
    print(path.stem)
"""


def test_every_benchmark_can_be_imported():
    """In a process of its own: some set the environment before the engine is imported."""
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL, str(FOLDER)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    names = {path.stem for path in FOLDER.glob("*.py")}
    assert len(names) > 8 and set(done.stdout.split()) >= names


def test_a_set_in_cocos_layout(tmp_path):
    """By name: what both have moves, what only one has is dropped or unlabelled."""
    for kind in ("images", "labels"):
        (tmp_path / "own" / kind / "train").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "own/images/train/a.png"), np.zeros((8, 8, 3), np.uint8))
    label = "0 0.5 0.5 0.4 0.4 0.1 0.2 2 0.3 0.4 1 0.5 0.6 2"
    (tmp_path / "own/labels/train/a.txt").write_text(label + "\n", encoding="utf-8")
    card = {"train": "images/train", "kpt_shape": [3, 3], "flip_idx": [0, 1, 2], "names": {0: "person"}}
    card["kpt_names"] = {0: ["right_wrist", "neck", "nose"]}
    (tmp_path / "own/data.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    command = [sys.executable, str(FOLDER / "layout.py"), f"data={tmp_path}/own/data.yaml", f"dst={tmp_path}/new"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    words = (tmp_path / "new/labels/train/a.txt").read_text(encoding="utf-8").split()
    points = np.array(words[5:], float).reshape(17, 3)
    assert words[:5] == ["0", "0.500000", "0.500000", "0.400000", "0.400000"]
    np.testing.assert_array_equal(points[[0, 10]], [[0.5, 0.6, 2], [0.1, 0.2, 2]])
    assert not np.delete(points, [0, 10], axis=0).any()
    assert read_card(tmp_path / "new/data.yaml").flip_idx[10] == 9
    assert (tmp_path / "new/images/train/a.png").read_bytes() == (tmp_path / "own/images/train/a.png").read_bytes()


def test_the_recipe_is_measured_with_and_without_dpose_alike(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import recipe as benchmark

    given = {"data": str(tmp_path / "x.yaml"), "epochs": 240, "levers": "base,mosaic", "seeds": [4]}
    arms = {arm.name: arm.settings for arm in benchmark.recipe_plan(given).arms}
    assert list(arms) == ["on-base", "off-base", "on-mosaic", "off-mosaic"]
    assert [arms[name]["att"] for name in arms] == [40.0, 0.0, 40.0, 0.0]
    assert all(arms["off-mosaic"][name] == 0 for name in ("balance", "kpt_far", "pose_score"))
    assert (arms["on-mosaic"]["mosaic"], arms["on-mosaic"]["close_mosaic"]) == (0.5, 24)
    assert all(one["lr0"] == 0.002 and one["epochs"] == 240 for one in arms.values())
    with pytest.raises(DPoseError, match="levers=speed"):
        benchmark.recipe_plan({**given, "levers": "speed"})
