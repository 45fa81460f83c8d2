"""Memory that is kept from step to step: pages are not asked for again, and the user's own choice stands."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is glibc's")

# Blocks of 20 MB, freed and taken again: pages that the kernel had to bring, counted in a process of its own.
FAULTS = """
import resource, sys
from dpose_yolo.engine.allocator import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "keep" else None)
for n in range(12):
    b"1" * 20_000_000
    if n == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(word: str, **more: str) -> tuple[str, int]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, word], capture_output=True, text=True, timeout=120, env={**plain, **more}
    )
    assert done.returncode == 0, done.stderr
    said, count = done.stdout.split()
    return said, int(count)


def test_freed_memory_is_kept():
    given_back = {"MALLOC_TRIM_THRESHOLD_": "100000", "MALLOC_MMAP_THRESHOLD_": "100000"}
    assert faults("leave", **given_back)[1] > 10 * 1000  # the kernel's work that is saved
    said, count = faults("keep")
    assert said == "True" and count < 1000


def test_the_users_choice_stands():
    assert faults("keep", MALLOC_ARENA_MAX="2")[0] == "False"
    assert faults("keep", GLIBC_TUNABLES="glibc.malloc.arena_max=2")[0] == "False"
