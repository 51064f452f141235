"""Locked periods of a book: nothing is posted, published or closed again in one.

One person locks a period, two people unlock it. The database refuses; what comes late is booked in the open period,
with its own value date.
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import date, datetime

from psycopg2.errors import RaiseException
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from tieout.business_days import read_calendar
from tieout.card_numbers import redact
from tieout.landing.arrivals import storable

MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


class PeriodRefused(RuntimeError):
    """The period cannot be locked or unlocked as asked; the message says why."""


@dataclass(frozen=True)
class Period:
    """A period that was locked; ``unlock_signed_by`` are those who signed for unlocking it since."""

    book: str
    first_date: date
    last_date: date
    state: str
    actor: str
    reason: str
    changed_at: datetime
    unlock_signed_by: tuple[str, ...]


def month(text: str) -> tuple[date, date]:
    """First and last date of a month.

    :raises PeriodRefused: the text is none.
    """
    found = MONTH.fullmatch(text)
    if found is None:
        raise PeriodRefused(f"a month is written as 2026-10, not {text!r}")
    year, number = int(found[1]), int(found[2])
    return date(year, number, 1), date(year, number, monthrange(year, number)[1])


def list_periods(connection: Connection, book: str | None = None) -> list[Period]:
    """Every period that was ever locked, of one book or of all, in their order."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "select book, first_date, last_date, state, actor, reason, changed_at, unlock_signed_by from ops.periods "
            "where %(book)s::text is null or book = %(book)s order by book, first_date",
            {"book": book},
        )
        return [
            Period(book, first, last, state, actor, reason, changed_at, tuple(signed))
            for book, first, last, state, actor, reason, changed_at, signed in cursor.fetchall()
        ]


def lock(connection: Connection, book: str, first_date: date, last_date: date, reason: str, actor: str) -> None:
    """Lock a period whose every business day is published, and commit.

    :raises PeriodRefused: it is not closed to its end, or locked already.
    """
    with connection:
        calendar = read_calendar(connection, book)
        with connection.cursor() as cursor:
            cursor.execute("select max(business_date) from ops.published where book = %s", (book,))
            ((head,),) = cursor.fetchall()
        missing = calendar.days_missing([calendar.currency], head, last_date) if head is not None else [last_date]
        if missing:
            raise PeriodRefused(
                f"book {book} is published up to {head}: close it up to {missing[-1]} before the period to {last_date} "
                "is locked"
            )
    _change(connection, "lock", book, first_date, last_date, reason, actor)


def unlock(connection: Connection, book: str, first_date: date, last_date: date, reason: str, actor: str) -> Period:
    """Sign for unlocking a period, and commit; with the second person's signature it is open.

    :raises PeriodRefused: it is not locked, or this person signed already.
    """
    _change(connection, "unlock", book, first_date, last_date, reason, actor)
    return next(p for p in list_periods(connection, book) if (p.first_date, p.last_date) == (first_date, last_date))


def locked_period(cursor: Cursor, book: str, first: date, last: date | None = None) -> tuple[date, date] | None:
    """The first locked period that has a date from ``first`` to ``last``; without ``last``, from ``first`` on."""
    cursor.execute(
        "select first_date, last_date from ops.periods where book = %s and state = 'locked' and last_date >= %s "
        "and first_date <= coalesce(%s, 'infinity'::date) order by first_date limit 1",
        (book, first, last),
    )
    return cursor.fetchone()


def _change(
    connection: Connection, change: str, book: str, first_date: date, last_date: date, reason: str, actor: str
) -> None:
    for what, text in (("a reason", reason), ("the name of who decides", actor)):
        if not text.strip():
            raise PeriodRefused(f"to {change} a period needs {what}: it is kept for good")
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "insert into ops.period_changes (book, first_date, last_date, change, reason, actor) "
                "values (%s, %s, %s, %s, %s, %s)",
                (book, first_date, last_date, change, redact(storable(reason.strip())), actor.strip()),
            )
    except RaiseException as error:
        raise PeriodRefused(str(error.diag.message_primary)) from None
