"""BAI2: type codes sign the amounts, every control total is verified; the bai2 library is the second opinion."""

from __future__ import annotations

import time
from datetime import date
from typing import Any

import pytest
from bai2 import bai2


def test_the_account(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("bai2.bai"))
    (statement,) = outcome.rows["bank_statements"]
    assert tuple(statement)[:-1] == (
        1, "7700012345", "USD", None, None, date(2026, 10, 19), 100000, date(2026, 10, 19), 112345,
    )  # fmt: skip
    assert (outcome.reading.statements, outcome.reading.entries, outcome.reading.balance) == (1, 2, "ok")
    assert outcome.reading.signed_sum == {"USD": 12345}


def test_transactions(read: Any, fixture_text: Any) -> None:
    credit, debit = read(fixture_text("bai2.bai")).rows["bank_entries"]
    assert (credit.amount_minor, credit.booking_date, credit.value_date) == (
        12500,
        date(2026, 10, 19),
        date(2026, 10, 20),
    )
    assert (credit.bank_reference, credit.customer_reference) == ("B-1", "PO-1")
    assert credit.remittance == "ADYEN N.V. TX123, BATCH 4/5 SECOND LINE"
    assert (credit.transaction_code, credit.is_reversal) == ("195", False)
    assert (debit.amount_minor, debit.is_reversal, debit.remittance) == (-155, True, "REVERSED")
    assert (debit.bank_reference, debit.customer_reference) == ("B-2", None)


def test_the_library_agrees(read: Any, fixture_text: Any) -> None:
    text = fixture_text("bai2.bai")
    theirs = bai2.parse_from_string(text, check_integrity=True)
    ours = read(text).rows["bank_entries"]
    assert [entry.amount for entry in theirs.children[0].children[0].children] == [
        abs(entry.amount_minor) for entry in ours
    ]


def test_amounts_are_minor_units_of_the_accounts_currency(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("bai2.bai").replace("7700012345,USD", "7700012345,KWD"))
    assert outcome.reading.signed_sum == {"KWD": 12345}
    assert str(outcome.reading.exact_sum["KWD"]) == "12.345"


def test_dollars_where_no_currency_is_given(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("bai2.bai").replace(",USD,", ",,"))
    assert outcome.rows["bank_statements"][0].currency == "USD"


def test_an_interim_group_is_left_to_the_final_one(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("bai2.bai").replace("2359,USD,2/", "2359,USD,3/"))
    assert (outcome.reading.entries, outcome.reading.balance) == (2, "ok")
    assert (outcome.rows, outcome.reading.documents) == ({}, ())


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("49,237655", "49,237656", "control total differs"),
        ("49,237655,6", "49,237655,7", "number of records differs"),
        ("98,237655,1", "98,237655,2", "number of groups or accounts differs"),
        ("98,237655", "98,237654", "control total differs"),
        ("99,237655,1,10", "99,237655,1,11", "number of records differs"),
        ("99,237655,1,10/\n", "", "the file is cut"),
        ("015,112345", "015,112344", "control total differs"),
        ("16,195,12500,V", "16,195,12500,Q", "unknown funds type"),
        ("16,195,12500", "16,890,12500", "neither credit nor debit"),
        ("16,195,12500", "16,19X,12500", "neither credit nor debit"),
        ("16,195,12500", "16,195,125.00", "not an exact amount"),
        ("16,195,12500", "16,195,-12500", "not an exact amount"),
        ("16,195", "17,195", "not a BAI2 record"),
        ("02,SHOP", "03,SHOP", "an account out of place"),
        ("1,261019,2359,USD", "1,261319,2359,USD", "not a date"),
        (",80,,2/", ",80,,1/", "not BAI version 2"),
        ("7700012345,USD", "7700012345,XXX", "not a currency"),
        ("7700012345,USD", ",USD", "account without number"),
    ],
)
def test_a_wrong_file_is_refused(old: str, new: str, reason: str, read: Any, fixture_text: Any) -> None:
    text = fixture_text("bai2.bai")
    assert old in text
    rejected = read(text.replace(old, new, 1)).rejected
    assert reason in str(rejected)
    assert rejected.line is not None


def test_balances_that_do_not_add_up_are_refused_though_totals_agree(read: Any, fixture_text: Any) -> None:
    text = fixture_text("bai2.bai").replace("16,195,12500", "16,495,12500")
    rejected = read(text).rejected
    assert "does not prove itself" in str(rejected)
    assert (rejected.reading.entries, rejected.reading.balance) == (2, "off 250.00")


def test_one_more_comma_before_the_slash_does_not_matter(read: Any, fixture_text: Any) -> None:
    assert read(fixture_text("bai2.bai").replace("112345,,/", "112345,,,/")).reading.balance == "ok"


@pytest.mark.parametrize("before", ["03,7700012345,USD,", "88,100,12500,1,,", "16,195,12500,V,"])
def test_a_line_of_nothing_but_commas_takes_no_longer_than_it_is(before: str, read: Any, fixture_text: Any) -> None:
    text = fixture_text("bai2.bai")
    assert before in text
    started = time.monotonic()
    read(text.replace(before, before + "," * 300_000))
    assert time.monotonic() - started < 3


def test_an_amount_may_be_available_on_several_days(read: Any, fixture_text: Any) -> None:
    text = fixture_text("bai2.bai")
    spread = text.replace("88,100,12500,1,,", "88,100,12500,1,D,2,0,5000,1,7500,")
    assert read(spread).rows == read(text).rows
    spread = text.replace("16,195,12500,V,261020,1200,", "16,195,12500,D,2,0,5000,1,7500,")
    assert [entry.customer_reference for entry in read(spread).rows["bank_entries"]] == ["PO-1", None]
    endless = text.replace("16,195,12500,V,261020,1200,", f"16,195,12500,D,{2**62},")
    assert [entry.customer_reference for entry in read(endless).rows["bank_entries"]] == [None, None]
