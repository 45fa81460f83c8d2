"""Time of one image from pixels to keypoints, of several models in turn, on one CPU thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import cv2
import numpy as np

from dpose_yolo.images import read_image

Run = Callable[[np.ndarray, np.ndarray], Any]  # image (H, W, 3) and box x1, y1, x2, y2
WARM_UP = 3  # untimed images before the first round, one before each turn


def interleaved(
    runs: Sequence[Run],
    samples: Sequence[tuple[np.ndarray, np.ndarray]],
    rounds: int = 10,
    before: Callable[[], Any] = lambda: None,
    clock: Callable[[], Any] = time.perf_counter,
) -> np.ndarray:
    """Seconds of each run of each model.

    In every round each model has its turn over all samples, so that what slows the machine down for a while slows all
    of them; each round begins with another model. A turn starts with an untimed sample, which fills the caches.

    Args:
        runs: M models.
        samples: S images with the box of a person.
        rounds: turns of each model.
        before: called before each turn.
        clock: seconds, one number or several of different clocks.

    Returns:
        (M, rounds * S), and the clocks as last axis if there are several.
    """
    for run in runs:
        for image, box in [samples[i % len(samples)] for i in range(WARM_UP)]:
            run(image, box)
    kinds = np.shape(clock())
    seconds = np.zeros((len(runs), rounds, len(samples), *kinds))
    for r in range(rounds):
        for m in range(len(runs)):
            m = (m + r) % len(runs)
            before()
            runs[m](*samples[-1])
            for s, (image, box) in enumerate(samples):
                start = clock()
                runs[m](image, box)
                seconds[m, r, s] = np.subtract(clock(), start)
    return seconds.reshape(len(runs), -1, *kinds)


def hold_to_one_thread() -> None:
    """Torch and OpenCV on one thread. The engine gives torch its threads back whenever it chooses a device."""
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch, OpenCV, and ONNX sessions that are made in the block run on one thread; all as before afterwards.

    The engine makes its ONNX sessions itself and takes no number of threads, hence the stand-in.
    """
    import torch

    threads = torch.get_num_threads(), cv2.getNumThreads()
    onnxruntime: Any = None
    with suppress(ImportError):
        onnxruntime = import_module("onnxruntime")
    original: Any = getattr(onnxruntime, "InferenceSession", None)

    def session(path: Any, options: Any = None, *args: Any, **kwargs: Any) -> Any:
        options = options or kwargs.pop("sess_options", None) or onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return original(path, options, *args, **kwargs)

    try:
        if onnxruntime:
            onnxruntime.InferenceSession = session
        hold_to_one_thread()
        yield
    finally:
        if onnxruntime:
            onnxruntime.InferenceSession = original
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def largest_persons(
    image: np.ndarray, boxes: np.ndarray, files: Sequence[str], most: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pictures drawn evenly from those with a person, each with its largest person's box.

    Args:
        image: (P,) index of each person's image.
        boxes: (P, 4).
        files: image paths.
        most: pictures at most.

    Raises:
        DPoseError: for a picture that cannot be read.
    """
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    order = np.argsort(area, kind="stable")
    largest = dict(zip(image[order].tolist(), order.tolist(), strict=True))  # the last one of an image stays
    shown = sorted(largest)
    drawn = [shown[i] for i in np.linspace(0, len(shown) - 1, min(most, len(shown))).round().astype(int)]
    return [(read_image(files[i]), boxes[largest[i]]) for i in drawn]
