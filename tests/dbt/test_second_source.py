"""A further payment system is one more source YAML: it is loaded, proven into raw, and holds nothing up."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg2
import pytest

from tests.dbt.worlds import BOOK, WORKING, Warehouse
from tieout import close
from tieout.close import CloseNotProven
from tieout.extraction.snapshot import take_snapshot
from tieout.sources import ensure_raw_tables, load_registry

PROJECT = Path(__file__).parents[2] / "dbt_project"
# Its table bears the name of one of ours, its key a word of SQL.
DECLARATION = """
version: 2
sources:
  - name: billing
    schema: raw
    config:
      meta: {owner: payments-data, kind: snapshot, connection: billing, schema: billing, mode: incremental,
             cursor: updated_at, classification: internal}
    tables:
      - name: captures
        identifier: billing_captures
        config: {meta: {key: [order], amounts: {amount_minor: currency}}}
        columns:
          - {name: order, data_type: bigint, constraints: [{type: not_null}]}
          - {name: amount_minor, data_type: bigint}
          - {name: currency, data_type: text}
          - {name: updated_at, data_type: timestamptz}
"""
ROWS = """
create schema billing;
create table billing.captures ("order" bigint primary key, amount_minor bigint, currency text,
                               updated_at timestamptz default now());
insert into billing.captures select i, i * 10, 'EUR' from generate_series(1, 50) i;
"""
DAY = datetime(2026, 10, 19, 22, tzinfo=UTC)


def test_a_second_payment_system_is_proven_and_holds_nothing_up(
    books: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "dbt_project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    (project / "models" / "staging" / "billing.yml").write_text(DECLARATION)
    monkeypatch.setenv("TIEOUT_DBT_PROJECT", str(project))
    registry = load_registry()
    books.cluster.execute("create database billing")
    books.cluster.execute(ROWS, "billing")
    with books.connect() as connection:
        ensure_raw_tables(connection, registry)
    loader = psycopg2.connect(books.cluster.dsn(WORKING, "loader"))
    try:
        end = DAY + timedelta(days=1)
        take_snapshot(books.cluster.dsn("billing"), loader, registry, "billing", DAY, end, end)
        opened = close.open_close(loader, BOOK, date(2026, 10, 20), DAY + timedelta(days=2))
    finally:
        loader.close()
    books.build(opened, "reconcile")
    proven = books.query("select expected_count, actual_count, is_proven from reconciliation.proof_items "
                         "where subject = 'captures.amount_minor'")  # fmt: skip
    assert proven == [(50, 50, True)]

    with books.connect() as connection, connection.cursor() as cursor:
        cursor.execute('delete from raw.billing_captures where "order" = 7')
    with pytest.raises(CloseNotProven, match=r"captures\.amount_minor EUR: expected 50 items"):
        books.build(opened, "reconcile")
