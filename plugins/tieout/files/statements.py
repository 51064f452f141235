"""A bank statement's arithmetic: opening + entries = closing, per statement and for the file as a whole.

Interim reports and notifications, and pending entries, are read and checked but not sent on: the booked statement
repeats them, and money must not count twice. A reader of a bank format notes the first break of its standard and
reads on, so that a refused file still reports its counts and sums.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from tieout.files.proof import BankStatement, Document, Rejected, Tally, joined_identity
from tieout.money import AmountError, exact, to_minor


@dataclass(frozen=True)
class Amount:
    """A signed amount of a bank file: exact as written, and in minor units of its currency if it has whole ones."""

    exact: Decimal
    minor: int | None


@dataclass
class Balance:
    """A balance of a statement: its date, currency and signed amount."""

    day: date
    currency: str
    amount: Amount


@dataclass
class Page:
    """A page of a statement: its number if it has one, whether it is the last, and the balance it closes with."""

    number: int | None
    last: bool
    closing: Balance | None


class Pages:
    """The pages of the statements of one file: of each account none is missing between two, and none comes twice.

    What stands before the first page of a file, or after the last, is another file's.
    """

    def __init__(self, proof: Proof) -> None:
        self._proof = proof
        self._open: dict[str, tuple[frozenset[str], Page]] = {}

    def turn(
        self, account: str, names: Iterable[str], page: Page | None, opening: Balance | None, line: int, column: str
    ) -> None:
        """Take the next page of an account, or (None) a whole statement; what does not follow is noted.

        Pages are of one statement that have any of its ``names`` (its number, its identification) in common.
        """
        statement = frozenset(filter(None, names))
        known, before = self._open.pop(account, (statement, None))
        if page is not None:
            self._open[account] = statement, page
        is_same = known == statement or bool(known & statement)
        if before is None or (before.last and (page is None or not is_same)):
            return
        expected = "no page after the last" if before.last else f"page {(before.number or 0) + 1} of the statement"
        found = f"page {page.number} of it" if page and page.number is not None else "a page of it"
        if page is None or not is_same:
            found = "another statement"
        elif not before.last and (before.number is None or page.number in (None, before.number + 1)):
            if before.closing and opening and before.closing.amount.exact != opening.amount.exact:
                self._proof.note(
                    Rejected("a page does not begin where the page before it ended", line=line, column=column,
                             expected=f"{before.closing.amount.exact:f}", found=f"{opening.amount.exact:f}")
                )  # fmt: skip
            return
        self._proof.note(
            Rejected("a page is missing or comes twice", line=line, column=column, expected=expected, found=found)
        )


class Proof:
    """Collects what is wrong with a bank file and how far its balances are off; :meth:`settle` passes judgement."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.problem: Rejected | None = None
        self._off: Decimal = Decimal(0)
        self._first_off: tuple[str, Decimal, int | None] | None = None
        self._checked = 0
        self._unchecked = 0

    def note(self, problem: Rejected) -> None:
        """Remember the first break of the standard; later ones often follow from it."""
        self.problem = self.problem or problem

    def amount(self, text: str, currency: str, negative: bool, line: int, column: str, separator: str = ".") -> Amount:
        """An amount's text as a signed amount; what is wrong with it is noted.

        :raises Rejected: the text is no number at all, so that it cannot be counted either.
        """
        uncounted = self.uncounted(text, negative, line, column, separator)
        try:
            minor = to_minor(text, currency, separator=separator)
        except AmountError as error:
            self.note(
                Rejected("not an exact amount", line=line, column=column, expected=error.expected, found=error.found)
            )
            return uncounted
        return Amount(uncounted.exact, -minor if negative else minor)

    def uncounted(self, text: str, negative: bool, line: int, column: str, separator: str = ".") -> Amount:
        """An amount whose currency nobody names: it can be reported, not loaded.

        :raises Rejected: the text is no number at all.
        """
        try:
            value = exact(text, separator=separator)
        except AmountError as error:
            raise Rejected(
                "not an exact amount", line=line, column=column, expected=error.expected, found=error.found
            ) from None
        return Amount(-value if negative else value, None)

    def check(self, name: str, opening: Decimal, entries: Decimal, closing: Decimal, line: int | None) -> None:
        """Check one statement: opening + entries = closing, all in major units."""
        self._checked += 1
        difference = closing - opening - entries
        self._off += difference
        if difference and self._first_off is None:
            self._first_off = (name, difference, line)

    def without_balances(self) -> None:
        """A statement, or a part of one, that has no two balances to check it by."""
        self._unchecked += 1

    def settle(self) -> None:
        """Set the file's balance, and refuse a file with anything wrong.

        :raises Rejected: the first break of the standard, or else the first statement that is off.
        """
        if self._first_off is not None:
            name, difference, line = self._first_off
            # Two statements that are off by opposite amounts are still off.
            self.tally.balance = f"off {self._off or difference:f}"
            self.note(
                Rejected(
                    f"statement {name} does not prove itself: opening + entries is not closing",
                    line=line,
                    expected="a difference of 0",
                    found=f"{difference:f}",
                )
            )
        elif self._checked and not self._unchecked:
            self.tally.balance = "ok"
        if self.problem is not None:
            raise self.problem


def document_of(number: int, account: str, currency: str, closing_date: date | None, reference: str | None) -> Document:
    """A statement as a document, of which its entries are part, too.

    A statement is known by account, currency, closing date and the bank's number of it; numbers start again each
    year, and two statements of one day differ in it.

    :raises Rejected: they are longer than any bank's are.
    """
    day = closing_date.isoformat() if closing_date else ""
    return Document("bank_statement", joined_identity((account, currency, day, reference or "")), number)


def file_statement(tally: Tally, proof: Proof, statement: BankStatement, line: int | None) -> None:
    """Send a statement's row on and note it as a document: the same statement must not come twice."""
    document = document_of(
        statement.statement_no, statement.bank_account, statement.currency, statement.closing_date,
        statement.statement_reference,
    )  # fmt: skip
    if not tally.note(document):
        proof.note(Rejected("the same statement comes twice in the file", line=line, found=document.identity))
    tally.accounts.add(statement.bank_account)
    tally.seen(statement.closing_date)
    tally.emit("bank_statements", statement, document)
