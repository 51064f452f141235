"""Adyen's settlement details report: one CSV, one or more batches, amounts in major units.

Columns are found by name. Gross amounts are in the gross currency (GC), fees and net in the net currency (NC), each
with a debit and a credit column of which one is filled. Types are kept exactly as written.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

from tieout.files.batches import Batches
from tieout.files.lines import CsvFile, Header
from tieout.files.proof import Rejected, SettlementLine, Sink, Tally, amount, bounded, refuse_amount
from tieout.files.zones import OFFSETS, ZONE_REMEDY
from tieout.money import AmountError, exact

PROCESSOR = "adyen"
FEES = ("Commission (NC)", "Markup (NC)", "Scheme Fees (NC)", "Interchange (NC)")
REQUIRED = (
    "Merchant Account", "Psp Reference", "Merchant Reference", "Payment Method", "Creation Date", "TimeZone", "Type",
    "Modification Reference", "Gross Currency", "Gross Debit (GC)", "Gross Credit (GC)", "Exchange Rate",
    "Net Currency", "Net Debit (NC)", "Net Credit (NC)", *FEES, "Batch Number",
)  # fmt: skip
# Newer reports say when the line was booked; older ones only when it was created.
BOOKED = ("Booking Date", "Booking Date TimeZone")
PAYOUT = "merchantpayout"
# A payout is announced as "TX2342222277XT batch 2, SomeAccount"; the bank statement echoes the first word.
PAYOUT_REFERENCE = re.compile(r"(TX[0-9A-Za-z]+)\b")

TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}", re.ASCII)


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
    records = iter(source)
    line, names = next(records)
    header = Header(names, line, REQUIRED)
    if source.cut:
        raise Rejected("the file ends within its header", line=line)
    tally.headers[source.text] = None
    last_needed = max(header.positions[name] for name in REQUIRED)
    batches = Batches(tally)
    for line, cells in records:
        row = dict(zip(header.names, header.fitted(cells, line, last_needed, source.cut), strict=True))
        settlement = _line(row, line, source.text)
        tally.accounts.add(settlement.processor_account)
        tally.seen(settlement.booked_at.date())
        batches.add(settlement, settlement.record_type.lower() == PAYOUT)
    batches.close()


def _line(row: dict[str, str], line: int, record: str) -> SettlementLine:
    for column in ("Merchant Account", "Type", "Net Currency", "Batch Number"):
        if not row[column]:
            raise Rejected("value missing", line=line, column=column)
    net_currency = row["Net Currency"]
    net = _signed(row, "Net Debit (NC)", "Net Credit (NC)", net_currency, line) or 0
    fee = sum(_amount(row[column], net_currency, line, column) for column in FEES if row[column])
    gross_currency = row["Gross Currency"] or net_currency
    gross = _signed(row, "Gross Debit (GC)", "Gross Credit (GC)", gross_currency, line)
    if gross is None:
        gross, gross_currency = bounded(net + fee, line, "Net Credit (NC)"), net_currency
    elif gross_currency == net_currency and gross - fee != net:
        raise Rejected(
            "the line does not add up",
            line=line,
            column="Net Debit (NC) / Net Credit (NC)",
            expected=f"gross {gross} less fees {fee} in minor units: {gross - fee}",
            found=str(net),
        )
    record_type = row["Type"]
    psp_reference = row["Modification Reference"] or row["Psp Reference"] or None
    if record_type.lower() == PAYOUT and psp_reference and (match := PAYOUT_REFERENCE.match(psp_reference)):
        psp_reference = match[1]
    occurred_at = _timestamp(row, "Creation Date", "TimeZone", line)
    return SettlementLine(
        line_no=line,
        processor=PROCESSOR,
        processor_account=row["Merchant Account"],
        record_type=record_type,
        batch_reference=row["Batch Number"],
        psp_reference=psp_reference,
        original_psp_reference=row["Psp Reference"] or None,
        merchant_reference=row["Merchant Reference"] or None,
        gross_minor=gross,
        gross_currency=gross_currency,
        fee_minor=bounded(fee, line, "Commission (NC)"),
        net_minor=net,
        net_currency=net_currency,
        exchange_rate=_rate(row["Exchange Rate"], line),
        payment_method=row["Payment Method"] or None,
        occurred_at=occurred_at,
        booked_at=_timestamp(row, *BOOKED, line) if row.get(BOOKED[0]) else occurred_at,
        record=record,
    )


def _amount(text: str, currency: str, line: int, column: str) -> int:
    return amount(text, currency, line, column, provider=PROCESSOR)


def _signed(row: dict[str, str], debit: str, credit: str, currency: str, line: int) -> int | None:
    """The amount of a debit and a credit column, negative for a debit; None if both are blank."""
    if not row[debit] and not row[credit]:
        return None
    sides = {column: _amount(row[column], currency, line, column) if row[column] else 0 for column in (debit, credit)}
    for column, value in sides.items():
        if value < 0:
            raise Rejected(
                "a sign in a debit or credit column",
                line=line,
                column=column,
                expected="an unsigned amount",
                found=row[column],
            )
    if sides[debit] and sides[credit]:
        raise Rejected(
            "debit and credit on one line",
            line=line,
            column=f"{debit} / {credit}",
            expected="one of them",
            found=f"{row[debit]} and {row[credit]}",
        )
    return sides[credit] - sides[debit]


def _rate(text: str, line: int) -> Decimal | None:
    try:
        return exact(text) if text else None
    except AmountError as error:
        refuse_amount(error, line, "Exchange Rate")


def _timestamp(row: dict[str, str], column: str, zone_column: str, line: int) -> datetime:
    zone = row.get(zone_column, "")
    if zone not in OFFSETS:
        raise Rejected(
            "unknown time zone",
            line=line,
            column=zone_column,
            expected=f"one of {', '.join(sorted(OFFSETS))}",
            found=zone,
            remedy=ZONE_REMEDY,
        )
    try:
        return _instant(row[column], zone)
    except ValueError:
        raise Rejected(
            "not a date and time", line=line, column=column, expected="YYYY-MM-DD HH:MM:SS", found=row[column]
        ) from None


@lru_cache(maxsize=1 << 12)
def _instant(text: str, zone: str) -> datetime:
    if not TIMESTAMP.fullmatch(text):
        raise ValueError(text)
    return datetime.fromisoformat(text).replace(tzinfo=OFFSETS[zone])
