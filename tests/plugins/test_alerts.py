"""Findings to incidents to the outbox: each transition told once, nothing lost, nothing said that must not be."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection

from tieout.watch.alerts import MESSAGE_CHARS_MAX, RefusedError, deliver, record, slack_text
from tieout.watch.findings import Finding, blind

MONDAY = datetime(2026, 10, 26, 5, tzinfo=UTC)
CARD = "4111111111111111"


def finding(subject: str = "stripe acct_us", severity: Any = "fail", message: str = "is late", **more: Any) -> Finding:
    given_values = {"check_name": "content_freshness", "observed": {}, "owner": "payments-data", **more}
    return Finding(subject=subject, severity=severity, message=message, **given_values)


def rows(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def outbox(connection: Connection) -> list[tuple[Any, ...]]:
    return rows(connection, "select kind, severity, sent_at is not null from ops.outbox order by message_id")


class Receiver:
    """Takes messages, unless told to fail; remembers what arrived under which key."""

    def __init__(self, *failures: BaseException | None) -> None:
        self.failures = list(failures)
        self.arrived: list[tuple[str, str]] = []
        self.lookups = 0

    def send(self, text: str, key: str) -> None:
        failure = self.failures.pop(0) if self.failures else None
        # A time-out happens after the message has arrived, every other failure before.
        if failure is None or isinstance(failure, TimeoutError):
            self.arrived.append((text, key))
        if failure is not None:
            raise failure

    def delivered(self, since: datetime) -> Iterable[str]:
        self.lookups += 1
        return [key for _, key in self.arrived]


def test_an_incident_opens_repeats_silently_escalates_and_resolves(warehouse: Connection) -> None:
    late, missing = finding(severity="warn"), finding(message="is missing")
    assert record(warehouse, [late], MONDAY) == (1, 0, 0, 0)
    assert record(warehouse, [late], MONDAY + timedelta(hours=1)) == (0, 0, 0, 1)
    assert outbox(warehouse) == [("opened", "warn", False)]

    assert record(warehouse, [missing], MONDAY + timedelta(hours=2)) == (0, 1, 0, 0)
    # Better again, but not well: still the same incident, and no second escalation when it worsens once more.
    assert record(warehouse, [late], MONDAY + timedelta(hours=3)) == (0, 0, 0, 1)
    assert record(warehouse, [missing], MONDAY + timedelta(hours=4)) == (0, 0, 0, 1)
    assert outbox(warehouse)[1:] == [("escalated", "fail", False)]

    assert record(warehouse, [finding(severity="ok")], MONDAY + timedelta(hours=5)) == (0, 0, 1, 0)
    assert outbox(warehouse)[2:] == [("resolved", "fail", False)]
    assert rows(warehouse, "select severity, message, resolved_at from ops.incidents") == [
        ("fail", "is missing", MONDAY + timedelta(hours=5))
    ]

    assert record(warehouse, [late], MONDAY + timedelta(hours=6)) == (1, 0, 0, 0)
    assert len(rows(warehouse, "select from ops.incidents")) == 2
    # The second look at the same finding was that finding.
    assert len(rows(warehouse, "select from ops.findings")) == 6


def test_a_finding_is_kept_when_it_says_something_new(warehouse: Connection) -> None:
    stored = "select severity, message, as_of, observed from ops.findings order by finding_id"
    later = MONDAY + timedelta(hours=1)
    record(warehouse, [finding(observed={"hours": 1})], MONDAY)
    record(warehouse, [finding(observed={"hours": 2}), finding("adyen")], later)
    assert rows(warehouse, stored) == [("fail", "is late", later, {"hours": 2}), ("fail", "is late", later, {})]
    seen = "select last_seen_at, finding_id from ops.incidents order by incident_id"
    assert rows(warehouse, seen) == [(later, 1), (later, 2)]
    record(warehouse, [finding(message="is missing"), finding("adyen", "warn")], later)
    assert len(rows(warehouse, stored)) == 4
    # What was said before the newest one counts as new again.
    record(warehouse, [finding()], later)
    assert len(rows(warehouse, stored)) == 5
    assert rows(warehouse, seen)[0] == (later, 5)


def test_a_check_that_no_longer_reports_a_subject_resolves_it(warehouse: Connection) -> None:
    record(warehouse, [finding("a"), finding("b")], MONDAY)
    other_check = finding("a", check_name="volume", severity="ok")
    assert record(warehouse, [finding("b"), other_check], MONDAY).resolved == 1
    assert rows(warehouse, "select subject from ops.incidents where resolved_at is null") == [("b",)]


def test_a_check_that_did_not_run_resolves_nothing(warehouse: Connection) -> None:
    record(warehouse, [finding("a")], MONDAY)
    assert record(warehouse, [finding("a", check_name="volume", severity="ok")], MONDAY).resolved == 0


def test_a_check_that_could_not_look_is_an_incident_and_resolves_nothing_else(warehouse: Connection) -> None:
    record(warehouse, [finding("a")], MONDAY)
    assert record(warehouse, [blind("content_freshness", "no table")], MONDAY) == (1, 0, 0, 0)
    assert record(warehouse, [finding("a", severity="ok")], MONDAY) == (0, 0, 2, 0)


def test_the_worst_finding_of_a_subject_counts(warehouse: Connection) -> None:
    found = [finding(severity="warn"), finding(severity="fail"), finding(severity="ok")]
    assert record(warehouse, found, MONDAY).opened == 1
    assert rows(warehouse, "select severity from ops.incidents") == [("fail",)]


def test_a_run_without_findings_or_zone_is_refused(warehouse: Connection) -> None:
    with pytest.raises(ValueError, match="no findings"):
        record(warehouse, [], MONDAY)
    with pytest.raises(ValueError, match="time zone"):
        record(warehouse, [finding()], MONDAY.replace(tzinfo=None))


def test_findings_incident_and_message_are_one_transaction(warehouse: Connection) -> None:
    rows_before = rows(warehouse, "select count(*) from ops.findings")
    with pytest.raises(psycopg2.IntegrityError):
        record(warehouse, [finding("a"), finding("b", owner=None)], MONDAY)
    warehouse.rollback()
    assert rows(warehouse, "select count(*) from ops.findings") == rows_before
    assert outbox(warehouse) == []


def test_nobody_listening_keeps_every_message(warehouse: Connection) -> None:
    record(warehouse, [finding("a"), finding("b")], MONDAY)
    assert deliver(warehouse, None, MONDAY) == (0, 0, 2, False, None)
    assert rows(warehouse, "select sum(attempts) from ops.outbox") == [(0,)]


def test_messages_leave_once_and_in_order(warehouse: Connection) -> None:
    record(warehouse, [finding("a"), finding("b")], MONDAY)
    record(warehouse, [finding("a", severity="ok"), finding("b")], MONDAY)
    receiver = Receiver()
    assert deliver(warehouse, receiver.send, MONDAY).sent == 3
    assert deliver(warehouse, receiver.send, MONDAY) == (0, 0, 0, False, None)
    assert [text.split(" ")[0] for text, _ in receiver.arrived] == ["FAIL", "FAIL", "RESOLVED"]
    assert len({key for _, key in receiver.arrived}) == 3


def test_a_failed_send_is_kept_counted_and_tried_again(warehouse: Connection) -> None:
    record(warehouse, [finding("a"), finding("b")], MONDAY)
    receiver = Receiver(ConnectionError(f"no route, card {CARD}"))
    first = deliver(warehouse, receiver.send, MONDAY)
    assert (first.sent, first.failed, first.waiting) == (0, 1, 2)
    assert first.last_error == "ConnectionError: no route, card {card 411111******1111}"
    assert rows(warehouse, "select attempts, last_error is null from ops.outbox order by 1") == [(0, True), (1, False)]
    assert deliver(warehouse, receiver.send, MONDAY).sent == 2
    assert len(receiver.arrived) == 2


def test_a_refused_message_does_not_hold_back_the_others(warehouse: Connection) -> None:
    record(warehouse, [finding("a"), finding("b")], MONDAY)
    receiver = Receiver(RefusedError("msg_too_long"))
    done = deliver(warehouse, receiver.send, MONDAY)
    assert (done.sent, done.failed, done.waiting) == (1, 1, 1)


def test_a_send_in_doubt_is_looked_up_and_arrives_once(warehouse: Connection) -> None:
    record(warehouse, [finding()], MONDAY)
    receiver = Receiver(TimeoutError("no answer"))
    assert deliver(warehouse, receiver.send, MONDAY, delivered=receiver.delivered).failed == 1
    assert receiver.lookups == 0
    assert deliver(warehouse, receiver.send, MONDAY, delivered=receiver.delivered) == (1, 0, 0, False, None)
    assert (len(receiver.arrived), receiver.lookups) == (1, 1)


def test_a_send_that_the_lookup_does_not_find_is_sent(warehouse: Connection) -> None:
    record(warehouse, [finding()], MONDAY)
    receiver = Receiver(ConnectionError("reset"))
    deliver(warehouse, receiver.send, MONDAY, delivered=receiver.delivered)
    assert deliver(warehouse, receiver.send, MONDAY, delivered=receiver.delivered).sent == 1
    assert len(receiver.arrived) == 1


def test_a_kill_between_send_and_its_note_is_in_doubt_too(warehouse: Connection) -> None:
    record(warehouse, [finding()], MONDAY)

    class Killed(BaseException):
        """As good as a kill: nothing after it runs."""

    receiver = Receiver()

    def send(text: str, key: str) -> None:
        receiver.send(text, key)
        raise Killed

    with pytest.raises(Killed):
        deliver(warehouse, send, MONDAY)
    assert rows(warehouse, "select attempts, sent_at from ops.outbox") == [(1, None)]
    assert deliver(warehouse, receiver.send, MONDAY, delivered=receiver.delivered).sent == 1
    assert len(receiver.arrived) == 1


def test_a_storm_leaves_as_one_message_and_its_end_is_told(warehouse: Connection) -> None:
    subjects = [f"account {number}" for number in range(50)]
    record(warehouse, [finding(subject) for subject in subjects], MONDAY)
    receiver = Receiver()
    done = deliver(warehouse, receiver.send, MONDAY, limit=20)
    assert (done.sent, done.waiting, done.summarised) == (50, 0, True)
    (text, _), *none = receiver.arrived
    assert none == []
    assert text.startswith("50 alerts at once")
    assert "50 x opened · content_freshness" in text
    assert len(text) < 4000

    record(warehouse, [finding(subject, severity="ok") for subject in subjects], MONDAY)
    deliver(warehouse, receiver.send, MONDAY, limit=20)
    assert "50 x resolved · content_freshness" in receiver.arrived[1][0]


def test_a_storm_in_doubt_is_not_told_twice_and_new_messages_are(warehouse: Connection) -> None:
    record(warehouse, [finding(str(number)) for number in range(5)], MONDAY)
    receiver = Receiver(TimeoutError("no answer"))
    deliver(warehouse, receiver.send, MONDAY, limit=3, delivered=receiver.delivered)
    record(warehouse, [finding(str(number)) for number in range(6)], MONDAY)
    done = deliver(warehouse, receiver.send, MONDAY, limit=3, delivered=receiver.delivered)
    assert (done.sent, done.waiting, done.summarised) == (6, 0, False)
    assert len(receiver.arrived) == 2
    assert "content_freshness · 5:" in receiver.arrived[1][0]


def test_two_deliverers_do_not_send_the_same_message(warehouse: Connection) -> None:
    record(warehouse, [finding()], MONDAY)
    receiver, second = Receiver(), psycopg2.connect(warehouse.dsn)

    def send(text: str, key: str) -> None:
        # While this one sends, the other one comes.
        assert deliver(second, receiver.send, MONDAY).sent == 0
        receiver.send(text, key)

    try:
        assert deliver(warehouse, send, MONDAY).sent == 1
    finally:
        second.close()
    assert len(receiver.arrived) == 1


def test_a_limit_below_one_is_refused(warehouse: Connection) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        deliver(warehouse, None, MONDAY, limit=0)


def test_what_is_stored_and_sent_holds_no_card_number_and_no_command(warehouse: Connection) -> None:
    hostile = f"<!channel> <@U1> a&b {CARD}"
    record(
        warehouse,
        [finding(f"file {CARD}.csv", message=hostile, observed={"line": [f"pan {CARD}"], CARD: 1})],
        MONDAY,
    )
    receiver = Receiver()
    deliver(warehouse, receiver.send, MONDAY)
    text = receiver.arrived[0][0]
    assert "&lt;!channel&gt; &lt;@U1&gt; a&amp;b {card 411111******1111}" in text
    assert "<" not in text
    stored = rows(
        warehouse,
        "select string_agg(t, ' ') from (select f::text from ops.findings f union all select i::text "
        "from ops.incidents i union all select o::text from ops.outbox o) as everything (t)",
    )[0][0]
    assert CARD not in stored


def test_a_long_message_is_cut(warehouse: Connection) -> None:
    record(warehouse, [finding(message="x" * 10_000)], MONDAY)
    receiver = Receiver()
    deliver(warehouse, receiver.send, MONDAY)
    assert len(receiver.arrived[0][0]) < MESSAGE_CHARS_MAX + 50


@given(st.text())
def test_slack_text_holds_no_command_and_can_be_read_back(text: str) -> None:
    escaped = slack_text(text)
    assert "<" not in escaped
    assert ">" not in escaped
    assert escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == text
