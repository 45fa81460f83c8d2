"""Small trees of the layouts that `dpose prepare` reads, with real videos and known cameras and points."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZE = (320, 256)  # of the test videos; calibrations say four times as much, as if the videos had been shrunk
CALIBRATED = (1280, 1024)
FPS = 30.0
START = 1527598967.0  # of the first frame, seconds

# joint: place in the frame of ids_1 (metres, x right, y down, z away), as in the real CSVs' order of columns
BODY = {
    "nose": (0.0, -0.35, 1.5), "lElbow": (0.3, 0.1, 1.4), "lWrist": (0.2, 0.2, 1.2), "rHeel": (0, 0, 0),
    "rHip": (-0.15, 0.35, 1.7), "rSmallToe": (0, 0, 0), "neck": (0.0, -0.15, 1.6), "lSmallToe": (0, 0, 0),
    "rWrist": (-0.2, 0.2, 1.2), "rAnkle": (0, 0, 0), "lHip": (0.15, 0.35, 1.7), "lHeel": (0, 0, 0),
    "lKnee": (0.2, 0.9, 1.3), "lEye": (0.03, -0.38, 1.5), "midHip": (0.0, 0.35, 1.7), "background": (0, 0, 0),
    "lEar": (0.07, -0.36, 1.57), "rElbow": (-0.3, 0.1, 1.4), "rShoulder": (-0.18, -0.13, 1.6),
    "rKnee": (-0.2, 0.9, 1.3),
    "lShoulder": (0.18, -0.13, 1.6), "lBigToe": (0, 0, 0), "rEye": (-0.03, -0.38, 1.5), "rEar": (-0.07, -0.36, 1.57),
    "rBigToe": (0, 0, 0), "lAnkle": (0, 0, 0),
}  # fmt: skip
PAIRS = ("Eye", "Ear", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")
COCO_JOINTS = ["nose", *(f"{side}{part}" for part in PAIRS for side in "lr")]
CAMERAS: dict[str, dict[str, Any]] = {
    "ids_1": {
        "folder": "inner_mirror",
        "f": (900.0, 905.0),
        "c": (640.0, 500.0),
        "d": (-0.2, 0.05, 1e-3, -5e-4, -0.004),
    },
    "ids_2": {
        "folder": "a_column_co_driver",
        "f": (880.0, 882.0),
        "c": (630.0, 520.0),
        "d": (-0.25, 0.08, 0, 1e-3, -0.01),
    },
}
# where ids_2 stands: x_2 = R x + t, R by 0.6 rad about y
TURN = 0.6
ROTATION = np.array([[np.cos(TURN), 0, np.sin(TURN)], [0, 1, 0], [-np.sin(TURN), 0, np.cos(TURN)]])
TRANSLATION = np.array([-0.75, 0.05, 0.35])


def body(i: int) -> dict[str, np.ndarray]:
    """Joints of a driver at moment i: an arm swings, the rest sways; absent joints stay at zero."""
    sway = np.array([0.02 * np.sin(i / 7), 0.01 * np.cos(i / 5), 0.02 * np.sin(i / 11)])
    points = {name: np.array(place, float) for name, place in BODY.items()}
    out = {name: place + sway if place.any() else place for name, place in points.items()}
    angle = 2 * np.pi * i / 40
    out["rWrist"] = out["rElbow"] + 0.28 * np.array([np.cos(angle) * 0.4, np.sin(angle) * 0.8, -0.45])
    return out


def by_hand(
    point: np.ndarray, camera: str, rotation: np.ndarray | None = None, move: np.ndarray | None = None
) -> np.ndarray:
    """Pixels of a point, with the textbook's formula of Brown and Conrady, without OpenCV."""
    x, y, z = (np.eye(3) if rotation is None else rotation) @ point + (0 if move is None else move)
    a, b = x / z, y / z
    k1, k2, p1, p2, k3 = CAMERAS[camera]["d"]
    r2 = a * a + b * b
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    u = a * radial + 2 * p1 * a * b + p2 * (r2 + 2 * a * a)
    v = b * radial + p1 * (r2 + 2 * b * b) + 2 * p2 * a * b
    (fx, fy), (cx, cy) = CAMERAS[camera]["f"], CAMERAS[camera]["c"]
    return np.array([fx * u + cx, fy * v + cy])


def picture(i: int, size: tuple[int, int] = SIZE, seed: int = 0) -> np.ndarray:
    """A grey picture in which frame i can be told by 8 black or white fields."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(60, 190, (8, 10), np.uint8), size, interpolation=cv2.INTER_CUBIC)
    width, height = size
    cv2.circle(
        image,
        (int(width * (0.5 + 0.3 * np.cos(i / 6))), int(height * (0.6 + 0.2 * np.sin(i / 6)))),
        height // 8,
        230,
        -1,
    )
    for bit in range(8):
        image[: height // 8, bit * width // 8 : (bit + 1) * width // 8] = 255 if i >> bit & 1 else 0
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)


def number_in(image: np.ndarray) -> int:
    """The frame number that `picture` wrote."""
    height, width = image.shape[:2]
    fields = [image[height // 16, int((bit + 0.5) * width / 8)].mean() > 127 for bit in range(8)]
    return sum(1 << bit for bit, on in enumerate(fields) if on)


def write_video(path: Path, count: int, size: tuple[int, int] = SIZE, seed: int = 0, still: int = 1) -> Path:
    """An mp4 of `picture`s; each stands still for so many frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), FPS, size)
    assert writer.isOpened()
    for i in range(count):
        writer.write(picture(i // still, size, seed))
    writer.release()
    return path


def calibration(camera: str, inverse: bool = False) -> dict[str, Any]:
    """Calibration JSON of a camera; `inverse` writes the extrinsics of ids_2 the other way round."""
    given = CAMERAS[camera]
    angle, move = (0.0, np.zeros(3)) if camera == "ids_1" else (TURN, TRANSLATION)
    if inverse and camera != "ids_1":  # x = R' x_2 - R' t
        angle, move = -TURN, -ROTATION.T @ TRANSLATION
    quaternion = (np.cos(angle / 2), 0.0, np.sin(angle / 2), 0.0)
    return {
        "intrinsics": {
            "focallength": dict(zip(("fx", "fy"), given["f"], strict=True)),
            "principal_point": dict(zip(("cx", "cy"), given["c"], strict=True)),
            "distortion": dict(zip(("k1", "k2", "p1", "p2", "k3"), given["d"], strict=True)),
            "img_size": {"width": CALIBRATED[0], "height": CALIBRATED[1]},
        },
        "extrinsics": {
            "rotation": dict(zip("wxyz", quaternion, strict=True)),
            "translation": dict(zip("xyz", map(float, move), strict=True)),
        },
    }


def times_of(camera: str, count: int) -> np.ndarray:
    """Seconds of a camera's frames: ids_2 started four frames earlier, and runs 3 ms behind."""
    return START + (np.arange(count) - (4 if camera == "ids_2" else 0)) / FPS + (0.003 if camera == "ids_2" else 0)


def drive_act(
    root: Path,
    subjects: tuple[str, ...] = ("vp1", "vp2", "vp5"),
    frames: int = 90,
    inverse: bool = False,
    percent: bool = True,
    preamble: str = "",
    activities: str = "iccv_activities_3s/activities_3s",
    unit: float = 1.0,
) -> Path:
    """A tree like the download's, with both cameras of `CAMERAS`.

    Pose i belongs to frame i of ids_1 and lies nearest to frame i + 4 of ids_2. Every tenth pose is a row of zeros.
    """
    for n, subject in enumerate(subjects):
        run = f"run1b_2018-05-29-14-02-{n:02d}"
        for camera, given in CAMERAS.items():
            stem = root / given["folder"] / subject / f"{run}.{camera}"
            count = frames if camera == "ids_1" else frames + 4
            write_video(stem.with_name(f"{stem.name}.mp4"), count, seed=n)
            stem.with_name(f"{stem.name}.calibration.json").write_text(json.dumps(calibration(camera, inverse)))
            if camera != "ids_1":
                lines = "".join(f"{t / unit:.6f}\n" for t in times_of(camera, count))
                stem.with_name(f"{stem.name}.timestamps").write_text(lines)
        poses = root / "openpose_3d" / subject / f"{run}.ids_1.openpose.3d.csv"
        poses.parent.mkdir(parents=True, exist_ok=True)
        with poses.open("w", newline="") as file:
            file.write(preamble)
            writer = csv.writer(file)
            writer.writerow(["frame_id", "timestamp", *(f"{joint}_{axis}" for joint in BODY for axis in "xyzp")])
            for i, time in enumerate(times_of("ids_1", frames)):
                row: list[float] = []
                for joint, place in body(i).items():
                    confidence = 0.0 if not place.any() else 0.3 if joint == "lEar" else 0.9
                    if i % 10 == 9:
                        place, confidence = np.zeros(3), 0.0
                    row += [*(float(v) for v in place), confidence * (100 if percent else 1)]
                writer.writerow([i, f"{time / unit:.6f}", *row])
    write_activities(root / activities, subjects, frames)
    return root


def write_activities(folder: Path, subjects: tuple[str, ...], frames: int) -> None:
    """Tables of ids_1: `opening` in the first third, `eating` in the second, nothing behind; and three splits."""
    parts = {0: {"vp5": "test"}, 1: {"vp1": "test", "vp2": "val"}, 2: {"vp2": "test"}}
    tables: dict[str, list[list[Any]]] = {"midlevel.chunks_90.csv": []}
    for n, subject in enumerate(subjects):
        third = frames // 3
        rows = [
            [subject[2:], f"{subject}/run1b_2018-05-29-14-02-{n:02d}.ids_1", 0, 0, third - 1, "opening", 0],
            [subject[2:], f"{subject}/run1b_2018-05-29-14-02-{n:02d}.ids_1", 1, third, 2 * third - 1, "eating", 0],
        ]
        tables["midlevel.chunks_90.csv"] += rows
        for split, of in parts.items():
            name = f"midlevel.chunks_90.split_{split}.{of.get(subject, 'train')}.csv"
            tables.setdefault(name, []).extend(rows)
    place = folder / "inner_mirror"
    place.mkdir(parents=True)
    for name, rows in tables.items():
        with (place / name).open("w", newline="") as file:
            head = ["participant_id", "file_id", "annotation_id", "frame_start", "frame_end", "activity", "chunk_id"]
            csv.writer(file).writerows([head, *rows])


def coco_json(folder: Path) -> dict[str, Any]:
    """A COCO keypoint JSON of a YOLO-pose part: `folder` is images/<part>."""
    images, annotations = [], []
    for number, file in enumerate(sorted(folder.iterdir())):
        height, width = cv2.imread(str(file)).shape[:2]
        images.append({"id": number, "file_name": file.name, "width": width, "height": height})
        label = folder.parent.parent / "labels" / folder.name / f"{file.stem}.txt"
        for line in label.read_text().splitlines() if label.exists() else []:
            row = np.array(line.split(), float)
            cx, cy, w, h = row[1:5] * (width, height, width, height)
            points = row[5:].reshape(-1, 3) * (width, height, 1)
            annotations.append(
                {
                    "id": len(annotations), "image_id": number, "category_id": 1, "iscrowd": 0,
                    "bbox": [cx - w / 2, cy - h / 2, w, h], "keypoints": points.ravel().tolist(),
                    "num_keypoints": int((points[:, 2] > 0).sum()),
                }
            )  # fmt: skip
    return {"images": images, "annotations": annotations, "categories": [person()]}


def person(names: list[str] | None = None, skeleton: list[list[int]] | None = None) -> dict[str, Any]:
    """A category with keypoints; COCO's unless named."""
    from dpose_yolo.keypoints import COCO_NAMES

    return {"id": 1, "name": "person", "keypoints": names or list(COCO_NAMES), "skeleton": skeleton or [[1, 2]]}


def tree_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def index_of(folder: Path) -> list[dict[str, str]]:
    """Rows of a set's index."""
    with (folder / "index.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def labels_of(folder: Path, file: str) -> np.ndarray:
    """Rows of the label of an image, by its name in the index."""
    path = folder / file.replace("images/", "labels/", 1)
    return np.array([line.split() for line in path.with_suffix(".txt").read_text().splitlines()], float)


def problems(folder: Path) -> list[dict[str, str]]:
    """What `dpose check` finds that is an error."""
    from dpose_yolo.cli import run

    out = folder.parent / f"checked-{folder.name}"
    assert run(["check", f"data={folder / 'data.yaml'}", f"project={out}", "exist_ok=True", "images=False"]) == 0
    with (out / "check" / "check.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["level"] == "error"]
