"""MT940 and MT942: marks, balances, wrapped text; the mt-940 library is the second opinion."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import mt940
import pytest


def test_the_statement(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("mt940.sta"))
    (statement,) = outcome.rows["bank_statements"]
    assert tuple(statement)[:-1] == (
        1, "KW81CBKU0000000000001234560101", "KWD", "00201/001", 201, date(2026, 10, 18), 1000500, date(2026, 12, 31),
        1200125,
    )  # fmt: skip
    assert (outcome.reading.statements, outcome.reading.entries, outcome.reading.balance) == (1, 3, "ok")
    assert outcome.reading.signed_sum == {"KWD": 199625}


def test_references_and_numbered_text(read: Any, fixture_text: Any) -> None:
    entry = read(fixture_text("mt940.sta")).rows["bank_entries"][0]
    assert (entry.amount_minor, entry.is_reversal, entry.transaction_code) == (250250, False, "NTRF")
    assert (entry.bank_reference, entry.customer_reference) == ("B-1", "E2E-1")
    assert entry.counterparty == "ACME COMPANY WLL"
    # A full subfield is wrapped inside the reference: it goes on without a blank.
    assert entry.remittance == "EREF+E2E-1 STRIPE PAYOUT po_1Q38794017806633161066534"


def test_a_reversed_credit_is_money_out_and_labelled_text_is_read(read: Any, fixture_text: Any) -> None:
    entry = read(fixture_text("mt940.sta")).rows["bank_entries"][1]
    assert (entry.amount_minor, entry.is_reversal) == (-50125, True)
    assert (entry.booking_date, entry.value_date) == (date(2026, 10, 20), date(2026, 10, 19))
    assert (entry.customer_reference, entry.counterparty) == ("REF-2", "BOOK SHOP")
    assert entry.remittance == "RETURNED PAYOUT WITH ONE LONG TEXT THAT WAS WRAPPED"


def test_a_booking_in_the_next_year(read: Any, fixture_text: Any) -> None:
    entry = read(fixture_text("mt940.sta")).rows["bank_entries"][2]
    assert (entry.amount_minor, entry.value_date, entry.booking_date) == (-500, date(2026, 12, 31), date(2027, 1, 1))


@pytest.mark.parametrize(
    ("mark", "amount_minor", "is_reversal"),
    [("C", 1000, False), ("D", -1000, False), ("RC", -1000, True), ("RD", 1000, True), ("CR", 1000, False),
     ("DR", -1000, False), ("RCR", -1000, True), ("RDR", 1000, True)],
)  # fmt: skip
def test_marks(mark: str, amount_minor: int, is_reversal: bool, read: Any) -> None:
    closing = 10000 + amount_minor
    content = (
        ":20:X\n:25:ACC\n:28C:1\n:60F:C261018EUR100,00\n"
        f":61:2610191019{mark}10,00NTRFREF\n:62F:C261019EUR{closing // 100},00\n"
    )
    (entry,) = read(content).rows["bank_entries"]
    assert (entry.amount_minor, entry.is_reversal) == (amount_minor, is_reversal)
    theirs = mt940.parse(content, options=mt940.Options.all()).transactions
    assert [movement.data["amount"].amount * 100 for movement in theirs] == [Decimal(amount_minor)]


def test_the_library_agrees(read: Any, fixture_text: Any) -> None:
    text = fixture_text("mt940.sta")
    theirs = mt940.parse(text, options=mt940.Options.all()).transactions
    ours = read(text).rows["bank_entries"]
    assert [movement.data["amount"].amount for movement in theirs] == [
        Decimal(entry.amount_minor) / 1000 for entry in ours
    ]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("KWD1200,125", "KWD1200,126", "does not prove itself"),
        ("C250,250", "C250250", "a decimal comma"),
        ("C250,250", "C250,2501", "at most 3 decimals"),
        ("C250,250", "C2,50,250", "not an exact amount"),
        ("C250,250NTRF", "C250,250 NTRF", "not a transaction type"),
        ("C250,250NTRF", "C250,250XTRF", "not a transaction type"),
        (":61:2610191019", ":61:2613191019", "not a date"),
        (":61:2610191019", ":61:2610191399", "not a date"),
        (":61:2610191019C", ":61:2610191019X", "not a statement line"),
        ("C261231KWD1200,125", "C2612311200,125", "not a balance"),
        ("C261231KWD1200,125", "C261231BHD1200,125", "balances in two currencies"),
        (":62F:", ":99Z:", "a fragment without balances is no statement"),
        (":60F:", ":99Z:", "a fragment without balances is no statement"),
        (":25:KW81CBKU0000000000001234560101", "", "a fragment is no statement"),
        (":20:STARTUMS", "", "a fragment is no statement"),
        ("-}\n", "-}\n:61:2610191019C1,NTRFREF\n", "a fragment is no statement"),
    ],
)
def test_a_break_of_the_standard_is_named(old: str, new: str, reason: str, read: Any, fixture_text: Any) -> None:
    text = fixture_text("mt940.sta")
    assert old in text
    rejected = read(text.replace(old, new, 1)).rejected
    assert reason in str(rejected)
    assert rejected.line is not None


def test_a_fragment_is_no_statement_but_is_counted(read: Any) -> None:
    rejected = read(":60F:C261018EUR0,\n:61:2610191019C50,00NTRFREF\n").rejected
    assert (rejected.reading.statements, rejected.reading.entries) == (0, 1)
    assert rejected.reading.exact_sum == {"EUR": Decimal(50)}


@pytest.mark.parametrize(("written", "meant"), [("260230", date(2026, 2, 28)), ("240230", date(2024, 2, 29))])
def test_the_thirtieth_of_february_is_the_last(written: str, meant: date, read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("mt940.sta").replace(":61:2610191019C", f":61:{written}0301C"))
    assert outcome.rows["bank_entries"][0].value_date == meant


def test_line_ends_and_blanks_do_not_matter(read: Any, fixture_text: Any) -> None:
    text = fixture_text("mt940.sta")
    spaced = text.replace(":61:2610191019C", ":61:261019    C").replace("\n", "  \r\n")
    (first, *_) = read(spaced).rows["bank_entries"]
    assert (first.booking_date, first.amount_minor) == (date(2026, 10, 19), 250250)


def test_latin_1_text_is_read(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("mt940.sta").replace("ACME", "MÜLLER").encode("latin-1"))
    assert outcome.rows["bank_entries"][0].counterparty == "MÜLLER COMPANY WLL"


def test_an_interim_report_is_no_statement(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("mt942.sta"))
    assert (outcome.reading.format, outcome.reading.statements, outcome.reading.entries) == ("mt942", 0, 2)
    assert (outcome.reading.balance, outcome.reading.signed_sum) == ("-", {"NZD": 2001})
    assert (outcome.rows, outcome.reading.documents) == ({}, ())


@pytest.mark.parametrize(
    ("old", "new"), [("1NZD10,00", "2NZD10,00"), ("1NZD30,01", "1NZD30,02"), ("1NZD30,01", "junk")]
)
def test_totals_of_an_interim_report_are_checked(old: str, new: str, read: Any, fixture_text: Any) -> None:
    assert "total differs from its entries" in str(read(fixture_text("mt942.sta").replace(old, new)).rejected)
