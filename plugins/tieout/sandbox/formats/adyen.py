"""Adyen's settlement details report: one CSV file a merchant account and batch, payouts as its last lines."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from tieout.sandbox.days import at
from tieout.sandbox.formats import Line, major_units

COMPANY = "Tieout"
COLUMNS = (
    "Company Account", "Merchant Account", "Psp Reference", "Merchant Reference", "Payment Method", "Creation Date",
    "TimeZone", "Type", "Modification Reference", "Gross Currency", "Gross Debit (GC)", "Gross Credit (GC)",
    "Exchange Rate", "Net Currency", "Net Debit (NC)", "Net Credit (NC)", "Commission (NC)", "Markup (NC)",
    "Scheme Fees (NC)", "Interchange (NC)", "Payment Method Variant", "Modification Merchant Reference",
    "Batch Number", "Reserved4", "Reserved5", "Reserved6", "Reserved7", "Reserved8", "Reserved9", "Reserved10",
    "Booking Date", "Booking Date TimeZone", "Metadata", "Balance Currency", "Net Debit (BC)", "Net Credit (BC)",
    "Payment Fees (NC)", "DCC Markup (NC)", "Funds Destination", "Balance Platform Debit", "Balance Platform Credit",
    "Shopper Country", "Clearing Network", "Merchant Order Reference", "Dispute Reference", "ARN", "Settlement Flow",
    "Authorisation Code", "Gross Fees (NC)",
)  # fmt: skip

TYPES = {
    "capture": "Settled",
    "refund": "Refunded",
    "chargeback": "Chargeback",
    "chargeback_reversed": "ChargebackReversed",
    "refund_reversed": "RefundedReversed",
    "dispute_fee": "Fee",
    "reserve": "DepositCorrection",
    # A type that no list of Adyen's knows.
    "unmapped": "SchemeRebate",
}
WITHOUT_GROSS = ("dispute_fee", "reserve", "unmapped")
PAYMENT_METHODS = {"visa": "visa", "mastercard": "mc", "amex": "amex", "ideal": "ideal"}
VARIANTS = {"visa": "visastandardcredit", "mastercard": "mcstandardcredit", "amex": "amex", "ideal": "ideal"}
ZONES = {"TieoutEU": ZoneInfo("Europe/Amsterdam"), "TieoutAPAC": ZoneInfo("Asia/Tokyo")}
FIRST_BATCH = {"TieoutEU": 12, "TieoutAPAC": 7}
FIRST_BATCH_DAY = date(2026, 10, 21)


def batch_number(account: str, booked_on: date) -> int:
    """Batches run on by one a weekday from the first one of the sandbox."""
    days = (booked_on - FIRST_BATCH_DAY).days
    return FIRST_BATCH[account] + sum((FIRST_BATCH_DAY + timedelta(n)).weekday() < 5 for n in range(days))


def file_name(account: str, booked_on: date) -> str:
    """The report's name, as Adyen names it with the account added."""
    return f"settlement_detail_report_{account}_batch_{batch_number(account, booked_on)}.csv"


def booked_at(booked_on: date) -> datetime:
    """When a batch is booked: early afternoon, the same date in every zone of our accounts."""
    return at(booked_on, 13, 5)


def header() -> str:
    """The header line."""
    return ",".join(COLUMNS) + "\n"


def _clock(instant: datetime, zone: ZoneInfo) -> tuple[str, str]:
    local = instant.astimezone(zone)
    return local.strftime("%Y-%m-%d %H:%M:%S"), local.tzname() or ""


def line(item: Line) -> str:
    """One line; a fee that passes others through is shown by its parts, any other as a commission."""
    zone = ZONES[item.account]
    created, created_zone = _clock(item.occurred_at, zone)
    booked, booked_zone = _clock(booked_at(item.booked_on), zone)
    gross_debit = gross_credit = gross_currency = rate = method = variant = ""
    commission = markup = scheme = interchange = paid_fees = ""
    if item.event not in WITHOUT_GROSS:
        gross_currency = item.gross_currency
        gross = major_units(abs(item.gross_minor), gross_currency)
        gross_debit, gross_credit = (gross, "") if item.gross_minor < 0 else ("", gross)
        rate = "1" if item.rate_e8 is None else f"0.{item.rate_e8:08d}"
        method, variant = PAYMENT_METHODS[item.network], VARIANTS[item.network]
    if item.fee_minor:
        paid_fees = major_units(item.fee_minor, item.net_currency)
        if item.interchange_minor is not None and item.scheme_fee_minor is not None:
            markup_minor = item.fee_minor - item.scheme_fee_minor - item.interchange_minor
            markup = major_units(markup_minor, item.net_currency)
            scheme = major_units(item.scheme_fee_minor, item.net_currency)
            interchange = major_units(item.interchange_minor, item.net_currency)
        else:
            commission = paid_fees
    net = major_units(abs(item.net_minor), item.net_currency)
    net_debit, net_credit = (net, "") if item.net_minor < 0 else ("", net)
    own_reference = item.merchant_reference if item.event in ("refund", "refund_reversed") else ""
    number = batch_number(item.account, item.booked_on)
    return (
        f"{COMPANY},{item.account},{item.original_reference},{item.merchant_reference},{method},{created},"
        f"{created_zone},{TYPES[item.event]},{item.psp_reference},{gross_currency},{gross_debit},{gross_credit},{rate},"
        f"{item.net_currency},{net_debit},{net_credit},{commission},{markup},{scheme},{interchange},{variant},"
        f"{own_reference},{number},,,,,,,,{booked},{booked_zone},,,,,{paid_fees},,,,,{item.country},,,,,,,{paid_fees}\n"
    )


def payout(account: str, booked_on: date, reference: str, net_minor: int, currency: str) -> str:
    """The line that pays the batch's net of one currency out (or claims it, when the net is negative)."""
    number = batch_number(account, booked_on)
    booked, booked_zone = _clock(booked_at(booked_on), ZONES[account])
    amount = major_units(abs(net_minor), currency)
    debit, credit = (amount, "") if net_minor > 0 else ("", amount)
    text = f'"{reference} batch {number}, {account}"'
    return (
        f"{COMPANY},{account},,,,{booked},{booked_zone},MerchantPayout,{text},,,,,{currency},{debit},{credit}"
        f",,,,,,,{number},,,,,,,,{booked},{booked_zone}" + "," * 17 + "\n"
    )
