"""Business days as the seeds ``rules.books``, ``rules.calendars`` and ``rules.holidays`` declare them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from psycopg2.extensions import connection as Connection


class BusinessCalendar(NamedTuple):
    """The book's zone and reporting currency, and each currency's weekends (ISO days) and holidays."""

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
        cursor.execute("select currency, weekend_first_iso_day, weekend_second_iso_day from rules.calendars")
        weekends = {currency: frozenset(days) for currency, *days in cursor.fetchall()}
        cursor.execute("select currency, holiday from rules.holidays")
        holidays = frozenset((currency, day) for currency, day in cursor.fetchall())
    return BusinessCalendar(ZoneInfo(found[0]), found[1], weekends, holidays)
