"""PayPal's transaction detail report: held to its counts and totals, and left to the report that books the money."""

from __future__ import annotations

from typing import Any

import pytest


def test_all_lines_are_counted_and_none_is_sent(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("paypal_details.csv"))
    assert outcome.rejected is None
    assert (outcome.rows, outcome.reading.documents, outcome.reading.totals) == ({}, (), {})
    assert (outcome.reading.format, outcome.reading.entries) == ("paypal.transaction_detail", 4)
    assert (outcome.reading.balance, outcome.reading.origin_account) == ("ok", "SHOPACCOUNT01")


def test_totals_may_be_of_all_lines_or_of_the_settled_ones(read: Any, fixture_text: Any) -> None:
    text = fixture_text("paypal_details.csv")
    assert read(text.replace('"SF","EUR",5000', '"SF","EUR",12000')).reading.balance == "ok"
    assert "gross credits" in str(read(text.replace('"SF","EUR",5000', '"SF","EUR",5001')).rejected)
    assert "fees" in str(read(text.replace("1000,30,180,3", "1000,30,181,3")).rejected)


def test_without_totals_the_counts_hold_and_nothing_is_claimed(read: Any, fixture_text: Any) -> None:
    lines = [line for line in fixture_text("paypal_details.csv").splitlines() if line[:4] not in ('"SF"', '"RF"')]
    assert read("\n".join(lines)).reading.balance == "-"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"SC",4', '"SC",5', "the count differs from the lines"),
        ('"RC",4', '"RC",3', "the count differs from the lines"),
        ('"FF",4', '"FF",3', "the count differs from the lines"),
        ('"FF",4', "", "the report is cut"),
        ('"EUR","S"', '"EUR","X"', "unknown status"),
        ('"CR",5000', '"",5000', "neither debit nor credit"),
        (",5000,", ",50.00,", "not an exact amount"),
        ('"DR",180,"EUR"', '"DR",180,"USD"', "fee in another currency"),
        ('"SH",', '"XX",', "unknown row type"),
        ('"FF",4', '"FF",4\n"FF",4', "a row after the end of the file"),
    ],
)
def test_what_is_refused(old: str, new: str, reason: str, read: Any, fixture_text: Any) -> None:
    text = fixture_text("paypal_details.csv")
    assert old in text
    assert reason in str(read(text.replace(old, new)).rejected)
