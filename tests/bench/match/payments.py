"""Payments and what goes wrong with them: each fault twists events and writes down what must come of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import date

from tests.bench.match.days import ONE_DAY, at
from tests.bench.match.events import NOON, PAYMENT_PROCESSOR, Line, Movement, Sale, Stage
from tests.bench.match.market import ROUTES, UNCONTRACTED, Route
from tests.bench.match.plan import PAYMENT_FAULTS
from tests.bench.match.truth import pair_code

TWINS = "two captures of one order have the same amount, and one line without a reference could be either's"
EITHER = "two equal lines without a reference, and either could be the one capture's"
# Faults of a line or its capture that can meet on one item.
TWISTS = {
    "settled_late", "settled_at_window_end", "settled_too_late", "under", "over", "rounding", "beyond_rounding",
    "wrong_currency", "fee_off", "fee_at_tolerance", "fee_without_contract", "twice_in_report", "twice_later",
    "ledger_late", "changed_after_match", "gone_after_match", "fx_off", "fx_at_tolerance", "no_rate",
}  # fmt: skip
# The last part of the time is left for what faults lead to.
PLANTED_UNTIL = 0.55


class Payments:
    """Sells, captures, refunds and disputes; one planned fault for some payments."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.rng = stage.rng
        self.routes = [route for _, route in ROUTES]
        self.weights = [weight for weight, _ in ROUTES]
        plan = stage.plan
        self.faults: dict[int, str] = {}
        room = range(int(plan.payments * 0.03), max(int(plan.payments * PLANTED_UNTIL), 1))
        wanted = {fault: max(plan.least, round(rate * plan.payments)) for fault, rate in plan.payment_rates.items()}
        for fault in [fault for fault, count in wanted.items() for _ in range(count)]:
            number = self.rng.choice(room)
            while number in self.faults:
                number = self.rng.choice(room)
            self.faults[number] = fault
        self.handlers: dict[str, Callable[[str, Sale, date], None]] = {
            name: getattr(self, f"_{name}") for name in PAYMENT_FAULTS if hasattr(self, f"_{name}")
        }
        self.sold: dict[date, int] = defaultdict(int)

    def play(self, day: date, first: int, last: int) -> None:
        """Payments ``first`` to before ``last`` of the world, on one day."""
        for number in range(first, last):
            fault = self.faults.get(number)
            if fault is None:
                self._ordinary(self._sell(day, self.rng.choices(self.routes, self.weights)[0]), day)
                continue
            parts = set(fault.split("+"))
            sale = self._sell(day, self._route_for(parts))
            if parts <= TWISTS:
                self._twisted(fault, parts, sale, day)
            else:
                self.handlers[fault](fault, sale, day)

    def _route_for(self, parts: set[str]) -> Route:
        """A route on which a fault can happen."""
        fitting = [route for route in self.routes if route.net_currency == route.currency]
        if parts & {"cut_off", "cut_off_ledger_late"}:
            fitting = [route for route in fitting if self.stage.lags[route.processor] == 0]
        elif parts & {"changed_before_line", "gone_before_line", "future_dated"}:
            fitting = [route for route in fitting if self.stage.lags[route.processor] > 1]
        elif "wrong_currency" in parts:
            fitting = [r for r in fitting if r.account == "TieoutEU" and r.currency != "EUR"]
        elif parts & {"fx_off", "fx_at_tolerance", "no_rate"}:
            fitting = [route for route in self.routes if route.net_currency != route.currency]
        elif "second_chargeback" in parts:
            fitting = [route for route in fitting if route.processor == "adyen"]
        elif "fee_without_contract" in parts:
            fitting = [route for route in fitting if route.method_type == "card"]
        route = self.rng.choice(fitting)
        return route._replace(network=UNCONTRACTED) if "fee_without_contract" in parts else route

    def _sell(self, day: date, route: Route) -> Sale:
        number = self.stage.number("payment")
        # No amount is so small that what is taken off or added could not be told apart.
        sale = Sale(f"pay_{number:09d}", f"ORD{number:09d}", route, self.rng.randint(1_000, 90_000))
        moment = at(day, 3600)
        self.stage.enter("payments", {
            "payment_id": sale.payment_id, "merchant_id": "platform" if number % 3 == 0 else "principal",
            "payment_method_id": route.network, "merchant_reference": sale.order, "market": route.market,
            "processor": route.processor, "processor_account": route.account, "amount_minor": sale.amount_minor,
            "currency": route.currency, "status": "captured", "created_at": moment, "updated_at": moment,
        }, self.stage.days.close_of(day))  # fmt: skip
        return sale

    def _second(self) -> int:
        """A second between 06:00 and 22:00: nothing is near midnight but what is meant to be."""
        return self.rng.randrange(6 * 3600, 22 * 3600)

    def _ordinary(self, sale: Sale, day: date) -> None:
        """Captured, at times in parts, settled when expected or a business day off, at times refunded or disputed."""
        draw = self.rng.random()
        if draw < 0.02:
            return
        if draw < 0.07:
            first = sale.amount_minor * self.rng.randint(2, 7) // 10
            self._settled(self.stage.capture(sale, day, first, second=self._second()))
            later = self.stage.day_after(day, 0, 4)
            capture = self.stage.capture(sale, later, sale.amount_minor - first, second=self._second())
            self._settled(capture)
        else:
            capture = self.stage.capture(sale, day, sale.amount_minor, second=self._second())
            self._settled(capture)
        draw = self.rng.random()
        if draw < self.stage.plan.refund_share:
            part = capture.amount_minor if draw < self.stage.plan.refund_share / 2 else capture.amount_minor // 3
            self._settled(self.stage.refund(capture, self.stage.day_after(capture.day, 0, 10), part), "refund")
        elif draw < self.stage.plan.refund_share + self.stage.plan.dispute_share:
            self._disputed(capture, draw)

    def _disputed(self, capture: Movement, draw: float) -> None:
        stage = self.stage
        dispute_id = f"dsp_{stage.number('dispute'):09d}"
        opened = stage.day_after(capture.day, 4, 12)
        self._settled(stage.dispute(capture, "chargeback", opened, dispute_id), "chargeback")
        ended = stage.day_after(opened, 3, 12)
        if draw * 10_000 % 3 < 1:
            self._settled(stage.dispute(capture, "won", ended, dispute_id), "chargeback_reversal")
        elif draw * 10_000 % 3 < 2:
            stage.dispute(capture, "lost", ended, dispute_id)

    def _line(self, item: Movement, kind: str = "capture", *, gross: int | None = None, booked: date | None = None,
              psp_reference: str | None = "", second: int = NOON) -> Line:  # fmt: skip
        """The line a movement should have, unless told otherwise."""
        route = item.sale.route
        gross = item.amount_minor if gross is None else gross
        fee = self.stage.prices.fee(route, gross, item.day) if kind == "capture" and route.currency != "SEK" else 0
        return self.stage.line(
            kind, route, item.psp_reference if psp_reference == "" else psp_reference, item.sale.order, gross,
            booked or self.stage.expected(item.day, route), fee=fee, second=second,
        )  # fmt: skip

    def _settled(self, item: Movement, kind: str = "capture") -> None:
        """Nothing is wrong: the line comes on the expected day, seldom a business day before or after it."""
        stage, route = self.stage, item.sale.route
        expected = stage.expected(item.day, route)
        draw = stage.rng.random()
        if draw < stage.plan.late_share:
            expected = stage.days.add(expected, 1, route.currency)
        elif draw > 1 - stage.plan.early_share and expected - ONE_DAY >= item.day:
            expected -= ONE_DAY
        line = self._line(item, kind, booked=expected, second=self._second())
        stage.waits("ordinary", item, stage.report(line))
        if item.known > line.seen:
            stage.alone("ordinary", line, item.known)

    def _judged(self, kind: str, item: Movement, line: Line, *, price: str | None = None,
                clears: int | None = None) -> str | None:  # fmt: skip
        """The truth of a movement and the line that bears its reference; the code they share."""
        stage, route = self.stage, item.sale.route
        together = max(line.seen, item.known)
        stage.waits(kind, item, line.seen)
        if item.known > line.seen:
            stage.alone(kind, line, item.known)
        booked = line.row["booked_at"].date()
        last = stage.days.add(stage.expected(item.day, route), stage.window, route.currency)
        code = pair_code(
            item.amount_minor, line.row["gross_minor"], stage.tolerance("rounding", route.currency, item.amount_minor),
            same_currency=line.row["gross_currency"] == route.currency,
            in_window=item.day - ONE_DAY <= booked <= last, price=price,
        )  # fmt: skip
        if code:
            stage.left_open(kind, item, code, together, clears)
            line.tells.append((kind, code, together, clears, ""))
        return code

    def _twisted(self, fault: str, parts: set[str], sale: Sale, day: date) -> None:
        """One capture and its line, with every twist that is asked for."""
        stage, route, amount = self.stage, sale.route, sale.amount_minor
        expected = stage.expected(day, route)
        booked = expected
        if "settled_late" in parts:
            booked = stage.days.add(expected, self.rng.randint(2, stage.window - 1), route.currency)
        elif "settled_at_window_end" in parts:
            booked = stage.days.add(expected, stage.window, route.currency)
        elif "settled_too_late" in parts:
            booked = stage.days.add(expected, stage.window + self.rng.randint(1, 3), route.currency)
        gross, rounding = amount, stage.tolerance("rounding", route.currency, amount)
        if "under" in parts:
            gross -= amount // self.rng.randint(5, 12)
        elif "over" in parts:
            gross += amount // self.rng.randint(5, 12)
        elif "rounding" in parts:
            gross += self.rng.choice((-1, 1)) * rounding
        elif "beyond_rounding" in parts:
            gross += self.rng.choice((-1, 1)) * (rounding + 1)
        report = stage.days.close_of(booked)
        seen = stage.delivered[route.processor, route.account][report] if report < stage.plan.closes else report
        handed_over = seen + 2 if "ledger_late" in parts else None
        capture = stage.capture(sale, day, amount, second=self._second(), handed_over=handed_over)
        line = stage.line(
            "capture", route, capture.psp_reference, sale.order, gross, booked, second=self._second(),
            fee=stage.prices.fee(route, gross, day), currency="EUR" if "wrong_currency" in parts else None,
        )  # fmt: skip
        price = self._mispriced(parts, line)
        stage.report(line)
        together = max(line.seen, capture.known)
        again = None
        if parts & {"twice_in_report", "twice_later"}:
            again_on = booked if "twice_in_report" in parts else stage.days.add(booked, 2, route.currency)
            again = self._line(capture, gross=gross, second=self._second(), booked=again_on)
            stage.report(again)
        changed = together + 2 if parts & {"changed_after_match", "gone_after_match"} else None
        change, clears = 0, None
        if changed is not None:
            # What puts the books right is what the line says; without a difference it is any other amount.
            change = -amount if "gone_after_match" in parts else (gross - amount or -(amount // 7))
            clears = changed if amount + change == gross and "wrong_currency" not in parts else None
        elif again is not None and gross != amount:
            clears = max(again.seen, together)
        code = self._judged(fault, capture, line, price=price, clears=clears)
        if changed is not None:
            stage.change_capture(capture, None if "gone_after_match" in parts else amount + change, changed)
            if clears is None or code is None:
                stage.left_open(fault, capture._replace(amount_minor=change), "RETRO_CORRECTION", changed)
        if again is not None:
            self._repeated(fault, capture, line, again)

    def _mispriced(self, parts: set[str], line: Line) -> str | None:
        """Twist a line's fee, or what was converted, and name it."""
        stage, row = self.stage, line.row
        fee = stage.tolerance("fee", row["net_currency"], row["fee_minor"])
        converted = stage.tolerance("fx", row["gross_currency"])
        sign = self.rng.choice((-1, 1))
        off = {"fee_off": fee + self.rng.choice((1, 75)), "fee_at_tolerance": fee}
        lost = {"fx_off": converted + self.rng.choice((1, 300)), "fx_at_tolerance": converted}
        for part in sorted(parts):
            row["fee_minor"] += sign * off.get(part, 0)
            row["net_minor"] -= sign * (off.get(part, 0) + lost.get(part, 0))
        if "no_rate" in parts:
            row["exchange_rate"] = None
        named = {"fee_off": "FEE_VARIANCE", "fee_without_contract": "FEE_DATA_MISSING", "fx_off": "FX_DIFFERENCE",
                 "no_rate": "FX_RATE_UNAVAILABLE"}  # fmt: skip
        return next((code for part, code in named.items() if part in parts), None)

    def _repeated(self, fault: str, capture: Movement, line: Line, again: Line) -> None:
        """The truth of a line that repeats another: too much by itself, or one break of all three."""
        stage, since = self.stage, max(again.seen, capture.known)
        if capture.known > again.seen:
            stage.alone(fault, again, capture.known)
        if line.row["gross_minor"] == capture.amount_minor:
            again.tells.append((fault, "DUPLICATE", since, None, ""))
            return
        code = pair_code(capture.amount_minor, 2 * line.row["gross_minor"], 1)
        assert code is not None, "half of a capture, twice, is the capture"
        stage.left_open(fault, capture, code, since)
        for one in (line, again):
            one.tells.append((fault, code, since, None, ""))

    def _never_settled(self, kind: str, sale: Sale, day: date) -> None:
        self.stage.waits(kind, self.stage.capture(sale, day, sale.amount_minor), None)

    def _in_order(self, sale: Sale, day: date) -> Movement:
        """A capture with its line on the expected day."""
        capture = self.stage.capture(sale, day, sale.amount_minor)
        line = self._line(capture)
        self.stage.waits("ordinary", capture, self.stage.report(line))
        return capture

    def _never_refunded(self, kind: str, sale: Sale, day: date) -> None:
        capture = self._in_order(sale, day)
        self.stage.waits(kind, self.stage.refund(capture, self.stage.day_after(day, 1, 4), sale.amount_minor), None)

    def _wrong_sign(self, kind: str, sale: Sale, day: date) -> None:
        capture = self._in_order(sale, day)
        refund = self.stage.refund(capture, self.stage.day_after(day, 1, 4), sale.amount_minor // 2)
        line = self._line(refund, "refund", gross=-refund.amount_minor)
        self.stage.report(line)
        self._judged(kind, refund, line)

    def _twice_other_amount(self, kind: str, sale: Sale, day: date) -> None:
        capture = self._in_order(sale, day)
        other = self._line(capture, gross=sale.amount_minor - sale.amount_minor // 5, second=NOON + 7)
        self.stage.report(other)
        other.tells.append((kind, "DUPLICATE", other.seen, None, ""))

    def _corrected_by_second_line(self, kind: str, sale: Sale, day: date) -> None:
        stage = self.stage
        capture = stage.capture(sale, day, sale.amount_minor)
        first = self._line(capture, gross=sale.amount_minor - sale.amount_minor // 6)
        second = self._line(capture, booked=stage.days.add(stage.expected(day, sale.route), 2, sale.route.currency))
        stage.report(first)
        stage.report(second)
        stage.waits(kind, capture, first.seen)
        stage.left_open(kind, capture, "UNDER", first.seen, second.seen)
        first.tells.append((kind, "UNDER", first.seen, second.seen, ""))
        first.tells.append((kind, "DUPLICATE", second.seen, None, ""))

    def _parts(self, kind: str, sale: Sale, day: date, apart: int) -> None:
        stage = self.stage
        capture = stage.capture(sale, day, sale.amount_minor)
        half = sale.amount_minor * 3 // 5
        first = self._line(capture, gross=half)
        day_2 = first.row["booked_at"].date()
        second = self._line(capture, gross=sale.amount_minor - half, second=NOON + 5,
                            booked=stage.days.add(day_2, apart, sale.route.currency) if apart else day_2)  # fmt: skip
        stage.report(first)
        stage.report(second)
        stage.waits(kind, capture, first.seen)
        stage.left_open(kind, capture, "UNDER", first.seen, second.seen)
        first.tells.append((kind, "UNDER", first.seen, second.seen, ""))

    def _settled_in_parts(self, kind: str, sale: Sale, day: date) -> None:
        self._parts(kind, sale, day, 2)

    def _settled_in_parts_at_once(self, kind: str, sale: Sale, day: date) -> None:
        self._parts(kind, sale, day, 0)

    def _no_reference(self, kind: str, sale: Sale, day: date) -> None:
        capture = self.stage.capture(sale, day, sale.amount_minor)
        self.stage.waits(kind, capture, self.stage.report(self._line(capture, psp_reference=None)))

    def _no_reference_far_away(self, kind: str, sale: Sale, day: date) -> None:
        capture = self.stage.capture(sale, day, sale.amount_minor)
        away = self.stage.window + self.stage.lags[sale.route.processor] + 4
        far = self.stage.days.add(day, away, sale.route.currency)
        line = self._line(capture, psp_reference=None, booked=far)
        self.stage.report(line)
        self.stage.waits(kind, capture, None)
        self.stage.alone(kind, line, None)

    def _no_reference_twins(self, kind: str, sale: Sale, day: date) -> None:
        half = sale.amount_minor // 2
        captures = [self.stage.capture(sale, day, half, second=NOON + n) for n in (1, 2)]
        line = self._line(captures[0], psp_reference=None)
        seen = self.stage.report(line)
        for capture in captures:
            self.stage.waits(kind, capture, seen)
            self.stage.left_open(kind, capture, "AMBIGUOUS", seen, None, TWINS)
        line.tells.append((kind, "AMBIGUOUS", seen, None, TWINS))

    def _no_reference_twice(self, kind: str, sale: Sale, day: date) -> None:
        capture = self.stage.capture(sale, day, sale.amount_minor)
        lines = [self._line(capture, psp_reference=None, second=NOON + n) for n in (0, 9)]
        for line in lines:
            line.tells.append((kind, "AMBIGUOUS", self.stage.report(line), None, EITHER))
        self.stage.waits(kind, capture, lines[0].seen)
        self.stage.left_open(kind, capture, "AMBIGUOUS", lines[0].seen, None, EITHER)

    def _no_key(self, kind: str, sale: Sale, day: date) -> None:
        capture = self.stage.capture(sale, day, sale.amount_minor)
        line = self._line(capture, psp_reference=None)
        line.row["merchant_reference"] = None
        line.tells.append((kind, "MISSING_KEY", self.stage.report(line), None, ""))
        self.stage.waits(kind, capture, None)

    def _swapped(self, kind: str, sale: Sale, day: date) -> None:
        other = self._sell(day, sale.route)
        if abs(other.amount_minor - sale.amount_minor) < 10:
            other = other._replace(amount_minor=sale.amount_minor + 1000)
        one, two = (self.stage.capture(one, day, one.amount_minor) for one in (sale, other))
        for mine, theirs in ((one, two), (two, one)):
            # The line tells of the other payment and bears this one's reference.
            line = self._line(theirs, psp_reference=mine.psp_reference)
            self.stage.report(line)
            self._judged(kind, mine, line)

    def _stranger(self, kind: str, sale: Sale, day: date) -> None:
        unknown = sale._replace(order=f"EXT{sale.order}")
        line = self.stage.line("capture", sale.route, self.stage.new_reference(sale.route.processor), unknown.order,
                               sale.amount_minor, day, second=self._second())  # fmt: skip
        self.stage.report(line)
        self.stage.alone(kind, line, None)

    def _unmapped(self, kind: str, sale: Sale, day: date) -> None:
        line = self.stage.line("unmapped", sale.route, self.stage.new_reference(sale.route.processor), None,
                               self.rng.choice((-1, 1)) * 260, day, second=self._second())  # fmt: skip
        line.tells.append((kind, "UNMAPPED_TYPE", self.stage.report(line), None, ""))

    def _crossing(self, kind: str, sale: Sale, day: date, late: int) -> None:
        reference = self.stage.new_reference(sale.route.processor)
        capture = self.stage.capture(sale, day + ONE_DAY, sale.amount_minor, second=self.rng.randint(1, 40),
                                     psp_reference=reference,
                                     handed_over=self.stage.days.close_of(day + ONE_DAY) + late)  # fmt: skip
        line = self._line(capture, booked=day, second=24 * 3600 - self.rng.randint(2, 40))
        self.stage.report(line)
        self._judged(kind, capture, line)

    def _cut_off(self, kind: str, sale: Sale, day: date) -> None:
        self._crossing(kind, sale, day, 0)

    def _cut_off_ledger_late(self, kind: str, sale: Sale, day: date) -> None:
        self._crossing(kind, sale, day, 1)

    def _future_dated(self, kind: str, sale: Sale, day: date) -> None:
        stage = self.stage
        capture = stage.capture(sale, day + ONE_DAY, sale.amount_minor, second=self.rng.randint(5, 200),
                                handed_over=stage.days.close_of(day))  # fmt: skip
        capture = capture._replace(known=stage.days.close_of(day + ONE_DAY))
        stage.waits(kind, capture, stage.report(self._line(capture)))

    def _refund_first(self, kind: str, sale: Sale, day: date) -> None:
        capture = self._in_order(sale, day + 3 * ONE_DAY)
        refund = self.stage.refund(capture, day, sale.amount_minor)
        self.stage.waits(kind, refund, self.stage.report(self._line(refund, "refund")))

    def _failing(self, kind: str, sale: Sale, day: date, after: int) -> None:
        stage = self.stage
        capture = self._in_order(sale, day)
        asked = stage.day_after(day, 1, 3)
        failed = asked + ONE_DAY
        if after:
            failed = stage.days.add(stage.expected(asked, sale.route), after, sale.route.currency)
        refund = stage.refund(capture, asked, sale.amount_minor, statuses=(("pending", asked), ("failed", failed)))
        line = self._line(refund, "refund")
        stage.report(line)
        told = max(line.seen, stage.days.close_of(failed))
        stage.alone(kind, line, told)
        line.tells.append((kind, "STATUS", told, None, ""))

    def _refund_failed(self, kind: str, sale: Sale, day: date) -> None:
        self._failing(kind, sale, day, 0)

    def _refund_failed_after_line(self, kind: str, sale: Sale, day: date) -> None:
        self._failing(kind, sale, day, 3)

    def _refund_pending_long(self, kind: str, sale: Sale, day: date) -> None:
        stage = self.stage
        capture = self._in_order(sale, day)
        asked = stage.day_after(day, 1, 3)
        refund = stage.refund(capture, asked, sale.amount_minor,
                              statuses=(("pending", asked), ("succeeded", stage.day_after(asked, 4, 8))))  # fmt: skip
        line = self._line(refund, "refund")
        stage.report(line)
        self._judged(kind, refund, line)

    def _given_back(self, kind: str, item: Movement, line_kind: str, code: str, until: int | None = None) -> Line:
        """A line of its own reference, some business days after the movement it takes back was settled."""
        stage, route = self.stage, item.sale.route
        booked = stage.days.add(stage.expected(item.day, route), self.rng.randint(2, 5), route.currency)
        line = self._line(item, line_kind, gross=-item.amount_minor, booked=booked,
                          psp_reference=stage.new_reference(route.processor))  # fmt: skip
        stage.report(line)
        stage.alone(kind, line, until, code)
        return line

    def _refund_reversed(self, kind: str, sale: Sale, day: date) -> None:
        refund = self.stage.refund(self._in_order(sale, day), self.stage.day_after(day, 1, 4), sale.amount_minor)
        self._settled(refund, "refund")
        self._given_back(kind, refund, "refund_reversal", "REFUND_REVERSED")

    def _charged_back(self, sale: Sale, day: date) -> tuple[Movement, Movement, str]:
        capture = self._in_order(sale, day)
        dispute_id = f"dsp_{self.stage.number('dispute'):09d}"
        back = self.stage.dispute(capture, "chargeback", self.stage.day_after(day, 1, 5), dispute_id)
        self._settled(back, "chargeback")
        return capture, back, dispute_id

    def _chargeback_reversed(self, kind: str, sale: Sale, day: date) -> None:
        _, back, _ = self._charged_back(sale, day)
        self._given_back(kind, back, "chargeback_reversal", "CHARGEBACK_REVERSED")

    def _chargeback_won_late(self, kind: str, sale: Sale, day: date) -> None:
        stage = self.stage
        capture, back, dispute_id = self._charged_back(sale, day)
        won_on = stage.day_after(back.day, 3, 5)
        booked = stage.expected(won_on, sale.route)
        report = stage.days.close_of(booked)
        account = (sale.route.processor, sale.route.account)
        seen = stage.delivered[account][report] if report < stage.plan.closes else report
        won = stage.dispute(capture, "won", won_on, dispute_id, handed_over=seen + 2)
        line = self._line(won, "chargeback_reversal", booked=booked)
        stage.report(line)
        stage.alone(kind, line, won.known, "CHARGEBACK_REVERSED")

    def _second_chargeback(self, kind: str, sale: Sale, day: date) -> None:
        capture, back, dispute_id = self._charged_back(sale, day)
        won = self.stage.dispute(capture, "won", self.stage.day_after(back.day, 2, 4), dispute_id)
        self._settled(won, "chargeback_reversal")
        self._given_back(kind, won, "second_chargeback", "IN_PSP_NOT_LEDGER")

    def _held(self, kind: str, sale: Sale, day: date, released: date | None) -> None:
        stage, route = self.stage, sale.route
        reference = stage.new_reference(route.processor)
        hold = stage.line("reserve_hold", route, reference, None, -sale.amount_minor, day)
        seen = stage.report(hold)
        until = None
        if released is not None:
            until = stage.report(stage.line("reserve_release", route, reference, None, sale.amount_minor, released))
        # What the processor holds is ours: on the left, and positive.
        stage.truth.open(kind, PAYMENT_PROCESSOR, "left", reference, "RESERVE_HELD", seen, until, sale.amount_minor,
                         route.currency)  # fmt: skip

    def _reserve(self, kind: str, sale: Sale, day: date) -> None:
        self._held(kind, sale, day, None)

    def _reserve_released(self, kind: str, sale: Sale, day: date) -> None:
        self._held(kind, sale, day, self.stage.day_after(day, 5, 9))

    def _changed_before_line(self, kind: str, sale: Sale, day: date) -> None:
        stage = self.stage
        capture = stage.capture(sale, day, sale.amount_minor)
        lower = sale.amount_minor - sale.amount_minor // 9
        change = min(capture.known + 1, stage.plan.closes)
        stage.change_capture(capture, lower, change)
        # Where the weekend is another one than the book's, the line would come at the capture's own close.
        booked = max(stage.expected(day, sale.route), stage.days.closes[min(change, stage.plan.closes - 1)])
        line = self._line(capture, gross=lower, booked=booked)
        seen = max(stage.report(line), change)
        stage.waits(kind, capture, seen)
        difference = capture._replace(amount_minor=lower - sale.amount_minor)
        stage.left_open(kind, difference, "RETRO_CORRECTION", change, seen)

    def _gone_before_line(self, kind: str, sale: Sale, day: date) -> None:
        capture = self.stage.capture(sale, day, sale.amount_minor)
        self.stage.change_capture(capture, None, capture.known + 1)
        self.stage.waits(kind, capture, capture.known + 1)
