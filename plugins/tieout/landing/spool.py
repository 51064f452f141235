"""Rows of a file on their way to COPY: counted and hashed as they pass.

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
from typing import BinaryIO, NoReturn, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tieout import files
from tieout.batches import KEY_SEPARATOR, hashed_key
from tieout.card_numbers import CardKey
from tieout.digests import md5_sum
from tieout.files.columns import as_bytes
from tieout.landing.binary import HEAD, TAIL, BinaryRows, UnstorableValue
from tieout.landing.free_text import FreeText
from tieout.sources import Table

# After each piece COPY's thread waits for the reader's to let go of the interpreter: few and large ones cost the least.
CHUNK_BYTES = 4 << 20
PIECES_WAITING = 2
SPOOL_BUFFER_BYTES = 1 << 18
# Stands before each spooled block: how many bytes it has.
BLOCK_SIZE = struct.Struct("=q")


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


# Runs COPY of one table over a source of its rows, to the end.
Copy = Callable[[_Source], None]


class CopyPipe:
    """COPY in a thread of its own: the server stores rows while the next ones are read.

    Nobody else may use the connection until :meth:`finish` or :meth:`abandon` has returned.

    :param ids: of the batch and of the file, which each row must begin with.
    """

    def __init__(self, copy: Copy, ids: tuple[int, int]) -> None:
        self.ids = ids
        self._copy = copy
        self._pieces: Queue[bytes | None] = Queue(PIECES_WAITING)
        self._gathered: list[bytes | pa.Buffer] = []
        self._size = 0
        self._ended = False
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="copy", daemon=True)
        self._thread.start()

    def write(self, rows: bytes | pa.Buffer) -> None:
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
    """Rows on their way to COPY: one temporary file a table, counted and hashed as they pass.

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
        self._rows: dict[str, BinaryRows] = {}
        self._schemas: dict[str, pa.Schema] = {}
        self._folder = folder
        self._tables = tables
        self._stack = stack

    def add(self, name: str, rows: pa.RecordBatch) -> None:
        """Take rows of a table, their columns in the order declared, without ``file_id``.

        :raises ValueError: the columns are others than declared.
        :raises RefusedContent: a text holds a NUL, or a number does not fit its column.
        """
        if name not in self.row_counts:
            self._open(name, rows.schema)
        if rows.schema != self._schemas[name]:
            raise ValueError(f"rows of {name} have {rows.schema.names}, declared are {self._schemas[name].names}")
        if not rows.num_rows:
            return
        masked = self.free_text[name].masked(rows.columns)
        for column in masked:
            if pa.types.is_string(column.type) and _holds_nul(column):
                self._refuse_nul(name, rows)
        if self._piped is not None and self._piped[0] == name:
            self._piped[1].write(self._together(name, masked, self._piped[1].ids))
        else:
            block = pa.RecordBatch.from_arrays(masked, schema=self._schemas[name]).serialize()
            self._files[name].write(BLOCK_SIZE.pack(block.size))
            self._files[name].write(block)
        self.row_counts[name] += rows.num_rows
        self.key_hashes[name] += md5_sum(as_bytes(_key_text([_spelled(masked[at]) for at in self._keys[name]])))

    def finish(self) -> None:
        """All rows are there: wait for the COPY of the first table, write out what is buffered of the others.

        :raises Exception: what COPY raised.
        """
        if self._piped is not None:
            self._piped[1].write(TAIL)
            self._piped[1].finish()
        for spool in self._files.values():
            spool.flush()

    def waiting(self) -> Iterator[Table]:
        """Tables whose rows wait, in the order declared."""
        return (table for name, table in self._tables.items() if name in self._files)

    def stream(self, name: str, ids: tuple[int, int]) -> Pieces:
        """A table's waiting rows for COPY, each with the ids before it."""
        return Pieces(self._waiting_rows(name, ids))

    def _waiting_rows(self, name: str, ids: tuple[int, int]) -> Iterator[bytes]:
        spool = self._files[name]
        spool.seek(0)
        yield HEAD
        while size := spool.read(BLOCK_SIZE.size):
            block = pa.ipc.read_record_batch(spool.read(*BLOCK_SIZE.unpack(size)), self._schemas[name])
            yield self._together(name, block.columns, ids).to_pybytes()
        yield TAIL

    def _together(self, name: str, columns: Sequence[pa.Array], ids: tuple[int, int]) -> pa.Buffer:
        try:
            return self._rows[name].of(columns, *ids)
        except UnstorableValue as error:
            raise RefusedContent(f"a value does not fit its column: {error}") from error

    def _refuse_nul(self, name: str, rows: pa.RecordBatch) -> NoReturn:
        holding = next(n for n, row in enumerate(rows.to_pylist(), 1) if "\0" in "".join(map(str, row.values())))
        raise RefusedContent(f"{name}, row {self.row_counts[name] + holding}: text holds a NUL character")

    def _open(self, name: str, schema: pa.Schema) -> None:
        table = self._tables.get(name)
        if table is None:
            raise ValueError(
                f"rows for {name}, which no source of kind file declares: declare it in the dbt source YAML"
            )
        names = table.column_names[1:]
        if tuple(schema.names) != names:
            raise ValueError(f"rows of {name} have {schema.names}, declared are {list(names)}")
        self._rows[name] = BinaryRows(table)
        self._schemas[name] = schema
        self.free_text[name] = FreeText(table.columns[1:], self._card_key)
        self._keys[name] = tuple(names.index(key) for key in hashed_key(table))
        self.row_counts[name] = self.key_hashes[name] = 0
        if self._piped is None:
            pipe = self._pipe(table)
            self._stack.callback(pipe.abandon)
            pipe.write(HEAD)
            self._piped = name, pipe
        else:
            opened = (self._folder / f"{name}.rows").open("w+b", buffering=SPOOL_BUFFER_BYTES)
            self._files[name] = self._stack.enter_context(opened)


class Pieces:
    """What COPY reads, from pieces as they are made: of whatever size it asks for, a piece may be larger."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        """The next piece, b"" at the end."""
        return next(self._pieces, b"")


def _key_text(columns: Sequence[pa.StringArray]) -> pa.StringArray:
    """The key of each row as one text, as PostgreSQL's concat_ws() gives it."""
    return pc.binary_join_element_wise(*columns, KEY_SEPARATOR, null_handling="skip")


def _spelled(column: pa.Array) -> pa.StringArray:
    """A column of a key as text, as Postgres spells it; None stays."""
    if pa.types.is_string(column.type):
        return column
    if pa.types.is_int64(column.type) or pa.types.is_date32(column.type):
        return column.cast(pa.string())
    raise TypeError(f"{column.type} has no exact text here: it can be no part of a key")


def _holds_nul(column: pa.StringArray) -> bool:
    """Whether a text holds a NUL, which no text of Postgres can."""
    values = column.buffers()[2]
    # Of a slice there may be more than its own: then its texts are asked.
    may = values and values.size and not np.frombuffer(values, np.uint8).min()
    return bool(may and pc.match_substring(column, "\0").true_count)
