"""A past date closed again: late data, three generations published at once, what breaks on the way changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors

from tests.dbt import given
from tests.dbt.worlds import BOOK, WORKING, Told, Warehouse
from tieout import failpoints, reclose
from tieout.close import Close, CloseRefused, abort
from tieout.failpoints import Failpoint, FailpointReached
from tieout.overview import read as read_books
from tieout.reclose import Reclosing
from tieout.sources import load_registry
from tieout.watch.close_checks import close_state, journal_chain

FIRST, SECOND, THIRD = given.CLOSES
SATURDAY, MONDAY = date(2026, 10, 24), date(2026, 10, 26)
LATE, PROVEN, PUBLISHED = "reclose_late", "reclose_proven", "reclose_published"
AS_OF = datetime(2026, 10, 24, 2, tzinfo=UTC)
POINTERS = "select business_date, close_id from ops.published order by 1"
BOOKED = (
    "select j.business_date, j.entry_key, j.leg_no, j.event_type, j.value_date, j.account, j.currency, "
    "sum(j.amount_minor)::bigint from ledger.journal j group by 1, 2, 3, 4, 5, 6, 7 having sum(j.amount_minor) <> 0 "
    "order by 1, 2, 3"
)
PROPOSED = (
    "select business_date, entry_key, leg_no, event_type, value_date, account, currency, amount_minor "
    "from published.journal_proposed order by 1, 2, 3"
)
LONG = os.environ.get("TIEOUT_FAULTS") == "long"


def load_late(warehouse: Warehouse) -> None:
    """What should have been there for the first close: a report, a capture, a change of one; and one of the third.

    And what should not: how one of them stood on the third, and what is of the day after it.
    """
    end = datetime.combine(FIRST + timedelta(days=1), datetime.min.time(), given.ZONE) - timedelta(hours=1)
    of_third, of_later = end + (THIRD - FIRST), end + (THIRD - FIRST) + timedelta(days=1)
    captures = [
        given._ledger_row("late", "captures", row)
        for row in (
            {"capture_id": "forgotten", "amount_minor": "3300", "captured_at": "2026-10-19"},
            {"capture_id": "of_friday", "amount_minor": "700", "captured_at": "2026-10-23"},
        )
    ]
    changed = {"capture_id": "capture", "amount_minor": "4800", "captured_at": "2026-10-16"}
    captures.append(given._ledger_row("retro_correction_of_a_capture", "captures", changed))
    payments = [given._payment("late", {"payment_id": "order"})]
    reports = {
        "silent_processor_is_overdue": [{"psp_reference": "capture", "gross_minor": "1700", "booked_at": "2026-10-20"}],
        # From before the payout: the closes after it know in which batch each line was paid out.
        "stripe_line_waits_then_is_paid_out": given.read_csv(
            given.SCENARIOS / "stripe_line_waits_then_is_paid_out" / "given" / "1" / "settlement_lines.csv"
        ),
    }
    of_saturday = [{"psp_reference": "of_saturday", "gross_minor": "900", "booked_at": "2026-10-24"}]
    with warehouse.connect() as connection, connection.cursor() as cursor:
        given._batch(cursor, "payments", "captures", "payments_captures", captures, end, None)
        given._batch(cursor, "payments", "payments", "payments_payments", payments, end, None)
        for moment, row in (
            (of_third, {"capture_id": "forgotten", "amount_minor": "3400", "captured_at": "2026-10-19"}),
            (of_later, {"capture_id": "of_saturday", "amount_minor": "900", "captured_at": "2026-10-24"}),
        ):
            rows = [given._ledger_row("late", "captures", row)]
            given._batch(cursor, "payments", "captures", "payments_captures", rows, moment, None)
        for name, told, of_day in (*((*each, FIRST) for each in reports.items()), ("late", of_saturday, SATURDAY)):
            lines = [given._line(name, {**line, "file": "late"}, 1) for line in told]
            origin, account = lines[0]["processor"], lines[0]["processor_account"]
            file = given.File(f"{name}/{origin}/late", origin, account, of_day, "settlement_lines", lines)
            cursor.execute(
                "insert into ops.files (sha256, name, uri, size_bytes, format, status, origin, origin_account, "
                "content_date, seen_at) values (%s, %s, %s, 1, 'csv', 'loaded', %s, %s, %s, %s) returning file_id",
                (file.sha256, file.name, file.name, file.origin, file.origin_account, file.content_date, end),
            )
            ((file_id,),) = cursor.fetchall()
            rows = [{"file_id": file_id, "line_no": number, **row} for number, row in enumerate(file.rows, 1)]
            given._batch(cursor, "files", file.table, file.table, rows, end, file_id)


def reopened(warehouse: Warehouse, business_date: date = FIRST, reason: str = "a report came late") -> Reclosing:
    with warehouse.connect("loader") as connection:
        return reclose.reopen(connection, BOOK, business_date, reason, "ann", AS_OF)


def publish(warehouse: Warehouse, chain: Reclosing) -> int:
    with warehouse.connect("publisher") as connection:
        return reclose.publish_chain(connection, chain)


@contextmanager
def broken_at(point: Failpoint, turn: int = 1) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as armed:
        armed.setattr(failpoints, "_armed", failpoints.parse(f"{point.value}=raise@{turn}"))
        armed.setattr(failpoints, "_reached", Counter())
        with pytest.raises(FailpointReached, match=point.value):
            yield


def state_of(warehouse: Warehouse) -> dict[str, list[tuple[Any, ...]]]:
    """What readers and the books have: nothing of it moves before the chain is published."""
    return {
        asked: warehouse.query(asked)
        for asked in (
            POINTERS, "select * from ledger.journal order by line_id", "select * from ledger.seals order by seal_no",
            "select close_id, md5(string_agg(b::text, '' order by break_id, currency)) from published.break_register b "
            "group by 1 order by 1",
            "select close_id, md5(string_agg(i::text, '' order by item_key)) from published.reconciliation_items i "
            "group by 1 order by 1",
            "select * from published.trial_balance order by business_date, account, currency",
        )
    }  # fmt: skip


def partition(warehouse: Warehouse, close_id: int) -> dict[str, tuple[int, str]]:
    """A close's partition; which close a break is compared with is a number of a close, too."""
    found = warehouse.digest(close_id)
    found["reconciliation.break_changes"] = warehouse.query(
        "select count(*), md5(string_agg(row, '' order by row)) from (select (to_jsonb(m) - 'close_id' - "
        "'earlier_close_id')::text as row from reconciliation.break_changes m where close_id = %s) rows", (close_id,),
    )[0]  # fmt: skip
    return found


def test_a_date_is_not_closed_again_for_nothing(told: Told) -> None:
    warehouse = told.warehouse
    warehouse.restore(told.published)
    with pytest.raises(CloseRefused, match="would give what stands: nothing was loaded"):
        reopened(warehouse)
    with pytest.raises(CloseRefused, match="2026-10-22 is not a published date of book global; published: 2026-10-20"):
        reopened(warehouse, date(2026, 10, 22))
    with pytest.raises(CloseRefused, match="needs a reason"):
        reopened(warehouse, reason=" ")
    assert warehouse.query("select count(*) from ops.reclosings") == [(0,)]
    # Neither is the next one, unless it has what waited for it.
    waits = ("update reconciliation.reconciliation_items set exclusion_reason = 'FUTURE_DATED', value_date = %s "
             "where close_id = 3 and item_key = (select min(item_key) from reconciliation.reconciliation_items "
             "where close_id = 3 and status = 'excluded')")  # fmt: skip
    for day in (None, MONDAY + timedelta(days=1)):
        if day is not None:
            warehouse.execute(waits, (day,))
        with pytest.raises(CloseRefused, match="nothing was loaded since the last close"):
            warehouse.open_close(MONDAY)
    warehouse.execute(waits, (MONDAY,))
    assert warehouse.open_close(MONDAY).parent_close_id == 3
    warehouse.execute("delete from ops.closes where business_date = %s", (MONDAY,))
    assert warehouse.query("select max(generation) from ops.closes") == [(1,)]


@pytest.fixture(scope="module")
def chain(told: Told) -> Reclosing:
    """The chain from the first date, proven and kept as :data:`PROVEN`; its run broke on the way."""
    warehouse = told.warehouse
    warehouse.restore(told.published)
    load_late(warehouse)
    warehouse.keep(LATE)
    before = state_of(warehouse)
    begun = reopened(warehouse)
    with broken_at(Failpoint.RECLOSE_CLOSE_BUILT):
        reclose.rebuild(warehouse.server(), begun, warehouse.state)
    again = reopened(warehouse)
    assert [member.close_id for member in again.closes] == [member.close_id for member in begun.closes]
    assert [member.state for member in again.closes] == ["proven", "running", "running"]
    # The run that was left behind can build no more.
    with pytest.raises(CloseRefused, match="taken over by another run"):
        reclose.rebuild(warehouse.server(), begun, warehouse.state)
    built: list[tuple[date, str]] = []
    reclose.rebuild(
        warehouse.server(), again, warehouse.state,
        lambda member, result: built.append((member.business_date, result.step)),
    )  # fmt: skip
    assert built == [(day, step) for day in (SECOND, THIRD) for step in ("reconcile", "books", "monitoring")]
    assert state_of(warehouse) == before
    warehouse.keep(PROVEN)
    return again


@pytest.fixture
def proven(told: Told, chain: Reclosing) -> Warehouse:
    """The working warehouse with the whole chain proven and nothing of it published."""
    told.warehouse.restore(PROVEN)
    return told.warehouse


@pytest.fixture(scope="module")
def lines(told: Told, chain: Reclosing) -> int:
    """How many lines the publication booked; the warehouse after it is kept as :data:`PUBLISHED`."""
    told.warehouse.restore(PROVEN)
    booked = publish(told.warehouse, chain)
    told.warehouse.keep(PUBLISHED)
    return booked


@pytest.fixture
def published(told: Told, lines: int) -> Warehouse:
    """The working warehouse after the chain's publication."""
    told.warehouse.restore(PUBLISHED)
    return told.warehouse


def test_the_reopened_date_takes_what_came_late_and_the_others_what_they_had(
    told: Told, chain: Reclosing, proven: Warehouse
) -> None:
    batches = "select close_id, array_agg(batch_id order by batch_id) from ops.close_batches group by 1"
    taken = dict(proven.query(batches))
    ((late,),) = proven.query("select array_agg(batch_id order by batch_id) from ops.batches where batch_id not in "
                              "(select batch_id from ops.close_batches where close_id <= 3)")  # fmt: skip
    captures, payments, of_third, of_saturday, *files, file_of_saturday = late
    former = [told.closes[day].close_id for day in given.CLOSES]
    assert [taken[member.close_id] for member in chain.closes] == [
        [*taken[former[0]], captures, payments, *files], taken[former[1]], [*taken[former[2]], of_third]
    ]  # fmt: skip
    # The day after waits for its own close.
    waiting = "select array_agg(batch_id order by batch_id) from ops.batches b where not exists (" \
              "select from ops.close_batches t where t.batch_id = b.batch_id)"  # fmt: skip
    assert proven.query(waiting) == [([of_saturday, file_of_saturday],)]
    parents = [member.parent_close_id for member in chain.closes]
    assert parents == [0, chain.closes[0].close_id, chain.closes[1].close_id]


def test_the_chain_is_published_whole(told: Told, chain: Reclosing, published: Warehouse) -> None:
    assert published.query(POINTERS) == [(member.business_date, member.close_id) for member in chain.closes]
    assert published.query("select business_date, generation, state, superseded_at is null from ops.closes "
                           "order by generation, business_date") == [
        *((day, 1, "superseded", False) for day in given.CLOSES),
        *((day, 2, "published", True) for day in given.CLOSES),
    ]  # fmt: skip
    items = {
        (day, reference): (status, outcome)
        for day, reference, status, outcome in published.query(
            "select business_date, source_reference, status, coalesce(break_code, exclusion_reason) "
            "from published.reconciliation_items where reconciliation = 'payment_processor' and side = 'left'"
        )
    }
    # Overdue before, matched now, and so no longer there on the dates after it.
    silent = "silent_processor_is_overdue/capture"
    assert items[FIRST, silent] == ("matched", None)
    assert (SECOND, silent) not in items
    assert items[FIRST, "late/forgotten"] == ("open", "EXPECTED_NOT_DUE")
    # Changed on the third, and only known so from then on.
    assert published.query(
        "select business_date, amount_minor from published.reconciliation_items "
        "where source_reference = 'late/forgotten' and status = 'open' order by 1, 2"
    ) == [(FIRST, 3300), (SECOND, 3300), (THIRD, 100), (THIRD, 3300)]  # fmt: skip
    # Known at the first date now, and of the third: it waits, and is booked on its own date.
    assert items[FIRST, "late/of_friday"] == ("excluded", "FUTURE_DATED")
    assert items[THIRD, "late/of_friday"] == ("open", "EXPECTED_NOT_DUE")


def test_the_latest_version_stands_whichever_date_took_it(published: Warehouse) -> None:
    """Money lost: the second close takes an older version of what the first one, closed again, knows already."""
    changed = "retro_correction_of_a_capture/capture"
    found = published.query(
        "select business_date, item_key, status, coalesce(break_code, exclusion_reason), amount_minor "
        "from published.reconciliation_items where source_reference = %s and business_date < %s order by 1, 2",
        (changed, THIRD),
    )
    assert [(day, status, outcome, amount) for day, _, status, outcome, amount in found] == [
        (FIRST, "excluded", "SUPERSEDED_VERSION", 5000), (FIRST, "open", "OVER", 4800),
        (SECOND, "open", "OVER", 4800), (SECOND, "excluded", "SUPERSEDED_VERSION", 4500),
    ]  # fmt: skip
    booked = published.query(
        "select business_date, sum(amount_minor)::bigint from ledger.journal "
        "where entry_key like %s and account like 'psp_clearing%%' group by 1 having sum(amount_minor) <> 0 order by 1",
        (f"%{changed}%",),
    )
    assert booked == [(FIRST, 4800)]


def test_a_late_report_takes_no_line_out_of_its_batch(told: Told, published: Warehouse) -> None:
    """Of two versions the one that is paid out stands, though the other arrived later and an earlier date took it."""
    asked = (
        "select business_date, side, status, coalesce(break_code, exclusion_reason), amount_minor "
        "from published.reconciliation_items where reconciliation = 'batch_payout' and business_date > %s "
        "and source_reference like 'stripe:stripe_line_waits_then_is_paid_out/%%' order by 1, 2, 3, 4, 5"
    )
    before = told.warehouse.query(asked, (FIRST,), told.published)
    assert (SECOND, "left", "matched", None, 10000) in before
    assert published.query(asked, (FIRST,)) == before


def test_the_journal_is_what_the_new_closes_say(chain: Reclosing, published: Warehouse, lines: int) -> None:
    assert published.query(BOOKED) == published.query(PROPOSED)
    assert lines == published.query("select count(*) from ledger.journal where close_id >= %s",
                                    (chain.closes[0].close_id,))[0][0]  # fmt: skip
    # Only what differs was touched: far fewer lines than were booked.
    assert 0 < lines < published.query("select count(*) from ledger.journal")[0][0] / 4
    sums = published.query("select account, currency, sum(amount_minor)::bigint from ledger.journal group by 1, 2 "
                           "having sum(amount_minor) <> 0 order by 1, 2")  # fmt: skip
    balances = published.query("select account, currency, balance_minor from published.trial_balance "
                               "where business_date = %s and balance_minor <> 0 order by 1, 2", (THIRD,))  # fmt: skip
    assert sums == balances
    assert published.query("select entry_key from ledger.journal group by entry_key, posting_no, currency "
                           "having sum(amount_minor) <> 0") == []  # fmt: skip
    # What was taken back is, leg by leg, the posting before it, under the date it was booked for.
    assert published.query(
        "select count(*) > 0, bool_and(b.amount_minor = -t.amount_minor and b.account = t.account and "
        "b.currency = t.currency and b.business_date = t.business_date and b.value_date = t.value_date) "
        "from ledger.journal t left join ledger.journal b on b.entry_key = t.entry_key and b.leg_no = t.leg_no "
        "and b.posting_no = t.posting_no - 1 where t.posting_no %% 2 = 0"
    ) == [(True, True)]
    with published.connect("loader") as connection:
        assert [f.severity for f in journal_chain(connection, load_registry(), AS_OF)] == ["ok"]
    with published.connect() as connection:
        assert read_books(connection).proven


def test_what_was_known_stays_known(told: Told, chain: Reclosing, published: Warehouse) -> None:
    old, new = told.closes[FIRST].close_id, chain.closes[0].close_id
    register = "select * from published.break_register order by break_id, close_id"
    before = told.warehouse.query(register, (), told.published)
    known = (
        "select {columns} from known.break_register where known_from <= %s and coalesce(known_until, 'infinity') > %s "
        "order by break_id, close_id"
    )
    columns = ", ".join(
        name for (name,) in published.query(
            "select column_name from information_schema.columns where table_schema = 'published' "
            "and table_name = 'break_register' order by ordinal_position"
        )
    )  # fmt: skip
    ((then, now),) = published.query(
        "select min(superseded_at) - interval '1 microsecond', clock_timestamp() from ops.closes"
    )
    with published.connect("reader") as connection, connection.cursor() as cursor:
        cursor.execute(known.format(columns=columns), (then, then))
        assert cursor.fetchall() == before
        cursor.execute(known.format(columns=columns), (now, now))
        assert cursor.fetchall() == published.query(register)
    with published.connect("controller") as connection, connection.cursor() as cursor:
        asked = "select break_id, change, earlier_break_code, break_code from ops.break_changes(%s, %s)"
        cursor.execute(asked, (old, new))
        changes = {row[0]: row[1:] for row in cursor.fetchall()}
        cursor.execute(asked, (new, new))
        assert cursor.fetchall() == []
    assert changes["capture:silent_processor_is_overdue/capture"] == ("closed", "EXPECTED_NOT_DUE", None)
    assert changes["capture:late/forgotten"] == ("opened", None, "EXPECTED_NOT_DUE")
    ((difference,),) = published.query(
        "select count(*) filter (where close_id = %s) - count(*) filter (where close_id = %s) "
        "from known.break_register", (new, old),
    )  # fmt: skip
    kinds = Counter(change for change, *_ in changes.values())
    assert kinds["opened"] - kinds["closed"] == difference


def test_a_reader_sees_the_old_chain_or_the_new_one(told: Told, chain: Reclosing, proven: Warehouse) -> None:
    """Money misreported: dates of two generations beside one another."""
    old = [(day, told.closes[day].close_id) for day in given.CLOSES]
    new = [(member.business_date, member.close_id) for member in chain.closes]
    asked = "select distinct business_date, close_id from published.trial_balance order by 1"
    journal = "select count(*) from ledger.journal"
    with (
        proven.connect("reader") as steady, proven.connect("reader") as reader, proven.connect("publisher") as publisher
    ):  # fmt: skip
        steady.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with steady.cursor() as of_steady, reader.cursor() as of_reader, publisher.cursor() as cursor:

            def seen(by: Any) -> tuple[list[Any], Any]:
                by.execute(asked)
                chain_seen = by.fetchall()
                by.execute(journal)
                return chain_seen, by.fetchall()[0][0]

            before = seen(of_steady)
            assert before[0] == old
            cursor.execute("select ledger.publish_reclosing(%s, %s)", (chain.reclosing_id, chain.fencing_token))
            # Booked and flipped, and not yet committed: nobody waits, and nobody sees it.
            assert seen(of_reader) == before
            publisher.commit()
            reader.commit()
            assert seen(of_reader)[0] == new
            assert seen(of_reader)[1] > before[1]
            assert seen(of_steady) == before


@pytest.mark.parametrize("point", [Failpoint.RECLOSE_BEFORE_PUBLISH, Failpoint.RECLOSE_AFTER_PUBLISH])
def test_a_publication_that_breaks_happened_or_did_not(
    told: Told, chain: Reclosing, published: Warehouse, point: Failpoint
) -> None:
    warehouse, wanted = published, state_of(published)
    warehouse.restore(PROVEN)
    before = state_of(warehouse)
    with broken_at(point):
        publish(warehouse, chain)
    assert state_of(warehouse)[POINTERS] == (before if point is Failpoint.RECLOSE_BEFORE_PUBLISH else wanted)[POINTERS]
    publish(warehouse, chain)
    assert strip(state_of(warehouse)) == strip(wanted)
    assert publish(warehouse, chain) == 0


def strip(state: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    """Without the numbers that a sequence gave."""
    return {asked: [row[1:] if "ledger" in asked else row for row in rows] for asked, rows in state.items()}


@pytest.mark.parametrize(
    ("tampering", "refusal"),
    [
        ("update ops.closes set state = 'failed' where close_id = {last}", "is failed, only a proven close is"),
        ("update reconciliation.proof_items set is_proven = false where close_id = {last}", "has no proof that holds"),
        ("update ops.closes set parent_close_id = 2 where close_id = {last}", "is no chain at 2026-10-23"),
        ("update ops.closes set reclosing_id = null, state = 'superseded' where close_id = {last}",
         "is no chain at 2026-10-23"),
        ("update accounting.trial_balance set balance_minor = balance_minor + 1 where close_id = {last} "
         "and account = 'fee_expense' and currency = 'EUR'", "of 2026-10-23 would not be its trial balance"),
        ("delete from accounting.journal_proposed where close_id = {last} and entry_key = (select max(entry_key) "
         "from accounting.journal_proposed where close_id = {last})", "would not be its trial balance"),
        ("update accounting.journal_proposed set amount_minor = amount_minor + 1 where close_id = {last} "
         "and leg_no = 1 and entry_key = (select max(entry_key) from accounting.journal_proposed "
         "where close_id = {last})", "does not balance"),
        ("update ops.reclosings set fencing_token = fencing_token + 1", "taken over by another run"),
    ],
)  # fmt: skip
def test_a_chain_with_one_fault_is_not_published_at_all(
    told: Told, chain: Reclosing, tampering: str, refusal: str
) -> None:
    with told.warehouse.connect(name=PROVEN) as connection, connection.cursor() as cursor:
        cursor.execute(tampering.format(last=chain.closes[-1].close_id))
        with pytest.raises(psycopg2.Error, match=refusal):
            cursor.execute("select ledger.publish_reclosing(%s, %s)", (chain.reclosing_id, chain.fencing_token))
        connection.rollback()


def test_a_close_of_the_chain_is_not_published_alone(chain: Reclosing, proven: Warehouse) -> None:
    first = chain.closes[0]
    with pytest.raises(psycopg2.Error, match="is part of re-close 1, which is published as a whole"):
        proven.publish(first)
    with pytest.raises(CloseRefused, match=f"closed again from {FIRST} on.*tieout close abort {first.close_id}"):
        proven.open_close(MONDAY)
    with pytest.raises(CloseRefused, match=f"re-close 1 of {FIRST} is unfinished"):
        reopened(proven, THIRD)
    # Not even one that was opened behind its back.
    proven.execute(
        "insert into ops.closes (book, business_date, generation, parent_close_id, state, rules_digest, as_of) "
        "values ('global', %s, 1, 3, 'proven', '', now())", (MONDAY,),
    )  # fmt: skip
    ((forged,),) = proven.query("select max(close_id) from ops.closes")
    with pytest.raises(psycopg2.Error, match="has to wait: a re-close of book global is being built"):
        proven.publish(Close(forged, BOOK, MONDAY, 3, 1, "proven"))
    proven.execute("update ops.reclosings set state = 'given up', ended_at = now()")
    proven.execute(
        "update ops.published set close_id = %s where business_date = %s", (chain.closes[-1].close_id, THIRD)
    )
    with pytest.raises(psycopg2.Error, match="stands on close 3, which is not the last published one"):
        proven.publish(Close(forged, BOOK, MONDAY, 3, 1, "proven"))


def test_two_runs_do_not_build_one_chain(chain: Reclosing, proven: Warehouse) -> None:
    with proven.connect("loader") as one, proven.connect("loader") as other:
        with (
            reclose.alone(one, BOOK), pytest.raises(CloseRefused, match="is being re-closed by another run"),
            reclose.alone(other, BOOK),
        ):  # fmt: skip
            pass
        with reclose.alone(other, BOOK):
            pass


def test_a_chain_is_not_published_across_a_period_locked_meanwhile(chain: Reclosing, proven: Warehouse) -> None:
    change = (
        "insert into ops.period_changes (book, first_date, last_date, change, reason, actor) "
        "values ('global', %s, %s, 'lock', 'audited', 'ann')"
    )
    with pytest.raises(psycopg2.Error, match=f"close {chain.closes[0].close_id} of {FIRST} is proven: publish it, or"):
        proven.execute(change, (FIRST, SECOND))
    before = state_of(proven)
    # As if it had been locked first.
    proven.execute("alter table ops.period_changes disable trigger fits_the_books")
    proven.execute(change, (SECOND, SECOND))
    with pytest.raises(psycopg2.Error, match=f"would be posted on {SECOND}, in the locked period"):
        publish(proven, chain)
    proven.execute("alter table ledger.journal disable trigger period_is_open")
    with pytest.raises(psycopg2.Error, match=f"{SECOND} lies in the locked period"):
        publish(proven, chain)
    assert state_of(proven) == before


def test_a_chain_that_is_given_up_leaves_no_trace_in_the_books(chain: Reclosing, proven: Warehouse) -> None:
    before = state_of(proven)
    with proven.connect("loader") as connection:
        assert abort(connection, chain.closes[1].close_id) == "proven"
    with pytest.raises(psycopg2.Error, match="taken over by another run"):
        publish(proven, chain)
    assert state_of(proven) == before
    mine = tuple(member.close_id for member in chain.closes)
    assert proven.query("select distinct state, published_at from ops.closes where close_id in %s", (mine,)) == [
        ("superseded", None)
    ]
    assert proven.query("select count(*) from ops.close_batches where close_id in %s", (mine,)) == [(0,)]
    assert proven.query("select state from ops.reclosings") == [("given up",)]
    # What came late is free again.
    again = reopened(proven)
    assert [member.close_id > mine[-1] for member in again.closes] == [True, True, True]
    ((late,),) = proven.query("select count(*) from ops.close_batches where close_id = %s and batch_id not in "
                              "(select batch_id from ops.close_batches where close_id <= 3)",
                              (again.closes[0].close_id,))  # fmt: skip
    assert late == 4


def test_what_is_not_whole_is_built_again(chain: Reclosing, proven: Warehouse) -> None:
    ids = [member.close_id for member in chain.closes]

    def states() -> list[str]:
        return [member.state for member in reopened(proven).closes]

    assert states() == ["proven"] * 3
    # Proven, but not to its last step; then failed, which the watch tells although it is not the newest.
    proven.execute("delete from ops.build_results where close_id = %s and step = 'monitoring'", (ids[2],))
    assert states() == ["proven", "proven", "running"]
    proven.execute("update ops.closes set state = 'failed', failure = 'the proof' where close_id = %s", (ids[1],))
    with proven.connect("loader") as connection:
        findings = close_state(connection, load_registry(), AS_OF)
    assert [f.severity for f in findings if f"the close of {SECOND} failed: the proof" in f.message] == ["fail"]
    assert states() == ["proven", "running", "running"]
    assert proven.query("select failure from ops.closes where close_id = %s", (ids[1],)) == [(None,)]
    # One was proven by other rules than the rest.
    proven.execute("update ops.closes set rules_digest = 'older' where close_id = %s", (ids[2],))
    assert states() == ["running"] * 3


def test_a_date_closed_again_over_the_same_is_the_same(chain: Reclosing, published: Warehouse) -> None:
    last = chain.closes[-1]
    with pytest.raises(CloseRefused, match="would give what stands"):
        reopened(published, THIRD)
    published.execute("update ops.closes set rules_digest = 'older' where close_id = %s", (last.close_id,))
    again = reopened(published, THIRD)
    assert [(member.parent_close_id, member.close_id > last.close_id) for member in again.closes] == [
        (chain.closes[1].close_id, True)
    ]
    reclose.rebuild(published.server(), again, published.state)
    journal = published.query("select count(*) from ledger.journal")
    assert publish(published, again) == 0
    assert published.query("select count(*) from ledger.journal") == journal
    (member,) = again.closes
    found = partition(published, member.close_id)
    assert found["reconciliation.reconciliation_items"][0] > 50
    assert found == partition(published, last.close_id)

    # Its parent was closed again: what stands for that date is what both generations booked.
    assert published.query(
        "select count(*) > 10, bool_and(is_proven), bool_or(expected_minor <> 0) from accounting.proof_clearing "
        "where close_id = %s and check_name = 'journal_to_balances'", (member.close_id,),
    ) == [(True, True, True)]  # fmt: skip


def test_no_role_books_behind_the_functions(published: Warehouse) -> None:
    for role in ("loader", "builder", "publisher", "reader", "controller"):
        for call in ("ledger.book(1)", "ledger.seal(1)", "ledger.refuse_unproven(1)"):
            with published.connect(role) as connection, connection.cursor() as cursor:
                with pytest.raises(errors.InsufficientPrivilege):
                    cursor.execute(f"select {call}")
                connection.rollback()


def run_command(warehouse: Warehouse, armed: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "TIEOUT_WAREHOUSE_DSN": warehouse.cluster.dsn(WORKING), "TIEOUT_STATE": str(warehouse.state),
        failpoints.VARIABLE: armed, "PYTHONPATH": str(Path(failpoints.__file__).parents[1]),
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "tieout.cli", "close", "reopen", str(FIRST), "--reason", "late", "--actor", "ann"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


if LONG:

    @pytest.mark.parametrize(
        ("point", "turn"),
        [
            (point, turn)
            for point in Failpoint
            if point.value.startswith("reclose.")
            for turn in {Failpoint.RECLOSE_STEP_BUILT: range(1, 10), Failpoint.RECLOSE_CLOSE_BUILT: range(1, 4)}.get(
                point, (1,)
            )
        ],
    )
    def test_a_run_that_is_killed_anywhere_ends_as_a_quiet_one(
        told: Told, chain: Reclosing, published: Warehouse, point: Failpoint, turn: int
    ) -> None:
        wanted = [partition(published, member.close_id) for member in chain.closes], published.query(BOOKED)
        published.restore(LATE)
        before = state_of(published)
        killed = run_command(published, f"{point.value}=kill@{turn}")
        assert killed.returncode == -9, killed.stderr
        if point is not Failpoint.RECLOSE_AFTER_PUBLISH:
            assert state_of(published) == before
            done = run_command(published)
            assert done.returncode == 0, done.stdout + done.stderr
        found = [partition(published, close_id) for _, close_id in published.query(POINTERS)], published.query(BOOKED)
        assert found == wanted


def test_the_command_goes_on_where_a_run_was_killed(chain: Reclosing, published: Warehouse, lines: int) -> None:
    wanted = published.query(BOOKED)
    published.restore(PROVEN)
    killed = run_command(published, f"{Failpoint.RECLOSE_BEFORE_PUBLISH.value}=kill")
    assert killed.returncode == -9, killed.stderr
    assert published.query("select max(generation) from ops.closes where state = 'published'") == [(1,)]
    done = run_command(published)
    assert done.returncode == 0, done.stderr
    said = f"re-close 1 is published: 3 closes, {FIRST} to {THIRD}; {lines} journal lines"
    assert said in " ".join(done.stdout.split())
    assert published.query(BOOKED) == wanted
    refused = run_command(published)
    assert refused.returncode == 2
    assert "would give what stands" in " ".join(refused.stderr.split())
