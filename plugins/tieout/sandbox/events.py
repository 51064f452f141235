"""What can happen to a payment, and what each event leaves behind: ledger rows, settlement lines, agenda, truth."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from random import Random
from typing import Any

from tieout.sandbox.days import LAST_DAY, ONE_DAY, add_business_days, half_even, length_s, starts_at
from tieout.sandbox.formats import Line
from tieout.sandbox.ledger import Ledger
from tieout.sandbox.market import (
    DISPUTE_FEE_MINOR,
    MARKETS,
    MERCHANTS,
    MERCHANTS_OF,
    METHODS,
    PRICES,
    PROCESSOR_LAG_DAYS,
    Merchant,
    contract_of,
    contracted_fee,
    passed_through,
)
from tieout.sandbox.processors import Place, Processors, record_type, seen_on
from tieout.sandbox.rates import SCALE, per_euro
from tieout.sandbox.spool import Spool
from tieout.sandbox.state import WorldState
from tieout.sandbox.truth import Truth

RECONCILIATION = "payment_processor"
PLATFORM_FEES = {merchant.merchant_id: merchant.platform_fee_bps for merchant in MERCHANTS}
BINS = {"visa": ("411773", "453997", "476173"), "mastercard": ("510510", "545454", "222300"), "amex": ("371449",)}


@dataclass(slots=True)
class Sale:
    """A payment that was authorised."""

    payment_id: str
    merchant_id: str
    country: str
    network: str
    processor: str
    account: str
    currency: str
    amount_minor: int
    merchant_reference: str
    psp_reference: str

    @property
    def settled_in(self) -> str:
        """Currency the processor pays out in."""
        return MARKETS[self.country].settled_in


@dataclass(slots=True)
class Capture:
    """A capture of a sale."""

    sale: Sale
    capture_id: str
    psp_reference: str
    amount_minor: int
    captured_at: datetime


class Events:
    """One day of payments."""

    def __init__(
        self, day: date, state: WorldState, ledger: Ledger, processors: Processors, truth: Truth, spool: Spool
    ) -> None:
        self.day = day
        self.state = state
        self.ledger = ledger
        self.processors = processors
        self.truth = truth
        self.spool = spool
        self.rng = Random(f"{state.seed}|{day}")
        self.starts = starts_at(day)
        self.length_s = length_s(day)
        self.numbers = {"payment": 0, "method": 0, "refund": 0, "dispute": 0, "ledger": 0}
        self._tag = f"{day:%y%m%d}"
        self._known_methods: dict[tuple[str, str], list[str]] = {}

    # -- small things ------------------------------------------------------------------------------------------

    def number(self, name: str) -> str:
        """The day's next id of a series."""
        self.numbers[name] += 1
        return f"{self._tag}{self.numbers[name]:07d}"

    def moment(self, latest_s: int | None = None) -> datetime:
        """A random instant of the day that leaves a quarter of an hour for what follows."""
        return self.starts + timedelta(milliseconds=self.rng.randrange((latest_s or self.length_s - 1000) * 1000))

    def new_reference(self, processor: str, kind: str) -> str:
        """A reference as the processor would give it: ``kind`` is payment, capture, refund or dispute."""
        bits = self.rng.getrandbits(66)
        if processor == "adyen":
            return f"{bits & 0xFFFFFFFFFFFFFFFF:016X}"
        if processor == "stripe":
            return {"payment": "ch", "capture": "ch", "refund": "re", "dispute": "du"}[kind] + f"_3Q{bits:017x}"
        return f"{bits:017X}"

    def agenda(self, day: date, what: str, **details: Any) -> None:
        """Have something happen on a later day; what lies after the sandbox's last day never happens."""
        if day <= LAST_DAY:
            details["what"] = what
            self.spool.append(f"agenda/{day}", json.dumps(details) + "\n")

    # -- payments ----------------------------------------------------------------------------------------------

    def payment_method(self, country: str, network: str, at: datetime) -> str:
        """A stored payment method: often one that was used before, else a new one."""
        known = self._known_methods.setdefault((country, network), [])
        if known and self.rng.random() < 0.3:
            return known[self.rng.randrange(len(known))]
        method = METHODS[network]
        method_id = "pm_" + self.number("method")
        is_card = method.method_type == "card"
        bins = BINS.get(network, ("",))
        self.ledger.insert(
            "payment_methods",
            method_id,
            f"tok_{self.rng.getrandbits(64):016x}",
            method.method_type,
            network,
            bins[self.rng.randrange(len(bins))] if is_card else None,
            f"{self.rng.randrange(10_000):04d}" if is_card else None,
            country if is_card else None,
            at,
        )
        # A bounded memory of shoppers who come back.
        if len(known) < 200:
            known.append(method_id)
        return method_id

    def payment(
        self,
        merchant: Merchant,
        network: str,
        route: tuple[str, str],
        amount_minor: int,
        at: datetime,
        outcomes: tuple[str, ...],
        status: str,
        updated_at: datetime,
    ) -> Sale:
        """A payment with its attempts, as the ledger shows it at the end of the day."""
        number = self.number("payment")
        country = merchant.country
        sale = Sale(
            f"pay_{number}",
            merchant.merchant_id,
            country,
            network,
            *route,
            MARKETS[country].currency,
            amount_minor,
            f"ORD-{number}",
            self.new_reference(route[0], "payment"),
        )
        method_id = self.payment_method(country, network, at)
        self.ledger.insert(
            "payments", sale.payment_id, sale.merchant_id, method_id, sale.merchant_reference, country, sale.processor,
            sale.account, amount_minor, sale.currency, status, at, updated_at,
        )  # fmt: skip
        rng = self.rng
        moment = at
        for attempt_no, outcome in enumerate(outcomes, 1):
            draw = rng.random()
            three_ds = "none"
            if METHODS[network].method_type == "card" and country not in ("US", "KW"):
                three_ds = "frictionless" if draw < 0.7 else "challenged"
            if outcome == "authentication_failed":
                three_ds = "challenged"
            code = None
            if outcome == "declined":
                code = ("insufficient_funds", "do_not_honour", "expired_card", "suspected_fraud")[int(draw * 4)]
            latency_ms = 180 + int(draw * 900) + (rng.randrange(4000) if draw > 0.97 else 0)
            self.ledger.insert(
                "payment_attempts", f"att_{number}{attempt_no}", sale.payment_id, sale.processor, attempt_no, outcome,
                code, three_ds, latency_ms, moment,
            )  # fmt: skip
            moment += timedelta(seconds=20)
        return sale

    def price(self, country: str) -> int:
        """What a shopper buys, in minor units: one to three pieces at a price of the market."""
        prices = PRICES[MARKETS[country].currency]
        draw = self.rng.random()
        pieces = 1 if draw < 0.75 else 2 if draw < 0.95 else 3
        return prices[int(self.rng.random() * len(prices))] * pieces

    def sell(self, country: str, network: str, taken_by: tuple[str, str], at: datetime, status: str) -> Sale:
        """A payment that is authorised at the first attempt."""
        merchants = MERCHANTS_OF[country]
        merchant = merchants[int(self.rng.random() * len(merchants))]
        amount, done_at = self.price(country), at + timedelta(seconds=45)
        return self.payment(merchant, network, taken_by, amount, at, ("authorised",), status, done_at)

    # -- captures ----------------------------------------------------------------------------------------------

    def record_capture(
        self, sale: Sale, at: datetime, amount_minor: int, number: int = 1, psp_reference: str = ""
    ) -> Capture:
        """The ledger captures; nothing is settled by this alone."""
        if not psp_reference:
            # Stripe names a charge once; the others name each capture.
            is_charge = sale.processor == "stripe"
            psp_reference = sale.psp_reference if is_charge else self.new_reference(sale.processor, "capture")
        capture = Capture(sale, f"cap_{sale.payment_id[4:]}{number}", psp_reference, amount_minor, at)
        self.ledger.insert(
            "captures", capture.capture_id, sale.payment_id, sale.processor, psp_reference, amount_minor, sale.currency,
            at, at,
        )  # fmt: skip
        self._owe_merchant(sale, amount_minor)
        return capture

    def settlement_day(self, sale: Sale) -> date:
        """When the processor books an event of today."""
        return add_business_days(self.day, PROCESSOR_LAG_DAYS[sale.processor], sale.settled_in)

    def line(
        self,
        event: str,
        sale: Sale,
        psp_reference: str,
        gross_minor: int,
        at: datetime,
        booked_on: date | None = None,
    ) -> Line:
        """A settlement line as it should be: the contracted fee on captures, none on what goes back."""
        rate_e8 = None
        settled_gross = gross_minor
        if sale.settled_in != sale.currency:
            rate_e8 = SCALE * SCALE // per_euro(sale.currency, self.day)
            settled_gross = half_even(gross_minor * rate_e8, SCALE)
        fee = 0
        interchange = scheme_fee = None
        if event == "capture":
            contract = contract_of(sale.processor, sale.network, sale.country, settled_gross)
            fee = contracted_fee(contract, settled_gross)
            if contract.passes_through:
                interchange, scheme_fee = passed_through(sale.network, settled_gross)
                fee += interchange + scheme_fee
        original = sale.psp_reference
        return Line(
            event, sale.processor, sale.account, booked_on or self.settlement_day(sale), at, psp_reference, original,
            sale.merchant_reference, gross_minor, sale.currency, fee, settled_gross - fee, sale.settled_in,
            sale.network, sale.country, rate_e8, interchange, scheme_fee,
        )  # fmt: skip

    def wait(
        self,
        reference: str,
        sale: Sale,
        amount_minor: int,
        seen: date | None,
        kind: str = "",
        known_on: date | None = None,
    ) -> None:
        """Truth about a ledger item of today that the processor is expected to settle by the usual lag."""
        expected = self.settlement_day(sale)
        silent = seen_on(sale.processor, sale.account, expected) is None
        overdue = "MISSING_OVERDUE" if silent else "IN_LEDGER_NOT_PSP"
        self.truth.waiting(
            RECONCILIATION, reference, amount_minor, sale.currency, sale.settled_in, known_on or self.day, expected,
            seen, overdue, kind or overdue,
        )  # fmt: skip

    def right_reference(self, line: Line, place: Place) -> str:
        """How the truth names a settlement line."""
        if line.psp_reference:
            return f"{line.processor}:{line.psp_reference}:{record_type(line)}"
        return f"{line.processor}:{place.file}:{place.line_no}"

    def right_only(self, kind: str, code: str, line: Line, clears_on: date | None = None) -> Place:
        """Settle a line that has no counterpart, and say so."""
        place = self.processors.settle(line)
        if place is None:
            raise ValueError(f"{kind} is planted where nothing is delivered: {line.account} on {line.booked_on}")
        self.truth.open(
            kind, RECONCILIATION, "right", self.right_reference(line, place), code, place.seen_on, clears_on,
            line.gross_minor, line.gross_currency,
        )  # fmt: skip
        return place

    def pair(self, kind: str, code: str, reference: str, amount_minor: int, sale: Sale, line: Line) -> None:
        """Settle a line that meets its item but differs from it: both sides stay open."""
        place = self.right_only(kind, code, line)
        self.wait(reference, sale, amount_minor, place.seen_on, kind)
        self.truth.open(kind, RECONCILIATION, "left", reference, code, place.seen_on, None, amount_minor, sale.currency)

    def settle_as_due(self, reference: str, sale: Sale, line: Line, known_on: date | None = None) -> None:
        """Settle a line that meets its item exactly."""
        place = self.processors.settle(line)
        self.wait(reference, sale, line.gross_minor, place.seen_on if place else None, known_on=known_on)

    def capture(self, sale: Sale, at: datetime, amount_minor: int, number: int = 1) -> Capture:
        """An ordinary capture that will be settled as it should."""
        capture = self.record_capture(sale, at, amount_minor, number)
        line = self.line("capture", sale, capture.psp_reference, amount_minor, at)
        self.settle_as_due(capture.capture_id, sale, line)
        return capture

    # -- refunds and disputes ----------------------------------------------------------------------------------

    def record_refund(self, capture: Capture, amount_minor: int, at: datetime, status: str) -> tuple[str, str]:
        """The ledger refunds; returns the refund's id and the processor's reference of it."""
        sale = capture.sale
        refund_id = "ref_" + self.number("refund")
        reference = self.new_reference(sale.processor, "refund")
        updated_at = at if status == "pending" else at + timedelta(seconds=90)
        self.ledger.insert(
            "refunds", refund_id, sale.payment_id, capture.capture_id, sale.processor, reference, amount_minor,
            sale.currency, status, at, updated_at,
        )  # fmt: skip
        if status == "succeeded":
            self.refund_succeeded(capture, amount_minor, updated_at)
        return refund_id, reference

    def refund_succeeded(self, capture: Capture, amount_minor: int, at: datetime) -> None:
        """The payment shows the refund, the merchant pays for it."""
        whole = amount_minor == capture.sale.amount_minor
        self.ledger.change("payments", capture.sale.payment_id, "refunded" if whole else "partially_refunded", at)
        self._owe_merchant(capture.sale, -amount_minor)

    def refund(self, capture: Capture, amount_minor: int, at: datetime) -> None:
        """An ordinary refund: mostly done at once, some the next day, a few fail and are never settled."""
        sale, draw = capture.sale, self.rng.random()
        details = {"capture": as_json(capture), "amount_minor": amount_minor}
        if draw < 0.02:
            refund_id, _ = self.record_refund(capture, amount_minor, at, "pending")
            self.agenda(self.day + ONE_DAY, "refund_outcome", refund_id=refund_id, status="failed", **details)
            return
        slow = draw < 0.3 and sale.processor != "paypal"
        refund_id, reference = self.record_refund(capture, amount_minor, at, "pending" if slow else "succeeded")
        line = self.line("refund", sale, reference, -amount_minor, at)
        self.settle_as_due(refund_id, sale, line, known_on=self.day + ONE_DAY if slow else self.day)
        if slow:
            self.agenda(self.day + ONE_DAY, "refund_outcome", refund_id=refund_id, status="succeeded", **details)

    def chargeback(self, capture: Capture, at: datetime) -> tuple[str, str, str, bool]:
        """A chargeback of the whole capture, settled with its fee; returns id, reference, reason and whether fraud."""
        sale = capture.sale
        dispute_id = "dsp_" + self.number("dispute")
        reference = self.new_reference(sale.processor, "dispute")
        is_fraud = self.rng.random() < 0.55
        reason = {"visa": ("10.4", "13.1"), "mastercard": ("4837", "4853"), "amex": ("F29", "C08")}.get(
            sale.network, ("UNAUTHORISED", "NOT_RECEIVED")
        )[0 if is_fraud else 1]
        self._stage(capture, dispute_id, "chargeback", reference, reason, is_fraud, at)
        self.ledger.change("payments", sale.payment_id, "charged_back", at)
        self._owe_merchant(sale, -capture.amount_minor)
        line = self.line("chargeback", sale, reference, -capture.amount_minor, at)
        self.settle_as_due(f"{dispute_id}:chargeback", sale, line)
        fee = self.line("dispute_fee", sale, reference, 0, at)
        fee.gross_currency, fee.rate_e8 = fee.net_currency, None
        fee.gross_minor = fee.net_minor = -DISPUTE_FEE_MINOR[fee.net_currency]
        if sale.processor == "paypal":
            fee.psp_reference, fee.original_reference = self.new_reference("paypal", "dispute"), reference
        self.processors.settle(fee)
        return dispute_id, reference, reason, is_fraud

    def dispute_outcome(self, capture: Capture, dispute: tuple[str, str, str, bool], stage: str, at: datetime) -> None:
        """The dispute is won, and the processor gives the money back, or lost, and nothing moves."""
        dispute_id, reference, reason, is_fraud = dispute
        sale = capture.sale
        if stage == "won":
            # Stripe reverses under the dispute's own reference.
            reference = reference if sale.processor == "stripe" else self.new_reference(sale.processor, "dispute")
            line = self.line("chargeback_reversed", sale, reference, capture.amount_minor, at)
            self.settle_as_due(f"{dispute_id}:won", sale, line)
            self._owe_merchant(sale, capture.amount_minor)
            self.ledger.change("payments", sale.payment_id, "captured", at)
        self._stage(capture, dispute_id, stage, reference, reason, is_fraud, at)

    def _stage(
        self, capture: Capture, dispute_id: str, stage: str, reference: str, reason: str, is_fraud: bool, at: datetime
    ) -> None:
        sale = capture.sale
        self.ledger.insert(
            "disputes", dispute_id, stage, sale.payment_id, capture.capture_id, sale.processor, reference, reason,
            is_fraud, capture.amount_minor, sale.currency, at,
        )  # fmt: skip

    def _owe_merchant(self, sale: Sale, amount_minor: int) -> None:
        if PLATFORM_FEES[sale.merchant_id]:
            balances = self.state.merchant_balances
            balances[sale.merchant_id] = balances.get(sale.merchant_id, 0) + amount_minor


def as_json(capture: Capture) -> dict[str, Any]:
    """A capture for the agenda."""
    raw = asdict(capture)
    raw["captured_at"] = capture.captured_at.isoformat()
    return raw


def from_json(raw: dict[str, Any]) -> Capture:
    """A capture from the agenda."""
    captured_at = datetime.fromisoformat(raw["captured_at"])
    return Capture(Sale(**raw["sale"]), raw["capture_id"], raw["psp_reference"], raw["amount_minor"], captured_at)
