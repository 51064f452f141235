"""Each kind of processor report arrives in raw as it was read; the same business again is a version of it."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from psycopg2.extensions import connection as Connection

from tieout.landing.load import load_landing
from tieout.sources import load_registry

ROOT = Path(__file__).resolve().parents[3]
FIXTURES = Path(__file__).parent / "fixtures"
AS_OF = datetime(2026, 10, 28, 4, tzinfo=UTC)
# Lines that are sent on, and the sum of their net amounts whatever the currency.
REPORTS = {
    "checkout_breakdown.csv": (4, 12200),
    "checkout_payouts.csv": (1, -12200),
    "wechatpay_trade.csv": (2, 5964),
    "wechatpay_fund.csv": (1, -100000),
    "alipay_trade.csv": (2, 5964),
    "alipay_account.csv": (1, -100000),
    "trustly.csv": (2, 85337),
    "adyen_accounting.csv": (3, 7462),
    "braintree.json": (3, 4079),
    "mollie.json": (3, 7946),
    "stripe_activity.csv": (4, 6784),
    "stripe_payouts.csv": (2, -50),
}


def test_every_report_is_loaded_and_comes_again_unchanged_in_other_bytes(
    warehouse: Connection, tmp_path: Path
) -> None:
    registry = load_registry(ROOT / "dbt_project")
    for name in REPORTS:
        shutil.copy(FIXTURES / name, tmp_path / name)
    assert {each.name: each.outcome for each in load_landing(tmp_path, warehouse, registry, AS_OF)} == dict.fromkeys(
        REPORTS, "loaded"
    )
    with warehouse, warehouse.cursor() as cursor:
        cursor.execute(
            "select name, count(*), sum(net_minor)::bigint from raw.settlement_lines join ops.files using (file_id) "
            "group by name"
        )
        assert {name: (rows, net) for name, rows, net in cursor.fetchall()} == REPORTS
        cursor.execute("select record from raw.settlement_lines where psp_reference = '4200000001'")
        assert cursor.fetchone()[0] in (FIXTURES / "wechatpay_trade.csv").read_text(encoding="utf-8").splitlines()
    again = tmp_path / "again"
    again.mkdir()
    for name in REPORTS:
        # A blank line more: other bytes, the same report.
        (again / name).write_bytes((FIXTURES / name).read_bytes() + b"\n")
    outcomes = load_landing(again, warehouse, registry, AS_OF)
    assert {each.name: each.outcome for each in outcomes} == dict.fromkeys(REPORTS, "loaded")
    with warehouse, warehouse.cursor() as cursor:
        # Each row stands twice with the same key and place, once a version; nothing is gone, nothing is worth a note.
        cursor.execute(
            "select count(*), count(distinct (row_key, occurrence)), bool_or(is_deleted) from (select row_key, "
            "is_deleted, row_number() over (partition by batch_id, row_key order by line_no) as occurrence "
            "from raw.settlement_lines) r"
        )
        rows = sum(rows for rows, _ in REPORTS.values())
        assert cursor.fetchone() == (2 * rows, rows, False)
        cursor.execute("select distinct version, superseded_by is null from ops.documents order by 1")
        assert cursor.fetchall() == [(1, False), (2, True)]
        cursor.execute("select count(*) from ops.load_notes")
        assert cursor.fetchone() == (0,)
