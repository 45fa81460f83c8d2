"""Labels of one part of a data set, read and checked by the engine, without a model or a trainer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset
from ultralytics.utils import DEFAULT_CFG_DICT

from dpose_yolo.engine import checks, label_checks, words
from dpose_yolo.engine.ready import ready_engine
from dpose_yolo.errors import DPoseError

ready_engine()


def load_labels(
    data_file: Any, split: str = "train", skip_bad: bool = False, outside: bool = False
) -> tuple[list[dict[str, Any]], dict[str, Any], Path]:
    """The engine's label dicts of one part, the data dictionary, and the folder of the labels.

    Args:
        data_file: path of a data YAML.
        split: part to read.
        skip_bad: leave unusable images out instead of refusing them.
        outside: take images outside the data folder, too.

    Raises:
        DPoseError: for a missing or malformed data file, part, image or label.
    """
    checks.require_data(data_file, (split,), outside)
    with checks.engine_errors(f"data={data_file} cannot be used"):
        data = check_det_dataset(data_file, autodownload=False)
    if not outside:
        checks.refuse_outside(data)
    checks.require_kpt_shape(data, data_file)
    if not data.get(split):
        raise DPoseError(
            f"{data_file} has no part {split!r}: it has {', '.join(k for k in ('train', 'val', 'test') if data.get(k))}"
        )
    hyp = SimpleNamespace(**DEFAULT_CFG_DICT)
    told = words.fewer_words(5 if skip_bad else 0)
    with checks.engine_errors(f"the {split} part {data[split]} cannot be used", data["kpt_shape"]), told:
        dataset = YOLODataset(img_path=data[split], data=data, task="pose", augment=False, hyp=hyp, cache=None)
    if not skip_bad:
        label_checks.refuse_unusable(dataset, split)
    label_checks.require_persons(dataset.labels, split)
    return dataset.labels, data, Path(dataset.label_files[0]).parent
