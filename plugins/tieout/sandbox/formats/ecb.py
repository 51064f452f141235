"""The ECB's euro foreign exchange reference rates: a wide CSV file with the day's row."""

from __future__ import annotations

from datetime import date

from tieout.sandbox.rates import published

COLUMNS = (
    "USD", "JPY", "GBP", "SEK", "NZD", "CHF", "CZK", "DKK", "HUF", "PLN", "RON", "NOK", "RUB", "AUD", "CAD", "CNY",
    "HKD", "INR", "SGD", "ZAR",
)  # fmt: skip


def file_name(day: date) -> str:
    """The file's name."""
    return f"eurofxref_{day:%Y%m%d}.csv"


def render(day: date) -> str | None:
    """The file of ``day``, or None when no rates were published that day."""
    currencies, by_date = published()
    if day not in by_date:
        return None
    row = dict(zip(currencies, by_date[day], strict=True))
    # The real file ends every line with a comma too.
    return f"Date,{','.join(COLUMNS)},\n{day},{','.join(row[currency] for currency in COLUMNS)},\n"
