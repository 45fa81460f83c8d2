"""The notebook `docs/first_hour.ipynb` runs from top to bottom in a copy of the data, and its figures are sound."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path("docs") / "first_hour.ipynb"


def test_notebook_is_plain(root):
    """No outputs are committed: they may hold pictures, paths and names of a machine."""
    notebook = json.loads((root / NOTEBOOK).read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4 and len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    for link in _links(notebook):
        assert (root / "docs" / link).is_file(), link


def _links(notebook: dict) -> set[str]:
    import re

    text = "".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    return set(re.findall(r"\]\((\w+\.md)\)", text))


@pytest.fixture(scope="module")
def ran(root, tmp_path_factory):
    """Folder and executed notebook; the data are a copy, since the engine writes caches beside labels."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    folder = tmp_path_factory.mktemp("hour")
    shutil.copytree(root / "data" / "cabin_mini", folder / "data" / "cabin_mini")
    shutil.copy(root / "data" / "cabin_mini.yaml", folder / "data")
    (folder / "docs").mkdir()
    notebook = nbformat.read(root / NOTEBOOK, as_version=4)
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "PATH")}
    # the package under test, where another checkout is installed too
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [before["PYTHONPATH"]])])
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before["PATH"] or ""])
    client = nbclient.NotebookClient(
        notebook, timeout=1800, kernel_name="python3", resources={"metadata": {"path": str(folder / "docs")}}
    )
    try:
        client.execute()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    return folder / "runs" / "first_hour", notebook


def _said(notebook, word: str) -> str:
    """Everything that the first cell with a word in its source printed."""
    cell = next(c for c in notebook.cells if c.cell_type == "code" and word in c.source)
    return "".join(output.get("text", "") for output in cell.outputs)


@pytest.mark.slow
def test_notebook_runs_and_its_figures_are_sound(ran):
    out, notebook = ran
    clusters = list(csv.DictReader((out / "clusters" / "clusters.csv").open()))
    assert len(clusters) == 12 and sum(int(row["poses"]) for row in clusters) == 640
    # The balance: the rarest cluster is drawn far more often than it occurs, the commonest less.
    draws = [row for row in csv.DictReader((out / "dpose" / "posture_draws.csv").open()) if row["epoch"] == "1"]
    natural, effective = ([float(row[name]) for row in draws] for name in ("natural", "effective"))
    assert len(draws) == 12 and sum(natural) == pytest.approx(1, abs=0.01)
    assert max(effective) - min(effective) < 0.7 * (max(natural) - min(natural)) and min(effective) > min(natural)
    assert not (out / "plain" / "posture_draws.csv").exists()
    metrics = json.loads((out / "val" / "metrics.json").read_text())
    assert metrics["split"] == "test" and metrics["images"] == 168
    assert 0 <= metrics["AP"] <= metrics["AP50"] <= 1 and 0 <= metrics["AR"] <= 1
    assert f"AP {metrics['AP']:.3f} on 168 images" in _said(notebook, "metrics = json.loads")
    parity = json.loads((out / "dpose" / "weights" / "best.onnx.parity.json").read_text())
    assert parity["passed"] and parity["images"] == 40
    assert 0 <= parity["pixels_max"] <= 0.05 and abs(parity["AP_pytorch"] - parity["AP_exported"]) <= 0.001
    for sheet in ("drive_two_hands", "stretch_up", "wave_left"):
        assert (out / "cam" / f"{sheet}.png").stat().st_size > 5_000
    frames = list(csv.DictReader((out / "predict" / "poses.csv").open()))
    assert len(frames) == 3
    said = _said(notebook, "DriverPose(")
    assert said.count("\n") == 3 and all(name in said for name in ("drive_two_hands", "stretch_up", "wave_left"))
