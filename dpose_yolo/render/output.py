"""The folder of a rendered set: a YOLO-pose set as `dpose prepare` writes it, with index.csv and CREDITS.txt."""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np

from dpose_yolo.errors import DPoseError
from dpose_yolo.prepare.card import COCO_17
from dpose_yolo.prepare.output import Output
from dpose_yolo.prepare.plan import Frames, Plan
from dpose_yolo.render.plan import ScenePlan
from dpose_yolo.render.scene import Sample

ABOUT = ("posture", "camera", "body", "interior", "light", "side")  # of `Sample.about`
COLUMNS = ("file", *ABOUT, "wanted", "seed", "split")
CREDITS = "CREDITS.txt"


class RenderedOutput(Output):
    """A folder that is being filled with renders.

    Every image is put in its place in one step, `data.yaml` last of all. Finished jobs are recorded, so that the same
    command goes on after an interruption.
    """

    folder = ".render"
    record_name = "render.json"
    columns = COLUMNS

    def put_sample(self, i: int, part: str, wanted: str, seed: int, sample: Sample, quality: int) -> dict[str, str]:
        """Write image and label of a render.

        Args:
            i: number of the image, which names its files.
            part: train or val.
            wanted: what it was rendered for.
            seed: of its scene.
            sample: the render.
            quality: of the JPEG file.

        Returns:
            Its line of the index.
        """
        stem = f"{i:06d}"
        good, data = cv2.imencode(".jpg", sample.image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not good:
            raise DPoseError(f"image {i} cannot be written as JPEG: its size is {sample.image.shape}")
        self.put(self.dst / "labels" / part / f"{stem}.txt", label_row(sample).encode())
        self.put(self.dst / "images" / part / f"{stem}.jpg", data.tobytes())
        about = {name: _plain(sample.about.get(name, "")) for name in ABOUT}
        return {"file": f"images/{part}/{stem}.jpg", **about, "wanted": wanted, "seed": str(seed), "split": part}

    def finish_job(self, number: int, rows: list[dict[str, str]], items: dict[str, str]) -> None:
        """Record a finished job: its lines of the index, and the licence of each item that its images show."""
        content = {"rows": rows, "lost": [], "items": items}
        self.put(self.work / "jobs" / f"{number}.json", json.dumps(content, ensure_ascii=False).encode())

    def finish_set(self, plan: ScenePlan, said: list[str]) -> dict[str, Any]:
        """Write credits, index, record and, last, the data YAML.

        Args:
            plan: what was rendered.
            said: how it was decided, for the record.

        Returns:
            The record.
        """
        items: dict[str, str] = {}
        jobs = len(plan.jobs())
        for number in range(jobs):
            items |= json.loads((self.work / "jobs" / f"{number}.json").read_text(encoding="utf-8"))["items"]
        self.put(self.dst / CREDITS, credits_text(items).encode())
        comment = [f"Rendered drivers (dpose render). Scene of each image: index.csv; licences: {CREDITS}."]
        return self.complete(Plan([Frames(self.dst, [])] * jobs, COCO_17, comment, said))


def label_row(sample: Sample) -> str:
    """A YOLO-pose label: class, box and keypoints in shares of the image.

    The box is cut at the edge of the image; a keypoint outside the image is unlabelled.

    Raises:
        DPoseError: for a sample whose driver is not in the image.
    """
    height, width = sample.image.shape[:2]
    box = np.clip(np.asarray(sample.box, np.float64) / (width, height, width, height), 0, 1)
    sides = box[2:] - box[:2]
    points = np.asarray(sample.keypoints, np.float64)
    if points.shape != (17, 3) or not np.isfinite(points).all() or not (sides > 0).all():
        posture, camera = (sample.about.get(k, "?") for k in ("posture", "camera"))
        raise DPoseError(f"posture {posture} cannot be seen by camera {camera}: choose another posture or camera")
    words = ["0", *(f"{v:.6f}" for v in (*(box[:2] + box[2:]) / 2, *sides))]
    for x, y, v in points:
        x, y = x / width, y / height
        inside = v > 0 and 0 <= x <= 1 and 0 <= y <= 1
        words += [f"{x:.6f}", f"{y:.6f}", str(int(v))] if inside else ["0", "0", "0"]
    return " ".join(words) + "\n"


def credits_text(items: dict[str, str]) -> str:
    """Content of CREDITS.txt: the items by licence."""
    lines = ["Items shown in these images, by licence.", ""]
    for licence in sorted(set(items.values())):
        lines += [licence, *(f"  {item}" for item in sorted(items) if items[item] == licence), ""]
    return "\n".join(lines)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
