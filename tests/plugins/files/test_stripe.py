"""Stripe's itemised payout reconciliation: line arithmetic, payouts to zero, the account found once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest


def test_a_charge_of_three_decimals(read: Any, fixture_text: Any) -> None:
    line = read(fixture_text("stripe.csv")).rows["settlement_lines"][1]
    assert (line.gross_minor, line.fee_minor, line.net_minor, line.net_currency) == (25500, 750, 24750, "KWD")
    assert (line.psp_reference, line.original_psp_reference, line.merchant_reference) == ("ch_1", "ch_1", "ORDER-7")
    assert (line.record_type, line.batch_reference, line.payment_method) == ("charge", "po_1Abc", "card/visa")
    assert line.occurred_at == datetime(2026, 10, 19, 8, 30, tzinfo=UTC)
    assert line.booked_at == datetime(2026, 10, 21, tzinfo=UTC)
    assert line.record == fixture_text("stripe.csv").splitlines()[2]


def test_the_payout_is_negative_and_the_batch_comes_to_zero(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("stripe.csv"))
    payout = outcome.rows["settlement_lines"][-1]
    assert (payout.record_type, payout.net_minor, payout.psp_reference) == ("payout", -18500, "po_1Abc")
    assert (outcome.reading.balance, outcome.reading.statements) == ("ok", 1)


def test_lines_before_the_first_that_names_the_account_get_it(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("stripe.csv"))
    assert [line.line_no for line in outcome.rows["settlement_lines"]] == [2, 3, 4, 5]
    assert {line.processor_account for line in outcome.rows["settlement_lines"]} == {"acct_gulf"}


def test_a_report_without_the_column_has_a_default_account(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("stripe.csv").replace("gateway_account", "something_else"))
    assert outcome.reading.origin_account == "default"


def test_utc_columns_win(read: Any, fixture_text: Any) -> None:
    text = (
        fixture_text("stripe.csv")
        .replace("description\n", "created_utc\n")
        .replace(",acct_gulf,\n", ",acct_gulf,2026-10-19 06:30:00\n")
    )
    text = text.replace("Network costs", "").replace("Refund\n", "\n").replace("Payout\n", "\n")
    assert read(text).rows["settlement_lines"][1].occurred_at == datetime(2026, 10, 19, 6, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("old", "new", "reason", "line"),
    [
        ("24.750", "24.751", "does not add up", 3),
        ("24.750", "24.7501", "at most 3 decimals", 3),
        ("-18.500,0.000,-18.500", "18.500,0.000,18.500", "SPLIT_MISMATCH", 5),
        (",acct_gulf,Refund", ",acct_other,Refund", "two accounts in one report", 4),
        ("acct_gulf", "", "no line names the account", 2),
        (",txn_2,", ",,", "value missing", 3),
        (",kwd,25.500", ",kw,25.500", "not a currency", 3),
        (",kwd,25.500", ",xau,25.500", "currency code with minor units", 3),
        ("2026-10-19 08:30:00", "19/10/2026 08:30", "not a date and time", 3),
        (",source_id,", ",source,", "column missing from the header", 1),
    ],
)
def test_a_wrong_line_is_named(old: str, new: str, reason: str, line: int, read: Any, fixture_text: Any) -> None:
    text = fixture_text("stripe.csv")
    assert old in text
    rejected = read(text.replace(old, new)).rejected
    assert reason in str(rejected)
    assert rejected.line == line


def test_a_negative_balance_is_claimed_back_by_a_positive_payout(read: Any, fixture_text: Any) -> None:
    header, *_, refund, payout = fixture_text("stripe.csv").splitlines(keepends=True)
    outcome = read(header + refund + payout.replace("-18.500", "5.000"))
    assert outcome.reading.balance == "ok"
    assert outcome.rows["settlement_lines"][1].net_minor == 5000


def test_lines_outside_any_payout_prove_nothing(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("stripe.csv").replace("po_1Abc,txn", ",txn"))
    assert (outcome.reading.balance, outcome.reading.statements, outcome.reading.documents) == ("-", 0, ())
    assert {line.batch_reference for line in outcome.rows["settlement_lines"]} == {None}
