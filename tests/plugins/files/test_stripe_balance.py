"""Stripe's activity and payouts of an account that pays out by hand: every movement of the balance once."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from typing import Any

import pytest

NAMES = ("stripe_activity.csv", "stripe_payouts.csv")


def test_activity_has_the_day_as_its_batch_and_its_document(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("stripe_activity.csv"))
    lines = outcome.rows["settlement_lines"]
    assert [(line.record_type, line.psp_reference, line.gross_minor, line.fee_minor, line.net_minor, line.net_currency)
            for line in lines] == [
        ("charge", "ch_1", 10000, 180, 9820, "EUR"),
        ("refund", "re_1", -4000, 0, -4000, "EUR"),
        ("charge", "ch_2", 1200, 36, 1164, "JPY"),
        ("fee", "txn_4", -200, 0, -200, "EUR"),
    ]  # fmt: skip
    assert [line.batch_reference for line in lines] == ["2026-10-19", "2026-10-20", "2026-10-20", "2026-10-20"]
    assert [(each.kind, each.identity) for each in outcome.reading.documents] == [
        ("balance_activity", "stripe|default|2026-10-19|EUR"),
        ("balance_activity", "stripe|default|2026-10-20|EUR"),
        ("balance_activity", "stripe|default|2026-10-20|JPY"),
    ]
    assert outcome.reading.balance == "-"


def test_columns_in_utc_win(read: Any, fixture_text: Any) -> None:
    line = read(fixture_text("stripe_activity.csv")).rows["settlement_lines"][0]
    assert line.occurred_at == datetime(2026, 10, 19, 22, 30, tzinfo=UTC)
    assert line.booked_at == datetime(2026, 10, 21, 22, tzinfo=UTC)


def test_a_payout_by_hand_is_a_line_that_the_bank_knows_by_its_id(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("stripe_payouts.csv"))
    sent, returned = outcome.rows["settlement_lines"]
    assert (sent.record_type, sent.psp_reference, sent.gross_minor, sent.fee_minor, sent.net_minor) == (
        "payout", "po_1", -5000, 50, -5050,
    )  # fmt: skip
    assert (returned.record_type, returned.psp_reference, returned.net_minor) == ("payout_reversal", "po_1", 5000)
    assert [(each.kind, each.identity) for each in outcome.reading.documents] == [
        ("balance_payouts", "stripe|default|2026-10-20|EUR"),
        ("balance_payouts", "stripe|default|2026-10-24|EUR"),
    ]


def test_activity_that_names_automatic_payouts_is_the_other_readers(read: Any, fixture_text: Any) -> None:
    assert read(fixture_text("stripe.csv")).reading.format == "stripe.payout_reconciliation"


def with_automatic(text: str, *ids: str) -> str:
    """The report with the column of automatic payouts, as Stripe gives it unless told otherwise."""
    header, *lines = text.splitlines()
    named = [f"{payout},{line}" for payout, line in zip(ids, lines, strict=True)]
    return "\n".join([f"automatic_payout_id,{header}", *named, ""])


def test_the_column_of_automatic_payouts_may_be_there_and_blank(read: Any, fixture_text: Any) -> None:
    text = fixture_text("stripe_activity.csv")
    outcome = read(with_automatic(text, "", "", "", ""))
    assert outcome.reading.format == "stripe.balance_activity"
    assert outcome.reading.documents == read(text).reading.documents
    named = read(with_automatic(text, "", "po_1", "", ""))
    assert (named.reading or named.rejected.reading).format == "stripe.payout_reconciliation"


def test_an_automatic_payout_far_down_is_refused(read: Any, fixture_text: Any) -> None:
    header, line, *_ = fixture_text("stripe_activity.csv").splitlines()
    quoted = line.replace(",,100.00", ',"two, lines\nof text",100.00')
    records = [f"automatic_payout_id,{header}", *[f",{quoted}"] * 1000, f"po_1,{line}", ""]
    rejected = read("\n".join(records)).rejected
    assert "an automatic payout in activity that begins without any" in str(rejected)
    assert rejected.line == 2002


@pytest.mark.parametrize("name", NAMES)
def test_connected_accounts_are_told_apart(name: str, read: Any, fixture_text: Any) -> None:
    header, *lines = fixture_text(name).splitlines()
    text = "\n".join([f"{header},connected_account", *(f"{line},acct_{n % 2}" for n, line in enumerate(lines)), ""])
    outcome = read(text)
    assert {line.processor_account for line in outcome.rows["settlement_lines"]} == {"acct_0", "acct_1"}
    assert outcome.reading.origin_account is None


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("stripe_activity.csv", "98.20", "98.21", "the line does not add up"),
        ("stripe_activity.csv", "100.00,1.80", "1e2,1.80", "not an exact amount"),
        ("stripe_activity.csv", "jpy,1200", "jpy,1200.5", "not an exact amount"),
        ("stripe_activity.csv", ",refund,", ",payout,", "a movement of the other report"),
        ("stripe_activity.csv", ",refund,", ",,", "value missing"),
        ("stripe_activity.csv", "jpy,1200", "yen ,1200", "not a currency"),
        ("stripe_activity.csv", "2026-10-19 22:30:00", "19.10.2026", "not a date and time"),
        ("stripe_payouts.csv", "payout,txn_9", "charge,txn_9", "a movement of the other report"),
        ("stripe_payouts.csv", "-50.50", "50.50", "the line does not add up"),
        ("stripe_payouts.csv", "po_1,2026-10-20", ",2026-10-20", "value missing"),
    ],
)
def test_what_is_refused(name: str, old: str, new: str, reason: str, read: Any, fixture_text: Any) -> None:
    text = fixture_text(name)
    assert old in text
    assert reason in str(read(text.replace(old, new, 1)).rejected)


@pytest.mark.parametrize("column", ["charge_id", "payment_method_type", "card_brand", "payment_metadata[order]", "net"])
def test_whichever_column_is_last_a_file_that_ends_in_it_is_cut(column: str, read: Any, fixture_text: Any) -> None:
    header, *lines = csv.reader(fixture_text("stripe_activity.csv").splitlines())
    at = header.index(column)
    moved = [",".join([*row[:at], *row[at + 1 :], row[at]]) for row in (header, *lines[:1])]
    whole = "\n".join(moved) + "\n"
    assert read(whole).reading.entries == 1
    # Also where nothing at all is left of the value, which could be a blank one.
    for end in (whole.rindex(",") + 1, len(whole) - 2, len(whole) - 1):
        assert "the file ends within a line" in str(read(whole[:end]).rejected)
