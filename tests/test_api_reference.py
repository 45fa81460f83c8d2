"""`make api`: the reference of the Python interface has what a user of it calls."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_reference_has_what_users_call(root, tmp_path):
    makefile = (root / "Makefile").read_text()
    modules = re.search(r"^API := (.*)$", makefile, re.MULTILINE)
    command = re.search(r'^\t@"\$\(BIN\)/pdoc" (.*)$', makefile, re.MULTILINE)
    assert modules and command
    names = [f"dpose_yolo.{name}" for name in modules[1].split()]
    words = command[1].replace("runs/api", str(tmp_path / "api")).replace("$(API:%=dpose_yolo.%)", " ".join(names))
    pdoc = [str(Path(sys.executable).with_name("pdoc")), *words.split()]
    done = subprocess.run(pdoc, cwd=root, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    for module, name in (
        ("engine/trainer", "DPoseTrainer"),
        ("engine/finetune", "FineTuneTrainer"),
        ("runtime", "DriverPose"),
    ):
        page = (tmp_path / "api" / "dpose_yolo" / f"{module}.html").read_text()
        assert f'<section id="{name}">' in page and f'id="{name}.__init__"' in page, name
