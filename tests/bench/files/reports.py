"""Large settlement reports that prove themselves, as the sandbox's processors write them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from tieout.sandbox.formats import Line, adyen, stripe

DAY = date(2026, 10, 21)
NETWORKS = ("visa", "mastercard", "amex", "ideal")
COUNTRIES = ("NL", "DE", "FR", "GB", "ES")
BATCHES = 4
CHECKOUT_COLUMNS = (
    "Client Entity ID,Type,Payment ID,Reference,Processed On,Available On,Holding Currency,Payout ID,"
    "Gross In Holding Currency,Deduction In Holding Currency,Net In Holding Currency,Reserve In Holding Currency,"
    "Processing Currency,Gross In Processing Currency,FX Rate Applied,Payment Method,Region\n"
)


def write_adyen(path: Path, lines: int) -> None:
    """A settlement details report of four batches, each with its payout: ``lines`` lines and a header."""
    with path.open("w", encoding="utf-8") as stream:
        stream.write(adyen.header())
        for batch, size in enumerate(_sizes(lines)):
            booked_on = DAY + timedelta(days=7 * batch)
            net_minor = 0
            for item in _items("adyen", "TieoutEU", booked_on, size - 1):
                net_minor += item.net_minor
                stream.write(adyen.line(item))
            stream.write(adyen.payout("TieoutEU", booked_on, f"TX{batch:010}XT", net_minor, "EUR"))


def write_stripe(path: Path, lines: int) -> None:
    """An itemised payout reconciliation report of four payouts: ``lines`` lines and a header."""
    with path.open("w", encoding="utf-8") as stream:
        stream.write(stripe.header())
        for batch, size in enumerate(_sizes(lines)):
            booked_on, reference = DAY + timedelta(days=7 * batch), f"po_{batch:014}"
            net_minor = 0
            for item in _items("stripe", "acct_europe", booked_on, size - 1):
                net_minor += item.net_minor
                stream.write(stripe.line(item, reference))
            stream.write(stripe.payout("acct_europe", booked_on, reference, net_minor, "EUR"))


def write_checkout(path: Path, lines: int) -> None:
    """A settlement breakdown, a format that is only declared: ``lines`` lines and a header."""
    with path.open("w", encoding="utf-8") as stream:
        stream.write(CHECKOUT_COLUMNS)
        for item in _items("checkout", "ent_shop", DAY, lines):
            gross, fee, net = (f"{minor / 100:.2f}" for minor in (item.gross_minor, -item.fee_minor, item.net_minor))
            kind = "Charge" if item.event == "capture" else "Refund"
            stream.write(
                f"ent_shop,{kind},{item.psp_reference},{item.merchant_reference},"
                f"{item.occurred_at:%Y-%m-%dT%H:%M:%S}.000,{item.booked_on}T00:00:00.000,EUR,0000000000A1,"
                f"{gross},{fee},{net},0,EUR,{gross},1,{item.network.upper()},\n"
            )


def _sizes(lines: int) -> Iterator[int]:
    for batch in range(BATCHES):
        yield lines // BATCHES + (batch < lines % BATCHES)


def _items(processor: str, account: str, booked_on: date, count: int) -> Iterator[Line]:
    """Captures over the two days before, every fortieth a refund; the same in every run."""
    chance = random.Random(f"{processor} {booked_on}")
    begins = datetime(booked_on.year, booked_on.month, booked_on.day, tzinfo=UTC) - timedelta(days=2)
    for number in range(count):
        is_refund = number % 40 == 39
        gross_minor = chance.randrange(100, 50_000) * (-1 if is_refund else 1)
        fee_minor = 0 if is_refund else 10 + gross_minor * 14 // 1000
        reference = f"{chance.getrandbits(64):016X}"
        yield Line(
            event="refund" if is_refund else "capture",
            processor=processor,
            account=account,
            booked_on=booked_on,
            occurred_at=begins + timedelta(seconds=172_800 * number // count),
            psp_reference=f"ch_{reference}",
            original_reference=f"pi_{chance.getrandbits(64):016X}",
            merchant_reference=f"ORDER-{number:08}",
            gross_minor=gross_minor,
            gross_currency="EUR",
            fee_minor=fee_minor,
            net_minor=gross_minor - fee_minor,
            net_currency="EUR",
            network=chance.choice(NETWORKS),
            country=chance.choice(COUNTRIES),
        )
