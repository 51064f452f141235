"""The source's rows on their way into raw: one COPY through a pipe, weighed at the source by the other connection."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import psycopg2
from psycopg2 import errors, sql
from psycopg2.extensions import connection as Connection

from tieout.batches import Totals, fold_totals, totals_statement
from tieout.extraction.shape import source_rows
from tieout.extraction.source import Reading, SnapshotError, source_errors
from tieout.failpoints import Failpoint, armed, reach
from tieout.sources import BATCH_ID, Table, raw_identifier

PIPE_BYTES = 1 << 20
COPY_READ_BYTES = 1 << 17


def copy_rows(
    reading: Reading, warehouse: Connection, table: Table, batch_id: int, condition: sql.Composable
) -> Totals:
    """Stream the source's rows where ``condition`` into raw, as rows of the batch.

    :returns: their totals, taken at the source in the same snapshot.
    :raises SnapshotError: the source failed.
    :raises psycopg2.IntegrityError, psycopg2.DataError: rows break the raw table's constraints or types. The source's
        connections serve on; the warehouse's transaction must be rolled back to before.
    """
    rows = source_rows(table, reading.shapes[table.name], condition)
    out_of_source = sql.SQL("copy (select {}::bigint, * from {}) to stdout (format binary)").format(
        sql.Literal(batch_id), rows
    )
    into_raw = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        raw_identifier(table), sql.SQL(", ").join(map(sql.Identifier, (BATCH_ID, *table.column_names)))
    )
    read_end, write_end = os.pipe()
    sink = os.fdopen(write_end, "wb", PIPE_BYTES)

    def pump() -> None:
        with sink, source_errors(reading.named, f"reading {table.name}"), reading.rows.cursor() as cursor:
            cursor.copy_expert(out_of_source, sink)

    def weigh() -> Totals:
        with source_errors(reading.named, f"totalling {table.name}"), reading.totals.cursor() as cursor:
            cursor.execute(totals_statement(table, rows, sql.SQL("true")))
            return fold_totals(table, cursor.fetchall())

    with ThreadPoolExecutor(2) as threads, os.fdopen(read_end, "rb", PIPE_BYTES) as tap:
        pumped, weighed = threads.submit(pump), threads.submit(weigh)
        try:
            with warehouse.cursor() as cursor:
                arriving: Any = _Interrupted(tap) if armed(Failpoint.MID_COPY) else tap
                cursor.copy_expert(into_raw, arriving, COPY_READ_BYTES)
        except (psycopg2.IntegrityError, psycopg2.DataError):
            while tap.read(PIPE_BYTES):  # let the source finish its COPY: the other tables need its connection
                pass
            pumped.result()
            weighed.result()
            raise
        except BaseException:
            tap.close()
            for connection in (reading.rows, reading.totals):
                connection.cancel()
            source_error = pumped.exception()
            if isinstance(source_error, SnapshotError) and not isinstance(source_error.__cause__, errors.QueryCanceled):
                raise source_error from source_error.__cause__
            raise
        pumped.result()
        return weighed.result()


class _Interrupted:
    """The rows on their way into raw, with the failpoint after the first piece."""

    def __init__(self, tap: BinaryIO) -> None:
        self._tap = tap
        self._pieces = 0

    def read(self, size: int = COPY_READ_BYTES) -> bytes:
        """The next piece."""
        self._pieces += 1
        if self._pieces == 2:
            reach(Failpoint.MID_COPY)
        return self._tap.read(size)
