"""The world, close by close: what the payment system and its senders deliver, and what has to be open then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from tests.bench.match.bank import Bank
from tests.bench.match.days import ONE_DAY, at
from tests.bench.match.delivery import File
from tests.bench.match.events import Row, Stage
from tests.bench.match.market import METHODS, RATES_E6
from tests.bench.match.payments import Payments
from tests.bench.match.plan import Plan
from tests.bench.match.reports import Reports
from tests.bench.match.treasury import Book, Treasury
from tests.bench.match.truth import Open

# Tables whose rows change, and their keys: a snapshot has each row as it is then.
CHANGING = {"captures": ("capture_id",), "refunds": ("refund_id",), "payouts": ("payout_id",)}


@dataclass(frozen=True)
class Delivery:
    """Everything a close has new: the payment system's rows by table, files, and truth written on the way."""

    close: int
    business_date: date
    ledger: dict[str, list[Row]]
    files: list[File]
    truth: list[Open]


class World:
    """Plays a plan once, in order."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.stage = Stage(plan)
        self.book = Book(self.stage)
        self.bank = Bank(self.stage, self.book.mirror)
        self.payments = Payments(self.stage)
        self.reports = Reports(self.stage, self.bank)
        self.treasury = Treasury(self.stage, self.bank)

    def play(self) -> Iterator[Delivery]:
        """One delivery a close; memory holds what is still to come."""
        stage, plan = self.stage, self.plan
        days = stage.days
        calendar_days = (days.closes[-1] - days.closes[0]).days + 1
        self._static()
        sold = 0
        for close, business_date in enumerate(days.closes):
            stage.now = close
            for day in days.span(close):
                until = plan.payments * ((day - days.closes[0]).days + 1) // calendar_days
                self.payments.play(day, sold, until)
                sold = until
            self.treasury.play(close)
            self.bank.stray(business_date)
            self.book.weekend(close, self.bank)
            files = [self._rates(close), *self.reports.play(close)]
            statements = list(self.bank.statements(close))
            self.bank.unannounced(close)
            self.book.play(close, statements)
            ledger = {table: _latest(table, rows) for table, rows in stage.ledger[close].items()}
            stage.ledger[close] = {}
            yield Delivery(close, business_date, ledger, [*files, *statements], stage.truth.take())

    def _static(self) -> None:
        """Merchants, methods and contracts, known from the start."""
        stage = self.stage
        moment = at(stage.days.closes[0] - ONE_DAY, 3600)
        for model, fee_bps in (("principal", 0), ("platform", 250)):
            stage.enter("merchants", {
                "merchant_id": model, "merchant_name": model, "country": "NL", "model": model,
                "settlement_currency": "EUR", "platform_fee_bps": fee_bps, "created_at": moment, "updated_at": moment,
            }, 0)  # fmt: skip
        for method in METHODS:
            network, method_type = method.split(":")
            stage.enter("payment_methods", {
                "payment_method_id": network, "token": network, "method_type": method_type, "network": network,
                "created_at": moment,
            }, 0)  # fmt: skip
        for number, contract in enumerate(stage.prices.contracts):
            stage.enter("fee_schedules", {
                "fee_schedule_id": f"fee_{number:03d}", **contract._asdict(), "fee_type": "processing",
                "item_type": "capture", "billing": "settlement", "pricing": "blended", "tier_basis": "line_amount",
                "tier_from_minor": 0, "charged_per": "line", "updated_at": moment,
            }, 0)  # fmt: skip

    def _rates(self, close: int) -> File:
        """The reference rates of a close's day; the first close has those of the days before."""
        day = self.stage.days.closes[close]
        first = day - 10 * ONE_DAY if close == 0 else day
        rows: list[Row] = []
        while first <= day:
            for currency, rate_e6 in RATES_E6.items():
                rows.append({
                    "line_no": len(rows) + 1, "rate_source": "ecb", "base_currency": "EUR", "currency": currency,
                    "rate_date": first, "rate": f"{rate_e6 / 10**6:.6f}",
                })  # fmt: skip
            first += ONE_DAY
        return File(f"ecb/{day}.csv", "ecb", None, day, {"fx_rates": rows})


def _latest(table: str, rows: list[Row]) -> list[Row]:
    """The last state of each row of a table that changes."""
    if table not in CHANGING:
        return rows
    return list({tuple(row[column] for column in CHANGING[table]): row for row in rows}.values())
