"""What new users of `dpose finetune` do wrong (docs/mistakes.md): one clear line, and nothing is left behind."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from mistake_cases import FINETUNE_MISTAKES, copy_sample, write_models
from test_mistakes import contents

from dpose_yolo import cli


@pytest.fixture(scope="module")
def clean(tmp_path_factory, root) -> Path:
    """The small copy, and models beside it."""
    folder = tmp_path_factory.mktemp("clean") / "clean"
    folder.mkdir()
    copy_sample(root, folder)
    write_models(folder)
    return folder


@pytest.mark.parametrize("name", FINETUNE_MISTAKES)
def test_mistake_ends_in_one_clear_line(name, clean, tmp_path, monkeypatch, capfd):
    spoil, words, said = FINETUNE_MISTAKES[name]
    folder = tmp_path / "set"
    shutil.copytree(clean, folder)
    spoil(folder)
    before = contents(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["dpose", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capfd.readouterr()
    assert end.value.code == 1
    (line,) = err.splitlines()
    assert line.startswith("dpose: error: ") and len(line) < 900
    for part in said:
        assert part in line
    assert "Traceback" not in out and "Error:" not in line and "DPOSE_DEBUG" not in line
    assert contents(folder) == before
