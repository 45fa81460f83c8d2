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
    old one, whose images are numbered from `first_old` on. What an epoch holds, and how it depends on seed and epoch,
    is as in `PostureSampler`: both parts advance together.

    Ranks: the parts are drawn as by one process, and every batch is cut into shares of one size. Of its old images rank
    r gets those from floor(r old_count / world) to floor((r + 1) old_count / world), new ones fill its share up. So all
    ranks together have the very batches of one process, with its number of old images, even where that is no multiple
    of `world`.

    Args:
        new: draws of the new images, of all ranks together.
        old: draws of the old images, None for none.
        new_count: new images in a batch of all ranks.
        old_count: old images in a batch of all ranks.
        first_old: index of the first old image.
        rank: this process.
        world: number of processes.

    Raises:
        DPoseError: when the parts do not fill the same number of whole batches, or batches have no equal shares.
    """

    def __init__(
        self,
        new: PostureSampler,
        old: PostureSampler | None,
        new_count: int,
        old_count: int,
        first_old: int,
        rank: int = 0,
        world: int = 1,
    ):
        self.new, self.old = new, old
        self.new_count, self.old_count, self.first_old = new_count, old_count, first_old
        batches, rest = divmod(len(new), new_count)
        if rest or (old is not None and len(old) != batches * old_count):
            counts = f"{len(new)} new and {len(old) if old else 0} old draws"
            raise DPoseError(f"{counts} do not fill batches of {new_count} and {old_count}")
        self.batches = batches
        self._share, rest = divmod(new_count + (0 if old is None else old_count), world)
        if rest:
            raise DPoseError(f"a batch of {new_count} new and {old_count} old images has no {world} equal shares")
        edges = [0 if old is None else old_count * r // world for r in (rank, rank + 1)]
        self._old_places = slice(*edges)
        self._new_places = slice(self._share * rank - edges[0], self._share * (rank + 1) - edges[1])

    def __len__(self) -> int:
        """Draws of one rank in an epoch."""
        return self.batches * self._share

    def __iter__(self) -> Iterator[int]:
        """This rank's draws of the next epoch, batch after batch."""
        parts = [np.fromiter(self.new, np.int64).reshape(self.batches, self.new_count)[:, self._new_places]]
        if self.old is not None:
            old = np.fromiter(self.old, np.int64).reshape(self.batches, self.old_count)[:, self._old_places]
            parts.append(old + self.first_old)
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
