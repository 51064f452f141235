"""Our own money: payouts to merchants, conversions, and the payment system's own book of its bank accounts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from tests.bench.match.bank import OPENING_MINOR, Bank, Entry
from tests.bench.match.days import ONE_DAY, at, half_even
from tests.bench.match.delivery import Deck, File
from tests.bench.match.events import NOON, Stage
from tests.bench.match.market import RATES_E6
from tests.bench.match.truth import EXPECTED_NOT_DUE, MISSING_OVERDUE

PAYOUT_BANK, FX_BANK, LEDGER_BANK = "payout_bank", "fx_bank", "ledger_bank"
PAYOUT_CURRENCIES = ("EUR", "EUR", "EUR", "GBP", "GBP", "USD", "USD", "JPY", "KWD")
PAIRS = (("USD", "EUR"), ("GBP", "EUR"), ("JPY", "EUR"), ("EUR", "KWD"))


class Treasury:
    """Pays merchants and converts currencies, each with its planned faults."""

    def __init__(self, stage: Stage, bank: Bank) -> None:
        self.stage, self.bank, self.rng = stage, bank, stage.rng
        self.payout_faults = Deck(stage.rng, stage.plan.merchant_payout_faults)
        self.conversion_faults = Deck(stage.rng, stage.plan.conversion_faults)

    def play(self, close: int) -> None:
        """What treasury does on the close's day."""
        plan, day = self.stage.plan, self.stage.days.closes[close]
        for _ in range(plan.merchant_payouts_a_day):
            self._pay(day, self.payout_faults.deal(close, plan.closes, plan.merchant_payouts_a_day))
        for _ in range(plan.conversions_a_day):
            self._convert(day, self.conversion_faults.deal(close, plan.closes, plan.conversions_a_day))

    def _waits(self, kind: str, reconciliation: str, reference: str, amount: int, bank_account: str, known: int,
               expected: date, seen: int | None, alone: str) -> None:  # fmt: skip
        currency = self.bank.currencies[bank_account]
        _, grace = self.bank.terms(bank_account)
        self.stage.truth.waits(
            kind, reconciliation, reference, amount, currency, known, expected,
            self.stage.days.add(expected, grace, currency), seen, alone, self.stage.bank_covered[bank_account],
        )  # fmt: skip

    def _pay(self, day: date, fault: str) -> None:
        stage, bank = self.stage, self.bank
        currency = self.rng.choice(PAYOUT_CURRENCIES)
        bank_account = stage.bank_accounts[currency]["bank_account"]
        number = stage.number("merchant payout")
        payout_id, reference = f"mpo_{number:07d}", f"PO-{number:07d}"
        if fault == "reference_in_capitals":
            reference = f"PO-q{number:07d}x"
        amount = self.rng.randint(20_000, 4_000_000)
        lag, _ = bank.terms(bank_account)
        expected = stage.days.add(day, lag, currency)
        text = f"PAYOUT {reference.upper()}"
        if fault == "unknown":
            entry = bank.book(bank_account, expected, -amount, text)
            bank.right(fault, entry, "BANK_NOT_PAYOUT", entry.seen, reconciliation=PAYOUT_BANK)
            return
        self._enter_payout(payout_id, bank_account, reference, amount, currency, "sent", day, day)
        known = stage.days.close_of(day)
        booked, paid = expected, amount
        if fault == "at_bank_late":
            booked = stage.days.add(expected, 4, currency)
        elif fault == "other_amount":
            paid += self.rng.choice((-1, 1)) * self.rng.randint(2, 2_000)
        elif fault == "reference_lost":
            text = "TRANSFER"
        if fault == "not_at_bank":
            self._waits(fault, PAYOUT_BANK, payout_id, amount, bank_account, known, expected, None, "PAYOUT_NOT_BANK")
            return
        entry = bank.book(bank_account, booked, -paid, text)
        if fault == "reference_lost":
            self._waits(fault, PAYOUT_BANK, payout_id, amount, bank_account, known, expected, None, "PAYOUT_NOT_BANK")
            bank.right(fault, entry, "BANK_NOT_PSP", entry.seen)
            return
        self._waits(fault or "ordinary", PAYOUT_BANK, payout_id, amount, bank_account, known, expected, entry.seen,
                    "PAYOUT_NOT_BANK")  # fmt: skip
        if fault == "other_amount":
            code = "OVER" if paid > amount else "UNDER"
            stage.truth.open(fault, PAYOUT_BANK, "left", payout_id, code, entry.seen, None, amount, currency)
            bank.right(fault, entry, code, entry.seen, reconciliation=PAYOUT_BANK)
        elif fault == "twice":
            again = bank.book(bank_account, stage.days.add(booked, 1, currency), -amount, text)
            bank.right(fault, again, "DUPLICATE", again.seen, reconciliation=PAYOUT_BANK)
        elif fault.startswith("returned"):
            self._return(fault, payout_id, bank_account, reference, amount, day, entry)

    def _return(self, fault: str, payout_id: str, bank_account: str, reference: str, amount: int, sent: date,
                paid: Entry) -> None:  # fmt: skip
        """The merchant's bank sends the money back; the system and our bank say so days apart."""
        stage, days, currency = self.stage, self.stage.days, paid.currency
        told_on = days.add(paid.day, 4 if fault == "returned_bank_first" else 2, currency)
        back_on = days.add(paid.day, 2 if fault == "returned_bank_first" else 5, currency)
        # A close after the debit, whatever the bank's silence: only then is it paid and can come back.
        told = max(days.close_of(told_on), paid.seen + 1)
        if told >= stage.plan.closes:
            return
        self._enter_payout(payout_id, bank_account, reference, amount, currency, "returned", sent, days.closes[told])
        seen = None
        if fault != "returned_never":
            entry = self.bank.book(bank_account, back_on, amount, f"RETURN PAYOUT {reference}")
            seen = entry.seen
            self.bank.right(fault, entry, "PAYOUT_RETURNED", seen, max(told, seen), reconciliation=PAYOUT_BANK)
        stage.truth.open(fault, PAYOUT_BANK, "left", payout_id, "PAYOUT_RETURNED", told,
                         None if seen is None else max(seen, told), amount, currency)  # fmt: skip

    def _enter_payout(self, payout_id: str, bank_account: str, reference: str, amount: int, currency: str, status: str,
                      sent: date, said: date) -> None:  # fmt: skip
        self.stage.enter("payouts", {
            "payout_id": payout_id, "merchant_id": "platform", "bank_account": bank_account,
            "bank_reference": reference, "amount_minor": amount, "fee_minor": 0, "currency": currency, "status": status,
            "sent_at": at(sent, NOON), "updated_at": at(said, NOON),
        }, self.stage.days.close_of(said))  # fmt: skip

    def _convert(self, day: date, fault: str) -> None:
        stage, bank, days = self.stage, self.bank, self.stage.days
        sell, buy = self.rng.choice(PAIRS)
        if fault == "weekend_rate":
            # Ordered on the Saturday after, when no market is open.
            day += (5 - day.weekday()) * ONE_DAY
        number = stage.number("conversion")
        conversion, reference = f"fx_{number:06d}", f"FX-{number:06d}"
        sold = self.rng.randint(1_000_000, 9_000_000)
        bought = self._converted(sold, sell, buy, 0)
        agreed = day + ONE_DAY
        for _ in range(2):
            while not (days.is_business_day(agreed, sell) and days.is_business_day(agreed, buy)):
                agreed += ONE_DAY
            agreed += ONE_DAY
        agreed -= ONE_DAY
        accounts = {code: stage.bank_accounts[code]["bank_account"] for code in (sell, buy)}
        legs = ((f"{conversion}:sold", sell, -sold), (f"{conversion}:bought", buy, bought))
        if fault == "unknown":
            entry = bank.book(accounts[buy], agreed, bought, f"CONVERSION {reference}")
            bank.right(fault, entry, "BANK_NOT_FX", entry.seen, reconciliation=FX_BANK)
            return
        known = days.close_of(day)
        self.stage.enter("fx_conversions", {
            "fx_conversion_id": conversion, "bank_reference": reference, "sell_bank_account": accounts[sell],
            "sell_amount_minor": sold, "sell_currency": sell, "buy_bank_account": accounts[buy],
            "buy_amount_minor": bought, "buy_currency": buy, "rate": "1", "executed_at": at(day, NOON),
            "value_date": agreed, "updated_at": at(day, NOON),
        }, known)  # fmt: skip
        troubled = self.rng.randrange(2)
        for leg, (item, currency, amount) in enumerate(legs):
            what = fault if leg == troubled and fault in ("not_at_bank", "at_bank_late") else ""
            booked = days.add(agreed, 4, currency) if what == "at_bank_late" else agreed
            moved = amount
            if fault == "weekend_rate" and leg == 1:
                moved = self._converted(sold, sell, buy, 35)
            if what == "not_at_bank":
                self._waits(what, FX_BANK, item, amount, accounts[currency], known, agreed, None, "FX_NOT_BANK")
                continue
            entry = bank.book(accounts[currency], booked, moved, f"CONVERSION {reference}")
            self._waits(fault or "ordinary", FX_BANK, item, amount, accounts[currency], known, agreed, entry.seen,
                        "FX_NOT_BANK")  # fmt: skip
            if moved != amount:
                stage.truth.open(fault, FX_BANK, "left", item, "FX_DIFFERENCE", entry.seen, None, amount, currency)
                bank.right(fault, entry, "FX_DIFFERENCE", entry.seen, reconciliation=FX_BANK)

    @staticmethod
    def _converted(amount: int, sell: str, buy: str, worse_bps: int) -> int:
        """Minor units bought, at the reference rates; yen have no decimals and dinars three."""
        exponents = {"JPY": 0, "KWD": 3}
        rates = {"EUR": 10**6, **RATES_E6}
        numerator = amount * rates[buy] * 10 ** exponents.get(buy, 2) * (10_000 - worse_bps)
        return half_even(numerator, rates[sell] * 10 ** exponents.get(sell, 2) * 10_000)


@dataclass
class Moved:
    """One side's sum of a day of an account, as one close learned it."""

    side: str
    reference: str
    day: date
    amount_minor: int


class Book:
    """The payment system's own book of its bank accounts: a copy of what banks book, but for planned faults.

    Both sides of an account agree day by day; a day that does not agree stays open until the account as a whole does.
    Two accounts are kept for what only one of the two sides has.
    """

    BANK_ALONE, BOOK_ALONE = "NZD", "KWD"

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        faults = stage.plan.book_faults
        self.faults = Deck(stage.rng, {name: count for name, count in faults.items() if not name.endswith("_alone")})
        self.alone = Deck(stage.rng, {name: count for name, count in faults.items() if name.endswith("_alone")})
        self._is_mirroring = True
        # (close at which it is handed over, bank account) -> day -> sum
        self._handed: dict[tuple[int, str], dict[date, int]] = defaultdict(lambda: defaultdict(int))
        self._open: dict[str, list[Moved]] = defaultdict(list)
        for bank in stage.bank_accounts.values():
            self._enter(bank["bank_account"], stage.days.closes[0] - 3 * ONE_DAY, OPENING_MINOR)

    def _enter(self, bank_account: str, day: date, amount: int, close: int | None = None) -> None:
        """An entry of the book for a day, handed over at a close, by default that of the day."""
        stage = self.stage
        close = stage.days.close_of(day) if close is None else close
        row = next(row for row in stage.bank_accounts.values() if row["bank_account"] == bank_account)
        stage.enter("ledger_entries", {
            "ledger_entry_id": f"led_{stage.number('ledger entry'):09d}", "bank_account": bank_account,
            "amount_minor": amount, "currency": row["currency"], "source_type": "bank", "source_id": "bank",
            "booked_at": at(day, NOON),
        }, close)  # fmt: skip
        self._handed[close, bank_account][day] += amount

    def mirror(self, bank_account: str, day: date, amount: int) -> None:
        """The bank books an entry: so does the book, unless planned otherwise."""
        if not self._is_mirroring:
            return
        stage = self.stage
        currency = next(code for code, row in stage.bank_accounts.items() if row["bank_account"] == bank_account)
        close = stage.days.close_of(day)
        is_kept = currency in (self.BANK_ALONE, self.BOOK_ALONE)
        fault = "" if is_kept else self.faults.deal(close, stage.plan.closes, 25)
        if fault == "booked_late":
            day = stage.days.add(day, 2, currency)
        elif fault == "booked_early":
            before = day - ONE_DAY
            while not stage.days.is_business_day(before, currency) or before.weekday() > 4:
                before -= ONE_DAY
            # Of a day that the book has handed over already it says nothing more.
            day = before if stage.days.close_of(before) >= stage.now else day
        elif fault == "not_booked":
            return
        elif fault == "booked_only":
            self._enter(bank_account, day, 4_321)
        elif fault == "other_amount":
            self._enter(bank_account, stage.days.add(day, 3, currency), -1_234)
            amount += 1_234
        self._enter(bank_account, day, amount)

    def weekend(self, close: int, bank: Bank) -> None:
        """On a Saturday one side moves an account alone."""
        stage = self.stage
        saturday = next((day for day in stage.days.span(close) if day.isoweekday() == 6), None)
        fault = self.alone.deal(close, stage.plan.closes, 0.2) if saturday else ""
        if not fault or saturday is None:
            return
        amount = stage.rng.randint(500, 9_000)
        if fault == "book_alone":
            self._enter(stage.bank_accounts[self.BOOK_ALONE]["bank_account"], saturday, amount)
            return
        bank_account = stage.bank_accounts[self.BANK_ALONE]["bank_account"]
        self._is_mirroring = False
        bank.book(bank_account, saturday, amount, "INTEREST")
        self._is_mirroring = True
        self._enter(bank_account, saturday, amount, close + 3)

    def play(self, close: int, statements: Sequence[File]) -> None:
        """Write the truth of a close, after everything of it is booked."""
        stage = self.stage
        moved: list[tuple[str, Moved]] = []
        for bank in stage.bank_accounts.values():
            number = bank["bank_account"]
            for day, amount in self._handed.pop((close, number), {}).items():
                moved.append((number, Moved("left", f"{number}:{day}", day, amount)))
        for file in statements:
            number = str(file.origin_account)
            (statement,) = file.tables["bank_statements"]
            if statement["sequence_number"] == 1:
                moved.append((number, Moved("right", f"{number}:opening", statement["opening_date"], OPENING_MINOR)))
            sums: dict[date, int] = defaultdict(int)
            for row in file.tables.get("bank_entries", []):
                sums[row["booking_date"]] += row["amount_minor"]
            moved += [(number, Moved("right", f"{number}:{day}", day, amount)) for day, amount in sums.items()]
        for number, item in moved:
            self._open[number].append(item)
        for currency, bank in stage.bank_accounts.items():
            self._agree(close, bank["bank_account"], currency)

    def _agree(self, close: int, bank_account: str, currency: str) -> None:
        """Forget the days that agree, then all if they come to zero; what is left is open at this close."""
        stage = self.stage
        days: dict[date, int] = defaultdict(int)
        for item in self._open[bank_account]:
            days[item.day] += item.amount_minor if item.side == "left" else -item.amount_minor
        left = [item for item in self._open[bank_account] if days[item.day]]
        if not sum(days.values()):
            left = []
        self._open[bank_account] = left
        both = len({item.side for item in left}) == 2
        for item in left:
            expected = stage.days.add(item.day, 0, currency)
            if both:
                code = "BALANCE_DIFFERENCE"
            elif item.side == "right":
                code = "BANK_NOT_LEDGER"
            elif stage.days.add(expected, 1, currency) >= stage.days.closes[close]:
                code = EXPECTED_NOT_DUE
            else:
                is_covered = stage.bank_covered[bank_account][close] >= expected
                code = "LEDGER_NOT_BANK" if is_covered else MISSING_OVERDUE
            stage.truth.open("book", LEDGER_BANK, item.side, item.reference, code, close, close + 1,
                             item.amount_minor, currency)  # fmt: skip
