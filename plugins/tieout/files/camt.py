"""ISO 20022 cash management messages: camt.053 statements, camt.052 reports, camt.054 notifications, any version.

Elements are known by their local name, so that versions and prefixes do not matter. What moves money is the entry
(Ntry), so there is one row an entry, also where it is a batch of several transactions. Entries that a later statement
will book (of reports and notifications, and pending ones) are counted and not sent on. A file is read as it streams
by, one entry in memory: what a statement says of itself stands before its entries, as the standard orders it.

A statement may come in pages (StmtPgntn), each a statement of its own with the balances it has: the next page begins
where the page before it ended. Times carry no weight here: a day is the calendar day that the bank wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from tieout.files.proof import BankEntry, BankStatement, Rejected, Sink, Tally, calendar_date, json_text
from tieout.files.statements import Amount, Balance, Page, Pages, Proof, document_of, file_statement
from tieout.files.xml_stream import Json, Kind, walk
from tieout.money import AmountError, exact

ORIGIN = "bank"
KINDS = {"Stmt": "statement", "Rpt": "report", "Ntfctn": "notification"}
PAGINATION = {"statement": "StmtPgntn", "report": "RptPgntn", "notification": "NtfctnPgntn"}
# What a statement says of itself, before its entries.
SAID_FIRST = frozenset(
    ("Id", *PAGINATION.values(), "ElctrncSeqNb", "LglSeqNb", "CreDtTm", "FrToDt", "Acct", "Bal", "TxsSummry")
)
REPEATED = ("Bal",)
OPENING, PREVIOUS_CLOSING, INTERIM, CLOSING = "OPBD", "PRCD", "ITBD", "CLBD"
STATUSES = ("BOOK", "PDNG", "INFO", "FUTR")  # booked, pending, for information, booked on a day to come
SIGNS = {"CRDT": False, "DBIT": True}
NO_REFERENCE = ("NOTPROVIDED", "NONREF", "")
MESSAGE = re.compile(r"camt\.05[234]\.\d{3}\.\d{2}", re.ASCII)
OPENS_XML = re.compile(r"\s*<")
NAMES_CAMT = re.compile(r"camt\.05[234]|BkToCstmr(?:Stmt|AcctRpt|DbtCdtNtfctn)")


def recognises(head: str) -> bool:
    """Whether the beginning of a text is XML that names a camt message."""
    return OPENS_XML.match(head) is not None and NAMES_CAMT.search(head) is not None


def read(path: Path, sink: Sink) -> Tally:
    """Read one message; rows go to the sink as ``bank_statements`` and ``bank_entries``.

    :raises Rejected: it is no well-formed camt message, breaks the standard, or a statement does not prove itself.
    """
    with Tally("camt", ORIGIN, sink) as tally:
        proof = Proof(tally)
        _read(path, tally, proof)
        if not tally.statements:
            raise Rejected("no statement in the file", expected="a Stmt, Rpt or Ntfctn element", found="none")
        proof.settle()
    return tally


def _read(path: Path, tally: Tally, proof: Proof) -> None:
    statement: _Statement | None = None
    pages = Pages(proof)
    for kind, line, name, value in walk(path, KINDS, SAID_FIRST | {"Ntry"}):
        if statement is None:
            if kind is Kind.OPENED:
                tally.statements += 1
                statement = _Statement(KINDS[name], tally.statements, line, tally, proof)
                if message := MESSAGE.search(str(value)):
                    tally.format = message[0]
        elif kind is Kind.CLOSED:
            statement.close(pages)
            statement = None
        elif name == "Ntry":
            statement.entry(line, value)
        else:
            statement.say(line, name, value)


@dataclass
class Side:
    """The entries of one side of a statement, or of both: how many, and their unsigned sum."""

    count: int = 0
    total: Decimal = field(default_factory=Decimal)

    def add(self, amount: Decimal) -> None:
        self.count += 1
        self.total += amount


class _Statement:
    """One Stmt, Rpt or Ntfctn element while it goes by."""

    def __init__(self, kind: str, number: int, line: int, tally: Tally, proof: Proof) -> None:
        self.kind = kind
        self.number = number
        self.line = line
        self.tally = tally
        self.proof = proof
        self.said: dict[str, Json] = {}
        self.balances: list[tuple[str, Balance]] = []
        self.opened = False
        self.account: str | None = None
        self.currency: str | None = None
        self.opening: Balance | None = None
        self.closing: Balance | None = None
        self.page: Page | None = None
        self.closing_date = date.min
        self.booked: dict[str, Decimal] = {}
        self.sides = {"TtlNtries": Side(), "TtlCdtNtries": Side(), "TtlDbtNtries": Side()}

    def say(self, line: int, name: str, value: Json) -> None:
        """Take one thing that the statement says of itself."""
        if self.opened:
            self._note("out of the standard's order", line, name, "before the first Ntry", name)
        elif name == "Bal":
            self._balance(line, value)
        elif name in self.said:
            self._note("an element comes twice", line, name, "once in a statement", "twice")
        else:
            self.said[name] = value

    def _balance(self, line: int, value: Json) -> None:
        amount, currency = self._amount(line, value, "Bal")
        day = _date(value, "Dt", line)
        if day is None:
            raise Rejected("balance without date", line=line, column="Bal/Dt")
        code = _text(value, "Tp", "CdOrPrtry", "Cd") or _text(value, "Tp", "CdOrPrtry", "Prtry") or ""
        self.balances.append((code, Balance(day, currency, amount)))

    def open(self) -> None:
        """All that it says of itself is there."""
        self.opened = True
        account = self.said.get("Acct", "")
        self.account = _text(account, "Id", "IBAN") or _text(account, "Id", "Othr", "Id")
        self.currency = _text(account, "Ccy") or (self.balances[0][1].currency if self.balances else None)
        self._paginate()
        self.opening = self._first(OPENING) or self._first(PREVIOUS_CLOSING)
        self.closing = self._first(CLOSING)
        if self.page is not None:
            interim = [balance for code, balance in self.balances if code == INTERIM]
            if self.opening is None and (self.page.number or 1) > 1 and interim:
                self.opening = interim.pop(0)
            if self.closing is None and not self.page.last and interim:
                self.closing = interim[-1]
        self.closing_date = self.closing.day if self.closing else self._day()

    def _paginate(self) -> None:
        pagination = self.said.get(PAGINATION[self.kind])
        if pagination is None:
            return
        number, last = _text(pagination, "PgNb") or "", _text(pagination, "LastPgInd") or ""
        if not re.fullmatch(r"\d{1,5}", number, re.ASCII) or last not in ("true", "false", "1", "0"):
            self._note("not a page", self.line, PAGINATION[self.kind], "PgNb in digits, LastPgInd true or false",
                       f"{number} {last}")  # fmt: skip
            return
        self.page = Page(int(number), last in ("true", "1"), None)

    @property
    def name(self) -> str | None:
        """The bank's own identification of the statement, with the page where it has several."""
        name = _text(self.said.get("Id", ""))
        if name and self.page and (self.page.number, self.page.last) != (1, True):
            return f"{name}/{self.page.number}"
        return name

    def _first(self, code: str) -> Balance | None:
        return next((balance for found, balance in self.balances if found == code), None)

    def _day(self) -> date:
        """The date of a statement without a closing balance: its period's end, when it was made, its last balance."""
        for path in (("FrToDt", "ToDtTm"), ("FrToDt", "ToDt"), ("CreDtTm",)):
            if text := _text(self.said.get(path[0], ""), *path[1:]):
                return calendar_date(text[:10], self.line, "/".join(path))
        if self.balances:
            return max(balance.day for _, balance in self.balances)
        raise Rejected("statement without date", line=self.line, expected="CLBD, FrToDt or CreDtTm")

    def _amount(self, line: int, value: Json, column: str) -> tuple[Amount, str]:
        """The signed amount of a balance or entry and its currency: the amount is positive, the indicator signs it."""
        element = value.get("Amt") if isinstance(value, dict) else None
        text = _text(element) if element and not isinstance(element, list) else None
        if not text:
            raise Rejected("amount missing", line=line, column=f"{column}/Amt", expected="one amount",
                           found="several" if isinstance(element, list) else "none")  # fmt: skip
        indicator = value.get("CdtDbtInd") if isinstance(value, dict) else None
        if not isinstance(indicator, str) or indicator not in SIGNS:
            raise Rejected(
                "neither credit nor debit",
                line=line,
                column=f"{column}/CdtDbtInd",
                expected="CRDT or DBIT",
                found=str(indicator or ""),
            )
        currency = str(element["@Ccy"]) if isinstance(element, dict) and "@Ccy" in element else ""
        if text.startswith("-"):
            self._note("negative amount", line, f"{column}/Amt",
                       "an unsigned amount; CdtDbtInd says which way the money went", text)  # fmt: skip
        return self.proof.amount(text, currency, SIGNS[indicator], line, f"{column}/Amt"), currency

    def entry(self, line: int, value: Json) -> None:
        """Count one entry, and send it on if this is the statement that books it."""
        if not self.opened:
            self.open()
        self.tally.entries += 1
        amount, currency = self._amount(line, value, "Ntry")
        self.currency = self.currency or currency
        if currency != self.currency:
            self._note("entry in another currency than its account", line, "Ntry/Amt", self.currency, currency)
        self.sides["TtlNtries"].add(abs(amount.exact))
        self.sides["TtlCdtNtries" if amount.exact >= 0 else "TtlDbtNtries"].add(abs(amount.exact))
        self.tally.add(currency, amount.minor or 0, amount.exact)
        status = self._status(value, line)
        if status == "BOOK":
            self.booked[currency] = self.booked.get(currency, Decimal(0)) + amount.exact
        if self.kind != "statement" or status != "BOOK":
            return  # the statement that books it will have it
        if amount.minor is None or not self.account:
            return  # noted already, or at the end: the file is refused
        value_date = _date(value, "ValDt", line)
        booking = _date(value, "BookgDt", line) or value_date or self.closing_date
        details = list(_nodes(value, "NtryDtls", "TxDtls"))
        only = details[0] if len(details) == 1 else ""
        self.tally.emit(
            "bank_entries",
            BankEntry(
                line_no=self.tally.entries,
                statement_no=self.number,
                bank_account=self.account,
                booking_date=booking,
                value_date=value_date or booking,
                amount_minor=amount.minor,
                currency=currency,
                is_reversal=(_text(value, "RvslInd") or "").lower() in ("true", "1"),
                transaction_code=_transaction_code(value),
                bank_reference=_text(value, "AcctSvcrRef")
                or _text(only, "Refs", "AcctSvcrRef")
                or _text(value, "NtryRef"),
                customer_reference=_reference(only),
                counterparty=_counterparty(only, credit=amount.exact >= 0),
                remittance=_remittance(value, details),
                record=json_text({"message": self.tally.format, "entry": value}),
            ),
            document_of(self.number, self.account, self.currency, self.closing_date, self.name),
        )

    def _status(self, entry: Json, line: int) -> str:
        """BOOK where the entry has no status; one that nobody knows is noted."""
        if not isinstance(entry, dict) or "Sts" not in entry:
            return "BOOK"
        status = _text(entry, "Sts", "Cd") or _text(entry, "Sts") or ""
        if status not in STATUSES:
            self._note("unknown status", line, "Ntry/Sts", ", ".join(STATUSES), status)
        return status

    def close(self, pages: Pages) -> None:
        """The statement is whole: check it and send its row on."""
        if not self.opened:
            self.open()
        self._summary()
        if len({balance.currency for _, balance in self.balances}) > 1:
            self._note("balances in two currencies", self.line, "Bal/Amt")
        if self.kind == "statement" and not self.balances:
            self._note("statement without balances", self.line, "Bal", "at least one balance, as camt.053 demands",
                       "none")  # fmt: skip
        if not self.account:
            self._note("statement without account", self.line, "Acct/Id", "an IBAN or another identification", "none")
        name = self.name or str(self.number)
        if self.opening and self.closing:
            booked = self.booked.get(self.closing.currency, Decimal(0))
            self.proof.check(name, self.opening.amount.exact, booked, self.closing.amount.exact, self.line)
        else:
            self.proof.without_balances()
        if self.page is not None:
            self.page.closing = self.closing
        account = "|".join((self.kind, self.account or "", self.currency or ""))
        names = (_text(self.said.get(name, "")) or "" for name in ("Id", "ElctrncSeqNb", "LglSeqNb"))
        pages.turn(account, names, self.page, self.opening, self.line, "PgNb")
        if self.account:
            self.tally.accounts.add(self.account)
        self.tally.seen(self.closing_date)
        if self.kind == "statement" and self.account and self.currency:
            row = BankStatement(
                statement_no=self.number,
                bank_account=self.account,
                currency=self.currency,
                statement_reference=self.name,
                sequence_number=self._sequence(),
                opening_date=self.opening.day if self.opening else None,
                opening_minor=self.opening.amount.minor if self.opening else None,
                closing_date=self.closing_date,
                closing_minor=self.closing.amount.minor if self.closing else None,
            )
            file_statement(self.tally, self.proof, row, self.line)

    def _sequence(self) -> int | None:
        text = _text(self.said.get("LglSeqNb", "")) or _text(self.said.get("ElctrncSeqNb", "")) or ""
        return int(text) if re.fullmatch(r"\d{1,18}", text, re.ASCII) else None

    def _summary(self) -> None:
        """The statement's own count and sums of its entries, where it gives them: of all its pages together."""
        if self.page and (self.page.number, self.page.last) != (1, True):
            return
        for name, side in self.sides.items():
            for total in _nodes(self.said.get("TxsSummry", ""), name):
                for column, found in (("NbOfNtries", Decimal(side.count)), ("Sum", side.total)):
                    said = _text(total, column)
                    if said is not None and not _says(said, found):
                        self._note("the statement's summary differs from its entries", self.line,
                                   f"TxsSummry/{name}/{column}", said, f"{found:f}")  # fmt: skip

    def _note(
        self, reason: str, line: int, column: str, expected: str | None = None, found: str | None = None
    ) -> None:
        self.proof.note(Rejected(reason, line=line, column=column, expected=expected, found=found))


def _nodes(value: Any, *names: str) -> Iterator[Json]:
    """All elements at the path of local names, in the file's order."""
    if not names:
        yield value
        return
    child = value.get(names[0]) if isinstance(value, dict) else None
    for each in child if isinstance(child, list) else () if child is None else (child,):
        yield from _nodes(each, *names[1:])


def _text(value: Any, *names: str) -> str | None:
    """The text of the first element at the path that has any."""
    for at, name in enumerate(names):
        if type(value) is list:
            return next(filter(None, (_text(each, *names[at:]) for each in value)), None)
        if type(value) is not dict:
            return None
        value = value.get(name)
    if type(value) is list:
        return next(filter(None, map(_text, value)), None)
    text = value.get("#text") if type(value) is dict else value
    return text or None


def _date(value: Json, name: str, line: int) -> date | None:
    text = _text(value, name, "Dt") or _text(value, name, "DtTm")
    return calendar_date(text[:10], line, name) if text else None


def _says(text: str, number: Decimal) -> bool:
    try:
        return exact(text) == number
    except AmountError:
        return False


def _transaction_code(entry: Json) -> str | None:
    parts = (
        _text(entry, "BkTxCd", "Domn", "Cd"),
        _text(entry, "BkTxCd", "Domn", "Fmly", "Cd"),
        _text(entry, "BkTxCd", "Domn", "Fmly", "SubFmlyCd"),
    )
    return "/".join(filter(None, parts)) or _text(entry, "BkTxCd", "Prtry", "Cd")


def _reference(details: Json) -> str | None:
    """The ordering party's reference of an entry's only transaction."""
    candidates = (_text(details, "Refs", name) for name in ("EndToEndId", "InstrId", "PmtInfId"))
    return next((text for text in candidates if text and text not in NO_REFERENCE), None)


def _counterparty(details: Json, credit: bool) -> str | None:
    parties = ("Dbtr", "UltmtDbtr") if credit else ("Cdtr", "UltmtCdtr")
    names = (_text(details, "RltdPties", party, *rest) for party in parties for rest in (("Nm",), ("Pty", "Nm")))
    return next(filter(None, names), None)


def _remittance(entry: Json, details: list[Json]) -> str | None:
    """What travelled with the payment: free text and structured references, else the bank's own words."""
    texts = [
        text
        for detail in details
        for path in (("Ustrd",), ("Strd", "CdtrRefInf", "Ref"), ("Strd", "AddtlRmtInf"))
        for found in _nodes(detail, "RmtInf", *path)
        if (text := _text(found))
    ]
    return " ".join(texts) or _text(entry, "AddtlNtryInf")
