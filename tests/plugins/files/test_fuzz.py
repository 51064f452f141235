"""Every reader under damage: a file is read or refused, in bounded time and memory, and no amount changes unnoticed.

The default run is short and always the same. ``TIEOUT_FUZZ_EXAMPLES=5000`` makes it long and another one each time
(``TIEOUT_FUZZ_SEED`` repeats one; the seed is part of every test's name), and adds the samples of others, if they are
there.
"""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import time
import typing
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from types import FrameType, UnionType
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st

from tests.plugins.files import mutators
from tests.plugins.rows import rows_of
from tieout import files
from tieout.files.proof import ADDED, AMOUNTS, COLUMNS, ROW_TYPES
from tieout.money import BIGINT_MAX, BIGINT_MIN
from tieout.sandbox.formats import Entry, Line, Statement, adyen, bai2, camt053, ecb, mt940, paypal, stripe

ROOT = Path(__file__).resolve().parents[3]
FIXTURES = Path(__file__).parent / "fixtures"
SAMPLES = Path(os.environ.get("TIEOUT_SAMPLES", ROOT.parent / "shared" / "samples"))
SAMPLE_BYTES_MAX = 40_000

SHORT = 20
EXAMPLES = int(os.environ.get("TIEOUT_FUZZ_EXAMPLES", SHORT))
LONG = "TIEOUT_FUZZ_EXAMPLES" in os.environ
SEED = int(os.environ.get("TIEOUT_FUZZ_SEED", random.randrange(2**32) if LONG else 1))
# A damaged file has at most half a megabyte; the readers need milliseconds, the machine may be busy.
SECONDS_MAX = 10
MEMORY_GROWTH_MAX_KB = 300_000
# In the long run: beyond what the process has when it begins.
ADDRESS_SPACE_MORE = 2 << 30
CURRENCY = re.compile(r"[A-Z]{3}")
ROW_KEY = re.compile(r"[0-9a-f]{32}")


def by_default(examples: int) -> Callable[[Any], Any]:
    """Settings of one property: ``examples`` a file in the short run, and so much more in the long one."""
    chosen = settings(
        max_examples=max(examples * EXAMPLES // SHORT, 1),
        derandomize=not LONG,
        database=None,
        deadline=None,
        # Shrinking a file that hangs would hang as often.
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: chosen(seed(SEED)(test)) if LONG else chosen(test)


class Outcome(NamedTuple):
    """What came of reading: the rows in order with their table, and the reading or the refusal."""

    rows: list[tuple[str, tuple[Any, ...]]]
    reading: files.Reading | None
    rejected: files.Rejected | None


@contextmanager
def bounded(seconds: int) -> Iterator[None]:
    """Stop what hangs; what hangs where no signal gets through is told afterwards."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"still reading after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    started = time.monotonic()
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - started < seconds


def read(content: bytes, folder: Path) -> Outcome:
    """The outcome of reading the content, after looking at everything that must hold whatever was read."""
    path = folder / "delivered"
    path.write_bytes(content)
    rows: list[tuple[str, tuple[Any, ...]]] = []
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with bounded(SECONDS_MAX):
        try:
            reading = files.read(path, lambda table, batch: rows.extend((table, row) for row in rows_of(table, batch)))
            outcome = Outcome(rows, reading, None)
        except files.Rejected as rejected:
            outcome = Outcome(rows, None, rejected)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MEMORY_GROWTH_MAX_KB
    if outcome.rejected is not None:
        said = str(outcome.rejected)
        assert outcome.rejected.reason
        assert outcome.rejected.reading is not None
        assert said.isprintable()
        assert "Remedy:" in said
        assert len(said) < 2000
    else:
        look_at(outcome)
    return outcome


@cache
def types_of(table: str) -> tuple[tuple[type, ...], ...]:
    """The types that each column of a table may have, in order."""
    hints = typing.get_type_hints(ROW_TYPES[table])
    added = {"document_no": int | None, "row_key": str}
    wanted = [hints[name] for name in ROW_TYPES[table]._fields] + [added[name] for name in ADDED[table]]
    return tuple(typing.get_args(hint) if isinstance(hint, UnionType) else (hint,) for hint in wanted)


def look_at(outcome: Outcome) -> None:
    """What was read has the declared shape, and its totals are those of its rows."""
    reading = outcome.reading
    assert reading is not None
    totals: dict[tuple[str, str, str], list[int]] = {}
    for table, row in outcome.rows:
        columns = COLUMNS[table]
        assert len(row) == len(columns)
        for name, value, allowed in zip(columns, row, types_of(table), strict=True):
            # Exactly: a bool is an int and a datetime is a date, and neither means the same.
            assert type(value) in allowed, (table, name, value)
            if isinstance(value, int):
                assert BIGINT_MIN <= value <= BIGINT_MAX, (table, name, value)
            elif isinstance(value, str):
                assert "\0" not in value
                value.encode()  # a lone surrogate would break the load
            elif isinstance(value, datetime):
                assert value.tzinfo is not None
                value.astimezone(UTC)
            elif isinstance(value, Decimal):
                assert value.is_finite()
        cells = dict(zip(columns, row, strict=True))
        assert ROW_KEY.fullmatch(cells.get("row_key", "0" * 32))
        for amount, currency in AMOUNTS[table].items():
            assert CURRENCY.fullmatch(cells[currency]), cells[currency]
            if cells[amount] is not None:
                total = totals.setdefault((table, amount, cells[currency]), [0, 0])
                total[0] += 1
                total[1] += cells[amount]
    assert {key: tuple(total) for key, total in totals.items()} == dict(reading.totals)
    assert reading.balance in ("ok", "-")
    numbers = [row[0] for table, row in outcome.rows if table in ("settlement_lines", "bank_entries")]
    assert len(set(numbers)) == len(numbers), "a line twice"
    assert all(document.number > 0 for document in reading.documents)
    assert reading.content_date is None or type(reading.content_date) is date
    _look_at_statements(outcome)


def _look_at_statements(outcome: Outcome) -> None:
    """Opening + entries = closing, wherever a statement gives both."""
    moved: Counter[int] = Counter()
    statements = []
    for table, row in outcome.rows:
        cells = dict(zip(COLUMNS[table], row, strict=True))
        if table == "bank_entries":
            moved[cells["statement_no"]] += cells["amount_minor"]
        elif table == "bank_statements":
            statements.append(cells)
    assert moved.keys() <= {cells["statement_no"] for cells in statements}
    for cells in statements:
        if cells["opening_minor"] is not None and cells["closing_minor"] is not None:
            assert cells["opening_minor"] + moved[cells["statement_no"]] == cells["closing_minor"]


def money(outcome: Outcome) -> Counter[tuple[Any, ...]]:
    """Every amount and rate of what was read; nothing for zero, which nobody would miss."""
    assert outcome.reading is not None
    # A file of interim movements has no rows, and entries that are still pending are in none.
    found: Counter[tuple[Any, ...]] = Counter(outcome.reading.signed_sum.items())
    for table, row in outcome.rows:
        cells = dict(zip(COLUMNS[table], row, strict=True))
        for amount, currency in AMOUNTS[table].items():
            if cells[amount]:
                found[table, amount, cells[currency], cells[amount]] += 1
        if rate := cells.get("exchange_rate") or cells.get("rate"):
            found[table, rate] += 1
    return found


def all_but_gross_and_fee_across_currencies(outcome: Outcome) -> Counter[tuple[Any, ...]]:
    """The amounts of a proven file that its proof covers; nothing for zero.

    Totals and payouts are in the net's currency. A line in one currency ties its gross and fee to that; of a line that
    was converted they stand alone, and nothing in the file contradicts another number.
    """
    found: Counter[tuple[Any, ...]] = Counter()
    for table, row in outcome.rows:
        cells = dict(zip(COLUMNS[table], row, strict=True))
        converted = table == "settlement_lines" and cells["gross_currency"] != cells["net_currency"]
        for amount, currency in AMOUNTS[table].items():
            if cells[amount] and not (converted and amount in ("gross_minor", "fee_minor")):
                found[table, amount, cells[currency], cells[amount]] += 1
    return found


# What the readers are tried on.

DAY = date(2026, 10, 21)
NOON = datetime(2026, 10, 20, 10, tzinfo=UTC)


def written_by_the_sandbox() -> dict[str, bytes]:
    """Whole files as the sandbox's processors, banks and rate publisher write them."""
    written = {}
    accounts = {"EUR": "NL91ABNA0417164300", "JPY": "JP00051234567", "KWD": "KW81CBKU0000000000001234560101"}
    for currency, account in accounts.items():
        entries = (
            Entry(1_234_567, "B-1", "ADYEN N.V. TX1", counterparty="Adyen"),
            Entry(-500, "B-2", "MONTHLY CHARGE", code="charge"),
            Entry(-20_000, "B-3", "RETURNED", is_reversal=True, customer_reference="PO-7"),
        )
        closing = 1_000_000 + sum(entry.amount_minor for entry in entries)
        statement = Statement(currency, account, "Bank", "BANKNL2A", 7, DAY, 1_000_000, closing, entries)
        for writer in (camt053, mt940):
            written[f"{writer.__name__.rpartition('.')[2]} {currency}"] = writer.render(statement).encode()
        if currency == "EUR":
            written["bai2 USD"] = bai2.render(
                Statement("USD", "7700012345", "Bank", "021000021", 7, DAY, 1_000_000, closing, entries)
            ).encode()
    for writer, processor, account, currency in (
        (adyen, "adyen", "TieoutEU", "EUR"),
        (stripe, "stripe", "acct_gulf", "KWD"),
        (paypal, "paypal", "PPACCOUNT", "JPY"),
    ):  # fmt: skip
        lines = [
            Line(event, processor, account, DAY, NOON, f"PSP{number}", f"ORG{number}", f"ORDER-{number}", gross,
                 currency, fee, gross - fee, currency, "visa", "NL")
            for number, (event, gross, fee) in enumerate((("capture", 123_450, 1_500), ("refund", -20_000, 0)))
        ]  # fmt: skip
        net = sum(line.net_minor for line in lines)
        if writer is paypal:
            totals = paypal.Totals()
            for line in lines:
                totals.add(line.gross_minor, line.fee_minor)
            totals.add(-net, 0)
            text = paypal.header(account, DAY) + "".join(map(paypal.line, lines))
            text += paypal.payout(DAY, "TXN9", "BANK9", net, currency)
            text += paypal.footers({currency: totals}, len(lines) + 1)
        elif writer is adyen:
            text = adyen.header() + "".join(map(adyen.line, lines)) + adyen.payout(account, DAY, "TX9", net, currency)
        else:
            text = stripe.header() + "".join(stripe.line(line, "po_9") for line in lines)
            text += stripe.payout(account, DAY, "po_9", net, currency)
        written[f"{processor} {currency}"] = text.encode()
    rates = ecb.render(DAY)
    assert rates is not None
    written["ecb"] = rates.encode()
    return written


FILES = {path.name: path.read_bytes() for path in sorted(FIXTURES.iterdir()) if path.is_file()}
FILES |= written_by_the_sandbox()
NAMES = [pytest.param(name, id=f"{name}-seed-{SEED}") for name in FILES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module", autouse=True)
def capped() -> Iterator[None]:
    """The long run may not eat the machine: beyond the limit a reader gets a MemoryError, which is no refusal."""
    if not LONG:
        yield
        return
    print(f"\nTIEOUT_FUZZ_SEED={SEED}")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ADDRESS_SPACE_MORE, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_damaged_here_is_read_whole_before(name: str, folder: Path) -> None:
    outcome = read(FILES[name], folder)
    assert outcome.rejected is None, outcome.rejected
    assert outcome.reading is not None
    assert outcome.reading.entries or outcome.rows


@pytest.mark.parametrize("name", NAMES)
@by_default(20)
@given(data=st.data())
def test_whatever_the_damage_a_file_is_read_or_refused(name: str, folder: Path, data: st.DataObject) -> None:
    damaged, what = mutators.battered(data.draw, FILES[name])
    note(f"{what}\n{damaged[:3000]!r}")
    read(damaged, folder)


@pytest.mark.parametrize("name", NAMES)
@by_default(20)
@given(data=st.data())
def test_a_number_spelled_otherwise_is_the_same_number_or_refused(
    name: str, folder: Path, data: st.DataObject
) -> None:
    damaged, what = mutators.respelled(data.draw, FILES[name])
    note(f"{what}\n{damaged[:3000]!r}")
    outcome = read(damaged, folder)
    if outcome.reading is not None:
        assert money(outcome) == money(read(FILES[name], folder))


@pytest.mark.parametrize("name", FILES)
def test_no_decimal_comma_makes_an_amount_a_hundredfold(name: str, folder: Path) -> None:
    """Every number of the file, one after the other: a point for its comma, a comma for its point, and thousands."""
    whole, expected = FILES[name], money(read(FILES[name], folder))
    for pattern in mutators.NUMBERS:
        for match in pattern.finditer(whole):
            for kind in ("comma and point changed", "thousands by comma"):
                put = mutators.SPELLINGS[kind](match[0])
                outcome = read(whole[: match.start()] + put + whole[match.end() :], folder)
                assert outcome.reading is None or money(outcome) == expected, (match, put)


@pytest.mark.parametrize("name", NAMES)
@by_default(20)
@given(data=st.data())
def test_no_proven_amount_becomes_another_but_gross_and_fee_across_currencies(
    name: str, folder: Path, data: st.DataObject
) -> None:
    whole = read(FILES[name], folder)
    damaged, what = mutators.revalued(data.draw, FILES[name])
    note(f"{what}\n{damaged[:3000]!r}")
    outcome = read(damaged, folder)
    # Without rows nothing is loaded: damage to a flag makes interim movements of a day's bookings.
    if outcome.reading is not None and outcome.reading.balance == "ok" and outcome.rows:
        assert all_but_gross_and_fee_across_currencies(outcome) == all_but_gross_and_fee_across_currencies(whole)


@pytest.mark.parametrize("name", NAMES)
@by_default(8)
@given(data=st.data())
def test_no_line_of_a_proof_comes_twice_or_is_lost(name: str, folder: Path, data: st.DataObject) -> None:
    whole = read(FILES[name], folder)
    damaged, what = mutators.relined(data.draw, FILES[name])
    note(f"{what}\n{damaged[:3000]!r}")
    outcome = read(damaged, folder)
    # Without rows nothing is loaded: damage to a flag makes interim movements of a day's bookings.
    if outcome.reading is not None and outcome.reading.balance == "ok" and outcome.rows:
        assert all_but_gross_and_fee_across_currencies(outcome) == all_but_gross_and_fee_across_currencies(whole)


@cache
def samples() -> tuple[Path, ...]:
    """The files of others that a reader takes up, and that are small enough to be damaged often."""
    found = []
    for path in sorted(SAMPLES.rglob("*")) if SAMPLES.is_dir() else ():
        if path.is_file() and 0 < path.stat().st_size <= SAMPLE_BYTES_MAX:
            try:
                files.sniff(path)
            except files.Rejected:
                continue
            found.append(path)
    return tuple(found)


# For the long run only: a test that is always skipped tells nobody anything.
if LONG:

    @pytest.mark.parametrize("mutate", [pytest.param(each, id=f"{each.__name__}-seed-{SEED}") for each in (
        mutators.battered, mutators.respelled, mutators.revalued, mutators.relined,
    )])  # fmt: skip
    @by_default(100)
    @given(data=st.data())
    def test_samples_of_others_under_damage(mutate: mutators.Mutator, folder: Path, data: st.DataObject) -> None:
        if not samples():
            pytest.skip(f"no samples in {SAMPLES}: set TIEOUT_SAMPLES")
        path = data.draw(st.sampled_from(samples()))
        damaged, what = mutate(data.draw, path.read_bytes())
        note(f"{what}\n{damaged[:3000]!r}")
        outcome = read(damaged, folder)
        if outcome.reading is not None and mutate is mutators.respelled:
            before = read(path.read_bytes(), folder)
            assert before.rejected is not None or money(outcome) == money(before)
