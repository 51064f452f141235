"""The sweep: every row of the source compared with the latest version in raw, which finds what no horizon shows.

A transaction horizon finds whatever was written. It cannot show a row that is gone, nor one that somebody lost on our
side. So, when there is a sign of it and every few days without one, both sides weigh their rows by buckets of keys,
in the snapshot the batch itself was read in. Where a bucket differs, the batch takes all the source's rows of it;
a key that raw has alive there and the source has not is gone, and gets a tombstone: its last row, every amount zero.
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from tieout.batches import Totals, fold_totals, hashed, key_text, totals_statement
from tieout.digests import HEX_DIGITS
from tieout.extraction.copying import copy_rows
from tieout.extraction.known_keys import EXAMPLES_MAX, row_text, rows_otherwise
from tieout.extraction.shape import source_rows
from tieout.extraction.source import Reading, source_errors
from tieout.failpoints import Failpoint, reach
from tieout.sources import BATCH_ID, IS_DELETED, Table, raw_identifier

# One of so many that a difference brings few rows along: fifteen in a table of a million. Four hexadecimal digits.
BUCKET_DIGITS = 4
# A table that loses more than this at once was more likely emptied by mistake than cleaned up. Below a hundred rows
# a share says nothing: then only a table that is empty is refused.
DELETIONS_FREE = 100
DELETIONS_SHARE = 10  # one in so many of the living keys


class DeletionsRefusedError(RuntimeError):
    """So many keys are gone that a person has to confirm it; ``kind`` is the note's, ``observed`` the numbers."""

    def __init__(self, kind: str, message: str, observed: dict[str, int]) -> None:
        super().__init__(message)
        self.kind = kind
        self.observed = observed


@dataclass(frozen=True)
class Swept:
    """What a sweep found. ``added`` are the totals of what it put into the batch; ``examples`` are keys now gone."""

    rows_compared: int
    buckets_differing: int
    rows_missed: int
    rows_deleted: int
    added: tuple[Totals, ...] = ()
    examples: tuple[str, ...] = ()


def sweep_reason(
    cursor: Any, reading: Reading, table: Table, interval_end: datetime, taken_whole: str | None
) -> str | None:
    """Why every row of the table has to be compared in this run; None when nothing asks for it."""
    cursor.execute(
        "select b.source_state, (select max(s.interval_end) from ops.batches s where s.source = b.source "
        "  and s.table_name = b.table_name and (s.batch_id in (select batch_id from ops.sweeps) "
        "  or s.batch_id = (select min(f.batch_id) from ops.batches f "
        "                   where f.source = b.source and f.table_name = b.table_name))) "
        "from ops.batches b where b.source = %s and b.table_name = %s and b.horizon is not null "
        "order by b.batch_id desc limit 1",
        (table.source, table.name),
    )
    last = cursor.fetchone()
    if last is None:
        return None
    state, before = reading.states[table.name], last[0]
    if table.mode == "full":
        return "a full table shows what is gone by leaving it out"
    if taken_whole is not None:
        return taken_whole
    if state.is_empty:
        return "it is empty at the source"
    if before is None:
        return "the last batch did not keep the source's state"
    sign = state.differs_from(before)
    if sign is None and (interval_end - last[1]).total_seconds() >= table.sweep_every_days * 86400:
        return f"the last sweep was up to {last[1].isoformat()}"
    return sign


def sweep(
    reading: Reading,
    warehouse: Connection,
    table: Table,
    batch_id: int,
    changed: sql.Composable | None,
    accepted: bool,
) -> Swept:
    """Compare all rows, and bring the batch to where raw's latest versions are the source's rows.

    :param changed: which rows the batch has already; None for all of them.
    :param accepted: a person said that the deletions are meant.
    :raises DeletionsRefusedError: the table is empty, or lost too many rows; the batch must be rolled back.
    :raises psycopg2.IntegrityError, psycopg2.DataError: as :func:`tieout.extraction.copying.copy_rows`.
    """
    reach(Failpoint.BEFORE_SWEEP)
    there, here = _both_sides(reading, warehouse, table)
    compared, living = (sum(count for count, _ in side.values()) for side in (there, here))
    if living and not compared and not accepted:
        raise DeletionsRefusedError(
            "truncated",
            f"{table.source_schema}.{table.name} is empty at the source, and raw has {living} rows of it",
            {"living": living, "deleted": living},
        )
    differing = sorted(bucket for bucket in there.keys() | here.keys() if there.get(bucket) != here.get(bucket))
    if not differing:
        return Swept(compared, 0, 0, 0)
    added = []
    missed = 0
    with warehouse.cursor() as cursor:
        if changed is not None:
            of_batch = _in_buckets(table, differing, "fresh")
            already = rows_otherwise(cursor, table, batch_id, of_batch)
            unseen = sql.SQL("not {} and {}").format(changed, _in_buckets(table, differing))
            added.append(copy_rows(reading, warehouse, table, batch_id, unseen))
            missed = rows_otherwise(cursor, table, batch_id, of_batch) - already
        reach(Failpoint.MID_SWEEP)
        tombstones = _bury(cursor, table, batch_id, differing)
        added.append(tombstones)
        allowed = _allowed(table, living)
        if tombstones.row_count > allowed and not accepted:
            raise DeletionsRefusedError(
                "mass_deletion",
                f"{tombstones.row_count} of {living} rows of {table.source_schema}.{table.name} are gone at the "
                f"source, {allowed} at once are let through (deletions_max)",
                {"living": living, "deleted": tombstones.row_count, "allowed": allowed},
            )
        examples = _gone(cursor, table, batch_id)
    return Swept(compared, len(differing), missed, tombstones.row_count, tuple(added), examples)


def record_sweep(cursor: Any, batch_id: int, reason: str, swept: Swept) -> None:
    """Write the sweep down beside its batch."""
    cursor.execute(
        "insert into ops.sweeps (batch_id, reason, rows_compared, buckets_differing, rows_missed, rows_deleted) "
        "values (%s, %s, %s, %s, %s, %s)",
        (batch_id, reason, swept.rows_compared, swept.buckets_differing, swept.rows_missed, swept.rows_deleted),
    )


def _allowed(table: Table, living: int) -> int:
    if table.deletions_max is not None:
        return table.deletions_max
    return max(DELETIONS_FREE, living // DELETIONS_SHARE)


Buckets = dict[int, tuple[int, int]]


def _both_sides(reading: Reading, warehouse: Connection, table: Table) -> tuple[Buckets, Buckets]:
    """Bucket -> (rows, sum of the rows' hashes), of the source's rows and of raw's latest living versions."""
    everything = source_rows(table, reading.shapes[table.name], sql.SQL("true"))
    latest = _latest(table, sql.SQL("true"))

    def weigh_source() -> Buckets:
        with source_errors(reading.named, f"comparing {table.name}"), reading.totals.cursor() as cursor:
            cursor.execute(_bucket_statement(table, everything, "source_rows"))
            return {bucket: (count, int(weight)) for bucket, count, weight in cursor.fetchall()}

    with ThreadPoolExecutor(1) as thread, warehouse.cursor() as cursor:
        weighed = thread.submit(weigh_source)
        try:
            cursor.execute(_bucket_statement(table, latest, "latest"))
        except BaseException:
            reading.totals.cancel()
            raise
        here = {bucket: (count, int(weight)) for bucket, count, weight in cursor.fetchall()}
        return weighed.result(), here


def _bucket_statement(table: Table, relation: sql.Composable, alias: str) -> sql.Composed:
    # Without the offset Postgres would carry whole rows, not two numbers, into the grouping.
    return sql.SQL(
        "select bucket, count(*), sum(weight) from (select {} as bucket, {} as weight from {} offset 0) weighed "
        "group by bucket"
    ).format(_bucket(table, alias), hashed(row_text(table.column_names, alias), HEX_DIGITS), relation)


def _bucket(table: Table, alias: str | None) -> sql.Composed:
    return hashed(key_text(table, alias), BUCKET_DIGITS)


def _in_buckets(table: Table, buckets: Collection[int], alias: str | None = None) -> sql.Composed:
    return sql.SQL("{} = any({}::bigint[])").format(_bucket(table, alias), sql.Literal(list(buckets)))


def _latest(table: Table, condition: sql.Composable) -> sql.Composed:
    """The latest version of every key that raw has alive, where ``condition``; a relation named latest."""
    same_key = sql.SQL(" and ").join(
        sql.SQL("newer.{0} = version.{0}").format(sql.Identifier(name)) for name in table.key
    )
    return sql.SQL(
        "(select * from {raw} version where {condition} and not {gone} and not exists ("
        "select from {raw} newer where {same_key} and newer.{batch} > version.{batch})) latest"
    ).format(
        raw=raw_identifier(table), condition=condition, gone=sql.Identifier(IS_DELETED), same_key=same_key,
        batch=sql.Identifier(BATCH_ID),
    )  # fmt: skip


def _bury(cursor: Any, table: Table, batch_id: int, buckets: Collection[int]) -> Totals:
    """Put a tombstone into the batch for every living key of the buckets whose latest version is not of the batch.

    The batch holds every row that the source has in them, so those keys are gone. Returns the tombstones' totals.
    """
    names = sql.SQL(", ").join(map(sql.Identifier, (BATCH_ID, IS_DELETED, *table.column_names)))
    values = sql.SQL(", ").join(
        sql.SQL("0") if name in table.amounts else sql.Identifier(name) for name in table.column_names
    )
    statement = sql.SQL(
        "with gone as (insert into {raw} ({names}) select {number}, true, {values} from {latest} "
        "where {batch} <> {number} returning *) "
    ).format(
        raw=raw_identifier(table),
        names=names,
        number=sql.Literal(batch_id),
        values=values,
        latest=_latest(table, _in_buckets(table, buckets, "version")),
        batch=sql.Identifier(BATCH_ID),
    )
    cursor.execute(statement + totals_statement(table, sql.SQL("gone"), sql.SQL("true")))
    return fold_totals(table, cursor.fetchall())


def _gone(cursor: Any, table: Table, batch_id: int) -> tuple[str, ...]:
    cursor.execute(
        sql.SQL("select {0} from {1} where {2} = {3} and {4} order by 1 limit {5}").format(
            key_text(table), raw_identifier(table), sql.Identifier(BATCH_ID), sql.Literal(batch_id),
            sql.Identifier(IS_DELETED), sql.Literal(EXAMPLES_MAX),
        )
    )  # fmt: skip
    return tuple(key for (key,) in cursor.fetchall())
