"""Does a data set stay in its folder? What training asks; `dpose check` asks the same while it reads."""

from __future__ import annotations

import os
from pathlib import Path

from dpose_yolo.dataset.card import places, read_yaml
from dpose_yolo.dataset.files import is_image, listed

# What the engine reads images from (ultralytics/data/utils.py, check_det_dataset).
ENGINE_PARTS = ("train", "val", "validation", "test", "minival")


def refuse_outside(file: Path, root: str | Path) -> None:
    """Refuse a data YAML that names images outside the data folder, by itself or by a list.

    Whether the places exist, and what lies in folders, is not asked here. Labels need no look: they lie where their
    images do, with `labels` in place of the last folder `images`.

    Args:
        file: the data YAML.
        root: data folder, as the engine resolved it.

    Raises:
        DPoseError: for the first path outside `root`, and for a list that cannot be read.
    """
    raw, top = read_yaml(file), os.path.abspath(root)
    for part in ENGINE_PARTS:
        for place in places(raw.get(part), top, f"{part} of {file}", exist=False):
            if os.path.isfile(place) and not is_image(place):
                for _ in listed(place, top):
                    pass
