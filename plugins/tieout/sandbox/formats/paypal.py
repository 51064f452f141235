"""PayPal's settlement report (STL, version 9): one file an account and day, amounts in hundredths of every currency."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from tieout.sandbox.days import ZONE, at, starts_at
from tieout.sandbox.formats import Line
from tieout.sandbox.market import EXPONENTS

COLUMNS = (
    "Transaction ID", "Invoice ID", "PayPal Reference ID", "PayPal Reference ID Type", "Transaction Event Code",
    "Transaction Initiation Date", "Transaction Completion Date", "Transaction Debit or Credit",
    "Gross Transaction Amount", "Gross Transaction Currency", "Fee Debit or Credit", "Fee Amount", "Fee Currency",
    "Custom Field", "Consumer ID", "Payment Tracking ID", "Store ID", "Bank Reference ID",
    "Credit Transactional Fee", "Credit Promotional Fee", "Credit Term",
)  # fmt: skip

EVENT_CODES = {
    "capture": "T0006",
    "refund": "T1107",
    "chargeback": "T1201",
    "chargeback_reversed": "T1202",
    "dispute_fee": "T0106",
    # A code outside every group that PayPal lists.
    "unmapped": "T9907",
}
WITHDRAWAL = "T0400"


@dataclass(slots=True)
class Totals:
    """What the footers prove, in minor units of one currency."""

    gross_credit: int = 0
    gross_debit: int = 0
    fee_credit: int = 0
    fee_debit: int = 0

    def add(self, gross_minor: int, fee_minor: int) -> None:
        """Take one line in."""
        if gross_minor < 0:
            self.gross_debit -= gross_minor
        else:
            self.gross_credit += gross_minor
        if fee_minor < 0:
            self.fee_credit -= fee_minor
        else:
            self.fee_debit += fee_minor

    @property
    def net_minor(self) -> int:
        """What is left of the day."""
        return self.gross_credit - self.gross_debit + self.fee_credit - self.fee_debit


def file_name(account: str, booked_on: date) -> str:
    """The report's name: date of the report, number of the file, version of the layout."""
    return f"STL-{booked_on:%Y%m%d}.01.009.{account}.csv"


def hundredths(minor: int, currency: str) -> int:
    """PayPal states every currency with two decimals, also those that have none."""
    return abs(minor) * (1 if EXPONENTS[currency] == 2 else 100)


def _clock(instant: datetime) -> str:
    return instant.astimezone(ZONE).strftime("%Y/%m/%d %H:%M:%S %z")


def header(account: str, booked_on: date) -> str:
    """Everything above the first transaction of the report: file and section headers, column names."""
    created = _clock(at(booked_on + timedelta(days=1), 2, 21, 10))
    last = starts_at(booked_on + timedelta(days=1)) - timedelta(seconds=1)
    names = ",".join(f'"{name}"' for name in COLUMNS)
    return (
        f'"RH",{created},"A","{account}",009,\n"FH",01\n'
        f'"SH",{_clock(starts_at(booked_on))},{_clock(last)},"{account}",""\n"CH",{names}\n'
    )


def completed_at(item: Line) -> datetime:
    """When PayPal books an event: at once, or on the next working morning when it came on a closed day."""
    if item.occurred_at.astimezone(ZONE).date() == item.booked_on:
        return item.occurred_at
    return at(item.booked_on, 6, 15)


def line(item: Line) -> str:
    """One transaction."""
    currency = item.gross_currency
    side = "DR" if item.gross_minor < 0 else "CR"
    fee = f'"DR",{hundredths(item.fee_minor, currency)},"{currency}"' if item.fee_minor else '"",,""'
    related = f'"{item.original_reference}","TXN"' if item.event != "capture" and item.original_reference else '"",""'
    return (
        f'"SB","{item.psp_reference}","{item.merchant_reference}",{related},"{EVENT_CODES[item.event]}",'
        f'{_clock(item.occurred_at)},{_clock(completed_at(item))},"{side}",{hundredths(item.gross_minor, currency)},'
        f'"{currency}",{fee},"{item.merchant_reference}","","","","",,,\n'
    )


def payout(booked_on: date, transaction: str, bank_reference: str, net_minor: int, currency: str) -> str:
    """The withdrawal to the bank that sweeps a currency's balance at the end of the day."""
    moment = _clock(at(booked_on, 23, 59, 59))
    return (
        f'"SB","{transaction}","","","","{WITHDRAWAL}",{moment},{moment},"{"DR" if net_minor > 0 else "CR"}",'
        f'{hundredths(net_minor, currency)},"{currency}","",,"","","","","","{bank_reference}",,,\n'
    )


def footers(totals: dict[str, Totals], line_count: int) -> str:
    """Section totals, report totals, and the counts that close section, report and file.

    The balances (available, payable, reserve) are nil before and after: every day is swept whole.
    """
    nil = '"CR",0,' * 6
    text = ""
    for kind in ("S", "R"):
        for currency, t in sorted(totals.items()):
            sums = (t.gross_credit, t.gross_debit, t.fee_credit, t.fee_debit)
            amounts = ",".join(str(hundredths(amount, currency)) for amount in sums)
            text += f'"{kind}F","{currency}",{amounts},{nil}{line_count}\n'
        text += f'"{kind}C",{line_count}\n'
    return text + f'"FF",{line_count}\n'
