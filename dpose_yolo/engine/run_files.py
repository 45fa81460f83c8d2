"""What a run writes down about itself: its arguments in one step, and files by whole paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ultralytics.engine import trainer as engine_trainer
from ultralytics.utils import YAML

from dpose_yolo.report.drawing import replacing

# The engine's settings that name files which a resumed run reads again.
FILES = ("data", "distill_model")


class _YAMLInOneStep(YAML):
    """The engine's, whose files are whole or as before."""

    @classmethod
    def save(cls, file: str | Path = "data.yaml", data: Any = None, header: str = "") -> None:
        """See the class.

        Raises:
            DPoseError: when the file cannot be written.
        """
        with replacing(file) as temporary:
            YAML.save(temporary, data, header)


@contextmanager
def arguments_in_one_step() -> Iterator[None]:
    """Within it, the engine's trainer replaces `args.yaml` in one step; by itself it empties the file first."""
    before = engine_trainer.YAML
    engine_trainer.YAML = _YAMLInOneStep
    try:
        yield
    finally:
        engine_trainer.YAML = before


def with_whole_paths(given: Mapping[str, Any], names: Sequence[str] = FILES) -> dict[str, Any]:
    """Settings with whole paths of files that are there: a run may be resumed from another folder.

    Links are not followed: a data YAML may stand for a folder by where its link lies.
    """
    found = {k: given[k] for k in names if isinstance(given.get(k), str | Path) and given[k]}
    return {**given, **{k: str(Path(v).absolute()) for k, v in found.items() if Path(v).exists()}}
