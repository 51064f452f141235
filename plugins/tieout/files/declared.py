"""The reader of declared report formats: one YAML file in ``declared/`` a format, no Python for a new processor's CSV.

What a declaration says is in :mod:`tieout.files.declaration`; this module holds a file to it. Every row belongs to a
section or the file is refused; every amount is exact or the file is refused; the lines of a batch that has a payout
come to zero with it, and every total and count that the report states is compared with the rows it is stated of.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from datetime import datetime, tzinfo
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import cache, lru_cache, partial
from pathlib import Path

from tieout import money
from tieout.files.batches import Batches
from tieout.files.declaration import (
    HUNDREDTHS,
    ISO,
    MINOR_UNITS,
    SETTLEMENT_BATCH,
    Declaration,
    Expectation,
    Section,
    load,
)
from tieout.files.declared_values import Amount, Text
from tieout.files.invoices import Invoices
from tieout.files.lines import CsvFile, Header
from tieout.files.proof import Document, Rejected, SettlementLine, Sink, Tally, bounded, refuse_amount
from tieout.files.timestamps import instant
from tieout.files.zones import OFFSETS, ZONE_REMEDY

FOLDER = Path(__file__).parent / "declared"
CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
# Sums of what the file writes, with the decimals it writes: never rounded.
_SUMS = Context(prec=200, traps=[Inexact, InvalidOperation])

Row = dict[str, str]


@cache
def declarations() -> tuple[Declaration, ...]:
    """Every format in ``declared/``; those that ask for more columns first.

    :raises DeclarationError: one of them is wrong.
    """
    found = [load(path) for path in sorted(FOLDER.glob("*.yml"))]
    return tuple(sorted(found, key=lambda each: -len(each.opens_with or each.first_header)))


def recognise(head: bytes) -> Callable[[Path, Sink], Tally] | None:
    """The reader of the declared format that a file with this beginning is of; None if there is none."""
    for declaration in declarations():
        if _opens(declaration, head):
            return partial(read, declaration)
    return None


def _opens(declaration: Declaration, head: bytes) -> bool:
    text = head.decode(declaration.encoding, errors="replace").lstrip("\ufeff")
    rows = (line for line in text.splitlines() if line.strip())
    for _, line in zip(range(declaration.preamble + 1), rows, strict=False):
        try:
            cells = next(csv.reader([line], delimiter=declaration.delimiter), [])
        except csv.Error:
            continue
        cells = [cell.strip() for cell in cells]
        if declaration.opens_with:
            if tuple(cells[: len(declaration.opens_with)]) == declaration.opens_with:
                return True
        elif set(declaration.first_header) <= set(cells):
            return True
    return False


def read(declaration: Declaration, path: Path, sink: Sink) -> Tally:
    """Read one report as it is declared; rows go to the sink as ``settlement_lines``, those of invoices as
    ``invoice_lines``.

    :raises Rejected: the format is one that is refused, a row belongs nowhere or cannot be read exactly, or the
        report does not prove itself.
    """
    with Tally(declaration.format, declaration.processor, sink) as tally:
        if declaration.refuse is not None:
            refuse = declaration.refuse
            raise Rejected(refuse.reason, expected=refuse.expected, found=declaration.format, remedy=refuse.remedy)
        Report(declaration, tally).read(path)
    return tally


class Report:
    """The state of one report while its rows go by."""

    def __init__(self, declaration: Declaration, tally: Tally) -> None:
        self.declared = declaration
        self.tally = tally
        self.batches = Batches(tally)
        self.invoices = Invoices(self, tally)
        self.record = ""
        self.lines: list[SettlementLine] = []
        self.payouts: set[int] = set()
        self.documents: list[Document | None] = []
        self.current: Section | None = None
        self.headers: dict[str, Header] = {}
        self.last_needed = 0
        self.facts: dict[str, str] = {}
        self.stated: list[tuple[Expectation, int, Row]] = []
        self.currencies: set[str] = set()
        self.read_minor = lru_cache(maxsize=1 << 16)(partial(_minor, declaration.exponents, declaration.decimal))
        self.seen: dict[str, int] = {}
        self.sums: dict[Expectation, dict[tuple[str, ...], Decimal]] = {}
        self.expected_of: dict[str, list[Expectation]] = {}
        for section in declaration.sections:
            for expected in section.expects:
                self.expected_of.setdefault(expected.of, []).append(expected)
                self.sums[expected] = {}
        self.by_tag = {tag: section for section in declaration.sections for tag in section.tags}
        self.headed = [section for section in declaration.sections if section.header]
        self.patterned = [section for section in declaration.sections if section.pattern]

    def read(self, path: Path) -> None:
        declared = self.declared
        source = CsvFile(path, encoding=declared.encoding, delimiter=declared.delimiter, quoted=declared.quoted)
        line = number = 0
        for block in source.blocks():
            last = number + len(block.records)
            try:
                for line, cells, self.record in zip(block.lines, block.records, block.texts, strict=True):
                    number += 1
                    values = [cell.strip() for cell in cells] if declared.trim else cells
                    if any(values):
                        self.row(line, values, block.cut and number == last, number)
            finally:
                self.send_on()
        self.finish(line)

    def send_on(self) -> None:
        """Send the lines that were read on, those of a block together."""
        own = self.declared.document != SETTLEMENT_BATCH
        self.batches.add_all(self.lines, self.payouts, self.documents if own else None)
        self.lines.clear()
        self.payouts.clear()
        self.documents.clear()

    def row(self, line: int, cells: list[str], cut: bool, number: int) -> None:
        for section in self.patterned:
            assert section.pattern is not None
            if match := section.pattern.fullmatch(self.declared.delimiter.join(cells)):
                self.values(section, match.groupdict(default=""), line)
                return
        for section in self.headed:
            if section.header[0] in cells and set(section.header) <= {cell.strip() for cell in cells}:
                if section.name in self.headers:
                    raise Rejected("a header comes twice", line=line, expected=f"one header of {section.name}")
                if cut and section.is_lines:
                    raise Rejected("the file ends within its header", line=line)
                self.headers[section.name] = Header(cells, line, section.header)
                if section.is_lines:
                    self.tally.headers[self.record] = None
                self.current = section
                return
        tagged = self.by_tag.get(cells[0])
        if tagged is not None:
            header = self.headers.setdefault(tagged.name, Header(tagged.columns, line, ()))
            self.values(tagged, self.mapped(tagged, header, cells, line, cut), line)
        elif self.current is not None:
            header = self.headers[self.current.name]
            cells = self.without_prefix(cells, line)
            self.values(self.current, self.mapped(self.current, header, cells, line, cut), line)
        elif self.seen or number > self.declared.preamble:
            known = [", ".join(section.header or sorted(section.tags)) for section in self.declared.sections]
            raise Rejected(
                "a row that belongs nowhere", line=line, expected=" or ".join(filter(None, known)),
                found=self.declared.delimiter.join(cells),
            )  # fmt: skip

    def without_prefix(self, cells: list[str], line: int) -> list[str]:
        """Values without the mark that stands before each; a cell without it is the rest of the value before it."""
        prefix = self.declared.value_prefix
        if not prefix:
            return cells
        values: list[str] = []
        for cell in cells:
            if cell.startswith(prefix):
                values.append(cell.removeprefix(prefix))
            elif values:
                values[-1] += self.declared.delimiter + cell
            else:
                raise Rejected("a value without its mark", line=line, expected=f"{prefix} before it", found=cell)
        return values

    def mapped(self, section: Section, header: Header, cells: list[str], line: int, cut: bool) -> Row:
        # A cell lost in the middle moves every later value into the column before its own.
        if len(cells) != len(header.names) and not (section.is_lines and self.declared.short_rows):
            raise Rejected(
                "the file ends within a line" if cut else f"{section.name} of another width",
                line=line,
                expected=f"{len(header.names)} cells",
                found=f"{len(cells)} cells",
            )
        if not section.is_lines:
            return dict(zip(header.names, cells, strict=True))
        if not self.last_needed:
            self.last_needed = max(header.positions[name] for name in section.known if name in header.positions)
        return dict(zip(header.names, header.fitted(cells, line, self.last_needed, cut), strict=True))

    def values(self, section: Section, row: Row, line: int) -> None:
        """Take one row: into the sums that are expected of it, the facts, or the lines."""
        self.seen[section.name] = self.seen.get(section.name, 0) + 1
        for expected in self.expected_of.get(section.name, ()):
            self.count(expected, row, line)
        if section.role == "facts":
            if self.seen[section.name] > 1 and not section.many:
                raise Rejected(f"{section.name} comes twice", line=line, expected="one row of it")
            if not section.many:
                self.facts.update(row)
            self.stated.extend((expected, line, row) for expected in section.expects)
        elif section.line is not None:
            self.send(section, row, line)
        elif section.invoice is not None:
            self.invoices.add(section.invoice, row, line)

    def count(self, expected: Expectation, row: Row, line: int) -> None:
        where = expected.where
        if where is not None and row.get(where.column, "") not in where.values:
            return
        key = tuple(row.get(theirs, "") for theirs, _ in expected.by)
        total = self.sums[expected].get(key, Decimal(0))
        if expected.measure == "count":
            self.sums[expected][key] = total + 1
            return
        for column in (*expected.plus, *expected.minus):
            if text := row.get(column, ""):
                value = self.number(text, line, column)
                total = _SUMS.add(total, -value if column in expected.minus else value)
        self.sums[expected][key] = total

    def number(self, text: str, line: int, column: str) -> Decimal:
        try:
            return money.exact(text, separator=self.declared.decimal)
        except money.AmountError as error:
            refuse_amount(error, line, column)

    def send(self, section: Section, row: Row, line: int) -> None:
        spec = section.line
        assert spec is not None
        record_type = self.needed(spec.texts["record_type"], row, line, "record_type")
        if record_type in spec.not_sent:
            self.tally.entries += 1
            return
        account = self.needed(spec.texts["account"], row, line, "account")
        zone = self.zone(row, line)
        occurred_at = self.instant(spec.occurred_at, row, line, zone)
        booked_at = self.instant(spec.booked_at, row, line, zone)
        for zero in spec.zero:
            self.comes_to_zero(zero, row, line)
        gross, fee, net, gross_currency, net_currency = self.money(section, row, line)
        batch = spec.texts.get("batch")
        day = booked_at.date().isoformat()
        settlement = SettlementLine(
            line_no=line,
            processor=self.declared.processor,
            processor_account=account,
            record_type=record_type,
            batch_reference=self.text(batch, row) or (day if batch.day else None) if batch else None,
            psp_reference=self.optional(spec.texts.get("psp_reference"), row),
            original_psp_reference=self.optional(spec.texts.get("original_psp_reference"), row),
            merchant_reference=self.optional(spec.texts.get("merchant_reference"), row),
            gross_minor=gross,
            gross_currency=gross_currency,
            fee_minor=fee,
            interchange_minor=None,
            scheme_fee_minor=None,
            net_minor=net,
            net_currency=net_currency,
            exchange_rate=self.rate(spec.exchange_rate, row, line),
            payment_method=self.optional(spec.texts.get("payment_method"), row),
            occurred_at=occurred_at,
            booked_at=booked_at,
            record=self.record,
        )
        self.tally.accounts.add(account)
        self.tally.seen(booked_at.date())
        self.lines.append(settlement)
        if record_type in spec.payouts:
            self.payouts.add(line)
        if self.declared.document != SETTLEMENT_BATCH:
            kind, parts = self.declared.document
            identity = {
                "account": account, "batch": settlement.batch_reference or "", "currency": net_currency,
                "record_type": record_type, "date": day,
            }  # fmt: skip
            self.documents.append(
                self.tally.document(kind, self.declared.processor, *(identity[part] for part in parts))
            )

    def money(self, section: Section, row: Row, line: int) -> tuple[int, int, int, str, str]:
        """Gross, fee and net of a row with both currencies; what the report leaves out follows from the others."""
        spec = section.line
        assert spec is not None
        gross, gross_currency = self.amount(spec.gross, row, line)
        net, net_currency = self.amount(spec.net, row, line)
        if gross is None and net is None:
            raise Rejected("neither gross nor net", line=line, expected="an amount", found="blank cells")
        net_currency = net_currency or gross_currency
        fee, fee_currency = self.amount(spec.fee, row, line, net_currency)
        if fee_currency and fee_currency != net_currency:
            raise Rejected("fee in another currency", line=line, expected=net_currency, found=fee_currency)
        if gross is None and net is not None:
            fee = fee or 0
            gross, gross_currency = bounded(net + fee, line, "gross"), net_currency
        if gross is None or (net is None and gross_currency != net_currency):
            raise Rejected("the net amount is missing", line=line, expected=f"an amount in {net_currency}")
        if fee is None and net is not None:
            if gross_currency != net_currency:
                raise Rejected("the fee is missing", line=line, expected=f"an amount in {net_currency}")
            fee = gross - net if spec.fee is None else 0
        fee = bounded(fee or 0, line, "fee")
        if net is None:
            net = bounded(gross - fee, line, "net")
        if gross_currency == net_currency and gross - fee != net:
            raise Rejected(
                "the line does not add up",
                line=line,
                expected=f"gross {gross} less fee {fee} in minor units: {gross - fee}",
                found=f"net {net}",
            )
        return gross, fee, net, gross_currency, net_currency

    def amount(self, amount: Amount | None, row: Row, line: int, currency: str = "") -> tuple[int | None, str]:
        """The amount in minor units and its currency; None where it is optional and blank."""
        if amount is None:
            return None, ""
        if amount.currency is not None:
            currency = self.text(amount.currency, row)
        if amount.optional and not currency:
            self.nothing(amount, row, line)
            return None, ""
        if currency not in self.currencies:
            if not CURRENCY.fullmatch(currency):
                raise Rejected("not a currency", line=line, expected="three capital letters", found=currency)
            self.currencies.add(currency)
        total = found = 0
        for columns, direction in ((amount.plus, 1), (amount.minus, -1)):
            for column in columns:
                text = row.get(column, "")
                if text:
                    value = self.minor(text, currency, line, column)
                    if amount.sign_column and value < 0:
                        raise Rejected("a sign where another column tells it", line=line, column=column,
                                       expected="an unsigned amount", found=text)  # fmt: skip
                    total += direction * value
                    found += 1
                elif not amount.optional and column in row:
                    raise Rejected("value missing", line=line, column=column, expected="an amount")
        if amount.optional and not found:
            return None, ""
        if amount.sign_column:
            side = amount.signs.get(row[amount.sign_column])
            if side is None:
                raise Rejected(
                    "neither debit nor credit", line=line, column=amount.sign_column,
                    expected=", ".join(amount.signs), found=row[amount.sign_column],
                )  # fmt: skip
            total *= side
        return bounded(total, line, (*amount.plus, *amount.minus)[0]), currency

    def nothing(self, amount: Amount, row: Row, line: int) -> None:
        """Refuse an amount that no currency is named for; nothing at all needs none."""
        for column in (*amount.plus, *amount.minus):
            if (text := row.get(column, "")) and self.number(text, line, column):
                raise Rejected("an amount without a currency", line=line, column=column, expected="a currency",
                               found=text)  # fmt: skip

    def minor(self, text: str, currency: str, line: int, column: str) -> int:
        try:
            return self.read_minor(text, currency)
        except money.AmountError as error:
            refuse_amount(error, line, column)

    def comes_to_zero(self, amount: Amount, row: Row, line: int) -> None:
        total, currency = self.amount(amount, row, line)
        if total:
            raise Rejected(
                "the line contradicts itself",
                line=line,
                column=(amount.plus or amount.minus)[0],
                expected=f"0 for {' + '.join(amount.plus)} less {' + '.join(amount.minus)}",
                found=money.to_text(total, currency),
            )

    def text(self, text: Text, row: Row) -> str:
        if text.constant is not None:
            return text.constant
        if text.fact is not None:
            return self.facts.get(text.fact, "")
        for column in text.columns:
            value = row.get(column, "")
            if value and value not in text.blank:
                return value
        return ""

    def optional(self, text: Text | None, row: Row) -> str | None:
        return (self.text(text, row) or None) if text else None

    def needed(self, text: Text, row: Row, line: int, name: str) -> str:
        value = self.text(text, row)
        if not value:
            raise Rejected("value missing", line=line, column=" / ".join(text.columns) or text.fact or name)
        return value

    def rate(self, text: Text | None, row: Row, line: int) -> Decimal | None:
        value = self.text(text, row) if text else ""
        return self.number(value, line, " / ".join(text.columns)) if text and value else None

    def zone(self, row: Row, line: int) -> tzinfo:
        if self.declared.zone is not None:
            return self.declared.zone
        column = self.declared.zone_column or ""
        if row[column] not in OFFSETS:
            raise Rejected(
                "unknown time zone",
                line=line,
                column=column,
                expected=f"one of {', '.join(sorted(OFFSETS))}",
                found=row[column],
                remedy=ZONE_REMEDY,
            )
        return OFFSETS[row[column]]

    def instant(self, text: Text, row: Row, line: int, zone: tzinfo) -> datetime:
        value = self.text(text, row)
        try:
            return instant(value, self.declared.timestamps, zone)
        except ValueError:
            raise Rejected(
                "not a date and time",
                line=line,
                column=" / ".join(text.columns) or text.fact,
                expected=" or ".join(self.declared.timestamps),
                found=value,
            ) from None

    def finish(self, line: int) -> None:
        for section in self.declared.sections:
            if section.role == "facts" and section.required and section.name not in self.seen:
                raise Rejected("the report is cut", line=line, expected=f"{section.name} in it", found="the end")
            if section.is_lines and section.header and section.name not in self.headers:
                raise Rejected("the report is cut", line=line, expected=f"the header of {section.name}")
        self.batches.close()
        covered: set[str] = set()
        for expected, at, row in self.stated:
            if text := row.get(expected.column, ""):
                covered.update(expected.plus, expected.minus)
                self.compare(expected, at, text, tuple(row[ours] for _, ours in expected.by))
        for expected, sums in self.sums.items():
            stated = {tuple(row[ours] for _, ours in expected.by) for each, _, row in self.stated if each is expected}
            missing = next((key for key in sums if expected.by and key not in stated), None)
            if missing:
                raise Rejected(
                    "lines that no total covers", line=line, column=expected.by[0][0],
                    expected=f"a total of {', '.join(missing)}", found="none",
                )  # fmt: skip
        (lines,) = (section for section in self.declared.sections if section.is_lines)
        # A column that this report does not have is no part of any amount in it.
        here = self.headers[lines.name].positions.keys() if lines.name in self.headers else frozenset[str]()
        if self.tally.entries and covered >= lines.amount_columns & here:
            self.tally.balance = "ok"

    def compare(self, expected: Expectation, line: int, text: str, key: tuple[str, ...]) -> None:
        stated = self.number(text, line, expected.column)
        found = self.sums[expected].get(key, Decimal(0))
        if stated != found:
            what = "count" if expected.measure == "count" else "total"
            raise Rejected(
                f"the stated {what} differs from the rows", line=line, column=expected.column,
                expected=f"{stated:f} as stated", found=f"{found:f}",
            )  # fmt: skip


def _minor(exponents: str, separator: str, text: str, currency: str) -> int:
    if exponents in (HUNDREDTHS, MINOR_UNITS):
        unsigned = money.whole_number(text.removeprefix("-"))
        whole = -unsigned if text.startswith("-") else unsigned
        return money.from_hundredths(whole, currency) if exponents == HUNDREDTHS else whole
    return money.to_minor(text, currency, provider=None if exponents == ISO else exponents, separator=separator)
