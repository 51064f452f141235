"""Braintree and Mollie: JSON, read without a float, sent on only where money moved, refused where it contradicts."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tieout import files
from tieout.files.json_items import FILE_LIMIT


def brief(row: Any) -> tuple[Any, ...]:
    return (
        row.line_no, row.record_type, row.batch_reference, row.psp_reference, row.original_psp_reference,
        row.gross_minor, row.gross_currency, row.fee_minor, row.net_minor, row.net_currency,
    )  # fmt: skip


def test_braintree_sends_on_what_was_disbursed(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("braintree.json"))
    sale, other, refund = "dHJhbnNhY3Rpb25fMQ", "dHJhbnNhY3Rpb25fMg", "cmVmdW5kXzE"
    assert [brief(row) for row in outcome.rows["settlement_lines"]] == [
        (1, "Transaction", "2026-10-20", sale, sale, 3100, "USD", 0, 3100, "USD"),
        (2, "Transaction", "2026-10-20", other, other, 1000, "EUR", 0, 1082, "USD"),
        (4, "Refund", "2026-10-20", refund, sale, -103, "USD", 0, -103, "USD"),
    ]
    assert outcome.reading.entries == 4
    assert outcome.reading.signed_sum == {"USD": 4079}
    assert {document[:2] for document in outcome.reading.documents} == {
        ("settlement_batch", "braintree|shop_instant|2026-10-20|USD|Transaction"),
        ("settlement_batch", "braintree|shop_instant|2026-10-20|USD|Refund"),
    }
    assert outcome.rows["settlement_lines"][0].booked_at == datetime(2026, 10, 20, tzinfo=UTC)


def test_funds_that_are_held_are_counted_and_not_sent(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("braintree.json").replace('"fundsHeld": false', '"fundsHeld": true', 1))
    assert (outcome.reading.entries, outcome.reading.signed_sum) == (4, {"USD": 979})


def test_one_object_after_another_is_read_like_a_list(read: Any, fixture_text: Any) -> None:
    items = json.loads(fixture_text("braintree.json"))
    outcome = read("\n".join(map(json.dumps, items)))
    assert list(map(brief, outcome.rows["settlement_lines"])) == list(
        map(brief, read(fixture_text("braintree.json")).rows["settlement_lines"])
    )


def test_mollie_has_a_line_for_each_balance_transaction(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("mollie.json"))
    assert [brief(row) for row in outcome.rows["settlement_lines"]] == [
        (1, "outgoing-transfer", "2026-10-20", "stl_1", None, -1000, "EUR", 0, -1000, "EUR"),
        (2, "refund", "2026-10-19", "re_1", "tr_1", -1000, "EUR", 25, -1025, "EUR"),
        (3, "payment", "2026-10-19", "tr_1", "tr_1", 10000, "EUR", 29, 9971, "EUR"),
    ]
    assert outcome.reading.origin_account == "bal_Shop"
    assert [document.identity for document in outcome.reading.documents] == [
        f"mollie|baltr_{number}" for number in (3, 2, 1)
    ]


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("braintree.json", '"value": "31.00"', '"value": "31.01"', "the disbursed amount is another"),
        ("braintree.json", '"value": "31.00"', '"value": "NaN"', "not an exact amount"),
        ("braintree.json", '"value": "31.00"', '"value": NaN', "not a number"),
        ("braintree.json", '"value": "31.00"', '"value": null', "value missing"),
        ("braintree.json", '"value": "31.00"', '"value": {}', "not a text"),
        ("braintree.json", '"value": "1.03"', '"value": "-1.03"', "a sign on an amount"),
        ("braintree.json", '"fundsHeld": false', '"fundsHeld": "no"', "neither held nor paid"),
        ("braintree.json", '"date": "2026-10-20"', '"date": "2026-10-32"', "not a date"),
        ("braintree.json", "21:58:37.000000Z", "21:58:37", "not a time with an offset"),
        ("braintree.json", '"exchangeRate": "1"', '"exchangeRate": "1e3"', "not an exact amount"),
        ("braintree.json", '"orderId": "ORDER-1"', '"id": "again"', "a key twice in one object"),
        ("braintree.json", "ORDER-1", "\\u0000", "NUL or half a character"),
        ("braintree.json", "ORDER-1", "\\ud800", "NUL or half a character"),
        ("braintree.json", '"ORDER-1"', "[" * 60 + "]" * 60, "nested too deep"),
        ("braintree.json", '"ORDER-1"', "[" * 20_000, "nested too deep"),
        ("braintree.json", "\n]\n", "\n", "broken JSON"),
        ("braintree.json", "[\n", '["no object",\n', "not an object"),
        ("braintree.json", '"orderId": "ORDER-1"', '"amountDisputed": {}', "a report of disputes"),
        ("mollie.json", '"count": 3', '"count": 4', "the count differs from the transactions"),
        ("mollie.json", '"value": "99.71"', '"value": "99.72"', "the transaction does not add up"),
        ("mollie.json", '"id": "baltr_2"', '"id": "baltr_3"', "a transaction comes twice"),
        ("mollie.json", "/balances/bal_Shop", "/balances", "the balance is not named"),
        ("mollie.json", '"deductions": {"currency": "EUR"', '"deductions": {"currency": "USD"', "another currency"),
        ("mollie.json", '"_embedded"', '"resource": "settlement", "_other"', "a summary of settlements"),
    ],
)
def test_a_wrong_report_is_refused(name: str, old: str, new: str, reason: str, read: Any, fixture_text: Any) -> None:
    text = fixture_text(name)
    assert old in text
    assert reason in str(read(text.replace(old, new, 1)).rejected)


def test_a_number_is_read_as_it_is_written(read: Any, fixture_text: Any) -> None:
    big = "90071992547409.93"  # a float would make it 90071992547409.94
    text = fixture_text("mollie.json").replace('"value": "-10.00"', f'"value": -{big}')
    assert read(text).rows["settlement_lines"][0].net_minor == -9007199254740993


def test_a_huge_file_is_refused_unread(tmp_path: Path, fixture_bytes: Any) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as stream:
        stream.write(fixture_bytes("braintree.json"))
        stream.truncate(FILE_LIMIT + 1)
    with pytest.raises(files.Rejected, match="file too large"):
        files.read(path, lambda table, row: None)


def test_many_small_objects_are_read_in_linear_time(tmp_path: Path, fixture_text: Any) -> None:
    line = json.dumps(json.loads(fixture_text("braintree.json"))[0]) + "\n"
    path = tmp_path / "many"
    path.write_text("".join(line.replace("ORDER-1", f"ORDER-{number}") for number in range(10_000)))
    started = time.monotonic()
    assert files.read(path, lambda table, row: None).entries == 10_000
    assert time.monotonic() - started < 20
