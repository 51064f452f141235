"""What the database refuses: two runs of one close, a close that is not proven, a journal that is touched."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from hashlib import sha256

import psycopg2
import pytest
from psycopg2 import errors

from tests.dbt.conftest import FAULTY_DAYS
from tests.dbt.worlds import Warehouse, World
from tieout.close import Close, CloseRefused, abort, open_close
from tieout.sources import load_registry
from tieout.watch.close_checks import journal_chain

DAY = FAULTY_DAYS[1]


@pytest.fixture
def proven(world: World) -> Close:
    """The working warehouse with one close proven and not yet published."""
    world.warehouse.restore(world.proven(DAY))
    return world.closes[DAY]


@pytest.fixture
def published(world: World) -> Warehouse:
    """The working warehouse after the last close."""
    world.warehouse.restore(world.published)
    return world.warehouse


@pytest.fixture
def untouched(world: World, proven: Close) -> Iterator[None]:
    """Whatever is refused changes nothing: pointer, journal and seals are afterwards what they were."""
    warehouse = world.warehouse
    asked = [
        "select book, business_date, close_id from ops.published order by 1, 2",
        "select count(*), sum(amount_minor) from ledger.journal",
        "select count(*) from ledger.seals",
    ]
    before = [warehouse.query(statement) for statement in asked]
    yield
    assert [warehouse.query(statement) for statement in asked] == before


def test_two_runs_at_once_hold_one_close_between_them(world: World) -> None:
    warehouse = world.warehouse
    warehouse.restore(world.loaded(DAY))
    with ThreadPoolExecutor(2) as runs:
        one, other = sorted(runs.map(warehouse.open_close, [DAY, DAY]), key=lambda opened: opened.fencing_token)
    assert one.close_id == other.close_id
    assert other.fencing_token == one.fencing_token + 1
    assert warehouse.query("select count(*) from ops.closes where business_date = %s", (DAY,)) == [(1,)]
    with pytest.raises(CloseRefused, match="taken over by another run"):
        warehouse.build(one, "reconcile")
    with pytest.raises(psycopg2.Error, match="taken over by another run"):
        warehouse.publish(one)
    # The one that holds it is refused for its own reason: it has built nothing.
    with pytest.raises(psycopg2.Error, match="only a proven close is published"):
        warehouse.publish(other)


def test_a_proven_close_is_taken_over_before_it_is_published(world: World, proven: Close, untouched: None) -> None:
    later = world.warehouse.open_close(DAY)
    assert later.close_id == proven.close_id
    with pytest.raises(psycopg2.Error, match="taken over by another run"):
        world.warehouse.publish(proven)


def test_publishing_twice_books_once(world: World, proven: Close) -> None:
    warehouse = world.warehouse
    booked = warehouse.publish(proven)
    lines = warehouse.query("select count(*) from ledger.journal")
    assert booked > 0
    assert warehouse.publish(proven) == 0
    assert warehouse.query("select count(*) from ledger.journal") == lines
    assert warehouse.query("select count(*) from ledger.seals where close_id = %s", (proven.close_id,)) == [(1,)]
    assert warehouse.open_close(DAY).state == "published"


@pytest.mark.parametrize("account", ["bank", "never heard of"])
def test_an_unbalanced_journal_is_not_booked(world: World, proven: Close, untouched: None, account: str) -> None:
    world.warehouse.execute(
        "insert into accounting.journal_proposed "
        "(close_id, business_date, entry_key, leg_no, event_type, value_date, account, currency, amount_minor) "
        "values (%s, %s, 'line:bad', 1, 'settlement_line', %s, %s, 'EUR', 7)",
        (proven.close_id, DAY, DAY, account),
    )
    with pytest.raises(errors.CheckViolation, match="entry line:bad does not balance: debits exceed credits by 7"):
        world.warehouse.publish(proven)


def test_an_entry_is_booked_once_ever(world: World, proven: Close, untouched: None) -> None:
    """Money counted twice: an event booked by an earlier close comes again."""
    world.warehouse.execute(
        "insert into accounting.journal_proposed "
        "(close_id, business_date, entry_key, leg_no, event_type, value_date, account, currency, amount_minor) "
        "select %s, %s, entry_key, leg_no, event_type, value_date, account, currency, amount_minor "
        "from ledger.journal where entry_key = (select min(entry_key) from ledger.journal)",
        (proven.close_id, DAY),
    )
    with pytest.raises(errors.UniqueViolation, match="journal_entry_key"):
        world.warehouse.publish(proven)


@pytest.mark.parametrize("state", ["running", "failed", "superseded"])
def test_only_a_proven_close_is_published(world: World, proven: Close, untouched: None, state: str) -> None:
    world.warehouse.execute("update ops.closes set state = %s where close_id = %s", (state, proven.close_id))
    with pytest.raises(psycopg2.Error, match=f"is {state}, only a proven close is published"):
        world.warehouse.publish(proven)


def test_the_books_never_go_back(published: Warehouse) -> None:
    asked = "select business_date, close_id from ops.published order by 1"
    before = published.query(asked)
    published.execute(
        "insert into ops.closes (book, business_date, generation, parent_close_id, state, rules_digest, as_of) "
        "select book, %s, 2, parent_close_id, 'proven', rules_digest, as_of from ops.closes where business_date = %s",
        (DAY, DAY),
    )
    ((forged,),) = published.query("select close_id from ops.closes where generation = 2")
    with pytest.raises(psycopg2.Error, match="already stands at a later or the same business date"):
        published.publish(Close(forged, "global", DAY, 0, 1, "proven"))
    with published.connect() as connection:
        assert abort(connection, forged) == "proven"
    with published.connect("loader") as connection, pytest.raises(CloseRefused, match="lies before it"):
        open_close(connection, "global", date(2026, 10, 26), datetime.now(UTC))
    with published.connect("loader") as connection, pytest.raises(CloseRefused, match="nothing was loaded since"):
        open_close(connection, "global", date(2026, 11, 2), datetime.now(UTC))
    assert published.query(asked) == before
    assert published.query("select count(*) from ops.closes where business_date > %s", (before[-1][0],)) == [(0,)]


def test_an_aborted_close_gives_its_batches_back(world: World, proven: Close, untouched: None) -> None:
    warehouse = world.warehouse
    batches = "select array_agg(batch_id order by batch_id) from ops.close_batches where close_id = %s"
    held = warehouse.query(batches, (proven.close_id,))
    with warehouse.connect() as connection:
        assert abort(connection, proven.close_id) == "proven"
    with pytest.raises(psycopg2.Error, match="taken over by another run"):
        warehouse.publish(proven)
    again = warehouse.open_close(DAY)
    assert again.close_id > proven.close_id
    assert warehouse.query(batches, (again.close_id,)) == held


@pytest.mark.parametrize("table", ["ledger.journal", "ledger.seals"])
@pytest.mark.parametrize("change", ["update {} set close_id = close_id", "delete from {}", "truncate {}"])
def test_the_journal_is_append_only_for_everyone(published: Warehouse, table: str, change: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
        published.execute(change.format(table))


@pytest.mark.parametrize("role", ["loader", "builder", "publisher", "reader", "controller"])
def test_no_role_writes_the_journal_or_the_pointer_itself(published: Warehouse, role: str) -> None:
    for statement in (
        "insert into ledger.journal (close_id, entry_key, leg_no, event_type, business_date, value_date, account, "
        "currency, amount_minor) values (1, 'x', 1, 'capture', '2026-10-19', '2026-10-19', 'bank', 'EUR', 1)",
        "update ops.published set close_id = 1",
        "delete from ops.published",
    ):
        with published.connect(role) as connection, connection.cursor() as cursor:
            with pytest.raises(errors.InsufficientPrivilege):
                cursor.execute(statement)
            connection.rollback()


def chain_findings(warehouse: Warehouse) -> list[tuple[str, str]]:
    with warehouse.connect("loader") as connection:
        return [(f.severity, f.message) for f in journal_chain(connection, load_registry(), datetime.now(UTC))]


def test_the_seals_are_a_chain_over_every_line(published: Warehouse) -> None:
    seals = published.query(
        "select close_id, line_count, lines_digest, previous_seal, seal from ledger.seals order by seal_no"
    )
    assert [row[0] for row in seals] == [c for (c,) in published.query("select close_id from ops.published order by 1")]
    previous = ""
    for close_id, line_count, digest, previous_seal, seal in seals:
        assert previous_seal == previous
        assert seal == sha256(f"{previous}|{close_id}|{digest}".encode()).hexdigest()
        lines = published.query("select ledger.lines_digest(%s), count(*) from ledger.journal where close_id = %s",
                                (close_id, close_id))  # fmt: skip
        assert lines == [(digest, line_count)]
        assert line_count > 0
        previous = seal
    ((severity, _),) = chain_findings(published)
    assert severity == "ok"


@pytest.mark.parametrize(
    "tampering",
    [
        "update ledger.journal set amount_minor = amount_minor + 1 where line_id = 1",
        "update ledger.journal set account = 'revenue' where line_id = (select max(line_id) from ledger.journal)",
        "delete from ledger.journal where line_id = 1",
        "insert into ledger.journal (close_id, entry_key, leg_no, event_type, business_date, value_date, account, "
        "currency, amount_minor) values (1, 'x', 1, 'capture', '2026-10-19', '2026-10-19', 'bank', 'EUR', 1)",
    ],
    ids=["amount", "account", "removed", "added"],
)
def test_what_a_superuser_does_to_the_journal_is_found(published: Warehouse, tampering: str) -> None:
    published.execute(
        "alter table ledger.journal disable trigger append_only; alter table ledger.journal disable trigger balanced"
    )
    assert published.execute(tampering) == 1
    ((severity, message),) = chain_findings(published)
    assert severity == "fail"
    assert "were changed, removed or added to" in message


def test_a_forged_seal_is_found(published: Warehouse) -> None:
    published.execute("alter table ledger.seals disable trigger append_only")
    published.execute("update ledger.seals set lines_digest = md5('') where seal_no = 2")
    ((severity, message),) = chain_findings(published)
    assert severity == "fail"
    assert "seal 2" in message


def test_a_builder_that_was_overtaken_can_change_nothing(published: Warehouse) -> None:
    ((close_id,),) = published.query("select close_id from ops.closes where business_date = %s", (DAY,))
    asked = "select count(*), sum(balance_minor) from accounting.trial_balance where close_id = %s"
    before = published.query(asked, (close_id,))
    assert before[0][0] > 0
    ((parent, builder),) = published.query(
        "select coalesce(parent_close_id, 0), builder from ops.closes where close_id = %s", (close_id,)
    )
    # The very builder that built it, awake again after the publication: even an empty rebuild is refused.
    variables = {
        "close_id": close_id, "parent_close_id": parent, "business_date": DAY.isoformat(), "builder": builder,
    }  # fmt: skip
    results = published.runner.run(["run", "--select", "trial_balance"], variables, name="zombie")
    assert [result.status for result in results] == ["error"]
    assert "is not being built by this run any more" in results[0].message
    assert published.query(asked, (close_id,)) == before
