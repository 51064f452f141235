"""ISO 20022 cash management messages: camt.053 statements, camt.052 reports, camt.054 notifications, any version.

A small walker that knows elements by their local name, so that versions and prefixes do not matter. What moves money
is the entry (Ntry), so there is one row an entry, also where it is a batch of several transactions. Entries that a
later statement will book (of reports and notifications, and pending ones) are counted and not sent on.
A document type declaration is refused, as nothing else needs one and every XML attack does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

from lxml import etree

from tieout.files.lines import whole_bytes
from tieout.files.proof import BankEntry, BankStatement, Rejected, Sink, Tally, calendar_date, json_text
from tieout.files.statements import Amount, Balance, Proof, document_of, file_statement
from tieout.money import AmountError, exact

ORIGIN = "bank"
KINDS = {"Stmt": "statement", "Rpt": "report", "Ntfctn": "notification"}
OPENING, PREVIOUS_CLOSING, CLOSING = "OPBD", "PRCD", "CLBD"
DEPTH_LIMIT = 64  # the schemas nest about 15 deep
SIGNS = {"CRDT": False, "DBIT": True}
NO_REFERENCE = ("NOTPROVIDED", "NONREF", "")
MESSAGE = re.compile(r"camt\.05[234]\.\d{3}\.\d{2}", re.ASCII)
OPENS_XML = re.compile(r"\s*<")
NAMES_CAMT = re.compile(r"camt\.05[234]|BkToCstmr(?:Stmt|AcctRpt|DbtCdtNtfctn)")

Element = etree._Element


def recognises(head: str) -> bool:
    """Whether the beginning of a text is XML that names a camt message."""
    return OPENS_XML.match(head) is not None and NAMES_CAMT.search(head) is not None


def read(path: Path, sink: Sink) -> Tally:
    """Read one message; rows go to the sink as ``bank_statements`` and ``bank_entries``.

    :raises Rejected: it is no well-formed camt message, breaks the standard, or a statement does not prove itself.
    """
    tally = Tally("camt", ORIGIN, sink)
    proof = Proof(tally)
    try:
        for number, statement in enumerate(_statements(path, tally), start=1):
            _Statement(statement, number, tally, proof).read()
        if not tally.statements:
            raise Rejected("no statement in the file", expected="a Stmt, Rpt or Ntfctn element", found="none")
        proof.settle()
    except Rejected as rejected:
        rejected.reading = rejected.reading or tally.reading()
        raise
    return tally


def _statements(path: Path, tally: Tally) -> Iterator[Element]:
    """The statement elements of the file, each whole; memory is given back after each."""
    data = whole_bytes(path)
    if b"<!DOCTYPE" in data:
        raise Rejected("document type declaration", expected="XML without <!DOCTYPE", found="<!DOCTYPE")
    depth = 0
    try:
        events = etree.iterparse(
            BytesIO(data), events=("start", "end"), resolve_entities=False, no_network=True, huge_tree=False,
            load_dtd=False, remove_comments=True, remove_pis=True,
        )  # fmt: skip
        for event, element in events:
            if event == "start":
                depth += 1
                # In an encoding such as UTF-16 the bytes above do not show it.
                if depth == 1 and element.getroottree().docinfo.doctype:
                    raise Rejected("document type declaration", expected="XML without <!DOCTYPE")
                if depth > DEPTH_LIMIT:
                    raise Rejected("nested too deep", line=_line(element), expected=f"at most {DEPTH_LIMIT} levels")
                if _name(element) == "Document" and (message := MESSAGE.search(etree.QName(element).namespace or "")):
                    tally.format = message[0]
                continue
            depth -= 1
            if _name(element) in KINDS:
                yield element
                element.clear()
    except etree.XMLSyntaxError as error:
        line = error.position[0] if error.position else None
        raise Rejected("not well-formed XML", line=line, found=error.msg) from None
    except UnicodeDecodeError:
        raise Rejected("text in another encoding than the XML declares") from None


class _Statement:
    """One Stmt, Rpt or Ntfctn element."""

    def __init__(self, element: Element, number: int, tally: Tally, proof: Proof) -> None:
        self.element = element
        self.number = number
        self.tally = tally
        self.proof = proof
        self.kind = KINDS[_name(element)]
        self.account = _text(element, "Acct", "Id", "IBAN") or _text(element, "Acct", "Id", "Othr", "Id")
        self.currency = _text(element, "Acct", "Ccy")
        self.name = _text(element, "Id") or str(number)
        self.amounts: list[Decimal] = []

    def read(self) -> None:
        """Send the statement and its entries on and check them.

        :raises Rejected: something in it cannot even be counted.
        """
        self.tally.statements += 1
        balances = self._balances()
        opening = balances.get(OPENING) or balances.get(PREVIOUS_CLOSING)
        closing = balances.get(CLOSING)
        closing_date = closing.day if closing else self._day(balances)
        entries: dict[str, Decimal] = {}
        for entry in _children(self.element, "Ntry"):
            self._entry(entry, closing_date, entries)
        self._summary()
        if self.kind == "statement" and not balances:
            self.proof.note(
                Rejected(
                    "statement without balances",
                    line=_line(self.element),
                    column="Bal",
                    expected="at least one balance, as camt.053 demands",
                    found="none",
                )
            )
        if not self.account:
            self.proof.note(
                Rejected("statement without account", line=_line(self.element), column="Acct/Id", found="none")
            )
        if opening and closing:
            booked = entries.get(closing.currency, Decimal(0))
            self.proof.check(self.name, opening.amount.exact, booked, closing.amount.exact, _line(self.element))
        else:
            self.proof.without_balances()
        if self.account:
            self.tally.accounts.add(self.account)
        self.tally.seen(closing_date)
        if self.kind == "statement" and self.account and self.currency:
            row = BankStatement(
                statement_no=self.number,
                bank_account=self.account,
                currency=self.currency,
                statement_reference=_text(self.element, "Id"),
                sequence_number=_sequence(self.element),
                opening_date=opening.day if opening else None,
                opening_minor=opening.amount.minor if opening else None,
                closing_date=closing_date,
                closing_minor=closing.amount.minor if closing else None,
            )
            file_statement(self.tally, self.proof, row, _line(self.element))

    def _balances(self) -> dict[str, Balance]:
        found: dict[str, Balance] = {}
        for element in _children(self.element, "Bal"):
            code = _text(element, "Tp", "CdOrPrtry", "Cd") or _text(element, "Tp", "CdOrPrtry", "Prtry") or ""
            amount, currency = self._amount(element, "Bal")
            day = _date(element, "Dt")
            if day is None:
                raise Rejected("balance without date", line=_line(element), column="Bal/Dt")
            found.setdefault(code, Balance(day, currency, amount))
            self.currency = self.currency or currency
        if len({balance.currency for balance in found.values()}) > 1:
            self.proof.note(Rejected("balances in two currencies", line=_line(self.element), column="Bal/Amt"))
        return found

    def _amount(self, element: Element, column: str) -> tuple[Amount, str]:
        """The signed amount of a balance or entry and its currency: the amount is positive, the indicator signs it."""
        amount = _child(element, "Amt")
        if amount is None or not amount.text:
            raise Rejected("amount missing", line=_line(element), column=f"{column}/Amt")
        indicator = _text(element, "CdtDbtInd") or ""
        if indicator not in SIGNS:
            raise Rejected(
                "neither credit nor debit",
                line=_line(element),
                column=f"{column}/CdtDbtInd",
                expected="CRDT or DBIT",
                found=indicator,
            )
        text, currency = amount.text.strip(), amount.get("Ccy", "")
        if text.startswith("-"):
            self.proof.note(
                Rejected(
                    "negative amount",
                    line=_line(element),
                    column=f"{column}/Amt",
                    expected="an unsigned amount; CdtDbtInd says which way the money went",
                    found=text,
                )
            )
        return self.proof.amount(text, currency, SIGNS[indicator], _line(amount), f"{column}/Amt"), currency

    def _day(self, balances: dict[str, Balance]) -> date:
        """The date of a statement without a closing balance: its period's end, when it was made, its last balance."""
        for path in (("FrToDt", "ToDtTm"), ("FrToDt", "ToDt"), ("CreDtTm",)):
            if text := _text(self.element, *path):
                return calendar_date(text[:10], _line(self.element), "/".join(path))
        if balances:
            return max(balance.day for balance in balances.values())
        raise Rejected("statement without date", line=_line(self.element), expected="CLBD, FrToDt or CreDtTm")

    def _entry(self, element: Element, statement_date: date, sums: dict[str, Decimal]) -> None:
        line = _line(element)
        self.tally.entries += 1
        amount, currency = self._amount(element, "Ntry")
        self.currency = self.currency or currency
        if currency != self.currency:
            self.proof.note(
                Rejected("entry in another currency than its account", line=line, column="Ntry/Amt",
                         expected=self.currency, found=currency)
            )  # fmt: skip
        self.amounts.append(amount.exact)
        self.tally.add(currency, amount.minor or 0, amount.exact)
        status = _text(element, "Sts", "Cd") or _text(element, "Sts") or "BOOK"
        if status == "BOOK":
            sums[currency] = sums.get(currency, Decimal(0)) + amount.exact
        if self.kind != "statement" or status != "BOOK":
            return  # the statement that books it will have it
        if amount.minor is None or not self.account:
            return  # noted already: the file is refused
        value = _date(element, "ValDt")
        booking = _date(element, "BookgDt") or value or statement_date
        details = list(_paths(element, "NtryDtls", "TxDtls"))
        only = details[0] if len(details) == 1 else None
        self.tally.emit(
            "bank_entries",
            BankEntry(
                line_no=self.tally.entries,
                statement_no=self.number,
                bank_account=self.account,
                booking_date=booking,
                value_date=value or booking,
                amount_minor=amount.minor,
                currency=currency,
                is_reversal=(_text(element, "RvslInd") or "").lower() in ("true", "1"),
                transaction_code=_transaction_code(element),
                bank_reference=_text(element, "AcctSvcrRef")
                or (_text(only, "Refs", "AcctSvcrRef") if only is not None else None)
                or _text(element, "NtryRef"),
                customer_reference=_reference(only),
                counterparty=_counterparty(only, credit=amount.exact >= 0),
                remittance=_remittance(element, details),
                record=json_text({"message": self.tally.format, "entry": _as_record(element)}),
            ),
            document_of(self.number, self.account, currency, statement_date, _text(self.element, "Id")),
        )

    def _summary(self) -> None:
        """The statement's own count and sums of its entries, where it gives them."""
        summary = _child(self.element, "TxsSummry")
        if summary is None:
            return
        sides = {
            "TtlNtries": [abs(amount) for amount in self.amounts],
            "TtlCdtNtries": [amount for amount in self.amounts if amount >= 0],
            "TtlDbtNtries": [-amount for amount in self.amounts if amount < 0],
        }
        for name, amounts in sides.items():
            for total in _children(summary, name):
                for field, found in (("NbOfNtries", Decimal(len(amounts))), ("Sum", sum(amounts, Decimal(0)))):
                    said = _text(total, field)
                    if said is not None and not _says(said, found):
                        self.proof.note(
                            Rejected(
                                "the statement's summary differs from its entries",
                                line=_line(total),
                                column=f"TxsSummry/{name}/{field}",
                                expected=said,
                                found=f"{found:f}",
                            )
                        )


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _line(element: Element) -> int:
    line: Any = element.sourceline
    return int(line or 0)


def _children(element: Element, name: str) -> Iterator[Element]:
    return (child for child in element if _name(child) == name)


def _child(element: Element, name: str) -> Element | None:
    return next(_children(element, name), None)


def _paths(element: Element, *names: str) -> Iterator[Element]:
    """All elements below ``element`` at the path of local names, in document order."""
    if not names:
        yield element
        return
    for child in _children(element, names[0]):
        yield from _paths(child, *names[1:])


def _text(element: Element, *names: str) -> str | None:
    """The text of the first element at the path that has any, without the blanks around it."""
    return next((text for found in _paths(element, *names) if (text := (found.text or "").strip())), None)


def _date(element: Element, name: str) -> date | None:
    text = _text(element, name, "Dt") or _text(element, name, "DtTm")
    return calendar_date(text[:10], _line(element), name) if text else None


def _sequence(element: Element) -> int | None:
    text = _text(element, "LglSeqNb") or _text(element, "ElctrncSeqNb") or ""
    return int(text) if re.fullmatch(r"\d{1,18}", text, re.ASCII) else None


def _says(text: str, number: Decimal) -> bool:
    try:
        return exact(text) == number
    except AmountError:
        return False


def _transaction_code(element: Element) -> str | None:
    parts = (
        _text(element, "BkTxCd", "Domn", "Cd"),
        _text(element, "BkTxCd", "Domn", "Fmly", "Cd"),
        _text(element, "BkTxCd", "Domn", "Fmly", "SubFmlyCd"),
    )
    return "/".join(filter(None, parts)) or _text(element, "BkTxCd", "Prtry", "Cd")


def _reference(details: Element | None) -> str | None:
    """The ordering party's reference of an entry's only transaction."""
    if details is None:
        return None
    candidates = (_text(details, "Refs", name) for name in ("EndToEndId", "InstrId", "PmtInfId"))
    return next((text for text in candidates if text and text not in NO_REFERENCE), None)


def _counterparty(details: Element | None, credit: bool) -> str | None:
    if details is None:
        return None
    parties = ("UltmtDbtr", "Dbtr") if credit else ("UltmtCdtr", "Cdtr")
    names = (
        _text(details, "RltdPties", party, *rest) for party in reversed(parties) for rest in (("Nm",), ("Pty", "Nm"))
    )
    return next(filter(None, names), None)


def _remittance(element: Element, details: list[Element]) -> str | None:
    """What travelled with the payment: free text and structured references, else the bank's own words."""
    texts = [
        text
        for detail in details
        for path in (("Ustrd",), ("Strd", "CdtrRefInf", "Ref"), ("Strd", "AddtlRmtInf"))
        for found in _paths(detail, "RmtInf", *path)
        if (text := (found.text or "").strip())
    ]
    return " ".join(texts) or _text(element, "AddtlNtryInf")


def _as_record(element: Element) -> Any:
    """An element as JSON: text, or an object of its children by local name; repeated ones become a list."""
    record: dict[str, Any] = {f"@{name!s}": str(value) for name, value in element.attrib.items()}
    for child in element:
        name, value = _name(child), _as_record(child)
        if name in record:
            known = record[name]
            record[name] = [*(known if isinstance(known, list) else [known]), value]
        else:
            record[name] = value
    text = (element.text or "").strip()
    if not record:
        return text
    if text:
        record["#text"] = text
    return record
