"""Small random worlds: few references, amounts and dates, so that items meet, miss and repeat each other.

Items look like those the project's own models make: their keys are made of the same parts, an amount that corrects
carries its code. What decides is drawn from what lies just inside and just outside of each rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from tests.dbt.oracle.facts import LEFT, RIGHT, Contract, Earlier, Item, Volume, World

ZONE = ZoneInfo("Europe/Amsterdam")
# A Friday, the Monday and the Tuesday after it, a Japanese holiday, the Sunday that has 25 hours, the day after Easter.
BUSINESS_DATES = (
    date(2026, 10, 30), date(2026, 11, 2), date(2026, 11, 3), date(2026, 11, 24), date(2026, 10, 25), date(2026, 4, 7),
)  # fmt: skip
# One with two decimals, one with none, one with three and other weekends, one with holidays, one without a calendar.
CURRENCIES = ("EUR", "JPY", "KWD", "NZD", "CHF")
PROCESSORS = ("adyen", "paypal", "nobody")
ITEMS_MAX = 8

CAPTURE, RESERVE = "capture", "reserve"
# family -> (item type on the left, on the right, sign of what we are owed)
FAMILIES: dict[str, tuple[str, str, int]] = {
    CAPTURE: (CAPTURE, CAPTURE, 1),
    "refund": ("refund", "refund", -1),
    "chargeback": ("chargeback", "chargeback", -1),
    "chargeback_reversal": ("chargeback_reversal", "chargeback_reversal", 1),
    "refund_reversal": (CAPTURE, "refund_reversal", 1),
    RESERVE: ("reserve_hold", "reserve_release", 1),
}


@dataclass(frozen=True)
class Event:
    """What several items of a world may be about."""

    family: str
    reference: str
    order: str
    amount_minor: int
    currency: str


def random_world(dice: Random) -> World:
    """One world of one or two reconciliations over the same few events."""
    return _Scene(dice).world()


def worlds() -> st.SearchStrategy[World]:
    """Random worlds. Drawn by seed: choice by choice, worlds in which items meet would be rare."""
    return st.randoms(use_true_random=True, note_method_calls=False).map(random_world)


class _Scene:
    """What the items of one world have in common, and what is drawn of it."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.business_date = dice.choice(BUSINESS_DATES)
        self.currency = dice.choice(CURRENCIES)
        self.processor = dice.choice(PROCESSORS)
        # Of the account; else that of the currency counts, and of one nobody has heard of every day.
        self.calendar = dice.choice((None, None, None, "KWD", "JPY", "nowhere"))
        self.base = dice.choice((1, 100, 1250, 1650, 10000, 10000))
        # Where the other side never got the references, fallback keys have to do.
        self.keeps_references = self._often(70)
        self.has_two_accounts = self._often(10)
        # What is priced is what was settled: in every fifth world all else agrees, and contracts alone decide.
        self.is_settled = self._often(20)
        count = dice.choice((1, 2, 3, 4)) if self.is_settled else dice.choice((0, 1, 2, 2, 3))
        self.contracts = [self._contract(number) for number in range(count)]
        self.events: list[Event] = []
        self.announced: list[Item] = []

    def world(self) -> World:
        names = [self.dice.choice(NAMES), self.dice.choice(NAMES)] if self._often(10) else [self.dice.choice(NAMES)]
        items = self._settled() if self.is_settled else []
        for number in range(0 if self.is_settled else self.dice.randint(2, ITEMS_MAX)):
            make, side = MAKERS[self.dice.choice(names)], self.dice.choice((LEFT, RIGHT))
            items.append(self._carried(self._corrected(make(self, f"{number}", side, self._event()))))
        return World(
            business_date=self.business_date,
            items=tuple(items),
            earlier=tuple(self._earlier(items)),
            abandoned=tuple(self._earlier(items)),
            contracts=tuple(self.contracts),
            volumes=tuple(self._volumes()),
            covered_until=self._covered(items),
        )

    def payment_processor(self, key: str, side: str, event: Event) -> Item:
        """A movement of our ledger or a line of a report."""
        family = CAPTURE if event.family == "refund_reversal" and side == LEFT else event.family
        left_type, right_type, sign = FAMILIES[family]
        processor, currency = self.processor, event.currency
        amount = sign * event.amount_minor
        reference = self._reference(side, event, 15)
        order = None if self._often(10) else event.order
        item = Item(
            **self._common(key, side, "payment_processor", left_type if side == LEFT else right_type, amount, currency),
            clearing_account=self._account(
                f"{'reserve_receivable' if family == RESERVE else 'psp_clearing'}:{processor}"
            ),
            processor=processor,
            processor_account=None if self._often(3) else "account",
            strong_key=reference and f"{processor}|{reference}|{family}",
            weak_key=order and f"{processor}|{order}|{family}|{currency}|{amount}",
        )
        if side == RIGHT:
            return self._line(item)
        item = replace(
            item, method_type="card", network=self.dice.choice(("visa", "mc")), market=self.dice.choice(("NL", "DE")),
        )  # fmt: skip
        if family == "refund" and self._often(40):
            item = replace(item, exclusion_reason="FAILED")
        return replace(item, expected_date=None, due_date=None) if family == RESERVE else item

    def _settled(self) -> list[Item]:
        """Movements with one or two lines that come to their amount, reported when they are expected."""
        items = []
        for number in range(self.dice.randint(1, 3)):
            family = self.dice.choice((CAPTURE, CAPTURE, CAPTURE, "refund", "chargeback"))
            amount = self.base + self.dice.choice((0, 0, 1))
            event = Event(family, f"r{number}", f"o{number}", amount, self.currency)
            first = self.dice.choice((amount, amount, amount // 2, amount // 3))
            shares = [(LEFT, amount), (RIGHT, first), *([(RIGHT, amount - first)] if first < amount else [])]
            for place, (side, share) in enumerate(shares):
                item = self.payment_processor(f"{number}{place}", side, replace(event, amount_minor=share))
                day = self.business_date - timedelta(self.dice.choice((0, 0, 1)))
                items.append(replace(
                    item, strong_key=f"{self.processor}|r{number}|{family}", exclusion_reason=None, value_date=day,
                    expected_date=self.business_date if side == LEFT else None,
                    clearing_account=f"psp_clearing:{self.processor}",
                ))  # fmt: skip
        return items

    def batch_payout(self, key: str, side: str, event: Event) -> Item:
        """What a batch's lines come to, or the payout the processor announces for it."""
        item_type = "settlement_batch" if side == LEFT else self.dice.choice(("payout", "payout_return"))
        return Item(
            **self._common(key, side, "batch_payout", item_type, self._signed(event), event.currency),
            clearing_account=self._account(f"psp_balance:{self.processor}"),
            processor=self.processor,
            processor_account="account",
            strong_key=f"{self.processor}|account|{event.reference}|{event.currency}",
        )

    def contract_invoice(self, key: str, side: str, event: Event) -> Item:
        """What contracts say of a month's fees, or a line of an invoice; now and then a credit."""
        item_type = "contract_fee" if side == LEFT else "invoice_line"
        return Item(
            **self._common(key, side, "contract_invoice", item_type, -self._signed(event), event.currency),
            clearing_account=self._account(f"payables:{self.processor}"),
            processor=self.processor,
            processor_account="account",
            strong_key=f"{self.processor}|account|processing|{event.currency}|{event.reference}",
        )

    def processor_bank(self, key: str, side: str, event: Event) -> Item:
        """An announced payout, or a bank entry of a processor or of nobody known."""
        amount, reference, currency = self._signed(event), self._reference(side, event, 15), event.currency
        if side == RIGHT and self._often(10):
            # Just as much as a bank may keep.
            amount = amount * 95 // 100
        if side == RIGHT and self._often(10):
            return Item(
                **self._common(key, side, "processor_bank", "bank_entry", amount, currency),
                clearing_account="suspense:bank", bank_account="bank", is_reversal=self._often(10),
            )  # fmt: skip
        item = Item(
            **self._common(key, side, "processor_bank", "payout" if side == LEFT else "bank_entry", amount, currency),
            clearing_account=self._account(f"cash_in_transit:{self.processor}"),
            processor=self.processor,
            bank_account="bank",
            strong_key=reference and f"{self.processor}|{reference}",
            is_reversal=side == RIGHT and self._often(10),
        )
        if side == LEFT:
            self.announced.append(item)
        elif self.announced and self._often(25):
            item = self._pays_a_day(item, self.dice.choice(self.announced))
        day = item.expected_date or item.value_date
        return replace(
            item,
            # An account holds one currency.
            weak_key=f"{self.processor}|bank{item.currency}|{item.amount_minor}",
            pool_key=f"{self.processor}|bank{item.currency}|{item.currency}|{day}",
        )

    def _pays_a_day(self, credit: Item, payout: Item) -> Item:
        """A credit of about all payouts that are expected with this one."""
        together = [
            other.amount_minor for other in self.announced
            if (other.expected_date, other.currency) == (payout.expected_date, payout.currency)
        ]  # fmt: skip
        return replace(
            credit, amount_minor=sum(together) - self._often(10), currency=payout.currency, strong_key=None,
            value_date=payout.expected_date or payout.value_date,
        )  # fmt: skip

    def payout_bank(self, key: str, side: str, event: Event) -> Item:
        """A payout to a merchant, one that came back, or the bank's entry of either."""
        item = self._at_bank(key, side, "payout_bank", "merchant_payout", -self._signed(event), event)
        if side == RIGHT or not self._often(20):
            return item
        if self._often(50):
            return replace(item, item_type="returned_payout", amount_minor=0)
        return replace(
            item, item_type="returned_payout", amount_minor=abs(item.amount_minor), intrinsic_code="PAYOUT_RETURNED",
            correction_reason="RETURNED",
        )  # fmt: skip

    def fx_bank(self, key: str, side: str, event: Event) -> Item:
        """A leg of a conversion, or the bank's entry of it."""
        amount = self._signed(event)
        return self._at_bank(key, side, "fx_bank", "fx_bought" if amount > 0 else "fx_sold", amount, event)

    def ledger_bank(self, key: str, side: str, event: Event) -> Item:
        """A day of the payment system's own book, or of the bank."""
        item_type = "book_day" if side == LEFT else "bank_day"
        item = Item(
            **self._common(key, side, "ledger_bank", item_type, self._signed(event), event.currency),
            clearing_account=self._account("system_book:bank"),
            bank_account="bank",
            weak_key=f"bank|{event.currency}",
        )
        # A book has few days: else no two would agree.
        day = min(item.value_date, self.business_date) if self._often(50) else self.business_date
        return replace(item, value_date=day, strong_key=f"bank|{event.currency}|{day}")

    def _corrected(self, item: Item) -> Item:
        """Every sixth item takes back or changes what an earlier close had taken."""
        if item.intrinsic_code or item.exclusion_reason or item.reconciliation == "ledger_bank":
            return item
        if not self._often(17):
            return item
        amount = item.amount_minor if self._often(30) else -item.amount_minor
        reason = self.dice.choice(("GONE_AT_SOURCE", "CHANGED_AT_SOURCE"))
        return replace(item, amount_minor=amount, intrinsic_code="RETRO_CORRECTION", correction_reason=reason)

    def _carried(self, item: Item) -> Item:
        """Every third item was left open by the parent close."""
        if item.exclusion_reason or not self._often(33):
            return item
        seen = self.business_date - timedelta(self.dice.randint(1, 5))
        codes = ("EXPECTED_NOT_DUE", "MISSING_OVERDUE", "UNDER", "AMBIGUOUS", "CUTOFF_TEMPORARY", "RETRO_CORRECTION",
                 "DUPLICATE", "IN_PSP_NOT_LEDGER", "BANK_NOT_PSP")  # fmt: skip
        return replace(
            item, is_carried=True, batch_id=1, carried_break_code=self.dice.choice(codes),
            first_seen_business_date=seen,
            last_changed_business_date=min(seen + timedelta(self.dice.randint(0, 3)),
                                           self.business_date - timedelta(1)),
        )  # fmt: skip

    def _earlier(self, items: Sequence[Item]) -> list[Earlier]:
        """Rows of one earlier close under the references of this world: of items that are done, and of carried ones."""
        keyed = [item for item in items if item.strong_key is not None or (item.weak_key and item.side == RIGHT)]
        rows = []
        for number in range(self.dice.randint(0, 2) if keyed and self._often(40) else 0):
            item = self.dice.choice(keyed)
            key = item.item_key if item.is_carried and self._often(50) else f"earlier {number}"
            was_reported = self._often(80)
            is_failed = item.item_type == "refund" and self._often(40)
            day = item.value_date - timedelta(self.dice.choice((0, 1, 5, 6, 7, 8, 9)))
            # Under the same reference, and none of its business.
            elsewhere = "fx_bank" if item.reconciliation == "payout_bank" else "payout_bank"
            rows.append(Earlier(
                key, elsewhere if self._often(20) else item.reconciliation, item.strong_key, item.weak_key, day,
                was_reported, was_reported and self._often(80), "FAILED" if is_failed else None,
                item.amount_minor if self._often(50) else 0,
            ))  # fmt: skip
        return list({row.item_key: row for row in rows}.values())

    def _covered(self, items: Sequence[Item]) -> dict[tuple[str, str], date]:
        """How far the reports of the accounts reach, where there are any."""
        senders = {("bank", item.bank_account) for item in items} | {
            (item.processor or "", item.processor_account) for item in items
        }
        return {
            (origin, account): self.business_date - timedelta(self.dice.randint(0, 10))
            for origin, account in sorted(senders, key=str)
            if account is not None and self._often(70)
        }

    # -- parts

    def _at_bank(self, key: str, side: str, name: str, item_type: str, amount: int, event: Event) -> Item:
        currency, reference = event.currency, self._reference(side, event, 10)
        account = "payout_in_transit" if name == "payout_bank" else "fx_clearing"
        return Item(
            **self._common(key, side, name, item_type if side == LEFT else "bank_entry", amount, currency),
            clearing_account=self._account(f"{account}:bank"),
            bank_account="bank",
            strong_key=reference and f"bank|{currency}|{reference}",
            weak_key=f"bank|{currency}|{amount}",
            is_reversal=side == RIGHT and self._often(10),
        )

    def _common(self, key: str, side: str, name: str, item_type: str, amount: int, currency: str) -> dict[str, Any]:
        """What every item has; the left side also knows when the right is expected."""
        value_date = self.business_date - timedelta(
            self.dice.choice((0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 20, -1))
        )
        expected = value_date + timedelta(self.dice.choice((0, 1, 2, 4)))
        due = expected + timedelta(self.dice.choice((0, 1, 3)))
        return {
            "item_key": key, "reconciliation": name, "side": side, "item_type": item_type, "amount_minor": amount,
            "currency": currency, "value_date": value_date, "calendar": None if self._often(10) else self.calendar,
            "batch_id": self.dice.choice((2, 3)),
            "expected_date": expected if side == LEFT else None, "due_date": due if side == LEFT else None,
        }  # fmt: skip

    def _line(self, item: Item) -> Item:
        """A report's line: with its time, its fee, and the code of one that says too little."""
        # The last one occurred a day after it was booked.
        before_midnight = self.dice.choice((1, 59, 60, 61, 43200, -86399))
        midnight = datetime.combine(item.value_date + timedelta(1), time(), ZONE)
        item = replace(item, occurred_at=midnight - timedelta(seconds=before_midnight))
        if self._often(3):
            return replace(
                item, item_type="unmapped", strong_key=None, weak_key=None, intrinsic_code="UNMAPPED_TYPE"
            )
        if item.strong_key is None and item.weak_key is None and item.item_type != "reserve_release":
            return replace(item, intrinsic_code="MISSING_KEY")
        fee = 0
        asked = any(contract.pricing == "interchange_plus_plus" for contract in self.contracts)
        if self._often(80 if asked else 10):
            item = replace(
                item, interchange_minor=self.dice.choice((0, 4, 20, 20, None)),
                scheme_fee_minor=self.dice.choice((0, 1, 3, 3, None)),
            )  # fmt: skip
        if self.contracts and not self._often(10):
            contract = self.contracts[0]
            share = (abs(item.amount_minor) * contract.pct_bps / 10_000).quantize(Decimal(1), ROUND_HALF_EVEN)
            fee = int(share) + contract.fixed_minor + self.dice.choice((0, 0, 0, 1, 2, 3, -2, -3, 17))
            if contract.pricing == "interchange_plus_plus":
                fee += (item.interchange_minor or 0) + (item.scheme_fee_minor or 0)
        elif self._often(20):
            fee = 3
        if not self._often(10):
            return replace(item, fee_minor=fee, fee_currency=item.currency)
        variance = None if self._often(20) else self.dice.choice((0, 1, 2, 3, -2, -3))
        return replace(
            item, fee_minor=fee, fee_currency="USD", fx_variance_minor=variance, is_rate_missing=variance is None
        )

    def _event(self) -> Event:
        """Another one, or one that was there before, perhaps told a little differently."""
        dice = self.dice
        event = Event(
            family=dice.choice((CAPTURE, CAPTURE, CAPTURE, *FAMILIES)),
            reference=dice.choice(("a", "b", "c")),
            order=dice.choice(("x", "y", "z")),
            amount_minor=self.base,
            currency=dice.choice(CURRENCIES) if self._often(10) else self.currency,
        )
        if self.events and self._often(75):
            event = dice.choice(self.events)
        if self._often(35):
            base = self.base
            event = replace(event, amount_minor=dice.choice((
                base + 1, base + 1, base - 1, base + 2, base // 2, base - base // 2, base * 2, base * 95 // 100,
                base * 95 // 100, base * 95 // 100, base * 95 // 100 - 1, -base, 0,
            )))  # fmt: skip
        if self._often(5):
            event = replace(event, currency=dice.choice(CURRENCIES))
        self.events.append(event)
        return event

    def _contract(self, number: int) -> Contract:
        dice, day = self.dice, self.business_date
        passes_through = self._often(25)
        # With no mark-up at all, less than what is passed through may still be within the tolerance.
        is_free = passes_through and self._often(40)
        return Contract(
            fee_schedule_id=f"contract {number}",
            processor=self.processor if self._often(90) else "stripe",
            method_type="card" if self._often(90) else "wallet",
            network=dice.choice(("visa", "*", "*")),
            market=dice.choice(("NL", "*", "*")),
            currency=self.currency if self._often(90) else "EUR",
            pct_bps=Decimal(0 if is_free else dice.choice((0, 100, 140, 250))),
            fixed_minor=0 if is_free else dice.choice((0, 10)),
            valid_from=day - timedelta(dice.choice((400, 400, 5, 1, 0))),
            valid_to=day - timedelta(dice.choice((0, 1, 2))) if self._often(20) else None,
            fee_type="gateway" if self._often(15) else "processing",
            item_type=dice.choice(("refund", "chargeback")) if self._often(15) else CAPTURE,
            billing="invoice" if self._often(10) else "settlement",
            pricing="interchange_plus_plus" if passes_through else "blended",
            tier_basis="month_volume" if self._often(15) else "line_amount",
            tier_from_minor=dice.choice((1, self.base, self.base + 1)) if self._often(20) else 0,
            charged_per="line" if self._often(30) else "item",
            minimum_minor=dice.choice((12, 40)) if self._often(15) else None,
            maximum_minor=dice.choice((11, 90)) if self._often(15) else None,
        )

    def _volumes(self) -> list[Volume]:
        """What was captured in some months under some contracts: about as much as the tiers ask for."""
        found: dict[tuple[object, ...], Volume] = {}
        for contract in self.contracts:
            if contract.tier_basis != "month_volume":
                continue
            for _ in range(self.dice.randint(0, 3)):
                some_day = self.business_date.replace(day=1) - timedelta(self.dice.choice((0, 1, 1, 1, 32)))
                month = some_day.replace(day=1)
                volume = Volume(
                    contract.processor, contract.method_type, self.dice.choice(("visa", "mc")),
                    self.dice.choice(("NL", "DE")), self.currency, month,
                    self.dice.choice((self.base, self.base, self.base // 2, 1)), self._often(15),
                )  # fmt: skip
                found[volume.network, volume.market, month, volume.is_abandoned] = volume
        return list(found.values())

    def _signed(self, event: Event) -> int:
        return -event.amount_minor if self._often(10) else event.amount_minor

    def _reference(self, side: str, event: Event, percent_missing: int) -> str | None:
        if self._often(percent_missing):
            return None
        if side == RIGHT and self._often(8):
            return "a+b"
        return event.reference if self.keeps_references or side == LEFT else f"{event.reference} of theirs"

    def _account(self, name: str) -> str:
        return f"{name} too" if self.has_two_accounts and self._often(30) else name

    def _often(self, percent: int) -> bool:
        return self.dice.randrange(100) < percent


MAKERS = {
    "payment_processor": _Scene.payment_processor,
    "batch_payout": _Scene.batch_payout,
    "processor_bank": _Scene.processor_bank,
    "payout_bank": _Scene.payout_bank,
    "fx_bank": _Scene.fx_bank,
    "ledger_bank": _Scene.ledger_bank,
    "contract_invoice": _Scene.contract_invoice,
}
# Most rules and codes are those of the first.
NAMES = ("payment_processor", "payment_processor", "payment_processor", "processor_bank", *MAKERS)
