"""Adyen's settlement details: columns by name, signs by column, batches that come to zero."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest


def test_a_capture_with_its_fees(read: Any, fixture_text: Any) -> None:
    line = read(fixture_text("adyen.csv")).rows["settlement_lines"][0]
    assert (line.line_no, line.processor, line.processor_account, line.record_type) == (2, "adyen", "ShopEU", "Settled")
    assert (line.gross_minor, line.fee_minor, line.net_minor) == (10000, 180, 9820)
    assert (line.interchange_minor, line.scheme_fee_minor) == (110, 40)
    assert (line.psp_reference, line.original_psp_reference, line.merchant_reference) == (
        "MOD0001",
        "PSP0001",
        "ORDER-1",
    )
    assert (line.batch_reference, line.payment_method, line.exchange_rate) == ("42", "visa", Decimal(1))
    assert line.occurred_at == datetime.fromisoformat("2026-10-19T09:15:00+02:00")
    assert line.booked_at == datetime.fromisoformat("2026-10-21T13:00:00+02:00")
    assert line.record == fixture_text("adyen.csv").splitlines()[1]


def test_a_capture_in_another_currency_keeps_both(read: Any, fixture_text: Any) -> None:
    line = read(fixture_text("adyen.csv")).rows["settlement_lines"][1]
    assert (line.gross_minor, line.gross_currency) == (50000, "SEK")
    assert (line.net_minor, line.fee_minor, line.net_currency) == (4410, 90, "EUR")
    assert line.psp_reference == "PSP0002"


def test_a_commission_says_nothing_of_what_was_passed_on(read: Any, fixture_text: Any) -> None:
    """Nothing where the fee is not broken down; where a part of it is shown, a blank beside it is zero."""
    text = fixture_text("adyen.csv")
    lines = read(text).rows["settlement_lines"]
    assert [(line.interchange_minor, line.scheme_fee_minor) for line in lines] == [(110, 40), *[(None, None)] * 4]
    shown = read(text.replace(",0.90,,,,", ",,0.90,,,")).rows["settlement_lines"][1]
    assert (shown.fee_minor, shown.interchange_minor, shown.scheme_fee_minor) == (90, 0, 0)
    totals = read(text).reading.totals
    assert totals["settlement_lines", "interchange_minor", "EUR"] == (1, 110)
    assert totals["settlement_lines", "scheme_fee_minor", "EUR"] == (1, 40)


def test_debits_are_negative_and_lines_without_gross_take_it_from_net(read: Any, fixture_text: Any) -> None:
    _, _, refund, fee, payout = read(fixture_text("adyen.csv")).rows["settlement_lines"]
    assert (refund.gross_minor, refund.net_minor) == (-2500, -2500)
    assert (fee.gross_minor, fee.gross_currency, fee.net_minor) == (-230, "EUR", -230)
    assert fee.psp_reference == "Transaction Fees October, 2026"
    assert (payout.net_minor, payout.psp_reference) == (-11500, "TX123456789XT")


def test_the_batch_comes_to_zero(read: Any, fixture_text: Any) -> None:
    reading = read(fixture_text("adyen.csv")).reading
    assert (reading.statements, reading.entries, reading.balance, reading.signed_sum) == (1, 5, "ok", {"EUR": 0})


def test_a_batch_that_differs_from_its_payout_is_refused_with_its_counts(read: Any, fixture_text: Any) -> None:
    rejected = read(fixture_text("adyen.csv").replace(",115.00,", ",114.99,")).rejected
    assert "SPLIT_MISMATCH" in str(rejected)
    assert "found '0.01'" in str(rejected)
    assert (rejected.line, rejected.reading.entries, rejected.reading.balance) == (6, 5, "off -0.01")


def test_batches_of_two_currencies_are_proven_apart(read: Any, fixture_text: Any) -> None:
    lines = fixture_text("adyen.csv").splitlines(keepends=True)
    dollars = [line.replace(",EUR,", ",USD,").replace(",SEK,", ",USD,") for line in (lines[1], lines[5])]
    outcome = read("".join([*lines, *dollars]).replace("USD,115.00", "USD,98.20"))
    assert outcome.reading.balance == "ok"
    assert outcome.reading.statements == 2
    assert "in USD" in str(read("".join([*lines, *dollars])).rejected)


def test_types_are_kept_as_written(read: Any, fixture_text: Any) -> None:
    text = fixture_text("adyen.csv").replace("Settled", "settled").replace("MerchantPayout", "merchantpayout")
    outcome = read(text.replace(",Fee,", ",SomethingNew,"))
    types = [line.record_type for line in outcome.rows["settlement_lines"]]
    assert types == ["settled", "settled", "Refunded", "SomethingNew", "merchantpayout"]
    assert outcome.reading.balance == "ok"


@pytest.mark.parametrize(
    ("old", "new", "reason", "line"),
    [
        ("98.20", "98.21", "does not add up", 2),
        ("EUR,25.00,,", "EUR,25.00,1.00,", "debit and credit on one line", 4),
        ("EUR,25.00,,1", "EUR,-25.00,,1", "a sign in a debit or credit column", 4),
        ("09:15:00,CEST", "09:15:00,IST", "unknown time zone", 2),
        ("2026-10-19 09:15:00", "2026-10-19T09:15:00", "not a date and time", 2),
        ("2026-10-19 09:15:00", "2026-02-30 09:15:00", "not a date and time", 2),
        (",Settled,MOD0001", ",,MOD0001", "value missing", 2),
        ("100.00,1,EUR", "100.00,1,EUX", "not an exact amount", 2),
        ("100.00,1,EUR", "100.00,one,EUR", "not an exact amount", 2),
        (",Merchant Account,", ",Account,", "no reader recognises", None),
        (",Exchange Rate,", ",Rate,", "column missing from the header", 1),
        (",2026-10-21 13:00:00,CEST\nShop,ShopEU,PSP0002", ",2026-10-21 13:00:00,CEST,surplus\nShop,ShopEU,PSP0002",
         "cells beyond the header", 2),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(old: str, new: str, reason: str, line: int | None, read: Any, fixture_text: Any) -> None:
    text = fixture_text("adyen.csv")
    assert old in text
    rejected = read(text.replace(old, new, 1)).rejected
    assert reason in str(rejected)
    assert rejected.line == line


@pytest.mark.parametrize(
    ("zone", "offset"),
    [("PST", "-08:00"), ("PDT", "-07:00"), ("CET", "+01:00"), ("CEST", "+02:00"), ("UTC", "+00:00"), ("JST", "+09:00"),
     ("NZDT", "+13:00")],
)  # fmt: skip
def test_zone_names_are_offsets(zone: str, offset: str, read: Any, fixture_text: Any) -> None:
    line = read(fixture_text("adyen.csv").replace("09:15:00,CEST", f"09:15:00,{zone}")).rows["settlement_lines"][0]
    assert line.occurred_at == datetime.fromisoformat(f"2026-10-19T09:15:00{offset}")


def test_exponents_are_adyens_own(read: Any, fixture_text: Any) -> None:
    header, line, *_ = fixture_text("adyen.csv").splitlines(keepends=True)
    króna = read(header + line.replace("EUR", "ISK")).rows["settlement_lines"][0]
    assert (króna.gross_minor, króna.net_minor) == (10000, 9820)


def test_short_lines_are_filled_where_nothing_is_read(read: Any, fixture_text: Any) -> None:
    lines = fixture_text("adyen.csv").splitlines()
    text = "\n".join([lines[0], *(line.removesuffix(",,2026-10-21 13:00:00,CEST") for line in lines[1:])]) + "\n"
    outcome = read(text)
    assert outcome.reading.balance == "ok"
    first = outcome.rows["settlement_lines"][0]
    assert first.booked_at == first.occurred_at


def test_an_overflow_by_adding_up_is_refused(read: Any, fixture_text: Any) -> None:
    huge = "92233720368547758.07"
    text = fixture_text("adyen.csv").replace("EUR,2.30,,,", f"EUR,,{huge},{huge},")
    assert "not an exact amount" in str(read(text).rejected)


def test_a_gross_that_is_missing_is_not_taken_from_a_net_in_another_currency(read: Any, fixture_text: Any) -> None:
    text = fixture_text("adyen.csv").replace("SEK,,500.00", "SEK,,")
    rejected = read(text).rejected
    assert "the gross amount is missing" in str(rejected)
    assert (rejected.line, rejected.expected) == (3, "an amount in SEK")
