"""Stripe's itemised payout reconciliation report: one CSV file an account and payout, in UTC."""

from __future__ import annotations

from datetime import date

from tieout.sandbox.days import add_business_days
from tieout.sandbox.formats import Line, major_units

COLUMNS = (
    "balance_transaction_id", "payment_metadata[external_identifier]", "payment_metadata[orchestrator_tx_ref]",
    "payment_metadata[gr4vy_tx_ref]", "payment_metadata[gr4vy_tx_sid]", "payment_metadata[orchestrator_tx_sid]",
    "source_id", "payment_intent_id", "charge_id", "created", "available_on", "automatic_payout_effective_at",
    "currency", "gross", "fee", "net", "reporting_category", "payment_method_type", "card_brand", "card_country",
    "card_funding", "description", "trace_id_status", "gateway_account", "automatic_payout_id",
    "customer_facing_amount", "customer_facing_currency",
)  # fmt: skip

CATEGORIES = {
    "capture": "charge",
    "refund": "refund",
    "chargeback": "dispute",
    "chargeback_reversed": "dispute_reversal",
    "refund_reversed": "refund_failure",
    "dispute_fee": "fee",
    # A category that no list of Stripe's knows.
    "unmapped": "network_rebate",
}


def file_name(account: str, booked_on: date) -> str:
    """The report's name."""
    return f"payout_reconciliation_itemized_{account}_{booked_on:%Y%m%d}.csv"


def header() -> str:
    """The header line."""
    return ",".join(COLUMNS) + "\n"


def _effective(booked_on: date, currency: str) -> str:
    return f"{add_business_days(booked_on, 1, currency)} 00:00:00"


def line(item: Line, payout_reference: str) -> str:
    """One balance transaction that the payout contains."""
    currency = item.net_currency
    gross = major_units(item.gross_minor, currency)
    intent = "pi_" + item.original_reference[3:] if item.original_reference else ""
    brand = {"visa": "Visa", "mastercard": "MasterCard", "amex": "American Express"}.get(item.network, "")
    card = f"card,{brand},{item.country},credit" if brand else ",,,"
    facing = f"{gross},{currency.lower()}" if brand else ","
    description = f"Chargeback fee {item.psp_reference}" if item.event == "dispute_fee" else ""
    source = "" if item.event == "dispute_fee" else item.psp_reference
    # A reversal shares the source with what it reverses; each still is a balance transaction of its own.
    transaction = f"txn_{CATEGORIES[item.event][:3]}{item.psp_reference[3:] or item.merchant_reference}"
    if item.event in ("chargeback_reversed", "refund_reversed"):
        transaction += "R"
    created = item.occurred_at.strftime("%Y-%m-%d %H:%M:%S")
    return (
        f"{transaction},{item.merchant_reference},,,,,{source},{intent},{item.original_reference},{created},"
        f"{item.booked_on} 00:00:00,{_effective(item.booked_on, currency)},{currency.lower()},{gross},"
        f"{major_units(item.fee_minor, currency)},{major_units(item.net_minor, currency)},{CATEGORIES[item.event]},"
        f"{card},{description},supported,{item.account},{payout_reference},{facing}\n"
    )


def payout(account: str, booked_on: date, reference: str, net_minor: int, currency: str) -> str:
    """The payout itself, which takes the sum of the lines out of the Stripe balance."""
    amount = major_units(-net_minor, currency)
    booked = f"{booked_on} 00:00:00"
    return (
        f"txn_po{reference[3:]},,,,,,{reference},,,{booked},{booked},{_effective(booked_on, currency)},"
        f"{currency.lower()},{amount},{major_units(0, currency)},{amount},payout,,,,,STRIPE PAYOUT,"
        f"supported,{account},{reference},,\n"
    )
