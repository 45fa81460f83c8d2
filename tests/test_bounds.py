"""Input that is short and stands for much, or never ends: one line within a second or two."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from stick_figures import build_dataset

from dpose_yolo.cli import run
from dpose_yolo.dataset.first_look import first_look
from dpose_yolo.engine.labels import load_labels
from dpose_yolo.errors import DPoseError


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bounds")
    build_dataset(folder, train=4, val=2, test=2)
    return folder / "data.yaml"


def check(card: Path, tmp_path: Path) -> None:
    run(["check", f"data={card}", f"project={tmp_path / 'runs'}", "images=False"])


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
WRONG: dict[str, tuple[Any, str]] = {
    "nc": ({"nc": 5}, "has nc: 5 and 1 names"),
    "huge nc": ({"nc": 2_000_000_000, "names": None}, "has 2000000000 classes"),
    "gap": ({"names": {0: "driver", 2: "guest"}}, r"have the numbers \[0, 2\]: number the classes from 0"),
    "short names": ({"kpt_names": ["nose"]}, "kpt_names of .* has 1 names"),
    "short names of a class": ({"kpt_names": {0: ["nose"]}}, "kpt_names of .* has 1 names"),
    "huge kpt_shape": ({"kpt_shape": [300_000_000, 3]}, "has kpt_shape"),
    "long name": ({"kpt_names": "long"}, "at most 100 printable characters"),
    "long class name": ({"names": {0: "x" * 300}}, "names of .* at most 100 printable characters"),
    "surrogate in a class name": ({"names": ["a\ud800"]}, "names of .* at most 100 printable characters"),
    "surrogate": ({"kpt_names": "surrogate"}, "at most 100 printable characters"),
    "sigmas": ({"kpt_oks_sigmas": [0.1]}, "kpt_oks_sigmas of the data must be"),
    "aliases": (None, r"line 2 repeats a value by an alias \(\*name\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_check_and_train_refuse_the_same_data_yamls(built, tmp_path, case):
    entries, line = WRONG[case]
    raw = yaml.safe_load(built.read_text())
    count = raw["kpt_shape"][0]
    text = BOMB
    if entries is not None:
        words = {"long": "x" * 300, "surrogate": "a\ud800"}
        entries = {
            k: [words[v], *map(str, range(1, count))] if isinstance(v, str) and v in words else v
            for k, v in entries.items()
            if v
        }
        dropped = {k for k, v in WRONG[case][0].items() if v is None}
        text = yaml.safe_dump({k: v for k, v in {**raw, **entries}.items() if k not in dropped})
    card = built.with_name("wrong.yaml")
    card.write_text(text)
    for look in (lambda: check(card, tmp_path), lambda: first_look(card, ("train", "val"))):
        start = time.monotonic()
        with pytest.raises(DPoseError, match=line) as error:
            look()
        assert "\n" not in str(error.value)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("what", ["image", "linked image", "label", "loop"])
def test_what_never_ends_is_refused(tmp_path, what):
    build_dataset(tmp_path / "set", train=4, val=2, test=2)
    card = tmp_path / "set" / "data.yaml"
    pipe = tmp_path / "set" / ("labels" if what == "label" else "images") / "train" / "pipe.jpg"
    if what == "loop":
        (pipe.parent / "a").symlink_to(pipe.parent)
        (pipe.parent / "b").symlink_to(pipe.parent)
    elif what == "label":
        pipe = sorted(pipe.parent.glob("*.txt"))[0]
        pipe.unlink()
        os.mkfifo(pipe)
    else:
        os.mkfifo(pipe if what == "image" else tmp_path / "pipe")
        if what == "linked image":
            pipe.symlink_to(tmp_path / "pipe")
    with pytest.raises(DPoseError, match=r"a pipe or a device|no regular file|own parent|[Ll]evels of symbolic"):
        load_labels(card)
    with pytest.raises(DPoseError, match=r"a pipe or a device|own parent|[Ll]evels of symbolic"):
        check(card, tmp_path)


def test_a_model_of_many_keypoints_is_refused():
    from dpose_yolo.runtime.card import _is_shape, _literal

    assert _is_shape([17, 3]) and not _is_shape([300_000_000, 3])
    assert _literal("(" * 100_000) == "(" * 100_000
