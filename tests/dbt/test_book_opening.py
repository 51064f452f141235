"""The comparison with the payment system's own book may begin after the books: both sides open at what they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.dbt import given
from tests.dbt.worlds import EMPTY, Warehouse

PROJECT = Path(__file__).parents[2] / "dbt_project"
EURO = given.BANKS["EUR"]
OFF_MINOR = 7


def compared(books: Warehouse, project: Path, is_compared: bool) -> None:
    """Say for every bank account whether the payment system keeps a book of it, and deploy that."""
    seed = project / "seeds" / "bank_accounts.csv"
    text = seed.read_text()
    now, then = ("true", "false") if is_compared else ("false", "true")
    assert f",{then}\n" in text
    seed.write_text(text.replace(f",{then}\n", f",{now}\n"))
    books.runner.deploy()


def test_a_comparison_that_begins_later(books: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all that earlier closes took, what was booked wrongly before anybody compared is the one difference."""
    project = tmp_path / "dbt_project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    monkeypatch.setenv("TIEOUT_DBT_PROJECT", str(project))
    monkeypatch.setattr(given, "scenario_names", lambda: ["merchant_payout_sent_and_returned"])
    balances: dict[str, int] = {}
    compared(books, project, False)
    for number, business_date in enumerate(given.CLOSES[:2], 1):
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
        if number == 2:
            compared(books, project, True)
        opened = books.open_close(business_date)
        books.build(opened)
        books.publish(opened)
    found = books.query(
        "select side, item_type, status, break_code, difference_minor from reconciliation.reconciliation_items "
        "where close_id = %s and bank_account = %s and reconciliation = 'ledger_bank' order by 1, 2",
        (opened.close_id, EURO),
    )
    ended = ("open", "BALANCE_DIFFERENCE", -OFF_MINOR)
    assert found == [
        ("left", "book_day", *ended),
        ("left", "book_opening", *ended),
        ("right", "bank_balance", *ended),
        ("right", "bank_day", *ended),
    ]
    # What one account is off by, the others are not.
    assert books.query(
        "select distinct status from reconciliation.reconciliation_items "
        "where close_id = %s and bank_account <> %s and reconciliation = 'ledger_bank'", (opened.close_id, EURO),
    ) == [("matched",)]  # fmt: skip
    books.restore(EMPTY)
