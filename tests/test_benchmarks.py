"""The commands behind docs/benchmarks.md still fit the project that they measure."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"

IMPORT_ALL = """
import importlib, pathlib, sys
sys.path.insert(0, sys.argv[1])
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.py")):
    importlib.import_module(path.stem)
    print(path.stem)
"""


def test_every_benchmark_can_be_imported():
    """In a process of its own: some set the environment before the engine is imported."""
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL, str(FOLDER)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    names = {path.stem for path in FOLDER.glob("*.py")}
    assert len(names) > 8 and set(done.stdout.split()) >= names
