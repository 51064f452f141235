"""Lines of a processor's invoice: what it asks for outside its settlement, declared like its reports.

Under a section of lines, ``invoice`` says which columns are what. An invoice is a document of its processor and number:
delivered again it is a version of itself. It tells nothing of how far the daily reports reach, so a file of invoices
has no content date; whether an invoice is missing is for the contracts to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from tieout.files.declared_values import Amount, Rows, Text, amount_of, text_of
from tieout.files.proof import InvoiceLine, Rejected, Tally
from tieout.files.yaml_node import Node

if TYPE_CHECKING:
    from tieout.files.declared import Report, Row

LINES = "invoice_lines"
NEEDED = ("account", "number", "date", "month", "fee_type", "amount")
OPTIONAL = ("processor", "description", "quantity", "months")


@dataclass(frozen=True)
class Invoice:
    """How a row becomes a line of an invoice; texts by the name of its column.

    ``months`` are the ways a month of service is written; of a day in it the month counts. ``amount`` is net of tax,
    positive where it costs us. ``processor`` names the one a file is of, where the declaration does not.
    """

    texts: Mapping[str, Text]
    months: tuple[str, ...]
    amount: Amount

    @property
    def columns(self) -> frozenset[str]:
        """The columns that the amount is made of."""
        return frozenset((*self.amount.plus, *self.amount.minus))


def invoice_of(node: Node, rows: Rows) -> Invoice:
    """What a node says of invoice lines.

    :raises DeclarationError: it does not say all, or names a column that these rows do not have.
    """
    keys = node.mapping(NEEDED, OPTIONAL)
    amount = amount_of(keys["amount"], rows)
    if amount.currency is None or amount.optional:
        raise keys["amount"].wrong("an amount that may lack a currency", "add currency, leave out optional")
    months = keys["months"].texts() if "months" in keys else ("%Y-%m",)
    for pattern in months:
        if not _is_read_by(pattern):
            raise keys["months"].wrong(f"no month can be read by {pattern!r}", "write it as %Y-%m or %d.%m.%Y")
    texts = {name: text_of(part, rows) for name, part in keys.items() if name not in ("amount", "months")}
    return Invoice(texts, months, amount)


def _is_read_by(pattern: str) -> bool:
    month = date(2003, 2, 1)
    try:
        return month_of(month.strftime(pattern), (pattern,)) == month
    except ValueError:
        return False


def month_of(text: str, patterns: tuple[str, ...]) -> date:
    """The first day of a written month.

    :raises ValueError: it is written in none of these ways.
    """
    for pattern in patterns:
        try:
            return datetime.strptime(text, pattern).date().replace(day=1)
        except ValueError:
            continue
    raise ValueError(text)


class Invoices:
    """The invoices of one file, all of one processor."""

    def __init__(self, report: Report, tally: Tally) -> None:
        self._report = report
        self._tally = tally
        self._numbers: set[str] = set()

    def add(self, spec: Invoice, row: Row, line: int) -> None:
        """Send on the line that a row is.

        :raises Rejected: a value is missing or cannot be read exactly, or the file is of two processors.
        """
        report, tally = self._report, self._tally
        needed = {
            name: report.needed(text, row, line, name)
            for name, text in spec.texts.items() if name not in ("date", "description", "quantity")
        }  # fmt: skip
        processor = needed.get("processor", tally.origin)
        if processor != tally.origin:
            if self._numbers:
                raise Rejected("invoices of two processors", line=line, expected=tally.origin, found=processor,
                               remedy="put the invoices of each processor into a file of its own")  # fmt: skip
            tally.origin = processor
        day = report.instant(spec.texts["date"], row, line, report.zone(row, line)).date()
        amount, currency = report.amount(spec.amount, row, line)
        assert amount is not None
        number = needed["number"]
        self._numbers.add(number)
        tally.statements = len(self._numbers)
        tally.entries += 1
        tally.accounts.add(needed["account"])
        tally.add(currency, amount)
        tally.emit(
            LINES,
            InvoiceLine(
                line_no=line,
                processor=processor,
                processor_account=needed["account"],
                invoice_number=number,
                invoice_date=day,
                service_month=self._month(spec, needed["month"], line),
                fee_type=needed["fee_type"],
                description=report.optional(spec.texts.get("description"), row),
                quantity=report.rate(spec.texts.get("quantity"), row, line),
                amount_minor=amount,
                currency=currency,
                record=report.record,
            ),
            tally.document("processor_invoice", processor, number),
        )

    def _month(self, spec: Invoice, text: str, line: int) -> date:
        try:
            return month_of(text, spec.months)
        except ValueError:
            raise Rejected(
                "not a month", line=line, column=" / ".join(spec.texts["month"].columns),
                expected=" or ".join(spec.months), found=text,
            ) from None  # fmt: skip
