"""The source, read in one snapshot: the connections, the locks, and which rows are new since a horizon."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import errors, sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import parse_dsn

from tieout.batches import SESSION_SPELLING
from tieout.card_numbers import CardKey, redact
from tieout.extraction.identity import source_identity
from tieout.extraction.shape import Shape, inspect, relation_kinds, source_identifier, unreadable
from tieout.extraction.state import SourceState, count_changes, read_state
from tieout.failpoints import Failpoint, reach
from tieout.sources import Source, Table

SourceAddress = str | Callable[[], Connection]

# Our reading waits behind an ALTER TABLE at the source, and new readers wait behind us: give up before people notice.
SOURCE_LOCK_TIMEOUT_S = 30
STATEMENT_TIMEOUT_S = 3600
# Row versions name their transaction by 32 bits, of which half reach back: beyond, everything is taken.
XID_BITS = 32
XID_REACH = 1 << (XID_BITS - 1)
# A network that swallows packets is noticed within two minutes instead of two hours.
DEAD_PEER_OPTIONS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 6,
    "tcp_user_timeout": 90_000,
}
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
# Row security would silently hide rows from us: off means an error instead.
BEGIN_READING = (
    "begin isolation level repeatable read read only; "
    f"set local lock_timeout = '{SOURCE_LOCK_TIMEOUT_S}s'; "
    f"set local statement_timeout = '{STATEMENT_TIMEOUT_S}s'; "
    f"set local idle_in_transaction_session_timeout = '{STATEMENT_TIMEOUT_S}s'; "
    f"set local row_security = off; {SESSION_SPELLING}"
)


class SnapshotError(RuntimeError):
    """The interval was not loaded, nothing of it is in the warehouse; the message names what and the remedy."""


@dataclass(frozen=True)
class Reading:
    """The source, seen by two connections in one snapshot.

    ``snapshot`` is its pg_snapshot as text, ``horizon`` the oldest transaction open when it was taken, ``next_xid``
    the first one not yet begun. ``states`` has the readable tables only.
    """

    named: str
    rows: Connection
    totals: Connection
    snapshot: str
    horizon: int
    next_xid: int
    identity: str
    shapes: Mapping[str, Shape]
    states: Mapping[str, SourceState]


@contextmanager
def source_errors(named: str, doing: str) -> Iterator[None]:
    """Turn the source's errors into one that names the source, what failed and what to do."""
    try:
        yield
    except psycopg2.Error as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        kind_of = type(error)
        if kind_of is psycopg2.DatabaseError and error.pgcode is None:
            # What the driver says of a COPY whose server went away names neither.
            said, kind_of = ["the connection broke off"], psycopg2.OperationalError
        remedy = next((text for kind, text in REMEDIES if issubclass(kind_of, kind)), "Run again: nothing was loaded")
        raise SnapshotError(f"{named}: {doing} failed: {redact(said[0])}. {remedy}") from error


def connect_source(source: SourceAddress) -> Connection:
    """A connection to the source that notices a dead peer."""
    if isinstance(source, str):
        arguments = {**DEAD_PEER_OPTIONS, **parse_dsn(source)}
        opened: Connection = psycopg2.connect(**arguments)
        return opened
    return source()


@contextmanager
def open_snapshot(source: SourceAddress, declared: Source, tables: list[Table]) -> Iterator[Reading]:
    """Two connections in one snapshot of the source, with every readable table locked against ALTER and TRUNCATE.

    Those two are not covered by a snapshot (the table would look empty), so the locks come before it. What counts
    deletions is read before both: a deletion that the snapshot does not show must not be counted as seen.
    """
    has_free_text = any(column.free_text for table in tables for column in table.columns)
    card_key = CardKey.from_environment() if has_free_text else None
    named = f"source {declared.name} (connection {declared.connection})"
    opened: list[Connection] = []
    try:
        with source_errors(named, "connecting"):
            for _ in range(2):
                opened.append(connect_source(source))
                opened[-1].autocommit = True
            identity = source_identity(opened[0])
        rows, totals = opened
        reach(Failpoint.SOURCE_CONNECTED)
        with source_errors(named, "taking a snapshot"), rows.cursor() as first, totals.cursor() as second:
            problems = unreadable(first, declared, tables)
            readable = [table for table in tables if table.name not in problems]
            counted = count_changes(first, declared)
            kinds = relation_kinds(first, declared, readable)
            first.execute(BEGIN_READING)
            _lock(first, readable, kinds)
            first.execute(
                "select pg_export_snapshot(), s::text, pg_snapshot_xmin(s)::text::bigint, "
                "pg_snapshot_xmax(s)::text::bigint from pg_current_snapshot() s"
            )
            (exported, snapshot, horizon, next_xid), *_ = first.fetchall()
            second.execute(BEGIN_READING)
            second.execute("set transaction snapshot %s", (exported,))
            shapes = {name: Shape(problem=problem) for name, problem in problems.items()}
            shapes.update((table.name, inspect(first, table, card_key)) for table in readable)
            states = {table.name: read_state(first, table, shapes[table.name], counted) for table in readable}
        reach(Failpoint.SNAPSHOT_TAKEN)
        yield Reading(named, rows, totals, snapshot, horizon, next_xid, identity, shapes, states)
    finally:
        for connection in opened:
            connection.close()


def _lock(cursor: Any, tables: list[Table], kinds: Mapping[str, str]) -> None:
    """Hold the tables as they are until the transaction's end; nothing may be looked at before LOCK TABLE.

    A materialized view cannot be locked by name, only by being looked at; a foreign table's rows are another server's.
    """
    named = [source_identifier(table) for table in tables if kinds.get(table.name, "r") in ("r", "p", "v")]
    if named:
        cursor.execute(sql.SQL("lock table {} in access share mode").format(sql.SQL(", ").join(named)))
    for table in tables:
        if kinds.get(table.name) == "m":
            cursor.execute(sql.SQL("select from {} limit 0").format(source_identifier(table)))


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
