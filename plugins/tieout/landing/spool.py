"""Rows of a file on their way to COPY: exact text, counted and hashed as they pass.

A connection carries one COPY at a time. The rows of the first table that a reader gives any of go straight into it,
while the reader goes on; those of the others wait in one temporary file a table.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import BinaryIO, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from tieout import files
from tieout.batches import KEY_SEPARATOR, hashed_key
from tieout.card_numbers import CardKey
from tieout.digests import md5_sum
from tieout.files.columns import as_bytes
from tieout.landing.free_text import FreeText
from tieout.sources import Table

CHUNK_BYTES = 1 << 20
PIECES_WAITING = 4
NULL = "\\N"
# The backslash first: the others bring one of their own.
ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r"))
SPOOL_BUFFER_BYTES = 1 << 18
# Opens each spooled row, to be replaced by the ids that are known only in the transaction. NUL is in no text of
# Postgres, so it stands in no row.
ROW_START = b"\0"
TAB, NEWLINE = b"\t", b"\n"


class AbandonedError(Exception):
    """Rows that were on their way must not be stored."""


class UnstorableNul(ValueError):
    """A text holds a NUL, which no text of Postgres can."""


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

    :param ids: what each row must begin with, before the first tab of its own.
    """

    def __init__(self, copy: Copy, ids: bytes) -> None:
        self.ids = ids
        self._copy = copy
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
            self._pieces.put(b"".join(self._gathered))
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
        self._names: dict[str, tuple[str, ...]] = {}
        self._folder = folder
        self._tables = tables
        self._stack = stack

    def add(self, name: str, rows: pa.RecordBatch) -> None:
        """Take rows of a table, their columns in the order declared, without ``file_id``.

        :raises ValueError: the columns are others than declared.
        :raises RefusedContent: a text holds a NUL.
        """
        if name not in self.row_counts:
            self._open(name)
        if tuple(rows.schema.names) != self._names[name]:
            raise ValueError(f"rows of {name} have {rows.schema.names}, declared are {list(self._names[name])}")
        if not rows.num_rows:
            return
        masked = self.free_text[name].masked(rows.columns)
        try:
            texts = list(map(_spelled, masked))
            columns = [_escaped(text) if text is column else text for text, column in zip(texts, masked, strict=True)]
        except UnstorableNul:
            holding = next(n for n, row in enumerate(rows.to_pylist(), 1) if "\0" in "".join(map(str, row.values())))
            row = self.row_counts[name] + holding
            raise RefusedContent(f"{name}, row {row}: text holds a NUL character") from None
        if self._piped is not None and self._piped[0] == name:
            self._piped[1].write(_text(columns, self._piped[1].ids))
        else:
            self._files[name].write(_text(columns, ROW_START))
        self.row_counts[name] += rows.num_rows
        self.key_hashes[name] += md5_sum(as_bytes(_key_text([texts[at] for at in self._keys[name]])))

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
        self._names[name] = names
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
        return self._spool.read(size).replace(ROW_START, self._ids)


def _key_text(columns: Sequence[pa.StringArray]) -> pa.StringArray:
    """The key of each row as one text, as PostgreSQL's concat_ws() gives it."""
    return pc.binary_join_element_wise(*columns, KEY_SEPARATOR, null_handling="skip")


def _spelled(column: pa.Array) -> pa.StringArray:
    """A column's values as text, as Postgres reads it: a text is itself; None stays."""
    if pa.types.is_string(column.type):
        return column
    if pa.types.is_boolean(column.type):
        return pc.if_else(column, "t", "f")
    if pa.types.is_timestamp(column.type):
        # Arrow asks the zone for each moment's offset, which takes twenty times as long.
        return pc.binary_join_element_wise(column.cast(pa.timestamp("us")).cast(pa.string()), "+00", "")
    if pa.types.is_int64(column.type) or pa.types.is_date32(column.type):
        return column.cast(pa.string())
    raise TypeError(f"{column.type} has no exact text here: readers give what tieout.files.columns says")


def _text(columns: Sequence[pa.StringArray], start: bytes) -> bytes:
    """Spelled columns as the rows of COPY's text, ``start`` and a tab before each."""
    # The values of the joined rows follow each other in memory: with the line end before each they are the text.
    parts = [column.fill_null(NULL) if column.null_count else column for column in columns]
    rows = pc.binary_join_element_wise((NEWLINE + start).decode(), *parts, TAB.decode())
    _, offsets, values = rows.buffers()
    (end,) = struct.unpack_from("=i", offsets, 4 * len(rows))
    text: bytes = values.slice(1, end - 1).to_pybytes()
    return text + NEWLINE


def _escaped(column: pa.StringArray) -> pa.StringArray:
    """Texts as fields of COPY's text format; None stays.

    :raises UnstorableNul: a text holds a NUL.
    """
    values = column.buffers()[2]
    # Of a slice there may be more than its own: that costs time, and changes nothing.
    every = values.to_pybytes() if values else b""
    if b"\0" in every and pc.match_substring(column, "\0").true_count:
        raise UnstorableNul
    for mark, spelled in ESCAPES:
        if mark.encode() in every:
            column = pc.replace_substring(column, mark, spelled)
    return column
