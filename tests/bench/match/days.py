"""Business days as the seeds give them: the calendars, holidays and lags that the benchmark's world lives by."""

from __future__ import annotations

import csv
from bisect import bisect_left
from datetime import date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

SEEDS = Path(__file__).parents[3] / "dbt_project" / "seeds"
ZONE = ZoneInfo("Europe/Amsterdam")
ONE_DAY = timedelta(days=1)


def seed(name: str) -> list[dict[str, str]]:
    """The rows of one of the project's seeds."""
    with (SEEDS / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# Processors of these worlds keep their fees back and invoice nothing: scenarios and the oracle show those codes.
OF_INVOICES = {"FEE_NOT_INVOICED", "INVOICE_NOT_EXPECTED"}


def codes() -> set[str]:
    """Every break code that matching gives here; what people sign for is no finding of it."""
    return {row["break_code"] for row in seed("break_codes") if row["family"] != "proof"} - OF_INVOICES


def at(day: date, second: int) -> datetime:
    """The instant this many wall-clock seconds after the local midnight that begins ``day``."""
    return datetime.combine(day, time(second // 3600, second // 60 % 60, second % 60), ZONE)


def half_even(numerator: int, denominator: int) -> int:
    """``numerator / denominator`` as an integer, ties to even; the denominator is positive."""
    quotient, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and quotient % 2):
        quotient += 1
    return quotient


class Days:
    """The closes of a world, one a weekday, and business-day arithmetic per currency.

    :param first: business date of the first close.
    :param closes: how many closes there are.
    """

    def __init__(self, first: date, closes: int) -> None:
        weekdays = (first + n * ONE_DAY for n in range(2 * closes + 7))
        self.closes = [day for day in weekdays if day.weekday() < 5][:closes]
        self._rest = {
            row["calendar"]: {int(row["weekend_first_iso_day"]), int(row["weekend_second_iso_day"])}
            for row in seed("calendars")
        }
        self._holidays = {(row["calendar"], date.fromisoformat(row["holiday"])) for row in seed("holidays")}
        self._later: dict[tuple[date, int, str], date] = {}

    def is_business_day(self, day: date, currency: str) -> bool:
        """Whether banks of ``currency`` work on ``day``."""
        return day.isoweekday() not in self._rest[currency] and (currency, day) not in self._holidays

    def add(self, day: date, count: int, currency: str) -> date:
        """The ``count``-th business day strictly after ``day``; for 0 the day itself or the next business day."""
        key = (day, count, currency)
        if key not in self._later:
            if count == 0 and self.is_business_day(day, currency):
                return day
            found = day
            left = max(count, 1)
            while left:
                found += ONE_DAY
                left -= self.is_business_day(found, currency)
            self._later[key] = found
        return self._later[key]

    def close_of(self, day: date) -> int:
        """Number of the first close on ``day`` or later; the number of closes when there is none."""
        return bisect_left(self.closes, day)

    def span(self, close: int) -> list[date]:
        """The calendar days that end with this close: the first close has one."""
        last = self.closes[close]
        first = self.closes[close - 1] + ONE_DAY if close else last
        return [first + n * ONE_DAY for n in range((last - first).days + 1)]
