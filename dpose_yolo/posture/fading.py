"""Draws that begin even over the postures and end nearer to their natural frequencies."""

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.posture.sampler import PostureSampler

# Shares of the epochs between which the balance fades. Rare postures are learned first, while there is much to learn
# for all; the common ones, seen less often so far, are caught up on with the last, small steps of the optimizer.
FADE = (0.4, 0.9)


def faded(epoch: int, epochs: int) -> float:
    """How far the fading has come in `epoch` of `epochs`: 0 up to 40 % of them, 1 from 90 % on, a line between."""
    start, stop = FADE
    done = epoch / (epochs - 1) if epochs > 1 else 0.0
    return float(np.clip((done - start) / (stop - start), 0.0, 1.0))


class FadingSampler(PostureSampler):
    """A posture sampler whose expected counts move from one set to another along the epochs.

    In epoch e of E they are (1 - f) * first + f * last with f = faded(e, E); after the last epoch they stay. All else
    is `PostureSampler`'s: exact counts in every epoch, draws that are a function of seed and epoch, disjoint ranks.

    Args:
        first: (N,) expected draws of each image in the first epochs, with a whole sum.
        last: (N,) those of the last epochs, with the same sum.
        groups: (N,) whole number of each image's posture cluster.
        epochs: of the whole training.
        seed: >= 0.
        rank: this process.
        world: number of processes.

    Raises:
        DPoseError: on input that breaks the above.
    """

    def __init__(
        self,
        first: np.ndarray,
        last: np.ndarray,
        groups: np.ndarray,
        epochs: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ):
        """See the class."""
        super().__init__(first, groups, seed, rank, world)
        end = PostureSampler(last, groups, seed, rank, world)  # checks them
        if end.total != self.total:
            raise DPoseError("the first and the last expected counts differ in draws an epoch")
        if epochs < 1:
            raise DPoseError(f"epochs={epochs} is less than one")
        self._last, self.epochs = end.expected(0), int(epochs)

    def expected(self, epoch: int) -> np.ndarray:
        """Expected draws of each image in `epoch`, (N,)."""
        share = faded(epoch, self.epochs)
        return self._expected if share == 0.0 else (1 - share) * self._expected + share * self._last

    def _ends_in(self, epoch: int) -> np.ndarray:
        return self._ends if faded(epoch, self.epochs) == 0.0 else self._line(self.expected(epoch))
