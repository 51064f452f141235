"""BAI2 cash management files: accounts of a bank with their balances and transactions.

Records are 01 file, 02 group, 03 account, 16 transaction, 88 continuation, 49/98/99 trailers with control totals and
record counts, all of which are verified. Amounts are unsigned whole numbers of minor units; a transaction's type code
says which way the money went. A group is one day (its as-of date); without a currency it is in US dollars. Groups
that are marked interim are counted and verified, and left to the final ones.
A file is held in memory, so it may have 128 MB and no more. A day is the calendar day that the bank wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from bai2.constants import TypeCodes, TypeCodeTransaction

from tieout import money
from tieout.files.lines import whole_text
from tieout.files.proof import BankEntry, BankStatement, Rejected, Sink, Tally, bounded, count, json_text
from tieout.files.statements import Proof, document_of, file_statement

ORIGIN = "bank"
OPENS = re.compile(r"\s*01,[^,\n]*,[^,\n]*,\d{6},")
OPENING_LEDGER, CLOSING_LEDGER = "010", "015"
DEFAULT_CURRENCY = "USD"
INTERIM_STATUS = ("1", "3")  # as-of-date modifier: previous day or same day, not final
RECORD_WIDTH = 80  # a text line this long was wrapped by the bank, possibly inside a word
CREDITS, DEBITS = range(100, 400), range(400, 700)
LOAN_CREDITS, LOAN_DEBITS = range(720, 760), range(760, 790)
CODES = TypeCodes


def recognises(head: str) -> bool:
    """Whether the beginning of a text is a BAI2 file header."""
    return OPENS.match(head) is not None


def read(path: Path, sink: Sink) -> Tally:
    """Read one file; rows go to the sink as ``bank_statements`` (one an account and group) and ``bank_entries``.

    :raises Rejected: a control total or record count differs, a record breaks the format, or a balance is off.
    """
    with Tally("bai2", ORIGIN, sink) as tally:
        proof = Proof(tally)
        _File(tally, proof).read(path)
        proof.settle()
    return tally


@dataclass
class Record:
    """A record with its continuations: the line it begins on, its code, its fields, its physical lines."""

    line: int
    code: str
    lines: list[str]

    @property
    def fields(self) -> list[str]:
        """The comma-separated fields after the code; a slash ends a line's fields."""
        parts: list[str] = []
        for text in self.lines:
            parts.extend(text.rstrip().removesuffix("/").split(","))
        return parts


@dataclass
class Level:
    """A file, group or account being read: control total and number of physical records, as counted."""

    line: int
    total: int = 0
    records: int = 0
    children: int = 0


@dataclass
class Account(Level):
    """An account section: number, currency, balances in minor units by type code, and the sum of its entries."""

    number: str = ""
    currency: str = ""
    balances: dict[str, int] = field(default_factory=dict)
    entries: int = 0
    statement_no: int = 0


class _File:
    """The nesting of one file while its records go by."""

    def __init__(self, tally: Tally, proof: Proof) -> None:
        self.tally = tally
        self.proof = proof
        self.file: Level | None = None
        self.group: Level | None = None
        self.account: Account | None = None
        self.day = date.min
        self.currency = DEFAULT_CURRENCY
        self.interim = False
        self.closed = False

    def read(self, path: Path) -> None:
        steps = {"01": self.open_file, "02": self.open_group, "03": self.open_account, "16": self.transaction,
                 "49": self.close_account, "98": self.close_group, "99": self.close_file}  # fmt: skip
        last = 0
        for record in _records(path):
            last = record.line
            if self.closed:
                raise Rejected("a record after the file's trailer", line=record.line, found=record.code)
            for level in (self.file, self.group, self.account):
                if level is not None:
                    level.records += len(record.lines)
            steps[record.code](record)
        if not self.closed:
            raise Rejected("the file is cut", line=last, expected="a 99 record at the end", found="none")

    def open_file(self, record: Record) -> None:
        if self.file is not None:
            raise Rejected("a second file header", line=record.line, column="01")
        if len(record.fields) < 8 or record.fields[7] != "2":
            raise Rejected("not BAI version 2", line=record.line, column="01 version", expected="2",
                           found=record.fields[7] if len(record.fields) > 7 else "")  # fmt: skip
        self.file = Level(record.line, records=len(record.lines))

    def open_group(self, record: Record) -> None:
        if self.file is None or self.group is not None:
            raise Rejected(
                "a group out of place", line=record.line, column="02", expected="a 01 or 98 record before it"
            )
        fields = [*record.fields, *[""] * 7]
        self.day = _day(fields[3], record.line, "02 as-of date")
        self.currency = fields[5] or DEFAULT_CURRENCY
        self.interim = fields[6] in INTERIM_STATUS
        self.file.children += 1
        self.group = Level(record.line, records=len(record.lines))

    def open_account(self, record: Record) -> None:
        if self.group is None or self.account is not None:
            raise Rejected(
                "an account out of place", line=record.line, column="03", expected="a 02 or 49 record before it"
            )
        fields = record.fields
        if not fields or not fields[0]:
            raise Rejected("account without number", line=record.line, column="03 account")
        self.group.children += 1
        self.tally.statements += 1
        account = Account(
            record.line, number=fields[0], currency=(fields[1] if len(fields) > 1 else "") or self.currency,
            records=len(record.lines), statement_no=self.tally.statements,
        )  # fmt: skip
        try:
            money.exponent(account.currency)
        except money.AmountError as error:
            raise Rejected("not a currency", line=record.line, column="03 currency", expected=error.expected,
                           found=error.found) from None  # fmt: skip
        at = 2
        while at < len(fields):
            code, text = fields[at], fields[at + 1] if at + 1 < len(fields) else ""
            if not code:
                at += 1  # some banks write one more comma before the slash
                continue
            if not re.fullmatch(r"\d{3}", code, re.ASCII):
                raise Rejected("not a type code", line=record.line, column="03", expected="three digits", found=code)
            # The funds type and what follows it; the whole rest each time would take the square of a line's length.
            availability = _availability(fields[at + 3 : at + 5], record.line)
            if text:
                minor = _signed(text, record.line, f"03 amount of {code}")
                account.total += minor
                account.balances.setdefault(code, minor)
            at += 4 + availability
        self.account = account

    def transaction(self, record: Record) -> None:
        account = self.account
        if account is None:
            raise Rejected(
                "a transaction out of place", line=record.line, column="16", expected="a 03 record before it"
            )
        fields = record.fields
        code = fields[0]
        minor = count(fields[1], record.line, "16 amount") if len(fields) > 1 and fields[1] else 0
        account.total += minor
        signed = minor * _direction(code, record.line)
        account.entries = bounded(account.entries + signed, record.line, "16 amount")
        availability = _availability(fields[2:], record.line)
        value_date = self.day
        if len(fields) > 3 and fields[2] == "V" and fields[3]:
            value_date = _day(fields[3], record.line, "16 value date")
        elif len(fields) > 2 and fields[2] in ("1", "2"):
            value_date = self.day + timedelta(days=int(fields[2]))
        bank_reference, customer_reference, *_ = [*fields[3 + availability :], "", ""]
        self.tally.entries += 1
        self.tally.add(account.currency, signed, money.to_decimal(signed, account.currency))
        if self.interim:
            return
        known = CODES.get(code)
        self.tally.emit(
            "bank_entries",
            BankEntry(
                line_no=self.tally.entries,
                statement_no=account.statement_no,
                bank_account=account.number,
                booking_date=self.day,
                value_date=value_date,
                amount_minor=signed,
                currency=account.currency,
                is_reversal=known is not None and "reversal" in known.description.lower(),
                transaction_code=code,
                bank_reference=bank_reference or None,
                customer_reference=customer_reference or None,
                counterparty=None,
                remittance=_text(record, 5 + availability) or None,
                record=json_text({"message": "BAI2", "16": record.lines}),
            ),
            document_of(account.statement_no, account.number, account.currency, self.day, None),
        )

    def close_account(self, record: Record) -> None:
        account = self.account
        if account is None or self.group is None:
            raise Rejected("a trailer out of place", line=record.line, column="49", expected="a 03 record before it")
        self._verify(record, account, count_position=1)
        self.group.total += account.total
        opening, closing = (account.balances.get(code) for code in (OPENING_LEDGER, CLOSING_LEDGER))
        if opening is not None and closing is not None:
            opening_major, entries, closing_major = (
                money.to_decimal(minor, account.currency) for minor in (opening, account.entries, closing)
            )
            self.proof.check(account.number, opening_major, entries, closing_major, account.line)
        else:
            self.proof.without_balances()
        self.tally.accounts.add(account.number)
        self.tally.seen(self.day)
        self.account = None
        if self.interim:
            return
        row = BankStatement(
            statement_no=account.statement_no,
            bank_account=account.number,
            currency=account.currency,
            statement_reference=None,
            sequence_number=None,
            opening_date=self.day if opening is not None else None,
            opening_minor=opening,
            closing_date=self.day,
            closing_minor=closing,
        )
        file_statement(self.tally, self.proof, row, account.line)

    def close_group(self, record: Record) -> None:
        if self.group is None or self.account is not None or self.file is None:
            raise Rejected(
                "a trailer out of place", line=record.line, column="98", expected="a 02 or 49 record before it"
            )
        self._verify(record, self.group, count_position=2)
        self.file.total += self.group.total
        self.group = None

    def close_file(self, record: Record) -> None:
        if self.file is None or self.group is not None:
            raise Rejected("a trailer out of place", line=record.line, column="99", expected="a 98 record before it")
        self._verify(record, self.file, count_position=2)
        self.closed = True

    def _verify(self, record: Record, level: Level, count_position: int) -> None:
        """Compare a trailer's control total and counts with what was read."""
        said = [*record.fields, "", "", ""]
        total = _signed(said[0], record.line, f"{record.code} control total") if said[0] else 0
        checks = [("control total", total, level.total)]
        if count_position == 2:
            checks.append(("number of groups or accounts", count(said[1], record.line, f"{record.code} number"),
                           level.children))  # fmt: skip
        checks.append(("number of records", count(said[count_position], record.line, f"{record.code} records"),
                       level.records))  # fmt: skip
        for what, expected, found in checks:
            if expected != found:
                raise Rejected(
                    f"the trailer's {what} differs from the records",
                    line=record.line,
                    column=record.code,
                    expected=str(expected),
                    found=str(found),
                )


def _records(path: Path) -> Iterator[Record]:
    """The logical records: a physical line and the 88 lines that continue it."""
    current: Record | None = None
    for number, line in enumerate(whole_text(path).split("\n"), start=1):
        text = line.rstrip("\r")
        if not text.strip():
            continue
        code, comma, rest = text[:2], text[2:3], text[3:]
        if comma != "," or code not in ("01", "02", "03", "16", "49", "88", "98", "99"):
            raise Rejected("not a BAI2 record", line=number, column="record code", expected="01 02 03 16 49 88 98 99",
                           found=text[:20])  # fmt: skip
        if code == "88":
            if current is None or current.code not in ("03", "16"):
                raise Rejected(
                    "a continuation of nothing", line=number, column="88", expected="a 03 or 16 record before it"
                )
            current.lines.append(rest)
        else:
            if current is not None:
                yield current
            current = Record(number, code, [rest])
    if current is not None:
        yield current


def _signed(text: str, line: int, column: str) -> int:
    """A balance or control total, which may carry a sign."""
    minor = count(text.removeprefix("-").removeprefix("+") if text[:1] in "+-" else text, line, column)
    return -minor if text.startswith("-") else minor


def _direction(code: str, line: int) -> int:
    """1 for a credit, -1 for a debit, by the type code."""
    known = CODES.get(code)
    if known is not None and known.transaction is not None and known.transaction is not TypeCodeTransaction.misc:
        return 1 if known.transaction is TypeCodeTransaction.credit else -1
    if re.fullmatch(r"\d{3}", code, re.ASCII):
        number = int(code)
        if number in CREDITS or number in LOAN_CREDITS:
            return 1
        if number in DEBITS or number in LOAN_DEBITS:
            return -1
    raise Rejected(
        "neither credit nor debit",
        line=line,
        column="16 type code",
        expected="a code of 100-399 or 720-759 (credit), 400-699 or 760-789 (debit)",
        found=code,
    )


def _availability(fields: list[str], line: int) -> int:
    """How many fields after the funds type (the first of ``fields``) belong to it."""
    funds_type = fields[0] if fields else ""
    sizes = {"": 0, "Z": 0, "0": 0, "1": 0, "2": 0, "V": 2, "S": 3}
    if funds_type in sizes:
        return sizes[funds_type]
    if funds_type == "D" and len(fields) > 1:
        return 1 + 2 * count(fields[1], line, "funds type D")
    raise Rejected(
        "unknown funds type", line=line, column="funds type", expected="Z, 0, 1, 2, V, S or D", found=funds_type
    )


def _text(record: Record, first: int) -> str:
    """The text of a transaction, in which commas and slashes may stand, joined over its continuations."""
    text, full = record.lines[0].split(",", first)[-1] if record.lines[0].count(",") >= first else "", False
    text = text.rstrip().removesuffix("/")
    for line in record.lines[1:]:
        text += line if full else f" {line}"
        full = len(line) + 3 >= RECORD_WIDTH
    return re.sub(r"\s+", " ", text).strip().removesuffix("/").strip()


def _day(text: str, line: int, column: str) -> date:
    try:
        if not re.fullmatch(r"\d{6}", text, re.ASCII):
            raise ValueError(text)
        return date(2000 + int(text[:2]), int(text[2:4]), int(text[4:]))
    except ValueError:
        raise Rejected("not a date", line=line, column=column, expected="YYMMDD", found=text) from None
