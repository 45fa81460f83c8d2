"""Label caches of the engine: those that it writes are used, anything else is left aside and never executed."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ultralytics.data import dataset as engine_dataset
from ultralytics.data import utils as engine_utils
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils import LOGGER

from dpose_yolo import arrays
from dpose_yolo.cli import run
from dpose_yolo.engine.caches import load_label_cache, save_label_cache
from dpose_yolo.engine.labels import load_labels
from dpose_yolo.engine.models import engine_model
from dpose_yolo.engine.trainer import DPoseTrainer
from dpose_yolo.errors import DPoseError
from dpose_yolo.export.calibration import calibration_images
from dpose_yolo.posture.mixture_file import read_state, write_state
from dpose_yolo.study.steps import build


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@contextmanager
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """Warnings of the engine's logger, which hands nothing on."""
    LOGGER.addHandler(caplog.handler)
    try:
        yield lambda: [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    finally:
        LOGGER.removeHandler(caplog.handler)


def plain(labels: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"labels": labels or [], "hash": "", "version": "", "results": (0,) * 5, "msgs": [], **more}


def in_array(value: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, value, allow_pickle=True)
    return file.getvalue()


def bytes_as_pointers(marker: Path) -> bytes:
    """An array of objects whose kind says that its content is bytes: numpy would take them for addresses."""

    class Kind:
        def __reduce__(self) -> Any:
            return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)

    class Cells:
        def __reduce__(self) -> Any:
            return np.zeros(1).__reduce__()[0], (np.ndarray, (0,), b"b"), (1, (1,), Kind(), False, b"\x08" * 8)

    return in_array(plain([{"cls": Cells()}]))


BAD: dict[str, Callable[[Path], bytes]] = {
    "whole cache": lambda marker: in_array(Hostile(marker)),
    "bare pickle": lambda marker: pickle.dumps(Hostile(marker)),
    "in a label": lambda marker: in_array(plain([{"cls": Hostile(marker)}])),
    "in an array": lambda marker: in_array(plain([{"cls": np.array([Hostile(marker)], object)}])),
    "beside the labels": lambda marker: in_array(plain(more=Hostile(marker))),
    "bytes as pointers": bytes_as_pointers,
    "a name of this project": lambda marker: in_array(plain(more=DPoseTrainer)),
    "a numpy function": lambda marker: in_array(plain(more=np.load)),
    "fields": lambda marker: in_array(plain([{"cls": np.zeros(2, [("a", "f4")])}])),
    "objects in an array": lambda marker: in_array(plain([{"cls": np.array([None, {}], object)}])),
    "a list in a list": lambda marker: in_array(plain([{"segments": [[1]]}])),
    "no labels": lambda marker: in_array({"hash": ""}),
    "parts missing": lambda marker: in_array({"labels": []}),
    "numbers": lambda marker: in_array(np.zeros(3)),
    "cut off": lambda marker: in_array(plain([{"cls": np.zeros((9, 9))}]))[:-100],
    "empty": lambda marker: b"",
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_plain_is_refused_with_one_line(
    tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    file, marker = tmp_path / "train.cache", tmp_path / "ran"
    file.write_bytes(BAD[case](marker))
    with warnings(caplog) as told, pytest.raises(Exception):  # noqa: B017 - the engine catches any
        load_label_cache(file)
    assert not marker.exists()
    assert len(told()) == 1 and f" {file} is not a plain label cache (" in told()[0]
    assert "\n" not in told()[0]


@pytest.mark.parametrize("case", ["whole cache", "bare pickle", "in a label", "in an array", "beside the labels"])
def test_the_engine_itself_would_execute_it(tmp_path: Path, case: str) -> None:
    (tmp_path / "train.cache").write_bytes(BAD[case](tmp_path / "ran"))
    with suppress(AttributeError):  # what a made folder leaves is no cache
        np.load(tmp_path / "train.cache", allow_pickle=True).item()
    assert (tmp_path / "ran").is_dir()


def pose_label(name: str, persons: int) -> dict[str, Any]:
    rng = np.random.default_rng(persons)
    sizes = {"cls": (persons, 1), "bboxes": (persons, 4), "keypoints": (persons, 5, 3)}
    arrays = {key: rng.random(size, np.float32) for key, size in sizes.items()}
    return {"im_file": name, "shape": (30, 40), "segments": [], "normalized": True, "bbox_format": "xywh", **arrays}


def test_values_come_back_as_they_were(tmp_path: Path) -> None:
    cache = plain([pose_label("é", 2), pose_label("b\udcff.jpg", 0), pose_label("c", 1)], msgs=["a", "b"])
    save_label_cache("", tmp_path / "a.cache", cache, "1")
    again = load_label_cache(tmp_path / "a.cache")
    assert again.keys() == cache.keys() and again["msgs"] == ["a", "b"] and again["results"] == (0,) * 5
    for one, other in zip(again["labels"], cache["labels"], strict=True):
        assert one.keys() == other.keys()
        for key, value in other.items():
            assert type(one[key]) is type(value) and np.array_equal(one[key], value), key
        assert one["cls"].flags.writeable and one["cls"].dtype == np.float32
    with pytest.raises(FileNotFoundError):
        load_label_cache(tmp_path / "b.cache")


def broken_archives(good: bytes) -> dict[str, bytes]:
    """A file of `np.savez`, damaged in ways of which each decoder raises something else."""
    huge = io.BytesIO()
    with zipfile.ZipFile(huge, "w", zipfile.ZIP_DEFLATED) as archive:
        header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 9), }"
        archive.writestr("about.npy", header.ljust(127) + b"\n")
        archive.writestr("counts.npy", b"\0" * (1 << 21))
    flipped = bytearray(good or b"0")
    flipped[len(good) // 3] ^= 0xFF
    directory = b"PK\x01\x02\x2d\x03\x2d" + bytes(5)
    return {
        "cut": good[: len(good) // 2],
        "flipped": bytes(flipped),
        "huge": huge.getvalue(),
        "method": good.replace(directory, directory[:-2] + b"\x63\x00"),
        "memo": b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117)
        + b"\n\x80\x04Nr\x11\x11\x11\x11.",
    }  # fmt: skip


def test_damaged_caches_are_made_again(mini_dataset, caplog, monkeypatch) -> None:
    """Label and posture caches beside the labels; 137 bytes took 4.6 GB, a bad deflate stopped a training."""
    monkeypatch.setattr(arrays, "MOST_DEFLATED", 1 << 20)
    data = mini_dataset(train=6, val=4, test=4)
    folder = data.parent / "labels"
    load_labels(data)
    write_state(folder / "train.postures.npz", {"key": "k"}, {"weights": np.full(200, 0.5)})
    good = {file: file.read_bytes() for file in (folder / "train.cache", folder / "train.postures.npz")}
    for case in broken_archives(b""):
        for file, content in good.items():
            file.write_bytes(broken_archives(content)[case])
        caplog.clear()
        with warnings(caplog) as told:
            assert len(load_labels(data)[0]) == 6, case
        assert len(told()) == 1 and "is not a plain label cache (" in told()[0], case
        assert len(load_label_cache(folder / "train.cache")["labels"]) == 6, case
        with pytest.raises(DPoseError, match="delete it and fit again"):
            read_state(folder / "train.postures.npz")


def test_a_cache_cannot_add_images(mini_dataset, tmp_path: Path, caplog) -> None:
    data = mini_dataset(train=6, val=4, test=4)
    load_labels(data)
    file = data.parent / "labels" / "train.cache"
    cache = load_label_cache(file)
    cache["labels"].append({**cache["labels"][0], "im_file": str(tmp_path / "secret.jpg")})
    save_label_cache("", file, cache, cache["version"])
    with warnings(caplog) as told:
        labels = load_labels(data)[0]
    assert len(labels) == 6 and "names images that are not of this part, e.g." in told()[0]


@pytest.mark.parametrize("missing", ["-1 -1", "0 0"])
def test_points_without_flags_may_be_missing(mini_dataset, missing: str) -> None:
    """`kpt_shape: [K, 2]`: training, evaluation and check agree on which points are labelled."""
    from dpose_yolo.dataset.card import read_card
    from dpose_yolo.dataset.findings import Findings
    from dpose_yolo.dataset.scan import scan
    from dpose_yolo.evaluation.data import load_part

    data = mini_dataset(train=6, val=4, test=4)
    count = read_card(data).count
    for file in (data.parent / "labels").rglob("*.txt"):
        rows = [line.split() for line in file.read_text().splitlines()]
        points = [[" ".join(r[i : i + 2]) for i in range(5, len(r), 3)] for r in rows]
        lines = [" ".join([*r[:5], missing, *p[1:]]) for r, p in zip(rows, points, strict=True)]
        file.write_text("".join(f"{line}\n" for line in lines))
    data.write_text(yaml.safe_dump({**yaml.safe_load(data.read_text()), "kpt_shape": [count, 2]}))
    keypoints = np.concatenate([label["keypoints"] for label in load_labels(data)[0]])
    assert not keypoints[:, 0].any() and (keypoints[:, 1:, 2] > 0).mean() > 0.5
    card, findings = read_card(data), Findings()
    found = scan(card, ["train"], findings)
    assert found.labelled[0][0] == 0 and (found.labelled[0] == (keypoints[..., 2] > 0).sum(0)).all()
    assert not findings.of_level("error")
    assert (load_part(data, "train").truth.keypoints[:, 0, 2] == 0).all()


def test_a_cache_of_the_engine_is_used(mini_dataset, monkeypatch, caplog) -> None:
    data = mini_dataset(train=6, val=4, test=4)
    first = load_labels(data)[0]
    assert (data.parent / "labels" / "train.cache").is_file()

    def scanned(*_: Any) -> None:
        raise AssertionError("the labels were read again")

    monkeypatch.setattr(YOLODataset, "cache_labels", scanned)
    with warnings(caplog) as told:
        second = load_labels(data)[0]
    assert told() == []
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys() and one["im_file"] == other["im_file"]
        assert all(np.array_equal(one[k], other[k]) for k in ("cls", "bboxes", "keypoints"))


def test_training_evaluation_and_calibration_execute_nothing(base: dict, tmp_path: Path, caplog) -> None:
    folder, marker = Path(base["data"]).parent / "labels", tmp_path / "ran"

    def lay() -> list[Path]:
        files = [folder / f"{part}.cache" for part in ("train", "val", "test")]
        for file in files:
            file.write_bytes(in_array(Hostile(marker)))
        return files

    def made_again(*files: Path) -> None:
        assert not marker.exists()
        for file in files:
            assert len(load_label_cache(file)["labels"]) in (24, 8)

    train, val, _ = lay()
    with warnings(caplog) as told:
        trainer = DPoseTrainer(base, epochs=1, clusters=2)
        trainer.train()
    assert sum("is not a plain label cache (" in line for line in told()) == 2
    made_again(train, val)
    train, val, test = lay()
    words = [
        f"model={trainer.best}",
        f"data={base['data']}",
        "device=cpu",
        f"project={tmp_path / 'runs'}",
    ]
    assert run(["val", *words, "split=test", "bootstrap=20", "imgsz=64"]) == 0
    made_again(test)
    train, _, _ = lay()
    assert len(calibration_images(base["data"], 4, "random")[0]) == 4
    made_again(train)


def test_ways_to_the_engine_set_the_guard(base: dict, model_yaml: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ways = {
        "a model by its file": lambda: engine_model(model_yaml),
        "the engine's own trainer": lambda: build({k: base[k] for k in ("model", "data", "project")}, plain=True),
    }
    for way in ways.values():
        for module in (engine_dataset, engine_utils):
            monkeypatch.setattr(module, "load_dataset_cache_file", lambda path: pytest.fail("loads any pickle"))
        way()
        assert engine_dataset.load_dataset_cache_file is engine_utils.load_dataset_cache_file is load_label_cache
