"""Adyen's settlement details report: one CSV, one or more batches, amounts in major units.

Columns are found by name. Gross amounts are in the gross currency (GC), fees and net in the net currency (NC), each
with a debit and a credit column of which one is filled. Types are kept exactly as written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import repeat
from operator import add, mul, sub
from pathlib import Path
from typing import NoReturn

from tieout.files.batches import Batches
from tieout.files.lines import CsvFile, Header
from tieout.files.proof import Rejected, SettlementLine, Sink, Tally, amount, as_line, bounded, or_none, refuse_amount
from tieout.files.zones import OFFSETS, ZONE_REMEDY
from tieout.money import AmountError, exact, to_minor_all

PROCESSOR = "adyen"
FEES = ("Commission (NC)", "Markup (NC)", "Scheme Fees (NC)", "Interchange (NC)")
REQUIRED = (
    "Merchant Account", "Psp Reference", "Merchant Reference", "Payment Method", "Creation Date", "TimeZone", "Type",
    "Modification Reference", "Gross Currency", "Gross Debit (GC)", "Gross Credit (GC)", "Exchange Rate",
    "Net Currency", "Net Debit (NC)", "Net Credit (NC)", *FEES, "Batch Number",
)  # fmt: skip
# Newer reports say when the line was booked; older ones only when it was created.
BOOKED = ("Booking Date", "Booking Date TimeZone")
CREATED = ("Creation Date", "TimeZone")
NET, GROSS = ("Net Debit (NC)", "Net Credit (NC)"), ("Gross Debit (GC)", "Gross Credit (GC)")
NEVER_BLANK = ("Merchant Account", "Type", "Net Currency", "Batch Number")
PAYOUT = "merchantpayout"
# A payout is announced as "TX2342222277XT batch 2, SomeAccount"; the bank statement echoes the first word.
PAYOUT_REFERENCE = re.compile(r"(TX[0-9A-Za-z]+)\b")

EPOCH, OFFSET_CHARS = datetime.fromtimestamp(0, UTC), len("+00:00")

known_rate = lru_cache(maxsize=1 << 10)(exact)
_MOMENT = r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}"
TIMESTAMP, MOMENTS = re.compile(_MOMENT, re.ASCII), re.compile(f"{_MOMENT}(?:,{_MOMENT})*+", re.ASCII)


Pick = Callable[[list[str]], tuple[str, ...]]


def recognises(header: list[str]) -> bool:
    """Whether a CSV header is that of a settlement details report."""
    return {"Merchant Account", "Type", "Net Debit (NC)", "Net Credit (NC)"} <= {name.strip() for name in header}


def read(path: Path, sink: Sink) -> Tally:
    """Read one report; rows go to the sink as ``settlement_lines``.

    :raises Rejected: a line cannot be read exactly or does not add up, or a batch differs from its payout.
    """
    tally = Tally("adyen.settlement_details", PROCESSOR, sink)
    try:
        _read(path, tally)
    except Rejected as rejected:
        rejected.reading = rejected.reading or tally.reading()
        raise
    return tally


def _read(path: Path, tally: Tally) -> None:
    source = CsvFile(path)
    line, names = source.header()
    header = Header(names, line, REQUIRED)
    if source.cut:
        raise Rejected("the file ends within its header", line=line)
    tally.headers[source.text] = None
    pick = header.picker((*REQUIRED, *BOOKED))
    batches = Batches(tally)
    for block in source.blocks():
        for lines in header.made(block, REQUIRED, BOOKED, partial(_lines, pick)):
            tally.accounts.update([settlement.processor_account for settlement in lines])
            for booked_at in {settlement.booked_at for settlement in lines}:
                tally.seen(booked_at.date())
            kinds = {kind for kind in {settlement.record_type for settlement in lines} if kind.lower() == PAYOUT}
            payouts = [settlement.line_no for settlement in lines if settlement.record_type in kinds] if kinds else ()
            batches.add_all(lines, payouts)
    batches.close()


def _lines(pick: Pick, rows: Sequence[tuple[int, list[str], str]]) -> list[SettlementLine]:
    """Lines of the report, worked on by column.

    :param pick: gives the cells of ``REQUIRED`` and ``BOOKED``, in their order.
    :raises Rejected: one of them cannot be read exactly or does not add up; of a single line the reason is its own.
    """
    numbers, records, texts = zip(*rows, strict=True)
    cells = list(map(pick, records))
    (
        accounts, originals, merchant_references, methods, created, zones, record_types, modifications, gross_names,
        gross_debits, gross_credits, rates, net_currencies, net_debits, net_credits, commissions, markups, schemes,
        interchanges, batches, booked, booked_zones,
    ) = zip(*cells, strict=True)  # fmt: skip
    if "" in accounts or "" in record_types or "" in net_currencies or "" in batches:
        _refuse_blank(cells, numbers)
    try:
        net = _signed(net_debits, net_credits, net_currencies, numbers, NET)
        fees = [0] * len(cells)
        for parts in (commissions, markups, schemes, interchanges):
            fees = list(map(add, fees, to_minor_all(parts, net_currencies, provider=PROCESSOR)))
        gross_currencies = [gross or net for gross, net in zip(gross_names, net_currencies, strict=True)]
        gross = _signed(gross_debits, gross_credits, gross_currencies, numbers, GROSS)
        exchange_rates = [known_rate(rate) if rate else None for rate in rates]
    except AmountError:
        _refuse_amounts(cells, numbers)
    bounded(max(fees), numbers[0], FEES[0])
    bounded(min(fees), numbers[0], FEES[0])
    either = list(map(add, gross_debits, gross_credits))
    for position, texts_of_gross in enumerate(either) if "" in either else ():
        if not texts_of_gross:
            # Payouts and fees name a currency too, and have no gross; a line of a payment has one.
            if originals[position] and gross_currencies[position] != net_currencies[position]:
                raise Rejected(
                    "the gross amount is missing, and the net is in another currency", line=numbers[position],
                    column=" / ".join(GROSS), expected=f"an amount in {gross_currencies[position]}",
                    found="blank cells",
                )  # fmt: skip
            gross[position] = bounded(net[position] + fees[position], numbers[position], NET[1])
            gross_currencies[position] = net_currencies[position]
    if list(map(sub, gross, fees)) != net:
        _refuse_sums(numbers, gross, fees, net, gross_currencies, net_currencies)
    psp_references = [own or original or None for own, original in zip(modifications, originals, strict=True)]
    for kind in set(record_types):
        if kind.lower() == PAYOUT:
            for position, reference in enumerate(psp_references):
                if record_types[position] == kind and reference and (match := PAYOUT_REFERENCE.match(reference)):
                    psp_references[position] = match[1]
    occurred_at = _instants(created, zones, numbers, CREATED)
    booked_at = occurred_at
    if booked.count("") < len(booked):
        booked_at = _instants(booked, booked_zones, numbers, BOOKED, occurred_at)
    columns = (
        numbers, repeat(PROCESSOR), accounts, record_types, batches, psp_references, or_none(originals),
        or_none(merchant_references), gross, gross_currencies, fees, net, net_currencies, exchange_rates,
        or_none(methods), occurred_at, booked_at, texts,
    )  # fmt: skip
    return list(map(as_line, zip(*columns)))  # noqa: B905 - one of them is endless


def _signed(
    debits: Sequence[str], credits: Sequence[str], currencies: Sequence[str], numbers: Sequence[int],
    columns: tuple[str, str],
) -> list[int]:  # fmt: skip
    """The amounts of a debit and a credit column, negative for a debit; 0 where both are blank.

    :raises AmountError: one is no exact amount.
    """
    debited, credited = (to_minor_all(texts, currencies, provider=PROCESSOR) for texts in (debits, credits))
    for column, texts, minor in zip(columns, (debits, credits), (debited, credited), strict=True):
        if min(minor) < 0:
            position = minor.index(min(minor))
            raise Rejected(
                "a sign in a debit or credit column",
                line=numbers[position],
                column=column,
                expected="an unsigned amount",
                found=texts[position],
            )
    if any(map(mul, debited, credited)):
        position = next(n for n, pair in enumerate(zip(debited, credited, strict=True)) if all(pair))
        raise Rejected(
            "debit and credit on one line",
            line=numbers[position],
            column=" / ".join(columns),
            expected="one of them",
            found=f"{debits[position]} and {credits[position]}",
        )
    return list(map(sub, credited, debited))


def _refuse_blank(cells: Sequence[tuple[str, ...]], numbers: Sequence[int]) -> NoReturn:
    for line, values in zip(numbers, cells, strict=True):
        row = dict(zip(REQUIRED, values, strict=False))
        for column in NEVER_BLANK:
            if not row[column]:
                raise Rejected("value missing", line=line, column=column)
    raise AssertionError("a blank cell was refused and has a value")


def _refuse_amounts(cells: Sequence[tuple[str, ...]], numbers: Sequence[int]) -> NoReturn:
    """Name the first amount that is not exact.

    :raises Rejected: always.
    """
    for line, values in zip(numbers, cells, strict=True):
        row = dict(zip(REQUIRED, values, strict=False))
        net_currency = row["Net Currency"]
        for columns, currency in (((*NET, *FEES), net_currency), (GROSS, row["Gross Currency"] or net_currency)):
            for column in columns:
                if row[column]:
                    amount(row[column], currency, line, column, provider=PROCESSOR)
        try:
            known_rate(row["Exchange Rate"] or "0")
        except AmountError as error:
            refuse_amount(error, line, "Exchange Rate")
    raise AssertionError("an amount was refused and is exact")


def _refuse_sums(
    numbers: Sequence[int], gross: Sequence[int], fees: Sequence[int], net: Sequence[int],
    gross_currencies: Sequence[str], net_currencies: Sequence[str],
) -> None:  # fmt: skip
    """Refuse the first line of one currency that does not add up; of two currencies none can."""
    for line, g, fee, n, gross_currency, net_currency in zip(
        numbers, gross, fees, net, gross_currencies, net_currencies, strict=True
    ):
        if gross_currency == net_currency and g - fee != n:
            raise Rejected(
                "the line does not add up",
                line=line,
                column=" / ".join(NET),
                expected=f"gross {g} less fees {fee} in minor units: {g - fee}",
                found=str(n),
            )


def _instants(
    texts: Sequence[str], zones: Sequence[str], numbers: Sequence[int], columns: tuple[str, str],
    otherwise: Sequence[datetime] | None = None,
) -> list[datetime]:  # fmt: skip
    """Local times in the zones beside them; ``otherwise`` where the text is blank.

    :raises Rejected: one cannot be read.
    """
    try:
        # Lines follow each other in time: many have the same.
        some = dict.fromkeys(texts)
        if zones.count(zones[0]) == len(zones) and MOMENTS.fullmatch(",".join(some)):
            # Written behind the time, the offset costs an eighth of what replace() takes.
            offset = EPOCH.astimezone(OFFSETS[zones[0]]).isoformat()[-OFFSET_CHARS:]
            known = {text: datetime.fromisoformat(text + offset) for text in some}
            return list(map(known.__getitem__, texts))
        return [
            _instant(text, zone) if text or otherwise is None else otherwise[position]
            for position, (text, zone) in enumerate(zip(texts, zones, strict=True))
        ]
    except (KeyError, ValueError):
        for text, zone, line in zip(texts, zones, numbers, strict=True):
            if text or otherwise is None:
                _refuse_time(text, zone, line, columns)
        raise


def _refuse_time(text: str, zone: str, line: int, columns: tuple[str, str]) -> None:
    """Refuse a time that cannot be read.

    :raises Rejected: it cannot.
    """
    if zone not in OFFSETS:
        raise Rejected(
            "unknown time zone",
            line=line,
            column=columns[1],
            expected=f"one of {', '.join(sorted(OFFSETS))}",
            found=zone,
            remedy=ZONE_REMEDY,
        )
    try:
        _instant(text, zone)
    except ValueError:
        raise Rejected(
            "not a date and time", line=line, column=columns[0], expected="YYYY-MM-DD HH:MM:SS", found=text
        ) from None


@lru_cache(maxsize=1 << 12)
def _instant(text: str, zone: str) -> datetime:
    if not TIMESTAMP.fullmatch(text):
        raise ValueError(text)
    return datetime.fromisoformat(text).replace(tzinfo=OFFSETS[zone])
