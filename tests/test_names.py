"""Names that are not text, are very long, or hold markup: no command crashes, and results are kept."""

from __future__ import annotations

import json
import os

import pandas as pd
import pytest
import yaml
from onnx_files import TWO, two_persons, write_onnx

from dpose_yolo.autolabel.pictures import Pictures
from dpose_yolo.cli import run
from dpose_yolo.commands.common import images_of
from dpose_yolo.engine import caches
from dpose_yolo.errors import DPoseError
from dpose_yolo.evaluation.data import load_part
from dpose_yolo.runtime import open_source

NOT_TEXT = os.fsdecode(b"\xff.png")
LONG = "l" * 251 + ".png"  # as long as names may be


def test_names_that_are_not_utf8_or_very_long(tmp_path, mini_dataset, capsys):
    """OpenCV ends the process where it is given one of the former."""
    data = mini_dataset(train=1, val=2, test=0)
    folder = data.parent / "images" / "val"
    images = sorted(folder.iterdir())
    try:
        (folder / NOT_TEXT).write_bytes(images[0].read_bytes())
        (folder / LONG).write_bytes(images[0].read_bytes())
    except OSError:
        pytest.skip("the file system does not take such names")
    model = write_onnx(tmp_path / "two.onnx", two_persons(), TWO)
    assert run(["predict", f"model={model}", f"source={folder}", f"project={tmp_path}"]) == 0
    assert "3 frames, a driver in 3" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "predict" / "poses.csv")) == 3
    assert json.loads((tmp_path / "predict" / "poses.json").read_text())["counts"]["broken"] == 1
    assert len(list((tmp_path / "predict").glob("*.png"))) == 3
    assert len(images_of(folder)) == 3 and "1 images are left out" in capsys.readouterr().out
    labelled = Pictures(folder)
    assert len(labelled) == 3 and labelled.unnamed() == 1
    (folder / LONG).unlink()
    (data.parent / "labels" / "val" / NOT_TEXT.replace(".png", ".txt")).write_text("")
    with pytest.raises(DPoseError, match="its name is not UTF-8: rename it"):
        load_part(data)
    assert len(load_part(data, skip_bad=True).truth.files) == 2
    with pytest.raises(DPoseError, match=r"cannot be used: its name is not UTF-8"):
        list(open_source(folder / NOT_TEXT))


def test_labels_of_names_that_are_not_utf8_are_not_read(monkeypatch):
    """Whatever patch of Ultralytics came first."""
    monkeypatch.setattr(caches, "_engine_verify", lambda args: pytest.fail("the image was opened"))
    found = caches.verify_image_label((NOT_TEXT, NOT_TEXT.replace(".png", ".txt"), "", True, 1, 17, 3, False))
    assert found[0] is None and found[-1].endswith("its name is not UTF-8: rename it")


@pytest.mark.parametrize("number", [-1, "-1"])
def test_a_camera_below_zero_is_refused(number):
    with pytest.raises(DPoseError, match="camera number from 0"):
        open_source(number)


def test_markup_in_names_is_shown_as_it_is(tmp_path, mini_dataset, model_yaml, capsys):
    """Names of classes, keypoints, postures and files that rich, matplotlib, HTML and spreadsheets would read."""
    names = ["[/left]", r"$\foo$", "<script>", "=1+1", "@SUM(A1)", "[red]x", ":smile:", "%s {0}", "a,b", '"q"']
    data = mini_dataset(train=8, val=4, test=2)
    card = yaml.safe_load(data.read_text())
    card["names"] = {0: r"$\foo$ [/x]"}
    card["kpt_names"] = {0: [*names, *card["kpt_names"][0][len(names) :]]}
    data.write_text(yaml.safe_dump(card))
    for part in ("train", "val"):
        file = sorted((data.parent / "images" / part).iterdir())[0]
        label = data.parent / "labels" / part / f"{file.stem}.txt"
        file.rename(file.with_stem(r"=[x] $\foo$ <b>"))
        label.rename(label.with_stem(r"=[x] $\foo$ <b>"))
    rows = [{"file": f.name, "posture": n} for f, n in zip(sorted(data.parent.rglob("*.png")), names, strict=False)]
    pd.DataFrame(rows).to_csv(data.parent / "index.csv", index=False)
    common = [f"data={data}", f"project={tmp_path / 'runs'}"]
    small = ["imgsz=64", "device=cpu", "plots=True"]
    best = tmp_path / "runs" / "train" / "weights" / "best.pt"
    for words in (
        ["check", *common],
        ["train", *common, *small, f"model={model_yaml}", "epochs=1", "batch=8", "clusters=2", "att=0"],
        ["val", *common, *small, f"model={best}", "bootstrap=20", "attention=False"],
        ["clusters", *common, "clusters=2"],
        ["predict", f"model={best}", f"source={data.parent / 'images'}", f"project={tmp_path / 'runs'}", "conf=0"],
    ):
        assert run(words) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in names)
    for file in (tmp_path / "runs").rglob("*.csv"):
        if file.parent.name != "check":  # whose rows are those of data set
            assert not [
                c for c in file.read_text().replace('"', "").replace("\n", ",").split(",") if c[:1] in "=@" and c
            ]
    assert "<script>" not in "".join(f.read_text() for f in (tmp_path / "runs").rglob("*.html"))
