"""Drive&Act's files: what belongs to which run and camera; calibrations, timestamps, 3D poses."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dpose_yolo.dataset.files import VIDEO_SUFFIXES
from dpose_yolo.errors import DPoseError
from dpose_yolo.prepare.files import files_below
from dpose_yolo.prepare.projection import Camera, rotation_of

Run = tuple[str, str]  # subject (vp1) and name (run1b_2018-05-29-14-02-47)
REFERENCE = "ids_1"  # the camera in whose frame the poses are
_FILE = re.compile(r"(?P<run>[^.]+)\.(?P<camera>ids_\d|kinect_\w+)\.(?P<kind>.+)")
_ACTIVITY = re.compile(r"midlevel\.chunks_90(\.split_(?P<split>\d)\.(?P<part>train|val|test))?\.csv")
SUBJECT = re.compile(r"vp\d+")
_HEADER_WITHIN = 100  # lines in which the header of a pose CSV has to come

# OpenPose's names of COCO's 17 keypoints.
JOINTS = ("nose", "lEye", "rEye", "lEar", "rEar", "lShoulder", "rShoulder", "lElbow", "rElbow", "lWrist", "rWrist",
          "lHip", "rHip", "lKnee", "rKnee", "lAnkle", "rAnkle")  # fmt: skip


@dataclass
class Tree:
    """Files of a download.

    Attributes:
        runs: for each run its files by (camera, kind): video, calibration, timestamps, poses.
        activities: tables by camera folder.
        splits: tables by (split, part).
    """

    runs: dict[Run, dict[tuple[str, str], Path]] = field(default_factory=dict)
    activities: dict[str, list[Path]] = field(default_factory=dict)
    splits: dict[tuple[str, str], list[Path]] = field(default_factory=dict)


def find(root: Path) -> Tree:
    """Sort the files below a folder by their names, wherever they lie.

    Raises:
        DPoseError: when two files claim to be the same.
    """
    tree = Tree()
    for path in files_below(root):
        table = _ACTIVITY.fullmatch(path.name)
        if table:
            tree.activities.setdefault(path.parent.name, []).append(path)
            if table["split"]:
                tree.splits.setdefault((table["split"], table["part"]), []).append(path)
            continue
        match = _FILE.fullmatch(path.name)
        subject = next((name for name in reversed(path.parts[:-1]) if SUBJECT.fullmatch(name)), None)
        kind = _kind(match["kind"]) if match else None
        if match is None or subject is None or kind is None:
            continue
        files = tree.runs.setdefault((subject, match["run"]), {})
        key = (match["camera"], kind)
        if key in files:
            raise DPoseError(f"{files[key]} and {path} are the same {kind} twice: take one of them away")
        files[key] = path
    return tree


def _kind(end: str) -> str | None:
    if end.lower() in VIDEO_SUFFIXES:
        return "video"
    return {"calibration.json": "calibration", "timestamps": "timestamps", "openpose.3d.csv": "poses"}.get(end)


def read_camera(file: Path, identity: bool) -> Camera:
    """Calibration of a camera; `identity` allows one without extrinsics.

    Raises:
        DPoseError: for a malformed file.
    """
    try:
        if file.stat().st_size > 1_000_000:
            raise ValueError("more than 1 MB")
        raw = json.loads(file.read_text(encoding="utf-8-sig"))
        inner = raw["intrinsics"]
        fx, fy = _floats(inner["focallength"], "fx fy")
        cx, cy = _floats(inner["principal_point"], "cx cy")
        distortion = _floats(inner["distortion"], "k1 k2 p1 p2 k3")
        width, height = _floats(inner["img_size"], "width height")
        rotation, translation = np.eye(3), np.zeros(3)
        if not identity or "extrinsics" in raw:
            quaternion = _floats(raw["extrinsics"]["rotation"], "w x y z")
            if np.linalg.norm(quaternion) < 1e-6:
                raise ValueError("its rotation is zero")
            rotation, translation = rotation_of(quaternion), _floats(raw["extrinsics"]["translation"], "x y z")
        if min(fx, fy, width, height) <= 0:
            raise ValueError("focal lengths and image size must be positive")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:150]
        raise DPoseError(f"{file} is no calibration of Drive&Act: {what}") from error
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    return Camera(matrix, distortion, (round(width), round(height)), rotation, translation)


def _floats(raw: dict[str, Any], names: str) -> np.ndarray:
    values = np.array([float(raw[name]) for name in names.split()])
    if not np.isfinite(values).all():
        raise ValueError(f"{names} must be finite numbers")
    return values


def seconds_of(values: np.ndarray, file: Path) -> np.ndarray:
    """Timestamps in seconds: the unit (s, ms, us or ns) is the one in which a camera has 2 to 250 frames a second.

    Raises:
        DPoseError: when none is, or when the timestamps fall.
    """
    steps = np.diff(values)
    if not np.isfinite(values).all() or (steps < 0).any():
        raise DPoseError(f"the timestamps of {file} do not rise")
    step = float(np.median(steps)) if len(steps) else 0.04
    unit = next((unit for unit in (1.0, 1e-3, 1e-6, 1e-9) if 0.004 <= step * unit <= 0.5), None)
    if unit is None:
        raise DPoseError(f"the timestamps of {file} are {step:g} apart: no unit of time makes that a camera")
    return values * unit


def read_times(file: Path) -> np.ndarray:
    """(frames,) seconds, from one number a line.

    Raises:
        DPoseError: for a malformed file.
    """
    try:
        values = np.array([float(line) for line in file.read_text(encoding="utf-8-sig").split()])
    except (OSError, ValueError) as error:
        raise DPoseError(f"{file} is not one number a line: {' '.join(str(error).split())[:100]}") from error
    return seconds_of(values, file)


@dataclass
class Poses:
    """3D poses of a run, those with a detection.

    Attributes:
        frame: (N,) frame of the reference camera.
        time: (N,) seconds.
        points: (N, 17, 3) metres, in the frame of the reference camera, COCO's order.
        confidence: (N, 17) 0 to 1.
    """

    frame: np.ndarray
    time: np.ndarray
    points: np.ndarray
    confidence: np.ndarray

    def take(self, which: np.ndarray) -> Poses:
        """Some of them."""
        return Poses(self.frame[which], self.time[which], self.points[which], self.confidence[which])


def read_poses(file: Path) -> Poses:
    """Poses of a CSV, its columns by name; whatever stands before the header is passed over.

    Raises:
        DPoseError: for a file without such a header, or with something else than numbers.
    """
    numbers = _columns(file, ["frame_id", "timestamp", *(f"{joint}_{axis}" for joint in JOINTS for axis in "xyzp")])
    time = seconds_of(numbers[:, 1], file)
    joints = np.nan_to_num(numbers[:, 2:].reshape(-1, len(JOINTS), 4))
    points, confidence = joints[..., :3], joints[..., 3]
    if confidence.size and confidence.max() > 1.5:  # per cent
        confidence = confidence / 100
    confidence = np.where((points != 0).any(-1), confidence, 0.0)
    detected = np.flatnonzero((confidence > 0).any(1))
    return Poses(numbers[:, 0].astype(np.int64), time, points, confidence).take(detected)


def read_pose_times(file: Path) -> np.ndarray:
    """(frames,) seconds of the reference camera's frames, as its poses tell them; for runs without its timestamps.

    Raises:
        DPoseError: as `read_poses`.
    """
    numbers = _columns(file, ["frame_id", "timestamp"])
    frames = numbers[:, 0].astype(np.int64)
    if not len(frames) or (np.diff(frames) <= 0).any() or not 0 <= frames[-1] < 10**8:
        raise DPoseError(f"the frames of {file} do not rise")
    return np.interp(np.arange(frames[-1] + 1), frames, seconds_of(numbers[:, 1], file))


def _columns(file: Path, wanted: list[str]) -> np.ndarray:
    """(rows, columns) numbers; rows without frame and time are left out."""
    import pandas

    try:
        skip, separator = _header(file)
        table = pandas.read_csv(
            file,
            skiprows=skip,
            sep=separator,
            encoding="utf-8-sig",
            skipinitialspace=True,
            usecols=lambda c: c.strip() in wanted,
        )
        table.columns = [str(column).strip() for column in table.columns]
        numbers = table[wanted].to_numpy(np.float64)
    except (OSError, ValueError, KeyError) as error:  # pandas' errors are ValueErrors
        raise DPoseError(f"{file} is no 3D pose table: {' '.join(str(error).split())[:150]}") from error
    return numbers[np.isfinite(numbers[:, :2]).all(1)]


def _header(file: Path) -> tuple[int, str]:
    """Number of lines before the header, and what separates the columns."""
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in zip(range(_HEADER_WITHIN), lines, strict=False):
            if "frame_id" in line and "nose_x" in line:
                return number, max(",;\t", key=line.count)
    raise ValueError(f"no line with frame_id and nose_x among the first {_HEADER_WITHIN}")


def nearest(times: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For moments (N,) the nearest of rising times: their indices and how far they are, seconds."""
    if not len(times):
        return np.zeros(len(at), np.intp), np.full(len(at), np.inf)
    right = np.clip(np.searchsorted(times, at), 1, max(1, len(times) - 1))
    if len(times) == 1:
        right = np.zeros(len(at), np.intp)
    left = np.maximum(right - 1, 0)
    best = np.where(np.abs(times[left] - at) <= np.abs(times[right] - at), left, right)
    return best, np.abs(times[best] - at)
