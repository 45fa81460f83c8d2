"""Carrying a plan out: pictures copied, frames decoded and written, one job at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2

from dpose_yolo.dataset.files import IMAGE_SUFFIXES
from dpose_yolo.dataset.images import look
from dpose_yolo.errors import DPoseError
from dpose_yolo.images import read_image
from dpose_yolo.prepare.choose import Variety
from dpose_yolo.prepare.frames import Video, jpeg, thumbnail
from dpose_yolo.prepare.output import Output
from dpose_yolo.prepare.plan import Frames, Job, Pictures, Plan, Shot, Stream

Tick = Callable[[int], None]
LABEL_BYTES = 4096  # a file system gives a label a block
SAMPLED = 5  # videos that the size of a frame is estimated from
INTO = 30  # frames into a video where that is done: the first ones are often black
RESERVE = 1.1  # free space wanted, in estimates

Rows = list[dict[str, str]]
Lost = list[tuple[str, str]]


def estimate(plan: Plan, quality: int) -> tuple[int, int]:
    """Images and bytes that the set will have at most."""
    images = size = 0
    videos: dict[Path, int] = {}
    for job in plan.jobs:
        if isinstance(job, Pictures):
            images += len(job.shots)
            size += sum(_size(shot.file) for shot in job.shots) + LABEL_BYTES * len(job.shots)
        else:
            most = job.most if isinstance(job, Stream) else len(job.shots)
            videos[job.file] = videos.get(job.file, 0) + most
    frames = sum(videos.values())
    return images + frames, size + frames * (LABEL_BYTES + _frame_bytes(list(videos), quality))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _frame_bytes(files: list[Path], quality: int) -> int:
    """Bytes of a frame as JPEG: the largest of a few."""
    sizes = [0]
    for file in files[:: max(1, len(files) // SAMPLED)][:SAMPLED]:
        with Video(file) as video:
            for number in video:
                if number == min(INTO, max(0, video.count - 1)):
                    image = video.image()
                    sizes.append(len(jpeg(image, quality)) if image is not None else 0)
                    break
    return max(sizes)


def require_space(out: Output, size: int, fewer: str = "fewer frames=, a lower quality=") -> int:
    """Bytes that are free where the set goes.

    Args:
        out: the set.
        size: bytes that it needs at most.
        fewer: settings that make it smaller, for the message.

    Raises:
        DPoseError: when it does not fit.
    """
    place = next(p for p in (out.dst.absolute(), *out.dst.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    there = sum(f.stat().st_size for f in (out.dst / "images").rglob("*")) if out.dst.is_dir() else 0
    if (size - there) * RESERVE > free:
        raise DPoseError(
            f"the set needs up to {in_words(size - there)}, {place} has {in_words(free)} free: set {fewer}, "
            "or dst= to another disk"
        )
    return free


def in_words(size: int) -> str:
    """A size in words."""
    number, unit = next(((size / n, u) for n, u in ((1e9, "GB"), (1e6, "MB")) if size >= n), (max(size, 0) / 1e3, "KB"))
    return f"{number:.1f} {unit}"


def carry_out(plan: Plan, out: Output, quality: int, tick: Tick) -> None:
    """Do the jobs that are not done yet."""
    for number, job in enumerate(plan.jobs):
        if out.finished(number):
            tick(job.work)
            continue
        out.finish(number, *do(job, out, quality, tick))


def do(job: Job, out: Output, quality: int, tick: Tick) -> tuple[Rows, Lost]:
    """Do one job: lines of the index, and what could not be used."""
    if isinstance(job, Pictures):
        return _copy(job, out, tick)
    return _stream(job, out, quality, tick) if isinstance(job, Stream) else _frames(job, out, quality, tick)


def _copy(job: Pictures, out: Output, tick: Tick) -> tuple[Rows, Lost]:
    rows: Rows = []
    lost: Lost = []
    for shot in job.shots:
        tick(1)
        suffix = shot.file.suffix.lower()
        problem = look(str(shot.file)).problem if suffix[1:] in IMAGE_SUFFIXES else None
        if problem is not None:
            lost.append(("broken picture", f"{shot.source}: {problem}"))
            continue
        if suffix[1:] in IMAGE_SUFFIXES:
            content: bytes | None = shot.file.read_bytes()
        else:  # a kind that the engine does not read
            suffix, content = ".png", _as_png(shot.file)
        if content is None:
            lost.append(("broken picture", shot.source))
            continue
        out.put_label(shot)
        out.put(out.image(shot, suffix), content)
        rows.append(out.row(shot, suffix))
    return rows, lost


def _as_png(file: Path) -> bytes | None:
    try:
        return bytes(cv2.imencode(".png", read_image(file))[1])
    except DPoseError:
        return None


def _frames(job: Frames, out: Output, quality: int, tick: Tick) -> tuple[Rows, Lost]:
    wanted: dict[int, Shot] = {int(shot.frame or 0): shot for shot in job.shots}
    rows: Rows = []
    with Video(job.file, even=any(shot.label is not None for shot in job.shots)) as video:
        last, seen = max(wanted, default=-1), 0
        for number in video if video.good else ():
            tick(number + 1 - seen)
            seen = number + 1
            shot = wanted.get(number)
            image = video.image() if shot is not None else None
            if shot is not None and image is not None:
                del wanted[number]
                if shot.time is None:
                    shot.time = video.seconds()
                out.put_label(shot)
                out.put(out.image(shot, ".jpg"), jpeg(image, quality))
                rows.append(out.row(shot, ".jpg"))
            if number >= last:
                break
        tick(max(0, job.work - seen))
        lost = [("frame that cannot be decoded", shot.source) for shot in wanted.values()] if video.good else []
        if not video.good:
            lost = [("video that cannot be read", job.shots[0].source.partition("#")[0])] if job.shots else []
    return rows, lost


def _stream(job: Stream, out: Output, quality: int, tick: Tick) -> tuple[Rows, Lost]:
    """Frames that differ, in one pass: those kept so far lie in a spool and move to their place at the end."""
    variety = Variety(job.limit, job.apart)
    spool = out.work / "spool"
    shots: dict[int, Shot] = {}
    lost: Lost = []
    with Video(job.file) as video:
        seen, due = 0, 0.0
        for number in video if video.good else ():
            tick(number + 1 - seen)
            seen = number + 1
            if video.seconds() < due:  # by time rather than by number: rates vary
                continue
            due = video.seconds() + (job.step - 0.5) / job.fps
            image = video.image()
            if image is None:
                lost.append(("frame that cannot be decoded", f"{job.shot.source}#{number}"))
                continue
            kept, gone = variety.offer(number, thumbnail(image))
            if kept:
                (spool / f"{number}.jpg").write_bytes(jpeg(image, quality))
                shots[number] = _shot(job, number, video.seconds())
            if gone is not None:
                (spool / f"{gone}.jpg").unlink()
                del shots[gone]
        tick(max(0, job.work - seen))
        if not seen:
            lost.append(("video that cannot be read", job.shot.source))
        elif video.lost:
            lost.append(("video with frames that cannot be decoded", f"{job.shot.source} ({video.lost})"))
    rows: Rows = []
    for number in variety.kept():
        place = out.image(shots[number], ".jpg")
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(spool / f"{number}.jpg", place)
        rows.append(out.row(shots[number], ".jpg"))
    return rows, lost


def _shot(job: Stream, number: int, seconds: float) -> Shot:
    time, activity = job.facts(number) if job.facts else (seconds, "")
    return replace(
        job.shot,
        stem=f"{job.shot.stem}_{number:06d}",
        source=f"{job.shot.source}#{number}",
        frame=number,
        time=time,
        activity=activity,
    )


def prepare(plan: Plan, out: Output, src: Path, quality: int, tick: Tick = lambda steps: None) -> dict[str, Any]:
    """Write a set, or go on with one that was interrupted.

    Returns:
        What prepare.json says.
    """
    with out.begun(plan.digest(src)):
        carry_out(plan, out, quality, tick)
        record = out.complete(plan)
    out.tidy()
    return record
