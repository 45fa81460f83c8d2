"""`dpose prepare drive_act`: frames of Drive&Act's videos with its 3D body poses projected into them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dpose_yolo.dataset.label_text import label_text
from dpose_yolo.errors import DPoseError
from dpose_yolo.posture import posture_features
from dpose_yolo.prepare.card import COCO_17
from dpose_yolo.prepare.choose import pick
from dpose_yolo.prepare.clips import Clip, Track, clip_jobs, dealt, owner_totals, part_totals
from dpose_yolo.prepare.drive_act_files import REFERENCE, Poses, Run, nearest, read_poses
from dpose_yolo.prepare.drive_act_poses import doubt_odd_bones, label_rows
from dpose_yolo.prepare.drive_act_tables import PAPER_WEIGHTS, Activities, read_split
from dpose_yolo.prepare.drive_act_views import Reader, View
from dpose_yolo.prepare.files import relative, source_folder
from dpose_yolo.prepare.options import VIEWS, Options
from dpose_yolo.prepare.plan import Frames, Job, Names, Plan, Shot
from dpose_yolo.prepare.projection import DIRECTIONS
from dpose_yolo.prepare.splits import describe

SEEN_LEAST = 0.2  # share of the points that must fall into an image, or the calibration is another's
CLOSE = 0.05  # directions whose shares differ by less are told of
COMMENT = [
    "Drive&Act (https://driveandact.com), research use under its authors' terms; identifiable people.",
    "Keypoints and box are projected 3D poses (OpenPose, triangulated), not labelled by hand: a visible keypoint (2)",
    "is one of high confidence in space, which may be hidden in this view.",
]


def plan(src: str, options: Options, track: Track) -> Plan:
    """Match poses to frames, project them, choose, deal out.

    Raises:
        DPoseError: for a download that lacks what is needed, or whose tables contradict each other.
    """
    root = source_folder(src)
    reader = Reader(root)
    if not reader.tree.runs:
        raise DPoseError(f"nothing of Drive&Act in {src}: expected files like inner_mirror/vp1/run1b_....ids_1.mp4")
    split = read_split(reader.tree, options.split)
    runs = sorted((run for run in reader.tree.runs if run[0] in split), key=_order)
    parts = {run[0]: split[run[0]] for run in runs}
    said = [f"split {options.split}, {describe(parts)}"]
    names = Names()
    views = reader.views(runs, options, names, track)
    if not views:
        cameras = ", ".join(f"{view} ({VIEWS[view]})" for view in options.views)
        raise DPoseError(f"no video of {cameras} in {src} can be used: set views= to cameras whose videos are there")
    activities = Activities(reader.tree)
    weights = PAPER_WEIGHTS if options.split == "paper" else None
    if options.labels:
        jobs = _labelled(reader, views, split, activities, options, weights, said, track)
    else:
        jobs = _unlabelled(reader, views, split, activities, options, weights)
    comment = [*COMMENT] if options.labels else COMMENT[:1]
    if options.split == "paper":
        comment.append(
            "Split after the paper, which names no persons: vp5, vp11, vp13, vp15 test, the others train. `val` is the"
        )
        comment.append("test part: report last.pt, so that it does not choose the weights.")
    return Plan(jobs, COCO_17, comment, said, reader.left_out)


def _order(run: Run) -> tuple[int, str]:
    return int(run[0][2:]), run[1]


def _shot(view: View, part: str, root: Path) -> Shot:
    return Shot(view.stem, part, relative(view.video, root), view.video, 0, view.run[0], view.name)


def _facts(reader: Reader, view: View, activities: Activities) -> Callable[[int], tuple[float | None, str]]:
    times = reader.times(view.run)

    def facts(number: int) -> tuple[float | None, str]:
        own = times.get(view.camera)
        at = float(own[number] - own[0]) if own is not None and number < len(own) else number / view.fps
        return at, str(activities.of(view.run, view.camera, np.array([number]), reader.clock)[0])

    return facts


def _unlabelled(
    reader: Reader,
    views: list[View],
    split: dict[str, str],
    activities: Activities,
    options: Options,
    weights: dict[str, float] | None,
) -> list[Job]:
    clips = [Clip(_shot(v, split[v.run[0]], reader.root), v.fps, v.count, _facts(reader, v, activities)) for v in views]
    sizes = [(clip.shot, clip.candidates(options.every)) for clip in clips]
    return clip_jobs(clips, options, owner_totals(sizes, options.frames, weights))


def _labelled(
    reader: Reader,
    views: list[View],
    split: dict[str, str],
    activities: Activities,
    options: Options,
    weights: dict[str, float] | None,
    said: list[str],
    track: Track,
) -> list[Job]:
    poses = _poses(reader, sorted({view.run for view in views}, key=_order), options, said, track)
    matched = {i: _match(reader, view, poses[view.run], options) for i, view in enumerate(views) if view.run in poses}
    directions = _directions(views, matched, options, said)
    rows: dict[int, np.ndarray] = {}
    frames: dict[int, np.ndarray] = {}
    for i, (own, numbers) in matched.items():
        lens = views[i].lens
        assert lens is not None
        all_rows = label_rows(
            lens, directions.get(views[i].name, 0), own.points, own.confidence, options.conf, options.margin
        )
        usable = np.isfinite(all_rows[:, 0])
        rows[i], frames[i] = all_rows[usable], numbers[usable]
    chosen = _choose(views, rows, split, options, weights)
    jobs: list[Job] = []
    for i, which in chosen.items():
        view, facts = views[i], _facts(reader, views[i], activities)
        shots = []
        for at in which[np.argsort(frames[i][which], kind="stable")]:
            number = int(frames[i][at])
            shot = _shot(view, split[view.run[0]], reader.root)
            shot.stem, shot.source, shot.frame = f"{shot.stem}_{number:06d}", f"{shot.source}#{number}", number
            shot.time, shot.activity = facts(number)
            shot.label = label_text(rows[i][at : at + 1])
            shots.append(shot)
        if shots:
            jobs.append(Frames(view.video, shots))
    if not jobs:
        raise DPoseError(
            f"no frame of {reader.root} has a usable pose: lower conf=, raise tolerance=, or see labels=none"
        )
    return jobs


def _poses(reader: Reader, runs: list[Run], options: Options, said: list[str], track: Track) -> dict[Run, Poses]:
    """Poses of each run, one every `every` seconds, with joints on odd bones doubted."""
    poses: dict[Run, Poses] = {}
    for run in track(runs, "reading 3D poses"):
        file = reader.tree.runs[run].get((REFERENCE, "poses"))
        if file is None:
            reader.lose("run without 3D poses", "/".join(run))
            continue
        try:
            found = read_poses(file)
        except DPoseError as error:
            reader.lose("3D poses that cannot be read", str(error))
            continue
        beat = np.floor((found.time - found.time[:1]) / options.every + 1e-6)
        poses[run] = found.take(np.flatnonzero(np.diff(beat, prepend=-1) > 0))
    doubted = total = 0
    for subject in sorted({run[0] for run in poses}):
        own = [poses[run] for run in poses if run[0] == subject]
        points = np.concatenate([p.points for p in own])
        before = np.concatenate([p.confidence for p in own])
        after = doubt_odd_bones(points, before, options.conf[0])
        doubted += int(((before >= options.conf[0]) & (after < options.conf[0])).sum())
        total += int((before >= options.conf[0]).sum())
        for p, part in zip(own, np.split(after, np.cumsum([len(p.time) for p in own])[:-1]), strict=True):
            p.confidence = part
    if doubted:
        said.append(f"{doubted} of {total} keypoints unlabelled: their bone has another length than the subject's")
    return poses


def _match(reader: Reader, view: View, poses: Poses, options: Options) -> tuple[Poses, np.ndarray]:
    """Poses of a run that a camera has a frame for, and the numbers of these frames."""
    times = reader.times(view.run).get(view.camera)
    if times is not None:
        numbers, off = nearest(times, poses.time)
        good = (off <= options.tolerance) & (numbers < view.count)
    elif view.camera == REFERENCE:  # the poses number its own frames
        numbers = poses.frame
        good = (numbers >= 0) & (numbers < view.count)
    else:
        reader.lose("video without timestamps", view.video)
        return poses.take(np.zeros(0, np.intp)), np.zeros(0, np.intp)
    _, first = np.unique(numbers[good], return_index=True)
    which = np.flatnonzero(good)[first]
    lost = len(numbers) - len(which)
    if lost:
        reader.left_out += [("pose without a frame of its time", relative(view.video, reader.root))] * lost
    return poses.take(which), numbers[which]


def _directions(
    views: list[View], matched: dict[int, tuple[Poses, np.ndarray]], options: Options, said: list[str]
) -> dict[str, int]:
    """Which way the extrinsics of each camera are meant: the one that puts more points into its image."""
    directions: dict[str, int] = {}
    for name in options.views:
        seen, count = np.zeros(2), 0
        for i, (own, _) in matched.items():
            lens = views[i].lens
            if views[i].name != name or lens is None:
                continue
            points = own.points[own.confidence >= options.conf[0]]
            seen += [len(points) * lens.share_seen(points, d) for d in (0, 1)]
            count += len(points)
        if not count:
            continue
        shares = seen / count
        best = int(shares.argmax())
        if shares[best] < SEEN_LEAST:
            raise DPoseError(
                f"only {shares[best]:.0%} of the 3D points fall into the image of {name}, whichever way its extrinsics "
                "are meant: its calibration does not belong to these poses"
            )
        directions[name] = best
        if all(v.lens is not None and v.lens.is_reference for v in views if v.name == name):
            said.append(f"{name}: the camera of the poses, {shares[best]:.0%} of the points fall into its image")
            continue
        text = f"{name}: extrinsics taken as {DIRECTIONS[best]}, {shares[best]:.0%} of the points fall into its image"
        doubt = "; that is close, look at some labels" if abs(shares[0] - shares[1]) < CLOSE else ""
        said.append(f"{text}, {shares[1 - best]:.0%} the other way{doubt}")
    return directions


def _choose(
    views: list[View],
    rows: dict[int, np.ndarray],
    split: dict[str, str],
    options: Options,
    weights: dict[str, float] | None,
) -> dict[int, np.ndarray]:
    """Rows to take of each view: by posture within each subject and camera, over all of its runs."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for i in rows:
        groups.setdefault((split[views[i].run[0]], views[i].run[0], views[i].name), []).append(i)
    sizes = {key: sum(len(rows[i]) for i in members) for key, members in groups.items()}
    per_part: dict[str, int] = {}
    for key, size in sizes.items():
        per_part[key[0]] = per_part.get(key[0], 0) + size
    shares = dealt(sizes, part_totals(options.frames, per_part, weights))
    chosen: dict[int, np.ndarray] = {}
    for number, (key, members) in enumerate(groups.items()):
        every = np.concatenate([rows[i] for i in members])
        lens = views[members[0]].lens
        assert lens is not None
        w, h = lens.size
        count = (every.shape[1] - 5) // 3
        keypoints = every[:, 5:].reshape(len(every), count, 3) * (w, h, 1.0)
        features = posture_features(keypoints, every[:, 1:5] * (w, h, w, h))
        taken = pick(len(every), shares[key], options.choose, options.seed + number, features)
        starts = np.cumsum([0, *(len(rows[i]) for i in members)])
        for i, start, end in zip(members, starts[:-1], starts[1:], strict=True):
            chosen[i] = taken[(taken >= start) & (taken < end)] - start
    return dict(sorted(chosen.items()))
