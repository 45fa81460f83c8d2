"""Training images inside a checkpoint (`memory`), for a fine-tuning where the old data are not at hand.

They are kept as plain tensors on the engine's model, which even restricted loading knows: JPEG bytes no larger than the
model's input, and their labels. The engine hands none of it on to exported files.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from dpose_yolo.dataset.label_text import label_text
from dpose_yolo.engine.checkpoints import learner, models_of, read_checkpoint, unfinished
from dpose_yolo.engine.files import move_into_place, staging
from dpose_yolo.engine.graph import EngineModel
from dpose_yolo.engine.pictures import imread
from dpose_yolo.errors import DPoseError
from dpose_yolo.posture.spread import spread
from dpose_yolo.settings import CARRIED_CARD

NAME = "dpose_images"  # attribute of the model
VERSION = 1
QUALITY = 90  # of the JPEG files: 5 kB an image at 160 px
OF_DATA = ("names", "nc", "kpt_shape", "flip_idx", "kpt_names", "kpt_oks_sigmas", "skeleton", "channels")


def pack_images(
    parts: Sequence[tuple[Sequence[dict[str, Any]], np.ndarray]],
    count: int,
    imgsz: int,
    data: Mapping[str, Any],
    seed: int = 0,
) -> dict[str, Any]:
    """Choose images evenly over their postures and pack them with their labels.

    Args:
        parts: (the engine's label dicts, (N,) posture cluster of each image) of each training set; equal numbers are
            taken of all, as far as they have so many.
        count: images in all.
        imgsz: longest side that is kept, in pixels.
        data: the engine's data dictionary.
        seed: of the choice.

    Raises:
        DPoseError: for images of other than 1 or 3 channels, and files that are gone.
    """
    channels = data.get("channels", 3)
    if channels not in (1, 3):
        raise DPoseError(f"memory keeps images of 1 or 3 channels, the data has {channels}: set memory=0")
    labels: list[dict[str, Any]] = []
    smallest_first = sorted(parts, key=lambda part: len(part[0]))
    for at, (own, cluster) in enumerate(smallest_first):
        share = (count - len(labels)) // (len(parts) - at)
        labels += [own[i] for i in spread(cluster, share, seed)]
    files = [_encoded(label["im_file"], imgsz, channels) for label in labels]
    persons = [_rows(label, data["kpt_shape"][1]) for label in labels]
    return {
        "version": VERSION,
        "bytes": torch.from_numpy(np.concatenate(files)),
        "sizes": torch.tensor([len(f) for f in files]),
        "persons": torch.from_numpy(np.concatenate(persons)),
        "counts": torch.tensor([len(p) for p in persons]),
    }


def _rows(label: Mapping[str, Any], dims: int) -> np.ndarray:
    """(P, 5 + dims * K) persons of an image as a label file has them; the engine adds a flag to keypoints of two."""
    keypoints = label["keypoints"][..., :dims]
    flat = keypoints.reshape(len(keypoints), keypoints.shape[1] * dims)
    return np.concatenate([label["cls"].reshape(-1, 1), label["bboxes"], flat], 1).astype(np.float32)


def _encoded(file: str, imgsz: int, channels: int) -> np.ndarray:
    """JPEG bytes of an image, made smaller where it is larger than the model sees it."""
    image = imread(file, cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR)
    if image is None:
        raise DPoseError(f"{file} cannot be read as an image any more, so that memory= cannot keep it")
    scale = imgsz / max(image.shape[:2])
    if scale < 1:
        size = [max(1, round(s * scale)) for s in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].ravel()


def carry_images(model: EngineModel, content: dict[str, Any]) -> None:
    """Put packed images on a model, to travel in its checkpoint."""
    setattr(model, NAME, content)


def carried_images(model: EngineModel) -> int:
    """How many images a model carries; those of an unfinished distillation are its student's."""
    content = getattr(learner(model), NAME, None)
    sizes = content.get("sizes") if isinstance(content, dict) else None
    return len(sizes) if isinstance(sizes, torch.Tensor) else 0


def unpack_images(model: EngineModel, path: str | Path, folder: Path, data: Mapping[str, Any]) -> Path:
    """Write the images that a model carries as a data set; its YAML.

    Args:
        model: that carries some.
        path: of its file, for the message.
        folder: to write to; one that is there is replaced.
        data: data dictionary of the new images, whose keypoints and classes the model's own are.

    Raises:
        DPoseError: where they cannot be read or written, or have other keypoints or classes.
    """
    content: Any = getattr(learner(model), NAME, None)
    count, dims = data["kpt_shape"]
    try:
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}, expected {VERSION}")
        files = np.split(content["bytes"].numpy(), np.cumsum(content["sizes"].numpy())[:-1])
        persons = np.split(content["persons"].numpy(), np.cumsum(content["counts"].numpy())[:-1])
        if persons[0].shape[1] != 5 + count * dims:
            raise ValueError(f"labels of {persons[0].shape[1] - 5} numbers, expected {count} x {dims}")
        classes = max((int(p[:, 0].max()) for p in persons if len(p)), default=0)
        if classes >= len(data["names"]):
            raise ValueError(f"class {classes} is none of the new data's")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DPoseError(f"the images that {path} carries cannot be used ({error}): set recall=False") from error
    try:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "images").mkdir(parents=True)
        (folder / "labels").mkdir()
        for i, (file, rows) in enumerate(zip(files, persons, strict=True)):
            (folder / "images" / f"{i:05d}.jpg").write_bytes(file.tobytes())
            (folder / "labels" / f"{i:05d}.txt").write_text(label_text(rows, dims), encoding="utf-8")
        card = {"train": "images", "val": "images", **{k: data[k] for k in OF_DATA if data.get(k) is not None}}
        (folder / CARRIED_CARD).write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise DPoseError(f"cannot write to {folder}: {error.strerror}: set project= to a folder that can be") from error
    return folder / CARRIED_CARD


def is_carried(card: str | Path) -> bool:
    """Whether a data YAML is one that `unpack_images` wrote: images of a training, nothing to be judged by."""
    return Path(card).name == CARRIED_CARD


def forget_images(checkpoint: Path) -> int:
    """Take the images off a checkpoint of a finished training, in place and in one step; how many there were.

    Raises:
        DPoseError: for that of an unfinished one, which is still written to and puts them back.
    """
    checkpoint = checkpoint.resolve()  # the file itself, not a link to it
    content = read_checkpoint(checkpoint)
    models = models_of(content)
    if not any(hasattr(model, NAME) for model in models):
        return 0
    # Of a finished training, `epoch10.pt` (save_period) still has its epoch: the last one tells.
    last = checkpoint.with_name("last.pt")
    if unfinished(content) and (not last.is_file() or unfinished(read_checkpoint(last))):
        raise DPoseError(
            f"{checkpoint} is of an unfinished training, whose next epoch puts the images back: "
            "end it with resume=, or delete the run's folder"
        )
    found = max(map(carried_images, models))
    for model in models:
        if hasattr(model, NAME):
            delattr(model, NAME)
    with staging(checkpoint.parent) as folder:
        torch.save(content, folder / checkpoint.name)
        move_into_place(folder / checkpoint.name, checkpoint.parent)
    return found
