"""Where payments come from: routes to processors, what the contracts say, how processors name things."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from tests.bench.match.days import half_even


class Route(NamedTuple):
    """How a payment travels: who settles it, in which currencies, by which method."""

    processor: str
    account: str
    currency: str
    net_currency: str
    method_type: str
    network: str
    market: str


ROUTES: tuple[tuple[int, Route], ...] = (
    (18, Route("adyen", "TieoutEU", "EUR", "EUR", "card", "visa", "NL")),
    (10, Route("adyen", "TieoutEU", "EUR", "EUR", "card", "visa", "DE")),
    (12, Route("adyen", "TieoutEU", "EUR", "EUR", "card", "mastercard", "FR")),
    (8, Route("adyen", "TieoutEU", "EUR", "EUR", "bank_transfer", "ideal", "NL")),
    (8, Route("adyen", "TieoutEU", "GBP", "GBP", "card", "visa", "GB")),
    (4, Route("adyen", "TieoutEU", "USD", "USD", "card", "mastercard", "US")),
    (3, Route("adyen", "TieoutEU", "SEK", "EUR", "card", "visa", "SE")),
    (6, Route("adyen", "TieoutAPAC", "JPY", "JPY", "card", "visa", "JP")),
    (1, Route("adyen", "TieoutAPAC", "NZD", "NZD", "card", "visa", "NZ")),
    (12, Route("stripe", "acct_us", "USD", "USD", "card", "visa", "US")),
    (5, Route("stripe", "acct_gulf", "KWD", "KWD", "card", "visa", "KW")),
    (6, Route("paypal", "EZTIEOUTEU", "EUR", "EUR", "wallet", "paypal", "DE")),
    (3, Route("paypal", "EZTIEOUTEU", "GBP", "GBP", "wallet", "paypal", "GB")),
    (3, Route("paypal", "EZTIEOUTAP", "JPY", "JPY", "wallet", "paypal", "JP")),
    (1, Route("paypal", "EZTIEOUTAP", "NZD", "NZD", "wallet", "paypal", "NZ")),
)
METHODS = ("visa:card", "mastercard:card", "amex:card", "ideal:bank_transfer", "paypal:wallet")
# Nobody has agreed on a price for it.
UNCONTRACTED = "amex"

RECORD_TYPES: dict[str, dict[str, str]] = {
    "adyen": {
        "capture": "Settled", "refund": "Refunded", "refund_reversal": "RefundedReversed", "chargeback": "Chargeback",
        "chargeback_reversal": "ChargebackReversed", "second_chargeback": "SecondChargeback",
        "reserve_hold": "DepositCorrection", "reserve_release": "DepositCorrection", "fee": "InvoiceDeduction",
        "payout": "MerchantPayout", "payout_return": "BankInstructionReturned", "unmapped": "Mystery",
    },
    "stripe": {
        "capture": "charge", "refund": "refund", "refund_reversal": "refund_failure", "chargeback": "dispute",
        "chargeback_reversal": "dispute_reversal", "reserve_hold": "reserve_hold",
        "reserve_release": "reserve_release", "fee": "fee", "payout": "payout", "payout_return": "payout_reversal",
        "unmapped": "mystery",
    },
    "paypal": {
        "capture": "T0006", "refund": "T1107", "refund_reversal": "T1114", "chargeback": "T1201",
        "chargeback_reversal": "T1202", "reserve_hold": "T1503", "reserve_release": "T1105", "fee": "T0106",
        "payout": "T0400", "unmapped": "T9999",
    },
}  # fmt: skip
# Units of the currency for one euro, in millionths; close enough to the real ones for 2026.
RATES_E6 = {"USD": 1_104_300, "GBP": 853_100, "JPY": 171_250_000, "SEK": 11_083_000, "NZD": 1_893_400, "KWD": 357_000}
PROCESSOR_RATE_E6 = {"SEK": 90_120}


class Contract(NamedTuple):
    """A contracted price; ``network`` and ``market`` may be ``*``."""

    processor: str
    method_type: str
    network: str
    market: str
    currency: str
    pct_bps: int
    fixed_minor: int
    valid_from: date
    valid_to: date | None


def contracts(changed_on: date) -> list[Contract]:
    """Every contract; Adyen's cards in euro get new prices on ``changed_on``."""
    always = date(2026, 1, 1)
    networks = {"visa", "mastercard", "ideal", "paypal"}
    found: list[Contract] = []
    for number, (_, route) in enumerate(ROUTES):
        key = (route.processor, route.method_type, route.network, route.currency)
        if route.network not in networks or any(
            (c.processor, c.method_type, c.network, c.currency) == key for c in found
        ):
            continue
        pct, fixed = 90 + 13 * number, 5 + number
        head = (route.processor, route.method_type, route.network, "*", route.currency)
        if route.processor == "adyen" and route.currency == "EUR":
            found.append(Contract(*head, pct, fixed, always, changed_on))
            found.append(Contract(*head, pct + 7, fixed + 2, changed_on, None))
        else:
            found.append(Contract(*head, pct, fixed, always, None))
    # A market with a price of its own goes before the contract for all markets.
    found.append(Contract("adyen", "card", "visa", "DE", "EUR", 71, 9, always, None))
    return found


class Prices:
    """What the contracts say a capture's line costs."""

    def __init__(self, changed_on: date) -> None:
        self.contracts = contracts(changed_on)
        self._found: dict[tuple[Route, bool], tuple[int, int]] = {}
        self._changed_on = changed_on

    def fee(self, route: Route, gross_minor: int, captured_on: date) -> int:
        """The contracted fee; where there is none, that of another network."""
        key = (route, captured_on >= self._changed_on)
        if key not in self._found:
            fitting = [
                c for c in self.contracts
                if (c.processor, c.method_type, c.currency) == (route.processor, route.method_type, route.currency)
                and route.network in (c.network, UNCONTRACTED) and c.market in (route.market, "*")
                and c.valid_from <= captured_on and (c.valid_to is None or captured_on < c.valid_to)
            ]  # fmt: skip
            chosen = max(fitting, key=lambda c: c.market != "*")
            self._found[key] = (chosen.pct_bps, chosen.fixed_minor)
        pct, fixed = self._found[key]
        return half_even(gross_minor * pct, 10_000) + fixed
