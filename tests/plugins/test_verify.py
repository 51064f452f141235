"""Verify: a batch that is what it was holds; whatever was touched since is named, in raw and at the source."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from tieout.batches import Totals, key_hash_of, open_batch, seal_batch
from tieout.extraction.snapshot import take_snapshot
from tieout.extraction.verify import Verdict, VerifyError, source_addresses, verify_batches
from tieout.postgres import Cluster, free_port
from tieout.sources import Registry, ensure_raw_tables, load_registry

DAY = datetime(2026, 10, 19, tzinfo=UTC)

DECLARATION = """
sources:
  - name: shop
    schema: raw
    config:
      meta: {owner: payments-data, kind: snapshot, connection: shop, schema: shop, classification: internal,
             cursor: sold_at}
    tables:
      - name: sales
        identifier: shop_sales
        config: {meta: {key: [sale_id, part], mode: append, amounts: {amount_minor: currency}}}
        columns:
          - {name: sale_id, data_type: bigint, constraints: [{type: not_null}]}
          - {name: part, data_type: text, constraints: [{type: not_null}]}
          - {name: amount_minor, data_type: bigint}
          - {name: currency, data_type: text}
          - {name: sold_at, data_type: timestamptz}
      - name: customers
        identifier: shop_customers
        config: {meta: {key: [customer_id], mode: incremental}}
        columns:
          - {name: customer_id, data_type: bigint, constraints: [{type: not_null}]}
          - {name: sold_at, data_type: timestamptz}
"""
SOURCE_TABLES = """
create schema shop;
create type shop.part as enum ('left', 'right');
create table shop.sales (
    sale_id bigint, part shop.part, amount_minor bigint, currency text, sold_at timestamptz,
    primary key (sale_id, part)
);
create table shop.customers (customer_id bigint primary key, sold_at timestamptz);
insert into shop.customers select i, now() from generate_series(1, 20) i;
"""
SELL = """
insert into shop.sales select i, p, i * 3, (array['EUR', 'JPY', null])[1 + i %% 3], %s
from generate_series(%s, %s) i, unnest(enum_range(null::shop.part)) p
"""


class Shop:
    """Two days of sales, loaded; a connection to each side that is not the pipeline's."""

    def __init__(self, cluster: Cluster, name: str, warehouse: Connection, registry: Registry) -> None:
        self.dsn = cluster.dsn(name)
        self.warehouse = warehouse
        self.registry = registry
        self.source = psycopg2.connect(self.dsn)
        self.source.autocommit = True
        self.sell(SOURCE_TABLES)
        self.days = [self.day(0, 1, 100), self.day(1, 101, 150)]

    def sell(self, statement: str, *arguments: Any) -> None:
        with self.source.cursor() as cursor:
            cursor.execute(statement, arguments or None)

    def damage(self, statement: str) -> None:
        with self.warehouse, self.warehouse.cursor() as cursor:
            cursor.execute(statement)
            assert cursor.rowcount > 0

    def day(self, number: int, first: int, last: int) -> dict[str, int]:
        start = DAY + timedelta(days=number)
        self.sell(SELL, start, first, last)
        loaded = take_snapshot(
            self.dsn, self.warehouse, self.registry, "shop", start, start + timedelta(days=1), start
        )  # fmt: skip
        return {batch.table: batch.batch_id or 0 for batch in loaded}

    def verify(self, *batches: int, source: bool = True) -> list[Verdict]:
        return verify_batches(self.warehouse, self.registry, batches, {"shop": self.dsn} if source else None)


@pytest.fixture
def shop(cluster: Cluster, database: Callable[..., str], warehouse: Connection, tmp_path: Path) -> Iterator[Shop]:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "shop.yml").write_text(DECLARATION)
    registry = load_registry(tmp_path)
    ensure_raw_tables(warehouse, registry)
    made = Shop(cluster, database("shop"), warehouse, registry)
    yield made
    made.source.close()


def outcomes(verdicts: list[Verdict]) -> list[tuple[int | None, str, bool | None]]:
    return [(verdict.batch_id, verdict.against, verdict.holds) for verdict in verdicts]


def test_every_batch_holds_and_append_tables_hold_at_the_source(shop: Shop) -> None:
    first, second = shop.days
    verdicts = shop.verify()
    assert outcomes(verdicts) == [
        (first["sales"], "raw", True),
        (first["customers"], "raw", True),
        (second["sales"], "raw", True),
        (second["customers"], "raw", True),
        (first["sales"], "source", True),
        (second["sales"], "source", True),
        (None, "source", True),
    ]
    assert verdicts[0].said == "200 rows, 3 sums and the key hash agree"
    assert "300 rows the source wrote in that time before the last horizon, 0 are in no batch" in verdicts[-1].said


def test_verifying_changes_nothing_and_can_be_done_again(shop: Shop) -> None:
    assert shop.verify() == shop.verify()
    with shop.warehouse, shop.warehouse.cursor() as cursor:
        cursor.execute("select count(*) from pg_class where relname = 'source_rows'")
        assert cursor.fetchone() == (0,)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("update raw.shop_sales set amount_minor = amount_minor + 1 where sale_id = 1 and part = 'left'", "in JPY: in"),
        ("delete from raw.shop_sales where sale_id = 9", "row count: in the manifest 200, in raw.shop_sales 198"),
        ("insert into raw.shop_sales select * from raw.shop_sales where sale_id = 9", "in raw.shop_sales 202"),
        ("update raw.shop_sales set part = 'middle' where sale_id = 9", "key hash: in the manifest"),
        ("update raw.shop_sales set currency = 'USD' where sale_id = 9", "amount_minor in USD: in the manifest 0 rows"),
    ],
)
def test_a_batch_touched_in_raw_is_named(shop: Shop, damage: str, said: str) -> None:
    shop.damage(damage)
    verdicts = shop.verify(shop.days[0]["sales"], source=False)
    assert outcomes(verdicts) == [(shop.days[0]["sales"], "raw", False)]
    assert said in verdicts[0].said
    assert outcomes(shop.verify(shop.days[1]["sales"], source=False)) == [(shop.days[1]["sales"], "raw", True)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("update shop.sales set amount_minor = 0 where sale_id = 2", "amount_minor in XXX: in the manifest"),
        ("delete from shop.sales where sale_id = 2", "row count: in the manifest 200, at the source 198"),
    ],
)
def test_a_row_that_changed_at_the_source_after_all_is_named(shop: Shop, change: str, said: str) -> None:
    shop.sell(change)
    raw, source, _ = shop.verify(shop.days[0]["sales"])
    assert (raw.holds, source.holds) == (True, False)
    assert said in source.said


def test_a_row_that_no_batch_has_is_named(shop: Shop) -> None:
    """Money lost: the source has it since long, raw never got it. No batch's own totals can show that."""
    with shop.warehouse, shop.warehouse.cursor() as cursor:
        start = DAY + timedelta(days=1)
        cursor.execute("delete from raw.shop_sales where sale_id = 120 and part = 'left'")
        cursor.execute(
            "update ops.batches set row_count = row_count - 1, "
            "key_hash = key_hash - ('x' || left(md5('120|left'), 15))::bit(60)::bigint where batch_id = %s",
            (shop.days[1]["sales"],),
        )
        cursor.execute(
            "update ops.batch_totals set row_count = row_count - 1, sum_minor = sum_minor - 360 "
            "where batch_id = %s and currency = 'EUR'",
            (shop.days[1]["sales"],),
        )
    raw, source, table = shop.verify(shop.days[1]["sales"])
    assert (raw.holds, source.holds, table.holds) == (True, True, False)
    assert "1 are in no batch" in table.said
    shop.sell(SELL, start, 500, 510)
    again = shop.verify(shop.days[1]["sales"])[-1]
    assert "1 are in no batch" in again.said, "rows that no snapshot could have seen yet are not missing"


def test_a_key_that_is_known_to_be_gone_is_left_out(shop: Shop) -> None:
    shop.sell("delete from shop.sales where sale_id in (7, 8) and part = 'left'")
    first = shop.days[0]["sales"]
    assert [verdict.holds for verdict in shop.verify(first)] == [True, False, True]
    # Whether the statistics show the deletion yet does not matter here: the week is over.
    third = shop.day(9, 151, 160)["sales"]
    raw, source, table = shop.verify(first)
    assert (raw.holds, source.holds, table.holds) == (True, True, True)
    assert source.said.endswith("; 2 rows were left out, their keys are gone at the source")
    assert [verdict.holds for verdict in shop.verify(third)] == [True, True, True]
    shop.sell("update shop.sales set amount_minor = 1 where sale_id = 9")
    assert [verdict.holds for verdict in shop.verify(first)] == [True, False, True]


def test_another_server_may_agree_but_cannot_show_that_nothing_is_missing(shop: Shop) -> None:
    with shop.warehouse, shop.warehouse.cursor() as cursor:
        cursor.execute("update ops.batches set source_identity = 'another'")
    assert [verdict.holds for verdict in shop.verify(shop.days[0]["sales"])] == [True, True, None]


def test_a_source_that_is_gone_leaves_the_proof_against_raw(shop: Shop) -> None:
    shop.dsn = f"postgresql://postgres@127.0.0.1:{free_port()}/shop"
    raw, source = shop.verify(shop.days[0]["sales"])
    assert (raw.holds, source.holds) == (True, None)
    assert "could not be compared: connection to server" in source.said
    shop.dsn = shop.source.dsn
    shop.sell("alter table shop.sales drop column currency")
    assert 'column "currency" does not exist' in shop.verify(shop.days[0]["sales"])[1].said


def test_a_table_nobody_declares_any_more_cannot_be_proven(shop: Shop) -> None:
    with shop.warehouse, shop.warehouse.cursor() as cursor:
        cursor.execute("update ops.batches set table_name = 'forgotten' where batch_id = %s", (shop.days[0]["sales"],))
    (verdict,) = shop.verify(shop.days[0]["sales"])
    assert (verdict.holds, "no longer declared" in verdict.said) == (None, True)


def test_batches_that_are_not_there_are_refused(shop: Shop) -> None:
    with pytest.raises(VerifyError, match=r"no batch 998, 999 in ops\.batches"):
        shop.verify(shop.days[0]["sales"], 999, 998)
    shop.damage("truncate ops.batches cascade; select 1")
    with pytest.raises(VerifyError, match="nothing was loaded yet"):
        shop.verify()


def test_a_batch_of_a_file_is_proven_by_the_same_means(warehouse: Connection) -> None:
    registry = load_registry()
    table = next(table for table in registry.tables if (table.kind, table.name) == ("file", "fx_rates"))
    with warehouse, warehouse.cursor() as cursor:
        cursor.execute(
            "insert into ops.files (sha256, name, uri, size_bytes, status, seen_at) "
            "values ('a', 'rates.csv', 'file:///rates.csv', 1, 'loaded', now()) returning file_id"
        )
        (file_id, *_) = cursor.fetchone() or (0,)
        batch_id = open_batch(cursor, table, DAY, file_id=file_id)
        values: dict[str, Any] = {"batch_id": batch_id, "file_id": file_id}
        for column in table.columns[1:]:
            values[column.name] = {"date": "2026-10-19", "text": "EUR", "numeric": "1.5"}.get(column.data_type, "1")
        names = ", ".join(values)
        cursor.execute(
            f"insert into raw.{table.raw_table} ({names}) values ({', '.join(['%s'] * len(values))})",
            list(values.values()),
        )
        key = [values[name] for name in table.key if name != "file_id"]
        seal_batch(cursor, table, batch_id, Totals(1, key_hash_of(key), {}))
    assert outcomes(verify_batches(warehouse, registry)) == [(batch_id, "raw", True)]
    with warehouse, warehouse.cursor() as cursor:
        cursor.execute(f"delete from raw.{table.raw_table}")
    assert outcomes(verify_batches(warehouse, registry)) == [(batch_id, "raw", False)]


def test_the_sources_are_where_airflow_finds_them() -> None:
    registry = load_registry()
    uri = "postgres://extractor:p%40ss@db.example:5433/payments?sslmode=require"
    assert source_addresses(registry, {}) == {}
    assert source_addresses(registry, {"AIRFLOW_CONN_PAYMENTS": ""}) == {}
    assert source_addresses(registry, {"AIRFLOW_CONN_PAYMENTS": uri, "AIRFLOW_CONN_OTHER": "x"}) == {"payments": uri}
    described = {"conn_type": "postgres", "host": "db.example", "port": 5433, "login": "e", "password": "p s"}
    address = source_addresses(registry, {"AIRFLOW_CONN_PAYMENTS": json.dumps({**described, "schema": "payments"})})
    assert psycopg2.extensions.parse_dsn(str(address["payments"])) == {
        "host": "db.example", "port": "5433", "user": "e", "password": "p s", "dbname": "payments",
    }  # fmt: skip
