"""One more reconciliation is rows of seeds, a line of item_models and two selects: it matches, breaks and is proven."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg2
import pytest

from tests.dbt.worlds import BOOK, EMPTY, WORKING, Warehouse
from tieout import close
from tieout.close import CloseNotProven
from tieout.extraction.snapshot import take_snapshot
from tieout.sources import ensure_raw_tables, load_registry

PROJECT = Path(__file__).parents[2] / "dbt_project"
SOURCE = """
version: 2
sources:
  - name: vouchers
    schema: raw
    config:
      meta: {owner: payments-data, kind: snapshot, connection: vouchers, schema: vouchers, mode: append,
             cursor: happened_at, classification: internal, key: [voucher], amounts: {amount_minor: currency},
             reconciled: [amount_minor]}
    tables:
      - name: sold
        columns: &columns
          - {name: voucher, data_type: text, constraints: [{type: not_null}]}
          - {name: amount_minor, data_type: bigint, constraints: [{type: not_null}]}
          - {name: currency, data_type: text, constraints: [{type: not_null}]}
          - {name: happened_at, data_type: timestamptz, constraints: [{type: not_null}]}
      - name: redeemed
        columns: *columns
"""
SIDE = """
with

consumed as (
    {{{{ consumed_rows('vouchers', '{table}') }}}}
),

final as (
    select {{{{ as_item({{
        'item_key': "'{table}:' || voucher",
        'reconciliation': "'voucher_shop'",
        'side': "'{side}'",
        'item_type': "'voucher'",
        'source_reference': 'voucher',
        'source_name': "'vouchers'",
        'source_table': "'{table}'",
        'control_measure': "'amount_minor'",
        'control_count': '1',
        'control_minor': 'amount_minor',
        'control_currency': 'currency',
        'amount_minor': 'amount_minor',
        'currency': 'currency',
        'clearing_account': "'vouchers'",
        'strong_key': 'voucher',
        'occurred_at': 'happened_at',
        'value_date': business_date_of('happened_at'),
        'expected_date': business_date_of('happened_at'),
        'due_date': business_date_of('happened_at'),
        'batch_id': 'batch_id',
    }}) }}}}
    from consumed
)

select * from final
"""
ROWS_OF_SEEDS = {
    "reconciliations": "voucher_shop,vouchers sold,vouchers redeemed,1,VOUCHER_NOT_REDEEMED,VOUCHER_NOT_SOLD,,,,always,"
    "false,false,false",
    "match_rules": "vs_voucher,voucher_shop,1,strong_key,identity,true,0,,,2026-01-01,",
    "break_codes": "VOUCHER_NOT_REDEEMED,one-sided,false,shop,Sold and not redeemed.\n"
    "VOUCHER_NOT_SOLD,one-sided,false,shop,Redeemed and never sold.",
}
ROWS = """
create schema vouchers;
create table vouchers.sold (voucher text primary key, amount_minor bigint not null, currency text not null,
                            happened_at timestamptz not null);
create table vouchers.redeemed (like vouchers.sold including all);
insert into vouchers.sold values ('A', 1000, 'EUR', '2026-10-20 10:00Z'), ('B', 2000, 'EUR', '2026-10-20 10:00Z'),
                                 ('C', 3000, 'EUR', '2026-10-20 10:00Z');
insert into vouchers.redeemed values ('A', 1000, 'EUR', '2026-10-20 11:00Z'), ('B', 1900, 'EUR', '2026-10-20 11:00Z'),
                                     ('X', 4000, 'EUR', '2026-10-20 11:00Z');
"""
DAY = datetime(2026, 10, 19, 22, tzinfo=UTC)


def extended(project: Path) -> None:
    """Write what the README says a further reconciliation takes."""
    (project / "models" / "staging" / "vouchers.yml").write_text(SOURCE)
    for table, side in (("sold", "left"), ("redeemed", "right")):
        model = project / "models" / "intermediate" / "matching" / f"int_{table}_items.sql"
        model.write_text(SIDE.format(table=table, side=side))
    for seed, rows in ROWS_OF_SEEDS.items():
        with (project / "seeds" / f"{seed}.csv").open("a") as file:
            file.write(rows + "\n")
    settings = project / "dbt_project.yml"
    listed = "    - int_balance_items\n"
    assert listed in settings.read_text()
    settings.write_text(
        settings.read_text().replace(listed, f"{listed}    - int_sold_items\n    - int_redeemed_items\n")
    )


@pytest.fixture
def vouchers(books: Warehouse, tmp_path: Path) -> Iterator[Warehouse]:
    """The deployed warehouse, with artifacts of its own; other tests look at every model in both, so it goes back."""
    yield Warehouse(books.cluster, tmp_path / "state")
    books.restore(EMPTY)


def test_a_further_reconciliation(vouchers: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    books = vouchers
    project = tmp_path / "dbt_project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    extended(project)
    monkeypatch.setenv("TIEOUT_DBT_PROJECT", str(project))
    registry = load_registry()
    books.cluster.execute("create database vouchers")
    books.cluster.execute(ROWS, "vouchers")
    with books.connect() as connection:
        ensure_raw_tables(connection, registry)
    books.runner.deploy()
    loader = psycopg2.connect(books.cluster.dsn(WORKING, "loader"))
    try:
        end = DAY + timedelta(days=1)
        take_snapshot(books.cluster.dsn("vouchers"), loader, registry, "vouchers", DAY, end, end)
        opened = close.open_close(loader, BOOK, date(2026, 10, 21), DAY + timedelta(days=2))
    finally:
        loader.close()
    books.build(opened)
    found = books.query(
        "select source_reference, side, status, break_code, difference_minor from reconciliation.reconciliation_items "
        "where reconciliation = 'voucher_shop' order by 1, 2"
    )
    assert found == [
        ("A", "left", "matched", None, 0),
        ("A", "right", "matched", None, 0),
        ("B", "left", "open", "UNDER", -100),
        ("B", "right", "open", "UNDER", -100),
        ("C", "left", "open", "VOUCHER_NOT_REDEEMED", None),
        ("X", "right", "open", "VOUCHER_NOT_SOLD", None),
    ]
    proven = books.query(
        "select subject, actual_count, actual_minor from reconciliation.proof_items "
        "where check_name = 'source_to_items' and is_proven order by 1"
    )
    assert proven == [("redeemed.amount_minor", 3, 6900), ("sold.amount_minor", 3, 6000)]

    with books.connect() as connection, connection.cursor() as cursor:
        cursor.execute("update raw.sold set amount_minor = amount_minor + 1 where voucher = 'C'")
    with pytest.raises(CloseNotProven, match=r"source_to_items sold\.amount_minor EUR: expected 3 items and 6000"):
        books.build(opened, "reconcile")
