"""Rows of a file on their way to COPY: exact text on disk, counted and hashed as they pass.

A reader gives rows before the file is proven, and a batch's number is known only in the loading transaction: so rows
wait in one temporary file a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from tieout import files
from tieout.batches import hashed_key, key_hash_of
from tieout.sources import Table

CHUNK_BYTES = 1 << 20
SPOOL_BUFFER_BYTES = 1 << 18
# Opens each spooled row, to be replaced by the ids that are known only in the transaction. NUL is in no text of
# Postgres, so it stands in no row.
ROW_START = b"\x00"


class RefusedContent(Exception):
    """The content was read, yet may not be stored; carries the reading."""

    def __init__(self, reason: str, reading: files.Reading | None = None) -> None:
        super().__init__(reason)
        self.reading = reading


class Spools:
    """Rows on their way to COPY: one temporary text file a table, counted and hashed as they pass."""

    def __init__(self, folder: Path, tables: dict[str, Table], stack: ExitStack) -> None:
        self.row_counts: dict[str, int] = {}
        self.key_hashes: dict[str, int] = {}
        self._files: dict[str, BinaryIO] = {}
        self._keys: dict[str, tuple[int, ...]] = {}
        self._widths: dict[str, int] = {}
        self._folder = folder
        self._tables = tables
        self._stack = stack

    def add(self, name: str, row: tuple[Any, ...]) -> None:
        """Take one row of a table, its values in the order declared, without ``file_id``."""
        spool = self._files.get(name) or self._open(name)
        if len(row) != self._widths[name]:
            raise ValueError(f"a row of {name} has {len(row)} values, {self._widths[name]} columns are declared")
        text = "\t".join(map(_copy_text, row))
        try:
            encoded = text.encode()
        except UnicodeEncodeError as error:
            raise RefusedContent(f"{name}, row {self.row_counts[name] + 1}: text is no valid Unicode") from error
        if ROW_START in encoded:
            raise RefusedContent(f"{name}, row {self.row_counts[name] + 1}: text holds a NUL character")
        spool.write(ROW_START + encoded + b"\n")
        self.row_counts[name] += 1
        self.key_hashes[name] += key_hash_of([row[position] for position in self._keys[name]])

    def finish(self) -> None:
        """All rows are there: write out what is buffered."""
        for spool in self._files.values():
            spool.flush()

    def tables(self) -> Iterator[Table]:
        """Tables that got rows, in the order declared."""
        return (table for name, table in self._tables.items() if name in self._files)

    def stream(self, name: str, batch_id: int, file_id: int) -> _Numbered:
        """A table's rows for COPY, with their ids."""
        spool = self._files[name]
        spool.seek(0)
        return _Numbered(spool, f"{batch_id}\t{file_id}\t".encode())

    def _open(self, name: str) -> BinaryIO:
        table = self._tables.get(name)
        if table is None:
            raise ValueError(
                f"rows for {name}, which no source of kind file declares: declare it in the dbt source YAML"
            )
        names = table.column_names[1:]
        self._widths[name] = len(names)
        self._keys[name] = tuple(names.index(key) for key in hashed_key(table))
        self.row_counts[name] = self.key_hashes[name] = 0
        opened = (self._folder / f"{name}.copy").open("w+b", buffering=SPOOL_BUFFER_BYTES)
        self._files[name] = self._stack.enter_context(opened)
        return opened


class _Numbered:
    """A spool read as COPY text: the mark at each row's start becomes the row's batch and file id."""

    def __init__(self, spool: BinaryIO, ids: bytes) -> None:
        self._spool = spool
        self._ids = ids

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        """The next piece, b"" at the end; a bit more than ``size`` where ids were put in."""
        return self._spool.read(size).replace(ROW_START, self._ids)


def _copy_text(value: Any) -> str:
    """One value as a field of COPY's text format; only types whose text is exact, so no float."""
    spell = _SPELLINGS.get(type(value))
    if spell is None:
        raise TypeError(
            f"{value!r} ({type(value).__name__}) has no exact text: readers give None, str, bool, int, Decimal, date "
            "or datetime"
        )
    return spell(value)


def _escaped(text: str) -> str:
    # The backslash first: the others bring one of their own. Four searches beat one translation table twice over.
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")


def _spelled_number(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError(f"{value} is no number that can be stored")
    return format(value, "f")


def _spelled_moment(value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError(f"{value} has no time zone")
    return value.isoformat()


_SPELLINGS: dict[type, Callable[[Any], str]] = {
    type(None): lambda _: "\\N",
    str: _escaped,
    bool: lambda value: "t" if value else "f",
    int: str,
    Decimal: _spelled_number,
    datetime: _spelled_moment,
    date: date.isoformat,
}
