"""`dpose cam`: attention maps of single images (paper Fig. 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpose_yolo.commands.common import images_of, output_folder, refuse_foreign
from dpose_yolo.commands.usage import require, whole
from dpose_yolo.errors import DPoseError
from dpose_yolo.settings import specification


def main(settings: dict[str, Any]) -> None:
    """Write one overlay sheet an image."""
    own = ("model", "source", "keypoints", "imgsz", "limit", "project", "name", "exist_ok", "att_layers", "att_target")
    refuse_foreign(settings, own, "cam")
    path = require(settings, "model", "cam")
    source = require(settings, "source", "cam")
    spec = specification()
    layers = spec["att_layers"].check(settings.get("att_layers", "auto"))
    target = spec["att_target"].check(settings.get("att_target", "logit"))
    from dpose_yolo.engine.compat import require_engine

    require_engine()
    from dpose_yolo.engine.explain import explain, load_pose_model, model_keypoint_names
    from dpose_yolo.images import read_image
    from dpose_yolo.report.overlays import save_overlays

    model = load_pose_model(str(path))
    keypoints = _keypoints(settings.get("keypoints", "left_wrist,right_wrist"), model_keypoint_names(model))
    images = images_of(source, whole(settings, "limit", 16))
    imgsz = whole(settings, "imgsz", 640)
    names = overlay_names(images)
    folder = None
    for file, name in zip(images, names, strict=True):
        image = read_image(file)
        found = explain(model, image, keypoints, imgsz, layers, target == "logit")
        folder = folder or output_folder(settings, "cam")
        save_overlays(
            image, found.maps, found.points, folder / f"{name}.png", title=f"{file.name}  driver {found.score:.2f}"
        )
    print(f"{len(images)} overlay{'s' * (len(images) != 1)} in {folder}")


def overlay_names(images: list[Path]) -> list[str]:
    """A name for each overlay: the image's own, with as many of its folders as tell images of one name apart."""
    depth = 1
    names = [f.stem for f in images]
    while len(set(names)) < len(names) and depth < 20:
        depth += 1
        names = ["_".join([*f.parts[-depth:-1], f.stem]) for f in images]
    return [n if names.count(n) == 1 else f"{n}_{i}" for i, n in enumerate(names)]


def _keypoints(wanted: Any, names: list[str]) -> list[int]:
    """Indices of keypoints given by name or number, comma-separated or as a list; `all` is every one."""
    if wanted == "all":
        return list(range(len(names)))
    words = wanted if isinstance(wanted, list) else str(wanted).split(",")
    found = []
    for word in (str(w).strip() for w in words):
        if word in names:
            found.append(names.index(word))
        elif word.isdigit() and int(word) < len(names):
            found.append(int(word))
        else:
            import difflib

            near = difflib.get_close_matches(word, names, n=1)
            raise DPoseError(
                f"no keypoint {word!r}: "
                + (f"did you mean {near[0]}?" if near else f"the model has {', '.join(names)}")
            )
    return found
