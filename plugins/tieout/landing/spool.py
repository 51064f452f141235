"""Rows of a file on their way to COPY: exact text, counted and hashed as they pass.

A connection carries one COPY at a time. The rows of the first table that a reader gives any of go straight into it,
while the reader goes on; those of the others wait in one temporary file a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import date, datetime
from decimal import Decimal
from itertools import repeat
from operator import attrgetter
from pathlib import Path
from queue import Queue
from threading import Thread
from types import NoneType
from typing import Any, BinaryIO, Protocol

from tieout import files
from tieout.batches import hashed_key, key_hash_of_columns
from tieout.card_numbers import CardKey, FreeText
from tieout.sources import Table

CHUNK_BYTES = 1 << 20
PIECES_WAITING = 4
# Types of which equal values have one text.
ALIKE = (str, NoneType, datetime)
TEXT_ONLY, MOMENT_ONLY, TEXT_OR_NULL = {str}, {datetime}, {str, NoneType}
NULL = "\\N"
SPOOL_BUFFER_BYTES = 1 << 18
# Opens each spooled row, to be replaced by the ids that are known only in the transaction. NUL is in no text of
# Postgres, so it stands in no row.
ROW_START = "\0"
TAB = "\t"


class AbandonedError(Exception):
    """Rows that were on their way must not be stored."""


class RefusedContent(Exception):
    """The content was read, yet may not be stored; carries the reading."""

    def __init__(self, reason: str, reading: files.Reading | None = None) -> None:
        super().__init__(reason)
        self.reading = reading


class _Source(Protocol):
    """What COPY reads from."""

    def read(self, size: int = ...) -> bytes: ...


# Runs COPY of one table over a source of its text, to the end.
Copy = Callable[[_Source], None]


class CopyPipe:
    """COPY in a thread of its own: the server stores rows while the next ones are read.

    Nobody else may use the connection until :meth:`finish` or :meth:`abandon` has returned.

    :param ids: what stands before each row, for ``ROW_START``.
    """

    def __init__(self, copy: Copy, ids: bytes) -> None:
        self._copy = copy
        self._ids = ids
        self._pieces: Queue[bytes | None] = Queue(PIECES_WAITING)
        self._gathered: list[bytes] = []
        self._size = 0
        self._ended = False
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="copy", daemon=True)
        self._thread.start()

    def write(self, rows: bytes) -> None:
        """Hand rows over; waits while COPY is far behind. What went wrong with rows before is told at the end."""
        self._gathered.append(rows)
        self._size += len(rows)
        if self._size >= CHUNK_BYTES:
            self._hand_over()

    def finish(self) -> None:
        """All rows are there: wait until they are stored.

        :raises Exception: what COPY raised.
        """
        self._hand_over()
        self._end(b"")
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        """The rows must not be stored: end COPY with an error, which leaves the transaction to be rolled back."""
        if self._thread.is_alive():
            self._end(None)

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        """The next piece, for COPY; b"" at the end.

        :raises AbandonedError: the rows must not be stored.
        """
        piece = self._pieces.get()
        self._ended = not piece
        if piece is None:
            raise AbandonedError("the file was refused while it was read")
        return piece

    def _hand_over(self) -> None:
        if self._gathered:
            self._pieces.put(b"".join(self._gathered).replace(ROW_START.encode(), self._ids))
            self._gathered.clear()
            self._size = 0

    def _end(self, last: bytes | None) -> None:
        self._pieces.put(last)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._copy(self)
        except BaseException as error:  # it is raised again where the rows come from
            self._error = error
        while not self._ended:  # who hands over must never wait for a COPY that is no more
            self._ended = not self._pieces.get()


class Spools:
    """Rows on their way to COPY: one temporary text file a table, counted and hashed as they pass.

    :param pipe: opens the COPY that the first table's rows go straight into.

    Card numbers in free text are masked on the way; ``free_text`` tells for each table how many were.
    """

    def __init__(
        self,
        folder: Path,
        tables: dict[str, Table],
        stack: ExitStack,
        card_key: CardKey | None,
        pipe: Callable[[Table], CopyPipe],
    ) -> None:
        self.free_text: dict[str, FreeText] = {}
        self._card_key = card_key
        self.row_counts: dict[str, int] = {}
        self.key_hashes: dict[str, int] = {}
        self._files: dict[str, BinaryIO] = {}
        self._pipe = pipe
        self._piped: tuple[str, CopyPipe] | None = None
        self._keys: dict[str, tuple[int, ...]] = {}
        self._widths: dict[str, int] = {}
        self._folder = folder
        self._tables = tables
        self._stack = stack

    def add(self, name: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Take rows of a table, their values in the order declared, without ``file_id``."""
        if name not in self.row_counts:
            self._open(name)
        width = self._widths[name]
        if set(map(len, rows)) != {width}:
            found = next(len(row) for row in rows if len(row) != width)
            raise ValueError(f"a row of {name} has {found} values, {width} columns are declared")
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
        self.free_text[name].mask(columns)
        text = _rows_text(columns)
        try:
            encoded = text.encode()
        except UnicodeEncodeError as error:
            raise self._refused(name, text.count(ROW_START, 0, error.start), "text is no valid Unicode") from error
        if text.count(ROW_START) > len(rows):
            holding = next(n for n, row in enumerate(rows, 1) if ROW_START in "".join(map(str, row)))
            raise self._refused(name, holding, "text holds a NUL character")
        if self._piped is not None and self._piped[0] == name:
            self._piped[1].write(encoded)
        else:
            self._files[name].write(encoded)
        self.row_counts[name] += len(rows)
        self.key_hashes[name] += key_hash_of_columns([columns[position] for position in self._keys[name]])

    def _refused(self, name: str, row: int, reason: str) -> RefusedContent:
        return RefusedContent(f"{name}, row {self.row_counts[name] + row}: {reason}")

    def finish(self) -> None:
        """All rows are there: wait for the COPY of the first table, write out what is buffered of the others.

        :raises Exception: what COPY raised.
        """
        if self._piped is not None:
            self._piped[1].finish()
        for spool in self._files.values():
            spool.flush()

    def waiting(self) -> Iterator[Table]:
        """Tables whose rows wait, in the order declared."""
        return (table for name, table in self._tables.items() if name in self._files)

    def stream(self, name: str, ids: bytes) -> _Numbered:
        """A table's waiting rows for COPY, each with the ids before it."""
        spool = self._files[name]
        spool.seek(0)
        return _Numbered(spool, ids)

    def _open(self, name: str) -> None:
        table = self._tables.get(name)
        if table is None:
            raise ValueError(
                f"rows for {name}, which no source of kind file declares: declare it in the dbt source YAML"
            )
        names = table.column_names[1:]
        self._widths[name] = len(names)
        self.free_text[name] = FreeText(table.columns[1:], self._card_key)
        self._keys[name] = tuple(names.index(key) for key in hashed_key(table))
        self.row_counts[name] = self.key_hashes[name] = 0
        if self._piped is None:
            pipe = self._pipe(table)
            self._stack.callback(pipe.abandon)
            self._piped = name, pipe
        else:
            opened = (self._folder / f"{name}.copy").open("w+b", buffering=SPOOL_BUFFER_BYTES)
            self._files[name] = self._stack.enter_context(opened)


class _Numbered:
    """A spool read as COPY text: the mark at each row's start becomes the row's batch and file id."""

    def __init__(self, spool: BinaryIO, ids: bytes) -> None:
        self._spool = spool
        self._ids = ids

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        """The next piece, b"" at the end; a bit more than ``size`` where ids were put in."""
        return self._spool.read(size).replace(ROW_START.encode(), self._ids)


def _rows_text(columns: Sequence[Sequence[Any]]) -> str:
    """Rows, given as columns, as COPY's text, ``ROW_START`` before each; only types whose text is exact, no float."""
    rows, nulls = len(columns[0]), 0
    texts: list[Iterable[str]] = []
    for column in columns:
        first = column[0]
        # Most columns of a report say the same for many lines.
        if column.count(first) == rows if type(first) in ALIKE else len(set(map(id, column))) == 1:
            nulls += rows * (first is None)
            texts.append(repeat(next(iter(_spelled(column[:1], {type(first)}))), rows))
            continue
        kinds = set(map(type, column))
        nulls += column.count(None) if NoneType in kinds else 0
        texts.append(_spelled(column, kinds))
    text = _joined(texts)
    # Each mark that is part of the format once a field or a row: then none stands in a text, and none is escaped.
    marks = (text.count(TAB), text.count("\n"), text.count("\\"), text.count("\r"))
    if marks == (rows * (len(columns) - 1), rows, nulls, 0):
        return text
    return _joined(_spelled([_escaped(value) for value in column], set(map(type, column))) for column in columns)


def _joined(texts: Iterable[Iterable[str]]) -> str:
    between = "\n" + ROW_START
    return f"{ROW_START}{between.join(map(TAB.join, zip(*texts, strict=True)))}\n"


def _spelled(column: Sequence[Any], kinds: set[type]) -> Iterable[str]:
    """A column's values, which are of these types, as fields of COPY's text format; text as it stands."""
    if kinds == TEXT_ONLY:
        return column
    if unknown := kinds - _SPELLINGS.keys():
        value = next(value for value in column if type(value) in unknown)
        raise TypeError(
            f"{value!r} ({type(value).__name__}) has no exact text: readers give None, str, bool, int, Decimal, date "
            "or datetime"
        )
    if kinds == MOMENT_ONLY and None not in set(map(attrgetter("tzinfo"), column)):
        return map(datetime.isoformat, column)
    if kinds == TEXT_OR_NULL:
        return [NULL if value is None else value for value in column]
    if len(kinds) == 1:
        return map(_SPELLINGS[kinds.pop()], column)
    return [_SPELLINGS[type(value)](value) for value in column]


def _escaped(value: Any) -> Any:
    # The backslash first: the others bring one of their own. Four searches beat one translation table twice over.
    if isinstance(value, str):
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return value


def _spelled_number(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError(f"{value} is no number that can be stored")
    return format(value, "f")


def _spelled_moment(value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError(f"{value} has no time zone")
    return value.isoformat()


_SPELLINGS: dict[type, Callable[[Any], str]] = {
    NoneType: lambda _: NULL,
    str: str,
    bool: lambda value: "t" if value else "f",
    int: str,
    Decimal: _spelled_number,
    datetime: _spelled_moment,
    date: date.isoformat,
}
