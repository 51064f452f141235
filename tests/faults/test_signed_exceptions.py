"""Two people publish a close that cannot be proven: what it takes, what it carries, and what nobody can sign away."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors
from typer.testing import CliRunner

from tests.dbt import given
from tests.dbt.conftest import RESTATED_DAY
from tests.dbt.worlds import BOOK, WORKING, Told, Warehouse
from tieout import breaks, signoff
from tieout.breaks import BreakError
from tieout.cli import app
from tieout.close import Close, CloseNotProven, CloseRefused
from tieout.overview import read as read_books
from tieout.signoff import Standing
from tieout.sources import load_registry
from tieout.watch.close_checks import proof_exceptions

THIRD = given.CLOSES[2]
ACCOUNT = given.BANKS["EUR"]
# What the bank says we have more than its entries explain.
OFF = 700
FAILED, EXCUSED, CARRIED = "exceptions_failed", "exceptions_excused", "exceptions_carried"
REGISTER = (
    "select break_id, break_code, owner, currency, left_minor, clearing_minor, exposure_minor, clearing_account, "
    "first_seen_business_date, source_references from reconciliation.break_register "
    "where close_id = %s and reconciliation = 'proof'"
)


def misstate(warehouse: Warehouse, close_id: int, minor: int) -> None:
    """The bank's own statement closes at another balance: in the file, and so in its control totals."""
    batch = "batch_id in (select batch_id from ops.close_batches where close_id = %s)"
    ((batch_id,),) = warehouse.query(
        f"select batch_id from raw.bank_statements where bank_account = %s and {batch} order by batch_id desc limit 1",
        (ACCOUNT, close_id),
    )
    assert warehouse.execute(
        "update raw.bank_statements set closing_minor = closing_minor + %s where batch_id = %s and bank_account = %s",
        (minor, batch_id, ACCOUNT),
    ) == 1  # fmt: skip
    assert warehouse.execute(
        "update ops.batch_totals set sum_minor = sum_minor + %s where batch_id = %s and measure = 'closing_minor' "
        "and currency = 'EUR'", (minor, batch_id),
    ) == 1  # fmt: skip


def standing(warehouse: Warehouse, close_id: int) -> Standing:
    with warehouse.connect("controller") as connection:
        return signoff.standing(connection, BOOK, str(close_id))


def sign(warehouse: Warehouse, close_id: int, actor: str, handles: Sequence[str] = ()) -> Standing:
    with warehouse.connect("controller") as connection:
        found = signoff.standing(connection, BOOK, str(close_id))
        named = handles or [line.handle for line in found.lines]
        return signoff.sign(connection, found, named, "the bank confirmed it by phone", actor)


@pytest.fixture(scope="module")
def failed(told: Told) -> Close:
    """The second close, stopped by one line of its proof and kept as :data:`FAILED`."""
    warehouse = told.warehouse
    warehouse.restore(told.proven(RESTATED_DAY))
    misstate(warehouse, told.closes[RESTATED_DAY].close_id, OFF)
    opened = warehouse.open_close(RESTATED_DAY)
    with pytest.raises(CloseNotProven, match=f"bank_balance {ACCOUNT} EUR.*\n.*tieout close except {opened.close_id}$"):
        warehouse.build(opened)
    warehouse.keep(FAILED)
    return opened


@pytest.fixture(scope="module")
def excused(told: Told, failed: Close) -> Close:
    """The same close signed for by two people, built again and not yet published; kept as :data:`EXCUSED`."""
    warehouse = told.warehouse
    warehouse.restore(FAILED)
    sign(warehouse, failed.close_id, "ann")
    sign(warehouse, failed.close_id, "bob")
    warehouse.build(failed, "books")
    warehouse.keep(EXCUSED)
    return failed


@pytest.fixture(scope="module")
def carried(told: Told, excused: Close) -> Close:
    """The third close on top of it, over a statement that goes on from the bank's balance; kept as :data:`CARRIED`."""
    warehouse = told.warehouse
    warehouse.restore(EXCUSED)
    assert warehouse.publish(excused) > 0
    balances = dict(
        warehouse.query(
            "select distinct on (bank_account) bank_account, closing_minor from raw.bank_statements "
            "where bank_account = any(%s) order by bank_account, batch_id desc", (list(given.BANKS.values()),),
        )
    )  # fmt: skip
    with warehouse.connect() as connection, connection.cursor() as cursor:
        given.load(cursor, 3, balances)
    opened = warehouse.open_close(THIRD)
    warehouse.build(opened)
    warehouse.keep(CARRIED)
    return opened


@pytest.fixture
def at_failed(told: Told, failed: Close) -> Warehouse:
    told.warehouse.restore(FAILED)
    return told.warehouse


def test_it_takes_two_people_who_sign_the_same(
    failed: Close, at_failed: Warehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIEOUT_WAREHOUSE_DSN", at_failed.cluster.dsn(WORKING, "controller"))
    monkeypatch.setenv("TIEOUT_STATE", str(tmp_path))

    def tieout(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["close", "except", *arguments])
        return done.exit_code, " ".join(done.output.split())

    code, text = tieout(str(RESTATED_DAY))
    (line,) = standing(at_failed, failed.close_id).lines
    assert (code, f"{line.handle} bank_balance {ACCOUNT} EUR 0 -7.00 two signatures" in text) == (1, True)
    assert "1 of 1 not excused" in text
    code, text = tieout(str(failed.close_id), line.handle, "--reason", "known", "--actor", "Ann Lee")
    assert (code, "-7.00 Ann Lee a second signature" in text) == (1, True)
    # One person under another spelling is the same person.
    code, text = tieout(str(failed.close_id), line.handle, "--reason", "known", "--actor", " ann  LEE ")
    assert (code, "has signed for bank_balance" in text) == (2, True)
    for wrong, said in (
        ((line.handle,), "name the lines and a --reason"),
        (("0badbad0", "--reason", "known"), "has no failed line 0badbad0"),
        ((line.handle, "--reason", " "), "needs a reason"),
    ):
        code, text = tieout(str(failed.close_id), *wrong)
        assert (code, said in text) == (2, True), text
    code, text = tieout("2026-13-45")
    assert code == 2
    code, text = tieout(str(RESTATED_DAY), line.handle, "--reason", "known", "--actor", "bob")
    assert (code, "every line that fails is excused: run the DAG close for 2026-10-21" in text) == (0, True)


def test_the_database_says_who_may_sign_for_what(failed: Close, at_failed: Warehouse) -> None:
    columns = "(close_id, check_name, subject, currency, difference_count, difference_minor, reason, actor)"
    good: dict[str, Any] = {
        "close": failed.close_id, "check": "bank_balance", "subject": ACCOUNT, "currency": "EUR", "count": 0,
        "minor": -OFF, "reason": "known", "actor": "ann",
    }  # fmt: skip
    statement = (
        f"insert into ops.close_exceptions {columns} values "
        "(%(close)s, %(check)s, %(subject)s, %(currency)s, %(count)s, %(minor)s, %(reason)s, %(actor)s)"
    )
    with at_failed.connect("controller") as connection, connection.cursor() as cursor:
        for change, refusal in (
            ({"minor": -OFF - 1}, "has no failed line"),
            ({"count": 1}, "has no failed line"),
            ({"currency": "USD"}, "has no failed line"),
            ({"check": "balanced_entries", "subject": "journal"}, "nobody can sign for a line of balanced_entries"),
            ({"check": "explained"}, "nobody can sign for a line of explained"),
            ({"close": failed.close_id - 1}, "is published: people sign for a close whose proof failed"),
            ({"reason": " "}, "close_exceptions_reason_check"),
            ({"actor": " "}, "close_exceptions_actor_check"),
        ):
            with pytest.raises(psycopg2.Error, match=refusal):
                cursor.execute(statement, {**good, **change})
            connection.rollback()
        cursor.execute(statement, good)
        connection.commit()
        with pytest.raises(errors.UniqueViolation, match="one_signature_a_person"):
            cursor.execute(statement, {**good, "actor": " ANN "})
        connection.rollback()
        # Nobody forges the login, and nothing that is signed changes.
        with pytest.raises(errors.InsufficientPrivilege):
            cursor.execute("insert into ops.close_exceptions (login) values ('bob')")
        connection.rollback()
    for change in ("update ops.close_exceptions set actor = 'bob'", "delete from ops.close_exceptions",
                   "truncate ops.close_exceptions"):  # fmt: skip
        with pytest.raises(errors.InsufficientPrivilege):
            at_failed.execute(change)
    for role in ("loader", "builder", "publisher", "reader"):
        with at_failed.connect(role) as connection, connection.cursor() as cursor:
            with pytest.raises(errors.InsufficientPrivilege):
                cursor.execute(statement, {**good, "actor": "bob"})
            connection.rollback()
    assert [s.signed_by for s in standing(at_failed, failed.close_id).lines] == [("ann",)]


def test_one_signature_or_none_publishes_nothing(failed: Close, at_failed: Warehouse) -> None:
    sign(at_failed, failed.close_id, "ann")
    at_failed.execute("update ops.closes set state = 'proven' where close_id = %s", (failed.close_id,))
    with pytest.raises(psycopg2.Error, match=f"no proof that holds: bank_balance {ACCOUNT} EUR is off by 0 items"):
        at_failed.publish(failed)
    at_failed.execute("update ops.closes set state = 'failed' where close_id = %s", (failed.close_id,))
    sign(at_failed, failed.close_id, "bob")
    # Signed, and the close that was built before knows nothing of it.
    at_failed.execute("update ops.closes set state = 'proven' where close_id = %s", (failed.close_id,))
    with pytest.raises(psycopg2.Error, match=f"does not carry its exception bank_balance {ACCOUNT} EUR: build it"):
        at_failed.publish(failed)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        ("update accounting.proof_clearing set actual_minor = actual_minor - 1, is_proven = false "
         "where close_id = {close} and check_name = 'bank_balance' and not is_proven", "bank_balance"),
        ("update accounting.proof_clearing set actual_minor = actual_minor + 1, is_proven = false "
         "where close_id = {close} and check_name = 'balanced_entries'", "balanced_entries journal"),
        ("update accounting.proof_clearing set actual_count = actual_count + 1, is_proven = false "
         "where close_id = {close} and check_name = 'events_to_journal'", "events_to_journal"),
        # The verdict is not believed: the figures are.
        ("update reconciliation.proof_items set actual_count = actual_count + 1 "
         "where close_id = {close} and check_name = 'explained'", "explained"),
    ],
)  # fmt: skip
def test_what_was_not_signed_for_is_not_excused(told: Told, excused: Close, damage: str, line: str) -> None:
    with told.warehouse.connect(name=EXCUSED) as connection, connection.cursor() as cursor:
        cursor.execute(damage.format(close=excused.close_id))
        assert cursor.rowcount > 0
        with pytest.raises(psycopg2.Error, match=f"no proof that holds: {line}"):
            cursor.execute("select ledger.publish_close(%s, %s)", (excused.close_id, excused.fencing_token))
        connection.rollback()


def test_the_exception_is_an_open_break_that_travels(told: Told, excused: Close, carried: Close) -> None:
    warehouse = told.warehouse
    warehouse.restore(CARRIED)
    broken = (
        f"exception:{ACCOUNT}:{RESTATED_DAY}", "PROOF_EXCEPTION", "finance-control", "EUR", -OFF, -OFF, OFF,
        f"bank:{ACCOUNT}", RESTATED_DAY, "bank_balance, signed by ann, bob",
    )  # fmt: skip
    assert warehouse.query(REGISTER, (excused.close_id,)) == [broken]
    # Nobody signed again: it is off by what it was off by.
    assert standing(warehouse, carried.close_id).lines[0].signed_by == ()
    assert warehouse.query(REGISTER, (carried.close_id,)) == [broken]
    assert warehouse.publish(carried) > 0
    counts = "select close_id, exception_count from ops.closes where state = 'published' order by 1"
    assert [count for _, count in warehouse.query(counts)] == [0, 1, 1]
    with warehouse.connect("loader") as connection:
        findings = proof_exceptions(connection, load_registry(), datetime(2026, 10, 24, tzinfo=UTC))
    (warning,) = [f for f in findings if f.severity == "warn"]
    assert "by 0 item(s) and -7.00 EUR since 2026-10-21; signed by ann, bob: the bank confirmed" in warning.message
    with warehouse.connect("controller") as connection:
        (listed,) = breaks.list_breaks(connection, "PROOF_EXCEPTION")
        with pytest.raises(BreakError, match="is an exception from the proof that two people signed for"):
            breaks.describe(connection, listed.handle, load_registry())
    with warehouse.connect() as connection:
        books = read_books(connection)
    assert (books.unexplained, len(books.exceptions), [c.exceptions for c in books.closes]) == (0, 1, [1, 1, 0])
    assert books.proven


@pytest.mark.parametrize(
    ("difference", "refusal"),
    [(-OFF - 1, "is off by 0 items and -701 minor units, and is not excused"), (0, None)],
)
def test_a_carried_exception_covers_what_it_was_signed_for_alone(
    told: Told, carried: Close, difference: int, refusal: str | None
) -> None:
    """Money lost: a new difference behind an old one."""
    with told.warehouse.connect(name=CARRIED) as connection, connection.cursor() as cursor:
        cursor.execute(
            "update accounting.proof_clearing set expected_minor = actual_minor - %s, is_proven = %s "
            "where close_id = %s and check_name = 'bank_balance' and subject = %s",
            (difference, difference == 0, carried.close_id, ACCOUNT),
        )
        published = "select ledger.publish_close(%s, %s)", (carried.close_id, carried.fencing_token)
        if refusal is None:
            cursor.execute(*published)
        else:
            with pytest.raises(psycopg2.Error, match=refusal):
                cursor.execute(*published)
        connection.rollback()


def test_a_published_close_takes_no_signature(told: Told, excused: Close, carried: Close) -> None:
    warehouse = told.warehouse
    warehouse.restore(CARRIED)
    with pytest.raises(CloseRefused, match="is published: people sign for a close whose proof failed"):
        sign(warehouse, excused.close_id, "cleo")
