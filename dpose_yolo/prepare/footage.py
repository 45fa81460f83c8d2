"""`dpose prepare video`: any folder of videos and pictures, or one video, as images without labels."""

from __future__ import annotations

from pathlib import Path

from dpose_yolo.dataset.files import VIDEO_SUFFIXES, is_image
from dpose_yolo.errors import DPoseError
from dpose_yolo.prepare.card import COCO_17
from dpose_yolo.prepare.clips import Clip, Track, clip_jobs, dealt, measured, owner, owner_totals, picture_jobs
from dpose_yolo.prepare.files import files_below, relative
from dpose_yolo.prepare.options import Options
from dpose_yolo.prepare.plan import Names, Plan, Shot
from dpose_yolo.prepare.splits import assign, describe

PICTURES = ("pgm", "ppm")  # besides those that the engine reads; they become PNG


def plan(src: str, options: Options, track: Track) -> Plan:
    """Look at the files, and say whose they are.

    Raises:
        DPoseError: when there is no video and no picture.
    """
    root = Path(src)
    if not root.exists():
        raise DPoseError(f"src={src} does not exist: set src= to a video, or a folder of videos or pictures")
    files = [root] if root.is_file() else files_below(root)
    videos = [f for f in files if f.suffix[1:].lower() in VIDEO_SUFFIXES]
    pictures = [f for f in files if is_image(f.name) or f.suffix[1:].lower() in PICTURES]
    if not videos and not pictures:
        raise DPoseError(f"no videos or pictures in {src}: expected files ending in .mp4, .avi, .jpg, .png ...")
    names, left_out = Names(), []
    clips: list[Clip] = []
    for file in track(videos, "looking at the videos"):
        fps, count = measured(file)
        if not count:
            left_out.append(("video that cannot be read", relative(file, root)))
            continue
        shot = Shot(names.video(_stem(file, root)), "", relative(file, root), file, 0, _subject(file, root))
        clips.append(Clip(shot, fps, count))
    shots = [Shot(names.free(_stem(f, root)), "", relative(f, root), f, None, _subject(f, root)) for f in pictures]
    sizes: dict[str, int] = {}
    for clip in clips:
        sizes[clip.shot.subject] = sizes.get(clip.shot.subject, 0) + clip.candidates(options.every)
    for shot in shots:
        sizes[shot.subject] = sizes.get(shot.subject, 0) + 1
    parts = assign(sizes, options.val, options.test, options.seed)
    for shot in [*shots, *(clip.shot for clip in clips)]:
        shot.part = parts[shot.subject]
    sizes_of = [*((clip.shot, clip.candidates(options.every)) for clip in clips), *((shot, 1) for shot in shots)]
    kinds: dict[tuple[str, ...], int] = {}
    for n, (shot, size) in enumerate(sizes_of):
        key = (owner(shot), "videos" if n < len(clips) else "pictures")
        kinds[key] = kinds.get(key, 0) + size
    shares = dealt(kinds, owner_totals(sizes_of, options.frames))
    jobs = clip_jobs(clips, options, {key[0]: share for key, share in shares.items() if key[1] == "videos"})
    of_pictures = {key[0]: share for key, share in shares.items() if key[1] == "pictures"}
    jobs += picture_jobs(shots, options, of_pictures, track)
    said = [describe(parts)]
    if len(parts) == 1:
        said.append("one subject only: all of it is the training part, which stands in for the validation part, too")
        if shots and not clips:
            said.append("where there are several drivers, give each a folder of its own below src=")
    comment = ["Frames of videos and pictures, without labels."]
    return Plan(jobs, COCO_17, comment, said, left_out)


def _subject(file: Path, root: Path) -> str:
    """The first folder below the source; without one a video is a subject of its own, and all pictures are one.

    Pictures in one folder are frames of one recording as like as not: split one by one, a picture to validate on would
    have its neighbour in training.
    """
    if file == root:
        return file.stem
    first, *rest = file.relative_to(root).parts
    if rest:
        return first
    return file.stem if file.suffix[1:].lower() in VIDEO_SUFFIXES else root.resolve().name


def _stem(file: Path, root: Path) -> str:
    return file.stem if file == root else str(file.relative_to(root).with_suffix(""))
