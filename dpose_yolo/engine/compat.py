"""Which engine versions this package works with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from dpose_yolo.errors import DPoseError

# The adapter relies on the engine's criterion contract (a loss vector and a dict of items), on the label cache, the
# mosaic transform and the heads' `forward_head`; they changed within 8.3-8.4, so the range is narrow on purpose.
LOWEST, BELOW = (8, 4, 190), (8, 5, 0)


def parse_version(text: str) -> tuple[int, ...]:
    """Leading numbers of a version: `8.4.190.dev1` gives (8, 4, 190)."""
    numbers = []
    for part in text.split(".")[:3]:
        digits = "".join(c for c in part if c.isdigit())
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def require_engine(installed: str | None = None) -> None:
    """Check the installed engine.

    Args:
        installed: version to check; None asks the environment.

    Raises:
        DPoseError: when ultralytics is missing or outside the supported range.
    """
    wanted = f"ultralytics>={'.'.join(map(str, LOWEST))},<{BELOW[0]}.{BELOW[1]}"
    if installed is None:
        try:
            installed = version("ultralytics")
        except PackageNotFoundError:
            raise DPoseError(f"ultralytics is not installed: pip install '{wanted}'") from None
    if not LOWEST <= parse_version(installed) < BELOW:
        raise DPoseError(f"ultralytics {installed} is not supported: pip install '{wanted}'")
