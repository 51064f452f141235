"""A row's key is what a later delivery of its document finds it by; the record is the line as it stood."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pyarrow as pa
import pytest

from tests.plugins.files.conftest import FIXTURES
from tieout.files import proof
from tieout.sources import load_registry

LINES = ["adyen.csv", "stripe.csv", "paypal.csv", "checkout_breakdown.csv", "trustly.csv", "adyen_accounting.csv"]
BANK_FILES = ["camt053.xml", "mt940.sta", "bai2.bai"]


def keys(outcome: Any, table: str = "settlement_lines") -> list[str]:
    assert outcome.rejected is None
    return [row.row_key for row in outcome.rows[table]]


def test_another_order_and_another_header_make_no_other_keys(read: Any, fixture_text: Any) -> None:
    header, first, second, *rest = fixture_text("adyen.csv").splitlines(keepends=True)
    before = keys(read(header + first + second + "".join(rest)))
    after = keys(read(header + second + first + "".join(rest)))
    assert before == [after[1], after[0], *after[2:]]
    assert len(set(before)) == len(before)


@pytest.mark.parametrize(
    ("old", "new", "is_another"),
    [
        ("MOD0001", "MOD0009", True),
        ("ORDER-1,", "ORDER-9,", True),
        (",Settled,MOD0001", ",SettledLate,MOD0001", True),
        ("visadebit", "visacredit", False),
        ("2026-10-19 09:15:00", "2026-10-19 09:15:01", False),
    ],
)
def test_a_line_is_known_by_its_references_and_type(
    old: str, new: str, is_another: bool, read: Any, fixture_text: Any
) -> None:
    text = fixture_text("adyen.csv")
    assert old in text
    before, after = keys(read(text)), keys(read(text.replace(old, new, 1)))
    assert (before[0] != after[0], before[1:] == after[1:]) == (is_another, True)


def test_another_amount_makes_a_new_version_and_no_new_line(read: Any, fixture_text: Any) -> None:
    header, first, *_ = fixture_text("adyen.csv").splitlines(keepends=True)
    dearer = first.replace("100.00", "100.01").replace("98.20", "98.21")
    assert dearer != first
    assert keys(read(header + first)) == keys(read(header + dearer))


def test_amounts_tell_lines_apart_that_have_no_reference(read: Any, fixture_text: Any) -> None:
    header, first, *_ = fixture_text("adyen.csv").splitlines(keepends=True)
    nameless = first.replace("PSP0001", "").replace("MOD0001", "").replace("ORDER-1,", ",")
    dearer = nameless.replace("100.00", "100.01").replace("98.20", "98.21")
    one, same, other = keys(read(header + nameless + nameless + dearer))
    assert (one == same, one == other) == (True, False)


def test_a_line_of_another_batch_is_another_line_of_another_document(read: Any, fixture_text: Any) -> None:
    header, first, *_ = fixture_text("adyen.csv").splitlines(keepends=True)
    outcome = read(header + first + first.replace(",42,", ",43,") + first)
    assert [row.document_no for row in outcome.rows["settlement_lines"]] == [1, 2, 1]
    one, other, again = keys(outcome)
    assert (one == again, one == other) == (True, False)
    assert [(document.identity, document.number) for document in outcome.reading.documents] == [
        ("adyen|ShopEU|42|EUR", 1), ("adyen|ShopEU|43|EUR", 2),
    ]  # fmt: skip


def test_lines_with_ids_of_their_own_are_those_of_the_processors_declared(
    read: Any, fixture_bytes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only those are looked up by their key: lines of all others would be taken for new in another document."""
    with_ids: set[str] = set()
    keys_of = proof.row_keys

    def noting(table: str, block: pa.RecordBatch, documents: Any, alone: Any = None, known_by: Any = None) -> list[str]:
        if known_by is not None and known_by.null_count < len(known_by):
            with_ids.update(block["processor"].filter(known_by.is_valid()).to_pylist())
        return keys_of(table, block, documents, alone, known_by)

    monkeypatch.setattr(proof, "row_keys", noting)
    for fixture in FIXTURES.iterdir():
        read(fixture_bytes(fixture.name))
    declared = load_registry().source("files").tables[0].lines_with_ids
    assert sorted(with_ids) == sorted(declared or ()) == ["stripe"]


def test_a_line_of_no_batch_is_in_no_document(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("stripe.csv").replace("po_1Abc", ""))
    assert {row.document_no for row in outcome.rows["settlement_lines"]} == {None}
    assert len(set(keys(outcome))) == 4


@pytest.mark.parametrize("name", [*LINES, "wechatpay_trade.csv", "alipay_trade.csv", "braintree.json", "mollie.json"])
def test_every_line_is_in_a_document_of_the_reading(name: str, read: Any, fixture_bytes: Any) -> None:
    outcome = read(fixture_bytes(name))
    numbers = [document.number for document in outcome.reading.documents]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {row.document_no for row in outcome.rows["settlement_lines"]} == set(numbers)


@pytest.mark.parametrize("name", BANK_FILES)
def test_a_statement_is_the_document_of_its_entries(name: str, read: Any, fixture_bytes: Any) -> None:
    outcome = read(fixture_bytes(name))
    assert [document.number for document in outcome.reading.documents] == [
        row.statement_no for row in outcome.rows["bank_statements"]
    ]
    assert {row.statement_no for row in outcome.rows["bank_entries"]} <= {
        document.number for document in outcome.reading.documents
    }
    found = [*keys(outcome, "bank_statements"), *keys(outcome, "bank_entries")]
    assert len(set(found)) == len(found)


def test_entries_of_another_statement_have_other_keys(read: Any, fixture_text: Any) -> None:
    text = fixture_text("camt053.xml")
    again = read(text.replace("<Id>2026-0201</Id>", "<Id>2026-0202</Id>"))
    assert not set(keys(read(text), "bank_entries")) & set(keys(again, "bank_entries"))


@pytest.mark.parametrize("name", LINES)
def test_records_are_the_lines_as_they_stood_and_the_header_names_their_fields(
    name: str, read: Any, fixture_text: Any
) -> None:
    outcome = read(fixture_text(name))
    lines = fixture_text(name).splitlines()
    # Rows that open with their kind have no header: their declaration names the fields.
    assert outcome.reading.record_header in ([None] if name == "trustly.csv" else lines)
    assert [row.record for row in outcome.rows["settlement_lines"]] == [
        lines[row.line_no - 1] for row in outcome.rows["settlement_lines"]
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_record_over_several_lines_is_kept_whole(end: str, read: Any, fixture_text: Any) -> None:
    header, first, *_ = fixture_text("adyen.csv").splitlines()
    folded = first.replace("ORDER-1", f'"ORDER{end}1"')
    outcome = read(end.join((header, "", folded, first, "")).encode())
    two = outcome.rows["settlement_lines"]
    assert [(row.line_no, row.record) for row in two] == [(3, folded), (5, first)]
    assert next(csv.reader(io.StringIO(two[0].record, newline="")))[3] == f"ORDER{end}1"


@pytest.mark.parametrize("name", [*BANK_FILES, "braintree.json", "mollie.json"])
def test_other_formats_keep_json_and_have_no_header(name: str, read: Any, fixture_bytes: Any) -> None:
    outcome = read(fixture_bytes(name))
    rows = [row for table, rows in outcome.rows.items() if table != "bank_statements" for row in rows]
    assert rows
    assert all(isinstance(json.loads(row.record), dict) for row in rows)
    assert outcome.reading.record_header is None
