"""Makes the sandbox and plays its days, one transaction a day; a day that died is played again to the same result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection

from tieout.sandbox import book, traffic, treasury
from tieout.sandbox.bank import Bank
from tieout.sandbox.days import BUSINESS_DAYS, FIRST_DAY, LAST_DAY, ONE_DAY, at, starts_at
from tieout.sandbox.events import Events
from tieout.sandbox.formats import ecb
from tieout.sandbox.landing_place import LandingPlace
from tieout.sandbox.ledger import DDL, Ledger
from tieout.sandbox.market import BANK_ACCOUNTS, CONTRACTS, MERCHANTS
from tieout.sandbox.processors import Processors, file_name
from tieout.sandbox.spool import Spool
from tieout.sandbox.state import WorldState, load, new_world
from tieout.sandbox.trouble_plan import MISSING_RATES_ON, SILENT_ACCOUNT, SILENT_FROM
from tieout.sandbox.truth import Truth

SMALLEST_WORLD = 40


class SandboxError(RuntimeError):
    """The sandbox cannot be made or played on; the message has the remedy."""


@dataclass(frozen=True, slots=True)
class DayReport:
    """What :func:`advance` played: the calendar days, the rows it inserted by table, the files it dropped."""

    business_date: date
    days: tuple[date, ...]
    rows: dict[str, int]
    files: tuple[Path, ...]


@contextmanager
def _connected(dsn: str) -> Iterator[Connection]:
    connection = psycopg2.connect(dsn)
    try:
        yield connection
    finally:
        connection.close()


def create(source_dsn: str, landing: Path, state: Path, payments_per_day: int = 2000, seed: int = 1) -> None:
    """Make the payment system's tables and what is fixed in them, before the first day. Again: changes nothing.

    :param source_dsn: an empty database for the payment system.
    :param landing: folder the outside world drops its files into; one folder an origin is made.
    :param state: the sandbox keeps its own files in ``state/sandbox``.
    :param payments_per_day: size of the world, at least 40.
    :raises SandboxError: the database holds another world, or the size is too small for the planted trouble.
    """
    if payments_per_day < SMALLEST_WORLD:
        raise SandboxError(f"{payments_per_day} payments a day are too few: at least {SMALLEST_WORLD} are needed")
    LandingPlace(landing)
    with _connected(source_dsn) as connection:
        with connection, connection.cursor() as cursor:
            cursor.execute("select to_regclass('simulation.world') is not null")
            row = cursor.fetchone()
            if not (row and row[0]):
                cursor.execute(DDL.read_text())
                cursor.execute("insert into simulation.world values (true, %s, %s)", (seed, payments_per_day))
                _insert_fixed(connection)
            cursor.execute(
                "select seed, payments_per_day, (select count(*) from simulation.days) from simulation.world"
            )
            known = cursor.fetchone()
        if known is None or known[:2] != (seed, payments_per_day):
            raise SandboxError(f"the database holds another world ({known}): use a new database, or the same numbers")
    path = _state_file(state)
    if path.exists():
        return
    if known[2]:
        raise SandboxError(
            f"the database holds {known[2]} played days but {path} is missing: start over with an empty database"
        )
    world = new_world(seed, payments_per_day)
    spool = Spool(path.parent, {}, path.name)
    Truth(spool).start()
    spool.flush()
    world.sizes = spool.sizes
    world.save(path)


def advance(source_dsn: str, landing: Path, state: Path, business_date: date) -> DayReport:
    """Play every calendar day after the last one played, up to and including ``business_date``.

    Ledger rows and changes, files in ``landing/<origin>/``, and truth rows come of it. A played day is a no-op.

    :raises SandboxError: the sandbox was not created, or the date lies outside its days.
    """
    if not FIRST_DAY <= business_date <= LAST_DAY:
        raise SandboxError(f"the sandbox's days are {FIRST_DAY} to {LAST_DAY}: {business_date} is none of them")
    path = _state_file(state)
    if not path.exists():
        raise SandboxError(f"{path} is missing: create the sandbox first")
    world = load(path)
    day = date.fromisoformat(world.played) + ONE_DAY if world.played else FIRST_DAY
    days: list[date] = []
    rows: dict[str, int] = {}
    files: list[Path] = []
    with _connected(source_dsn) as connection:
        while day <= business_date:
            ledger, landed = _play_day(connection, day, world, path, landing)
            days.append(day)
            files += landed
            for table, count in ledger.inserted.items():
                rows[table] = rows.get(table, 0) + count
            day += ONE_DAY
    return DayReport(business_date, tuple(days), rows, tuple(files))


def truth_files(state: Path) -> tuple[Path, Path]:
    """Where the truth about items and about files is (columns: ``truth.COLUMNS`` and ``truth.FILE_COLUMNS``)."""
    return state / "sandbox" / "truth.csv", state / "sandbox" / "files.csv"


def _state_file(state: Path) -> Path:
    return state / "sandbox" / "world.json"


def _play_day(
    connection: Connection, day: date, world: WorldState, path: Path, landing: Path
) -> tuple[Ledger, list[Path]]:
    with connection, connection.cursor() as cursor:
        cursor.execute("select seed, payments_per_day from simulation.world")
        if cursor.fetchone() != (world.seed, world.payments_per_day):
            raise SandboxError(f"{path} and the database are from different worlds: start over with an empty database")
        cursor.execute("insert into simulation.days values (%s) on conflict do nothing", (day,))
        # A day the database has already was interrupted after its commit: only its files and state are made again.
        ledger = Ledger(connection if cursor.rowcount else None)
        spool = Spool(path.parent, world.sizes, path.name)
        place = LandingPlace(landing)
        truth = Truth(spool)
        bank = Bank(world, place)
        processors = Processors(world, spool, truth, bank, place)
        events = Events(day, world, ledger, processors, truth, spool)
        traffic.play(events, world.payments_per_day)
        treasury.play(events, bank)
        for payout in processors.close_day(day):
            treasury.expect_settlement(events, payout.bank_day, payout.currency, payout.net_minor, payout.reference)
        bank.close_day(day)
        book.close_day(day, world, truth)
        _publish_rates(day, place, truth)
        if day >= SILENT_FROM and day in BUSINESS_DAYS:
            truth.file("MISSING_OVERDUE", file_name(*SILENT_ACCOUNT, day), day, "absent", "the account fell silent")
        ledger.finish()
    world.played = day.isoformat()
    spool.flush()
    world.sizes = spool.sizes
    world.save(path)
    spool.sweep()
    return ledger, place.delivered


def _publish_rates(day: date, place: LandingPlace, truth: Truth) -> None:
    text = ecb.render(day)
    if text is None:
        return
    if day == MISSING_RATES_ON:
        truth.file("MISSING_RATE", ecb.file_name(day), day, "absent", "rates of the day before are the last known")
    else:
        place.deliver_text("ecb", ecb.file_name(day), text)


def _insert_fixed(connection: Connection) -> None:
    """Merchants, contracts and opening balances; loaded at the first instant of the first day."""
    ledger = Ledger(connection)
    since: datetime = at(date(2026, 9, 1), 9)
    loaded = starts_at(FIRST_DAY)
    for merchant in MERCHANTS:
        ledger.insert(
            "merchants", merchant.merchant_id, merchant.name, merchant.country, merchant.model,
            merchant.settlement_currency, merchant.platform_fee_bps, since, loaded,
        )  # fmt: skip
    for number, contract in enumerate(CONTRACTS, 1):
        bps = f"{contract.tenth_bps // 10}.{contract.tenth_bps % 10}"
        pricing = "interchange_plus_plus" if contract.passes_through else "blended"
        ledger.insert(
            "fee_schedules", f"fee_{number:03d}", contract.processor, contract.method_type, contract.network,
            contract.market, "processing", "capture", "settlement", pricing, "line_amount", contract.tier_from_minor,
            "item", bps, contract.fixed_minor, contract.minimum_minor, None, contract.currency, date(2026, 1, 1), None,
            loaded,
        )  # fmt: skip
    for currency, account in BANK_ACCOUNTS.items():
        # The bank's first statement opens with the same balance on the same day: both agree at once.
        ledger.insert(
            "ledger_entries", f"led_opening_{currency}", account.number, account.opening_minor, currency,
            "opening_balance", currency, loaded,
        )  # fmt: skip
    ledger.finish()
