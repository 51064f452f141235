"""Locked periods: nothing is posted, published or closed again in one, and it takes two people to open it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import errors
from typer.testing import CliRunner

from tests.dbt import given
from tests.dbt.conftest import RESTATED_DAY
from tests.dbt.worlds import BOOK, WORKING, Told, Warehouse
from tieout import periods, reclose
from tieout.cli import app
from tieout.close import CloseRefused
from tieout.periods import PeriodRefused

FIRST, SECOND, THIRD = given.CLOSES
LINES = (
    "insert into ledger.journal (close_id, entry_key, leg_no, event_type, business_date, value_date, account, "
    "currency, amount_minor) select close_id, 'late', leg, 'capture', %s, %s, 'bank', 'EUR', amount "
    "from ops.closes, (values (1, 5), (2, -5)) legs (leg, amount) where business_date = %s"
)


def lock(warehouse: Warehouse, first: date, last: date) -> None:
    with warehouse.connect("controller") as connection:
        periods.lock(connection, BOOK, first, last, "audited", "ann")


def insert_lock(warehouse: Warehouse, first: date, last: date) -> None:
    warehouse.execute(
        "insert into ops.period_changes (book, first_date, last_date, change, reason, actor) "
        "values (%s, %s, %s, 'lock', 'audited', 'ann')", (BOOK, first, last),
    )  # fmt: skip


def reopen(warehouse: Warehouse, business_date: date) -> None:
    with warehouse.connect("loader") as connection:
        reclose.reopen(connection, BOOK, business_date, "late", "ann", datetime(2026, 10, 24, tzinfo=UTC))


@pytest.fixture
def published(told: Told) -> Warehouse:
    told.warehouse.restore(told.published)
    return told.warehouse


def test_a_locked_period_is_not_closed_again_nor_posted_to(published: Warehouse) -> None:
    lock(published, FIRST, SECOND)
    for day in (FIRST, SECOND):
        with pytest.raises(CloseRefused, match=f"{day} cannot be.*cross the locked period {FIRST} to {SECOND}"):
            reopen(published, day)
        with pytest.raises(psycopg2.Error, match="the chain would cross the locked period"):
            published.execute(
                "insert into ops.reclosings (book, business_date, reason, actor) values (%s, %s, 'x', 'x')", (BOOK, day)
            )
    # A date after it is not in its way, nor is another book.
    with pytest.raises(CloseRefused, match="would give what stands"):
        reopen(published, THIRD)
    published.execute(
        "insert into ops.reclosings (book, business_date, reason, actor) values ('b', %s, 'x', 'x')", (FIRST,)
    )

    with pytest.raises(psycopg2.Error, match=f"journal entry late would be posted on {SECOND}, in the locked period"):
        published.execute(LINES, (SECOND, SECOND, SECOND))
    # What is late is posted in the open period, under its own value date.
    assert published.execute(LINES, (THIRD, FIRST, THIRD)) == 2

    # What readers see of it stays: told at commit.
    for change in ("update ops.published set close_id = close_id where business_date = %s",
                   "delete from ops.published where business_date = %s"):  # fmt: skip
        with published.connect() as connection, connection.cursor() as cursor:
            cursor.execute(change, (SECOND,))
            assert cursor.rowcount == 1
            with pytest.raises(psycopg2.Error, match=f"{SECOND} lies in the locked period"):
                connection.commit()
        assert published.execute(change, (THIRD,)) == 1


def test_a_close_is_not_published_into_a_period_that_was_locked_meanwhile(told: Told) -> None:
    warehouse, opened = told.warehouse, told.closes[RESTATED_DAY]
    warehouse.restore(told.proven(RESTATED_DAY))
    asked = "select count(*), (select count(*) from ops.published) from ledger.journal"
    before = warehouse.query(asked)
    with pytest.raises(PeriodRefused, match=f"published up to {FIRST}: close it up to {SECOND} before"):
        lock(warehouse, FIRST, SECOND)
    with pytest.raises(psycopg2.Error, match=f"close {opened.close_id} of {SECOND} is proven: publish it, or give it"):
        insert_lock(warehouse, FIRST, SECOND)
    # As if it had been there first.
    warehouse.execute("alter table ops.period_changes disable trigger fits_the_books")
    insert_lock(warehouse, SECOND, SECOND)
    with pytest.raises(psycopg2.Error, match=f"would be posted on {SECOND}, in the locked period"):
        warehouse.publish(opened)
    # Even if it has nothing to post.
    warehouse.execute("alter table ledger.journal disable trigger period_is_open")
    with pytest.raises(psycopg2.Error, match=f"{SECOND} lies in the locked period"):
        warehouse.publish(opened)
    assert warehouse.query(asked) == before
    with pytest.raises(CloseRefused, match=f"{SECOND} lies in the locked period {SECOND} to {SECOND} of book global"):
        warehouse.open_close(SECOND)


def test_what_is_late_is_booked_in_the_open_period_with_its_own_value_date(told: Told) -> None:
    warehouse = told.warehouse
    warehouse.restore(told.proven(RESTATED_DAY))
    lock(warehouse, FIRST, FIRST)
    assert warehouse.publish(told.closes[RESTATED_DAY]) > 0
    ((lines, first, last),) = warehouse.query(
        "select count(*), min(business_date), max(business_date) from ledger.journal "
        "where close_id = %s and value_date <= %s", (told.closes[RESTATED_DAY].close_id, FIRST),
    )  # fmt: skip
    assert lines > 0
    assert (first, last) == (SECOND, SECOND)


def test_one_person_locks_and_two_unlock(
    published: Warehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIEOUT_WAREHOUSE_DSN", published.cluster.dsn(WORKING, "controller"))
    monkeypatch.setenv("TIEOUT_STATE", str(tmp_path))

    def tieout(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["period", *arguments])
        return done.exit_code, " ".join(done.output.split())

    month = "global", "2026-10"
    code, text = tieout("lock", *month, "--reason", "audited")
    assert (code, "is published up to 2026-10-23: close it up to 2026-10-30 before" in text) == (2, True)
    # As if the month ended there: its other days are no business days.
    published.execute("insert into rules.holidays select 'EUR', d, 'x' from generate_series("
                      "timestamp '2026-10-26', timestamp '2026-10-30', interval '1 day') d")  # fmt: skip
    assert tieout("lock", *month, "--reason", "audited", "--actor", "ann") == (
        0, "book global is locked from 2026-10-01 to 2026-10-31"
    )  # fmt: skip
    for command, wrong, said in (
        ("lock", (*month, "--reason", "again"), "is locked from 2026-10-01 to 2026-10-31 already"),
        ("lock", ("global", "2026-13", "--reason", "x"), "a month is written as 2026-10"),
        ("unlock", ("global", "2026-09", "--reason", "x"), "no locked period 2026-09-01 to 2026-09-30"),
        ("unlock", (*month, "--reason", " "), "needs a reason"),
    ):
        code, text = tieout(command, *wrong)
        assert (code, said in text) == (2, True), text
    code, text = tieout("unlock", *month, "--reason", "a report came late", "--actor", "Ann")
    assert (code, "2026-10 stays locked until a second one signs" in text) == (1, True)
    code, text = tieout("unlock", *month, "--reason", "a report came late", "--actor", " ANN ")
    assert (code, "has signed for unlocking" in text) == (2, True)
    with pytest.raises(CloseRefused, match="cross the locked period"):
        reopen(published, THIRD)
    assert tieout("unlock", *month, "--reason", "so it did", "--actor", "bob") == (
        0, "book global is open from 2026-10-01 to 2026-10-31, signed by Ann, bob"
    )  # fmt: skip
    with pytest.raises(CloseRefused, match="would give what stands"):
        reopen(published, THIRD)
    code, text = tieout("list")
    assert (code, "global 2026-10-01 2026-10-31 open ann" in text) == (0, True)
    # Locked once more, the signatures of then count for nothing.
    assert tieout("lock", *month, "--reason", "done", "--actor", "ann")[0] == 0
    with pytest.raises(CloseRefused, match="cross the locked period"):
        reopen(published, THIRD)


def test_no_role_but_the_controller_locks_and_nobody_rewrites(published: Warehouse) -> None:
    lock(published, FIRST, SECOND)
    for role in ("loader", "builder", "publisher", "reader"):
        with published.connect(role) as connection, connection.cursor() as cursor:
            with pytest.raises(errors.InsufficientPrivilege):
                cursor.execute(
                    "insert into ops.period_changes (book, first_date, last_date, change, reason, actor) "
                    "values ('global', %s, %s, 'unlock', 'x', 'x')", (FIRST, SECOND),
                )  # fmt: skip
            connection.rollback()
    for change in ("update ops.period_changes set actor = 'x'", "delete from ops.period_changes"):
        with pytest.raises(errors.InsufficientPrivilege):
            published.execute(change)
