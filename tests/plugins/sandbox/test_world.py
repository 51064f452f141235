"""The world as a whole: tables as declared, sizes, determinism, crashes, memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg2
import pytest
import yaml

from tieout import sandbox
from tieout.sandbox import bank, state
from tieout.sandbox.days import add_business_days, half_even, length_s

from .conftest import World

SOURCES = Path(__file__).parents[3] / "dbt_project/models/staging/payments/_payments__sources.yml"
MakeWorld = Callable[[int, int], World]


def test_tables_are_the_declared_ones(small: World) -> None:
    (source,) = yaml.safe_load(SOURCES.read_text())["sources"]
    names = {"timestamptz": "timestamp with time zone"}
    declared = {
        (table["name"], column["name"]): (
            names.get(column["data_type"], column["data_type"]),
            {"type": "not_null"} in column.get("constraints", []),
        )
        for table in source["tables"]
        for column in table["columns"]
    }
    rows = small.query(
        "select table_name, column_name, data_type, is_nullable = 'NO' from information_schema.columns"
        " where table_schema = 'payments'"
    )
    assert {(table, column): (kind, not_null) for table, column, kind, not_null in rows} == declared


def test_columns_stand_in_the_declared_order(small: World) -> None:
    (source,) = yaml.safe_load(SOURCES.read_text())["sources"]
    for table in source["tables"]:
        rows = small.query(
            "select column_name from information_schema.columns where table_schema = 'payments'"
            f" and table_name = '{table['name']}' order by ordinal_position"
        )
        assert [name for (name,) in rows] == [column["name"] for column in table["columns"]]


def test_every_calendar_day_has_its_payments(world: World) -> None:
    rows = world.query("select created_at::date, count(*) from payments.payments group by 1 order by 1")
    assert rows == [(date(2026, 10, 19) + timedelta(n), world.payments_per_day) for n in range(12)]


def test_every_table_has_rows_and_nothing_is_later_than_its_world(small: World) -> None:
    cursors = {
        "merchants": "updated_at", "payment_methods": "created_at", "payments": "updated_at",
        "payment_attempts": "attempted_at", "captures": "updated_at", "refunds": "updated_at",
        "disputes": "stage_at", "payouts": "updated_at", "fx_conversions": "updated_at",
        "ledger_entries": "booked_at", "fee_schedules": "updated_at",
    }  # fmt: skip
    for table, cursor in cursors.items():
        ((count, first, last),) = small.query(f"select count(*), min({cursor}), max({cursor}) from payments.{table}")
        assert count > 0, table
        assert first >= datetime(2026, 10, 19, tzinfo=ZoneInfo("Europe/Amsterdam")), table
        assert last < datetime(2026, 10, 31, tzinfo=ZoneInfo("Europe/Amsterdam")), table


def test_statuses_change_after_their_day(make_world: MakeWorld) -> None:
    world = make_world(60, 5)
    world.advance(date(2026, 10, 23))
    before = dict(world.query("select payment_id, status from payments.payments"))
    payouts = dict(world.query("select payout_id, status from payments.payouts"))
    world.advance(date(2026, 10, 28))
    after = dict(world.query("select payment_id, status from payments.payments"))
    changed = {(before[key], after[key]) for key in before if before[key] != after[key]}
    assert ("captured", "refunded") in changed
    assert "sent" in payouts.values()
    later = dict(world.query("select payout_id, status from payments.payouts"))
    assert {later[key] for key in payouts} == {"paid", "returned"}


def test_payments_agree_with_their_captures(world: World) -> None:
    assert not world.query(
        "select p.payment_id, p.status from payments.payments p left join payments.captures c using (payment_id)"
        " group by p.payment_id, p.status"
        " having (count(c.capture_id) > 0) <> (p.status in"
        "   ('captured', 'refunded', 'partially_refunded', 'charged_back'))"
        " or coalesce(sum(c.amount_minor), 0) > p.amount_minor"
    )
    ((in_two,),) = world.query(
        "select count(*) from (select payment_id from payments.captures group by 1 having count(*) > 1) t"
    )
    assert in_two > 0


def test_same_seed_same_world_other_seed_other_world(make_world: MakeWorld, small: World) -> None:
    again, other = make_world(60, 1), make_world(60, 3)
    # One process plays day by day, the other all at once.
    for one in (again, other):
        one.advance(sandbox.BUSINESS_DAYS[-1])
    assert again.digest() == small.digest()
    assert other.digest() != small.digest()


def test_a_played_day_is_a_no_op(make_world: MakeWorld) -> None:
    world = make_world(60, 1)
    world.advance(date(2026, 10, 21))
    digest = world.digest()
    report = world.advance(date(2026, 10, 20))
    world.create()
    assert report.days == ()
    assert report.files == ()
    assert world.digest() == digest


@pytest.mark.parametrize("place", ["before the commit", "after the commit"])
def test_a_day_that_died_is_played_again_to_the_same_result(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    whole, broken = make_world(60, 4), make_world(60, 4)
    last = date(2026, 10, 28)
    whole.advance(last)
    broken.advance(date(2026, 10, 26))

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if place == "before the commit":
            patch.setattr(bank.Bank, "close_day", dies)
        else:
            patch.setattr(state.WorldState, "save", dies)
        with pytest.raises(KeyboardInterrupt):
            broken.advance(last)
    days = broken.query("select count(*) from simulation.days")
    assert days == [(8,)] if place == "before the commit" else [(9,)]
    broken.advance(last)
    assert broken.digest() == whole.digest()
    for day in (date(2026, 10, 29), date(2026, 10, 30)):
        whole.advance(day)
        broken.advance(day)
    assert broken.digest() == whole.digest()


def test_memory_does_not_grow_with_the_size(make_world: MakeWorld) -> None:
    peaks = []
    for payments_per_day in (1500, 6000):
        world = make_world(payments_per_day, 1)
        world.advance(date(2026, 10, 19))
        tracemalloc.start()
        world.advance(date(2026, 10, 20))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.7 * peaks[0], peaks
    assert peaks[1] < 8 << 20, peaks


def test_nothing_half_made_is_left_in_the_landing(small: World) -> None:
    assert not [path for path in small.landing.rglob("*") if path.name.startswith(".")]
    assert {path.name for path in small.landing.iterdir()} == {"adyen", "bank", "ecb", "paypal", "stripe"}


def test_bad_input_is_refused_with_a_remedy(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(60, 1)
    with pytest.raises(sandbox.SandboxError, match="at least 40"):
        sandbox.create(world.dsn, tmp_path / "l", tmp_path / "s", payments_per_day=5)
    with pytest.raises(sandbox.SandboxError, match="another world"):
        sandbox.create(world.dsn, tmp_path / "l", tmp_path / "s", payments_per_day=60, seed=2)
    with pytest.raises(sandbox.SandboxError, match="2026-10-19 to 2026-10-30"):
        world.advance(date(2026, 11, 2))
    with pytest.raises(sandbox.SandboxError, match="create the sandbox first"):
        sandbox.advance(world.dsn, tmp_path / "l", tmp_path / "s", date(2026, 10, 19))
    world.advance(date(2026, 10, 19))
    with pytest.raises(sandbox.SandboxError, match="start over"):
        sandbox.create(world.dsn, tmp_path / "l", tmp_path / "s", payments_per_day=60, seed=1)


def test_another_worlds_state_is_refused(make_world: MakeWorld) -> None:
    one, other = make_world(60, 1), make_world(60, 2)
    with pytest.raises(sandbox.SandboxError, match="different worlds"):
        sandbox.advance(one.dsn, other.landing, other.state, date(2026, 10, 19))
    assert one.query("select count(*) from payments.payments") == [(0,)]


def test_foreign_keys_hold(small: World) -> None:
    connection = psycopg2.connect(small.dsn)
    try:
        with connection.cursor() as cursor, pytest.raises(psycopg2.errors.ForeignKeyViolation):
            cursor.execute("delete from payments.payments where status <> 'failed'")
    finally:
        connection.close()


def test_calendar() -> None:
    assert len(sandbox.BUSINESS_DAYS) == 10
    assert sandbox.SLOW_START[-1] == date(2026, 10, 27)
    assert sandbox.as_of(date(2026, 10, 30)) == datetime(2026, 10, 31, 5, tzinfo=ZoneInfo("Europe/Amsterdam"))
    assert length_s(date(2026, 10, 25)) == 25 * 3600
    friday, saturday = date(2026, 10, 23), date(2026, 10, 24)
    assert add_business_days(friday, 2, "EUR") == date(2026, 10, 27)
    assert add_business_days(saturday, 2, "EUR") == date(2026, 10, 27)
    assert add_business_days(saturday, 0, "EUR") == date(2026, 10, 26)
    assert add_business_days(saturday, 0, "NZD") == date(2026, 10, 27)
    assert add_business_days(friday, 2, "NZD") == date(2026, 10, 28)
    assert add_business_days(friday, 1, "KWD") == date(2026, 10, 25)


@pytest.mark.parametrize(
    ("numerator", "denominator", "rounded"),
    [(5, 10, 0), (15, 10, 2), (25, 10, 2), (26, 10, 3), (-5, 10, 0), (-15, 10, -2)],
)
def test_half_even(numerator: int, denominator: int, rounded: int) -> None:
    assert half_even(numerator, denominator) == rounded
