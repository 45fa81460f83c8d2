"""Process-wide changes to Ultralytics, each with its reason: no network, exactly the named files, nothing deleted."""

from __future__ import annotations

import functools
import glob
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from matplotlib import get_data_path, rcParams
from ultralytics import utils
from ultralytics.data import dataset as engine_dataset
from ultralytics.data import utils as data_utils
from ultralytics.data.base import BaseDataset
from ultralytics.nn.modules import block
from ultralytics.utils import checks, downloads, events, plotting
from ultralytics.utils.patches import imread


class NotDownloadedError(ConnectionError):
    """A file that is not there; Ultralytics takes a `ConnectionError` for being offline."""


def apply_patches() -> None:
    """Apply all changes of this module; calling it again does no harm."""
    open_exact_files()
    keep_images()
    keep_offline()
    say_once()
    rcParams["text.parse_math"] = False  # a class called $\foo$ ends a training in the plot of its first epoch


# Files


def open_exact_files() -> None:
    """Have Ultralytics open exactly the file it is given, and download or delete none.

    By itself it removes `'` and blanks from the paths of checkpoints, reads `%` and `?` as parts of a URL, renames some
    files, looks in other folders, then asks a public host; a damaged file with the name of published weights is
    deleted and downloaded anew. A TorchVision layer downloads its weights when it is built.
    """
    downloads.attempt_download_asset = existing_file
    downloads.safe_download = refuse_download
    downloads.GITHUB_ASSETS_NAMES = downloads.GITHUB_ASSETS_STEMS = frozenset()
    checks.clean_url = os.fspath
    _replace(checks.check_file, find_file)
    _replace(checks.check_model_file_from_stem, lambda model: model)
    for module in _loaded():  # those that hold one of them by name
        if hasattr(module, "safe_download"):
            module.safe_download = refuse_download  # type: ignore[attr-defined]
        if hasattr(module, "attempt_download_asset"):
            module.attempt_download_asset = existing_file  # type: ignore[attr-defined]
    _without_weights(block.TorchVision)


def existing_file(file: str | Path, *args: Any, **kwargs: Any) -> str:
    """The path of a file as it is given.

    Raises:
        NotDownloadedError: when there is none.
    """
    if not Path(file).exists():
        refuse_download(file)
    return str(file)


def refuse_download(url: Any = "", *args: Any, **kwargs: Any) -> NoReturn:
    """Stand in for the download of a file.

    Raises:
        NotDownloadedError: always.
    """
    raise NotDownloadedError(f"{url} is no file here, and nothing is downloaded: give the path of a file that exists")


def find_file(file: Any, suffix: Any = "", download: bool = True, download_dir: Any = ".", hard: bool = True) -> Any:
    """A file as it is given, or by its bare name one that comes with Ultralytics; [] without `hard`.

    Raises:
        FileNotFoundError: when there is none.
    """
    checks.check_suffix(file, suffix)
    text = os.fspath(file)
    if not text or os.path.exists(text):
        return text
    if os.path.basename(text) == text:
        shipped = glob.glob(str(utils.ROOT / "**" / glob.escape(text)), recursive=True)
        if len(shipped) == 1:
            return shipped[0]
    if hard:
        raise FileNotFoundError(f"{text} does not exist, and nothing is downloaded: give the path of a file")
    return []


def _without_weights(layer: type) -> None:
    """Have a TorchVision layer built with random weights where its caller names none, and refuse to download any."""
    if hasattr(layer, "_dpose"):
        return
    build = layer.__init__  # type: ignore[misc]

    @functools.wraps(build)
    def init(self: Any, model: str, weights: Any = "DEFAULT", *args: Any, **kwargs: Any) -> None:
        if weights is not None and str(weights) != "None":
            raise ValueError(
                f"the layer TorchVision {model} with weights={weights} would download them: write None in their place"
            )
        build(self, model, None, *args, **kwargs)

    layer.__init__, layer._dpose = init, True  # type: ignore[misc,attr-defined]


def _replace(function: Any, by: Any) -> None:
    """Put a function in the place of another in every module of Ultralytics that holds it."""
    for module in _loaded():
        for name, value in list(vars(module).items()):
            if value is function:
                setattr(module, name, by)


def _loaded() -> list[ModuleType]:
    return [m for name, m in list(sys.modules.items()) if name.split(".")[0] == "ultralytics" and m is not None]


def keep_images() -> None:
    """Have Ultralytics change, read and delete no file beside the images that it did not make.

    By itself it takes any `a.npy` for the cached picture of `a.jpg`, deletes it where it cannot be read and replaces
    it with `cache=disk`; and it writes a JPEG that does not end as it should anew, at another quality.
    """
    BaseDataset.npy_files = property(_image_caches, lambda self, files: None)  # type: ignore[assignment]
    data_utils._replace_image = _leave_image  # type: ignore[attr-defined]
    for verify in (data_utils.verify_image, data_utils.verify_image_label):
        if not hasattr(verify, "__wrapped__"):
            _replace(verify, _without_repair(verify))


def _image_caches(dataset: BaseDataset) -> list[Path]:
    """Names of the image caches (`cache=disk`) of a data set: hidden, and nobody else's."""
    files = dataset.__dict__.get("_image_caches")
    if files is None:
        files = [Path(f).with_name(f".{Path(f).name}.dpose.npy") for f in dataset.im_files]
        dataset.__dict__["_image_caches"] = files
    return files


def _leave_image(path: str | Path, write: Any) -> None:
    if imread(str(path)) is None:
        raise ValueError("the JPEG is cut off or damaged")


def _without_repair(verify: Any) -> Any:
    @functools.wraps(verify)
    def call(args: Any) -> Any:
        result = verify(args)
        said = "corrupt JPEG restored and saved"
        instead = "the JPEG does not end as it should; it is used as it is"
        return type(result)(v.replace(said, instead) if isinstance(v, str) else v for v in result)

    return call


def say_once() -> None:
    """Have a data set announced where its labels are read, and not again for its cache; no speed of its disk."""
    _replace(data_utils.check_file_speeds, lambda *args, **kwargs: None)
    bar = engine_dataset.TQDM
    if not hasattr(bar, "__wrapped__"):
        shown = functools.wraps(bar)(lambda rows=None, *args, **kwargs: rows is not None and bar(rows, *args, **kwargs))
        engine_dataset.TQDM = shown  # type: ignore[misc,assignment]


# Network


def keep_offline() -> None:
    """Feed Ultralytics local files where it would download unasked, unless the environment says `YOLO_OFFLINE=false`.

    It looks at that switch once, when it is first imported, which may have been before `dpose_yolo` set it; so what
    it concluded then is corrected here: no update checks, usage events, crash reports.
    """
    if os.environ.get("YOLO_OFFLINE", "").lower() not in ("1", "true", "yes", "on"):
        return
    for module in _loaded():
        if getattr(module, "ONLINE", False) is True:
            module.ONLINE = False  # type: ignore[attr-defined]
    events.events.enabled = False
    for module in (checks, plotting, data_utils):
        module.check_font = local_font  # type: ignore[attr-defined]


def local_font(font: str = "") -> Path:
    """A font that is on the machine, in place of the download of Arial."""
    return Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
