"""What the engine says about bad input, in plainer and fewer words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from ultralytics.utils import LOGGER

LONGEST = 300  # characters of an engine message; some list every image of the set


def one_line(error: BaseException | str) -> str:
    """The text of an error in one line of bearable length, without the engine's decorations."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = " ".join(plain(text).split()).removesuffix(".")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def plain(text: str) -> str:
    """Text without the engine's colours and signs."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).replace("❌", "")


def engine_line(text: str) -> str | None:
    """A plainer line for what the engine says about some faults of many words."""
    unlabelled = re.search(r"No labels found in (.+?)\.cache", text)
    if unlabelled:
        return (
            f"none of its images has a label: they are looked for in {unlabelled[1]} (the last folder images of a path "
            "becomes labels), one .txt file an image"
        )
    device = re.search(r"Invalid CUDA 'device=(.*?)' requested", text)
    if device:
        return (
            f"device={device[1]} is not there: set device=cpu, or device=0 for the first NVIDIA card "
            f"({torch.cuda.device_count()} found here)"
        )
    return None


@contextmanager
def fewer_words(shown: int) -> Iterator[None]:
    """Shorten the engine's list of images that it leaves out: of a whole data set it fills the screen.

    Args:
        shown: lines that stay; the log says how many more there are.
    """

    def shorten(record: Any) -> bool:
        lines = str(record.msg).splitlines()
        if sum("ignoring corrupt image/label" in line for line in lines) > shown:
            if not shown:
                return False
            record.msg = "\n".join([*lines[:shown], f"... and {len(lines) - shown} more; dpose check lists them all"])
        return True

    LOGGER.addFilter(shorten)
    try:
        yield
    finally:
        LOGGER.removeFilter(shorten)
