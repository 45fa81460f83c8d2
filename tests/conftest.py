"""Set-up of all tests: the engine stays offline, the user's settings alone, and nothing opens a window."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

# Before anything imports ultralytics or matplotlib: both read these once, at import.
_CONFIG_DIR = tempfile.mkdtemp(prefix="dpose-tests-")
os.environ["YOLO_CONFIG_DIR"] = _CONFIG_DIR
os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ["ULTRALYTICS_SAFE_LOAD"] = "true"
os.environ["MPLBACKEND"] = "Agg"
os.environ["OMP_NUM_THREADS"] = "1"  # of trainings here and in processes of their own, which are compared to the bit

import pytest
import torch
import yaml
from engine_models import tiny_yaml
from stick_figures import build_dataset

ROOT = Path(__file__).resolve().parent.parent

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)


def pytest_unconfigure() -> None:
    shutil.rmtree(_CONFIG_DIR, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Escape what is not UTF-8 in captured output: reports of several processes are sent as UTF-8."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    if report.failed and not str(report.longrepr).isascii():
        report.longrepr = str(report.longrepr).encode("utf-8", "backslashreplace").decode()
    return report


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of pyproject.toml."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of larger data sets for experiments: $DPOSE_SHARED, or ../shared/data beside the checkout."""
    folder = Path(os.environ.get("DPOSE_SHARED", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no larger data sets: {folder} does not exist (name their folder in DPOSE_SHARED)")
    return folder


@pytest.fixture
def shared_copy(shared_data: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies one of the larger data sets, since the engine writes caches beside labels, and returns its YAML."""

    def copy(name: str) -> Path:
        target = tmp_path / "shared" / name
        shutil.copytree(shared_data / name, target, copy_function=shutil.copyfile)
        for folder in (target, *(p for p in target.rglob("*") if p.is_dir())):
            folder.chmod(0o755)
        return target / "data.yaml"

    return copy


@pytest.fixture
def mini_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Builds a tiny pose dataset below tmp_path and returns its YAML; arguments as `build_dataset`.

    `mini_dataset()` gives 24 training, 8 validation and 8 test images of 96x96 px with 17 keypoints.
    """

    def build(name: str = "mini", **options: int) -> Path:
        return build_dataset(tmp_path / name, **options)

    return build


@pytest.fixture
def model_yaml(tmp_path: Path) -> str:
    """A tiny pose model."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_yaml()))
    return str(path)


@pytest.fixture
def base(tmp_path: Path, model_yaml: str, mini_dataset) -> dict:
    """Settings of a short training on 24 drawn images."""
    return {
        "model": model_yaml,
        "data": str(mini_dataset()),
        "imgsz": 64,
        "epochs": 2,
        "batch": 8,
        "device": "cpu",
        "plots": False,
        "project": str(tmp_path / "runs"),
        "warmup_epochs": 0,
        "optimizer": "SGD",
        "lr0": 0.01,
        "verbose": False,
        "att_start": 0.0,
        "att_interval": 1,
    }
