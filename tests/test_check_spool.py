"""`dpose check` keeps its rows on disk: memory that images do not fill, nothing left behind, the order of before."""

from __future__ import annotations

import csv
import os
import random
import shutil
import sqlite3
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from stick_figures import build_dataset

from dpose_yolo.cli import run
from dpose_yolo.dataset import across, judge, scan
from dpose_yolo.dataset import check as check_module
from dpose_yolo.dataset import findings as findings_module
from dpose_yolo.dataset import spool as spool_module
from dpose_yolo.dataset.card import read_card
from dpose_yolo.dataset.check import check
from dpose_yolo.dataset.findings import Findings
from dpose_yolo.dataset.hashes import text_hash
from dpose_yolo.dataset.images import Look
from dpose_yolo.dataset.labels import Label
from dpose_yolo.dataset.mend import write_lists
from dpose_yolo.dataset.spool import BATCH, Spool, as_bytes, as_text, signed
from dpose_yolo.errors import DPoseError


def peak(folder: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Most bytes that Python and numpy hold while a set of `count` made-up images is checked and mended."""
    for part in ("train", "val"):
        (folder / "images" / part).mkdir(parents=True)
    card = folder / "data.yaml"
    card.write_text("train: images/train\nval: images/val\nnames: [driver]\nkpt_shape: [3, 3]\n")
    with (folder / "index.csv").open("w") as file:
        file.write("file,subject\n")
        file.writelines(f"{i:07d}.png,s{i % 7}\n" for i in range(count))
    row = np.array([[0, 0.5, 0.5, 0.6, 0.6, 0.3, 0.3, 2, 0.6, 0.4, 2, 0.5, 0.7, 2]])

    def images(card: Any, part: str) -> Iterator[str]:
        which = range(count * 3 // 4) if part == "train" else range(count * 3 // 4, count)
        return (str(folder / "images" / part / f"{i:07d}.png") for i in which)

    def seen(path: str) -> Look:
        """Every twentieth file has the bytes of the tenth before it; some of the second half look like the first."""
        i = int(os.path.basename(path)[:7])
        content = i - 10 * (i % 20 == 13)
        hashed = i - count // 2 * (i % 20 == 4 and i > count // 2)
        return Look(None, 64, 64, text_hash(f"c{content}"), text_hash(f"h{hashed}"))

    def label(path: str, *shape: int) -> Label:
        i = int(os.path.basename(path)[:7])
        return Label(
            row + np.sin(i + np.arange(14)) * ([0] * 5 + [0.05, 0.05, 0] * 3), [], "found" if i % 20 else "missing"
        )

    monkeypatch.setattr(scan, "part_images", images)
    monkeypatch.setattr(scan, "look", seen)
    monkeypatch.setattr(scan, "SAMPLE", 200)
    for module in (scan, judge):
        monkeypatch.setattr(module, "read_label", label)
    monkeypatch.setattr(across, "likeness", lambda first, second: 3.0)
    monkeypatch.setattr(across, "QUERIES", 64)
    monkeypatch.setattr(across, "POOL", 64)
    usual = SimpleNamespace(scores=lambda f: np.zeros(len(f)), swap_gain=lambda f: (np.zeros(len(f)), np.zeros(len(f))))
    monkeypatch.setattr(check_module, "fit_judge", lambda *_: usual)  # a fit takes what it takes, at any size
    monkeypatch.setattr(findings_module, "KEPT", 5)  # of each kind, which is reached at the smallest size
    monkeypatch.setattr(spool_module, "BATCH", 50)
    tracemalloc.start()
    with (folder / "check.csv").open("w") as file:
        findings = Findings()
        findings.write_to(file)
        checked = check(read_card(card), findings)
        _, written = write_lists(checked.card, checked.scan)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert findings.counts["near_duplicate_across"] > count // 100
    assert findings.counts["unlabelled_image"] == count // 20 and findings.counts["subject_across"] == 7
    assert findings.counts["duplicate"] > count // 25 and sum(map(sum, written.values())) == count
    return most


def test_memory_does_not_grow_with_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peak(tmp_path / "first", 600, monkeypatch)  # imports and caches
    few, many = (peak(tmp_path / str(count), count, monkeypatch) for count in (600, 2000))
    # a number of 64 bits an image would be 32 bytes in a list, and was 8 in an array, of which there were six
    assert many - few < 20 * 1400, f"{(many - few) / 1400:.0f} bytes a further image"


def test_the_database_is_small_in_memory_and_on_disk() -> None:
    spool = Spool("CREATE TABLE t (n INTEGER)")
    assert spool.first("PRAGMA temp_store") == (1,)  # files
    assert spool.first("PRAGMA database_list") == (0, "main", "")  # a private one
    (cache,), (page,) = spool.first("PRAGMA cache_size") or (0,), spool.first("PRAGMA page_size") or (0,)
    assert 0 < (-cache * 1024 if cache < 0 else cache * page) <= 2**24
    for n in range(3 * BATCH + 1):
        spool.put("INSERT INTO t VALUES (?)", (n,))
        assert len(spool._waiting) <= BATCH
    assert [n for (n,) in spool.rows("SELECT n FROM t")] == list(range(3 * BATCH + 1))


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    spool = Spool("CREATE TABLE t (n BLOB)")
    for _ in range(2000):
        spool.put("INSERT INTO t VALUES (zeroblob(?))", (5000,))
    assert spool.first("SELECT count(*) FROM t") == (2000,)
    assert list(tmp_path.iterdir()) == []  # 10 MB, but no name
    base = spool._base
    del spool
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        base.execute("SELECT 1")


def test_a_full_disk_gets_one_line() -> None:
    spool = Spool("CREATE TABLE t (n BLOB)")
    spool.run("PRAGMA max_page_count = 10")
    with pytest.raises(DPoseError, match=r"database or disk is full\): set TMPDIR") as error:
        spool.run("INSERT INTO t VALUES (zeroblob(100000))")
    assert "\n" not in str(error.value)


def test_paths_and_hashes_keep_their_order() -> None:
    names = ["a", "Z", "é", "z", "\udcff\udcc3", "\ue000", "𝄞", "ab", "", "a/b", "a.b"]
    assert [as_text(as_bytes(name)) for name in names] == names
    assert sorted(names) == sorted(names, key=as_bytes)
    numbers = [0, 1, 2**63 - 1, 2**63, 2**64 - 1, 3 << 62]
    assert sorted(numbers) == sorted(numbers, key=signed)
    spool = Spool("CREATE TABLE t (n INTEGER)")
    for number in numbers:
        spool.put("INSERT INTO t VALUES (?)", (signed(number),))
    back = np.array([n for (n,) in spool.rows("SELECT n FROM t")], np.int64).astype(np.uint64)
    distances = np.array([[bin(a ^ b).count("1") for a in numbers] for b in numbers])
    assert (np.bitwise_count(back[:, None] ^ back) == distances).all()


def test_blocks_of_pairs_find_what_one_block_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    found = scan.Scan(["train", "val", "test"], 1, 0, np.zeros((3, 0)))
    hashes = [0 if i % 7 == 0 else rng.getrandbits(12) << rng.choice((0, 52)) for i in range(400)]
    for i, number in enumerate(hashes):
        found.add(i // 150, f"{i}.png", Look(None, 9, 9, i + 1, number), -1, False)
    found.seal()

    def pairs() -> list[tuple[int, int]]:
        found.spool.run("DELETE FROM near")
        across._alike(read_card(card), found, Findings())
        return [(i, j) for i, j in found.spool.rows("SELECT i, other FROM near ORDER BY rowid")]

    card = tmp_path / "data.yaml"
    card.write_text("train: .\nnames: [a]\nkpt_shape: [1, 3]\n")
    monkeypatch.setattr(across, "likeness", lambda first, second: 9.0)
    expected = []
    for i in range(150, 400):
        bits = [bin(hashes[i] ^ hashes[j]).count("1") if hashes[j] else 99 for j in range(i // 150 * 150)]
        if hashes[i] and min(bits) <= across.NEAR_BITS:
            expected.append((i, bits.index(min(bits))))
    assert pairs() == expected and len(expected) > 100
    for sizes in ((7, 11), (1, 1000)):
        for name, size in zip(("QUERIES", "POOL"), sizes, strict=True):
            monkeypatch.setattr(across, name, size)
        assert pairs() == expected


def test_a_file_listed_twice_is_one_file(tmp_path: Path) -> None:
    build_dataset(tmp_path / "set", train=12, val=4, test=4)
    card = tmp_path / "set" / "data.yaml"
    names = [f"./images/train/train_{i:04d}.png\n" for i in range(12)]
    (tmp_path / "set" / "train.txt").write_text("".join([*names, names[5], names[6]]))
    card.write_text(yaml.safe_dump({**yaml.safe_load(card.read_text()), "train": "train.txt"}))
    copies = [("images", "png"), ("labels", "txt")]
    for kind, suffix in copies:
        shutil.copy(tmp_path / f"set/{kind}/train/train_0005.{suffix}", tmp_path / f"set/{kind}/val/copy.{suffix}")
    assert run(["check", f"data={card}", f"project={tmp_path / 'runs'}", "fix=True"]) == 0
    rows = list(csv.DictReader((tmp_path / "runs/check/check.csv").open()))
    assert [(r["kind"], r["file"]) for r in rows if "duplicate" in r["kind"]] == [
        ("duplicate_across", "images/val/copy.png")
    ]
    kept = (tmp_path / "set" / "data_checked_train.txt").read_text().splitlines(keepends=True)
    assert kept == names[:5] + names[6:]
