"""The comparison with the payment system's own book may begin after the books, end, and begin again: both sides open
at what they are, and nobody is left with what is not compared any more."""

from __future__ import annotations

from datetime import date

import pytest

from tests.dbt import given
from tests.dbt.worlds import EMPTY, Warehouse

EURO = given.BANKS["EUR"]
OFF_MINOR = 7
# Compared or not, close by close.
COMPARED = {date(2026, 10, 20): False, date(2026, 10, 21): True, date(2026, 10, 22): False, date(2026, 10, 23): True}


def test_a_comparison_that_begins_later_ends_and_begins_again(
    books: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all that earlier closes took, what was booked wrongly before anybody compared is the one difference; who links
    its items when they leave is told so."""
    monkeypatch.setattr(given, "scenario_names", lambda: ["merchant_payout_sent_and_returned"])
    monkeypatch.setattr(given, "CLOSES", tuple(COMPARED))
    balances: dict[str, int] = {}
    closes = {}
    for number, (business_date, is_compared) in enumerate(COMPARED.items(), 1):
        with books.connect() as connection, connection.cursor() as cursor:
            given.load(cursor, number, balances)
            if number == 1:
                cursor.execute(
                    "update raw.payments_ledger_entries set amount_minor = amount_minor + %s where bank_account = %s "
                    "returning batch_id", (OFF_MINOR, EURO),
                )  # fmt: skip
                ((batch_id,),) = cursor.fetchall()
                cursor.execute("update ops.batch_totals set sum_minor = sum_minor + %s "
                               "where batch_id = %s and currency = 'EUR'", (OFF_MINOR, batch_id))  # fmt: skip
        books.execute("update rules.bank_accounts set is_in_system_book = %s", (is_compared,))
        if number == 3:
            books.execute(
                "insert into ops.break_actions (book, kind, item_keys, reason, actor, as_of) select 'global', 'link', "
                "array_agg(item_key), 'one day', 'late', now() from reconciliation.reconciliation_items "
                "where close_id = %s and bank_account = %s and item_type in ('book_day', 'bank_day')",
                (closes[2], EURO),
            )  # fmt: skip
        opened = books.open_close(business_date)
        books.build(opened)
        books.publish(opened)
        closes[number] = opened.close_id

    def outcomes(close_no: int) -> list[tuple[object, ...]]:
        return books.query(
            "select side, item_type, status, coalesce(break_code, exclusion_reason), difference_minor "
            "from reconciliation.reconciliation_items "
            "where close_id = %s and bank_account = %s and reconciliation = 'ledger_bank' order by 1, 2",
            (closes[close_no], EURO),
        )

    def held(close_no: int) -> list[tuple[object, ...]]:
        return books.query(
            "select account_type, balance_minor from accounting.trial_balance where close_id = %s and currency = 'EUR' "
            "and account in (%s, %s) order by 1", (closes[close_no], f"bank:{EURO}", f"system_book:{EURO}"),
        )  # fmt: skip

    ended = ("open", "BALANCE_DIFFERENCE", -OFF_MINOR)
    assert outcomes(2) == [
        ("left", "book_day", *ended),
        ("left", "book_opening", *ended),
        ("right", "bank_balance", *ended),
        ("right", "bank_day", *ended),
    ]
    assert {row[2:4] for row in outcomes(3)} == {("excluded", "NOT_COMPARED")}
    assert [balance for account, balance in held(3) if account == "system_book"] == [0]
    assert ("left", "book_opening", *ended) in outcomes(4)
    assert {row[2:] for row in outcomes(4)} == {ended}
    assert books.query("select outcome, refusal from published.break_actions") == [
        ("refused", f"{EURO} is not compared with our own book any more")
    ]
    (_, bank_minor), (_, book_minor) = held(4)
    assert book_minor - bank_minor == OFF_MINOR
    # What one account is off by, the others are not.
    assert books.query(
        "select distinct status from reconciliation.reconciliation_items "
        "where close_id = %s and bank_account <> %s and reconciliation = 'ledger_bank'", (closes[4], EURO),
    ) == [("matched",)]  # fmt: skip
    books.restore(EMPTY)
