"""Our own money: payouts to platform merchants, conversions between currencies, bank charges, and the system's book."""

from __future__ import annotations

import json
from typing import Any

from tieout.sandbox.bank import Bank
from tieout.sandbox.days import ONE_DAY, add_business_days, at, half_even, is_business_day, october
from tieout.sandbox.events import Events
from tieout.sandbox.market import BANK_ACCOUNTS, EXPONENTS, MERCHANTS
from tieout.sandbox.rates import per_euro
from tieout.sandbox.trouble_plan import STRAY_ENTRIES

PAYOUT_DAYS = tuple(map(october, (21, 23, 27, 29)))
# The merchant whose payout of the second payout day comes back from its bank.
RETURNED = ("mer_0008", october(23))
CONVERSIONS = {october(21): ("USD", "EUR"), october(26): ("GBP", "EUR"), october(27): ("USD", "EUR")}
# What a conversion costs against the reference rate, in basis points.
SPREAD_BPS = 15
CHARGES = {"EUR": 1850, "GBP": 1200, "USD": 2500}
CHARGE_DAYS = (october(23), october(30))


def play(events: Events, bank: Bank) -> None:
    """The treasury's day."""
    day = events.day
    for text in events.spool.lines(f"treasury/{day}"):
        _due(events, json.loads(text))
    events.spool.retire(f"treasury/{day}")
    if day in PAYOUT_DAYS:
        _pay_merchants(events, bank)
    if day in CONVERSIONS:
        _convert(events, bank, *CONVERSIONS[day])
    if day in CHARGE_DAYS:
        for currency, charge in CHARGES.items():
            reference = bank.expect(currency, day, -charge, "ACCOUNT FEES", code="charge")
            _book(events, currency, -charge, "bank_charge", reference, hour=20)
    for stray in STRAY_ENTRIES:
        if october(stray.day) == day:
            reference = bank.expect(
                stray.currency, day, stray.amount_minor, stray.text, counterparty=stray.counterparty
            )
            events.truth.open(
                "BANK_NOT_PSP", "processor_bank", "right", f"{BANK_ACCOUNTS[stray.currency].number}:{reference}",
                "BANK_NOT_PSP", day, None, stray.amount_minor, stray.currency,
            )  # fmt: skip


def _later(events: Events, day: Any, **details: Any) -> None:
    events.spool.append(f"treasury/{day}", json.dumps(details) + "\n")


def _due(events: Events, item: dict[str, Any]) -> None:
    if "status" in item:
        events.ledger.change("payouts", item["payout_id"], item["status"], at(events.day, 15))
    if item["amount_minor"]:
        _book(events, item["currency"], item["amount_minor"], item["source_type"], item["source_id"], hour=16)


def _book(events: Events, currency: str, amount_minor: int, source_type: str, source_id: str, hour: int) -> None:
    events.ledger.insert(
        "ledger_entries", "led_" + events.number("ledger"), BANK_ACCOUNTS[currency].number, amount_minor, currency,
        source_type, source_id, at(events.day, hour),
    )  # fmt: skip


def expect_settlement(events: Events, day: Any, currency: str, amount_minor: int, reference: str) -> None:
    """The system's book takes a processor's payout as received on the day the bank should book it."""
    _later(events, day, currency=currency, amount_minor=amount_minor, source_type="settlement", source_id=reference)


def _pay_merchants(events: Events, bank: Bank) -> None:
    balances = events.state.merchant_balances
    for merchant in MERCHANTS:
        balance = balances.get(merchant.merchant_id, 0)
        fee = half_even(balance * merchant.platform_fee_bps, 10_000)
        currency = merchant.settlement_currency
        # Their own bank charges make smaller payouts pointless.
        if merchant.model != "platform" or balance - fee < 20 * 10 ** EXPONENTS[currency]:
            continue
        balances[merchant.merchant_id] = 0
        number = f"{events.state.count('payout'):06d}"
        reference = f"PO-{number}"
        amount = balance - fee
        payout_id = f"mpo_{number}"
        sent_at = at(events.day, 14)
        events.ledger.insert(
            "payouts", payout_id, merchant.merchant_id, BANK_ACCOUNTS[currency].number, reference, amount, fee,
            currency, "sent", sent_at, sent_at,
        )  # fmt: skip
        _book(events, currency, -amount, "merchant_payout", payout_id, hour=14)
        paid_on = add_business_days(events.day, 1, currency)
        name = merchant.name.upper()
        bank.expect(currency, paid_on, -amount, f"PAYOUT {reference}", customer_reference=reference, counterparty=name)
        common = {"currency": currency, "payout_id": payout_id, "source_id": payout_id}
        _later(events, paid_on, status="paid", amount_minor=0, source_type="merchant_payout", **common)
        if (merchant.merchant_id, events.day) == RETURNED:
            back_on = add_business_days(paid_on, 1, currency)
            bank.expect(
                currency, back_on, amount, f"RETURN PAYOUT {reference} ACCOUNT CLOSED", code="return",
                customer_reference=reference, counterparty=name,
            )  # fmt: skip
            _later(events, back_on, status="returned", amount_minor=amount, source_type="payout_return", **common)


def _convert(events: Events, bank: Bank, sell: str, buy: str) -> None:
    day = events.day
    number = f"{events.state.count('fx'):06d}"
    reference = f"FX-{number}"
    sell_minor = max(100_000, events.state.banks[sell].balance_minor // 80_000 * 10_000)
    cross_e6 = per_euro(buy, day) * 10**6 * (10_000 - SPREAD_BPS) // (per_euro(sell, day) * 10_000)
    buy_minor = half_even(sell_minor * cross_e6 * 10 ** EXPONENTS[buy], 10 ** (6 + EXPONENTS[sell]))
    value_date = day
    for _ in range(2):
        value_date += ONE_DAY
        while not (is_business_day(value_date, sell) and is_business_day(value_date, buy)):
            value_date += ONE_DAY
    executed_at = at(day, 11, 30)
    events.ledger.insert(
        "fx_conversions", f"fxc_{number}", reference, BANK_ACCOUNTS[sell].number, sell_minor, sell,
        BANK_ACCOUNTS[buy].number, buy_minor, buy, f"{cross_e6 // 10**6}.{cross_e6 % 10**6:06d}", executed_at,
        value_date, executed_at,
    )  # fmt: skip
    for currency, amount in ((sell, -sell_minor), (buy, buy_minor)):
        bank.expect(currency, value_date, amount, f"FX {reference}", customer_reference=reference)
        common = {"currency": currency, "source_type": "fx_conversion", "source_id": f"fxc_{number}"}
        _later(events, value_date, amount_minor=amount, **common)
