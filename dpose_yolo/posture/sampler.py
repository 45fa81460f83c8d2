"""Posture sampler: exact, low-variance epochs with given expected counts (paper section 3.2)."""

from collections.abc import Iterator

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.posture.weights import expected_counts

GOLDEN = 0.6180339887498949  # frac of the golden ratio: its multiples fill the circle most evenly
UNIT_BITS = 36  # expected counts are kept in units of 2^-36 draws: 1.5e-11, and sums of 2^25 draws fit int64


class PostureSampler:
    """Draws images so that every epoch has exactly the expected composition, up to the unavoidable rounding.

    Independent draws (torch's WeightedRandomSampler) miss about 37 % of the images in an epoch even with
    equal weights and let the rare postures' share jump from epoch to epoch. Systematic draws do neither.

    Stream: `draws(epoch)` is a pure function of (expected, groups, seed, epoch, world). With E =
    sum(expected):

      1. Pad E up to a multiple E' of `world` by scaling the expected counts (nobody is duplicated to fill up;
         no count rises above the largest expected count rounded up, unless the epoch cannot be filled
         otherwise).
      2. Order the images by group, with a random order (seed) inside each group; lay their expected counts
         end to end on a line of length E'. The line is kept in integers, so it ends at E' exactly.
      3. Offset u_e = frac(u_0 + e * golden ratio), u_0 from the seed.
      4. Image i is drawn once for each k + u_e (k = 0, 1, ...) on its stretch of the line.
      5. Shuffle the E' draws by (seed, epoch).

    Hence in every epoch each image is drawn floor or ceil of its expected count times, each group in total
    likewise, E' draws in all; and because the offsets are spread evenly, the count over m epochs stays within
    a few draws of m times the expected count. An image expected 0 times is never drawn.

    Seed: the same seed gives the same epochs in every process; another seed gives others.

    Ranks: rank r of `world` gets draws(epoch)[r::world]. Ranks have equal lengths, disjoint positions, and
    jointly exactly the draws of the epoch. All ranks need the same arguments.

    Epochs: `__iter__` takes the next epoch by itself. The engine's InfiniteDataLoader restarts the sampler
    without telling the epoch, and with workers already while the trainer is still in the epoch before.

      - `set_epoch(e)`: "the trainer is in epoch e". The next epoch becomes max(next, e): a sampler that lags
        catches up, one that has prefetched does not step back, so no epoch repeats.
      - `seek(e)`: the next `__iter__` yields exactly epoch e. Call it on resume, and where prefetched batches
        are thrown away (the loader's reset when mosaic closes), else the discarded epoch is lost and all
        later ones shift by one.

    Args:
        expected: (N,) expected draws of each image in an epoch, >= 0, with a whole sum
            (`weights.expected_counts`).
        groups: (N,) whole number of each image's posture cluster.
        seed: >= 0.
        rank: this process.
        world: number of processes.

    Raises:
        DPoseError: on input that breaks the above.
    """

    def __init__(self, expected: np.ndarray, groups: np.ndarray, seed: int = 0, rank: int = 0, world: int = 1):
        expected, groups = np.asarray(expected, np.float64), np.asarray(groups)
        if expected.ndim != 1 or groups.shape != expected.shape:
            raise DPoseError(f"expected counts {expected.shape} and groups {groups.shape} need one entry an image")
        if not len(expected) or not np.isfinite(expected).all() or (expected < 0).any():
            raise DPoseError("expected counts have to be finite and >= 0, for one image at least")
        total = round(float(expected.sum()))
        if total < 1 or abs(expected.sum() - total) > 1e-6 * total:
            raise DPoseError(f"expected counts sum to {expected.sum():g}: make them sum to a whole number of draws")
        if not 0 <= rank < world:
            raise DPoseError(f"rank={rank} is not in 0..{world - 1}")
        if seed < 0:
            raise DPoseError(f"seed={seed} is negative: set it to 0 or more")
        self.seed, self.rank, self.world = int(seed), int(rank), int(world)
        self.total = -(-total // world) * world  # E'
        order_rng = np.random.default_rng([self.seed, 0])
        self._order = np.lexsort((order_rng.random(len(expected)), groups))
        self._bits = min(UNIT_BITS, 62 - self.total.bit_length())
        self._expected = expected
        self._ends = self._line(expected)
        self._offset = int(order_rng.integers(1 << self._bits))
        self._next = 0

    def __len__(self) -> int:
        """Draws of one rank in an epoch."""
        return self.total // self.world

    def __iter__(self) -> Iterator[int]:
        """This rank's draws of the next epoch; the epoch after it is next."""
        epoch, self._next = self._next, self._next + 1
        return iter(self.draws(epoch)[self.rank :: self.world].tolist())

    @property
    def next_epoch(self) -> int:
        """Epoch that the next `__iter__` yields."""
        return self._next

    def set_epoch(self, epoch: int) -> None:
        """Tell that the trainer is in `epoch`; never makes an epoch repeat."""
        self._next = max(self._next, int(epoch))

    def seek(self, epoch: int) -> None:
        """Make the next `__iter__` yield exactly `epoch`: after resume, or when prefetched batches were discarded."""
        if epoch < 0:
            raise DPoseError(f"cannot seek epoch {epoch}: epochs start at 0")
        self._next = int(epoch)

    def expected(self, epoch: int) -> np.ndarray:
        """Expected draws of each image in `epoch`, (N,)."""
        return self._expected

    def _line(self, expected: np.ndarray) -> np.ndarray:
        """Steps 1 and 2: where each image's stretch ends, (N,) int64 in units; the last at total << bits exactly."""
        units = _whole_units(_padded(expected, self.total), self.total, self._bits)
        return np.cumsum(units[self._order])

    def _ends_in(self, epoch: int) -> np.ndarray:
        """The line of `epoch`."""
        return self._ends

    def counts(self, epoch: int) -> np.ndarray:
        """How often each image is drawn in `epoch` by all ranks together, (N,) int64."""
        unit = 1 << self._bits
        u = (self._offset + epoch * round(GOLDEN * unit)) % unit  # step 3, in units; Python integers do not overflow
        # step 4: points k + u before a stretch's end = ceil(end - u), and -(-x >> bits) is the ceiling of x /
        # 2^bits
        before = -((u - self._ends_in(epoch)) >> self._bits)
        counts = np.empty(len(self._order), np.int64)
        counts[self._order] = np.diff(before, prepend=0)
        return counts

    def draws(self, epoch: int) -> np.ndarray:
        """Image numbers of `epoch` for all ranks, (E',) int64, shuffled; does not advance the sampler."""
        counts = self.counts(epoch)
        images = np.repeat(np.arange(len(counts)), counts)
        return np.random.default_rng([self.seed, 1, epoch]).permutation(images)


def _padded(expected: np.ndarray, total: int) -> np.ndarray:
    """Step 1: scale to `total`, keeping the largest expected count's ceiling as a cap where that is possible."""
    cap = float(np.ceil(expected.max() - 1e-9))
    if cap * (expected > 0).sum() < total:
        return expected * (total / expected.sum())
    return expected_counts(expected, total, cap)


def _whole_units(expected: np.ndarray, total: int, bits: int) -> np.ndarray:
    """Expected counts as integers in units of 2^-bits draws that sum to `total` draws exactly.

    Whole counts stay whole: the rounding errors are handed to the fractional ones, at most a unit or so each.
    """
    unit = 1 << bits
    scaled = expected * float(unit)
    units = np.rint(scaled).astype(np.int64)
    rest = total * unit - int(units.sum())
    takers = np.flatnonzero(units % unit)
    if rest and not len(takers):
        takers = np.array([int(units.argmax())])
    if rest:
        error = scaled[takers] - units[takers]
        takers = takers[np.argsort(-error if rest > 0 else error, kind="stable")]
        each, extra = divmod(abs(rest), len(takers))
        step = np.full(len(takers), each, np.int64)
        step[:extra] += 1
        units[takers] += step if rest > 0 else -step
    return units
