"""Findings -> incidents -> outbox -> a receiver such as Slack.

Findings, incidents and the messages they cause are written in one transaction, so that an incident
without a message, or a message without an incident, cannot exist. Delivery is a second step: it may
fail, be killed or be repeated; what was not delivered stays in the outbox and is tried again.

An incident is open per (check, subject). Its severity is the worst it has reached: it escalates from
warn to fail once, and ends only by being resolved. So each transition happens, and is told, once.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from tieout.card_numbers import redact
from tieout.watch.findings import ITSELF, Finding

# One lock number for all who write or empty the outbox (an arbitrary constant of this application).
_OUTBOX_LOCK = 7_404_001
_DELIVERY_LOCK = 7_404_002

# Slack cuts a message at 4,000 characters; escaping may lengthen the text.
MESSAGE_CHARS_MAX = 2_000
SUMMARY_SUBJECTS_MAX = 10
_RANK = {"ok": 0, "warn": 1, "fail": 2}
_KEY = re.compile(r"tieout-([0-9]{1,18})-([0-9]{1,18})")

Send = Callable[[str, str], None]
Delivered = Callable[[datetime], Iterable[str]]


class RefusedError(RuntimeError):
    """The receiver answered that it does not take this message; others may still be taken."""


class Recorded(NamedTuple):
    """What one run of the checks changed, in numbers of incidents."""

    opened: int
    escalated: int
    resolved: int
    still_open: int


class Delivery(NamedTuple):
    """What one delivery did, in numbers of outbox messages."""

    sent: int
    failed: int
    waiting: int
    summarised: bool
    last_error: str | None


def slack_text(text: str) -> str:
    """The text as Slack shows it literally: no mention, link or channel call can come out of it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def record(connection: Connection, findings: Sequence[Finding], as_of: datetime) -> Recorded:
    """Store the findings, move the incidents, enqueue one message per transition; all or nothing.

    A finding that says what the newest one on its subject said is that one, looked at again: the history holds
    what changed.

    A check that ran resolves those of its incidents it no longer reports. A check that could not
    look (its finding's subject is ``ITSELF``) resolves nothing.

    :param findings: of one run of the checks; several on one subject count as the worst of them.
    :param as_of: the business clock of the run, with time zone.
    :raises ValueError: no findings at all, which is no run, or a time without zone.
    """
    if not findings:
        raise ValueError("no findings to record: every check that runs reports at least one")
    if as_of.tzinfo is None:
        raise ValueError(f"as_of needs a time zone, got {as_of.isoformat()}")
    counts: Counter[str] = Counter()
    with connection, connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(%s)", (_OUTBOX_LOCK,))
        worst: dict[tuple[str, str], tuple[Finding, int]] = {}
        for finding in map(_redacted, findings):
            number = _store(cursor, finding, as_of)
            known = worst.get((finding.check_name, finding.subject))
            if known is None or _RANK[finding.severity] > _RANK[known[0].severity]:
                worst[finding.check_name, finding.subject] = (finding, number)
        blind = {check for check, subject in worst if subject == ITSELF and worst[check, subject][0].severity == "fail"}
        ran = {check for check, _ in worst}

        cursor.execute(
            "select incident_id, check_name, subject, severity, owner, opened_at from ops.incidents "
            "where resolved_at is null order by incident_id for update"
        )
        still: set[tuple[str, str]] = set()
        for incident, check, subject, severity, owner, opened_at in cursor.fetchall():
            now = worst.get((check, subject))
            if now is not None and now[0].severity != "ok":
                still.add((check, subject))
                counts[_continue(cursor, incident, severity, now[0], now[1], as_of)] += 1
            elif check in ran and (now is not None or check not in blind):
                cursor.execute(
                    "update ops.incidents set resolved_at = %s, last_seen_at = %s where incident_id = %s",
                    (as_of, as_of, incident),
                )
                text = f"over; it was open since {opened_at:%Y-%m-%d %H:%M %Z}. Owner: {owner}"
                _enqueue(cursor, incident, "resolved", severity, f"RESOLVED · {check} · {subject}: {text}")
                counts["resolved"] += 1
        for key, (finding, number) in worst.items():
            if finding.severity != "ok" and key not in still:
                _open(cursor, finding, number, as_of)
                counts["opened"] += 1
    return Recorded(counts["opened"], counts["escalated"], counts["resolved"], counts["still_open"])


def _redacted(finding: Finding) -> Finding:
    return finding._replace(
        subject=redact(finding.subject)[:200],
        message=redact(finding.message)[:MESSAGE_CHARS_MAX],
        observed=_redacted_json(finding.observed),
    )


def _redacted_json(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(str(name)): _redacted_json(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redacted_json(one) for one in value]
    return value


def _store(cursor: Cursor, finding: Finding, as_of: datetime) -> int:
    observed = json.dumps(finding.observed, default=str)
    cursor.execute(
        "update ops.findings set as_of = %s, observed = %s where finding_id = "
        "(select max(finding_id) from ops.findings where check_name = %s and subject = %s) "
        "and severity = %s and message = %s returning finding_id",
        (as_of, observed, finding.check_name, finding.subject, finding.severity, finding.message),
    )
    if cursor.rowcount:
        return _one_number(cursor)
    cursor.execute(
        "insert into ops.findings (check_name, subject, severity, message, observed, as_of) "
        "values (%s, %s, %s, %s, %s, %s) returning finding_id",
        (finding.check_name, finding.subject, finding.severity, finding.message, observed, as_of),
    )
    return _one_number(cursor)


def _open(cursor: Cursor, finding: Finding, number: int, as_of: datetime) -> None:
    cursor.execute(
        "insert into ops.incidents "
        "(check_name, subject, severity, message, owner, opened_at, last_seen_at, finding_id) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s) returning incident_id",
        (
            finding.check_name, finding.subject, finding.severity, finding.message, finding.owner,
            as_of, as_of, number,
        ),
    )  # fmt: skip
    _enqueue(cursor, _one_number(cursor), "opened", finding.severity, _body(finding))


def _continue(cursor: Cursor, incident: int, severity: str, finding: Finding, number: int, as_of: datetime) -> str:
    escalates = _RANK[finding.severity] > _RANK[severity]
    cursor.execute(
        "update ops.incidents set severity = %s, message = %s, last_seen_at = %s, finding_id = %s "
        "where incident_id = %s",
        (finding.severity if escalates else severity, finding.message, as_of, number, incident),
    )
    if escalates:
        _enqueue(cursor, incident, "escalated", finding.severity, _body(finding))
    return "escalated" if escalates else "still_open"


def _body(finding: Finding) -> str:
    return f"{finding.severity.upper()} · {finding.check_name} · {finding.subject}: {finding.message}. " + (
        f"Owner: {finding.owner}"
    )


def _enqueue(cursor: Cursor, incident: int, kind: str, severity: str, body: str) -> None:
    cursor.execute(
        "insert into ops.outbox (incident_id, kind, severity, body) values (%s, %s, %s, %s)",
        (incident, kind, severity, f"{body[:MESSAGE_CHARS_MAX]} (incident {incident})"),
    )


def _one_number(cursor: Cursor) -> int:
    row = cursor.fetchone()
    if row is None:
        raise RuntimeError("the database returned no number for a row it inserted")
    return int(row[0])


class _Message(NamedTuple):
    message_id: int
    kind: str
    severity: str
    body: str
    check_name: str
    subject: str
    attempts: int
    enqueued_at: datetime


def deliver(
    connection: Connection,
    send: Send | None,
    as_of: datetime,
    limit: int = 20,
    delivered: Delivered | None = None,
) -> Delivery:
    """Hand what the outbox holds to ``send``, oldest first; one caller at a time, the others get nothing to do.

    More than ``limit`` messages are one storm and leave as one summary. An attempt is written down
    before it is made, so a message that was tried is known to be in doubt after a kill or a time-out:
    it is looked up by key before it is sent again. Without a look-up it may arrive twice, never not at all.

    :param send: ``send(text, key)`` returns when the receiver has the text. ``RefusedError`` skips one message,
        any other error ends this delivery. None: nobody listens, everything is kept.
    :param limit: messages sent one by one, at least 1.
    :param delivered: ``delivered(since)`` lists the keys the receiver got since then.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    if send is None:
        return Delivery(0, 0, _waiting(connection), False, None)
    with _only_deliverer(connection) as alone:
        if not alone:
            return Delivery(0, 0, _waiting(connection), False, None)
        pending = _pending(connection)
        tried = [message for message in pending if message.attempts]
        sent = 0
        if tried and delivered is not None:
            arrived = _arrived(tried, delivered(min(message.enqueued_at for message in tried)))
            _mark_sent(connection, arrived)
            sent += len(arrived)
            pending = [message for message in pending if message.message_id not in arrived]
        storm = len(pending) > limit
        parcels = [pending] if storm else [[message] for message in pending]
        failed, last_error = 0, None
        for parcel in parcels:
            numbers = [message.message_id for message in parcel]
            _mark_tried(connection, numbers)
            try:
                text = _summary(parcel, as_of) if storm else parcel[0].body
                send(slack_text(text), f"tieout-{min(numbers)}-{max(numbers)}")
            except Exception as error:
                last_error = redact(f"{type(error).__name__}: {error}")[:500]
                _mark_failed(connection, numbers, last_error)
                failed += len(parcel)
                if not isinstance(error, RefusedError):
                    break
            else:
                _mark_sent(connection, numbers)
                sent += len(parcel)
        return Delivery(sent, failed, _waiting(connection), storm, last_error)


@contextmanager
def _only_deliverer(connection: Connection) -> Any:
    # A session lock, not row locks: it must outlive the commits between an attempt and its outcome,
    # and it goes away with the connection when its owner is killed.
    with connection, connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_lock(%s)", (_DELIVERY_LOCK,))
        row = cursor.fetchone()
    alone = bool(row and row[0])
    try:
        yield alone
    finally:
        if alone and not connection.closed:
            with connection, connection.cursor() as cursor:
                cursor.execute("select pg_advisory_unlock(%s)", (_DELIVERY_LOCK,))


def _pending(connection: Connection) -> list[_Message]:
    with connection, connection.cursor() as cursor:
        # Whoever is enqueuing commits first: a summary's key range then holds no number it did not tell.
        cursor.execute("select pg_advisory_xact_lock(%s)", (_OUTBOX_LOCK,))
        cursor.execute(
            "select o.message_id, o.kind, o.severity, o.body, i.check_name, i.subject, o.attempts, o.enqueued_at "
            "from ops.outbox o join ops.incidents i using (incident_id) "
            "where o.sent_at is null order by o.message_id for update of o skip locked"
        )
        return [_Message(*row) for row in cursor.fetchall()]


def _arrived(tried: Sequence[_Message], keys: Iterable[str]) -> list[int]:
    ranges = [(int(key[1]), int(key[2])) for key in map(_KEY.fullmatch, keys) if key]
    return [m.message_id for m in tried if any(first <= m.message_id <= last for first, last in ranges)]


def _summary(messages: Sequence[_Message], as_of: datetime) -> str:
    by_check = Counter((message.kind, message.check_name) for message in messages)
    lines = [f"{len(messages)} alerts at once, as of {as_of:%Y-%m-%d %H:%M %Z}. All of them: page Tieout in Airflow."]
    lines += [f"{number} x {kind} · {check}" for (kind, check), number in by_check.most_common(SUMMARY_SUBJECTS_MAX)]
    worst = sorted(messages, key=lambda message: -_RANK.get(message.severity, 0))[:SUMMARY_SUBJECTS_MAX]
    lines += [f"- {message.body[:150]}" for message in worst]
    return "\n".join(lines)


def _mark_tried(connection: Connection, numbers: list[int]) -> None:
    with connection, connection.cursor() as cursor:
        cursor.execute("update ops.outbox set attempts = attempts + 1 where message_id = any(%s)", (numbers,))


def _mark_failed(connection: Connection, numbers: list[int], error: str) -> None:
    with connection, connection.cursor() as cursor:
        cursor.execute("update ops.outbox set last_error = %s where message_id = any(%s)", (error, numbers))


def _mark_sent(connection: Connection, numbers: list[int]) -> None:
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "update ops.outbox set sent_at = clock_timestamp(), last_error = null where message_id = any(%s)",
            (numbers,),
        )


def _waiting(connection: Connection) -> int:
    with connection, connection.cursor() as cursor:
        cursor.execute("select count(*) from ops.outbox where sent_at is null")
        return _one_number(cursor)
