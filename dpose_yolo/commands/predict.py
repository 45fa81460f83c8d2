"""`dpose predict`: draw the driver and write CSV and JSON; ONNX models run without torch and Ultralytics."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dpose_yolo.commands.common import leave_none, output_folder, refuse_foreign, with_quantize
from dpose_yolo.commands.usage import require, whole
from dpose_yolo.errors import DPoseError
from dpose_yolo.runtime import Driver, DriverPose, Frame, OneEuro, Source, open_source
from dpose_yolo.runtime.driver import DriverFinder
from dpose_yolo.runtime.stop import Stop, stop_signals

TAKES = (
    "model", "source", "save", "records", "conf", "roi", "bits", "driver_class", "smooth", "patience", "device",
    "threads", "imgsz", "verbose", "project", "name", "exist_ok",
)  # fmt: skip
ENGINE = ("iou", "max_det", "augment", "quantize", "compile", "nms")  # settings of Ultralytics for other files
TELL = 2.0  # seconds between lines of progress


def main(settings: dict[str, Any]) -> int:
    """Find the driver in every frame, draw and record; the exit status."""
    path = require(settings, "model", "predict")
    require(settings, "source", "predict")
    light = Path(str(path)).suffix.lower() == ".onnx"
    settings = settings if light else with_quantize(settings)
    refuse_foreign(settings, TAKES if light else (*(t for t in TAKES if t != "threads"), *ENGINE), "predict")
    save, records, verbose = (_flag(settings, name) for name in ("save", "records", "verbose"))
    smooth = _smoother(settings.get("smooth", False))
    patience = settings.get("patience", 30)
    if isinstance(patience, bool) or not isinstance(patience, int | float) or not 0 < patience < float("inf"):
        raise DPoseError(f"patience={patience} is not allowed: give the seconds until a lost camera is given up")
    source = open_source(settings["source"], patience=float(patience))
    pose = _light_model(settings) if light else _engine_model(settings)
    folder = output_folder(settings, "predict") if save or records else None
    run = Run(pose, source, smooth, verbose)
    try:
        with stop_signals() as stop, ExitStack() as stack:
            if folder and save:
                from dpose_yolo.runtime.draw import Gallery

                run.gallery = stack.enter_context(Gallery(folder, pose.names, pose.bits))
            if folder and records:
                from dpose_yolo.runtime.records import open_records

                run.records = stack.enter_context(open_records(folder, pose.names))
            stopped = run.go(stop)
            run.refuse_nothing()
            if run.records:
                run.records.about.update(model=str(settings["model"]), **run.figures())
    except BaseException:
        if folder:
            leave_none(folder)
        raise
    places = " and ".join(p for p, there in (("drawn", save), ("poses.csv, poses.json", records)) if there)
    print(f"\n{run.summary()}" + (f"; {places} in {folder}" if folder else ""))
    if source.counts.ended:
        raise DPoseError(f"{source.counts.ended}: what came before it is kept")
    return 130 if stopped and source.kind != "camera" else 0


def _light_model(settings: dict[str, Any]) -> DriverPose:
    threads = whole(settings, "threads", 1) if settings.get("threads") is not None else None
    names = ("conf", "roi", "bits", "device", "driver_class")
    chosen = {name: settings[name] for name in names if settings.get(name) is not None}
    pose = DriverPose(str(settings["model"]), threads=threads, **chosen)
    _check_size(pose, settings.get("imgsz"))
    return pose


def _engine_model(settings: dict[str, Any]) -> DriverFinder:
    from dpose_yolo.engine.compat import require_engine

    require_engine()
    from dpose_yolo.engine.driver import EnginePose

    names = ("conf", "roi", "bits", "driver_class", "device", "imgsz", *ENGINE)
    return EnginePose(str(settings["model"]), **{k: settings[k] for k in names if settings.get(k) is not None})


class Run:
    """Goes through a source with a model.

    Attributes:
        gallery: writes drawings, None for none.
        records: writes CSV and JSON, None for none.
    """

    def __init__(self, pose: DriverFinder, source: Source, smooth: OneEuro | None, verbose: bool):
        """See the class."""
        self.pose, self.source, self.smooth, self.verbose = pose, source, smooth, verbose
        self.gallery: Any = None
        self.records: Any = None
        self.drivers = 0
        self.elapsed = 0.0
        self.rate = 0.0  # frames a second of late

    def go(self, stop: Stop) -> bool:
        """Through all frames; whether the user or a signal stopped it, which is how a camera's stream ends."""
        start = told = time.monotonic()
        seen = 0
        try:
            for frame, driver in self.pose.stream(self.source):
                driver = self._steady(frame, driver)
                self.drivers += driver is not None
                self._write(frame, driver)
                now = time.monotonic()
                if now - told >= TELL or not self.rate:
                    count = self.source.counts.frames
                    self.rate = (count - seen) / max(now - told, 1e-9)
                    if now - told >= TELL:
                        self._tell(driver)
                        told, seen = now, count
                if stop.over:  # the interrupt was lost in a callback, where Python can only print it
                    return True
            stop.over = True
        except KeyboardInterrupt:
            stop.over = True
            return True
        finally:
            self.elapsed = time.monotonic() - start
        return False

    def refuse_nothing(self) -> None:
        """Refuse a source without one good frame.

        Raises:
            DPoseError: where frames are broken and none is not, so that a script does not take it for an empty cabin.
        """
        counts = self.source.counts
        if counts.broken and not counts.frames:
            first = f"the first of {counts.broken}: {counts.first_broken}"
            raise DPoseError(f"no frame of {self.source.name} can be used; {first}")

    def _steady(self, frame: Frame, driver: Driver | None) -> Driver | None:
        if self.smooth is None or frame.seconds is None:  # pictures of a folder have nothing to do with each other
            return driver
        return self.smooth(driver, frame.seconds)

    def _write(self, frame: Frame, driver: Driver | None) -> None:
        if self.records:
            self.records.add(frame, driver)
        if self.gallery:
            what = f"{driver.score:.2f}" if driver else "no driver"
            moving = frame.seconds is not None and self.rate
            self.gallery.add(frame, driver, f"{what}  {self.rate:.1f} fps" if moving else what)

    def _tell(self, driver: Driver | None) -> None:
        if not self.verbose:
            return
        found = f"driver {driver.score:.2f}" if driver else "no driver"
        line = f"frame {self.source.counts.frames}: {self.rate:.1f} frames per second, {found}"
        live = sys.stdout.isatty()
        print(f"\r{line:<70}" if live else line, end="" if live else "\n", flush=True)

    def figures(self) -> dict[str, Any]:
        """What happened, for the JSON file."""
        pictures = max(self.pose.pictures, 1)
        return {
            "counts": asdict(self.source.counts),
            "drivers": self.drivers,
            "frames_per_second": round(self.source.counts.frames / max(self.elapsed, 1e-9), 2),
            "ms": {name: round(1000 * spent / pictures, 3) for name, spent in self.pose.seconds.items()},
        }

    def summary(self) -> str:
        """What happened, in one line."""
        counts, rate = self.source.counts, self.source.counts.frames / max(self.elapsed, 1e-9)
        text = f"{counts.frames} frames, a driver in {self.drivers}, {rate:.1f} frames per second"
        if counts.broken:
            text += f"; {counts.broken} broken left out, the first: {counts.first_broken}"
        return text + (f"; camera lost {counts.dropouts} times" if counts.dropouts else "")


def _flag(settings: dict[str, Any], name: str) -> bool:
    value = settings.get(name, True)
    if not isinstance(value, bool):
        raise DPoseError(f"{name}={value} is not allowed: {name} takes True or False")
    return value


def _smoother(value: Any) -> OneEuro | None:
    """The filter that smooth= asks for.

    Raises:
        DPoseError: for a value that is neither a flag nor the filter's two numbers.
    """
    if value is False or value is None:
        return None
    if value is True:
        return OneEuro()
    try:
        low, beta = (float(v) for v in (value.split(",") if isinstance(value, str) else value))
    except (TypeError, ValueError):
        raise DPoseError(f"smooth={value} is not allowed: give True, False, or min_cutoff,beta, e.g. 1,10") from None
    return OneEuro(low, beta)


def _check_size(pose: DriverPose, imgsz: Any) -> None:
    """Refuse a size that is not the model's: it is fixed when it is exported."""
    if imgsz is None:
        return
    height, width = pose.card.size
    asked = list(imgsz) if isinstance(imgsz, list | tuple) else [imgsz, imgsz]
    if asked != [height, width] and not pose.card.frame:
        raise DPoseError(
            f"{pose.card.path} takes {width}x{height} pixels, not imgsz={imgsz}: export it with that imgsz"
        )
