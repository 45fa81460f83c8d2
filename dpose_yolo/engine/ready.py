"""What Ultralytics is made to do before it is used: patches, safe caches, threads, 16-bit pictures by used bits."""

from __future__ import annotations

from dpose_yolo.engine.caches import guard_caches
from dpose_yolo.engine.patches import apply_patches
from dpose_yolo.engine.pictures import read_deep_pictures
from dpose_yolo.engine.threads import keep_threads


def ready_engine() -> None:
    """To be called wherever the engine is about to be used; calling it again does no harm."""
    apply_patches()
    guard_caches()
    keep_threads()
    read_deep_pictures()
