"""camt.052/053/054: entries move the money, balances prove it, versions do not matter."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest


def test_the_statement(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("camt053.xml"))
    (statement,) = outcome.rows["bank_statements"]
    assert tuple(statement)[:-1] == (
        1, "NL00BANK0000000001", "EUR", "2026-0201", 201, date(2026, 10, 19), 100000, date(2026, 10, 19), 121050,
    )  # fmt: skip
    assert (outcome.reading.statements, outcome.reading.entries, outcome.reading.balance) == (1, 3, "ok")
    assert outcome.reading.signed_sum == {"EUR": 19850}


def test_an_entry_with_its_details(read: Any, fixture_text: Any) -> None:
    entry = read(fixture_text("camt053.xml")).rows["bank_entries"][0]
    assert (entry.line_no, entry.statement_no, entry.amount_minor, entry.currency) == (1, 1, 30000, "EUR")
    assert (entry.booking_date, entry.value_date) == (date(2026, 10, 19), date(2026, 10, 20))
    assert (entry.bank_reference, entry.customer_reference) == ("B-1", "E2E-1")
    assert (entry.counterparty, entry.remittance) == ("Acme & Sons", "TX123 BATCH 4 second")
    assert (entry.transaction_code, entry.is_reversal) == ("PMNT/RCDT/ESCT", False)
    assert json.loads(entry.record)["entry"]["Amt"] == {"@Ccy": "EUR", "#text": "300.00000"}


def test_a_reversal_keeps_the_direction_of_its_indicator(read: Any, fixture_text: Any) -> None:
    entry = read(fixture_text("camt053.xml")).rows["bank_entries"][1]
    assert (entry.amount_minor, entry.is_reversal, entry.remittance) == (-8950, True, "Returned")
    assert entry.booking_date == entry.value_date == date(2026, 10, 19)


def test_a_pending_entry_is_counted_and_neither_sent_nor_in_the_balance(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("camt053.xml"))
    assert (outcome.reading.entries, len(outcome.rows["bank_entries"])) == (3, 2)
    booked = read(fixture_text("camt053.xml").replace("PDNG", "BOOK"))
    assert booked.rejected.reading.balance == "off 12.00000"


@pytest.mark.parametrize(("kind", "message"), [("Rpt", "camt.052.001.06"), ("Ntfctn", "camt.054.001.09")])
def test_reports_and_notifications_are_left_to_the_statement_that_books_them(
    kind: str, message: str, read: Any, fixture_text: Any
) -> None:
    text = fixture_text("camt053.xml").replace("camt.053.001.08", message)
    outcome = read(text.replace("<Stmt>", f"<{kind}>").replace("</Stmt>", f"</{kind}>"))
    assert outcome.reading.format == message
    assert (outcome.reading.statements, outcome.reading.entries, outcome.reading.balance) == (1, 3, "ok")
    assert (outcome.rows, outcome.reading.documents, outcome.reading.totals) == ({}, (), {})
    assert outcome.reading.origin_account == "NL00BANK0000000001"


def test_prefixes_and_versions_do_not_matter(read: Any, fixture_text: Any) -> None:
    text = fixture_text("camt053.xml").replace("</", "</n:").replace("xmlns=", "xmlns:n=").replace("001.08", "001.02")
    text = text.replace("<", "<n:").replace("<n:/n:", "</n:").replace("<n:?", "<?")
    assert read(text).rows["bank_statements"] == read(fixture_text("camt053.xml")).rows["bank_statements"]


def test_the_closing_balance_of_the_day_before_opens_where_no_other_does(read: Any, fixture_text: Any) -> None:
    assert read(fixture_text("camt053.xml").replace("OPBD", "PRCD")).reading.balance == "ok"


def test_a_statement_that_does_not_prove_itself_still_reports(read: Any, fixture_text: Any) -> None:
    rejected = read(fixture_text("camt053.xml").replace("1210.50", "1310.50")).rejected
    assert "does not prove itself" in str(rejected)
    assert (rejected.reading.statements, rejected.reading.entries) == (1, 3)
    assert rejected.reading.balance == "off 100.00000"
    assert rejected.reading.signed_sum == {"EUR": 19850}


def test_two_statements_off_by_opposite_amounts_are_still_off(read: Any, fixture_text: Any) -> None:
    text = fixture_text("camt053.xml").replace("1210.50", "1211.50")
    head, _, rest = text.partition("<Stmt>")
    body, _, tail = rest.partition("</Stmt>")
    other = body.replace("1211.50", "1209.50").replace("2026-0201", "2026-0202")
    rejected = read(f"{head}<Stmt>{body}</Stmt><Stmt>{other}</Stmt>{tail}").rejected
    assert rejected.reading.balance.startswith("off 1.0")
    assert rejected.reading.statements == 2


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (">89.50<", ">-89.50<", "negative amount"),
        ("<CdtDbtInd>DBIT</CdtDbtInd><RvslInd>", "<RvslInd>", "neither credit nor debit"),
        ('<Amt Ccy="EUR">89.50', '<Amt Ccy="USD">89.50', "another currency than its account"),
        ('<Amt Ccy="EUR">89.50', '<Amt Ccy="EUR">89.505', "at most 2 decimals"),
        ('<Amt Ccy="EUR">89.50', '<Amt Ccy="XXX">89.50', "not an exact amount"),
        ("</CdtDbtInd><RvslInd>", "</CdtDbtInd><CdtDbtInd>CRDT</CdtDbtInd><RvslInd>", "neither credit nor debit"),
        ("<Sts>BOOK</Sts>", "<Sts>BOKED</Sts>", "unknown status"),
        ("<Sts>BOOK</Sts>", "<Sts><Prtry>BOOK</Prtry></Sts>", "unknown status"),
        ('<Amt Ccy="EUR">89.50</Amt>', '<Amt Ccy="EUR">89.50</Amt><Amt Ccy="EUR">89.50</Amt>', "amount missing"),
        ('<Amt Ccy="EUR">89.50</Amt>', "<Amt>89.50</Amt>", "not an exact amount"),
        ('<Amt Ccy="EUR">89.50</Amt>', '<Amt Ccy="EUR">89<x/>.50</Amt>', "text between elements"),
        ("<NbOfNtries>1<", "<NbOfNtries>2<", "summary differs"),
        ("<Sum>300.00<", "<Sum>301.00<", "summary differs"),
        ("<IBAN>NL00BANK0000000001</IBAN>", "", "statement without account"),
        ("<Dt>2026-10-20</Dt>", "<Dt>2026-13-20</Dt>", "not a date"),
        ("<Dt>2026-10-20</Dt>", "<Dt>20.10.2026</Dt>", "not a date"),
        ("Stmt>", "Statement>", "no statement in the file"),
        ("</Stmt>", "", "not well-formed XML"),
    ],
)
def test_a_break_of_the_standard_is_named(old: str, new: str, reason: str, read: Any, fixture_text: Any) -> None:
    text = fixture_text("camt053.xml")
    assert old in text
    assert reason in str(read(text.replace(old, new)).rejected)


def test_a_statement_without_any_balance_is_none(read: Any, fixture_text: Any) -> None:
    lines = [line for line in fixture_text("camt053.xml").splitlines() if "<Bal>" not in line]
    assert "statement without balances" in str(read("\n".join(lines)).rejected)


def test_the_same_statement_twice_is_refused(read: Any, fixture_text: Any) -> None:
    head, _, rest = fixture_text("camt053.xml").partition("<Stmt>")
    body, _, tail = rest.partition("</Stmt>")
    text = f"{head}<Stmt>{body}</Stmt><Stmt>{body}</Stmt>{tail}"
    assert "the same statement comes twice" in str(read(text).rejected)


def test_a_batch_entry_is_one_row(read: Any, fixture_text: Any) -> None:
    details = "<TxDtls><Refs><EndToEndId>E2E-9</EndToEndId></Refs></TxDtls></NtryDtls>"
    entry = read(fixture_text("camt053.xml").replace("</NtryDtls>", details)).rows["bank_entries"][0]
    assert (entry.amount_minor, entry.customer_reference, entry.counterparty) == (30000, None, None)
    assert entry.remittance == "TX123 BATCH 4 second"
