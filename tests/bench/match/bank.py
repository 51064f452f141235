"""The bank: what becomes of processors' payouts there, its statements, and what is wrong with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date

from tests.bench.match.days import ONE_DAY
from tests.bench.match.delivery import File, row_key
from tests.bench.match.events import Account, Row, Stage

PROCESSOR_BANK = "processor_bank"
OPENING_MINOR = 50_000_000
SENDERS = {"adyen": "ADYEN N.V.", "stripe": "STRIPE PAYOUT", "paypal": "PAYPAL TRANSFER"}
TWINS = "two payouts of one amount to one account, and credits that do not say which they are"


@dataclass(frozen=True)
class Payout:
    """A batch's net as a processor announces it; negative when it claims money back."""

    processor: str
    account: str
    reference: str
    amount_minor: int
    currency: str
    bank_account: str
    booked_on: date
    known: int

    @property
    def text(self) -> str:
        """What the bank's entry says."""
        return f"{SENDERS[self.processor]} {self.reference}"


@dataclass(frozen=True)
class Entry:
    """Where an entry of a statement is found: its reference, the first close that sees it, its day."""

    reference: str
    seen: int
    day: date
    amount_minor: int
    currency: str


@dataclass
class Returned:
    """A payout that came back and that the processor will report in a batch of ``day`` or later."""

    payout: Payout
    entry: Entry
    day: date
    reference: str = field(init=False)
    amount_minor: int = field(init=False)

    def __post_init__(self) -> None:
        self.reference, self.amount_minor = self.payout.reference, self.payout.amount_minor


class Bank:
    """Books entries on their days and writes one statement an account and close.

    :param mirror: is told of every entry as it is booked.
    """

    def __init__(self, stage: Stage, mirror: Callable[[str, date, int], None]) -> None:
        self.stage, self.mirror = stage, mirror
        numbers = [row["bank_account"] for row in stage.bank_accounts.values()]
        self.currencies = {row["bank_account"]: currency for currency, row in stage.bank_accounts.items()}
        self._entries: dict[str, list[list[Row]]] = {n: [[] for _ in range(stage.plan.closes)] for n in numbers}
        self._balances = dict.fromkeys(numbers, OPENING_MINOR)
        self._returned: dict[tuple[Account, str], list[Returned]] = defaultdict(list)
        # account and currency -> the payout that is paid together with the next one
        self._merging: dict[tuple[Account, str], Payout] = {}
        # account and currency -> the amount that the next payout has too
        self.twins: dict[tuple[Account, str], int] = {}

    def terms(self, bank_account: str) -> tuple[int, int]:
        """Business days to a credit, and of grace."""
        row = self.stage.bank_terms[bank_account]
        return int(row["settlement_lag_business_days"]), int(row["grace_business_days"])

    def book(self, bank_account: str, day: date, amount: int, text: str, *, is_reversal: bool = False,
             customer_reference: str | None = None) -> Entry:  # fmt: skip
        """An entry booked on a day."""
        stage = self.stage
        reference = f"BK{stage.number('entry'):09d}"
        currency = self.currencies[bank_account]
        number = stage.days.close_of(day)
        entry = Entry(f"{bank_account}:{reference}", stage.plan.closes, day, amount, currency)
        if number >= stage.plan.closes:
            return entry
        self.mirror(bank_account, day, amount)
        self._entries[bank_account][number].append({
            "statement_no": 1, "bank_account": bank_account, "booking_date": day, "value_date": day,
            "amount_minor": amount, "currency": currency, "is_reversal": is_reversal, "transaction_code": None,
            "bank_reference": reference, "customer_reference": customer_reference, "counterparty": None,
            "remittance": text, "record": "",
        })  # fmt: skip
        return Entry(entry.reference, stage.bank_delivered[bank_account][number], day, amount, currency)

    def right(self, kind: str, entry: Entry, code: str, opens: int, clears: int | None = None, note: str = "",
              reconciliation: str = PROCESSOR_BANK) -> None:  # fmt: skip
        """An entry is open under a code."""
        self.stage.truth.open(kind, reconciliation, "right", entry.reference, code, opens, clears, entry.amount_minor,
                              entry.currency, note)  # fmt: skip

    def _waits(self, kind: str, payout: Payout, seen: int | None) -> None:
        days = self.stage.days
        lag, grace = self.terms(payout.bank_account)
        expected = days.add(payout.booked_on, lag, payout.currency)
        self.stage.truth.waits(
            kind, PROCESSOR_BANK, f"{payout.processor}:{payout.reference}", payout.amount_minor, payout.currency,
            payout.known, expected, days.add(expected, grace, payout.currency), seen, "PSP_NOT_BANK",
            self.stage.bank_covered[payout.bank_account],
        )  # fmt: skip

    def _left(self, kind: str, payout: Payout, code: str, opens: int, clears: int | None = None,
              note: str = "") -> None:  # fmt: skip
        self.stage.truth.open(kind, PROCESSOR_BANK, "left", f"{payout.processor}:{payout.reference}", code, opens,
                              clears, payout.amount_minor, payout.currency, note)  # fmt: skip

    def announced(self, payout: Payout, fault: str) -> None:
        """Book what becomes of a payout, and write the truth about it."""
        stage, currency, amount = self.stage, payout.currency, payout.amount_minor
        lag, _ = self.terms(payout.bank_account)
        day = stage.days.add(payout.booked_on, lag, currency)
        account = (payout.processor, payout.account)
        bank, text = payout.bank_account, payout.text
        if self.twins.get((account, currency)) == amount and fault != "twins":
            self._twin(payout, day, self.twins.pop((account, currency)))
            return
        if fault == "not_at_bank":
            self._waits(fault, payout, None)
            return
        if fault == "twins":
            self._first_twin(payout, day)
            return
        if fault == "at_bank_late":
            day = stage.days.add(day, 4, currency)
        elif fault == "no_reference":
            text = SENDERS[payout.processor]
        waiting = self._merging.pop((account, currency), None)
        if waiting is not None:
            # The bank pays both at once, on the day of the later one. It names both, or, of one day, none.
            is_one_day = waiting.booked_on == payout.booked_on
            text = SENDERS[payout.processor] if is_one_day else f"{waiting.text} {payout.reference}"
            both = self.book(bank, day, waiting.amount_minor + amount, text)
            self._waits("merged", payout, both.seen)
            return
        if fault == "merged_unnamed":
            self._merging[account, currency] = payout
            paid = stage.days.close_of(day)
            self._waits(fault, payout, stage.bank_delivered[bank][paid] if paid < stage.plan.closes else paid)
            return
        if fault == "merged":
            self._merging[account, currency] = payout
            later = stage.days.closes[stage.days.close_of(payout.booked_on) + 1]
            paid = stage.days.close_of(stage.days.add(later, lag, currency))
            self._waits(fault, payout, stage.bank_delivered[bank][paid] if paid < stage.plan.closes else paid)
            return
        first = {"short": amount - min(1_500, amount // 25), "more": amount + 700}.get(fault, amount)
        if fault in ("in_two", "in_two_days", "half"):
            first = amount * 3 // 5
        entry = self.book(bank, day, first, text)
        together = max(entry.seen, payout.known)
        self._waits(fault or "ordinary", payout, entry.seen)
        self._unannounced(fault or "announced late", entry, payout)
        if fault in ("short", "more"):
            code = "UNDER" if fault == "short" else "OVER"
            self._left(fault, payout, code, together)
            self.right(fault, entry, code, together)
        elif fault in ("in_two", "in_two_days"):
            rest = self.book(bank, day if fault == "in_two" else stage.days.add(day, 2, currency), amount - first, text)
            self._left(fault, payout, "SPLIT_INCOMPLETE", together, rest.seen)
            self.right(fault, entry, "SPLIT_INCOMPLETE", together, rest.seen)
            self._unannounced(fault, rest, payout)
        elif fault == "half":
            self._left(fault, payout, "SPLIT_INCOMPLETE", together)
            self.right(fault, entry, "SPLIT_INCOMPLETE", together)
        elif fault == "twice":
            again = self.book(bank, stage.days.add(day, 1, currency), amount, text)
            self._unannounced(fault, again, payout)
            self.right(fault, again, "DUPLICATE", max(again.seen, together))
        elif fault.startswith("returned"):
            back_on = day if fault == "returned_at_once" else stage.days.add(day, 2, currency)
            back = self.book(bank, back_on, -amount, text, is_reversal=True)
            self._unannounced(fault, back, payout)
            if fault == "returned_announced":
                self._returned[account, currency].append(Returned(payout, back, stage.days.add(back_on, 3, currency)))
            else:
                self.right(fault, back, "PAYOUT_RETURNED", max(back.seen, together))

    def _unannounced(self, kind: str, entry: Entry, payout: Payout) -> None:
        """The bank is ahead of the processor's report: until that comes, nobody has announced the entry."""
        if payout.known > entry.seen:
            self.right(kind, entry, "BANK_NOT_PSP", entry.seen, payout.known)

    def _first_twin(self, payout: Payout, day: date) -> None:
        """The credit comes when the second payout is announced: from then on nobody can tell."""
        entry = self.book(payout.bank_account, day, payout.amount_minor, SENDERS[payout.processor])
        self._waits("twins", payout, entry.seen)
        self._left("twins", payout, "AMBIGUOUS", entry.seen, None, TWINS)
        self.right("twins", entry, "AMBIGUOUS", entry.seen, None, TWINS)

    def _twin(self, payout: Payout, day: date, amount: int) -> None:
        entry = self.book(payout.bank_account, day, amount, SENDERS[payout.processor])
        self._left("twins", payout, "AMBIGUOUS", payout.known, None, TWINS)
        self.right("twins", entry, "AMBIGUOUS", entry.seen, None, TWINS)

    def awaits_second(self, account: Account, currency: str) -> bool:
        """Whether the next payout belongs together with the one before it."""
        return (account, currency) in self.twins or (account, currency) in self._merging

    def to_be_announced(self, account: Account, currency: str, day: date) -> list[Returned]:
        """Returned payouts that a report of ``day`` tells of."""
        waiting = self._returned[account, currency]
        told = [returned for returned in waiting if returned.day <= day]
        self._returned[account, currency] = [returned for returned in waiting if returned.day > day]
        return told

    def return_announced(self, returned: Returned, close: int) -> None:
        """A report that comes for ``close`` tells of the return: from then on the entry has its counterpart."""
        entry = returned.entry
        opens = max(entry.seen, returned.payout.known, self.stage.now)
        self.right("returned_announced", entry, "PAYOUT_RETURNED", opens, close)

    def stray(self, day: date) -> None:
        """Credits that nobody announced: one of nobody, one of a processor's that no report has."""
        stage = self.stage
        for currency, text in (("EUR", "INVOICE 55671"), ("GBP", "ADYEN N.V. TX999"), ("USD", "PRAIRIE SUPPLY")):
            if stage.rng.random() < 0.12:
                bank_account = stage.bank_accounts[currency]["bank_account"]
                number = stage.number("stray")
                text_now = f"{text}{number:05d}" if "TX" in text else text
                entry = self.book(bank_account, day, stage.rng.randint(10_000, 900_000), text_now)
                self.right("stray", entry, "BANK_NOT_PSP", entry.seen)

    def unannounced(self, close: int) -> None:
        """Write what is true at this close of returns that no report has told of yet."""
        for waiting in self._returned.values():
            for returned in waiting:
                if max(returned.entry.seen, returned.payout.known) <= close:
                    self.right("returned_announced", returned.entry, "PAYOUT_RETURNED", close, close + 1)

    def statements(self, close: int) -> Iterator[File]:
        """Every statement that arrives for a close."""
        stage = self.stage
        for bank_account, entries in self._entries.items():
            for number, delivered in enumerate(stage.bank_delivered[bank_account]):
                if delivered == close and number <= close:
                    yield self._statement(bank_account, number, entries[number])
                    entries[number] = []

    def _statement(self, bank_account: str, number: int, entries: list[Row]) -> File:
        day, currency = self.stage.days.closes[number], self.currencies[bank_account]
        opening = self._balances[bank_account]
        self._balances[bank_account] = opening + sum(row["amount_minor"] for row in entries)
        for line_no, row in enumerate(entries, 1):
            row["line_no"] = line_no
            row["row_key"] = row_key(bank_account, number, row["amount_minor"], row["booking_date"], row["is_reversal"],
                                     row["bank_reference"], row["remittance"])  # fmt: skip
        statement = {
            "statement_no": 1, "bank_account": bank_account, "currency": currency,
            "statement_reference": str(number + 1), "sequence_number": number + 1,
            "opening_date": self.opening_date(number), "opening_minor": opening, "closing_date": day,
            "closing_minor": self._balances[bank_account],
            "row_key": row_key(bank_account, currency, number),
        }  # fmt: skip
        tables: dict[str, list[Row]] = {"bank_statements": [statement]}
        if entries:
            tables["bank_entries"] = entries
        return File(f"bank/{bank_account}/{day}.xml", "bank", bank_account, day, tables)

    def opening_date(self, number: int) -> date:
        """The day whose closing balance a statement opens with."""
        closes = self.stage.days.closes
        return closes[number - 1] if number else closes[0] - 3 * ONE_DAY
