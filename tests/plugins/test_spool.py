"""Rows on their way to COPY: spelled exactly, and never a run that waits for a COPY that is no more."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.batches import key_hash_of
from tieout.files.proof import Rejected, Tally, block_of
from tieout.landing.spool import CHUNK_BYTES, PIECES_WAITING, AbandonedError, CopyPipe, RefusedContent, Spools
from tieout.sources import load_registry

TABLES = {table.name: table for table in load_registry().tables if table.kind == "file"}
TEXTS = st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
# Line number, source, base currency, currency, day, rate.
RATES = st.tuples(
    st.integers(-(2**31), 2**31), TEXTS, TEXTS, st.sampled_from(["EUR", "a\tb", "\\N", "\n"]),
    st.dates(), st.decimals(allow_nan=False, allow_infinity=False, places=6),
)  # fmt: skip
LINE = (
    1, "adyen", "Shop", "Settled", "7", "psp", None, None, 100, "EUR", 5, 95, "EUR", None, None,
    datetime(2026, 10, 27, tzinfo=UTC), datetime(2026, 10, 27, tzinfo=UTC), "a,b", 1, "0" * 32,
)  # fmt: skip
RATE = (1, "ecb", "EUR", "JPY", date(2026, 10, 27), Decimal("180.25"))
ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\t": "\t", "\\r": "\r"}


def sent(blocks: list[list[tuple[Any, ...]]], table: str = "fx_rates") -> tuple[list[list[str | None]], Spools]:
    """What COPY is given for these rows, its fields unescaped as PostgreSQL does."""
    pieces: list[bytes] = []

    def copy(source: Any) -> None:
        while piece := source.read(CHUNK_BYTES):
            pieces.append(piece)

    with ExitStack() as stack:
        spools = Spools(Path("unused"), TABLES, stack, None, lambda _: CopyPipe(copy, b"7\t8"))
        for block in blocks:
            spools.add(table, block_of(table, block))
        spools.finish()
    lines = b"".join(pieces).decode().split("\n")
    assert lines.pop() == ""
    return [[unescaped(field) for field in line.split("\t")] for line in lines], spools


def unescaped(field: str) -> str | None:
    if field == "\\N":
        return None
    text, at = "", 0
    while at < len(field):
        width = 2 if field[at] == "\\" else 1
        text += ESCAPES[field[at : at + 2]] if width == 2 else field[at]
        at += width
    return text


@given(st.lists(st.lists(RATES, min_size=1, max_size=5), min_size=1, max_size=3))
def test_every_value_arrives_as_it_was(blocks: list[list[tuple[Any, ...]]]) -> None:
    rows = [row for block in blocks for row in block]
    fields, spools = sent(blocks)
    assert fields == [
        ["7", "8", str(line), source, base, currency, day.isoformat(), f"{rate:f}"]
        for line, source, base, currency, day, rate in rows
    ]
    assert spools.row_counts == {"fx_rates": len(rows)}
    keys = [[part for part in (row[1], row[3], row[4]) if part is not None] for row in rows]
    assert spools.key_hashes == {"fx_rates": sum(map(key_hash_of, keys))}


@pytest.mark.parametrize("times", [1, 3])
def test_moments_keep_their_offset_and_need_one(times: int) -> None:
    moment = datetime(2026, 10, 27, 14, tzinfo=timezone(timedelta(hours=2)))
    rows = [(*LINE[:15], moment.replace(minute=minute), moment, *LINE[17:]) for minute in range(times)]
    fields, _ = sent([rows], "settlement_lines")
    found = [datetime.fromisoformat(str(row[17])) for row in fields]
    assert found == [datetime(2026, 10, 27, 12, minute, tzinfo=UTC) for minute in range(times)]
    with pytest.raises(ValueError, match="no time zone"):
        sent([[*rows, (*LINE[:15], datetime(2026, 10, 27), *LINE[16:])]], "settlement_lines")


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
    return CopyPipe(lambda source: source.read(), b"")


PIECE = b"x" * CHUNK_BYTES + b"\n"


def pipe_into(copy: Callable[[Any], None]) -> CopyPipe:
    return CopyPipe(copy, b"1\t")


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
