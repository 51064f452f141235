"""Rows on their way to COPY: spelled exactly, and never a run that waits for a COPY that is no more."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.batches import PARALLEL_FROM_ROWS, key_hash_of, raw_totals
from tieout.files.proof import Rejected, Tally, block_of
from tieout.landing.binary import BinaryRows, copy_statement
from tieout.landing.spool import CHUNK_BYTES, PIECES_WAITING, AbandonedError, CopyPipe, RefusedContent, Spools
from tieout.postgres import Cluster
from tieout.sources import Table, ensure_raw_tables, load_registry

TABLES = {table.name: table for table in load_registry().tables if table.kind == "file"}
TEXTS = st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
# Line number, source, base currency, currency, day, rate.
RATES = st.tuples(
    st.integers(-(2**31), 2**31 - 1), TEXTS, TEXTS, st.sampled_from(["EUR", "a\tb", "\\N", "\n"]),
    st.dates(), st.decimals(allow_nan=False, allow_infinity=False, places=6),
)  # fmt: skip
LINE = (
    1, "adyen", "Shop", "Settled", "7", "psp", None, None, 100, "EUR", 5, None, 3, 92, "EUR", None, None,
    datetime(2026, 10, 27, tzinfo=UTC), datetime(2026, 10, 27, tzinfo=UTC), "a,b", 1, "0" * 32,
)  # fmt: skip
RATE = (1, "ecb", "EUR", "JPY", date(2026, 10, 27), Decimal("180.25"))


def sent(blocks: list[list[tuple[Any, ...]]], table: str = "fx_rates") -> tuple[list[dict[str, bytes | None]], Spools]:
    """What COPY is given for these rows: each value's bytes by its column."""
    pieces: list[bytes] = []

    def copy(source: Any) -> None:
        while piece := source.read(CHUNK_BYTES):
            pieces.append(piece)

    with ExitStack() as stack:
        spools = Spools(Path("unused"), TABLES, stack, None, lambda _: CopyPipe(copy, (7, 8)))
        for block in blocks:
            spools.add(table, block_of(table, block))
        spools.finish()
    return taken_apart(b"".join(pieces), BinaryRows(TABLES[table]).names), spools


def taken_apart(data: bytes, names: tuple[str, ...]) -> list[dict[str, bytes | None]]:
    """The rows of a binary COPY as its documentation lays them out."""
    assert data.startswith(b"PGCOPY\n\xff\r\n\0" + bytes(8))
    at, rows = 19, []
    while (count := struct.unpack_from(">h", data, at)[0]) != -1:
        assert count == len(names)
        at += 2
        row: dict[str, bytes | None] = {}
        for name in names:
            (size,) = struct.unpack_from(">i", data, at)
            at += 4
            row[name] = None if size == -1 else data[at : at + size]
            at += max(size, 0)
        rows.append(row)
    assert at + 2 == len(data)
    return rows


def text_of(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


@given(st.lists(st.lists(RATES, min_size=1, max_size=5), min_size=1, max_size=3))
def test_every_value_arrives_as_it_was(blocks: list[list[tuple[Any, ...]]]) -> None:
    rows = [row for block in blocks for row in block]
    fields, spools = sent(blocks)
    assert [{name: value for name, value in row.items() if name != "rate"} for row in fields] == [
        {
            "batch_id": struct.pack(">q", 7), "file_id": struct.pack(">q", 8), "line_no": struct.pack(">i", line),
            "rate_date": struct.pack(">i", (day - date(2000, 1, 1)).days), "rate_source": text_of(source),
            "base_currency": text_of(base), "currency": text_of(currency),
        }
        for line, source, base, currency, day, _ in rows
    ]  # fmt: skip
    assert spools.row_counts == {"fx_rates": len(rows)}
    keys = [[part for part in (row[1], row[3], row[4]) if part is not None] for row in rows]
    assert spools.key_hashes == {"fx_rates": sum(map(key_hash_of, keys))}


NUMBERS = [
    "0", "0.00", "-0.0", "1", "10", "-1", "9999", "10000", "10000.0000", "0.5", "-0.00012", "0.0001000", "123456.789",
    "1e5", "1e-7", "120000000000", "-99999999999999999999.99999", "0.00000000000000000001", "1" + "0" * 60,
    "0." + "3" * 60,
]  # fmt: skip


def test_the_server_stores_what_it_would_have_read_from_text(cluster: Cluster, database: Callable[..., str]) -> None:
    """Byte for byte: a decimal's digits are packed here, so they are held against what the server packs itself."""
    rows = [
        (at, "ecb", "EUR", "JPY", date(1, 1, 1) + timedelta(at * 90_000), Decimal(text))
        for at, text in enumerate(NUMBERS)
    ]
    moments = [datetime(1970, 1, 1, tzinfo=UTC), datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)]
    lines = [
        (*LINE[:11], *fees, *LINE[13:15], rate, None, moment, datetime(9999, 12, 31, tzinfo=UTC), "x", number, "0" * 32)
        for moment in moments for rate in (None, Decimal("0.85"))
        for number, *fees in ((1, 2, None), (None, None, 2**62))
    ]  # fmt: skip
    statements = [
        (1, "NL1", "EUR", None, number, day, minor, date(2026, 1, 1), minor, "k")
        for number in (None, 2**62) for day in (None, date(2026, 1, 1)) for minor in (None, -(2**63))
    ]  # fmt: skip
    with cluster.connect(database("rows")) as connection, connection.cursor() as cursor:
        cursor.execute("create schema raw")
        ensure_raw_tables(connection, load_registry())

        def pipe(table: Table) -> CopyPipe:
            statement = copy_statement(table).as_string(cursor)
            return CopyPipe(lambda source: cursor.copy_expert(statement, source), (7, 8))

        for name, given in (("fx_rates", rows), ("settlement_lines", lines), ("bank_statements", statements)):
            with ExitStack() as stack:
                spools = Spools(Path("unused"), TABLES, stack, None, pipe)
                spools.add(name, block_of(name, given))
                spools.finish()
            names = ", ".join(TABLES[name].column_names)
            cursor.execute(f"create temp table expected (like raw.{name} including defaults)")
            marks = ", ".join(["%s"] * (len(given[0]) + 2))
            for row in given:
                values = [f"{value:f}" if isinstance(value, Decimal) else value for value in row]
                cursor.execute(f"insert into expected (batch_id, {names}) values ({marks})", (7, 8, *values))
            # A row's bytes, which are also those of values that compare as equal and are not the same.
            bytes_of = f"select {', '.join(f'{one}::text, pg_column_size({one})' for one in names.split(', '))} from "
            cursor.execute(f"{bytes_of} raw.{name} order by ctid")
            found = cursor.fetchall()
            cursor.execute(f"{bytes_of} expected order by ctid")
            assert found == cursor.fetchall()
            cursor.execute("drop table expected")
        # A large batch is weighed by several processes: to the same totals, and nothing of it stays.
        alone, together = (raw_totals(cursor, TABLES["fx_rates"], 7, rows) for rows in (1, PARALLEL_FROM_ROWS))
        assert alone == together
        assert alone.row_count == len(NUMBERS)
        cursor.execute("select name from pg_settings where name like '%parallel%' and setting <> reset_val")
        assert cursor.fetchall() == []


@pytest.mark.parametrize("line", [2**31, -(2**31) - 1])
def test_a_number_beyond_its_column_is_refused(line: int) -> None:
    with pytest.raises(RefusedContent, match="does not fit its column: line_no: a number is out of range for type int"):
        sent([[RATE], [RATE, (line, *RATE[1:])]])


def test_rows_that_wait_keep_what_they_are(tmp_path: Path) -> None:
    """The second table's rows wait for their batch in a file."""
    with ExitStack() as stack:
        spools = Spools(tmp_path, TABLES, stack, None, idle)
        spools.add("settlement_lines", block_of("settlement_lines", [LINE]))
        for block in ([RATE], [(2, None, *RATE[2:]), RATE]):
            spools.add("fx_rates", block_of("fx_rates", block))
        spools.finish()
        assert [table.name for table in spools.waiting()] == ["fx_rates"]
        waiting = spools.stream("fx_rates", (7, 8))
        data = b"".join(iter(waiting.read, b""))
    assert taken_apart(data, BinaryRows(TABLES["fx_rates"]).names) == sent([[RATE], [(2, None, *RATE[2:]), RATE]])[0]


def test_a_column_of_another_type_is_named() -> None:
    rates = TABLES["fx_rates"]
    odd = replace(rates, columns=(*rates.columns[:-1], replace(rates.columns[-1], data_type="point")))
    with pytest.raises(ValueError, match=r"files\.fx_rates declares rate as point.*: declare it as one of smallint"):
        BinaryRows(odd)


@pytest.mark.parametrize("times", [1, 3])
def test_moments_keep_their_offset_and_need_one(times: int) -> None:
    moment = datetime(2026, 10, 27, 14, tzinfo=timezone(timedelta(hours=2)))
    rows = [(*LINE[:17], moment.replace(minute=minute), moment, *LINE[19:]) for minute in range(times)]
    fields, _ = sent([rows], "settlement_lines")
    since = datetime(2000, 1, 1, tzinfo=UTC)
    expected = [datetime(2026, 10, 27, 12, minute, tzinfo=UTC) for minute in range(times)]
    assert [row["occurred_at"] for row in fields] == [
        struct.pack(">q", (moment - since) // timedelta(microseconds=1)) for moment in expected
    ]
    with pytest.raises(ValueError, match="no time zone"):
        sent([[*rows, (*LINE[:17], datetime(2026, 10, 27), *LINE[18:])]], "settlement_lines")


@pytest.mark.parametrize("wrong", [1.5, object(), b"bytes"])
def test_no_value_without_exact_text(wrong: object) -> None:
    with pytest.raises(TypeError, match="has no exact place in a column of Decimal"):
        sent([[RATE, (*RATE[:5], wrong)]])


def test_a_nul_is_refused_with_its_row() -> None:
    with pytest.raises(RefusedContent, match="fx_rates, row 3: text holds a NUL"):
        sent([[RATE], [RATE, (1, "a\0b", *RATE[2:])]])


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [("\udc80", 1, "fx_rates, row 3: text is no valid Unicode"), ("ecb", 2**63, "a number of fx_rates is beyond")],
)
def test_what_no_database_takes_is_refused_before_it_is_sent(text: str, line: int, said: str) -> None:
    given: list[str] = []
    tally = Tally("fake", "fake", lambda table, rows: given.append(table))
    tally.emit_all("fx_rates", [RATE], [None])
    tally.emit("fx_rates", RATE)
    tally.emit("fx_rates", (line, text, *RATE[2:]))
    with pytest.raises(Rejected, match=said):
        tally.reading()
    assert given == ["fx_rates"]


def test_a_row_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="has 5 values, 6 columns"):
        sent([[RATE, RATE[:5]]])
    with pytest.raises(ValueError, match="rows of bank_entries have"), ExitStack() as stack:
        Spools(Path("unused"), TABLES, stack, None, idle).add("bank_entries", block_of("fx_rates", [RATE]))


def idle(_: Any) -> CopyPipe:
    return CopyPipe(lambda source: source.read(), (1, 2))


PIECE = b"x" * CHUNK_BYTES + b"\n"


def pipe_into(copy: Callable[[Any], None]) -> CopyPipe:
    return CopyPipe(copy, (1, 2))


def test_a_copy_that_fails_keeps_nobody_waiting_and_is_told_at_the_end() -> None:
    def copy(source: Any) -> None:
        source.read()
        raise OSError("no space left")

    pipe = pipe_into(copy)
    for _ in range(PIECES_WAITING * 3):
        pipe.write(PIECE)
    with pytest.raises(OSError, match="no space left"):
        pipe.finish()
    pipe.abandon()


def test_a_copy_that_is_abandoned_ends_with_an_error_whatever_waits() -> None:
    ended: list[str] = []

    def copy(source: Any) -> None:
        try:
            while source.read():
                pass
        except AbandonedError:
            ended.append("abandoned")
            raise
        ended.append("stored")

    for pieces in range(PIECES_WAITING + 2):
        pipe = pipe_into(copy)
        for _ in range(pieces):
            pipe.write(PIECE)
        pipe.abandon()
    assert ended == ["abandoned"] * (PIECES_WAITING + 2)


def test_a_copy_that_was_finished_cannot_be_abandoned() -> None:
    pieces: list[bytes] = []
    pipe = pipe_into(lambda source: pieces.extend(iter(source.read, b"")))
    pipe.write(PIECE)
    pipe.finish()
    pipe.abandon()
    assert b"".join(pieces) == PIECE
