"""A warehouse that the former release filled goes on under this one: migrations 0001 to 0005 and raw as it was then."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tieout import postgres
from tieout.postgres import Cluster, migrate
from tieout.sources import ensure_raw_tables, load_registry

# What the former release had declared of the tables of files, and two files of it: two lines that are alike in one of
# them, and a statement with its entries.
FORMER = """
create table raw.settlement_lines (
    batch_id bigint not null, file_id bigint not null, line_no integer not null, processor text not null,
    processor_account text not null, record_type text not null, batch_reference text, psp_reference text,
    original_psp_reference text, merchant_reference text, gross_minor bigint not null, gross_currency text not null,
    fee_minor bigint not null, net_minor bigint not null, net_currency text not null, exchange_rate numeric,
    payment_method text, occurred_at timestamptz not null, booked_at timestamptz not null, record jsonb not null
);
create table raw.bank_statements (
    batch_id bigint not null, file_id bigint not null, statement_no integer not null, bank_account text not null,
    currency text not null, statement_reference text, sequence_number bigint, opening_date date, opening_minor bigint,
    closing_date date not null, closing_minor bigint
);
create table raw.bank_entries (
    batch_id bigint not null, file_id bigint not null, line_no integer not null, statement_no integer not null,
    bank_account text not null, booking_date date not null, value_date date not null, amount_minor bigint not null,
    currency text not null, is_reversal boolean not null, transaction_code text, bank_reference text,
    customer_reference text, counterparty text, remittance text, record jsonb not null
);
insert into ops.files (sha256, name, uri, size_bytes, status, seen_at)
select md5(n::text), n || '.csv', 'file:///landing/' || n, 1, 'loaded', '2026-10-20Z' from generate_series(1, 2) as n;
insert into ops.batches (source, table_name, file_id, row_count, key_hash, as_of)
values ('files', 'settlement_lines', 1, 3, 6, '2026-10-20Z'), ('files', 'bank_statements', 2, 1, 1, '2026-10-20Z'),
    ('files', 'bank_entries', 2, 2, 3, '2026-10-20Z');
insert into ops.batch_totals values (1, 'gross_minor', 'EUR', 2, 200), (1, 'gross_minor', 'JPY', 1, 500),
    (1, 'net_minor', 'EUR', 2, 194), (1, 'net_minor', 'JPY', 1, 480);
insert into raw.settlement_lines
select 1, 1, line_no, 'adyen', 'A', 'Settled', '7', psp, null, 'M', gross, currency, fee, gross - fee, currency, null,
    null, '2026-10-19Z', '2026-10-19Z', '{}'
from (values (1, 'P1', 100, 3, 'EUR'), (2, 'P1', 100, 3, 'EUR'), (3, 'P2', 500, 20, 'JPY'))
    as lines (line_no, psp, gross, fee, currency);
insert into raw.bank_statements values (2, 2, 1, 'NL1', 'EUR', 'S1', 1, '2026-10-19', 0, '2026-10-19', 5);
insert into raw.bank_entries
select 3, 2, n, 1, 'NL1', '2026-10-19', '2026-10-19', n, 'EUR', false, null, 'R', null, null, null, '{}'
from generate_series(2, 3) as n;
"""


def test_a_former_release_s_rows_go_on(
    cluster: Cluster, database: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = postgres.MIGRATIONS
    for path in sorted(everything.glob("000[1-5]_*.sql")):
        shutil.copy(path, tmp_path)
    with cluster.connect(database("upgraded")) as connection:
        monkeypatch.setattr(postgres, "MIGRATIONS", tmp_path)
        assert len(migrate(connection)) == 5
        with connection, connection.cursor() as cursor:
            cursor.execute(FORMER)

        monkeypatch.setattr(postgres, "MIGRATIONS", everything)
        assert migrate(connection)
        added = ensure_raw_tables(connection, load_registry())
        declared_since = {f"added raw.settlement_lines.{name}" for name in ("is_deleted", "interchange_minor")}
        assert declared_since <= {said.split(" (")[0] for said in added}
        assert ensure_raw_tables(connection, load_registry()) == []

        with connection, connection.cursor() as cursor:
            cursor.execute(
                "select measure, currency, row_count, sum_minor from ops.batch_totals where batch_id = 1 order by 1, 2"
            )
            assert cursor.fetchall() == [
                ("fee_minor", "EUR", 2, 6), ("fee_minor", "JPY", 1, 20), ("gross_minor", "EUR", 2, 200),
                ("gross_minor", "JPY", 1, 500), ("net_minor", "EUR", 2, 194), ("net_minor", "JPY", 1, 480),
            ]  # fmt: skip
            for table, rows in (("settlement_lines", 3), ("bank_entries", 2), ("bank_statements", 1)):
                cursor.execute(f"select count(distinct row_key), count(*), bool_or(is_deleted) from raw.{table}")
                assert cursor.fetchone() == (rows, rows, False)
            # The column is the line's own text now.
            cursor.execute("select distinct pg_typeof(record)::text from raw.settlement_lines")
            assert cursor.fetchall() == [("text",)]
