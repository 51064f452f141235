"""Batches: their manifest in ``ops``, and their control totals, taken alike at the source and in raw, and compared.

A total is a count and an exact sum of minor units per amount column and currency; the key hash tells
batches with equal sums and other rows apart. Sums are integers, so their order does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as Connection
from psycopg2.extras import Json

from tieout.digests import HEX_DIGITS, md5_sum
from tieout.failpoints import Failpoint, reach
from tieout.sources import BATCH_ID, FILE_ID, Table, raw_identifier

# What ISO 4217 calls an amount without a currency: a null currency must not hide an amount from the totals.
NO_CURRENCY = "XXX"
KEY_SEPARATOR = "|"
# Fewer rows are weighed before other processes have started.
PARALLEL_FROM_ROWS = 100_000
PARALLEL_COSTS = ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_index_scan_size")

# Keys and rows are hashed as text: both sides must spell every type alike.
SESSION_SPELLING = (
    "set local timezone = 'UTC'; set local datestyle = 'ISO, YMD'; set local intervalstyle = 'postgres'; "
    "set local extra_float_digits = 1; set local bytea_output = 'hex'"
)


class TotalsMismatchError(RuntimeError):
    """What was loaded is not what the source has; the message names table, measure, expected and found."""


@dataclass(frozen=True)
class Totals:
    """What one batch of one table weighs.

    ``amounts`` maps (amount column, currency) to (rows that carry the amount, sum of its minor units);
    ``content_until`` is the newest value of the table's cursor column, None for no rows.
    """

    row_count: int
    key_hash: int
    amounts: Mapping[tuple[str, str], tuple[int, int]]
    content_until: datetime | None = None


@contextmanager
def loading_transaction(warehouse: Connection) -> Iterator[Any]:
    """One transaction of the loader: a cursor whose work is committed as a whole, or not at all.

    :param warehouse: a psycopg2 connection in no transaction; whether it commits by itself otherwise does not matter.
    :raises TypeError: it is another driver's connection.
    :raises ValueError: it is inside a transaction, which is not ours to end.
    :raises psycopg2.OperationalError: the connection broke off.
    """
    if not isinstance(warehouse, Connection):
        raise TypeError(
            f"the warehouse connection comes from {type(warehouse).__module__}: open it with psycopg2.connect, "
            "whose COPY streams (Airflow's PostgresHook gives one of psycopg 3 where that is installed)"
        )
    if warehouse.get_transaction_status() != TRANSACTION_STATUS_IDLE:
        raise ValueError("the warehouse connection is inside a transaction: commit or roll it back first")
    autocommit, warehouse.autocommit = warehouse.autocommit, False
    try:
        with warehouse, warehouse.cursor() as cursor:
            cursor.execute("set transaction isolation level read committed, read write")
            cursor.execute(SESSION_SPELLING)
            yield cursor
    except psycopg2.InterfaceError as closed:
        # The roll-back found the connection closed: what closed it is the news.
        lost = closed.__context__
        if not isinstance(lost, psycopg2.Error):
            raise
        said = (str(lost).strip().splitlines() or [type(lost).__name__])[0]
        raise psycopg2.OperationalError(
            f"the connection to the warehouse broke off ({said}): run again, nothing was committed"
        ) from lost
    finally:
        with suppress(psycopg2.InterfaceError):  # the server is gone, and the error that says so is on its way
            warehouse.autocommit = autocommit


def open_batch(
    cursor: Any,
    table: Table,
    as_of: datetime,
    *,
    interval: tuple[datetime, datetime] | None = None,
    file_id: int | None = None,
    identity: str | None = None,
    snapshot: str | None = None,
    source_state: Mapping[str, Any] | None = None,
) -> int:
    """Enter a batch of an interval or of a file in the manifest; :func:`seal_batch` completes it before the commit.

    :param identity: of the source that the batch's horizon will belong to.
    :param snapshot: of the source, in which the rows are read; pg_snapshot as text.
    :param source_state: what the next batch compares the source table with, JSON-able.
    :returns: the batch's id, which its raw rows carry.
    """
    start, end = interval or (None, None)
    cursor.execute(
        "insert into ops.batches "
        "(source, table_name, interval_start, interval_end, file_id, row_count, key_hash, as_of, source_identity, "
        "snapshot, source_state) values (%s, %s, %s, %s, %s, 0, 0, %s, %s, %s, %s) returning batch_id",
        (
            table.source, table.name, start, end, file_id, as_of, identity, snapshot,
            None if source_state is None else Json(source_state),
        ),
    )  # fmt: skip
    batch_id = int(cursor.fetchone()[0])
    reach(Failpoint.BATCH_OPENED)
    return batch_id


def seal_batch(cursor: Any, table: Table, batch_id: int, expected: Totals, horizon: int | None = None) -> Totals:
    """Weigh the batch's raw rows, compare them with what the source had, and write the totals down.

    :param expected: totals of the source; without a ``content_until``, raw's is kept.
    :param horizon: 64-bit transaction id at the source from which the next batch starts.
    :returns: the totals of raw.
    :raises TotalsMismatchError: raw differs; the caller's transaction must be rolled back.
    """
    reach(Failpoint.BEFORE_TOTALS)
    found = raw_totals(cursor, table, batch_id, expected.row_count)
    compare_totals(table, expected, found, "at the source", f"in raw.{table.raw_table}")
    reach(Failpoint.BEFORE_MANIFEST)
    cursor.execute(
        "update ops.batches set row_count = %s, key_hash = %s, content_until = %s, horizon = %s::xid8 "
        "where batch_id = %s",
        (found.row_count, found.key_hash, found.content_until, None if horizon is None else str(horizon), batch_id),
    )
    for (measure, currency), (rows, total_minor) in sorted(expected.amounts.items()):
        cursor.execute(
            "insert into ops.batch_totals (batch_id, measure, currency, row_count, sum_minor) "
            "values (%s, %s, %s, %s, %s)",
            (batch_id, measure, currency, rows, total_minor),
        )
    reach(Failpoint.AFTER_MANIFEST)
    return found


def raw_totals(cursor: Any, table: Table, batch_id: int, row_count: int) -> Totals:
    """What a batch's rows in raw weigh now. The session must spell as :data:`SESSION_SPELLING` says.

    :param row_count: how many rows are expected: many are weighed by several processes of the server.
    """
    is_large = row_count >= PARALLEL_FROM_ROWS
    if is_large:
        cursor.execute("; ".join(f"set local {name} = 0" for name in PARALLEL_COSTS))
    # Of a number it would look up that rows of the newest batch are rare, having counted before they came.
    batch = sql.SQL("(select {}::bigint)" if is_large else "{}").format(sql.Literal(batch_id))
    condition = sql.SQL("{} = {}").format(sql.Identifier(BATCH_ID), batch)
    cursor.execute(totals_statement(table, raw_identifier(table), condition))
    totals = fold_totals(table, cursor.fetchall())
    if is_large:
        cursor.execute("; ".join(f"set local {name} to default" for name in PARALLEL_COSTS))
    return totals


def hashed_key(table: Table) -> tuple[str, ...]:
    """The key columns that the key hash covers: all but ``file_id``, which one batch has only once."""
    return tuple(name for name in table.key if name != FILE_ID)


def key_text(table: Table, alias: str | None = None) -> sql.Composed:
    """The key of a row as one text.

    :param alias: of the relation the row is from, where several have these columns.
    """
    columns = (sql.Identifier(*((alias,) if alias else ()), name) for name in hashed_key(table))
    return sql.SQL("concat_ws({}, {})").format(sql.Literal(KEY_SEPARATOR), sql.SQL(", ").join(columns))


def hashed(text: sql.Composable, hex_digits: int) -> sql.Composed:
    """So many hexadecimal digits of the text's md5, as a bigint that is not negative: at most :data:`HEX_DIGITS`."""
    return sql.SQL("('x' || left(md5({}), {}))::bit({})::bigint").format(
        text, sql.Literal(hex_digits), sql.Literal(hex_digits * 4)
    )


def totals_statement(table: Table, relation: sql.Composable, condition: sql.Composable) -> sql.Composed:
    """One scan's totals of ``relation`` where ``condition``, grouped by the currency columns.

    Rows are (row_count, key_hash, content_until, one currency a currency column ..., then for each amount
    column rows that carry it and their sum): :func:`fold_totals` adds the groups up.
    """
    currencies = currency_columns(table)
    columns: list[sql.Composable] = [
        sql.SQL("count(*)"),
        sql.SQL("coalesce(sum({}), 0)").format(hashed(key_text(table), HEX_DIGITS)),
        sql.SQL("max({})::timestamptz").format(sql.Identifier(table.cursor)),
        *map(sql.Identifier, currencies),
    ]
    for amount in table.amounts:
        columns.append(sql.SQL("count({0}), coalesce(sum({0}), 0)").format(sql.Identifier(amount)))
    statement = sql.SQL("select {} from {} where {}").format(sql.SQL(", ").join(columns), relation, condition)
    if currencies:
        statement += sql.SQL(" group by {}").format(sql.SQL(", ").join(map(sql.Identifier, currencies)))
    return statement


def added_totals(parts: Iterable[Totals]) -> Totals:
    """What several parts of one batch weigh together."""
    row_count, key_hash, content_until = 0, 0, None
    amounts: dict[tuple[str, str], tuple[int, int]] = {}
    for part in parts:
        row_count += part.row_count
        key_hash += part.key_hash
        content_until = max(filter(None, (content_until, part.content_until)), default=None)
        for measure, (carrying, total) in part.amounts.items():
            before = amounts.get(measure, (0, 0))
            amounts[measure] = (before[0] + carrying, before[1] + total)
    return Totals(row_count, key_hash, amounts, content_until)


def fold_totals(table: Table, groups: Iterable[tuple[Any, ...]]) -> Totals:
    """Add the groups of :func:`totals_statement` up to the totals of the batch."""
    currencies = currency_columns(table)
    first_amount = 3 + len(currencies)
    row_count, key_hash, content_until = 0, 0, None
    amounts: dict[tuple[str, str], tuple[int, int]] = {}
    for group in groups:
        row_count += group[0]
        key_hash += int(group[1])
        if group[2] is not None and (content_until is None or group[2] > content_until):
            content_until = group[2]
        for position, (amount, currency_column) in enumerate(table.amounts.items()):
            carrying, total = group[first_amount + 2 * position : first_amount + 2 * position + 2]
            if not carrying:
                continue
            currency = group[3 + currencies.index(currency_column)] or NO_CURRENCY
            before = amounts.get((amount, currency), (0, 0))
            amounts[amount, currency] = (before[0] + carrying, before[1] + int(total))
    return Totals(row_count, key_hash, amounts, content_until)


def currency_columns(table: Table) -> list[str]:
    """The distinct currency columns of a table's amounts, in the order declared."""
    return list(dict.fromkeys(table.amounts.values()))


def key_hash_of(values: Iterable[object]) -> int:
    """One row's share of the key hash, as Postgres computes it: values spelled as their SQL text, UTC.

    Takes text, whole numbers and dates, which read the same in Python and in SQL.
    """
    return md5_sum([KEY_SEPARATOR.join(map(str, values)).encode()])


def compare_totals(table: Table, expected: Totals, found: Totals, expected_at: str, found_at: str) -> None:
    """Refuse a batch that differs in any total.

    :raises TotalsMismatchError: naming the table and every measure that differs, with both sides.
    """
    differences = differing_totals(expected, found, expected_at, found_at)
    if differences:
        raise TotalsMismatchError(
            f"control totals of {table.source}.{table.name} differ, nothing was loaded: " + "; ".join(differences)
        )


def differing_totals(expected: Totals, found: Totals, expected_at: str, found_at: str) -> list[str]:
    """Every measure in which the two differ, with both sides, as text; empty when none does."""
    differences = []
    if expected.row_count != found.row_count:
        differences.append(f"row count: {expected_at} {expected.row_count}, {found_at} {found.row_count}")
    if expected.key_hash != found.key_hash:
        differences.append(f"key hash: {expected_at} {expected.key_hash}, {found_at} {found.key_hash}")
    for measure, currency in sorted(expected.amounts.keys() | found.amounts.keys()):
        wanted, got = (side.amounts.get((measure, currency), (0, 0)) for side in (expected, found))
        if wanted != got:
            differences.append(
                f"{measure} in {currency}: {expected_at} {wanted[0]} rows, sum {wanted[1]}; "
                f"{found_at} {got[0]} rows, sum {got[1]}"
            )
    return differences
