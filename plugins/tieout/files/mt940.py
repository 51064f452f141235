"""SWIFT MT940 statements and MT942 interim reports, as banks write them.

An own small reader, since what matters is where a field stood and whether the statement proves itself; the mt-940
library is the tests' second opinion. Marks: C and D are money in and out, RC (reversal of a credit) is money *out*
and RD money in. Some habits that hurt no money are tolerated: transport lines around a message, blanks for a missing
entry date, no reference, several :86: fields, and value dates of 29 or 30 February (banks that reckon months of 30
days write them), which become the month's last day. An MT942 is an interim report and no statement: its
entries are counted, checked against its totals, and left to the statement that will book them.
A file is held in memory, so it may have 128 MB and no more. A day is the calendar day that the bank wrote.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from tieout.files.lines import whole_text
from tieout.files.proof import BankEntry, BankStatement, Rejected, Sink, Tally, json_text
from tieout.files.statements import Amount, Balance, Page, Pages, Proof, document_of, file_statement
from tieout.files.swift_text import counterparty, end_to_end_reference, remittance

ORIGIN = "bank"
LINE_END = re.compile(r"\r\n|\r|\n")
TAG = re.compile(r":(\d{2}[A-Z]?|NS):(.*)", re.ASCII)
OPENS = re.compile(r"(?m)^(?:\x01\s*)?:(?:20|25|28C?|13D|34F|60[FM]|61|62[FM]|64|65|86|90[CD]):")
END_OF_MESSAGE = re.compile(r"-(?:\}.*|XXX|\x03)?\s*")
BALANCE = re.compile(r"([CD])(\d{6})([A-Z]{3})([\d,]+)", re.ASCII)
ENTRY = re.compile(
    r"(?P<value>\d{6})(?P<entry>\d{4}|\s{4})?(?P<mark>R[CD]|E[CD]|[CD])(?P<funds>[A-Z])?(?P<amount>\d[\d,]*)"
    r"(?P<gap>\s*)(?P<type>[A-Z][A-Z0-9 ]{3})?(?P<rest>.*)",
    re.ASCII | re.DOTALL,
)
INTERIM_TOTAL = re.compile(r"(\d{1,5})([A-Z]{3})([\d,]+)", re.ASCII)
NO_CURRENCY = "XXX"  # ISO 4217 for an amount whose currency nobody names
MONEY_OUT = ("D", "RC", "ED")
NO_REFERENCE = ("NONREF", "KREF+", "EREF+", "EREF", "")


class Field(NamedTuple):
    """One tagged field: where it begins, its tag, its lines."""

    line: int
    tag: str
    lines: list[str]

    @property
    def text(self) -> str:
        """The lines of the field joined by line breaks."""
        return "\n".join(self.lines)


@dataclass
class Message:
    """The fields of one message (from :20: to the next, or to its end), entries with their :86: fields."""

    line: int
    single: dict[str, Field] = field(default_factory=dict)
    entries: list[tuple[Field, list[Field]]] = field(default_factory=list)
    ended: bool = False

    def get(self, *tags: str) -> Field | None:
        """The first field with one of the tags."""
        return next((self.single[tag] for tag in tags if tag in self.single), None)


def recognises(head: str) -> bool:
    """Whether the beginning of a text has MT940 fields."""
    return OPENS.search(head) is not None


def read(path: Path, sink: Sink) -> Tally:
    """Read one file of messages; rows go to the sink as ``bank_statements`` and ``bank_entries``.

    :raises Rejected: a message breaks the standard, is a fragment, or does not prove itself.
    """
    with Tally("mt940", ORIGIN, sink) as tally:
        proof = Proof(tally)
        pages = Pages(proof)
        for number, message in enumerate(_messages(path), start=1):
            _Statement(message, number, tally, proof, pages).read()
        proof.settle()
    return tally


def _messages(path: Path) -> Iterator[Message]:
    """The messages of the file; what stands between them is the transport's and passed over."""
    message: Message | None = None
    for entry_field in _fields(path):
        if entry_field.tag == "-":
            if message is not None:
                message.ended = True
                yield message
            message = None
            continue
        if message is None or (entry_field.tag == "20" and (message.single or message.entries)):
            if message is not None:
                yield message
            message = Message(entry_field.line)
        if entry_field.tag == "61":
            message.entries.append((entry_field, []))
        elif entry_field.tag in ("86", "NS"):
            # After the balances, and before the first entry, it speaks of the statement.
            if message.entries and message.get("62F", "62M") is None:
                message.entries[-1][1].append(entry_field)
        else:
            message.single.setdefault(entry_field.tag, entry_field)
    if message is not None:
        yield message


def _fields(path: Path) -> Iterator[Field]:
    current: Field | None = None
    for number, line in enumerate(LINE_END.split(whole_text(path)), start=1):
        text = line.rstrip()
        match = TAG.match(text)
        if match or END_OF_MESSAGE.fullmatch(text):
            if current is not None:
                yield current
            current = Field(number, match[1], [match[2]]) if match else Field(number, "-", [])
        elif current is not None and current.tag != "-":
            current.lines.append(text)
    if current is not None:
        yield current


class _Statement:
    """One message read as a statement, an interim report, or a fragment."""

    def __init__(self, message: Message, number: int, tally: Tally, proof: Proof, pages: Pages) -> None:
        self.message = message
        self.number = number
        self.tally = tally
        self.proof = proof
        self.pages = pages
        self.opening_field = message.get("60F", "60M")
        self.closing_field = message.get("62F", "62M")
        self.interim = message.get("34F", "13D", "90C", "90D") is not None and not (
            self.opening_field or self.closing_field
        )
        account = message.get("25")
        self.account = account.lines[0].strip() if account else ""
        number_field = message.get("28C", "28")
        self.reference = number_field.lines[0].strip() if number_field else ""
        self.closing_date: date | None = None

    def read(self) -> None:
        """Send the statement and its entries on and check them."""
        if self.interim:
            self.tally.format = "mt942"
        for tag in ("20", "25"):
            if self.message.get(tag) is None:
                self._note("a field is missing: a fragment is no statement", f":{tag}:")
        if self.interim:
            self._interim()
        elif self.opening_field and self.closing_field:
            self._statement(self.opening_field, self.closing_field)
        else:
            missing = ":60F:" if self.opening_field is None else ":62F:"
            self._note("a field is missing: a fragment without balances is no statement", missing)
            self.proof.without_balances()
            balance = self.opening_field or self.closing_field
            match = BALANCE.fullmatch(balance.lines[0].strip()) if balance else None
            self._entries(match[3] if match else NO_CURRENCY)

    def _statement(self, opening_field: Field, closing_field: Field) -> None:
        self.tally.statements += 1
        opening, closing = self._balance(opening_field), self._balance(closing_field)
        currency = opening.currency if opening else closing.currency if closing else ""
        self.closing_date = closing.day if closing else None
        entries = self._entries(currency)
        if opening is None or closing is None:
            self.proof.without_balances()
            return
        if closing.currency != currency:
            self._note("balances in two currencies", f":{closing_field.tag}:", currency, closing.currency)
        name = self.reference or str(self.number)
        self.proof.check(name, opening.amount.exact, entries, closing.amount.exact, closing_field.line)
        self._turn_page(currency, opening, closing)
        if opening.amount.minor is not None and closing.amount.minor is not None and self.account:
            self._send(currency, opening, closing)

    def _turn_page(self, currency: str, opening: Balance, closing: Balance) -> None:
        """A statement of several messages: an intermediate balance (:60M:, :62M:) says that another page goes on."""
        statement, _, number = self.reference.partition("/")
        first, last = self.message.get("60F") is not None, self.message.get("62F") is not None
        page = None
        if not (first and last):
            page = Page(int(number) if re.fullmatch(r"\d{1,5}", number, re.ASCII) else None, last, closing)
        self.pages.turn(f"{self.account}|{currency}", (statement,), page, opening, self.message.line, ":28C:")

    def _interim(self) -> None:
        """An MT942: no balances; its totals of credits and debits (:90C:, :90D:) are checked where it has them."""
        totals = {tag: self.message.get(tag) for tag in ("90D", "90C")}
        if not any(totals.values()) and not self.message.ended:
            self._note("an interim report without totals or end", ":90D: / :90C:")
        floor = self.message.get("34F") or totals["90C"] or totals["90D"]
        match = re.search(r"[A-Z]{3}", floor.text) if floor else None
        currency = match[0] if match else ""
        if not currency:
            self._note("an interim report without currency", ":34F:")
        made = self.message.get("13D")
        day = self._day(made.text[:6], made.line, ":13D:") if made else None
        if day is None and made is None:
            self._note("a field is missing", ":13D:")
        amounts: list[Decimal] = []
        self._entries(currency, amounts)
        self.proof.without_balances()
        for tag, total in totals.items():
            if total is None:
                continue
            side = [abs(amount) for amount in amounts if (amount < 0) == (tag == "90D")]
            match = INTERIM_TOTAL.fullmatch(total.text.strip())
            amount = self._amount(match[3], match[2], False, total.line, f":{tag}:") if match else None
            if match is None or amount is None or (int(match[1]), amount.exact) != (len(side), sum(side)):
                self._note("the report's total differs from its entries", f":{tag}:", total.text,
                           f"{len(side)} entries, {sum(side)}", total.line)  # fmt: skip
        if day is not None and self.account:
            self.tally.accounts.add(self.account)
            self.tally.seen(day)

    def _send(self, currency: str, opening: Balance, closing: Balance) -> None:
        number = re.match(r"\d{1,18}", self.reference, re.ASCII)
        row = BankStatement(
            statement_no=self.number,
            bank_account=self.account,
            currency=currency,
            statement_reference=self.reference or None,
            sequence_number=int(number[0]) or None if number else None,
            opening_date=opening.day,
            opening_minor=opening.amount.minor,
            closing_date=closing.day,
            closing_minor=closing.amount.minor,
        )
        file_statement(self.tally, self.proof, row, self.message.line)

    def _entries(self, currency: str, amounts: list[Decimal] | None = None) -> Decimal:
        """Count the entries and send them on; their sum in major units."""
        total = Decimal(0)
        for entry, information in self.message.entries:
            self.tally.entries += 1
            match = ENTRY.fullmatch(entry.text)
            if match is None:
                self._note(
                    "not a statement line", ":61:", "value date, mark, amount, type, reference", entry.text, entry.line
                )
                continue
            amount = self._amount(match["amount"], currency, match["mark"] in MONEY_OUT, entry.line, ":61:")
            if amount is None:
                continue
            total += amount.exact
            if amounts is not None:
                amounts.append(amount.exact)
            self.tally.add(currency or NO_CURRENCY, amount.minor or 0, amount.exact)
            if match["gap"] or match["type"] is None or match["type"][0] not in "NSF":
                self._note("not a transaction type", ":61:", "N, S or F and three characters after the amount",
                           entry.text, entry.line)  # fmt: skip
            value = self._day(match["value"], entry.line, ":61: value date")
            if value is None or amount.minor is None or self.interim or not self.account:
                continue
            self._send_entry(entry, information, match, value, amount.minor, currency)
        return total

    def _send_entry(
        self, entry: Field, information: list[Field], match: re.Match[str], value: date, minor: int, currency: str
    ) -> None:
        booking = self._booking_day(match["entry"] or "", value, entry.line)
        reference, _, bank_reference = match["rest"].partition("\n")[0].partition("//")
        text = [line for info in information for line in info.lines]
        reference = reference.strip()
        self.tally.emit(
            "bank_entries",
            BankEntry(
                line_no=self.tally.entries,
                statement_no=self.number,
                bank_account=self.account,
                booking_date=booking,
                value_date=value,
                amount_minor=minor,
                currency=currency,
                is_reversal=match["mark"][0] == "R",
                transaction_code=(match["type"] or "").strip() or None,
                bank_reference=bank_reference.strip() or None,
                customer_reference=end_to_end_reference(text) if reference in NO_REFERENCE else reference,
                counterparty=counterparty(text),
                remittance=remittance(text),
                record=json_text({"message": "MT940", ":61:": entry.text, ":86:": "\n".join(text)}),
            ),
            document_of(self.number, self.account, currency, self.closing_date, self.reference),
        )

    def _balance(self, balance: Field) -> Balance | None:
        match = BALANCE.fullmatch(balance.lines[0].strip())
        if match is None:
            self._note("not a balance", f":{balance.tag}:", "mark, date, currency, amount", balance.text, balance.line)
            return None
        day = self._day(match[2], balance.line, f":{balance.tag}:")
        amount = self._amount(match[4], match[3], match[1] == "D", balance.line, f":{balance.tag}:")
        return Balance(day, match[3], amount) if day and amount else None

    def _amount(self, text: str, currency: str, negative: bool, line: int, column: str) -> Amount | None:
        """A signed amount; a missing comma is a break of the standard but can be counted."""
        if "," not in text:
            self._note("not an exact amount", column, "an amount with a decimal comma", text, line)
        try:
            if currency not in ("", NO_CURRENCY):
                return self.proof.amount(text, currency, negative, line, column, separator=",")
            # A fragment names no currency: the amount is counted and the fragment refused.
            return self.proof.uncounted(text, negative, line, column, separator=",")
        except Rejected as rejected:
            self.proof.note(rejected)
            return None

    def _day(self, text: str, line: int, column: str) -> date | None:
        """A date written YYMMDD; noted and None if there is no such day."""
        try:
            year, month, day = 2000 + int(text[:2]), int(text[2:4]), int(text[4:6])
            if month == 2 and day in (29, 30):
                day = min(day, monthrange(year, month)[1])
            return date(year, month, day)
        except ValueError:
            self._note("not a date", column, "YYMMDD", text, line)
            return None

    def _booking_day(self, entry_date: str, value: date, line: int) -> date:
        """The entry date, MMDD of the year that puts it nearest to the value date; the value date if there is none."""
        if not entry_date.strip():
            return value
        candidates = []
        for year in (value.year - 1, value.year, value.year + 1):
            month, day = int(entry_date[:2]), int(entry_date[2:])
            if 1 <= month <= 12 and 1 <= day <= 31:
                last = monthrange(year, month)[1]
                if day <= last or (month == 2 and day <= 30):
                    candidates.append(date(year, month, min(day, last)))
        if not candidates:
            self._note("not a date", ":61: entry date", "MMDD", entry_date, line)
            return value
        return min(candidates, key=lambda candidate: abs(candidate - value))

    def _note(
        self, reason: str, column: str, expected: str | None = None, found: str | None = None, line: int | None = None
    ) -> None:
        self.proof.note(Rejected(reason, line=line or self.message.line, column=column, expected=expected, found=found))
