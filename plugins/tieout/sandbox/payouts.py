"""What becomes of a processor's payout at the bank, as it should or as planted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from tieout.sandbox.bank import Bank
from tieout.sandbox.days import add_business_days
from tieout.sandbox.formats import adyen
from tieout.sandbox.market import BANK_ACCOUNTS, EXPONENTS
from tieout.sandbox.state import WorldState
from tieout.sandbox.trouble_plan import BANK_KEEPS_MINOR, PAYOUT_PLANTS
from tieout.sandbox.truth import Truth

RECONCILIATION = "processor_bank"


@dataclass(frozen=True, slots=True)
class Payout:
    """A batch's net of one currency; negative when the processor claims it from us."""

    processor: str
    account: str
    booked_on: date
    reference: str
    net_minor: int
    currency: str

    @property
    def bank_day(self) -> date:
        """When the bank books it: the next business day of the currency."""
        return add_business_days(self.booked_on, 1, self.currency)

    @property
    def text(self) -> str:
        """What the bank statement says, apart from the sender's name."""
        if self.processor == "adyen":
            return f"ADYEN N.V. {self.reference} BATCH {adyen.batch_number(self.account, self.booked_on)}"
        return f"{'STRIPE PAYOUT' if self.processor == 'stripe' else 'PAYPAL TRANSFER'} {self.reference}"


def _planted_kind(payout: Payout, state: WorldState) -> str:
    for number, plant in enumerate(PAYOUT_PLANTS):
        if (
            number not in state.placed
            and (plant.processor, plant.account, plant.currency) == (payout.processor, payout.account, payout.currency)
            and plant.day <= payout.booked_on.day
            and payout.net_minor >= plant.at_least * 10 ** EXPONENTS[payout.currency]
        ):
            state.placed.append(number)
            return plant.kind
    return ""


def send_to_bank(payout: Payout, known_on: date, state: WorldState, bank: Bank, truth: Truth) -> None:
    """Let the bank book the payout, and write the truth about it.

    :param known_on: first business date whose landing holds the report that announces the payout.
    """
    kind = _planted_kind(payout, state)
    day, amount, currency = payout.bank_day, payout.net_minor, payout.currency
    left = f"{payout.processor}:{payout.reference}"
    right = f"{BANK_ACCOUNTS[currency].number}:"
    seen_on = None if kind == "PSP_NOT_BANK" else day
    truth.waiting(
        RECONCILIATION, left, amount, currency, currency, known_on, day, seen_on, "PSP_NOT_BANK", kind="PSP_NOT_BANK"
    )
    if kind == "PSP_NOT_BANK":
        return
    if kind == "BANK_UNDER":
        kept = amount - BANK_KEEPS_MINOR
        entry = bank.expect(currency, day, kept, payout.text)
        truth.open(kind, RECONCILIATION, "left", left, "UNDER", max(day, known_on), None, amount, currency)
        truth.open(kind, RECONCILIATION, "right", right + entry, "UNDER", max(day, known_on), None, kept, currency)
        return
    if kind in ("SPLIT", "SPLIT_INCOMPLETE"):
        first = amount * 3 // 5
        entry = bank.expect(currency, day, first, f"{payout.text} PART 1 OF 2")
        if kind == "SPLIT":
            bank.expect(currency, day, amount - first, f"{payout.text} PART 2 OF 2")
        else:
            truth.open(kind, RECONCILIATION, "left", left, kind, day, None, amount, currency)
            truth.open(kind, RECONCILIATION, "right", right + entry, kind, day, None, first, currency)
        return
    bank.expect(currency, day, amount, payout.text)
    next_day = add_business_days(day, 1, currency)
    if kind == "BANK_DUPLICATE":
        entry = bank.expect(currency, next_day, amount, payout.text)
        truth.open(kind, RECONCILIATION, "right", right + entry, "DUPLICATE", next_day, None, amount, currency)
    elif kind == "PAYOUT_RETURNED":
        entry = bank.expect(currency, next_day, -amount, payout.text, code="return", is_reversal=True)
        truth.open(kind, RECONCILIATION, "right", right + entry, kind, next_day, None, -amount, currency)
