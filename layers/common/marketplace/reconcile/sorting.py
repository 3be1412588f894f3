"""Sorting more than fits into memory: sorted runs in temporary files, read back in order.

Rows are tuples of strings and numbers. The files are this process's own and vanish with it.
"""

import heapq
import marshal
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import batched
from typing import IO, Any

ROWS_IN_MEMORY = 200_000
_ROWS_AT_ONCE = 1000


class Sorter:
    """Takes rows in any order and gives them back sorted, as plain tuples. At most `rows_in_memory` are held at a time;
    the others are in temporary files until `files` is closed."""

    def __init__(self, files: ExitStack, rows_in_memory: int = ROWS_IN_MEMORY) -> None:
        self._files = files
        self._most = rows_in_memory
        self._rows: list[tuple[Any, ...]] = []
        self._runs: list[Iterator[tuple[Any, ...]]] = []

    def add(self, row: tuple[Any, ...]) -> None:
        self._rows.append(row)
        if len(self._rows) >= self._most:
            self._spill()

    def add_all(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """The same as `add` for each; quicker for many."""
        for some in batched(map(tuple, rows), _ROWS_AT_ONCE, strict=False):
            self._rows += some
            if len(self._rows) >= self._most:
                self._spill()

    def in_order(self) -> Iterator[tuple[Any, ...]]:
        """All rows, sorted; once, when no more are added."""
        self._rows.sort()
        return heapq.merge(*self._runs, self._rows) if self._runs else iter(self._rows)

    def _spill(self) -> None:
        self._rows.sort()
        file: IO[bytes] = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  closed with the others
        for block in batched(self._rows, _ROWS_AT_ONCE, strict=False):
            marshal.dump(list(block), file)
        marshal.dump([], file)
        file.seek(0)
        self._runs.append(_read(file))
        self._rows = []


def _read(file: IO[bytes]) -> Iterator[tuple[Any, ...]]:
    while block := marshal.load(file):  # noqa: S302  written by this process
        yield from block
