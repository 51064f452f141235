"""What processors and banks send, one writer a format. Nothing here is shared with the readers of ``tieout.files``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from tieout.sandbox.market import EXPONENTS


@dataclass(slots=True)
class Line:
    """One line of a settlement report; amounts in minor units, positive towards us, fees positive when they cost us.

    ``event`` is one of capture, refund, chargeback, chargeback_reversed, refund_reversed, dispute_fee, reserve,
    unmapped; each writer knows its own word for it. ``rate_e8`` is the rate from gross to net currency in 1e-8.
    Interchange and scheme fee are parts of the fee, None where the contract does not pass them through.
    """

    event: str
    processor: str
    account: str
    booked_on: date
    occurred_at: datetime
    psp_reference: str
    original_reference: str
    merchant_reference: str
    gross_minor: int
    gross_currency: str
    fee_minor: int
    net_minor: int
    net_currency: str
    network: str
    country: str
    rate_e8: int | None = None
    interchange_minor: int | None = None
    scheme_fee_minor: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a bank statement; ``code`` is transfer, charge or return."""

    amount_minor: int
    reference: str
    text: str
    code: str = "transfer"
    customer_reference: str = ""
    counterparty: str = ""
    is_reversal: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """A bank statement of one account and one day."""

    currency: str
    account: str
    bank: str
    bic: str
    number: int
    day: date
    opening_minor: int
    closing_minor: int
    entries: tuple[Entry, ...]


def major_units(minor: int, currency: str, point: str = ".") -> str:
    """An amount in major units with all its decimals: ``-1234`` of EUR is ``-12.34``, 1234 of JPY is ``1234``."""
    exponent = EXPONENTS[currency]
    if exponent == 0:
        return str(minor)
    sign = "-" if minor < 0 else ""
    whole, fraction = divmod(abs(minor), 10**exponent)
    return f"{sign}{whole}{point}{fraction:0{exponent}d}"
