"""What the engine is made to do before it is used: stay offline, read caches safely, take the threads asked for.

16-bit pictures are read by their used bits.
"""

from __future__ import annotations

from dpose_yolo.engine.caches import guard_caches
from dpose_yolo.engine.offline import keep_offline
from dpose_yolo.engine.pictures import read_deep_pictures
from dpose_yolo.engine.threads import keep_threads


def ready_engine() -> None:
    """To be called wherever the engine is about to be used; calling it again does no harm."""
    keep_offline()
    guard_caches()
    keep_threads()
    read_deep_pictures()
