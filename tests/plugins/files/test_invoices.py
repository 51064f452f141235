"""Invoices of processors: what their lines come to, what their totals catch, and what a declaration may say of them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tieout.files.declaration import DeclarationError, load
from tieout.files.declared import FOLDER

LINES = [
    (2, "ShopEU", "INV-7", date(2026, 10, 1), "processing", Decimal(1200), 12000, "EUR"),
    (3, "ShopEU", "INV-7", date(2026, 10, 1), "gateway", Decimal("1200.5"), 1200, "EUR"),
    (4, "ShopEU", "INV-7", date(2026, 9, 1), "processing", None, -250, "EUR"),
    (5, "ShopAP", "INV-7", date(2026, 10, 1), "processing", Decimal(31), 310, "JPY"),
    (6, "ShopEU", "INV-8", date(2026, 10, 1), "disputes", Decimal(1), 1500, "EUR"),
]


def test_lines_of_invoices(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("invoice.csv"))
    assert outcome.rejected is None
    assert [
        (row.line_no, row.processor_account, row.invoice_number, row.service_month, row.fee_type, row.quantity,
         row.amount_minor, row.currency)
        for row in outcome.rows["invoice_lines"]
    ] == LINES  # fmt: skip
    assert {row.processor for row in outcome.rows["invoice_lines"]} == {"adyen"}
    assert {row.invoice_date for row in outcome.rows["invoice_lines"]} == {date(2026, 11, 2)}
    assert [row.document_no for row in outcome.rows["invoice_lines"]] == [1, 1, 1, 1, 2]
    assert outcome.reading.accounts == ("ShopAP", "ShopEU")
    assert (outcome.reading.statements, outcome.reading.entries, outcome.reading.balance) == (2, 5, "ok")
    assert outcome.reading.signed_sum == {"EUR": 14450, "JPY": 310}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        # Money lost if an invoice whose lines do not add up were booked.
        ("1200,120.00,EUR", "1200,120.01,EUR", "the stated total differs from the rows"),
        ("total,INV-7,EUR,3,", "total,INV-7,EUR,4,", "the stated count differs from the rows"),
        ("total,INV-8,EUR,1,15.00\n", "", "lines that no total covers; expected a total of INV-8, EUR"),
        ("adyen,ShopAP", "stripe,ShopAP", "invoices of two processors; expected adyen, found 'stripe'"),
        ("2026-09,", "September,", "line 4, service_month: not a month; expected %Y-%m, found 'September'"),
        ("gateway,Gateway", ",Gateway", "line 3, fee_type: value missing"),
        ("310,JPY", "310.5,JPY", "not an exact amount"),
        ("2026-11-02,2026-09", "02.11.2026,2026-09", "line 4, invoice_date: not a date and time"),
    ],
)
def test_a_wrong_invoice_is_refused(read: Any, fixture_text: Any, old: str, new: str, said: str) -> None:
    text = fixture_text("invoice.csv")
    assert old in text
    outcome = read(text.replace(old, new, 1))
    assert outcome.rejected is not None
    assert said in str(outcome.rejected)


def test_a_restated_amount_is_a_version_and_a_line_repeated_is_not(read: Any, fixture_text: Any) -> None:
    text = fixture_text("invoice.csv")
    restated = text.replace("1200,120.00,EUR", "1300,130.00,EUR").replace("129.50", "139.50")
    keys, again = ([row.row_key for row in read(each).rows["invoice_lines"]] for each in (text, restated))
    assert keys == again
    assert len(set(keys)) == len(keys)
    renumbered = read(text.replace("INV-8", "INV-9")).rows["invoice_lines"]
    assert renumbered[4].row_key != keys[4]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"months": ["%Y"]}, "no month can be read by '%Y'"),
        ({"amount": {"plus": "amount"}}, "an amount that may lack a currency"),
        ({"fee": "amount"}, "unknown key fee"),
        ({"number": None}, "number is missing"),
    ],
)
def test_what_a_declaration_may_say_of_invoices(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    declaration = yaml.safe_load((FOLDER / "processor_invoice.yml").read_text())
    invoice = declaration["sections"][0]["invoice"]
    for name, value in change.items():
        if value is None:
            del invoice[name]
        else:
            invoice[name] = value
    (tmp_path / "invoice.yml").write_text(yaml.safe_dump(declaration))
    with pytest.raises(DeclarationError, match=said):
        load(tmp_path / "invoice.yml")


def test_a_section_is_of_a_settlement_or_of_invoices(tmp_path: Path) -> None:
    declaration = yaml.safe_load((FOLDER / "processor_invoice.yml").read_text())
    line = {"account": "account", "record_type": "fee_type", "occurred_at": "invoice_date"}
    declaration["sections"][0]["line"] = line
    (tmp_path / "invoice.yml").write_text(yaml.safe_dump(declaration))
    with pytest.raises(DeclarationError, match="give line or invoice to role: lines only"):
        load(tmp_path / "invoice.yml")
