"""The ECB's euro reference rates: the wide ``eurofxref`` CSV, one line a day, one column a currency."""

from __future__ import annotations

import re
from pathlib import Path

from tieout.files.lines import CsvFile, Header
from tieout.files.proof import FxRate, Rejected, Sink, Tally, calendar_date, refuse_amount
from tieout.money import AmountError, exact

SOURCE = "ecb"
BASE = "EUR"
NOT_QUOTED = ("N/A", "")
CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)


def recognises(header: list[str]) -> bool:
    """Whether a CSV header is that of the wide reference rates: Date, then currency codes only."""
    names = [name.strip() for name in header]
    return any(names[1:]) and names[0] == "Date" and all(CURRENCY.fullmatch(name) for name in names[1:] if name)


def read(path: Path, sink: Sink) -> Tally:
    """Read one file of rates; rows go to the sink as ``fx_rates``, one a day and currency quoted.

    :raises Rejected: a rate is no positive decimal number, a date is none or comes twice, or a line is cut.
    """
    with Tally("ecb.eurofxref", SOURCE, sink) as tally:
        _read(path, tally)
    return tally


def _read(path: Path, tally: Tally) -> None:
    source = CsvFile(path)
    records = iter(source)
    line, names = next(records)
    header = Header(names, line, ("Date",))
    if source.cut:
        raise Rejected("the file ends within its header", line=line)
    tally.headers[source.text] = None
    quoted = [(position, name) for position, name in enumerate(header.names) if name and name != "Date"]
    days = set()
    for line, cells in records:
        # The last cell is a rate where the header has no blank column at its end: a cut file could shorten it.
        cells = header.fitted(cells, line, quoted[-1][0], source.cut)
        day = calendar_date(cells[0].strip(), line, "Date")
        if day in days:
            raise Rejected("a date comes twice", line=line, column="Date", expected="each date once", found=cells[0])
        days.add(day)
        tally.seen(day)
        for position, currency in quoted:
            text = cells[position].strip()
            if text in NOT_QUOTED:
                continue
            try:
                rate = exact(text)
            except AmountError as error:
                refuse_amount(error, line, currency)
            if rate <= 0:
                raise Rejected("not a rate", line=line, column=currency, expected="a positive rate", found=text)
            tally.entries += 1
            tally.emit("fx_rates", FxRate(line, SOURCE, BASE, currency, day, rate))
    if tally.content_date is not None:
        tally.document("fx_rates", SOURCE, tally.content_date.isoformat())
