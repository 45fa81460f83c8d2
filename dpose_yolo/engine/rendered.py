"""Photographs and rendered images in one training, with an exact share of rendered ones in every batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpose_yolo.engine.balance import BalancedDraws
from dpose_yolo.engine.replay import MixedDraws, ReplayDataset
from dpose_yolo.engine.same_labels import read_data, refuse_unlike
from dpose_yolo.posture.fading import FadingSampler
from dpose_yolo.posture.sampler import PostureSampler


class RenderedDraws(MixedDraws):
    """Draws of photographs by their postures, and of rendered images each equally often.

    A rendered set is made for the postures that are wanted, so that its images need no balance. An epoch draws the
    photographs once on average; the rendered images are added to it.

    Args:
        dataset: photographs, then rendered images.
        data: Ultralytics' data dictionary of the photographs.
        rendered: that of the rendered images.
        settings: DPOSE settings.
        seed: of the run.
        epochs: of the training, along which the balance fades; None: it does not.
    """

    share_name = "render_share"
    others = "rendered"
    file = "render_draws.csv"

    def __init__(
        self,
        dataset: ReplayDataset,
        data: dict[str, Any],
        rendered: dict[str, Any],
        settings: dict[str, Any],
        seed: int,
        epochs: int | None,
    ):
        """See the class."""
        photos = BalancedDraws(dataset.new, data, settings, seed, epochs=epochs)
        even = {**settings, "balance": 0.0, "balance_end": 1.0}
        renders = BalancedDraws(dataset.datasets[1], rendered, even, seed, photos.mixture)
        super().__init__(dataset, photos, renders, settings, seed, 1)

    def _new_sampler(self, draws: int) -> PostureSampler:
        """Draws of the photographs, whose balance fades as without rendered images."""
        first = super()._new_sampler(draws)
        if self.new.epochs is None:
            return first
        plan = self.new.plan
        last = self._counts(plan.at_end, draws)
        self.new.sampler = FadingSampler(first.expected(0), last, plan.cluster, self.new.epochs, self.seed)
        return self.new.sampler


def read_rendered(path: str, data: Mapping[str, Any], name: str, outside: bool, classes: bool) -> dict[str, Any]:
    """Ultralytics' data dictionary of a rendered set, to be read as the photographs are.

    Its images are read with as many channels as the photographs, and its single class takes the name of theirs.

    Args:
        path: data YAML of the rendered set.
        data: the data dictionary of the photographs.
        name: of the photographs' YAML, for messages.
        outside: take images outside the data folder, too.
        classes: whether the classes have to be the same.

    Raises:
        DPoseError: for data that cannot be used, and sets of other keypoints or classes.
    """
    rendered = {**read_data(path, outside, "render"), "channels": data.get("channels", 3)}
    if len(data["names"]) == len(rendered["names"]) == 1:
        rendered |= {"names": data["names"], "nc": 1}
    refuse_unlike(data, name, rendered, path, classes)
    return rendered
