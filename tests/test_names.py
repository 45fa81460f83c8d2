"""Names that are not text, are very long, or hold markup: no command crashes, and results are kept."""

from __future__ import annotations

import json
import os

import pandas as pd
import pytest
from onnx_files import TWO, two_persons, write_onnx

from dpose_yolo.autolabel.pictures import Pictures
from dpose_yolo.cli import run
from dpose_yolo.commands.common import images_of
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


@pytest.mark.parametrize("number", [-1, "-1"])
def test_a_camera_below_zero_is_refused(number):
    with pytest.raises(DPoseError, match="camera number from 0"):
        open_source(number)
