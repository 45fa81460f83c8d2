"""Image files, decoded whole: the only way to know that one is sound."""

from __future__ import annotations

import io
import os
import warnings
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from dpose_yolo.dataset.hashes import content_hash, difference_hash
from dpose_yolo.runtime.pictures import plain_picture, with_channels
from dpose_yolo.runtime.sources import READ

SMALLEST = 10  # pixels a side; the engine refuses smaller images
LARGEST_FILE = 500_000_000  # bytes
FLAT = 2.0  # grey levels; a picture with less contrast has no hash worth comparing
# Pillow's readers of the kinds that the engine takes (DNG is a TIFF, JP2 a JPEG2000), and of PGM and PPM.
RASTER = ("AVIF", "BMP", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
SIDE = 64  # pixels of the small grey picture that two images are compared by


class Look(NamedTuple):
    """What is kept of an image.

    Attributes:
        problem: what is wrong with it, or None.
        width: pixels, as the engine counts them (turned as its EXIF says).
        height: pixels.
        content: hash of the file's bytes.
        hash: difference hash; 0 for a picture of one colour.
    """

    problem: str | None
    width: int
    height: int
    content: int
    hash: int


def look(path: str) -> Look:
    """Decode an image and take its fingerprints; the file is only read (the engine would rewrite some broken JPEGs)."""
    if os.path.exists(path) and not os.path.isfile(path):
        return Look("no regular file", 0, 0, 0, 0)  # a pipe would never end
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        return Look("there is no such file", 0, 0, 0, 0)
    except OSError as error:
        return Look(f"cannot be read: {error.strerror or error}", 0, 0, 0, 0)
    if len(content) > LARGEST_FILE:
        return Look(f"more than {LARGEST_FILE // 1_000_000} MB", 0, 0, 0, 0)
    if not content:
        return Look("the file is empty", 0, 0, 0, 0)
    fingerprint = content_hash(content)
    try:
        width, height, grey = _decode(content)
    except Exception as error:  # a decoder may raise anything over bytes that somebody broke
        return Look(" ".join(str(error).split())[:120] or type(error).__name__, 0, 0, fingerprint, 0)
    if min(width, height) < SMALLEST:
        return Look(f"{width} x {height} pixels, the engine wants {SMALLEST} a side", width, height, fingerprint, 0)
    if content[:2] == b"\xff\xd8" and content[-2:] != b"\xff\xd9" and not content.rstrip(b"\0").endswith(b"\xff\xd9"):
        return Look("the JPEG does not end as one: it may be cut off", width, height, fingerprint, 0)
    return Look(None, width, height, fingerprint, _hash(grey))


def open_picture(source: Any) -> Image.Image:
    """Open a picture file or stream by Pillow's raster formats; PostScript, which would start Ghostscript, is none."""
    Image.init()
    try:
        return Image.open(source, formats=[name for name in RASTER if name in Image.OPEN])
    except (UnidentifiedImageError, ImportError) as error:  # the engine's `Image.open` then looks for a HEIF reader
        raise UnidentifiedImageError("no picture of a kind that can be read") from error


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of a picture that is turned as its EXIF says."""
    # Pillow turns the size of a TIFF by itself, depending on its version: the tags have it unturned
    width, height = (image.tag_v2[256], image.tag_v2[257]) if isinstance(image, TiffImageFile) else image.size
    return (height, width) if image.getexif().get(274) in (5, 6, 7, 8) else (width, height)


def _decode(content: bytes) -> tuple[int, int, Image.Image]:
    """Width, height and a small grey picture."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.simplefilter("ignore", UserWarning)  # odd metadata
        with open_picture(io.BytesIO(content)) as image:
            width, height = upright_size(image)
            if image.mode[0] in "IF" or _is_deep(image, content):  # Pillow would cut off what is above 255
                picture = plain_picture(cv2.imdecode(np.frombuffer(content, np.uint8), READ))
                return width, height, Image.fromarray(with_channels(picture, 1))
            image.draft("L", (2 * SIDE, 2 * SIDE))  # JPEG: every byte is decoded, but in small
            return width, height, image.convert("L")


def _is_deep(image: Image.Image, content: bytes) -> bool:
    """Whether a coloured PNG or TIFF has 16 bits, of which Pillow keeps the highest 8."""
    if isinstance(image, TiffImageFile):
        return max(image.tag_v2.get(258, (8,))) > 8
    return image.format == "PNG" and content[24:25] == b"\x10"


def _hash(grey: Image.Image) -> int:
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), np.float32)
    if float(np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32).std()) < FLAT:
        return 0
    return difference_hash(small)


def small_picture(path: str) -> np.ndarray:
    """(64, 64) grey levels of a sound image."""
    with open(path, "rb") as file:
        _, _, grey = _decode(file.read())
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)


def likeness(first: str, second: str) -> float:
    """Mean difference of two images in grey levels (0-255), their brightness made equal; 0 for the same picture."""
    a, b = small_picture(first), small_picture(second)
    return float(np.abs((a - a.mean()) - (b - b.mean())).mean())
