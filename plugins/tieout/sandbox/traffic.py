"""Ordinary days: shoppers pay, are declined and try again, merchants capture, refund and are charged back."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from tieout.sandbox import trouble
from tieout.sandbox.days import LAST_DAY, ONE_DAY
from tieout.sandbox.events import Capture, Events, Sale, as_json, from_json
from tieout.sandbox.market import MARKET_DRAW, MERCHANTS_OF, METHODS, PAYPAL, Method, route
from tieout.sandbox.trouble_plan import NO_CARDS_IN

# One of each every day, so that no account is without a batch however small the sandbox is.
EVERY_DAY = (
    ("NL", "visa", 0), ("NL", "ideal", 0), ("DE", "mastercard", 0), ("SE", "visa", 0), ("GB", "visa", 0),
    ("US", "visa", 9), ("US", "mastercard", 0), ("JP", "visa", 0), ("KW", "visa", 0), ("NZ", "visa", 0),
    ("DE", "paypal", 0), ("NL", "paypal", 0), ("GB", "paypal", 0), ("JP", "paypal", 0), ("NZ", "paypal", 0),
)  # fmt: skip
REFUND_RATE = 0.04
DISPUTE_RATE = 0.004


def play(events: Events, payments: int) -> None:
    """Everything ordinary and planted that happens to payments on one day.

    :param payments: how many payments are made that day, the planted ones among them.
    """
    for country, network, draw in EVERY_DAY:
        if NO_CARDS_IN.get(events.day) == country and network != PAYPAL.network:
            continue
        at = events.moment()
        sale = events.sell(country, network, route(country, network, draw), at, "captured")
        _follow_up(events, events.capture(sale, at + timedelta(seconds=45), sale.amount_minor))
    trouble.play(events)
    if events.numbers["payment"] > payments:
        raise ValueError(
            f"{payments} payments a day are too few: the trouble of {events.day} needs {events.numbers['payment']}"
        )
    while events.numbers["payment"] < payments:
        _shopper(events)
    for text in events.spool.lines(f"agenda/{events.day}"):
        _due(events, json.loads(text))
    events.spool.retire(f"agenda/{events.day}")


def _outcomes(events: Events, method: Method) -> tuple[str, ...]:
    outcomes: list[str] = []
    while True:
        draw = events.rng.random()
        if draw < 0.88:
            return (*outcomes, "authorised")
        if draw < 0.96:
            outcomes.append("declined")
        elif draw < 0.98:
            outcomes.append("authentication_failed" if method.method_type == "card" else "declined")
        elif draw < 0.99:
            outcomes.append("error")
        else:
            return (*outcomes, "risk_blocked")
        if len(outcomes) == 3 or events.rng.random() < 0.35:
            return tuple(outcomes)


def _shopper(events: Events) -> None:
    rng = events.rng
    market = MARKET_DRAW[int(rng.random() * len(MARKET_DRAW))]
    method = market.methods[int(rng.random() * len(market.methods))]
    if NO_CARDS_IN.get(events.day) == market.country:
        method = PAYPAL
    taken_by = route(market.country, method.network, int(rng.random() * 10))
    merchants = MERCHANTS_OF[market.country]
    merchant = merchants[int(rng.random() * len(merchants))]
    amount = events.price(market.country)
    at = events.moment()
    outcomes = _outcomes(events, method)
    done_at = at + timedelta(seconds=20 * len(outcomes) + 25)
    draw = rng.random()
    if outcomes[-1] != "authorised":
        events.payment(merchant, method.network, taken_by, amount, at, outcomes, "failed", done_at)
        return
    # Some goods are captured when they ship, a day later; New Zealand's always at once, to keep its planted batches.
    ships_later = draw < 0.03 and market.country != "NZ" and events.day < LAST_DAY
    status = "authorised" if draw < 0.04 else "captured"
    in_two = 0.04 <= draw < 0.07 and taken_by[0] == "adyen"
    sale = events.payment(
        merchant, method.network, taken_by, amount, at, outcomes, status,
        done_at + timedelta(seconds=480) if in_two else done_at,
    )  # fmt: skip
    if ships_later:
        events.agenda(events.day + ONE_DAY, "capture", sale=_sale_json(sale), number=1)
    elif in_two:
        first = amount * 2 // 5
        _follow_up(events, events.capture(sale, done_at, first))
        events.capture(sale, done_at + timedelta(seconds=480), amount - first, number=2)
    elif status == "captured":
        _follow_up(events, events.capture(sale, done_at, amount))


def _sale_json(sale: Sale) -> dict[str, Any]:
    return {name: getattr(sale, name) for name in Sale.__slots__}


def _follow_up(events: Events, capture: Capture) -> None:
    """A few captures are refunded or charged back within the week."""
    draw = events.rng.random()
    if draw >= REFUND_RATE + DISPUTE_RATE:
        return
    later = events.day + ONE_DAY * events.rng.randrange(1, 7)
    if draw < REFUND_RATE:
        whole = events.rng.random() < 0.7
        amount = capture.amount_minor if whole else max(1, capture.amount_minor // 3)
        events.agenda(later, "refund", capture=as_json(capture), amount_minor=amount)
    elif METHODS[capture.sale.network].method_type != "bank_transfer":
        events.agenda(later, "chargeback", capture=as_json(capture))


def _due(events: Events, item: dict[str, Any]) -> None:
    """Something that an earlier day put on the agenda."""
    what = item["what"]
    if trouble.due(events, item):
        return
    at = events.moment()
    if what == "capture":
        sale = Sale(**item["sale"])
        events.ledger.change("payments", sale.payment_id, "captured", at)
        _follow_up(events, events.capture(sale, at, sale.amount_minor))
        return
    capture = from_json(item["capture"])
    if what in ("refund", "chargeback"):
        if not _covered(events, capture, item):
            return
        if what == "refund":
            events.refund(capture, item["amount_minor"], at)
            return
        dispute = events.chargeback(capture, at)
        won = events.rng.random() < 0.4 and capture.sale.country != "NZ"
        later = events.day + ONE_DAY * events.rng.randrange(2, 6)
        stage = "won" if won else "lost"
        events.agenda(later, "dispute_outcome", capture=as_json(capture), dispute=dispute, stage=stage)
    elif what == "refund_outcome":
        events.ledger.change("refunds", item["refund_id"], item["status"], at)
        if item["status"] == "succeeded":
            events.refund_succeeded(capture, item["amount_minor"], at)
    elif what == "dispute_outcome":
        dispute_id, reference, reason, is_fraud = item["dispute"]
        events.dispute_outcome(capture, (dispute_id, reference, reason, is_fraud), item["stage"], at)
    else:
        raise ValueError(f"the agenda of {events.day} has an unknown item {what!r}")


def _covered(events: Events, capture: Capture, item: dict[str, Any]) -> bool:
    """PayPal takes refunds out of the day's own balance; what it cannot cover is tried again the next day."""
    sale = capture.sale
    if sale.processor != "paypal":
        return True
    booked_on = events.settlement_day(sale)
    room = events.processors.room_minor(sale.processor, sale.account, booked_on, sale.settled_in)
    if room > 2 * capture.amount_minor + 5000:
        return True
    details = {key: value for key, value in item.items() if key != "what"}
    events.agenda(events.day + ONE_DAY, item["what"], **details)
    return False
