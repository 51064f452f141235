"""Reports are worked on by the block: the result is that of working on one record after another."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.plugins.rows import rows_of
from tieout import files
from tieout.files import adyen, lines
from tieout.files.columns import sums_by
from tieout.files.lines import Block, CsvFile
from tieout.files.plain import Columns, columns_of
from tieout.money import AmountError, to_minor, to_minor_all

FIXTURES = Path(__file__).parent / "fixtures"
PIECES = st.sampled_from(["a", "é", "", '"x,y"', '"l\nm"', '"l\r\nm"', '"q""q"', " ", "1.50"])
ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\r\n\r\n"])
RECORDS = st.lists(st.tuples(st.lists(PIECES, min_size=1, max_size=3), ENDS), min_size=1, max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(records=RECORDS, chunk=st.integers(1, 40), block=st.integers(1, 5), ended=st.booleans())
def test_records_and_their_texts_are_those_of_the_whole_text(
    records: list[tuple[list[str], str]], chunk: int, block: int, ended: bool, tmp_path: Path
) -> None:
    text = "".join(",".join(cells) + end for cells, end in records)
    text = text if ended else text.rstrip("\r\n")
    path = tmp_path / "some.csv"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "CHUNK_BYTES", chunk)
        patch.setattr(lines, "BLOCK_RECORDS", block)
        source = CsvFile(path)
        found = [(line, cells, source.text, source.cut) for line, cells in iter(source)]
        blocks = list(CsvFile(path).blocks(block))
    whole = csv.reader(io.StringIO(text, newline=""), strict=True)
    expected, begins = [], 1
    for cells in whole:
        if cells:
            expected.append((begins, cells))
        begins = whole.line_num + 1
    assert [each[:2] for each in found] == expected
    for _, cells, kept, _ in found:
        assert next(csv.reader(io.StringIO(kept, newline=""))) == cells
    assert "".join(kept for _, _, kept, _ in found).replace("\r", "").replace("\n", "") == (
        text.replace("\r", "").replace("\n", "")
    )
    assert [cut for *_, cut in found] == [False] * (len(found) - 1) + [not text.endswith(("\n", "\r"))] * bool(found)
    assert [record for each in blocks for record in each.records] == [cells for _, cells in expected]


@pytest.mark.parametrize(
    ("data", "line", "reason"),
    [
        (b"a,b\nc,d\n" * 50 + b"e,\xff\n", 101, "not UTF-8"),
        (b"a,b\r\nc,d\r\n" * 50 + b"e,\0\n", 101, "NUL in text"),
        (b"a,b\n" * 7 + b'e,"open\n' + b"a,b\n" * 3, 8, "broken CSV"),
        (b"a,b\n" * 7 + b"e,\xc3", 8, "not UTF-8"),
    ],
)
@pytest.mark.parametrize("chunk", [3, 50, 1 << 16])
def test_what_breaks_is_named_by_its_line_after_the_records_before(
    data: bytes, line: int, reason: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "CHUNK_BYTES", chunk)
    path = tmp_path / "some.csv"
    path.write_bytes(data)
    found = []
    with pytest.raises(files.Rejected, match=reason) as refused:
        found.extend(iter(CsvFile(path)))
    assert (refused.value.line, len(found)) == (line, line - 1)


def outcome(path: Path) -> tuple[list[Any], Any, Any]:
    rows: list[Any] = []
    try:
        reading = files.read(path, lambda table, some: rows.extend((table, *row) for row in rows_of(table, some)))
    except files.Rejected as rejected:
        return rows, rejected.reading, (rejected.reason, rejected.line, rejected.column, rejected.found)
    return rows, reading, None


@pytest.mark.parametrize(
    "name", ["adyen.csv", "stripe.csv", "paypal.csv", "checkout_breakdown.csv", "adyen_accounting.csv", "trustly.csv"]
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_a_report_comes_to_the_same_whatever_the_block(name: str, tmp_path: Path, data: st.DataObject) -> None:
    header, *rest = (FIXTURES / name).read_text(encoding="utf-8").splitlines(keepends=True)
    text = header + "".join(data.draw(st.lists(st.sampled_from(rest), min_size=1, max_size=9)))
    if data.draw(st.booleans()):
        cells = text.split(",")
        cells[data.draw(st.integers(0, len(cells) - 1))] = data.draw(
            st.sampled_from(["", "-1.00", "1.000", "1,00", "1.005", "7", "x", "JPY", "2026-02-30 00:00:00", "9" * 25])
        )
        text = ",".join(cells)
    path = tmp_path / "some.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        found = [outcome(path)]
        for block in (1, 2, 3):
            patch.setattr(lines.CsvFile.blocks, "__defaults__", (block,))
            # Columns are read by the chunk, of a line or a few.
            patch.setattr(lines, "CHUNK_BYTES", 150 * block)
            found.append(outcome(path))
        patch.setattr(lines, "columns_of", lambda *_: None)
        found.append(outcome(path))
    assert found[1:] == found[:1] * 4


CELLS = st.sampled_from(["a", "é", "", " ", "1.50", '"x,y"', '""', "a b", "\ufeff", "x" * 30])
ODD = st.sampled_from(['"q""q"', 'a"b', '"l\nm"', "\r", "\v", "\x85", "\u2028", ",", "\n", "\\", '"', '"a"b'])


def by_csv(source: CsvFile, width: int, wanted: list[int]) -> list[tuple[int, tuple[str, ...], str]]:
    """The records that were left to Python's csv module and those that were not, alike."""
    found: list[tuple[int, tuple[str, ...], str]] = []
    for block in source.columns(width, wanted):
        if isinstance(block, Block):
            records = [tuple([*cells, *[""] * width][at] for at in wanted) for cells in block.records]
            found.extend(zip(block.lines, records, block.texts, strict=True))
        else:
            cells = zip(*(column.to_pylist() for column in block.cells), strict=True)
            found.extend(zip(block.lines.to_pylist(), cells, block.texts.to_pylist(), strict=True))
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(data=st.data(), chunk=st.sampled_from([7, 40, 1000]), quoted=st.booleans())
def test_columns_are_what_python_reads_record_by_record(
    data: st.DataObject, chunk: int, quoted: bool, tmp_path: Path
) -> None:
    width = data.draw(st.integers(1, 4))
    rows = data.draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=12))
    for _ in range(data.draw(st.sampled_from([0, 0, 1, 2]))):
        data.draw(st.sampled_from(rows))[data.draw(st.integers(0, width - 1))] = data.draw(ODD)
    end = data.draw(st.sampled_from(["\n", "\r\n"]))
    path = tmp_path / "some.csv"
    path.write_bytes("".join(",".join(row) + end for row in [["name"] * width, *rows]).encode())
    wanted = data.draw(st.permutations(range(width + 1)))
    outcomes = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "CHUNK_BYTES", chunk)
        for plain in (True, False):
            if not plain:
                patch.setattr(lines, "columns_of", lambda *_: None)
            source = CsvFile(path, quoted=quoted)
            try:
                source.header()
                # A blank column follows the last one, as for a report that does not have it.
                outcomes.append((by_csv(source, width, wanted), ""))
            except files.Rejected as rejected:
                outcomes.append(([], str(rejected)))
    assert outcomes[0] == outcomes[1]


def test_plain_lines_are_split_together_and_what_is_beside_them_is_not(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    text = "a,b\n" + "1,2\n" * 40 + '3,"4\n5"\n' + "6,7\n" * 40
    path.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "CHUNK_BYTES", 40)
        source = CsvFile(path)
        source.header()
        kinds = [(type(block), len(block.lines)) for block in source.columns(2, [0, 1])]
    together = sum(count for kind, count in kinds if kind is Columns)
    one_by_one = sum(count for kind, count in kinds if kind is Block)
    assert together + one_by_one == 81
    assert 0 < one_by_one <= 25


AMOUNTS = st.sampled_from(
    ["", "1.00", "12.5", "-3.25", "0", "7", "1,000", "1.00,2.00", "1.000", "1.005", "x", "9" * 20]
)
CURRENCIES = st.sampled_from(["EUR", "EUR", "EUR", "JPY", "KWD", "CLP"])


@given(st.lists(st.tuples(AMOUNTS, CURRENCIES), min_size=1, max_size=8))
def test_amounts_together_are_the_amounts_one_by_one(pairs: list[tuple[str, str]]) -> None:
    texts, currencies = map(list, zip(*pairs, strict=True))

    def one_by_one() -> list[int]:
        return [to_minor(text, currency, provider="adyen") if text else 0 for text, currency in pairs]

    try:
        expected = one_by_one()
    except AmountError:
        with pytest.raises(AmountError):
            to_minor_all(texts, currencies, provider="adyen")
    else:
        assert to_minor_all(texts, currencies, provider="adyen") == expected


@pytest.mark.parametrize(
    "text",
    [
        'a,"b"c\n', 'a,b"c"\n', '"a""b",c\n', '"a\nb",c\nd,e\n', 'a,b\n\nc,d\n', "a,b\r\nc,d\n", "a\rb,c\n", "a,b",
        "\ufeffa,b\n", "a,\0\n", "a,b,c\n", "a\n", f"a,{'b' * (csv.field_size_limit() + 1)}\n",
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_python(text: str) -> None:
    assert columns_of(text, 1, ",", True, 2, [0, 1]) is None
    assert columns_of('"a,b",c\r\nd,""\r\n', 1, ",", True, 2, [0, 1]) is not None


def test_sums_are_exact_beyond_a_bigint() -> None:
    amounts = pa.array([2**63 - 1, 2**63 - 1, None, -5], pa.int64())
    assert sums_by(pa.array(["a", "a", "a", "b"]), amounts) == [("a", 2, 2**64 - 2), ("b", 1, -5)]
    assert sums_by(pa.array(["a", "a", "a", "a"]), amounts) == [("a", 3, 2**64 - 7)]


def test_a_line_that_adds_up_by_wrapping_around_is_refused() -> None:
    one, gross, fees, net = (pa.array([value], pa.int64()) for value in (2, 2**63 - 1, -(2**63), -1))
    with pytest.raises(files.Rejected, match="the line does not add up"):
        adyen._refuse_sums(one, gross, fees, net, pa.array([True]))
