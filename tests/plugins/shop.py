"""A shop whose database is extracted: the source, a warehouse, and the days that pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from tieout.extraction.snapshot import Batch, take_snapshot
from tieout.postgres import Cluster
from tieout.sources import Registry, ensure_raw_tables, load_registry

DAY = datetime(2026, 10, 19, tzinfo=UTC)
AS_OF = datetime(2026, 10, 28, 4, tzinfo=UTC)

DECLARATION = """
sources:
  - name: shop
    schema: raw
    config:
      meta: {owner: payments-data, kind: snapshot, connection: shop, schema: shop, classification: internal,
             mode: incremental, cursor: updated_at}
    tables:
      - name: orders
        identifier: shop_orders
        config: {meta: {key: [order_id], amounts: {amount_minor: currency}}}
        columns:
          - {name: order_id, data_type: text, constraints: [{type: not_null}]}
          - {name: amount_minor, data_type: bigint}
          - {name: currency, data_type: text}
          - {name: note, data_type: text}
          - {name: updated_at, data_type: timestamptz, constraints: [{type: not_null}]}
      - name: lines
        identifier: shop_lines
        config: {meta: {key: [order_id, line_no], mode: %(mode)s}}
        columns:
          - {name: order_id, data_type: text, constraints: [{type: not_null}]}
          - {name: line_no, data_type: integer, constraints: [{type: not_null}]}
          - {name: rate, data_type: numeric}
          - {name: details, data_type: jsonb}
          - {name: updated_at, data_type: timestamptz}
"""

SOURCE_TABLES = """
create schema shop;
create table shop.orders (
    order_id text primary key, amount_minor bigint, currency text, note text,
    updated_at timestamptz not null default '2026-10-19 12:00+00'
);
create table shop.lines (
    order_id text not null, line_no integer not null, rate numeric, details jsonb, updated_at timestamptz,
    primary key (order_id, line_no)
);
insert into shop.orders (order_id, amount_minor, currency, note)
select 'o' || i, i * 7, (array['EUR', 'JPY', 'KWD'])[1 + i %% 3], e'tab\\there' from generate_series(1, %(orders)s) i;
insert into shop.lines select 'o' || i, 1, i / 3.0, jsonb_build_object('n', i), null from generate_series(1, 50) i;
"""


def registry_of(folder: Path, mode: str = "incremental") -> Registry:
    (folder / "models").mkdir(exist_ok=True)
    (folder / "models" / "shop.yml").write_text(DECLARATION % {"mode": mode})
    return load_registry(folder)


class World:
    """A shop's database, a warehouse, and the days that pass."""

    def __init__(self, cluster: Cluster, source: str, warehouse: Connection, registry: Registry) -> None:
        self.cluster = cluster
        self.dsn = cluster.dsn(source)
        self.source = psycopg2.connect(self.dsn)
        self.source.autocommit = True
        self.warehouse = warehouse
        self.registry = registry
        self.deleted: dict[str, int] = {}

    def run(self, day: int = 0, warehouse: Connection | None = None, **choice: Any) -> dict[str, Batch]:
        """Extract the shop of now as the interval of a day; ``choice`` is what take_snapshot takes besides."""
        start = DAY + timedelta(days=day)
        batches = take_snapshot(
            self.dsn, warehouse or self.warehouse, self.registry, "shop", start, start + timedelta(days=1), AS_OF,
            **choice,
        )  # fmt: skip
        return {batch.table: batch for batch in batches}

    def declare(self, table: str, **changes: Any) -> None:
        """Change the declaration of a table."""
        (source,) = self.registry.sources
        tables = tuple(replace(one, **changes) if one.name == table else one for one in source.tables)
        self.registry = Registry((replace(source, tables=tables),))

    def sell(self, statement: str, *arguments: Any) -> None:
        with self.source.cursor() as cursor:
            cursor.execute(statement, arguments or None)

    def ask(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with self.warehouse, self.warehouse.cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return list(cursor.fetchall())

    def delete(self, where: str, table: str = "orders") -> None:
        """Delete rows at the source, and wait until its statistics know: a backend that ends hands them over."""
        with psycopg2.connect(self.dsn) as connection, connection.cursor() as cursor:
            cursor.execute(f"delete from shop.{table} where {where}")
        connection.close()
        deadline = time.monotonic() + 30
        while self._deleted(table) == self.deleted.get(table, 0):
            assert time.monotonic() < deadline, "the deletion does not show in the source's statistics"
            time.sleep(0.01)
        self.deleted[table] = self._deleted(table)

    def _deleted(self, table: str) -> int:
        with self.source.cursor() as cursor:
            cursor.execute("select pg_stat_get_tuples_deleted(%s::regclass)", (f"shop.{table}",))
            return int((cursor.fetchone() or (0,))[0])

    def notes(self) -> list[tuple[str, str, str]]:
        """(table, kind, severity) of every note, in the order written."""
        return self.ask("select table_name, kind, severity from ops.load_notes order by note_id")  # type: ignore[return-value]

    def said(self, kind: str) -> str:
        """The newest note of a kind."""
        (row,) = self.ask("select message from ops.load_notes where kind = %s order by note_id desc limit 1", kind)
        return str(row[0])

    def loaded(self) -> tuple[int, int, int]:
        """Rows of raw.shop_orders, batches, totals: all that a load leaves."""
        (row,) = self.ask(
            "select (select count(*) from raw.shop_orders), (select count(*) from ops.batches), "
            "(select count(*) from ops.batch_totals)"
        )
        return row[0], row[1], row[2]


@pytest.fixture
def world(cluster: Cluster, database: Callable[..., str], warehouse: Connection, tmp_path: Path) -> Iterator[World]:
    registry = registry_of(tmp_path)
    ensure_raw_tables(warehouse, registry)
    source = database("shop")
    with cluster.connect(source) as connection, connection.cursor() as cursor:
        cursor.execute(SOURCE_TABLES % {"orders": 300})
    made = World(cluster, source, warehouse, registry)
    yield made
    made.source.close()
