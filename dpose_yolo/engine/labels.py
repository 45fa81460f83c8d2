"""Labels of one part of a data set, read and checked by the engine, without a model or a trainer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset
from ultralytics.utils import DEFAULT_CFG_DICT

from dpose_yolo.engine import checks
from dpose_yolo.engine.offline import keep_offline
from dpose_yolo.errors import DPoseError

keep_offline()


def load_labels(
    data_file: Any, split: str = "train", skip_bad: bool = False
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The engine's label dicts of one part, and the data dictionary.

    Args:
        data_file: path of a data YAML.
        split: part to read.
        skip_bad: leave unusable images out instead of refusing them.

    Raises:
        DPoseError: for a missing or malformed data file, part, image or label.
    """
    checks.require_data_file(data_file)
    try:
        data = check_det_dataset(data_file, autodownload=False)
    except Exception as error:  # the engine raises many kinds for one thing: the YAML or its folders are not right
        raise DPoseError(f"data={data_file} cannot be used: {checks.one_line(error)}") from error
    if "kpt_shape" not in data:
        raise DPoseError(f"{data_file} has no kpt_shape: add e.g. `kpt_shape: [17, 3]`")
    if not data.get(split):
        raise DPoseError(
            f"{data_file} has no part {split!r}: it has {', '.join(k for k in ('train', 'val', 'test') if data.get(k))}"
        )
    hyp = SimpleNamespace(**DEFAULT_CFG_DICT)
    try:
        dataset = YOLODataset(img_path=data[split], data=data, task="pose", augment=False, hyp=hyp, cache=None)
    except (RuntimeError, FileNotFoundError, ValueError) as error:
        raise DPoseError(f"the {split} part {data[split]} cannot be used: {checks.one_line(error)}") from error
    if not skip_bad:
        checks.refuse_unusable(dataset, split)
    return dataset.labels, data
