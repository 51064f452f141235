"""Business days as the seeds ``rules.books``, ``rules.calendars`` and ``rules.holidays`` declare them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from psycopg2.extensions import connection as Connection


class BusinessCalendar(NamedTuple):
    """The book's zone and reporting currency, and each calendar's weekends (ISO days) and holidays."""

    zone: ZoneInfo
    currency: str
    weekends: Mapping[str, frozenset[int]]
    holidays: frozenset[tuple[str, date]]

    def open_on(self, currency: str, day: date) -> bool:
        """Whether the day is a business day of the currency.

        :raises KeyError: the currency has no calendar.
        """
        return day.isoweekday() not in self.weekends[currency] and (currency, day) not in self.holidays

    def last_due_day(self, as_of: datetime, due_hours: int) -> date:
        """The latest local day that ended at least ``due_hours`` hours before ``as_of``."""
        return (as_of - timedelta(hours=due_hours)).astimezone(self.zone).date() - timedelta(days=1)

    def days_missing(self, currencies: Iterable[str], newest: date, due: date) -> list[date]:
        """Days after ``newest`` up to ``due`` that are business days of any of the currencies.

        Currencies without a calendar are left out; when none is left, the reporting currency's counts.
        """
        known = [currency for currency in currencies if currency in self.weekends] or [self.currency]
        days = (newest + timedelta(days=number) for number in range(1, (due - newest).days + 1))
        return [day for day in days if any(self.open_on(currency, day) for currency in known)]

    def open_hours(self, since: datetime, until: datetime) -> float:
        """Hours from ``since`` to ``until`` without the weekends and holidays of the reporting currency."""
        # Times of one zone subtract as wall clock: in UTC a day of 23 or 25 hours counts as it is.
        since, until = since.astimezone(UTC), until.astimezone(UTC)
        seconds = (until - since).total_seconds()
        day = since.astimezone(self.zone).date()
        while (start := self._midnight(day)) < until:
            if not self.open_on(self.currency, day):
                end = self._midnight(day + timedelta(days=1))
                seconds -= (min(end, until) - max(start, since)).total_seconds()
            day += timedelta(days=1)
        return seconds / 3600

    def _midnight(self, day: date) -> datetime:
        return datetime(day.year, day.month, day.day, tzinfo=self.zone).astimezone(UTC)


def read_calendar(connection: Connection, book: str) -> BusinessCalendar:
    """The calendar of a book.

    :raises LookupError: the book is not in ``rules.books``.
    """
    with connection.cursor() as cursor:
        cursor.execute("select zone, reporting_currency from rules.books where book = %s", (book,))
        found = cursor.fetchone()
        if found is None:
            raise LookupError(f"rules.books has no book {book}: run dbt seed")
        cursor.execute("select calendar, weekend_first_iso_day, weekend_second_iso_day from rules.calendars")
        weekends = {calendar: frozenset(days) for calendar, *days in cursor.fetchall()}
        cursor.execute("select calendar, holiday from rules.holidays")
        holidays = frozenset((calendar, day) for calendar, day in cursor.fetchall())
    return BusinessCalendar(ZoneInfo(found[0]), found[1], weekends, holidays)


class DateRefused(ValueError):
    """A date or time that was asked for is none, or cannot be worked on; the message says what can be asked for."""


def parse_date(value: Any, name: str) -> date | None:
    """An ISO date, None for an empty value.

    :raises DateRefused: it is no date.
    """
    if value in (None, "", "None"):
        return None
    try:
        return date.fromisoformat(str(value))
    except ValueError as error:
        raise DateRefused(f"{name} must be a date such as 2026-10-28, got {str(value)[:40]!r}") from error


def announced_dates(extras: Iterable[Mapping[str, Any]], book: str) -> list[date]:
    """The business dates that asset events carry for a book, each once, in order; at least one.

    :raises DateRefused: an event carries what is no date, or none carries any.
    """
    found = (
        parse_date(extra.get("business_date"), "business_date of the asset event")
        for extra in extras
        if extra.get("book", book) == book
    )
    dates = sorted({day for day in found if day is not None})
    if not dates:
        raise DateRefused(
            "no business date: trigger the run with the parameter business_date, or let `ingest` trigger it"
        )
    return dates


def parse_moment(value: Any, name: str) -> datetime | None:
    """An ISO date and time, None for an empty value.

    :raises DateRefused: it is no time.
    """
    if value in (None, "", "None"):
        return None
    try:
        return datetime.fromisoformat(str(value))
    except ValueError as error:
        example = "2026-10-19T00:00:00+02:00"
        raise DateRefused(f"{name} must be a time such as {example}, got {str(value)[:40]!r}") from error


def refuse_unended(day: date, zone: tzinfo, as_of: datetime) -> None:
    """A day that goes on, or has not come, cannot be loaded or closed as a whole: a slip of the pen would stand.

    :raises DateRefused: the day has not ended at ``as_of``.
    """
    today = as_of.astimezone(zone).date()
    if day >= today:
        raise DateRefused(
            f"business_date {day} has not ended: the clock says {as_of.astimezone(zone):%Y-%m-%d %H:%M} ({zone}). "
            f"Ask for {today - timedelta(days=1)} or an earlier date"
            " (in the sandbox, `tieout sandbox advance` moves the clock)"
        )


def asked_interval(
    zone: ZoneInfo, as_of: datetime, asked_at: datetime, business_date: Any, interval_start: Any
) -> tuple[date, datetime, datetime]:
    """Business date and its interval ``[start, next local midnight)`` in the zone.

    Without a date it is the day before ``asked_at``; without a start, the local midnight the day begins with. A start
    without zone is local time.

    :raises DateRefused: a value is no date or time, the interval is empty, or the day has not ended at ``as_of``.
    """
    day = parse_date(business_date, "business_date") or asked_at.astimezone(zone).date() - timedelta(days=1)
    end = datetime.combine(day + timedelta(days=1), datetime.min.time(), zone)
    start = parse_moment(interval_start, "interval_start") or datetime.combine(day, datetime.min.time(), zone)
    if start.tzinfo is None:
        start = start.replace(tzinfo=zone)
    if start >= end:
        raise DateRefused(f"interval_start {start.isoformat()} lies after the end of {day}, {end.isoformat()}")
    refuse_unended(day, zone, as_of)
    return day, start, end
