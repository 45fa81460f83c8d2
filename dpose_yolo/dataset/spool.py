"""Rows that memory does not hold: a database without a name, on the disk for temporary files."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dpose_yolo.errors import DPoseError

BATCH = 500  # rows that wait in memory


class Spool:
    """Tables of one look at a data set, thousands of rows for a few megabytes of memory.

    SQLite makes the file in `SQLITE_TMPDIR`, `TMPDIR` or the system's folder for temporary files, and takes its name
    away at once: it is gone with this object, with the process, and after a kill. Sorting goes there, too.
    """

    def __init__(self, tables: str):
        """Make tables.

        Args:
            tables: SQL statements.

        Raises:
            DPoseError: when no temporary file can be made.
        """
        self._waiting: list[tuple[Any, ...]] = []
        self._insert = ""
        with _told():
            self._base = sqlite3.connect("", isolation_level=None)
            weakref.finalize(self, self._base.close)
            # one transaction that never ends: a private file needs neither a journal nor a sync
            self._base.executescript(f"PRAGMA temp_store=FILE; PRAGMA journal_mode=OFF; {tables}; BEGIN")

    def put(self, insert: str, row: tuple[Any, ...]) -> None:
        """Write a row, some time before the next `rows` or `run`.

        Args:
            insert: `INSERT` with a `?` for each value.
            row: the values; those of a 64-bit hash as `signed` gives them.
        """
        if insert != self._insert or len(self._waiting) >= BATCH:
            self._flush()
        self._insert = insert
        self._waiting.append(row)

    def _flush(self) -> None:
        if self._waiting:
            with _told():
                self._base.executemany(self._insert, self._waiting)
            self._waiting.clear()

    def run(self, statement: str, *values: Any) -> None:
        """Execute a statement."""
        self._flush()
        with _told():
            self._base.execute(statement, values)

    def rows(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Rows of a query, one at a time; other tables than those it reads may be written to meanwhile."""
        self._flush()
        with _told():
            yield from self._base.execute(query, values)

    def first(self, query: str, *values: Any) -> tuple[Any, ...] | None:
        """The first row of a query, or None."""
        self._flush()
        with _told():
            row: tuple[Any, ...] | None = self._base.execute(query, values).fetchone()
        return row


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise DPoseError(
            f"the temporary database of the check failed ({error}): set TMPDIR to a folder with free space"
        ) from error


def signed(number: int) -> int:
    """A 64-bit hash as SQLite can hold it, in the same order; two of them differ in the same bits as before."""
    return number - 2**63


def as_bytes(path: str) -> bytes:
    """A path in bytes that sort as Python sorts the text; any name of a file system has some."""
    return path.encode("utf-8", "surrogatepass")


def as_text(path: bytes) -> str:
    """The path that `as_bytes` made bytes of."""
    return path.decode("utf-8", "surrogatepass")
