"""What a reader hands back: rows while it reads, and at the end what proves that they are all there.

A reader sends rows through a :class:`Tally`, which counts and sums them on the way and gives each the key by which a
later delivery of the same document finds it again; the totals it took are the control totals that the load compares
with what arrived in ``raw``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple, NoReturn, Self

import pyarrow as pa

from tieout.digests import md5_hex
from tieout.files import columns as file_columns
from tieout.files.columns import ARROW_TYPES, UnstorableText, as_bytes, sums_by, value_types
from tieout.money import AmountError, in_range, to_minor, whole_number

Row = tuple[Any, ...]
# Takes rows of a raw table, in its schema of :data:`SCHEMAS`.
Sink = Callable[[str, pa.RecordBatch], None]

CALENDAR_DAY = re.compile(r"(\d{4})-(\d{2})-(\d{2})", re.ASCII)

IDENTITY_CHARS_MAX = 500

FIX_AT_SENDER = "ask the sender for the whole, correct file and drop it into the landing again"


class Document(NamedTuple):
    """A document of a file: what must not be loaded twice, and what a new version of it takes the place of.

    ``identity`` joins its parts with ``|``. ``number`` counts the documents of one file from 1 in the order first
    seen; its rows carry it: settlement and invoice lines as ``document_no``, bank statements and entries as
    ``statement_no``.
    """

    kind: str
    identity: str
    number: int


class SettlementLine(NamedTuple):
    """What a reader says of one row of ``settlement_lines``, amounts positive towards us.

    ``record`` is the line as it stood in the file: a CSV's raw text, or JSON text of what another format gave.
    Interchange and scheme fee are parts of the fee, None where the file does not break it down.
    """

    line_no: int
    processor: str
    processor_account: str
    record_type: str
    batch_reference: str | None
    psp_reference: str | None
    original_psp_reference: str | None
    merchant_reference: str | None
    gross_minor: int
    gross_currency: str
    fee_minor: int
    interchange_minor: int | None
    scheme_fee_minor: int | None
    net_minor: int
    net_currency: str
    exchange_rate: Decimal | None
    payment_method: str | None
    occurred_at: datetime
    booked_at: datetime
    record: str


# A line of values that are known to be all and in order, without asking again for each of millions.
as_line: Callable[[Row], SettlementLine] = partial(tuple.__new__, SettlementLine)


class BankStatement(NamedTuple):
    """What a reader says of one row of ``bank_statements``; None for a balance that the statement does not give."""

    statement_no: int
    bank_account: str
    currency: str
    statement_reference: str | None
    sequence_number: int | None
    opening_date: date | None
    opening_minor: int | None
    closing_date: date
    closing_minor: int | None


class BankEntry(NamedTuple):
    """What a reader says of one row of ``bank_entries``: an entry that the bank has booked; ``record`` as above."""

    line_no: int
    statement_no: int
    bank_account: str
    booking_date: date
    value_date: date
    amount_minor: int
    currency: str
    is_reversal: bool
    transaction_code: str | None
    bank_reference: str | None
    customer_reference: str | None
    counterparty: str | None
    remittance: str | None
    record: str


class InvoiceLine(NamedTuple):
    """What a reader says of one row of ``invoice_lines``: amounts net of tax, positive where they cost us.

    ``service_month`` is the first day of the month that the fee is for; ``record`` as above.
    """

    line_no: int
    processor: str
    processor_account: str
    invoice_number: str
    invoice_date: date
    service_month: date
    fee_type: str
    description: str | None
    quantity: Decimal | None
    amount_minor: int
    currency: str
    record: str


class FxRate(NamedTuple):
    """One row of ``fx_rates``: units of ``currency`` for one unit of ``base_currency``."""

    line_no: int
    rate_source: str
    base_currency: str
    currency: str
    rate_date: date
    rate: Decimal


ROW_TYPES: dict[str, type[Any]] = {
    "settlement_lines": SettlementLine,
    "bank_statements": BankStatement,
    "bank_entries": BankEntry,
    "invoice_lines": InvoiceLine,
    "fx_rates": FxRate,
}
# What :meth:`Tally.emit` adds at the end of a reader's row.
ADDED = {
    "settlement_lines": ("document_no", "row_key"),
    "bank_statements": ("row_key",),
    "bank_entries": ("row_key",),
    "invoice_lines": ("document_no", "row_key"),
    "fx_rates": (),
}
# The columns of each table as the sink gets them: those of the source YAML without ``file_id`` (a test compares).
COLUMNS: dict[str, tuple[str, ...]] = {table: (*kind._fields, *ADDED[table]) for table, kind in ROW_TYPES.items()}
# The amount columns of the source YAML, each with its currency column (a test compares).
AMOUNTS = {
    "settlement_lines": {
        "gross_minor": "gross_currency", "fee_minor": "net_currency", "interchange_minor": "net_currency",
        "scheme_fee_minor": "net_currency", "net_minor": "net_currency",
    },
    "bank_statements": {"opening_minor": "currency", "closing_minor": "currency"},
    "bank_entries": {"amount_minor": "currency"},
    "invoice_lines": {"amount_minor": "currency"},
    "fx_rates": {},
}
_ADDED_TYPES = {"document_no": int, "row_key": str}
# A block of each table as the sink gets it; decimals are exact text.
SCHEMAS: dict[str, pa.Schema] = {
    table: pa.schema(
        [
            *((name, ARROW_TYPES[value]) for name, value in value_types(kind).items()),
            *((name, ARROW_TYPES[_ADDED_TYPES[name]]) for name in ADDED[table]),
        ]
    )
    for table, kind in ROW_TYPES.items()
}
# Rows that a reader gives one by one go on so many at once, or fewer where their records are long.
PASSED_ON_ROWS, PASSED_ON_CHARS = 512, 1 << 18


@dataclass(frozen=True)
class Reading:
    """What a file holds, counted and summed while it was read.

    ``signed_sum`` is in minor units per currency: bank entries with their sign, the net of settlement lines, or what
    invoices ask for.
    ``exact_sum`` is the same in major units, with the decimals the file writes. ``balance`` is ``ok`` where the
    file proves its own sum, ``off BY`` (closing - opening - entries) where it disproves it, ``-`` where it does
    not say. ``totals`` maps (raw table, amount column, currency) to (rows that carry the amount, sum of minor units).
    ``accounts`` are all that the file names, ``origin_account`` is the only one of them.
    ``documents`` are in the order first seen, each once. ``record_header`` is the header line of a CSV as it stood,
    which names the fields of its records (several headers: one a line); None for other formats.
    """

    format: str | None = None
    origin: str | None = None
    origin_account: str | None = None
    accounts: tuple[str, ...] = ()
    content_date: date | None = None
    documents: tuple[Document, ...] = ()
    record_header: str | None = None
    statements: int = 0
    entries: int = 0
    signed_sum: Mapping[str, int] = field(default_factory=dict)
    exact_sum: Mapping[str, Decimal] = field(default_factory=dict)
    balance: str = "-"
    totals: Mapping[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)


class Rejected(Exception):
    """The file is wrong and nothing of it may be loaded; rows already sent to the sink must be dropped.

    ``reading`` holds what could be counted all the same.
    """

    def __init__(
        self,
        reason: str,
        *,
        line: int | None = None,
        column: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        remedy: str = FIX_AT_SENDER,
        file: str | None = None,
        reading: Reading | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line
        self.column = column
        self.expected = expected
        self.found = found
        self.remedy = remedy
        self.file = file
        self.reading = reading

    def __str__(self) -> str:
        place = [
            *([self.file] if self.file else []),
            *([f"line {self.line}"] if self.line is not None else []),
            *([self.column] if self.column else []),
        ]
        detail = [
            *([f"expected {_cut(self.expected)}"] if self.expected is not None else []),
            *([f"found '{_cut(self.found)}'"] if self.found is not None else []),
        ]
        message = ": ".join(filter(None, (", ".join(place), self.reason)))
        text = f"{'; '.join(filter(None, (message, ', '.join(detail))))}. Remedy: {self.remedy}."
        # Much of it comes from the file: it stays one readable line whatever stands there.
        return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _cut(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else text[:limit] + "..."


class Tally:
    """Passes rows on and keeps count: totals per amount column, sums, documents, newest content.

    The attributes ``statements``, ``entries``, ``balance``, ``accounts``, ``headers`` and ``content_date`` are the
    reader's to set; :meth:`reading` freezes them. A refusal that leaves its ``with`` carries what was counted so far.
    """

    def __init__(self, format_name: str, origin: str, sink: Sink) -> None:
        self.format = format_name
        self.origin = origin
        self.statements = 0
        self.entries = 0
        self.balance = "-"
        self.accounts: set[str] = set()
        self.headers: dict[str, None] = {}
        self.content_date: date | None = None
        self.signed_sum: dict[str, int] = {}
        self.exact_sum: dict[str, Decimal] = {}
        self._sink = sink
        self._waiting: dict[str, tuple[list[Row], list[Document | None], list[str | None]]] = {}
        self._waiting_chars = 0
        self._given: dict[str, int] = {}
        self._totals: dict[tuple[str, str, str], list[int]] = {}
        self._documents: dict[tuple[str, str], Document] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, refused: BaseException | None, place: object) -> None:
        if isinstance(refused, Rejected):
            refused.reading = refused.reading or self.reading()

    def emit(self, table: str, row: Row, document: Document | None = None, known_by: str | None = None) -> None:
        """Count a row and send it to the sink with what ``ADDED`` says, soon, together with others.

        ``document`` is the one the row is part of; a bank's rows always are, a settlement line may be in none.
        ``known_by`` is told at :func:`row_keys`.
        """
        rows, documents, known = self._waiting.setdefault(table, ([], [], []))
        rows.append(row)
        documents.append(document)
        known.append(known_by)
        self._waiting_chars += len(row[-1]) if type(row[-1]) is str else 0
        if len(rows) >= PASSED_ON_ROWS or self._waiting_chars >= PASSED_ON_CHARS:
            self.pass_on()

    def pass_on(self) -> None:
        """Send on what waits to be sent together."""
        waiting, self._waiting, self._waiting_chars = self._waiting, {}, 0
        for table, (rows, documents, known_by) in waiting.items():
            self.emit_all(table, rows, documents, known_by)

    def emit_all(
        self,
        table: str,
        rows: Sequence[Row],
        documents: Sequence[Document | None],
        known_by: Sequence[str | None] | None = None,
    ) -> None:
        """:meth:`emit` for rows that follow each other, each with its document.

        :raises Rejected: a text is no valid Unicode, or a number is beyond the range of a bigint.
        """
        self.pass_on()
        try:
            block = block_of(table, rows)
        except UnstorableText as error:
            row = self._given.get(table, 0) + error.row
            raise Rejected(f"{table}, row {row}: text is no valid Unicode") from error
        except OverflowError as error:
            raise Rejected(f"a number of {table} is beyond the range of a bigint") from error
        alone = None
        if table == "settlement_lines" and None in documents:
            moments = [SettlementLine._fields.index(name) for name in ("occurred_at", "booked_at")]
            alone = pa.array(
                [
                    "\0".join(str(row[at]) for at in moments) if document is None else None
                    for row, document in zip(rows, documents, strict=True)
                ],
                pa.string(),
            )
        self.emit_block(
            table, block,
            pa.array([document[1] if document else "" for document in documents], pa.string()),
            pa.array([document[2] if document else None for document in documents], pa.int64()),
            alone, None if known_by is None else pa.array(known_by, pa.string()),
        )  # fmt: skip

    def emit_block(
        self,
        table: str,
        block: pa.RecordBatch,
        documents: pa.StringArray,
        numbers: pa.Int64Array,
        alone: pa.StringArray | None = None,
        known_by: pa.StringArray | None = None,
    ) -> None:
        """:meth:`emit` for a block of rows, which has not yet what ``ADDED`` says.

        :param documents: the identity of each row's document, blank for none.
        :param numbers: its number in the file, None for none.
        :param alone: see :func:`row_keys`, as ``known_by``.
        """
        for measure, currency_column in AMOUNTS[table].items():
            for currency, carrying, minor in sums_by(block[currency_column], block[measure]):
                total = self._totals.setdefault((table, measure, str(currency)), [0, 0])
                total[0] += carrying
                total[1] += minor
        added: dict[str, pa.Array] = {"document_no": numbers}
        if "row_key" in ADDED[table]:
            added["row_key"] = pa.array(row_keys(table, block, documents, alone, known_by), pa.string())
        arrays = [*block.columns, *(added[name] for name in ADDED[table])]
        self._given[table] = self._given.get(table, 0) + block.num_rows
        self._sink(table, pa.RecordBatch.from_arrays(arrays, schema=SCHEMAS[table]))

    def add(self, currency: str, minor: int, exact: Decimal | None = None) -> None:
        """Add one entry's amount to the sums that the file is known by."""
        self.signed_sum[currency] = self.signed_sum.get(currency, 0) + minor
        if exact is not None:
            self.exact_sum[currency] = self.exact_sum.get(currency, Decimal(0)) + exact

    def seen(self, day: date) -> None:
        """Note the date of some content; the newest becomes the file's content date."""
        if self.content_date is None or day > self.content_date:
            self.content_date = day

    def document(self, kind: str, *identity: str) -> Document:
        """The document of the file with these parts of an identity; the next number is its own at first sight."""
        key = (kind, joined_identity(identity))
        found = self._documents.get(key)
        if found is None:
            found = self._documents[key] = Document(*key, len(self._documents) + 1)
        return found

    def note(self, document: Document) -> bool:
        """Note a document that is numbered already; False if the file has it already."""
        known = self._documents.setdefault(document[:2], document)
        return known is document

    def reading(self) -> Reading:
        """The reading as it stands, once everything was sent on."""
        self.pass_on()
        return Reading(
            format=self.format,
            origin=self.origin,
            origin_account=next(iter(self.accounts)) if len(self.accounts) == 1 else None,
            accounts=tuple(sorted(self.accounts)),
            content_date=self.content_date,
            documents=tuple(self._documents.values()),
            record_header="\n".join(self.headers) or None,
            statements=self.statements,
            entries=self.entries,
            signed_sum=dict(self.signed_sum),
            exact_sum=dict(self.exact_sum),
            balance=self.balance,
            totals={key: (count, total) for key, (count, total) in self._totals.items()},
        )


def block_of(table: str, rows: Sequence[Row]) -> pa.RecordBatch:
    """Rows of a table as a block: what a reader says of them, or all that the sink gets.

    :raises Exception: as :func:`tieout.files.columns.arrays_of`.
    """
    kind, schema = ROW_TYPES[table], SCHEMAS[table]
    types = list(value_types(kind).values())
    types += [_ADDED_TYPES[name] for name in ADDED[table] if rows and len(rows[0]) > len(types)]
    return pa.RecordBatch.from_arrays(file_columns.arrays_of(rows, types), schema=pa.schema(list(schema)[: len(types)]))


def row_keys(
    table: str,
    block: pa.RecordBatch,
    documents: pa.StringArray,
    alone: pa.StringArray | None = None,
    known_by: pa.StringArray | None = None,
) -> list[str]:
    """For each row MD5 in hex of what it is within its document: what a later version of that has in common with it.

    Two rows that are alike have the same key, and their order in the file tells them apart. Card numbers that people
    typed are masked first: a digest of parts that are known otherwise would give them away. ``known_by`` are ids that
    the processor gives no other settlement line of the account, None for a line without: with one a line is itself in
    whatever document.
    ``alone`` are, of lines in no document, the moments as the file gives them, None for the others.
    """
    if table == "settlement_lines":
        return file_columns.line_keys(block, documents, alone, known_by)
    if table == "bank_entries":
        return file_columns.entry_keys(block, documents)
    if table == "invoice_lines":
        return file_columns.invoice_keys(block, documents)
    return md5_hex(as_bytes(documents))


def joined_identity(parts: Sequence[str]) -> str:
    """The parts of a document's identity as one text, which every row of the document stands under.

    :raises Rejected: an account or a number is of a length that none has: on a million rows it would fill the disk.
    """
    identity = "|".join(parts)
    if len(identity) > IDENTITY_CHARS_MAX:
        raise Rejected(
            "an account or the number of a document is too long",
            expected=f"at most {IDENTITY_CHARS_MAX} characters, all parts together",
            found=identity,
        )
    return identity


def or_none(texts: Sequence[str | None]) -> Sequence[str | None]:
    """Texts with None for a blank one."""
    return [text or None for text in texts] if "" in texts else texts


_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def json_text(value: Any) -> str:
    """Compact JSON text of what a format that is no CSV gave: what ``record`` keeps of it."""
    return _JSON.encode(value)


def refuse_amount(error: AmountError, line: int, column: str) -> NoReturn:
    """Say where an amount stood that could not be read.

    :raises Rejected: always.
    """
    raise Rejected("not an exact amount", line=line, column=column, expected=error.expected, found=error.found)


def amount(
    text: str, currency: str, line: int, column: str, *, provider: str | None = None, separator: str = "."
) -> int:
    """:func:`tieout.money.to_minor` for a field of a file.

    :raises Rejected: naming line and column.
    """
    try:
        return to_minor(text, currency, provider=provider, separator=separator)
    except AmountError as error:
        refuse_amount(error, line, column)


def count(text: str, line: int, column: str) -> int:
    """An unsigned whole number of a file: a count, or an amount in minor units.

    :raises Rejected: naming line and column.
    """
    try:
        return whole_number(text)
    except AmountError as error:
        refuse_amount(error, line, column)


def bounded(minor: int, line: int, column: str) -> int:
    """An amount that was computed, if a bigint holds it.

    :raises Rejected: naming line and column.
    """
    try:
        return in_range(minor)
    except AmountError as error:
        refuse_amount(error, line, column)


def calendar_date(text: str, line: int, column: str) -> date:
    """A date written YYYY-MM-DD.

    :raises Rejected: it is written otherwise, or no such day exists.
    """
    match = CALENDAR_DAY.fullmatch(text)
    try:
        return date(int(match[1]), int(match[2]), int(match[3])) if match else _no_date()
    except ValueError:
        raise Rejected("not a date", line=line, column=column, expected="YYYY-MM-DD", found=text) from None


def _no_date() -> NoReturn:
    raise ValueError
