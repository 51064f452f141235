"""The processors of the sandbox: settlement batches that fill, reports, payouts, and what the bank makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from tieout.sandbox.bank import Bank
from tieout.sandbox.days import ONE_DAY
from tieout.sandbox.formats import Line, adyen, paypal, stripe
from tieout.sandbox.landing_place import LandingPlace
from tieout.sandbox.market import ACCOUNTS
from tieout.sandbox.payouts import Payout, send_to_bank
from tieout.sandbox.spool import Spool
from tieout.sandbox.state import BatchState, WorldState, batch_key
from tieout.sandbox.trouble_plan import DUPLICATE_REPORT, LATE_REPORT, SILENT_ACCOUNT, SILENT_FROM, TRUNCATED_REPORT
from tieout.sandbox.truth import Truth


@dataclass(frozen=True, slots=True)
class Place:
    """Where a settled line stands: its report, its line (the first of the file is 1), the close that first sees it."""

    file: str
    line_no: int
    seen_on: date


def record_type(line: Line) -> str:
    """The processor's own word for the line."""
    words = {"adyen": adyen.TYPES, "stripe": stripe.CATEGORIES, "paypal": paypal.EVENT_CODES}
    return words[line.processor][line.event]


def file_name(processor: str, account: str, booked_on: date) -> str:
    """The name of a processor account's report."""
    if processor == "adyen":
        return adyen.file_name(account, booked_on)
    if processor == "stripe":
        return stripe.file_name(account, booked_on)
    return paypal.file_name(account, booked_on)


def seen_on(processor: str, account: str, booked_on: date) -> date | None:
    """The first business date whose landing holds the report booked on a day, or None when it never comes."""
    if (processor, account) == SILENT_ACCOUNT and booked_on >= SILENT_FROM:
        return None
    if (processor, account, booked_on) in (LATE_REPORT, TRUNCATED_REPORT):
        return booked_on + ONE_DAY
    return booked_on


class Processors:
    """All our processor accounts."""

    def __init__(self, state: WorldState, spool: Spool, truth: Truth, bank: Bank, landing: LandingPlace) -> None:
        self.state = state
        self.spool = spool
        self.truth = truth
        self.bank = bank
        self.landing = landing

    def settle(self, line: Line) -> Place | None:
        """Put a line into the batch that books on ``line.booked_on``; None when that batch is never reported."""
        known_on = seen_on(line.processor, line.account, line.booked_on)
        if known_on is None:
            return None
        key = batch_key(line.processor, line.account, line.booked_on)
        batch = self.state.batches.setdefault(key, BatchState())
        if line.processor == "adyen":
            text, heading = adyen.line(line), 1
        elif line.processor == "stripe":
            reference = self.payout_reference("stripe", line.account, line.booked_on, line.net_currency)
            text, heading = stripe.line(line, reference), 1
        else:
            text, heading = paypal.line(line), 4
        batch.add(line.net_minor, line.fee_minor, line.net_currency)
        self.spool.append(f"batches/{key}", text)
        name = file_name(line.processor, line.account, line.booked_on)
        return Place(name, heading + batch.lines, known_on)

    def room_minor(self, processor: str, account: str, booked_on: date, currency: str) -> int:
        """What a batch would pay out in ``currency`` as it stands."""
        batch = self.state.batches.get(batch_key(processor, account, booked_on))
        return 0 if batch is None else batch.net_minor(currency)

    def payout_reference(self, processor: str, account: str, booked_on: date, currency: str) -> str:
        """The reference a payout carries in the report and on the bank statement."""
        parts = ("payout", processor, account, booked_on, currency)
        if processor == "adyen":
            return "TX" + self.state.digits(11, *parts)
        if processor == "stripe":
            return "po_1Q" + self.state.digits(22, *parts)
        return "1" + self.state.digits(12, *parts)

    def close_day(self, day: date) -> list[Payout]:
        """Issue the reports booked on ``day``, pay out, and deliver what was held back the day before."""
        payouts = []
        for processor, account in ACCOUNTS:
            self._release_held(processor, account, day)
            batch = self.state.batches.pop(batch_key(processor, account, day), None)
            if batch is not None:
                payouts += self._close_batch(processor, account, day, batch)
        return payouts

    def _close_batch(self, processor: str, account: str, day: date, batch: BatchState) -> list[Payout]:
        key = batch_key(processor, account, day)
        payouts = [
            Payout(processor, account, day, self.payout_reference(processor, account, day, currency), net, currency)
            for currency in sorted(batch.totals)
            if (net := batch.net_minor(currency))
        ]
        body = self.spool.path(f"batches/{key}")
        head, tail = self._frame(payouts, batch, processor, account, day)
        self._deliver(processor, account, day, [head, body, tail])
        self.spool.retire(f"batches/{key}")
        known_on = seen_on(processor, account, day)
        assert known_on is not None, "a silent account has no batches"
        for payout in payouts:
            send_to_bank(payout, known_on, self.state, self.bank, self.truth)
        return payouts

    def _frame(
        self, payouts: list[Payout], batch: BatchState, processor: str, account: str, day: date
    ) -> tuple[str, str]:
        if processor == "adyen":
            tail = "".join(adyen.payout(account, day, p.reference, p.net_minor, p.currency) for p in payouts)
            return adyen.header(), tail
        if processor == "stripe":
            tail = "".join(stripe.payout(account, day, p.reference, p.net_minor, p.currency) for p in payouts)
            return stripe.header(), tail
        totals = {currency: paypal.Totals(*sums) for currency, sums in batch.totals.items()}
        tail = ""
        for p in payouts:
            transaction = f"{int(self.state.digits(19, 'sweep', p.reference)):017X}"
            tail += paypal.payout(day, transaction, p.reference, p.net_minor, p.currency)
            totals[p.currency].add(-p.net_minor, 0)
        return paypal.header(account, day), tail + paypal.footers(totals, batch.lines + len(payouts))

    def _deliver(self, processor: str, account: str, day: date, parts: list[str | Path]) -> None:
        name = file_name(processor, account, day)
        report = (processor, account, day)
        if report in (LATE_REPORT, TRUNCATED_REPORT, DUPLICATE_REPORT):
            whole = self._hold(name, parts)
        if report == LATE_REPORT:
            return
        if report == TRUNCATED_REPORT:
            cut = whole.stat().st_size * 3 // 5
            with whole.open("rb") as file:
                file.seek(cut - 1)
                # The break is in the middle of a line, as a dropped connection leaves it.
                cut -= 7 if file.read(1) == b"\n" else 0
            self.landing.deliver_parts(processor, name, [whole], limit_bytes=cut)
            self.truth.file("TRUNCATED_FILE", name, day, "quarantined", "breaks off in the middle of a line")
            return
        self.landing.deliver_parts(processor, name, parts)

    def _hold(self, name: str, parts: list[str | Path]) -> Path:
        held = f"held/{name}"
        for part in parts:
            if isinstance(part, Path):
                with part.open(encoding="utf-8", newline="") as file:
                    while chunk := file.read(1 << 18):
                        self.spool.append(held, chunk)
            else:
                self.spool.append(held, part)
        return self.spool.path(held)

    def _release_held(self, processor: str, account: str, day: date) -> None:
        for report in (LATE_REPORT, TRUNCATED_REPORT, DUPLICATE_REPORT):
            if report != (processor, account, day - ONE_DAY):
                continue
            name = file_name(*report)
            stem = name.removesuffix(".csv")
            if report == LATE_REPORT:
                kind, target, status, note = "LATE_REPORT", name, "loaded", "came a day late"
            elif report == TRUNCATED_REPORT:
                kind, target, status, note = "TRUNCATED_FILE", f"{stem}_resent.csv", "loaded", "the whole file again"
            else:
                kind, target, status, note = "DUPLICATE_FILE", f"{stem}_copy.csv", "duplicate", f"the content of {name}"
            self.landing.deliver_parts(processor, target, [self.spool.path(f"held/{name}")])
            self.spool.retire(f"held/{name}")
            self.truth.file(kind, target, day, status, note)
