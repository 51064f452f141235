"""The stage on which events happen: what the ledger hands over, what processors report, and when each is known."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from tests.bench.match.days import ONE_DAY, Days, at, half_even, seed
from tests.bench.match.market import PROCESSOR_RATE_E6, RECORD_TYPES, Prices, Route
from tests.bench.match.plan import Plan
from tests.bench.match.truth import Truth

Row = dict[str, Any]
Account = tuple[str, str]
PAYMENT_PROCESSOR = "payment_processor"
NOON = 12 * 3600
NEVER = date(1900, 1, 1)


class Sale(NamedTuple):
    """A payment: its ids, its route, its amount in minor units."""

    payment_id: str
    order: str
    route: Route
    amount_minor: int


class Movement(NamedTuple):
    """What the ledger expects a processor to settle; ``amount_minor`` is positive towards us.

    :param known: first close that explains it.
    """

    reference: str
    psp_reference: str
    sale: Sale
    amount_minor: int
    day: date
    known: int


@dataclass
class Line:
    """A line on its way into a report; ``tells`` are the truths about it once its place is known."""

    kind: str
    row: Row
    seen: int
    tells: list[tuple[str, str, int, int | None, str]]


class Stage:
    """Holds what is planned for each close; the truth is written as things are planned."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.days = Days(plan.first, plan.closes)
        self.rng = random.Random(f"{plan.name} {plan.seed}")
        self.truth = Truth(self.days)
        self.prices = Prices(self.days.closes[plan.closes // 2])
        # close -> table -> rows the ledger's snapshot has new
        self.ledger: list[dict[str, list[Row]]] = [defaultdict(list) for _ in range(plan.closes)]
        # account -> report (by close of its lines) -> lines
        self.lines: dict[Account, list[list[Line]]] = {}
        self.terms = {row["processor"]: row for row in seed("processors")}
        self.lags = {name: int(row["settlement_lag_business_days"]) for name, row in self.terms.items()}
        self.lags.update(plan.lags)
        rule = next(row for row in seed("match_rules") if row["rule_id"] == "pp_reference")
        self.window = int(rule["window_business_days"])
        tolerances = (row for row in seed("match_tolerances") if row["rule_id"] == "pp_reference")
        self._tolerances = {row["currency"]: row for row in tolerances}
        self.delivered: dict[Account, list[int]] = {}
        self.covered: dict[Account, list[date]] = {}
        self.settlement_accounts = seed("settlement_accounts")
        for account in sorted({(row["processor"], row["processor_account"]) for row in self.settlement_accounts}):
            self.lines[account] = [[] for _ in range(plan.closes)]
            self.delivered[account] = self._deliveries(plan.silent_accounts.get(account))
            self.covered[account] = self.coverage(self.delivered[account])
        self.bank_accounts = {row["currency"]: row for row in seed("bank_accounts")}
        self.bank_terms = {row["bank_account"]: row for row in seed("bank_account_terms")}
        self.bank_delivered: dict[str, list[int]] = {}
        self.bank_covered: dict[str, list[date]] = {}
        for bank in self.bank_accounts.values():
            number = bank["bank_account"]
            self.bank_delivered[number] = _silent(range(plan.closes), plan.silent_banks.get(number))
            self.bank_covered[number] = self.coverage(self.bank_delivered[number])
        # The close that is being played: everything handed over before it has been taken.
        self.now = 0
        self._numbers: dict[str, int] = defaultdict(int)

    def _deliveries(self, silent: tuple[int, int] | None) -> list[int]:
        """Report -> close at which it is there; a silent account catches up when it speaks again."""
        late = [k + (self.rng.random() < self.plan.reports_late) for k in range(self.plan.closes)]
        return _silent(late, silent)

    def coverage(self, delivered: Sequence[int]) -> list[date]:
        """Close -> date up to which reports that arrive like this reach."""
        return [
            max((self.days.closes[k] for k, came in enumerate(delivered) if came <= close), default=NEVER)
            for close in range(self.plan.closes)
        ]

    def tolerance(self, what: str, currency: str, base_minor: int = 0) -> int:
        """What is tolerated of ``rounding``, ``fee`` or ``fx`` in a currency: the larger of absolute and relative."""
        row = self._tolerances.get(currency) or self._tolerances["*"]
        name = what if what == "rounding" else f"{what}_tolerance"
        relative = Decimal(row.get(f"{name}_bps") or 0) * abs(base_minor) / 10_000
        return max(int(row[f"{name}_minor"]), int(relative))

    def number(self, what: str) -> int:
        """The next number of a kind, from 1."""
        self._numbers[what] += 1
        return self._numbers[what]

    def new_reference(self, processor: str) -> str:
        """A reference the processor assigns to an event."""
        count = self.number("reference")
        return {"adyen": f"PSP{count:013d}", "stripe": f"ch_{count:014x}"}.get(processor, f"PAYID{count:012X}")

    def enter(self, table: str, row: Row, close: int) -> None:
        """Let the ledger hand a row over at a close; nothing beyond the last one."""
        if close < self.plan.closes:
            self.ledger[close][table].append(row)

    def expected(self, day: date, route: Route) -> date:
        """When a processor should settle what happened on ``day``."""
        return self.days.add(day, self.lags[route.processor], route.currency)

    def due(self, expected: date, route: Route) -> date:
        """The last day on which waiting for it is normal."""
        return self.days.add(expected, int(self.terms[route.processor]["grace_business_days"]), route.currency)

    def line(
        self, kind: str, route: Route, psp_reference: str | None, order: str | None, gross: int, booked: date, *,
        fee: int = 0, second: int = NOON, currency: str | None = None,
    ) -> Line:  # fmt: skip
        """A line booked on a day, not yet in any report."""
        gross_currency = currency or route.currency
        net_currency = currency or route.net_currency
        value, rate = gross, None
        if gross_currency != net_currency:
            rate_e6 = PROCESSOR_RATE_E6[gross_currency]
            value, rate = half_even(gross * rate_e6, 10**6), f"{rate_e6 / 10**6:.6f}"
        moment = at(booked, second)
        row = {
            "processor": route.processor, "processor_account": route.account,
            "record_type": RECORD_TYPES[route.processor][kind], "psp_reference": psp_reference,
            "original_psp_reference": None, "merchant_reference": order, "gross_minor": gross,
            "gross_currency": gross_currency, "fee_minor": fee, "net_minor": value - fee, "net_currency": net_currency,
            "exchange_rate": rate, "payment_method": route.network, "occurred_at": moment, "booked_at": moment,
            "record": "",
        }  # fmt: skip
        report = self.days.close_of(booked)
        account = (route.processor, route.account)
        seen = self.delivered[account][report] if report < self.plan.closes else self.plan.closes
        return Line(kind, row, seen, [])

    def report(self, line: Line) -> int:
        """Put a line into the report of its day; the first close that sees it."""
        report = self.days.close_of(line.row["booked_at"].date())
        if report < self.plan.closes:
            self.lines[line.row["processor"], line.row["processor_account"]][report].append(line)
        return line.seen

    def capture(
        self, sale: Sale, day: date, amount: int, *, second: int = NOON, handed_over: int | None = None,
        psp_reference: str | None = None,
    ) -> Movement:  # fmt: skip
        """The ledger captures; by default it hands the row over at the close of the day."""
        number = self.number("capture")
        reference = psp_reference or self.new_reference(sale.route.processor)
        moment = at(day, second)
        close = self.days.close_of(day)
        handed_over = close if handed_over is None else handed_over
        self.enter("captures", {
            "capture_id": f"cap_{number:09d}", "payment_id": sale.payment_id, "processor": sale.route.processor,
            "psp_reference": reference, "amount_minor": amount, "currency": sale.route.currency,
            "captured_at": moment, "updated_at": moment,
        }, handed_over)  # fmt: skip
        return Movement(f"cap_{number:09d}", reference, sale, amount, day, max(close, handed_over))

    def change_capture(self, capture: Movement, amount: int | None, close: int) -> None:
        """The ledger changes a capture's amount, or loses the row (None: a tombstone)."""
        moment = at(self.days.closes[min(close, self.plan.closes - 1)], NOON)
        self.enter("captures", {
            "capture_id": capture.reference, "payment_id": capture.sale.payment_id,
            "processor": capture.sale.route.processor, "psp_reference": capture.psp_reference,
            "amount_minor": amount or 0, "currency": capture.sale.route.currency,
            "captured_at": at(capture.day, NOON), "updated_at": moment, "is_deleted": amount is None,
        }, close)  # fmt: skip

    def refund(
        self, capture: Movement, day: date, amount: int, *, statuses: Sequence[tuple[str, date]] = (),
    ) -> Movement:
        """The ledger refunds; ``statuses`` are (status, day it is said), by default succeeded at once."""
        route = capture.sale.route
        number = self.number("refund")
        reference = self.new_reference(route.processor)
        known = self.plan.closes
        for status, said_on in statuses or (("succeeded", day),):
            close = self.days.close_of(said_on)
            if status == "succeeded":
                known = close
            self.enter("refunds", {
                "refund_id": f"ref_{number:09d}", "payment_id": capture.sale.payment_id,
                "capture_id": capture.reference, "processor": route.processor, "psp_reference": reference,
                "amount_minor": amount, "currency": route.currency, "status": status, "refunded_at": at(day, NOON),
                "updated_at": at(said_on, NOON),
            }, close)  # fmt: skip
        return Movement(f"ref_{number:09d}", reference, capture.sale, -amount, day, known)

    def dispute(
        self, capture: Movement, stage: str, day: date, dispute_id: str, handed_over: int | None = None
    ) -> Movement:
        """The ledger learns of a stage of a dispute over the whole capture."""
        route = capture.sale.route
        reference = self.new_reference(route.processor)
        close = self.days.close_of(day) if handed_over is None else handed_over
        self.enter("disputes", {
            "dispute_id": dispute_id, "stage": stage, "payment_id": capture.sale.payment_id,
            "capture_id": capture.reference, "processor": route.processor, "psp_reference": reference,
            "reason_code": "10.4", "is_fraud": True, "amount_minor": capture.amount_minor, "currency": route.currency,
            "stage_at": at(day, NOON),
        }, close)  # fmt: skip
        sign = 1 if stage == "won" else -1
        return Movement(f"{dispute_id}:{stage}", reference, capture.sale, sign * capture.amount_minor, day, close)

    def waits(self, kind: str, item: Movement, seen: int | None) -> None:
        """The truth of a movement until its line is seen."""
        route = item.sale.route
        expected = self.expected(item.day, route)
        self.truth.waits(
            kind, PAYMENT_PROCESSOR, item.reference, item.amount_minor, route.currency, item.known, expected,
            self.due(expected, route), seen, "IN_LEDGER_NOT_PSP", self.covered[route.processor, route.account],
        )  # fmt: skip

    def left_open(self, kind: str, item: Movement, code: str, opens: int, clears: int | None = None,
                  note: str = "") -> None:  # fmt: skip
        """A movement is open under a code."""
        self.truth.open(kind, PAYMENT_PROCESSOR, "left", item.reference, code, opens, clears, item.amount_minor,
                        item.sale.route.currency, note)  # fmt: skip

    def alone(self, kind: str, line: Line, until: int | None, code: str = "IN_PSP_NOT_LEDGER") -> None:
        """A line that nothing of ours answers, until a close that knows its counterpart."""
        opens = line.seen
        booked = line.row["booked_at"]
        late = (booked + timedelta(seconds=int(self.terms[line.row["processor"]]["cutoff_grace_seconds"]))).date()
        if code == "IN_PSP_NOT_LEDGER" and opens < self.plan.closes and late > booked.date() == self.days.closes[opens]:
            line.tells.append((kind, "CUTOFF_TEMPORARY", opens, min(opens + 1, until or opens + 1), ""))
            opens += 1
        line.tells.append((kind, code, opens, until, ""))

    def day_after(self, day: date, low: int, high: int) -> date:
        """A day between ``low`` and ``high`` days later."""
        return day + self.rng.randint(low, high) * ONE_DAY


def _silent(delivered: Sequence[int], silent: tuple[int, int] | None) -> list[int]:
    if silent is None:
        return list(delivered)
    first, last = silent
    return [max(came, last + 1) if first <= k <= last or first <= came <= last else came
            for k, came in enumerate(delivered)]  # fmt: skip
