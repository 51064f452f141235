"""Whatever the bytes: a file is read whole or refused, and nothing else ever happens."""

from __future__ import annotations

import csv
import io
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tieout import files
from tieout.files.lines import LINE_LIMIT, WHOLE_FILE_LIMIT

FIXTURES = Path(__file__).parent / "fixtures"
PLAIN_LISTS = ["adyen.csv", "stripe.csv", "stripe_activity.csv", "stripe_payouts.csv"]
CSV_FILES = [*PLAIN_LISTS, "paypal.csv", "paypal_details.csv", "ecb.csv"]
DECLARED_LISTS = ["checkout_breakdown.csv", "checkout_payouts.csv", "adyen_accounting.csv"]
DECLARED_BILLS = ["wechatpay_trade.csv", "wechatpay_fund.csv", "alipay_trade.csv", "alipay_account.csv", "trustly.csv"]
JSON_REPORTS = ["braintree.json", "mollie.json"]
BANK_FILES = ["camt053.xml", "mt940.sta", "mt942.sta", "bai2.bai"]


def said(row: Any) -> dict[str, Any]:
    """A row without the record: of a last cell that nobody reads, a piece may be missing there."""
    return {column: value for column, value in row._asdict().items() if column != "record"}


@pytest.mark.parametrize("name", [*BANK_FILES, "paypal.csv", "paypal_details.csv", *DECLARED_BILLS, *JSON_REPORTS])
def test_cut_at_every_byte_a_file_with_an_end_is_never_loaded_in_part(name: str, read: Any, fixture_bytes: Any) -> None:
    whole = fixture_bytes(name)
    complete = read(whole)
    complete_counts = (complete.reading.entries, complete.reading.signed_sum)
    accepted = []
    for length in range(len(whole)):
        outcome = read(whole[:length])
        if outcome.rejected is None:
            accepted.append(length)
            assert (outcome.reading.entries, outcome.reading.signed_sum) == complete_counts
            for table, rows in complete.rows.items():
                assert list(map(said, outcome.rows[table])) == list(map(said, rows))
    # Only what carries no money may be missing: the end of the last line, or what follows the proof.
    assert len(accepted) < len(whole) / 10


@pytest.mark.parametrize("name", [*PLAIN_LISTS, "ecb.csv", *DECLARED_LISTS])
def test_cut_at_every_byte_a_list_without_an_end_keeps_whole_lines_and_claims_no_proof(
    name: str, read: Any, fixture_bytes: Any
) -> None:
    whole = fixture_bytes(name)
    (table, rows), *_ = read(whole).rows.items()
    refused = 0
    for length in range(len(whole)):
        outcome = read(whole[:length])
        if outcome.rejected is not None:
            refused += 1
            continue
        kept = outcome.rows.get(table, [])
        assert list(map(said, kept)) == list(map(said, rows[: len(kept)]))
        if len(kept) < len(rows):
            assert outcome.reading.balance == "-"
    assert refused > len(whole) * 0.9


@pytest.mark.parametrize("name", [*CSV_FILES, *DECLARED_LISTS, *DECLARED_BILLS, *JSON_REPORTS, *BANK_FILES])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_are_read_or_refused(name: str, tmp_path: Path, data: st.DataObject) -> None:
    damaged = bytearray((FIXTURES / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        length = data.draw(st.integers(0, 12))
        damaged[at : at + length] = data.draw(st.binary(max_size=12))
    path = tmp_path / "damaged"
    path.write_bytes(bytes(damaged))
    rejected = None
    try:
        files.read(path, lambda table, row: None)
    except files.Rejected as refusal:
        rejected = refusal
    if rejected is not None:
        assert rejected.reading is not None
        assert "Remedy:" in str(rejected)
        assert "\n" not in str(rejected)


AMOUNT_CELLS = [
    ("adyen.csv", "98.20"), ("stripe.csv", "25.500"), ("paypal.csv", "5000,\"EUR\",\"DR\""), ("ecb.csv", "1.0921"),
    ("camt053.xml", "300.00000"), ("mt940.sta", "250,250"), ("bai2.bai", "12500,V"),
    ("checkout_breakdown.csv", "98.2"), ("wechatpay_trade.csv", "0.60000"), ("wechatpay_fund.csv", "1000.00"),
    ("trustly.csv", "858.37"), ("adyen_accounting.csv", "-100.00"), ("stripe_activity.csv", "98.20"),
    ("stripe_payouts.csv", "-50.50"), ("paypal_details.csv", "5000,\"EUR\",\"DR\""), ("mt942.sta", "30,01"),
    ("checkout_payouts.csv", "-1.5"),
]  # fmt: skip
POISON = ["NaN", "Infinity", "1_000", "١٢", "1 000", "1e3", "0x1F", "9" * 50, "--1", "1.2.3"]


@pytest.mark.parametrize("poison", POISON)
@pytest.mark.parametrize(("name", "cell"), AMOUNT_CELLS)
def test_no_poisoned_amount_gets_in(name: str, cell: str, poison: str, read: Any, fixture_text: Any) -> None:
    text = fixture_text(name)
    assert cell in text
    amount = cell.partition(",")[0] if name in ("paypal.csv", "bai2.bai") else cell
    outcome = read(text.replace(cell, cell.replace(amount, poison, 1), 1))
    assert outcome.rejected is not None
    assert outcome.rejected.line is not None


@pytest.mark.parametrize("name", [*CSV_FILES, *DECLARED_LISTS, *DECLARED_BILLS, *JSON_REPORTS, *BANK_FILES])
def test_a_nul_is_refused(name: str, read: Any, fixture_bytes: Any) -> None:
    whole = fixture_bytes(name)
    middle = len(whole) * 2 // 3
    assert read(whole[:middle] + b"\0" + whole[middle:]).rejected is not None


@pytest.mark.parametrize("name", [*CSV_FILES, "checkout_breakdown.csv", "wechatpay_trade.csv", "trustly.csv"])
def test_reports_are_utf_8(name: str, read: Any, fixture_bytes: Any) -> None:
    whole = fixture_bytes(name)
    middle = len(whole) * 2 // 3
    assert "not UTF-8" in str(read(whole[:middle] + b"\xff\xfe" + whole[middle:]).rejected)


def test_an_unterminated_quote_does_not_swallow_the_file(read: Any, fixture_text: Any) -> None:
    assert "broken CSV" in str(read(fixture_text("adyen.csv").replace("ORDER-2", '"ORDER-2', 1)).rejected)


def test_an_endless_line_is_refused_early(read: Any, fixture_text: Any) -> None:
    assert "endless line" in str(read(fixture_text("stripe.csv") + "x" * (LINE_LIMIT * 3)).rejected)


def test_a_huge_bank_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as stream:
        stream.write(b":20:X\n")
        stream.truncate(WHOLE_FILE_LIMIT + 1)
    with pytest.raises(files.Rejected, match="file too large"):
        files.read(path, lambda table, row: None)


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">]>'
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_is_refused_at_once(encoding: str, read: Any, fixture_text: Any) -> None:
    body = fixture_text("camt053.xml").partition("?>")[2].replace("Acme", "&d;")
    started = time.monotonic()
    outcome = read((BOMB + body).encode(encoding))
    assert time.monotonic() - started < 1
    assert outcome.rejected is not None
    assert not outcome.rows


def test_an_external_entity_never_becomes_an_empty_value(read: Any, fixture_text: Any) -> None:
    body = fixture_text("camt053.xml").partition("?>")[2].replace("300.00000", "&x;")
    outcome = read('<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/hostname">]>' + body)
    assert "document type declaration" in str(outcome.rejected)


def test_deep_nesting_is_refused(read: Any) -> None:
    deep = '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08">' + "<a>" * 200
    assert "nested too deep" in str(read(deep + "</a>" * 200 + "</Document>").rejected)


@pytest.mark.parametrize("name", [*PLAIN_LISTS, *DECLARED_LISTS])
def test_columns_may_come_in_any_order_but_not_twice(name: str, read: Any, fixture_text: Any) -> None:
    records = list(csv.reader(io.StringIO(fixture_text(name))))

    def written(rows: list[list[str]]) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue()

    original = read(fixture_text(name))
    reordered = read(written([[*row[::-1], "extra"] for row in records]))
    assert list(map(said, reordered.rows["settlement_lines"])) == list(map(said, original.rows["settlement_lines"]))
    twice = read(written([[*row, row[1]] for row in records]))
    assert "column twice in the header" in str(twice.rejected)


@pytest.mark.parametrize("name", [*PLAIN_LISTS, "ecb.csv", *DECLARED_LISTS])
def test_a_header_alone_is_read_and_holds_nothing(name: str, read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text(name).partition("\n")[0] + "\n")
    assert outcome.rejected is None
    assert outcome.reading.entries == 0
    assert outcome.reading.documents == ()


def test_a_long_report_streams_in_flat_memory(tmp_path: Path, fixture_text: Any) -> None:
    header, line, *_ = fixture_text("adyen.csv").splitlines(keepends=True)
    path = tmp_path / "long"
    peaks = []
    for count in (10_000, 40_000):
        with path.open("w") as stream:
            stream.write(header)
            for number in range(count):
                stream.write(line.replace("MOD0001", f"MOD{number:07}"))
        tracemalloc.start()
        try:
            reading = files.read(path, lambda table, rows: None)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert reading.entries == count
        assert reading.signed_sum == {"EUR": count * 9820}
    assert peaks[1] < peaks[0] * 1.1
