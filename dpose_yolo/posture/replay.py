"""Batches with an exact number of old images in each, for fine-tuning with replay."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.posture.sampler import PostureSampler


def old_in_batch(batch: int, share: float) -> int:
    """Old images in a batch of `batch` at a share; at least one old and one new image.

    Raises:
        DPoseError: for a batch that has no room for both.
    """
    if batch < 2:
        raise DPoseError(f"batch={batch} has no room for a new and an old image: set batch to 2 or more")
    return min(batch - 1, max(1, round(share * batch)))


class ReplaySampler:
    """Two posture samplers, read in turns so that every batch has the same number of images of each.

    Stream: batch b of an epoch is the next `new_count` draws of the new part and then the next `old_count` draws of the
    old one, whose images are numbered from `first_old` on. What an epoch holds, how it depends on seed and epoch, and
    how ranks share it, is as in `PostureSampler`: both parts advance together.

    Args:
        new: draws of the new images.
        old: draws of the old images, None for none.
        new_count: new images in a batch of one rank.
        old_count: old images in a batch of one rank.
        first_old: index of the first old image.

    Raises:
        DPoseError: when the parts do not fill the same number of whole batches.
    """

    def __init__(self, new: PostureSampler, old: PostureSampler | None, new_count: int, old_count: int, first_old: int):
        self.new, self.old = new, old
        self.new_count, self.old_count, self.first_old = new_count, old_count, first_old
        batches, rest = divmod(len(new), new_count)
        if rest or (old is not None and len(old) != batches * old_count):
            counts = f"{len(new)} new and {len(old) if old else 0} old draws"
            raise DPoseError(f"{counts} do not fill batches of {new_count} and {old_count}")
        self.batches = batches

    def __len__(self) -> int:
        """Draws of one rank in an epoch."""
        return self.batches * (self.new_count + (self.old_count if self.old else 0))

    def __iter__(self) -> Iterator[int]:
        """This rank's draws of the next epoch, batch after batch."""
        parts = [np.fromiter(self.new, np.int64).reshape(self.batches, self.new_count)]
        if self.old is not None:
            parts.append(np.fromiter(self.old, np.int64).reshape(self.batches, self.old_count) + self.first_old)
        return iter(np.concatenate(parts, 1).ravel().tolist())

    def set_epoch(self, epoch: int) -> None:
        """As in `PostureSampler`."""
        for part in self._parts():
            part.set_epoch(epoch)

    def seek(self, epoch: int) -> None:
        """As in `PostureSampler`."""
        for part in self._parts():
            part.seek(epoch)

    def _parts(self) -> list[PostureSampler]:
        return [self.new] if self.old is None else [self.new, self.old]
