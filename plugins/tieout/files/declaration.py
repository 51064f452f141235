"""A report format that is declared, not programmed: one YAML file says what the rows are and what proves them.

A declaration is read once and checked completely: a key that nobody knows, a column that no section has, a time zone
or currency that does not exist is a :class:`DeclarationError` that names the file and the place in it. The keys:

``format``, ``processor``, ``about``
    Name of the format, of the processor as the vocabulary knows it, and who sends it.
``opens_with``
    First cells of the file's first row, by which it is recognised; without it, the first section's header row.
``encoding`` (utf-8), ``delimiter`` (,), ``quoted`` (true), ``value_prefix``, ``trim`` (false), ``short_rows`` (false),
``preamble`` (0)
    How the text is written: what stands before every value of a headed section, whether blanks around values are
    padding, whether lines may leave out blank cells at their end, how many rows may stand before the first section.
``exponents`` (iso4217), ``decimal`` (.)
    Major units by ISO 4217 or by a provider's own reckoning (adyen), ``hundredths``, or ``minor_units``.
``time_zone``, ``timestamps``
    An IANA zone, or ``{column: X}`` with an abbreviation on each line; and the ways a time is written (strptime; an
    offset in the text wins). Of an hour that the clocks repeat, the first is meant.
``refuse``
    ``{reason, expected, remedy}``: the report is known, and is not one that can be settled from.
``document``
    ``{kind, identity}``: what two files may not both hold. By default a settlement batch.
``sections``
    The kinds of rows, each with a name and a ``role``: ``lines`` (of a settlement as ``line`` says, or of invoices as
    ``invoice`` does), ``facts`` (values that a line can use, totals and counts that must agree) or ``ignored``. Rows
    are known by the ``header`` row above them (with ``optional`` columns), by their first value (``tags``, with fixed
    ``columns``), or by a ``pattern`` whose named groups are the columns. Facts stand exactly once unless
    ``many: true`` or ``required: false`` says otherwise, and ``expect`` compares their columns with a count or sum of
    another section's rows. The file is proven where sums that it states cover every column that a line's net, or an
    invoice line's amount, is made of.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from tieout import money
from tieout.files.declared_values import Amount, Text, amount_of, column_of, text_of
from tieout.files.invoices import Invoice, invoice_of
from tieout.files.yaml_node import DeclarationError, Node

__all__ = ["Declaration", "DeclarationError", "load"]

ROLES = ("lines", "facts", "ignored")
MEASURES = ("count", "sum")
IDENTITY_PARTS = ("account", "batch", "currency", "record_type", "date")
SETTLEMENT_BATCH = ("settlement_batch", ("account", "batch", "currency"))
ISO, HUNDREDTHS, MINOR_UNITS = "iso4217", "hundredths", "minor_units"


@dataclass(frozen=True)
class Where:
    """Rows whose column holds one of the values."""

    column: str
    values: frozenset[str]


@dataclass(frozen=True)
class Expectation:
    """What a column of a fact must equal: the rows, or the sum of columns, of another section."""

    column: str
    measure: str
    of: str
    plus: tuple[str, ...]
    minus: tuple[str, ...]
    where: Where | None
    by: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Line:
    """How a row becomes a settlement line; texts by the name of its column."""

    texts: Mapping[str, Text]
    occurred_at: Text
    booked_at: Text
    gross: Amount | None
    fee: Amount | None
    net: Amount | None
    exchange_rate: Text | None
    zero: tuple[Amount, ...]
    payouts: frozenset[str]
    not_sent: frozenset[str]

    @property
    def net_columns(self) -> frozenset[str]:
        """The columns that a line's net is made of: totals prove the lines where they cover all of these."""
        amounts = (self.net,) if self.net else (self.gross, self.fee)
        return frozenset(column for each in amounts if each for column in (*each.plus, *each.minus))


@dataclass(frozen=True)
class Section:
    """One kind of rows."""

    name: str
    role: str
    header: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    tags: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None
    many: bool = False
    required: bool = True
    line: Line | None = None
    invoice: Invoice | None = None
    expects: tuple[Expectation, ...] = ()

    @cached_property
    def known(self) -> frozenset[str]:
        """The columns that may be named."""
        groups = self.pattern.groupindex if self.pattern else ()
        return frozenset((*self.header, *self.optional, *self.columns, *groups))

    @property
    def is_lines(self) -> bool:
        """Whether its rows are what the file is sent for."""
        return self.role == "lines"

    @property
    def amount_columns(self) -> frozenset[str]:
        """The columns that totals have to cover to prove its lines."""
        if self.invoice:
            return self.invoice.columns
        return self.line.net_columns if self.line else frozenset()


@dataclass(frozen=True)
class Refusal:
    """Why a known report is not loaded."""

    reason: str
    expected: str
    remedy: str


@dataclass(frozen=True)
class Declaration:
    """One report format."""

    format: str
    processor: str
    opens_with: tuple[str, ...]
    encoding: str = "utf-8"
    delimiter: str = ","
    quoted: bool = True
    value_prefix: str = ""
    trim: bool = False
    short_rows: bool = False
    preamble: int = 0
    exponents: str = ISO
    decimal: str = "."
    zone: ZoneInfo | None = None
    zone_column: str | None = None
    timestamps: tuple[str, ...] = ()
    refuse: Refusal | None = None
    document: tuple[str, tuple[str, ...]] = SETTLEMENT_BATCH
    sections: tuple[Section, ...] = field(default_factory=tuple)

    @property
    def first_header(self) -> tuple[str, ...]:
        """The header by which the file is recognised, where ``opens_with`` does not say."""
        return next((section.header for section in self.sections if section.header), ())


class _Once(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error: the second would win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping.

        :raises yaml.constructor.ConstructorError: a key of it stands twice.
        """
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load(path: Path) -> Declaration:
    """The declaration in a YAML file.

    :raises DeclarationError: it is not a complete and consistent one.
    """
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), _Once)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DeclarationError(f"{path.name}: not YAML: {error}. Remedy: mend the file.") from None
    return _declaration(Node(path.name, "", loaded))


_TOP = (
    "opens_with", "encoding", "delimiter", "quoted", "value_prefix", "trim", "short_rows", "preamble", "exponents",
    "decimal", "time_zone", "timestamps", "refuse", "document", "sections",
)  # fmt: skip

_REFUSAL = ("reason", "expected", "remedy")


def _declaration(top: Node) -> Declaration:
    keys = top.mapping(("format", "processor", "about"), _TOP)
    keys["about"].text()
    refuse = None
    if "refuse" in keys:
        refuse = Refusal(**{name: part.text() for name, part in keys["refuse"].mapping(_REFUSAL).items()})
    else:
        top.mapping(("format", "processor", "about", "time_zone", "timestamps", "sections"), _TOP)
    zone, zone_column = _zone(keys["time_zone"]) if "time_zone" in keys else (None, None)
    sections = tuple(_section(node) for node in keys["sections"].items()) if "sections" in keys else ()
    declaration = Declaration(
        format=keys["format"].text(),
        processor=keys["processor"].text(),
        opens_with=keys["opens_with"].texts() if "opens_with" in keys else (),
        encoding=_encoding(keys["encoding"]) if "encoding" in keys else "utf-8",
        delimiter=_character(keys["delimiter"]) if "delimiter" in keys else ",",
        quoted=keys["quoted"].flag() if "quoted" in keys else True,
        value_prefix=keys["value_prefix"].text() if "value_prefix" in keys else "",
        trim=keys["trim"].flag() if "trim" in keys else False,
        short_rows=keys["short_rows"].flag() if "short_rows" in keys else False,
        preamble=_small_number(keys["preamble"]) if "preamble" in keys else 0,
        exponents=keys["exponents"].choice(ISO, HUNDREDTHS, MINOR_UNITS, *money.PROVIDER_EXPONENTS)
        if "exponents" in keys else ISO,
        decimal=keys["decimal"].choice(".", ",") if "decimal" in keys else ".",
        zone=zone,
        zone_column=zone_column,
        timestamps=_timestamps(keys["timestamps"]) if "timestamps" in keys else (),
        refuse=refuse,
        document=_document(keys["document"]) if "document" in keys else SETTLEMENT_BATCH,
        sections=sections,
    )  # fmt: skip
    if not declaration.opens_with and not declaration.first_header:
        raise top.wrong("nothing to recognise the file by", "add opens_with, or a section with a header")
    if refuse is None:
        _consistent(declaration, keys["sections"])
    return declaration


def _consistent(declaration: Declaration, node: Node) -> None:
    """Refuse sections that do not fit together: names unknown, two of lines, totals of rows that are nowhere."""
    sections = {section.name: section for section in declaration.sections}
    if len(sections) < len(declaration.sections):
        raise node.wrong("two sections of one name", "name each differently")
    lines = [section for section in declaration.sections if section.is_lines]
    if len(lines) != 1:
        raise node.wrong(f"{len(lines)} sections of lines", "declare exactly one with role: lines")
    single = [section for section in declaration.sections if section.role == "facts" and not section.many]
    facts = [name for section in single for name in section.known]
    for section in declaration.sections:
        for used in _facts_used(section):
            if facts.count(used) != 1:
                raise node.wrong(f"{used} is a column of {facts.count(used)} facts", "name a column of exactly one")
        if declaration.zone_column and section.is_lines and declaration.zone_column not in section.known:
            raise node.wrong(f"no column {declaration.zone_column}", "add it to the header of the lines")
        for expected in section.expects:
            if expected.of not in sections:
                raise node.wrong(f"no section {expected.of}", f"use one of {', '.join(sections)}")
            named = [*expected.plus, *expected.minus, *(column for column, _ in expected.by)]
            for column in [*named, *([expected.where.column] if expected.where else [])]:
                if column not in sections[expected.of].known:
                    raise node.wrong(f"no column {column} in {expected.of}", "add it to the section's columns")


def _facts_used(section: Section) -> list[str]:
    texts: list[Text] = []
    amounts: list[Amount | None] = []
    if line := section.line:
        texts += [*line.texts.values(), line.occurred_at, line.booked_at]
        amounts += [line.gross, line.fee, line.net, *line.zero]
    if section.invoice:
        texts += section.invoice.texts.values()
        amounts.append(section.invoice.amount)
    texts += [amount.currency for amount in amounts if amount and amount.currency]
    return [text.fact for text in texts if text.fact]


_LINE_TEXTS = (
    "account", "record_type", "batch", "psp_reference", "original_psp_reference", "merchant_reference",
    "payment_method",
)  # fmt: skip


def _section(node: Node) -> Section:
    keys = node.mapping(
        ("name", "role"),
        ("header", "optional", "columns", "tags", "pattern", "many", "required", "line", "invoice", "expect"),
    )
    role = keys["role"].choice(*ROLES)
    ways = [way for way in ("header", "columns", "pattern") if way in keys]
    if len(ways) != 1:
        raise node.wrong(f"{len(ways)} ways to know its rows", "give one of header, columns (with tags) and pattern")
    if ("columns" in keys) != ("tags" in keys):
        raise node.wrong("columns without tags, or tags without columns", "give both: the first value tells the rows")
    plain = Section(
        name=keys["name"].text(),
        role=role,
        header=keys["header"].texts() if "header" in keys else (),
        optional=keys["optional"].texts() if "optional" in keys else (),
        columns=keys["columns"].texts() if "columns" in keys else (),
        tags=frozenset(keys["tags"].texts()) if "tags" in keys else frozenset(),
        pattern=_pattern(keys["pattern"]) if "pattern" in keys else None,
        many=keys["many"].flag() if "many" in keys else False,
        required=keys["required"].flag() if "required" in keys else True,
    )
    if (("line" in keys) + ("invoice" in keys) != plain.is_lines) or ("expect" in keys and role != "facts"):
        raise node.wrong(
            "role and content differ", "give line or invoice to role: lines only, expect to role: facts only"
        )
    line = _line(keys["line"], plain) if "line" in keys else None
    invoice = invoice_of(keys["invoice"], plain) if "invoice" in keys else None
    expects = tuple(_expectation(part, plain) for part in keys["expect"].items()) if "expect" in keys else ()
    return replace(plain, line=line, invoice=invoice, expects=expects)


def _line(node: Node, section: Section) -> Line:
    keys = node.mapping(
        ("account", "record_type", "occurred_at"),
        (*_LINE_TEXTS[2:], "booked_at", "gross", "fee", "net", "exchange_rate", "zero", "payouts", "not_sent"),
    )
    if "gross" not in keys and "net" not in keys:
        raise node.wrong("neither gross nor net", "declare one of them, or both")
    texts = {name: text_of(keys[name], section) for name in _LINE_TEXTS if name in keys}
    amounts = {name: amount_of(keys[name], section) for name in ("gross", "fee", "net") if name in keys}
    for name in ("gross", "net"):
        if name in amounts and amounts[name].currency is None:
            raise keys[name].wrong("no currency", "add currency: a column, or {constant: EUR}")
    zero = tuple(amount_of(part, section) for part in keys["zero"].items()) if "zero" in keys else ()
    if any(part.currency is None for part in zero):
        raise keys["zero"].wrong("no currency", "add currency to each")
    occurred = text_of(keys["occurred_at"], section)
    return Line(
        texts=texts,
        occurred_at=occurred,
        booked_at=text_of(keys["booked_at"], section) if "booked_at" in keys else occurred,
        gross=amounts.get("gross"),
        fee=amounts.get("fee"),
        net=amounts.get("net"),
        exchange_rate=text_of(keys["exchange_rate"], section) if "exchange_rate" in keys else None,
        zero=zero,
        payouts=frozenset(keys["payouts"].texts()) if "payouts" in keys else frozenset(),
        not_sent=frozenset(keys["not_sent"].texts()) if "not_sent" in keys else frozenset(),
    )


def _expectation(node: Node, section: Section) -> Expectation:
    keys = node.mapping(("column", "is", "of"), ("plus", "minus", "where", "by"))
    measure = keys["is"].choice(*MEASURES)
    plus = keys["plus"].texts() if "plus" in keys else ()
    minus = keys["minus"].texts() if "minus" in keys else ()
    if (measure == "sum") != bool(plus or minus):
        raise node.wrong("a sum needs columns, a count takes none", "give plus or minus with is: sum only")
    where = None
    if "where" in keys:
        parts = keys["where"].mapping(("column", "values"))
        where = Where(parts["column"].text(), frozenset(parts["values"].texts()))
    column = column_of(keys["column"], section)
    by: tuple[tuple[str, str], ...] = ()
    if "by" in keys:
        pairs = [pair.mapping(("theirs", "ours")) for pair in keys["by"].items()]
        by = tuple((pair["theirs"].text(), column_of(pair["ours"], section)) for pair in pairs)
    if section.many != bool(by):
        raise node.wrong("facts that stand many times are compared by columns", "give by: [{theirs, ours}], or no many")
    return Expectation(column, measure, keys["of"].text(), plus, minus, where, by)


def _document(node: Node) -> tuple[str, tuple[str, ...]]:
    keys = node.mapping(("kind", "identity"))
    return keys["kind"].text(), tuple(part.choice(*IDENTITY_PARTS) for part in keys["identity"].items())


def _zone(node: Node) -> tuple[ZoneInfo | None, str | None]:
    if isinstance(node.value, dict):
        return None, node.mapping(("column",))["column"].text()
    try:
        return ZoneInfo(node.text()), None
    except (KeyError, ValueError, OSError):
        raise node.wrong(f"no time zone {node.value!r}", "write an IANA name such as Europe/Amsterdam") from None


def _timestamps(node: Node) -> tuple[str, ...]:
    """Ways to write a time, each of which brings a day back as it was."""
    day = datetime(2003, 2, 1, 17, tzinfo=UTC)
    for pattern in node.texts():
        try:
            if datetime.strptime(day.strftime(pattern), pattern).date() != day.date():
                raise ValueError(pattern)
        except ValueError:
            raise node.wrong(
                f"no date can be read by {pattern!r}", "write it as strptime has it: %d.%m.%Y or %Y-%m-%d %H:%M:%S"
            ) from None
    return node.texts()


def _encoding(node: Node) -> str:
    try:
        return codecs.lookup(node.text()).name
    except LookupError:
        raise node.wrong(f"no encoding {node.value!r}", "write a name such as utf-8 or gb18030") from None


def _character(node: Node) -> str:
    if len(node.text()) == 1:
        return node.text()
    raise node.wrong(f"found {node.value!r}", "write one character")


def _small_number(node: Node) -> int:
    if type(node.value) is int and 0 <= node.value <= 100:
        return node.value
    raise node.wrong(f"found {node.value!r}", "write a whole number up to 100")


def _pattern(node: Node) -> re.Pattern[str]:
    try:
        return re.compile(node.text(), re.ASCII)
    except re.error as error:
        raise node.wrong(f"not a regular expression: {error}", "mend the pattern") from None
