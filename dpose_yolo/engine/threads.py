"""Threads of a training on the CPU: as many as `OMP_NUM_THREADS` asks for.

The engine sets the number of cores less one whenever it chooses the CPU, whatever the environment says: one thread on a
machine of two cores, and eight for each of four trainings that share sixteen.
"""

from __future__ import annotations

import os

from ultralytics.utils import torch_utils

import dpose_yolo


def asked_threads() -> int | None:
    """Threads that the environment asks for; None where it asks for none, and the engine's choice stands."""
    text = dpose_yolo._ASKED_THREADS or os.environ.get("OMP_NUM_THREADS", "")
    first = text.split(",")[0].strip()  # a list is for nested regions; torch takes the first, too
    if not first.isdigit() or int(first) < 1:
        return None
    if not dpose_yolo._ASKED_THREADS and int(first) == 1:  # what the engine writes where nothing was asked for
        return None
    return int(first)


def keep_threads() -> None:
    """Have the engine set the number of threads that was asked for; twice is as once."""
    asked = asked_threads()
    if asked is not None:
        torch_utils.NUM_THREADS = asked  # type: ignore[attr-defined]
