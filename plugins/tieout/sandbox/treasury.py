"""Our own money: payouts to platform merchants, conversions between currencies, bank charges, and the system's book."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from tieout.sandbox import book
from tieout.sandbox.bank import Bank
from tieout.sandbox.days import ONE_DAY, add_business_days, at, half_even, is_business_day, october
from tieout.sandbox.events import Events
from tieout.sandbox.market import BANK_ACCOUNTS, EXPONENTS, MERCHANTS, Merchant
from tieout.sandbox.rates import per_euro
from tieout.sandbox.trouble_plan import (
    BANK_CHARGES_MINOR,
    CONVERSIONS,
    EARLY_CHARGE,
    FX_PLANTS,
    MERCHANT_PAYOUT_PLANTS,
    STRAY_ENTRIES,
    UNBOOKED_PAYOUTS,
    WORSE_RATE_PER_10_000,
)

PAYOUT_DAYS = tuple(map(october, (21, 23, 27, 29)))
# What a conversion costs against the reference rate, in basis points.
SPREAD_BPS = 15
CHARGES = {"EUR": 1850, "GBP": 1200, "USD": 2500}
CHARGE_DAYS = (october(23), october(30))
MERCHANT_OF = {merchant.merchant_id: merchant for merchant in MERCHANTS}


def play(events: Events, bank: Bank) -> None:
    """The treasury's day."""
    day = events.day
    for text in events.spool.lines(f"treasury/{day}"):
        _due(events, json.loads(text))
    events.spool.retire(f"treasury/{day}")
    if day in PAYOUT_DAYS:
        _pay_merchants(events, bank)
    for plant in MERCHANT_PAYOUT_PLANTS:
        if october(plant.day) == day:
            payees = [
                (MERCHANT_OF[merchant_id], amount, 0)
                for merchant_id, amount in zip(plant.merchants, plant.amounts_minor, strict=True)
            ]
            _pay(events, bank, payees, plant.kind)
    if day in CONVERSIONS:
        _convert(events, bank, *CONVERSIONS[day])
    if day in CHARGE_DAYS:
        for currency, charge in CHARGES.items():
            _charge(events, bank, currency, charge, day)
    currency, booked_on, taken_on, charge = EARLY_CHARGE
    if day == booked_on:
        _charge(events, bank, currency, charge, taken_on)
    for stray in STRAY_ENTRIES:
        if october(stray.day) == day:
            reference = bank.expect(
                stray.currency, day, stray.amount_minor, stray.text, customer_reference=stray.customer_reference,
                counterparty=stray.counterparty,
            )  # fmt: skip
            events.truth.open(
                stray.kind, stray.reconciliation, "right", bank_item(stray.currency, reference), stray.kind, day, None,
                stray.amount_minor, stray.currency,
            )  # fmt: skip


def bank_item(currency: str, reference: str) -> str:
    """How the truth names a bank entry."""
    return f"{BANK_ACCOUNTS[currency].number}:{reference}"


def expect_settlement(events: Events, day: date, currency: str, amount_minor: int, reference: str) -> None:
    """The system's book takes a processor's payout as received on the day the bank should book it."""
    if (currency, day) != UNBOOKED_PAYOUTS:
        _later(events, day, currency=currency, amount_minor=amount_minor, source_type="settlement", source_id=reference)


def _later(events: Events, day: date, **details: Any) -> None:
    events.spool.append(f"treasury/{day}", json.dumps(details) + "\n")


def _due(events: Events, item: dict[str, Any]) -> None:
    if "status" in item:
        events.ledger.change("payouts", item["payout_id"], item["status"], at(events.day, 15))
    if item["amount_minor"]:
        _book(events, item["currency"], item["amount_minor"], item["source_type"], item["source_id"], hour=16)


def _book(events: Events, currency: str, amount_minor: int, source_type: str, source_id: str, hour: int) -> None:
    book.moved(events.state, book.BOOK, currency, events.day, amount_minor)
    events.ledger.insert(
        "ledger_entries", "led_" + events.number("ledger"), BANK_ACCOUNTS[currency].number, amount_minor, currency,
        source_type, source_id, at(events.day, hour),
    )  # fmt: skip


def _charge(events: Events, bank: Bank, currency: str, charge_minor: int, taken_on: date) -> None:
    """The system books a bank's charge today, the bank takes it on ``taken_on``."""
    reference = bank.expect(currency, taken_on, -charge_minor, "ACCOUNT FEES", code="charge")
    _book(events, currency, -charge_minor, "bank_charge", reference, hour=20)


def _pay_merchants(events: Events, bank: Bank) -> None:
    balances = events.state.merchant_balances
    for merchant in MERCHANTS:
        balance = balances.get(merchant.merchant_id, 0)
        fee = half_even(balance * merchant.platform_fee_bps, 10_000)
        # Their own bank charges make smaller payouts pointless.
        if merchant.model != "platform" or balance - fee < 20 * 10 ** EXPONENTS[merchant.settlement_currency]:
            continue
        balances[merchant.merchant_id] = 0
        _pay(events, bank, [(merchant, balance - fee, fee)])


def _pay(events: Events, bank: Bank, payees: list[tuple[Merchant, int, int]], kind: str = "") -> None:
    """Order the bank to pay merchants (each with amount and fee) of one currency, under one reference.

    :param kind: what goes wrong, if anything.
    """
    day, currency = events.day, payees[0][0].settlement_currency
    paid_on = add_business_days(day, 1, currency)
    name, reference, total = payees[0][0].name.upper(), "", 0
    payout_ids = []
    for merchant, amount, fee in payees:
        number = f"{events.state.count('payout'):06d}"
        reference = reference or f"PO-{number}"
        payout_id = f"mpo_{number}"
        sent_at = at(day, 14)
        events.ledger.insert(
            "payouts", payout_id, merchant.merchant_id, BANK_ACCOUNTS[currency].number, reference, amount, fee,
            currency, "sent", sent_at, sent_at,
        )  # fmt: skip
        _book(events, currency, -amount, "merchant_payout", payout_id, hour=14)
        common = {"currency": currency, "payout_id": payout_id, "source_id": payout_id}
        _later(events, paid_on, status="paid", amount_minor=0, source_type="merchant_payout", **common)
        events.truth.waiting(
            "payout_bank", payout_id, -amount, currency, currency, day, paid_on,
            None if kind == "PAYOUT_NOT_BANK" else paid_on, "PAYOUT_NOT_BANK", kind="PAYOUT_NOT_BANK",
        )  # fmt: skip
        payout_ids.append((payout_id, amount))
        total += amount
    if kind == "PAYOUT_NOT_BANK":
        return
    debit = total + (BANK_CHARGES_MINOR if kind == "PAYOUT_CHARGED" else 0)
    entry = bank.expect(
        currency, paid_on, -debit, f"PAYOUT {reference}", customer_reference=reference, counterparty=name
    )
    if kind == "PAYOUT_CHARGED":
        items = [("left", payout_id, -amount) for payout_id, amount in payout_ids]
        for side, item, amount in (*items, ("right", bank_item(currency, entry), -debit)):
            events.truth.open(kind, "payout_bank", side, item, "OVER", paid_on, None, amount, currency)
    if kind in ("PAYOUT_BACK", "PAYOUT_BACK_EARLY"):
        back_on = add_business_days(paid_on, 1, currency)
        entry = bank.expect(
            currency, back_on, total, f"RETURN PAYOUT {reference} ACCOUNT CLOSED", code="return",
            customer_reference=reference, counterparty=name,
        )  # fmt: skip
        known_on = back_on if kind == "PAYOUT_BACK" else add_business_days(back_on, 1, currency)
        events.truth.open(
            kind, "payout_bank", "right", bank_item(currency, entry), "PAYOUT_RETURNED", back_on, known_on, total,
            currency,
        )  # fmt: skip
        for payout_id, amount in payout_ids:
            _later(
                events, known_on, status="returned", currency=currency, amount_minor=amount,
                source_type="payout_return", payout_id=payout_id, source_id=payout_id,
            )  # fmt: skip


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
    for leg, currency, amount in (("sold", sell, -sell_minor), ("bought", buy, buy_minor)):
        common = {"currency": currency, "source_type": "fx_conversion", "source_id": f"fxc_{number}"}
        _later(events, value_date, amount_minor=amount, **common)
        kind = FX_PLANTS.get((day, leg), "")
        item = f"fxc_{number}:{leg}"
        events.truth.waiting(
            "fx_bank", item, amount, currency, currency, day, value_date,
            None if kind == "FX_NOT_BANK" else value_date, "FX_NOT_BANK", kind="FX_NOT_BANK",
        )  # fmt: skip
        if kind == "FX_NOT_BANK":
            continue
        booked = amount * WORSE_RATE_PER_10_000 // 10_000 if kind == "FX_DIFFERENCE" else amount
        entry = bank.expect(currency, value_date, booked, f"FX {reference}", customer_reference=reference)
        if kind == "FX_DIFFERENCE":
            events.truth.open(kind, "fx_bank", "left", item, kind, value_date, None, amount, currency)
            right = bank_item(currency, entry)
            events.truth.open(kind, "fx_bank", "right", right, kind, value_date, None, booked, currency)
