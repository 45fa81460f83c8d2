"""Random states of a training: of this process, of the loader's workers, and of the order of the images.

Nothing here draws a number: a training that is watched by these classes is the same as one that is not.
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler, get_worker_info

# Key of a batch under which a worker says what its random states are after it.
AFTER_BATCH = "dpose_random"


def parts_of(dataset: Any) -> list[Any]:
    """The engine's datasets that a training set consists of: itself, or those it joins."""
    return list(getattr(dataset, "datasets", [dataset]))


def random_states(dataset: Any) -> dict[str, Any]:
    """Random states of this process and what mosaic chooses partners from, as plain values.

    Args:
        dataset: the engine's training dataset. Its buffer of recently loaded images is what mosaic draws from.
    """
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": [version, list(words), gauss],
        "numpy": [np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state().numpy().tobytes(),
        "buffers": [[int(i) for i in part.buffer] for part in parts_of(dataset)],
    }


def set_random_states(states: dict[str, Any], dataset: Any) -> None:
    """Go on from `random_states` of another process; the images of the buffer are loaded again."""
    for part, buffer in zip(parts_of(dataset), states["buffers"], strict=False):
        if part.cache == "ram":  # there is no buffer
            continue
        for i in part.buffer:
            part.ims[i] = part.im_hw0[i] = part.im_hw[i] = None
        part.buffer = []
        for i in buffer:
            if i < len(part):  # the data may have become fewer
                part.load_image(i)
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state(("MT19937", np.array(keys, np.uint32), position, has_gauss, cached))
    torch.set_rng_state(torch.frombuffer(bytearray(states["torch"]), dtype=torch.uint8))


def data_fingerprint(dataset: Any) -> str:
    """Hash of a dataset's image names, their order and their labels: the same where draws mean the same."""
    found = hashlib.sha256()
    for label in dataset.labels:
        found.update(Path(label["im_file"]).name.encode("utf-8", "surrogateescape") + b"\0")
        for part in ("cls", "bboxes", "keypoints"):
            found.update(np.ascontiguousarray(label[part]).tobytes())
    return found.hexdigest()


class ReportingCollate:
    """The engine's collation; a batch made in a worker says how the worker's random states stand after it.

    Workers fetch ahead into the next epoch, so that nobody can ask them at the end of an epoch.
    """

    def __init__(self, collate: Callable[[list[Any]], dict[str, Any]]):
        """Keep the engine's."""
        self.collate = collate

    def __call__(self, samples: list[Any]) -> dict[str, Any]:
        """Collate the samples of a batch."""
        batch = self.collate(samples)
        worker = get_worker_info()
        if worker is not None:
            batch[AFTER_BATCH] = random_states(worker.dataset)
        return batch


class ResumedWorkers:
    """Starts the loader's workers where those of a broken run stood.

    Args:
        states: of each worker, in the order in which they deliver.
        start: the engine's start of a worker.
    """

    def __init__(self, states: list[dict[str, Any]], start: Callable[[int], None]):
        """See the class."""
        self.states = states
        self.start = start

    def __call__(self, worker_id: int) -> None:
        """Start one, inside its process."""
        self.start(worker_id)
        worker = get_worker_info()
        assert worker is not None
        set_random_states(self.states[worker_id], worker.dataset)


class WatchedOrder(Sampler):
    """A sampler that remembers from which state of its generator each pass over the images was drawn.

    Args:
        sampler: the engine's or the posture sampler.
        generator: the loader's, from which the engine's sampler draws.
    """

    def __init__(self, sampler: Any, generator: torch.Generator):
        """See the class."""
        self.sampler = sampler
        self.generator = generator
        self.next_pass = 0
        self._starts: dict[int, dict[str, Any]] = {}
        self._first: dict[str, Any] | None = None

    def __len__(self) -> int:
        """Images of a pass."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        """The next pass."""
        if self._first is not None:
            first, self._first = self._first, None
            self._go_to(first)
        start = {"generator": self.generator_state(), "epoch": getattr(self.sampler, "epoch", None), "whole": False}
        self._starts = {k: v for k, v in self._starts.items() if k >= self.next_pass - 2}
        self._starts[self.next_pass] = start
        self.next_pass += 1
        yield from self.sampler

    def generator_state(self) -> bytes:
        """State of the loader's generator."""
        return self.generator.get_state().numpy().tobytes()

    def _go_to(self, start: dict[str, Any]) -> None:
        """Set the generator, and the epoch that a distributed sampler shuffles by."""
        self.set_generator(start["generator"])
        if start["epoch"] is not None and hasattr(self.sampler, "epoch"):
            self.sampler.epoch = start["epoch"]
        if start["whole"] and not hasattr(self.sampler, "seek"):  # ours draw an epoch by its number
            # The pass before was over, but not its end drawn: torch's sampler draws once more after the last image.
            deque(self.sampler, maxlen=0)

    def set_generator(self, state: bytes) -> None:
        """Set the loader's generator."""
        self.generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))

    def start_after(self, number: int) -> dict[str, Any]:
        """From where pass `number` + 1 is drawn; `whole` where pass `number` has to be drawn before, to get there."""
        start = self._starts.get(number + 1)
        return start or {**self._starts[number], "whole": True}

    def begin_from(self, start: dict[str, Any]) -> None:
        """Draw the next pass from there."""
        self._first = start


class Loading:
    """Random states of a training loader, over its restarts.

    Args:
        loader: the engine's `InfiniteDataLoader`.
    """

    def __init__(self, loader: Any):
        """See the class."""
        self.loader = loader
        batches = loader.batch_sampler.sampler  # the engine's repeater around torch's BatchSampler
        self.order = batches.sampler = WatchedOrder(batches.sampler, loader.generator)
        loader.collate_fn = ReportingCollate(loader.collate_fn)
        self._worker_start = loader.worker_init_fn
        self._reports: deque[dict[str, Any]] = deque(maxlen=max(1, loader.num_workers))
        self._pass = -1

    def begin_epoch(self) -> None:
        """The trainer goes through the loader once more."""
        self._pass += 1

    def restarted(self, following: bool = False) -> None:
        """The loader was reset: it begins the present pass again, or the `following` one."""
        self.order.next_pass = self._pass + following

    def take(self, batch: dict[str, Any]) -> None:
        """Take out of a batch what its worker reports; the workers that made it are all started by now."""
        self.loader.worker_init_fn = self._worker_start
        report = batch.pop(AFTER_BATCH, None)
        if report is not None:
            self._reports.append(report)

    def state(self) -> dict[str, Any]:
        """What the next epoch is drawn from, as plain values; to be asked for after the last batch of an epoch."""
        return {
            # They deliver in turn: the next batch comes from the one whose last report is the oldest.
            "workers": list(self._reports),
            "order": self.order.start_after(self._pass),
            "generator": self.order.generator_state(),
        }

    def set_state(self, state: dict[str, Any], restart: bool) -> None:
        """Draw the next epoch as the run that reported `state` would have.

        Args:
            state: its `state()`.
            restart: that run would have started its workers again here, as the engine does when it closes mosaic.
        """
        if restart:
            self.order.set_generator(state["generator"])
            return
        self.order.begin_from(state["order"])
        if self.loader.num_workers:
            self.loader.worker_init_fn = ResumedWorkers(state["workers"], self._worker_start)
