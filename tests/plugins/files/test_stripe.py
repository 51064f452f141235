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


def test_a_line_is_the_same_before_and_after_its_payout_has_taken_it(read: Any, fixture_text: Any) -> None:
    def keys(text: str) -> list[str]:
        return [row.row_key for row in read(text).rows["settlement_lines"]]

    text = fixture_text("stripe.csv")
    paid = keys(text)
    assert len(set(paid)) == 4
    assert keys(text.replace("po_1Abc,txn", ",txn")) == paid
    assert keys(text.replace("ORDER-7", "ORDER-8").replace("ch_1", "ch_9")) == paid
    assert not set(keys(text.replace("acct_gulf", "acct_other"))) & set(paid), "ids are an account's own"
    # Nothing but lines that wait reads as a day's activity.
    header, _, charge, refund, _ = text.splitlines(keepends=True)
    waiting = read(header + (charge + refund).replace("po_1Abc,", ","))
    assert waiting.reading.format == "stripe.balance_activity"
    assert [row.row_key for row in waiting.rows["settlement_lines"]] == paid[1:3]


def test_a_payout_proves_nothing_of_a_batch_without_one(read: Any, fixture_text: Any) -> None:
    text = fixture_text("stripe.csv")
    beside = text.splitlines()[2].replace("po_1Abc", "po_2Def").replace("txn_2", "txn_9")
    assert read(text).reading.balance == "ok"
    assert read(text + beside + "\n").reading.balance == "-"


def test_lines_outside_any_payout_prove_nothing(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("stripe.csv").replace("po_1Abc,txn", ",txn"))
    assert (outcome.reading.balance, outcome.reading.statements, outcome.reading.documents) == ("-", 0, ())
    assert {line.batch_reference for line in outcome.rows["settlement_lines"]} == {None}
