"""Extraction of a payment system's Postgres: one consistent snapshot, verified batches in ``raw``.

What is new is found by transaction, not by clock: a batch keeps the oldest transaction that was still open
when its snapshot was taken (its horizon), and the next batch takes every row written by that transaction or a
later one. So a commit that comes late is never missed, whatever the application's clock says. Some rows come
twice that way; staging keeps the latest version of a key. A source that is not the server it was (restored,
promoted, moved) counts its transactions anew: then every row is taken once more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Literal

import psycopg2
from psycopg2 import errors, sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import parse_dsn

from tieout.batches import (
    SESSION_SPELLING,
    Totals,
    fold_totals,
    loading_transaction,
    open_batch,
    seal_batch,
    totals_statement,
)
from tieout.failpoints import Failpoint, armed, reach
from tieout.source_identity import source_identity
from tieout.sources import BATCH_ID, RAW_SCHEMA, Registry, Source, Table, canonical_type, raw_identifier

SourceAddress = str | Callable[[], Connection]
Outcome = Literal["loaded", "committed", "refused"]

# Our reading waits behind an ALTER TABLE at the source, and new readers wait behind us: give up before people notice.
SOURCE_LOCK_TIMEOUT_S = 30
# The other run of the same source may be loading a first batch of everything.
WAREHOUSE_LOCK_TIMEOUT_S = 3600
STATEMENT_TIMEOUT_S = 3600
# Row versions name their transaction by 32 bits, of which half reach back: beyond, everything is taken.
XID_BITS = 32
XID_REACH = 1 << (XID_BITS - 1)
PIPE_BYTES = 1 << 20
COPY_READ_BYTES = 1 << 17
# A network that swallows packets is noticed within two minutes instead of two hours.
DEAD_PEER_OPTIONS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 6,
    "tcp_user_timeout": 90_000,
}
# Only these have row versions with a transaction of their own (table, partitioned table, materialized view).
KINDS_WITH_XMIN = ("r", "p", "m")
REMEDIES: tuple[tuple[type[psycopg2.Error], str], ...] = (
    (errors.LockNotAvailable, "A schema change or a long lock holds a table: run again when it is over"),
    (errors.QueryCanceled, "The server ended the query: look for a statement timeout or a busy server, then run again"),
    (errors.InsufficientPrivilege, "Grant the connection's user SELECT on the declared tables and USAGE on the schema"),
    (
        psycopg2.OperationalError,
        "Check that the server runs and that the connection's host, port, database, login and password are right, "
        "then run again: nothing was loaded",
    ),
)


class SnapshotError(RuntimeError):
    """The interval was not loaded, nothing of it is in the warehouse; the message names what and the remedy."""


@dataclass(frozen=True)
class Batch:
    """What became of one table in one interval.

    ``outcome``: ``loaded`` now, ``committed`` by an earlier run (this one did nothing), or ``refused`` because
    the source no longer keeps the declared contract: ``problem`` says how, there is no batch (``batch_id`` is
    None), the other tables went on. ``horizon`` is the source transaction (64 bits) the next batch starts from;
    ``added_columns`` are those the source has and nobody declared: they were left out. ``taken_whole`` says why
    a batch holds every row although an earlier batch exists.
    """

    source: str
    table: str
    raw_table: str
    outcome: Outcome
    interval_start: datetime
    interval_end: datetime
    batch_id: int | None = None
    row_count: int = 0
    content_until: datetime | None = None
    horizon: int | None = None
    added_columns: tuple[str, ...] = ()
    problem: str | None = None
    taken_whole: str | None = None


@dataclass(frozen=True)
class _Shape:
    """What the source's catalogue says about a declared table: how to select it, what is undeclared, what is wrong."""

    expressions: tuple[sql.Composable, ...] = ()
    added_columns: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class _Reading:
    """The source, seen by two connections in one snapshot.

    ``horizon`` is the oldest transaction open when it was taken, ``next_xid`` the first one not yet begun.
    """

    named: str
    rows: Connection
    totals: Connection
    horizon: int
    next_xid: int
    identity: str
    shapes: dict[str, _Shape]


def take_snapshot(
    source: SourceAddress,
    warehouse: Connection,
    registry: Registry,
    source_name: str,
    interval_start: datetime,
    interval_end: datetime,
    as_of: datetime,
) -> list[Batch]:
    """Load every declared table of a source from one snapshot, as the batches of one interval.

    Rows, manifest, horizon and control totals of all tables are committed in one transaction, or nothing is.
    A table that has a batch of this interval is left alone, so a repeated run does nothing.

    :param source: a libpq URI, or a function that opens a psycopg2 connection to the source.
    :param warehouse: the loader's psycopg2 connection, in no transaction.
    :param interval_start: start of the interval the batches are filed under, with time zone.
    :param interval_end: its end (exclusive). The rows are those of the source *now*, whatever the interval.
    :param as_of: the moment the run counts as; kept on the batches.
    :returns: one :class:`Batch` a declared table, in the order declared.
    :raises SnapshotError: the source cannot be read, the interval lies before a committed one, or another run has
        been holding the lock for too long.
    :raises TotalsMismatchError: raw differs from the source; everything was rolled back.
    :raises RegistryError: the source is not declared.
    """
    declared = registry.source(source_name)
    if declared.kind != "snapshot":
        raise SnapshotError(f"source {source_name} comes as files, not as a database: it is loaded by load_landing")
    if interval_start.tzinfo is None or interval_end.tzinfo is None or not interval_start < interval_end:
        raise SnapshotError(
            f"{interval_start} to {interval_end} is no interval: give a start before the end, both with a time zone"
        )
    interval = (interval_start, interval_end)
    with loading_transaction(warehouse) as target:
        batches = _lock_and_list(target, declared, interval)
        pending = [table for table in declared.tables if table.name not in batches]
        if pending:
            _refuse_backward(target, declared, pending, interval_end)
            reach(Failpoint.BEFORE_SOURCE)
            with _open_snapshot(source, declared, pending) as reading:
                for table in pending:
                    batches[table.name] = _load_table(reading, warehouse, table, interval, as_of)
            reach(Failpoint.BEFORE_COMMIT)
    reach(Failpoint.AFTER_COMMIT)
    return [batches[table.name] for table in declared.tables]


def _lock_and_list(cursor: Any, declared: Source, interval: tuple[datetime, datetime]) -> dict[str, Batch]:
    """Wait for the other run of this source, if any; then table -> the batch this interval already has."""
    cursor.execute(f"set local lock_timeout = '{WAREHOUSE_LOCK_TIMEOUT_S}s'")
    try:
        cursor.execute("select pg_advisory_xact_lock(hashtextextended('tieout.snapshot.' || %s, 0))", (declared.name,))
    except errors.LockNotAvailable as error:
        raise SnapshotError(
            f"another run has been loading {declared.name} for more than {WAREHOUSE_LOCK_TIMEOUT_S} s: "
            "look at that run, end it if it hangs, then run this one again"
        ) from error
    cursor.execute(
        "select table_name, batch_id, row_count, content_until, horizon::text::bigint from ops.batches "
        "where source = %s and interval_start = %s and interval_end = %s",
        (declared.name, *interval),
    )
    known = {row[0]: row[1:] for row in cursor.fetchall()}
    return {
        table.name: Batch(declared.name, table.name, table.raw_table, "committed", *interval, *known[table.name])
        for table in declared.tables
        if table.name in known
    }


def _refuse_backward(cursor: Any, declared: Source, pending: list[Table], interval_end: datetime) -> None:
    cursor.execute(
        "select table_name, interval_end from ops.batches where source = %s and table_name = any(%s) "
        "and interval_end > %s order by interval_end desc, batch_id limit 1",
        (declared.name, [table.name for table in pending], interval_end),
    )
    later = cursor.fetchone()
    if later:
        raise SnapshotError(
            f"{declared.name}.{later[0]} is already loaded up to {later[1].isoformat()}: an interval that ends at "
            f"{interval_end.isoformat()} would file the rows of now under the past. Run the current interval instead"
        )


@contextmanager
def _source_errors(named: str, doing: str) -> Iterator[None]:
    """Turn the source's errors into one that names the source, what failed and what to do."""
    try:
        yield
    except psycopg2.Error as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        remedy = next((text for kind, text in REMEDIES if isinstance(error, kind)), "Run again: nothing was loaded")
        raise SnapshotError(f"{named}: {doing} failed: {said[0]}. {remedy}") from error


def connect_source(source: SourceAddress) -> Connection:
    """A connection to the source that notices a dead peer."""
    if isinstance(source, str):
        arguments = {**DEAD_PEER_OPTIONS, **parse_dsn(source)}
        opened: Connection = psycopg2.connect(**arguments)
        return opened
    return source()


@contextmanager
def _open_snapshot(source: SourceAddress, declared: Source, tables: list[Table]) -> Iterator[_Reading]:
    """Two connections in one snapshot of the source, with every readable table locked against ALTER and TRUNCATE.

    Those two are not covered by a snapshot (the table would look empty), so the locks come before it.
    """
    named = f"source {declared.name} (connection {declared.connection})"
    opened: list[Connection] = []
    try:
        with _source_errors(named, "connecting"):
            for _ in range(2):
                opened.append(connect_source(source))
                opened[-1].autocommit = True
            identity = source_identity(opened[0])
        rows, totals = opened
        reach(Failpoint.SOURCE_CONNECTED)
        with _source_errors(named, "taking a snapshot"), rows.cursor() as first, totals.cursor() as second:
            unreadable = _unreadable(first, declared, tables)
            readable = [table for table in tables if table.name not in unreadable]
            first.execute(BEGIN_READING)
            if readable:
                names = sql.SQL(", ").join(map(source_identifier, readable))
                first.execute(sql.SQL("lock table {} in access share mode").format(names))
            first.execute(
                "select pg_export_snapshot(), pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint "
                "from pg_current_snapshot() s"
            )
            (snapshot, horizon, next_xid), *_ = first.fetchall()
            second.execute(BEGIN_READING)
            second.execute("set transaction snapshot %s", (snapshot,))
            shapes = {name: _Shape(problem=problem) for name, problem in unreadable.items()}
            shapes.update((table.name, _inspect(first, table)) for table in readable)
        reach(Failpoint.SNAPSHOT_TAKEN)
        yield _Reading(named, rows, totals, horizon, next_xid, identity, shapes)
    finally:
        for connection in opened:
            connection.close()


# Row security would silently hide rows from us: off means an error instead.
BEGIN_READING = (
    "begin isolation level repeatable read read only; "
    f"set local lock_timeout = '{SOURCE_LOCK_TIMEOUT_S}s'; "
    f"set local statement_timeout = '{STATEMENT_TIMEOUT_S}s'; "
    f"set local idle_in_transaction_session_timeout = '{STATEMENT_TIMEOUT_S}s'; "
    f"set local row_security = off; {SESSION_SPELLING}"
)


def source_identifier(table: Table) -> sql.Identifier:
    """The table at its source, quoted."""
    return sql.Identifier(str(table.source_schema), table.name)


def _unreadable(cursor: Any, declared: Source, tables: list[Table]) -> dict[str, str]:
    """Tables that cannot be read at all -> why."""
    cursor.execute(
        "select c.relname, c.relkind::text, "
        "       has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select') "
        "from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = %s and c.relname = any(%s) and c.relkind in ('r', 'p', 'm', 'v', 'f')",
        (declared.schema, [table.name for table in tables]),
    )
    present = {name: (kind, readable) for name, kind, readable in cursor.fetchall()}
    problems = {}
    for table in tables:
        where = f"{declared.schema}.{table.name}"
        kind, readable = present.get(table.name, (None, False))
        if kind is None:
            problems[table.name] = f"{where} does not exist at the source (dropped or renamed?)"
        elif not readable:
            problems[table.name] = f"{where} may not be read by the connection's user: grant it SELECT"
        elif table.mode != "full" and kind not in KINDS_WITH_XMIN:
            problems[table.name] = f"{where} is a view or foreign table, which can only be read with mode: full"
    return problems


def _inspect(cursor: Any, table: Table) -> _Shape:
    """Compare a table's columns with the declaration. A domain counts as its base type; an enum may be read as text."""
    cursor.execute(
        "select a.attname, format_type(b.oid, null), "
        "       format_type(b.oid, case when t.typtype = 'd' then t.typtypmod else a.atttypmod end), b.typtype = 'e' "
        "from pg_attribute a join pg_type t on t.oid = a.atttypid "
        "join pg_type b on b.oid = coalesce(nullif(t.typbasetype, 0), t.oid) "
        "where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum",
        (source_identifier(table).as_string(cursor),),
    )
    present = {name: (base, exact, is_enum) for name, base, exact, is_enum in cursor.fetchall()}
    expressions: list[sql.Composable] = []
    problems = []
    for column in table.columns:
        if column.name not in present:
            problems.append(f"column {column.name} is missing")
            continue
        base, exact, is_enum = present[column.name]
        declared = canonical_type(cursor, column.data_type)
        if is_enum and declared == "text":
            expressions.append(sql.SQL("{}::text").format(sql.Identifier(column.name)))
        elif declared == (exact if "(" in column.data_type else base):
            expressions.append(sql.Identifier(column.name))
        else:
            problems.append(f"column {column.name} is {exact}, declared {column.data_type}")
    added = tuple(name for name in present if name not in table.column_names)
    if not problems:
        return _Shape(tuple(expressions), added)
    hint = f" (new there: {', '.join(added)})" if added else ""
    return _Shape(
        added_columns=added,
        problem=f"{table.source_schema}.{table.name} is not as declared: {'; '.join(problems)}{hint}. The table is "
        "frozen until the source is repaired, or the dbt source YAML and the raw table are changed to follow it",
    )


def within_reach(next_xid: int, horizon: int) -> bool:
    """Whether the 32 bits of a row version tell on which side of the horizon its writer is.

    A horizon ahead of the source's counter says that the source was restored.
    """
    return 0 <= next_xid - horizon < XID_REACH


def changed_since(next_xid: int, horizon: int) -> sql.Composable:
    """The condition for rows whose writer is not older than the last horizon.

    :param next_xid: the snapshot's first transaction not yet begun, 64 bits.
    :param horizon: the last batch's horizon, 64 bits, within reach.

    A row's xmin is the lower half of its transaction's id. Its distance back from ``next_xid``, modulo 2^32,
    is exact for every transaction since a horizon within reach; an older (frozen) row may alias into the
    window and comes again, which does no harm.
    """
    return sql.SQL("(({} - xmin::text::bigint) & {}) <= {}").format(
        sql.Literal(next_xid % 2**XID_BITS), sql.Literal(2**XID_BITS - 1), sql.Literal(next_xid - horizon)
    )


def _load_table(
    reading: _Reading, warehouse: Connection, table: Table, interval: tuple[datetime, datetime], as_of: datetime
) -> Batch:
    shape = reading.shapes[table.name]
    refused = Batch(
        table.source, table.name, table.raw_table, "refused", *interval, added_columns=shape.added_columns,
        problem=shape.problem,
    )  # fmt: skip
    if shape.problem:
        return refused
    with warehouse.cursor() as cursor:
        changed, taken_whole = _what_changed(cursor, reading, table)
        cursor.execute("savepoint before_table")
        batch_id = open_batch(cursor, table, as_of, interval=interval, identity=reading.identity)
        try:
            expected = _copy(reading, warehouse, table, shape, batch_id, changed)
        except (psycopg2.IntegrityError, psycopg2.DataError) as error:
            # The rows break the declared contract, the columns did not show it: only this table is at fault.
            cursor.execute("rollback to savepoint before_table")
            said = str(error).strip().splitlines()[0]
            return _refusal(refused, f"{table.source_schema}.{table.name} has rows that break its declaration: {said}")
        except (errors.UndefinedTable, errors.UndefinedColumn) as error:
            raise SnapshotError(
                f"{RAW_SCHEMA}.{table.raw_table} is not as declared ({str(error).splitlines()[0]}): "
                "create the raw tables again with sources.ensure_raw_tables, as setting up does"
            ) from error
        found = seal_batch(cursor, table, batch_id, expected, reading.horizon)
        cursor.execute("release savepoint before_table")
    return Batch(
        table.source, table.name, table.raw_table, "loaded", *interval, batch_id, found.row_count,
        found.content_until, reading.horizon, shape.added_columns, taken_whole=taken_whole,
    )  # fmt: skip


def _what_changed(cursor: Any, reading: _Reading, table: Table) -> tuple[sql.Composable, str | None]:
    """The condition for the rows to take, and why it is all of them although the table has a batch, if it is."""
    cursor.execute(
        "select horizon::text::bigint, source_identity from ops.batches where source = %s and table_name = %s "
        "and horizon is not null order by batch_id desc limit 1",
        (table.source, table.name),
    )
    last = cursor.fetchone()
    if last is None or table.mode == "full":
        return sql.SQL("true"), None
    horizon, identity = int(last[0]), last[1]
    if identity != reading.identity:
        return sql.SQL("true"), f"the source was {identity or 'not known'}, and is {reading.identity}"
    if not within_reach(reading.next_xid, horizon):
        return sql.SQL("true"), f"the source's next transaction is {reading.next_xid}, out of reach of {horizon}"
    return changed_since(reading.next_xid, horizon), None


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


def _refusal(refused: Batch, problem: str) -> Batch:
    return Batch(**{**refused.__dict__, "problem": problem})


def _copy(
    reading: _Reading, warehouse: Connection, table: Table, shape: _Shape, batch_id: int, changed: sql.Composable
) -> Totals:
    """Stream the changed rows into raw through a pipe while the other connection weighs them; the source's totals."""
    relation = source_identifier(table)
    out_of_source = sql.SQL("copy (select {}::bigint, {} from {} where {}) to stdout (format binary)").format(
        sql.Literal(batch_id), sql.SQL(", ").join(shape.expressions), relation, changed
    )
    into_raw = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        raw_identifier(table), sql.SQL(", ").join(map(sql.Identifier, (BATCH_ID, *table.column_names)))
    )
    read_end, write_end = os.pipe()
    sink = os.fdopen(write_end, "wb", PIPE_BYTES)

    def pump() -> None:
        with sink, _source_errors(reading.named, f"reading {table.name}"), reading.rows.cursor() as cursor:
            cursor.copy_expert(out_of_source, sink)

    def weigh() -> Totals:
        with _source_errors(reading.named, f"totalling {table.name}"), reading.totals.cursor() as cursor:
            cursor.execute(totals_statement(table, relation, changed))
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
