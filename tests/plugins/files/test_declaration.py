"""Rows, totals and documents of the readers are those that the source YAML declares."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from tieout.files.proof import AMOUNTS, COLUMNS
from tieout.sources import load_registry

WHOLE = ["adyen.csv", "stripe.csv", "paypal.csv", "ecb.csv", "camt053.xml", "mt940.sta", "mt942.sta", "bai2.bai",
         "checkout_breakdown.csv", "checkout_payouts.csv", "wechatpay_trade.csv", "wechatpay_fund.csv",
         "alipay_trade.csv", "alipay_account.csv", "trustly.csv", "adyen_accounting.csv",
         "braintree.json", "mollie.json", "invoice.csv"]  # fmt: skip
PYTHON_TYPES = {
    "bigint": int, "integer": int, "text": str, "numeric": Decimal, "date": date, "timestamptz": datetime,
    "boolean": bool,
}  # fmt: skip

declared = {table.name: table for table in load_registry().tables if table.kind == "file"}


def test_row_types_are_the_declared_columns_and_amounts() -> None:
    assert set(COLUMNS) == set(declared)
    for name, columns in COLUMNS.items():
        assert ("file_id", *columns) == declared[name].column_names
        assert AMOUNTS[name] == declared[name].amounts


@pytest.mark.parametrize("name", WHOLE)
def test_every_value_is_of_its_declared_type(name: str, read: Callable[..., Any], fixture_bytes: Any) -> None:
    outcome = read(fixture_bytes(name))
    assert outcome.rejected is None
    for table, rows in outcome.rows.items():
        for row in rows:
            for column, value in zip(declared[table].columns[1:], row, strict=True):
                if value is None:
                    assert not column.not_null, f"{table}.{column.name}"
                else:
                    assert type(value) is PYTHON_TYPES[column.data_type], f"{table}.{column.name}"


@pytest.mark.parametrize("name", WHOLE)
def test_control_totals_are_those_of_the_rows_sent(name: str, read: Callable[..., Any], fixture_bytes: Any) -> None:
    outcome = read(fixture_bytes(name))
    expected: dict[tuple[str, str, str], tuple[int, int]] = {}
    for table, rows in outcome.rows.items():
        for row in rows:
            for measure, currency_column in AMOUNTS[table].items():
                amount, currency = getattr(row, measure), getattr(row, currency_column)
                if amount is not None:
                    count, total = expected.get((table, measure, currency), (0, 0))
                    expected[table, measure, currency] = (count + 1, total + amount)
    assert outcome.reading.totals == expected
    assert expected or name in ("ecb.csv", "mt942.sta")


@pytest.mark.parametrize(
    ("name", "origin", "account", "content_date", "documents"),
    [
        ("adyen.csv", "adyen", "ShopEU", date(2026, 10, 21), [("settlement_batch", "adyen|ShopEU|42|EUR")]),
        ("stripe.csv", "stripe", "acct_gulf", date(2026, 10, 21),
         [("settlement_batch", "stripe|acct_gulf|po_1Abc|KWD")]),
        ("paypal.csv", "paypal", "SHOPACCOUNT01", date(2026, 10, 19),
         [("settlement_batch", "paypal|SHOPACCOUNT01|2026-10-19|EUR"),
          ("settlement_batch", "paypal|SHOPACCOUNT01|2026-10-19|JPY")]),
        ("ecb.csv", "ecb", None, date(2026, 10, 20), [("fx_rates", "ecb|2026-10-20")]),
        ("camt053.xml", "bank", "NL00BANK0000000001", date(2026, 10, 19),
         [("bank_statement", "NL00BANK0000000001|EUR|2026-10-19|2026-0201")]),
        ("mt940.sta", "bank", "KW81CBKU0000000000001234560101", date(2026, 12, 31),
         [("bank_statement", "KW81CBKU0000000000001234560101|KWD|2026-12-31|00201/001")]),
        ("mt942.sta", "bank", "NZ020500123456700", date(2026, 10, 19), []),
        ("bai2.bai", "bank", "7700012345", date(2026, 10, 19), [("bank_statement", "7700012345|USD|2026-10-19|")]),
        # An invoice does not say how far the daily reports of its accounts reach.
        ("invoice.csv", "adyen", None, None,
         [("processor_invoice", "adyen|INV-7"), ("processor_invoice", "adyen|INV-8")]),
    ],
)  # fmt: skip
def test_a_file_says_where_it_is_from_and_what_it_is(
    name: str, origin: str, account: str | None, content_date: date, documents: Any, read: Any, fixture_bytes: Any
) -> None:
    reading = read(fixture_bytes(name)).reading
    assert (reading.origin, reading.origin_account, reading.content_date) == (origin, account, content_date)
    assert list(reading.documents) == [(*document, number) for number, document in enumerate(documents, 1)]
