"""Training images inside a checkpoint (`memory`), for a fine-tuning where the old data are not at hand.

They are kept as plain tensors, numbers and words on the engine's model, which even restricted loading knows: JPEG bytes
no larger than the model's input, and their labels. The engine hands none of it on to exported files.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from ultralytics.utils.patches import imread

from dpose_yolo.engine.checkpoints import read_checkpoint
from dpose_yolo.engine.files import move_into_place, staging
from dpose_yolo.engine.graph import EngineModel
from dpose_yolo.errors import DPoseError
from dpose_yolo.posture.spread import spread

NAME = "dpose_images"  # attribute of the model
VERSION = 1
QUALITY = 90  # of the JPEG files: 6 kB an image at 160 px
FOLDER, CARD = "carried", "carried_images.yaml"  # in the run's folder, where a fine-tuning reads them
OF_DATA = ("names", "kpt_shape", "flip_idx", "kpt_names", "kpt_oks_sigmas", "skeleton", "channels")


def pack_images(
    parts: Sequence[tuple[Sequence[dict[str, Any]], np.ndarray]],
    count: int,
    imgsz: int,
    data: dict[str, Any],
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
        DPoseError: for images of other than 1 or 3 channels.
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
    persons = [np.concatenate([lb["cls"].reshape(-1, 1), lb["bboxes"], _flat(lb["keypoints"])], 1) for lb in labels]
    return {
        "version": VERSION,
        "data": {k: data[k] for k in OF_DATA if data.get(k) is not None},
        "bytes": torch.from_numpy(np.concatenate(files)),
        "sizes": torch.tensor([len(f) for f in files]),
        "persons": torch.from_numpy(np.concatenate(persons).astype(np.float32)),
        "counts": torch.tensor([len(p) for p in persons]),
    }


def _flat(keypoints: np.ndarray) -> np.ndarray:
    return keypoints.reshape(len(keypoints), keypoints.shape[1] * keypoints.shape[2])


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
    """How many images a model carries."""
    content = getattr(model, NAME, None)
    return len(content["sizes"]) if content is not None else 0


def unpack_images(model: EngineModel, path: str | Path, folder: Path) -> Path:
    """Write the images that a model carries as a data set; its YAML.

    Args:
        model: that carries some.
        path: of its file, for the message.
        folder: to write to; one that is there is replaced.

    Raises:
        DPoseError: where they cannot be read or written.
    """
    content = getattr(model, NAME)
    try:
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}, expected {VERSION}")
        bounds = np.cumsum(content["sizes"].numpy())
        files = np.split(content["bytes"].numpy(), bounds[:-1])
        persons = np.split(content["persons"].numpy(), np.cumsum(content["counts"].numpy())[:-1])
        card = {"train": "images", "val": "images", **content["data"]}
        dims = int(card["kpt_shape"][1])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DPoseError(f"the images that {path} carries cannot be read ({error}): set recall=False") from error
    try:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "images").mkdir(parents=True)
        (folder / "labels").mkdir()
        for i, (file, rows) in enumerate(zip(files, persons, strict=True)):
            (folder / "images" / f"{i:05d}.jpg").write_bytes(file.tobytes())
            lines = "".join(_line(row, dims) for row in rows)
            (folder / "labels" / f"{i:05d}.txt").write_text(lines, encoding="utf-8")
        (folder / CARD).write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise DPoseError(f"cannot write to {folder}: {error.strerror}: set project= to a folder that can be") from error
    return folder / CARD


def _line(row: np.ndarray, dims: int) -> str:
    """A person's line of a label file: class, box, keypoints with whole visibility flags."""
    keypoints = row[5:].reshape(-1, dims)
    words = [f"{int(row[0])}", *(f"{v:.6f}" for v in row[1:5])]
    for point in keypoints:
        words += [f"{v:.6f}" for v in point[:2]] + [str(int(v)) for v in point[2:]]
    return " ".join(words) + "\n"


def is_carried(card: str | Path) -> bool:
    """Whether a data YAML is one that `unpack_images` wrote: images of a training, nothing to be judged by."""
    return Path(card).name == CARD


def forget_images(checkpoint: Path) -> int:
    """Take the images off a checkpoint, in place and in one step; how many there were."""
    content = read_checkpoint(checkpoint)
    models = [content[k] for k in ("model", "ema") if content.get(k) is not None]
    found = max((carried_images(model) for model in models), default=0)
    if found:
        for model in models:
            if hasattr(model, NAME):
                delattr(model, NAME)
        with staging(checkpoint.parent) as folder:
            torch.save(content, folder / checkpoint.name)
            move_into_place(folder / checkpoint.name, checkpoint.parent)
    return found
