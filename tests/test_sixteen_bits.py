"""Pictures of 16 bits, of which infrared cameras use 10, 12 or 14: every command reads the same grey levels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from prepare_cases import index_of, picture

from dpose_yolo.cli import run
from dpose_yolo.dataset.images import look, small_picture
from dpose_yolo.images import read_image

KINDS = ["png", "tif", "pgm"]


def deep(path: Path, i: int, bits: int = 12, grey: bool = True, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """Write a picture of so many used bits; returns its highest 8."""
    shown = picture(i, size) if not grey else cv2.cvtColor(picture(i, size), cv2.COLOR_BGR2GRAY)
    shown[0, 0] = 255  # what a picture uses is told by its brightest pixel
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), shown.astype(np.uint16) << (bits - 8))
    return shown if not grey else cv2.cvtColor(shown, cv2.COLOR_GRAY2BGR)


@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_all_readers_see_the_used_bits(tmp_path, kind, bits, grey):
    from ultralytics.data import base, loaders

    from dpose_yolo.engine.ready import ready_engine
    from dpose_yolo.runtime.pictures import plain_picture, with_channels
    from dpose_yolo.runtime.sources import open_source

    ready_engine()
    file = tmp_path / f"a.{kind}"
    expected = deep(file, 77, bits, grey)
    frame = next(iter(open_source(file)))
    of_engine = base.imread(str(file), cv2.IMREAD_GRAYSCALE)
    for name, found in {
        "commands": read_image(file),
        "training": base.imread(str(file)),
        "predict": loaders.imread(str(file)),
        "runtime": with_channels(plain_picture(frame.image), 3),
    }.items():
        assert found.dtype == np.uint8 and np.array_equal(found, expected), name
    assert np.abs(of_engine[..., 0].astype(int) - cv2.cvtColor(expected, cv2.COLOR_BGR2GRAY)).max() <= 1
    plain = tmp_path / "b.png"
    cv2.imwrite(str(plain), expected)
    assert np.abs(small_picture(str(file)) - small_picture(str(plain))).max() < 1.5
    assert look(str(file)).hash and (look(str(file)).width, look(str(file)).height) == (64, 48)


@pytest.mark.parametrize("kind", KINDS)
def test_prepare_tells_deep_pictures_apart(tmp_path, kind):
    for i in range(8):
        deep(tmp_path / "src" / f"{i}.{kind}", 20 * i)
    assert run(["prepare", "video", f"src={tmp_path / 'src'}", f"dst={tmp_path / 'set'}"]) == 0
    rows = index_of(tmp_path / "set")
    assert len(rows) == 8
    for row in rows:
        assert len(np.unique(read_image(tmp_path / "set" / row["file"]))) > 60
