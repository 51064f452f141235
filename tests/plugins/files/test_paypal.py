"""PayPal's settlement report: hundredths of every currency, footers that prove the lines."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest


def test_amounts_are_hundredths_of_every_currency(read: Any, fixture_text: Any) -> None:
    euro, yen, *_ = read(fixture_text("paypal.csv")).rows["settlement_lines"]
    assert (euro.gross_minor, euro.fee_minor, euro.net_minor, euro.net_currency) == (5000, 180, 4820, "EUR")
    assert (yen.gross_minor, yen.fee_minor, yen.net_minor, yen.net_currency) == (1234, 43, 1191, "JPY")


def test_signs_and_references(read: Any, fixture_text: Any) -> None:
    first, _, refund, transfer = read(fixture_text("paypal.csv")).rows["settlement_lines"]
    assert (first.line_no, first.psp_reference, first.original_psp_reference, first.merchant_reference) == (
        5, "PAY0001", None, "ORDER-1",
    )  # fmt: skip
    assert first.occurred_at == datetime.fromisoformat("2026-10-19T09:00:00+02:00")
    assert first.booked_at == datetime.fromisoformat("2026-10-19T09:00:01+02:00")
    assert (refund.gross_minor, refund.fee_minor, refund.net_minor) == (-1000, -30, -970)
    assert (refund.record_type, refund.original_psp_reference) == ("T1107", "PAY0001")
    assert (transfer.record_type, transfer.psp_reference, transfer.net_minor) == ("T0400", "1047428557493", -3850)
    assert {line.batch_reference for line in (first, refund, transfer)} == {"2026-10-19"}


def test_footers_prove_the_report(read: Any, fixture_text: Any) -> None:
    reading = read(fixture_text("paypal.csv")).reading
    assert (reading.balance, reading.statements, reading.entries) == ("ok", 2, 4)


def test_withdrawals_may_be_left_out_of_the_debits_and_fee_totals_swapped(read: Any, fixture_text: Any) -> None:
    text = fixture_text("paypal.csv").replace('"EUR",5000,4850,30,180', '"EUR",5000,1000,180,30')
    assert read(text).reading.balance == "ok"


def test_report_totals_alone_prove_the_sections(read: Any, fixture_text: Any) -> None:
    lines = [line for line in fixture_text("paypal.csv").splitlines(keepends=True) if not line.startswith('"S')]
    with_sections = [
        line for line in fixture_text("paypal.csv").splitlines(keepends=True) if line[:4] in ('"SH"', '"SB"')
    ]
    text = "".join([*lines[:2], with_sections[0], lines[2], *with_sections[1:], *lines[3:]])
    assert read(text).reading.balance == "ok"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"CR",123400,"JPY"', '"CR",123450,"JPY"', "hundredths that make whole minor units of JPY"),
        ('"CR",5000,"EUR"', '"CR",5001,"EUR"', "gross credits in EUR differ"),
        ('"DR",1000,"EUR"', '"DR",1001,"EUR"', "gross debits in EUR differ"),
        ('"DR",180,"EUR"', '"DR",181,"EUR"', "fees in EUR differ"),
        ('"DR",180,"EUR"', '"DR",180,"USD"', "fee in another currency"),
        ('"DR",1000,"EUR"', '"XX",1000,"EUR"', "neither debit nor credit"),
        ('"CR",5000,"EUR"', '"CR",50.00,"EUR"', "not an exact amount"),
        ('"CR",5000,"EUR"', '"CR",-5000,"EUR"', "not an exact amount"),
        ('"SC",4', '"SC",5', "the count differs from the lines"),
        ('"RC",4', '"RC",3', "the count differs from the lines"),
        ('"FF",4\n', "", "the report is cut"),
        ('"FF",4\n', '"FF",4\n"SB"\n', "a row after the end of the file"),
        ('"SF","JPY"', '"SF","GBP"', "gross credits in GBP differ"),
        ('"PAY0001","ORDER-1","",""', '"PAY0001"', "cells missing"),
        ("2026/10/19 09:00:01 +0200", "2026-10-19 09:00:01", "not a date and time"),
        ('"T0006"', '""', "value missing"),
        ('"SC",4', '"XX",4', "unknown row type"),
    ],
)
def test_a_wrong_report_is_refused(old: str, new: str, reason: str, read: Any, fixture_text: Any) -> None:
    text = fixture_text("paypal.csv")
    assert old in text
    rejected = read(text.replace(old, new, 1)).rejected
    assert reason in str(rejected)
    assert rejected.line is not None


def test_a_currency_without_totals_means_a_cut_report(read: Any, fixture_text: Any) -> None:
    lines = fixture_text("paypal.csv").splitlines(keepends=True)
    kept = [line for line in lines if line[:4] in ('"SH"', '"CH"', '"SB"') or line.startswith('"SF","EUR"')]
    rejected = read("".join(kept)).rejected
    assert "the report is cut" in str(rejected)
    assert "none for JPY" in str(rejected)


def test_the_transaction_detail_report_is_another_report(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("paypal_details.csv"))
    assert (outcome.reading.format, outcome.rows) == ("paypal.transaction_detail", {})


def test_a_detail_report_that_shows_late_is_not_booked(read: Any, fixture_text: Any) -> None:
    """Accounts without a line come first, more of them than a look at the file's beginning takes in."""
    opening, *rest = fixture_text("paypal_details.csv").splitlines(keepends=True)
    account = next(line for line in rest if line.startswith('"SH"'))
    outcome = read("".join([opening, *[account, '"SC",0\n'] * 2000, *rest]))
    assert "a transaction detail report, not a settlement report" in str(outcome.rejected)
    assert outcome.rejected.line == 4001 + rest.index(next(line for line in rest if line.startswith('"CH"'))) + 1


def test_a_day_without_lines_is_read(read: Any, fixture_text: Any) -> None:
    kept = [line for line in fixture_text("paypal.csv").splitlines(keepends=True) if line[:3] in ('"RH', '"FH', '"SH')]
    outcome = read("".join([*kept, '"SF","EUR",0,0,0,0,"CR",0\n', '"SC",0\n', '"RC",0\n', '"FF",0\n']))
    assert (outcome.reading.entries, outcome.reading.balance, outcome.reading.documents) == (0, "-", ())
