"""Prove past batches again: against raw, and against the source where the source still can tell.

Raw never changes, so what a batch weighs today must be what its manifest said at the load. Rows of an ``append``
table never change at the source either: those of a batch must weigh the same there, and every row that the source
had written before the last snapshot must be in raw; keys that are known to be gone there are left out. Rows of the
other modes change at the source; for them, raw is all that can be proven.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Literal

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import make_dsn

from tieout.batches import (
    Totals,
    currency_columns,
    differing_totals,
    fold_totals,
    loading_transaction,
    raw_totals,
    totals_statement,
)
from tieout.extraction.copying import PIPE_BYTES
from tieout.extraction.identity import source_identity
from tieout.extraction.shape import source_identifier
from tieout.extraction.source import BEGIN_READING, SourceAddress, changed_since, connect_source, within_reach
from tieout.sources import BATCH_ID, IS_DELETED, Registry, Table, raw_identifier

THERE = sql.Identifier("source_rows")
SETTLED = "written_before_horizon"


class VerifyError(ValueError):
    """The batches asked for cannot be looked at; the message names them and the remedy."""


@dataclass(frozen=True)
class Verdict:
    """What one look at a batch showed. ``batch_id`` is None where the whole table was looked at.

    ``holds`` is None where it cannot be told; ``said`` gives both sides, or the reason.
    """

    batch_id: int | None
    source: str
    table: str
    against: Literal["raw", "source"]
    holds: bool | None
    said: str


@dataclass(frozen=True)
class _Batch:
    batch_id: int
    source: str
    table: str
    expected: Totals


def verify_batches(
    warehouse: Connection,
    registry: Registry,
    batch_ids: Iterable[int] = (),
    sources: Mapping[str, SourceAddress] | None = None,
) -> list[Verdict]:
    """Weigh batches again and compare with what their manifest says.

    :param warehouse: the loader's psycopg2 connection, in no transaction; nothing is changed.
    :param batch_ids: which batches; none means every batch.
    :param sources: source name to its address, for the sources to compare with as well.
    :returns: a verdict a batch against raw, then those against the sources.
    :raises VerifyError: a batch does not exist, or there is none at all.
    """
    wanted = sorted(set(batch_ids))
    declared = {(table.source, table.name): table for table in registry.tables}
    with loading_transaction(warehouse) as cursor:
        batches = _manifests(cursor, wanted)
        verdicts = [_against_raw(cursor, batch, declared.get((batch.source, batch.table))) for batch in batches]
        for table in registry.tables:
            mine = [batch for batch in batches if (batch.source, batch.table) == (table.source, table.name)]
            if mine and table.mode == "append" and table.source in (sources or {}):
                verdicts += _against_source(cursor, table, mine, (sources or {})[table.source])
    return verdicts


def source_addresses(registry: Registry, environment: Mapping[str, str]) -> dict[str, SourceAddress]:
    """Where the sources are, by the variables through which Airflow is told (``AIRFLOW_CONN_<CONNECTION>``).

    :returns: source name to a libpq URI or DSN, for those that the environment has.
    """
    found: dict[str, SourceAddress] = {}
    for source in registry.sources:
        told = environment.get(f"AIRFLOW_CONN_{(source.connection or '').upper()}")
        if told and told.startswith("{"):
            given = json.loads(told)
            names = {"host": "host", "port": "port", "user": "login", "password": "password", "dbname": "schema"}
            found[source.name] = make_dsn(**{name: given[field] for name, field in names.items() if given.get(field)})
        elif told:
            found[source.name] = told
    return found


def _manifests(cursor: Any, wanted: list[int]) -> list[_Batch]:
    cursor.execute(
        "select batch_id, source, table_name, row_count, key_hash, content_until from ops.batches "
        "where %s or batch_id = any(%s) order by batch_id",
        (not wanted, wanted),
    )
    rows = cursor.fetchall()
    missing = set(wanted) - {row[0] for row in rows}
    if missing or not rows:
        named = ", ".join(map(str, sorted(missing)))
        raise VerifyError(
            f"no batch {named} in ops.batches, which lists all there are" if missing else "nothing was loaded yet"
        )
    cursor.execute(
        "select batch_id, measure, currency, row_count, sum_minor from ops.batch_totals where batch_id = any(%s)",
        ([row[0] for row in rows],),
    )
    amounts: dict[int, dict[tuple[str, str], tuple[int, int]]] = {}
    for batch_id, measure, currency, count, total in cursor.fetchall():
        amounts.setdefault(batch_id, {})[measure, currency] = (count, int(total))
    return [
        _Batch(batch_id, source, table, Totals(count, int(key_hash), amounts.get(batch_id, {}), content_until))
        for batch_id, source, table, count, key_hash, content_until in rows
    ]


def _against_raw(cursor: Any, batch: _Batch, table: Table | None) -> Verdict:
    if table is None:
        said = "the table is no longer declared: declare it again in the dbt source YAML to prove its batches"
        return Verdict(batch.batch_id, batch.source, batch.table, "raw", None, said)
    found = raw_totals(cursor, table, batch.batch_id, batch.expected.row_count)
    return _compared(batch, found, "raw", f"in raw.{table.raw_table}")


def _compared(batch: _Batch, found: Totals, against: Literal["raw", "source"], found_at: str) -> Verdict:
    differences = differing_totals(batch.expected, found, "in the manifest", found_at)
    said = "; ".join(differences) or f"{found.row_count} rows, {len(found.amounts)} sums and the key hash agree"
    return Verdict(batch.batch_id, batch.source, batch.table, against, not differences, said)


def _against_source(cursor: Any, table: Table, batches: list[_Batch], address: SourceAddress) -> list[Verdict]:
    """Bring the source's rows of the batches' time here, once, and weigh each batch's keys among them."""
    ids = [batch.batch_id for batch in batches]
    cursor.execute("savepoint before_source")
    try:
        with closing(connect_source(address)) as source:
            horizon = _bring(cursor, source, table, ids)
    except psycopg2.Error as error:
        cursor.execute("rollback to savepoint before_source")
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return [Verdict(None, table.source, table.name, "source", None, f"could not be compared: {said}")]
    verdicts = []
    for batch in batches:
        keys, raw = sql.SQL(", ").join(map(sql.Identifier, table.key)), raw_identifier(table)
        kept = sql.SQL("{} = {} and ({}) not in (select {} from {} where {})").format(
            sql.Identifier(BATCH_ID), sql.Literal(batch.batch_id), keys, keys, raw, sql.Identifier(IS_DELETED)
        )
        cursor.execute(totals_statement(table, raw, kept))
        expected = fold_totals(table, cursor.fetchall())
        of_batch = sql.SQL("({}) in (select {} from {} where {})").format(keys, keys, raw, kept)
        cursor.execute(totals_statement(table, THERE, of_batch))
        found = fold_totals(table, cursor.fetchall())
        gone = batch.expected.row_count - expected.row_count
        # What the manifest says is known from raw already; where keys are gone, only the others can be compared.
        verdict = _compared(replace(batch, expected=expected) if gone else batch, found, "source", "at the source")
        left_out = f"; {gone} rows were left out, their keys are gone at the source" if gone else ""
        verdicts.append(replace(verdict, said=verdict.said + left_out))
    verdicts.append(_nothing_missing(cursor, table, horizon))
    cursor.execute(sql.SQL("drop table {}").format(THERE))
    return verdicts


def _bring(cursor: Any, source: Connection, table: Table, batch_ids: list[int]) -> int | None:
    """Copy keys and amounts of the source's rows of that time into a temporary table.

    :returns: the horizon before which every row must be in raw; None where the source is not the server it was.
    """
    columns = list(dict.fromkeys((*table.key, table.cursor, *currency_columns(table), *table.amounts)))
    typed = {name: sql.SQL(table.column(name).data_type) for name in columns}
    cursor.execute(
        "select horizon::text::bigint, source_identity from ops.batches where source = %s and table_name = %s "
        "and horizon is not null order by batch_id desc limit 1",
        (table.source, table.name),
    )
    last = cursor.fetchone()
    moment = sql.Identifier(table.cursor)
    cursor.execute(
        sql.SQL("select min({0}), max({0}) from {1} where {2} = any(%s)").format(
            moment, raw_identifier(table), sql.Identifier(BATCH_ID)
        ),
        (batch_ids,),
    )
    earliest, latest = cursor.fetchone()
    source.autocommit = True
    same = last is not None and last[1] == source_identity(source)
    with source.cursor() as reading:
        reading.execute(BEGIN_READING)
        reading.execute("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        (next_xid, *_) = reading.fetchone() or (0,)
        horizon = int(last[0]) if same and last is not None and within_reach(next_xid, int(last[0])) else None
        settled = sql.SQL("false") if horizon is None else sql.SQL("not {}").format(changed_since(next_xid, horizon))
        out = sql.SQL("copy (select {}, {} from {} where {} between {} and {} or {} is null) to stdout (format binary)")
        statement = out.format(
            sql.SQL(", ").join(sql.SQL("{}::{}").format(sql.Identifier(name), typed[name]) for name in columns),
            settled, source_identifier(table), moment, sql.Literal(earliest), sql.Literal(latest), moment,
        )  # fmt: skip
        fields = sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(name), typed[name]) for name in columns)
        cursor.execute(
            sql.SQL("create temporary table {} ({}, {} boolean) on commit drop").format(
                THERE, fields, sql.Identifier(SETTLED)
            )
        )
        _stream(reading, statement, cursor, sql.SQL("copy {} from stdin (format binary)").format(THERE))
    cursor.execute(sql.SQL("analyze {}").format(THERE))
    return horizon


def _stream(reading: Any, out: sql.Composable, cursor: Any, into: sql.Composable) -> None:
    read_end, write_end = os.pipe()

    def pump() -> None:
        with os.fdopen(write_end, "wb", PIPE_BYTES) as sink:
            reading.copy_expert(out, sink)

    with ThreadPoolExecutor(1) as thread, os.fdopen(read_end, "rb", PIPE_BYTES) as tap:
        pumped = thread.submit(pump)
        try:
            cursor.copy_expert(into, tap)
        except psycopg2.Error:
            tap.close()
            cause = pumped.exception()
            if isinstance(cause, psycopg2.Error):
                raise cause from None
            raise
        pumped.result()


def _nothing_missing(cursor: Any, table: Table, horizon: int | None) -> Verdict:
    if horizon is None:
        said = "whether the source has rows that are in no batch cannot be told: it is not the server it was"
        return Verdict(None, table.source, table.name, "source", None, said)
    same_key = sql.SQL(" and ").join(
        sql.SQL("r.{0} = s.{0}").format(sql.Identifier(name)) for name in table.key
    )  # fmt: skip
    cursor.execute(
        sql.SQL(
            "select count(*), count(*) filter (where not exists (select from {} r where {})) from {} s where s.{}"
        ).format(raw_identifier(table), same_key, THERE, sql.Identifier(SETTLED))
    )
    rows, lost = cursor.fetchone()
    said = f"of {rows} rows the source wrote in that time before the last horizon, {lost} are in no batch"
    return Verdict(None, table.source, table.name, "source", lost == 0, said)
