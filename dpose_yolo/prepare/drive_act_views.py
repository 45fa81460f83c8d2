"""Drive&Act's videos with what belongs to them, and what of a download could not be used."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.prepare.clips import Track, measured
from dpose_yolo.prepare.drive_act_files import REFERENCE, Run, find, read_camera, read_pose_times, read_times
from dpose_yolo.prepare.files import relative
from dpose_yolo.prepare.frames import Video
from dpose_yolo.prepare.options import VIEWS, Options
from dpose_yolo.prepare.plan import Names
from dpose_yolo.prepare.projection import Camera


@dataclass
class View:
    """A run seen by one camera.

    Attributes:
        run: subject and name.
        name: e.g. inner_mirror.
        camera: e.g. ids_1.
        video: its file.
        stem: of its images.
        fps, count: frames a second, frames.
        lens: calibration, None for images without labels.
    """

    run: Run
    name: str
    camera: str
    video: Path
    stem: str
    fps: float
    count: int
    lens: Camera | None = None


class Reader:
    """What of a download is read more than once, and what could not be used.

    Attributes:
        root: the folder.
        tree: its files.
        left_out: kind and name of what could not be used.
    """

    def __init__(self, root: Path):
        self.root, self.tree = root, find(root)
        self.left_out: list[tuple[str, str]] = []
        self._times: dict[Run, dict[str, np.ndarray]] = {}
        self._clocks: dict[Run, dict[str, np.ndarray]] = {}

    def lose(self, kind: str, path: Path | str) -> None:
        """Take down something that cannot be used."""
        self.left_out.append((kind, path if isinstance(path, str) else relative(path, self.root)))

    def times(self, run: Run) -> dict[str, np.ndarray]:
        """Seconds of the frames of every camera that has timestamps."""
        if run not in self._times:
            self._times[run] = {}
            for (camera, kind), file in self.tree.runs[run].items():
                if kind == "timestamps":
                    try:
                        self._times[run][camera] = read_times(file)
                    except DPoseError as error:
                        self.lose("broken timestamps", str(error))
        return self._times[run]

    def clock(self, run: Run) -> dict[str, np.ndarray]:
        """As `times`; those of the reference camera come from its poses if it has no timestamps."""
        if run not in self._clocks:
            self._clocks[run] = dict(self.times(run))
            poses = self.tree.runs[run].get((REFERENCE, "poses"))
            if REFERENCE not in self._clocks[run] and poses is not None:
                with suppress(DPoseError):  # told of where the poses are read
                    self._clocks[run][REFERENCE] = read_pose_times(poses)
        return self._clocks[run]

    def views(self, runs: list[Run], options: Options, names: Names, track: Track) -> list[View]:
        """The videos of the chosen cameras that can be used."""
        found = []
        for name in options.views:
            camera = VIEWS[name]
            for run in track(runs, f"{name}: looking at the videos"):
                view = self._view(run, name, camera, names, options.labels)
                if view is not None:
                    found.append(view)
        return found

    def _view(self, run: Run, name: str, camera: str, names: Names, labels: bool) -> View | None:
        files = self.tree.runs[run]
        video = files.get((camera, "video"))
        if video is None:
            return None
        fps, count = measured(video)
        if not count:
            self.lose("video that cannot be read", video)
            return None
        view = View(run, name, camera, video, names.video(*run, name), fps, count)
        if labels:
            calibration = files.get((camera, "calibration"))
            if calibration is None:
                raise DPoseError(
                    f"no calibration beside {video}: labels=none makes images only, or leave {name} out of views="
                )
            view.lens = read_camera(calibration, camera == REFERENCE)
            with Video(video) as opened:
                width, height = opened.size
            if abs(width * view.lens.size[1] - height * view.lens.size[0]) > 0.01 * width * view.lens.size[1]:
                raise DPoseError(
                    f"{video} is {width}x{height}, its calibration is for {view.lens.size}: they do not belong together"
                )
        return view
