"""Extraction of a payment system's Postgres: one consistent snapshot, verified batches in ``raw``.

What is new is found by transaction, not by clock: a batch keeps the oldest transaction that was still open
when its snapshot was taken (its horizon), and the next batch takes every row written by that transaction or a
later one. So a commit that comes late is never missed, whatever the application's clock says. Some rows come
twice that way; staging keeps the latest version of a key. A source that is not the server it was (restored,
promoted, moved) counts its transactions anew: then every row is taken once more. What no transaction shows, such as
a row that is gone, is found by a sweep.

An interval that lies before a committed one is a backfill: its batch holds the rows of that time as they are now.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import psycopg2
from psycopg2 import errors, sql
from psycopg2.extensions import connection as Connection

from tieout.batches import Totals, added_totals, loading_transaction, open_batch, seal_batch
from tieout.card_numbers import redact
from tieout.extraction.card_masking import masked_rows
from tieout.extraction.copying import copy_rows
from tieout.extraction.known_keys import reused_keys
from tieout.extraction.shape import changed_types, narrowed
from tieout.extraction.source import (
    Reading,
    SnapshotError,
    SourceAddress,
    changed_since,
    open_snapshot,
    within_reach,
)
from tieout.extraction.state import DECLARED_ANEW
from tieout.extraction.sweep import DeletionsRefusedError, Swept, record_sweep, sweep, sweep_reason
from tieout.failpoints import Failpoint, reach
from tieout.load_notes import NoteSeverity, note
from tieout.sources import RAW_SCHEMA, Registry, Source, Table

Outcome = Literal["loaded", "committed", "refused"]

# The other run of the same source may be loading a first batch of everything.
WAREHOUSE_LOCK_TIMEOUT_S = 3600


@dataclass(frozen=True)
class Batch:
    """What became of one table in one interval.

    ``outcome``: ``loaded`` now, ``committed`` by an earlier run (this one did nothing), or ``refused`` because
    the source no longer keeps the declared contract, or lost more rows than is let through: ``problem`` says how, there
    is no batch (``batch_id`` is None), the other tables went on. ``horizon`` is the source transaction (64 bits) the
    next batch starts from; None for a backfill. ``added_columns`` are those the source has and nobody declared: they
    were left out. ``taken_whole`` says why a batch holds every row although an earlier batch exists, ``swept`` what a
    comparison of all rows found. ``notes`` are what was noted of the table in this run.
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
    swept: Swept | None = None
    notes: tuple[str, ...] = ()


def take_snapshot(
    source: SourceAddress,
    warehouse: Connection,
    registry: Registry,
    source_name: str,
    interval_start: datetime,
    interval_end: datetime,
    as_of: datetime,
    tables: Collection[str] | None = None,
    accept_deletions: Collection[str] = (),
) -> list[Batch]:
    """Load the declared tables of a source from one snapshot, as the batches of one interval.

    Rows, manifest, horizon, control totals and notes of all tables are committed in one transaction, or nothing is.
    A table that has a batch of this interval is left alone, so a repeated run does nothing.

    :param source: a libpq URI, or a function that opens a psycopg2 connection to the source.
    :param warehouse: the loader's psycopg2 connection, in no transaction.
    :param interval_start: start of the interval the batches are filed under, with time zone.
    :param interval_end: its end (exclusive). The rows are those of the source *now*, whatever the interval; where a
        later interval is committed, only those of them whose cursor lies in the interval.
    :param as_of: the moment the run counts as; kept on the batches.
    :param tables: load these only, as ``table`` or ``source.table``; None for all that are declared. Those of other
        sources are left to them.
    :param accept_deletions: tables of which any number of rows may be gone at the source, named alike.
    :returns: one :class:`Batch` a table asked for, in the order declared.
    :raises SnapshotError: the source cannot be read, or another run has been holding the lock for too long.
    :raises TotalsMismatchError: raw differs from the source; everything was rolled back.
    :raises RegistryError: the source is not declared, or no source has one of the tables.
    :raises CardKeyError: the key for card tokens is too short.
    """
    declared = registry.source(source_name)
    if declared.kind != "snapshot":
        raise SnapshotError(f"source {source_name} comes as files, not as a database: it is loaded by load_landing")
    if interval_start.tzinfo is None or interval_end.tzinfo is None or not interval_start < interval_end:
        raise SnapshotError(
            f"{interval_start} to {interval_end} is no interval: give a start before the end, both with a time zone"
        )
    accepted = registry.names(source_name, accept_deletions, "accept_deletions")
    names = None if tables is None else registry.names(source_name, tables, "tables")
    chosen = [table for table in declared.tables if names is None or table.name in names]
    interval = (interval_start, interval_end)
    with loading_transaction(warehouse) as target:
        batches = _lock_and_list(target, declared, interval)
        pending = [table for table in chosen if table.name not in batches]
        if pending:
            overtaken = _overtaken(target, declared, interval_end)
            reach(Failpoint.BEFORE_SOURCE)
            with open_snapshot(source, declared, pending) as reading:
                alone = len(pending) < len(declared.tables)
                for table in pending:
                    load = _Load(
                        reading, warehouse, table, interval, as_of,
                        backfill=table.name in overtaken, alone=alone, accepted=table.name in accepted,
                    )  # fmt: skip
                    batches[table.name] = load.run(target)
            reach(Failpoint.BEFORE_COMMIT)
    reach(Failpoint.AFTER_COMMIT)
    return [batches[table.name] for table in chosen]


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


def _overtaken(cursor: Any, declared: Source, interval_end: datetime) -> set[str]:
    """Tables with a batch of a later interval: what their source holds now is no longer the interval's news."""
    cursor.execute(
        "select distinct table_name from ops.batches where source = %s and interval_end > %s",
        (declared.name, interval_end),
    )
    return {name for (name,) in cursor.fetchall()}


@dataclass(frozen=True)
class _Last:
    """The table's newest batch with a horizon."""

    horizon: int
    identity: str | None
    columns: dict[str, str]


@dataclass
class _Load:
    """One table on its way into the batch of one interval.

    ``alone`` says that not all tables of the source are loaded in this run.
    """

    reading: Reading
    warehouse: Connection
    table: Table
    interval: tuple[datetime, datetime]
    as_of: datetime
    backfill: bool
    alone: bool
    accepted: bool

    def __post_init__(self) -> None:
        self.shape = self.reading.shapes[self.table.name]
        self.where = f"{self.table.source_schema}.{self.table.name}"
        self.said: list[str] = []

    def run(self, cursor: Any) -> Batch:
        """Load the table, or refuse it alone.

        :param cursor: of the loading transaction.
        """
        last = self._last(cursor)
        problem = self.shape.problem
        if problem is None and last is not None:
            problem = narrowed(self.table, last.columns, self.shape.columns)
        if problem is not None:
            return self._refused(cursor, "table_refused", problem)
        cursor.execute("savepoint before_table")
        try:
            batch = self._load(cursor, last)
        except (psycopg2.IntegrityError, psycopg2.DataError) as error:
            if error.diag.schema_name not in (None, RAW_SCHEMA):
                raise SnapshotError(
                    f"the batch of {self.where} could not be entered ({str(error).splitlines()[0]}): another run "
                    "loaded the same interval beside this one, nothing of this one was committed. Run it again"
                ) from error
            # The rows break the declared contract, the columns did not show it: only this table is at fault.
            cursor.execute("rollback to savepoint before_table")
            said = redact(str(error).strip().splitlines()[0])
            return self._refused(cursor, "table_refused", f"{self.where} has rows that break its declaration: {said}")
        except DeletionsRefusedError as refused:
            cursor.execute("rollback to savepoint before_table")
            remedy = (
                "Nothing of the table was loaded: restore the rows at the source, or, if they are meant to be gone, "
                f"run this interval again with accept_deletions: [{self.table.name}]"
            )
            return self._refused(cursor, refused.kind, f"{refused}. {remedy}", refused.observed)
        except (errors.UndefinedTable, errors.UndefinedColumn) as error:
            raise SnapshotError(
                f"{RAW_SCHEMA}.{self.table.raw_table} is not as declared ({str(error).splitlines()[0]}): "
                "create the raw tables again with sources.ensure_raw_tables, as setting up does"
            ) from error
        cursor.execute("release savepoint before_table")
        return batch

    def _last(self, cursor: Any) -> _Last | None:
        cursor.execute(
            "select horizon::text::bigint, source_identity, source_state -> 'columns' from ops.batches "
            "where source = %s and table_name = %s and horizon is not null order by batch_id desc limit 1",
            (self.table.source, self.table.name),
        )
        row = cursor.fetchone()
        return None if row is None else _Last(int(row[0]), row[1], row[2] or {})

    def _load(self, cursor: Any, last: _Last | None) -> Batch:
        reading, table = self.reading, self.table
        changed, taken_whole = self._what_changed(last)
        reason = None if self.backfill else sweep_reason(cursor, reading, table, self.interval[1], taken_whole)
        if self.accepted and last is not None and not self.backfill:
            reason = reason or "deletions were accepted for this run"
        batch_id = open_batch(
            cursor, table, self.as_of, interval=self.interval, identity=reading.identity, snapshot=reading.snapshot,
            source_state=None if self.backfill else reading.states[table.name].as_json(),
        )  # fmt: skip
        parts = [copy_rows(reading, self.warehouse, table, batch_id, changed or sql.SQL("true"))]
        swept = None
        if reason is not None:
            swept = sweep(reading, self.warehouse, table, batch_id, changed, self.accepted)
            record_sweep(cursor, batch_id, reason, swept)
            parts += swept.added
        horizon = None if self.backfill else reading.horizon
        found = seal_batch(cursor, table, batch_id, added_totals(parts), horizon)
        self._note_batch(cursor, batch_id, last, found, taken_whole)
        self._note_card_numbers(cursor, batch_id)
        if swept is not None and reason is not None:
            self._note_sweep(cursor, batch_id, reason, swept)
        if last is not None:
            self._note_reuse(cursor, batch_id)
        return self._batch(
            "loaded", batch_id=batch_id, row_count=found.row_count, content_until=found.content_until,
            horizon=horizon, taken_whole=taken_whole, swept=swept,
        )  # fmt: skip

    def _what_changed(self, last: _Last | None) -> tuple[sql.Composable | None, str | None]:
        """The condition for the rows to take, None for all; and why all although the table has a batch, if so."""
        if self.backfill:
            moment = sql.Identifier(self.table.cursor)
            start, end = map(sql.Literal, self.interval)
            return sql.SQL("({0} >= {1} and {0} < {2})").format(moment, start, end), None
        if last is None or self.table.mode == "full":
            return None, None
        if last.identity != self.reading.identity:
            return None, f"the source was {last.identity or 'not known'}, and is {self.reading.identity}"
        next_xid = self.reading.next_xid
        if not within_reach(next_xid, last.horizon):
            return None, f"the source's next transaction is {next_xid}, out of reach of {last.horizon}"
        return changed_since(next_xid, last.horizon), None

    # --- what is worth a note

    def _note(
        self, cursor: Any, kind: str, severity: NoteSeverity, message: str, batch_id: int | None = None, **observed: Any
    ) -> None:
        note(
            cursor, source=self.table.source, table_name=self.table.name, kind=kind, severity=severity,
            message=message, as_of=self.as_of, interval_end=self.interval[1], batch_id=batch_id, observed=observed,
        )  # fmt: skip
        self.said.append(f"{kind}: {message}")

    def _note_added(self, cursor: Any, batch_id: int | None) -> None:
        for name, data_type in self.shape.added.items():
            declaration = f"- {{name: {name}, data_type: {data_type}}}"
            self._note(
                cursor, "added_column", "warn",
                f"{self.where} has a column {name} ({data_type}) that nobody declared, it was left out: to load it, "
                f"add `{declaration}` to the columns of {self.table.name} in the dbt source YAML and set up again",
                batch_id, column=name, data_type=data_type,
            )  # fmt: skip

    def _note_batch(
        self, cursor: Any, batch_id: int, last: _Last | None, found: Totals, taken_whole: str | None
    ) -> None:
        self._note_added(cursor, batch_id)
        changes = changed_types(last.columns, self.shape.columns) if last else []
        if changes:
            self._note(
                cursor, "column_changed", "warn",
                f"{self.where} changed and still is as declared: {'; '.join(changes)}", batch_id, changes=changes,
            )  # fmt: skip
        if taken_whole:
            self._note(
                cursor, "taken_whole", "warn", f"every row of {self.where} was taken again: {taken_whole}", batch_id
            )
        if self.alone:
            self._note(
                cursor, "other_snapshot", "warn",
                f"{self.where} was read without the other tables of the interval: their rows are from other moments, "
                f"in snapshots of their own (this one is {self.reading.snapshot})", batch_id,
            )  # fmt: skip
        if self.backfill:
            immutable = self.table.mode == "append"
            self._note(
                cursor, "backfilled", "warn",
                f"the interval lies before a loaded one, so its {found.row_count} rows of {self.where} are those whose "
                f"{self.table.cursor} lies in it, as they are now: "
                + ("events do not change, so they are complete" if immutable else "what they were before is gone"),
                batch_id, rows=found.row_count,
            )  # fmt: skip

    def _note_card_numbers(self, cursor: Any, batch_id: int) -> None:
        rows, columns = masked_rows(cursor, self.table, batch_id)
        if rows:
            self._note(
                cursor, "card_number", "fail",
                f"{rows} rows of {self.where} have a card number in {', '.join(columns)}: it was masked before it was "
                "stored. Find out who writes it there, and have it removed at the source",
                batch_id, rows=rows, columns=columns,
            )  # fmt: skip

    def _note_sweep(self, cursor: Any, batch_id: int, reason: str, swept: Swept) -> None:
        observed = {"compared": swept.rows_compared, "examples": list(swept.examples)}
        if swept.rows_missed and reason == DECLARED_ANEW:
            self._note(
                cursor, "columns_filled", "warn",
                f"{swept.rows_missed} rows of {self.where} came again, because {reason}",
                batch_id, rows=swept.rows_missed, **observed,
            )  # fmt: skip
        elif swept.rows_missed:
            self._note(
                cursor, "rows_missed", "fail",
                f"{swept.rows_missed} rows of {self.where} were not in raw, or not so, and no transaction since the "
                "last batch had written them: they are loaded now. Find out who changes raw, or restored the source",
                batch_id, rows=swept.rows_missed, **observed,
            )  # fmt: skip
        if swept.rows_deleted:
            said = f"{swept.rows_deleted} rows of {self.where} are gone at the source ({', '.join(swept.examples)}" + (
                ", ...)" if swept.rows_deleted > len(swept.examples) else ")"
            )
            if self.accepted:
                self._note(
                    cursor, "deletions_accepted", "warn", f"{said}, which this run was told to accept",
                    batch_id, rows=swept.rows_deleted, **observed,
                )  # fmt: skip
            else:
                self._note(
                    cursor, "rows_deleted", "fail" if self.table.amounts else "warn",
                    f"{said}: they count as zero from now on. Ask the source's owner why",
                    batch_id, rows=swept.rows_deleted, **observed,
                )  # fmt: skip

    def _note_reuse(self, cursor: Any, batch_id: int) -> None:
        reused = reused_keys(cursor, self.table, batch_id)
        if reused.otherwise:
            self._note(
                cursor, "key_reused", "fail",
                f"{reused.otherwise} keys of {self.where} came with other values in columns that never change "
                f"({', '.join(reused.examples)}): the source used an id again, or rewrote an event. They are loaded",
                batch_id, rows=reused.otherwise, examples=list(reused.examples),
            )  # fmt: skip
        elif reused.revived:
            self._note(
                cursor, "key_reused", "warn",
                f"{reused.revived} keys of {self.where} that were gone are there again ({', '.join(reused.examples)})",
                batch_id, rows=reused.revived, examples=list(reused.examples),
            )  # fmt: skip

    def _refused(self, cursor: Any, kind: str, problem: str, observed: dict[str, int] | None = None) -> Batch:
        self.said.clear()
        self._note_added(cursor, None)
        self._note(cursor, kind, "fail", problem, **(observed or {}))
        return self._batch("refused", problem=problem)

    def _batch(self, outcome: Outcome, **found: Any) -> Batch:
        table = self.table
        return Batch(
            table.source, table.name, table.raw_table, outcome, *self.interval,
            added_columns=tuple(self.shape.added), notes=tuple(self.said), **found,
        )  # fmt: skip
