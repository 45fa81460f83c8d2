"""Frames of videos without labels: which ones, from how many of whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dpose_yolo.dataset.images import small_picture
from dpose_yolo.prepare.choose import Variety, equal_shares, pick, weighted_shares
from dpose_yolo.prepare.frames import Video, thumbnail
from dpose_yolo.prepare.options import Options
from dpose_yolo.prepare.plan import Frames, Job, Shot, Stream, in_batches
from dpose_yolo.runtime.sources import COUNTED

Facts = Callable[[int], tuple[float | None, str]]
Track = Callable[[list, str], list]


@dataclass
class Clip:
    """A video to take frames from.

    Attributes:
        shot: what its frames have in common: stem, part, source, file, subject, view.
        fps: frames a second, on average.
        count: its frames.
        facts: time and activity of a frame number, or None.
    """

    shot: Shot
    fps: float
    count: int
    facts: Facts | None = None

    def step(self, every: float) -> int:
        """Frames from one candidate to the next."""
        return max(1, round(every * self.fps))

    def candidates(self, every: float) -> int:
        """Number of candidates."""
        return -(-self.count // self.step(every))


def measured(file: Path) -> tuple[float, int]:
    """Mean frame rate and number of frames of a video; (0, 0) for one that cannot be read.

    Containers that do not hold the number of their frames are decoded once: rate and length in their head may be any.
    """
    with Video(file) as video:
        if not video.good or next(iter(video), None) is None:
            return 0.0, 0
        if file.suffix[1:].lower() in COUNTED and 0 < video.count < 100_000_000:
            return video.fps or 25.0, video.count
        first = video.seconds()
        count = 1 + sum(1 for _ in video)
        length = video.seconds() - first
        return (count - 1) / length if length > 0 else video.fps or 25.0, count


def part_totals(total: int | None, sizes: dict[str, int], weights: dict[str, float] | None = None) -> dict[str, int]:
    """Images that each part gets: by weight, or as many as it has candidates."""
    if total is None:
        return dict(sizes)
    given = weights or {part: float(size) for part, size in sizes.items()}
    return weighted_shares(total, sizes, given)


def dealt(sizes: dict[tuple[str, ...], int], totals: dict[str, int]) -> dict[tuple[str, ...], int]:
    """Images of each group: the total of a key's first word is dealt out equally, level by level of the others."""
    shares: dict[tuple[str, ...], int] = {}

    def deal(prefix: tuple[str, ...], total: int) -> None:
        depth = len(prefix)
        below: dict[str, int] = {}
        for key, size in sizes.items():
            if key[:depth] == prefix:
                below[key[depth]] = below.get(key[depth], 0) + size
        for name, share in equal_shares(total, below).items():
            key = (*prefix, name)
            if key in sizes:
                shares[key] = share
            else:
                deal(key, share)

    for first in sorted({key[0] for key in sizes}):
        deal((first,), totals.get(first, 0))
    return shares


def owner(shot: Shot) -> str:
    """Part and subject of a shot, as one word."""
    return f"{shot.part}/{shot.subject}"


def owner_totals(
    sizes: list[tuple[Shot, int]], total: int | None, weights: dict[str, float] | None = None
) -> dict[str, int]:
    """Images of each owner: those of a part are dealt out equally among its subjects.

    Args:
        sizes: shots, and how many candidates each stands for.
        total: images of all, or None for all candidates.
        weights: of the parts; their candidates unless given.
    """
    parts: dict[str, int] = {}
    subjects: dict[tuple[str, ...], int] = {}
    for shot, size in sizes:
        parts[shot.part] = parts.get(shot.part, 0) + size
        subjects[shot.part, owner(shot)] = subjects.get((shot.part, owner(shot)), 0) + size
    return {key[1]: share for key, share in dealt(subjects, part_totals(total, parts, weights)).items()}


def clip_jobs(clips: list[Clip], options: Options, totals: dict[str, int]) -> list[Job]:
    """Jobs that take each owner's total of frames: as many of each of their views, and of the videos of these."""
    keys: list[tuple[str, ...]] = [(owner(clip.shot), clip.shot.view, str(i)) for i, clip in enumerate(clips)]
    sizes = {key: clip.candidates(options.every) for key, clip in zip(keys, clips, strict=True)}
    shares = dealt(sizes, totals)
    jobs: list[Job] = []
    for i, (key, clip) in enumerate(zip(keys, clips, strict=True)):
        share = shares[key]
        if options.choose == "variety":
            limit = None if options.frames is None else share
            step = clip.step(options.every)
            jobs.append(Stream(clip.shot, step, clip.count, limit, options.apart, clip.fps, clip.facts))
            continue
        places = pick(sizes[key], share, options.choose, options.seed + i) * clip.step(options.every)
        shots = [_frame(clip, int(number)) for number in places]
        if shots:
            jobs.append(Frames(clip.shot.file, shots))
    return [job for job in jobs if not (isinstance(job, Stream) and job.limit == 0)]


def _frame(clip: Clip, number: int) -> Shot:
    time, activity = clip.facts(number) if clip.facts else (None, "")
    stem, source = f"{clip.shot.stem}_{number:06d}", f"{clip.shot.source}#{number}"
    return replace(clip.shot, stem=stem, source=source, frame=number, time=time, activity=activity)


def picture_jobs(
    shots: list[Shot], options: Options, totals: dict[str, int], track: Track, features: np.ndarray | None = None
) -> list[Job]:
    """Jobs that copy pictures: all of them, or those that a mode chooses of each owner's activities.

    Args:
        shots: the pictures.
        options: of the command.
        totals: images of each owner.
        track: wraps the pictures that have to be looked at, to show progress.
        features: (N, D) postures by which to choose, or None to choose by how the pictures look.
    """
    if options.choose == "all":
        return in_batches(shots)
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, shot in enumerate(shots):
        groups.setdefault((owner(shot), shot.activity), []).append(i)
    shares = dealt({key: len(members) for key, members in groups.items()}, totals)
    taken: list[int] = []
    for number, (key, members) in enumerate(groups.items()):
        if options.choose == "variety" and features is None:
            taken += _different(shots, members, shares[key] if options.frames is not None else None, options, track)
            continue
        own = None if features is None else features[members]
        taken += [members[i] for i in pick(len(members), shares[key], options.choose, options.seed + number, own)]
    return in_batches([shots[i] for i in sorted(taken)])


def _different(shots: list[Shot], members: list[int], limit: int | None, options: Options, track: Track) -> list[int]:
    variety = Variety(limit, options.apart)
    broken = []
    for i in track(members, "looking at the pictures"):
        try:
            variety.offer(i, thumbnail(small_picture(str(shots[i].file))))
        except Exception:  # a decoder may raise anything over bytes that somebody broke
            broken.append(i)  # it is told of when it is copied
    return [*variety.kept(), *broken]
