"""What a reader hands back: rows while it reads, and at the end what proves that they are all there.

A reader sends rows through a :class:`Tally`, which counts and sums them on the way and gives each the key by which a
later delivery of the same document finds it again; the totals it took are the control totals that the load compares
with what arrived in ``raw``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from operator import add, itemgetter
from typing import Any, NamedTuple, NoReturn

from tieout.card_numbers import redact, redacted
from tieout.money import AmountError, in_range, to_minor, whole_number

Row = tuple[Any, ...]
Sink = Callable[[str, Sequence[Row]], None]

CALENDAR_DAY = re.compile(r"(\d{4})-(\d{2})-(\d{2})", re.ASCII)

IDENTITY_CHARS_MAX = 500

FIX_AT_SENDER = "ask the sender for the whole, correct file and drop it into the landing again"


class Document(NamedTuple):
    """A document of a file: what must not be loaded twice, and what a new version of it takes the place of.

    ``identity`` joins its parts with ``|``. ``number`` counts the documents of one file from 1 in the order first
    seen; its rows carry it: settlement lines as ``document_no``, bank statements and entries as ``statement_no``.
    """

    kind: str
    identity: str
    number: int


class SettlementLine(NamedTuple):
    """What a reader says of one row of ``settlement_lines``, amounts positive towards us.

    ``record`` is the line as it stood in the file: a CSV's raw text, or JSON text of what another format gave.
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
    "fx_rates": FxRate,
}
# What :meth:`Tally.emit` adds at the end of a reader's row.
ADDED = {
    "settlement_lines": ("document_no", "row_key"),
    "bank_statements": ("row_key",),
    "bank_entries": ("row_key",),
    "fx_rates": (),
}
# The columns of each table as the sink gets them: those of the source YAML without ``file_id`` (a test compares).
COLUMNS: dict[str, tuple[str, ...]] = {table: (*kind._fields, *ADDED[table]) for table, kind in ROW_TYPES.items()}
# The amount columns of the source YAML, each with its currency column (a test compares).
AMOUNTS = {
    "settlement_lines": {"gross_minor": "gross_currency", "fee_minor": "net_currency", "net_minor": "net_currency"},
    "bank_statements": {"opening_minor": "currency", "closing_minor": "currency"},
    "bank_entries": {"amount_minor": "currency"},
    "fx_rates": {},
}
_LINE_PARTS = itemgetter(
    *(
        SettlementLine._fields.index(name)
        for name in (
            "processor", "processor_account", "record_type", "psp_reference", "original_psp_reference",
            "merchant_reference", "gross_currency", "net_currency",
        )
    )
)  # fmt: skip
_ACCOUNT_OF = itemgetter(*map(SettlementLine._fields.index, ("processor", "processor_account")))
_MERCHANT_REFERENCE = SettlementLine._fields.index("merchant_reference")
_MD5 = partial(hashlib.md5, usedforsecurity=False)
_POSITIONS = {
    table: tuple(
        (measure, ROW_TYPES[table]._fields.index(measure), ROW_TYPES[table]._fields.index(currency))
        for measure, currency in amounts.items()
    )
    for table, amounts in AMOUNTS.items()
}


@dataclass(frozen=True)
class Reading:
    """What a file holds, counted and summed while it was read.

    ``signed_sum`` is in minor units per currency: bank entries with their sign, or the net of settlement lines.
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
    reader's to set; :meth:`reading` freezes them.
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
        self._totals: dict[tuple[str, str, str], list[int]] = {}
        self._documents: dict[tuple[str, str], Document] = {}

    def emit(self, table: str, row: Row, document: Document | None = None) -> None:
        """Send one row to the sink with what ``ADDED`` says, and add its amounts to the control totals.

        ``document`` is the one the row is part of; a bank's rows always are, a settlement line may be in none.
        """
        self.emit_all(table, [row], [document])

    def emit_all(
        self,
        table: str,
        rows: Sequence[Row],
        documents: Sequence[Document | None],
        known_by: Sequence[str] | None = None,
    ) -> None:
        """:meth:`emit` for rows that follow each other, each with its document; ``known_by`` as :func:`row_keys`."""
        for measure, position, currency_position in _POSITIONS[table]:
            for currency, (carrying, minor) in sums_by(itemgetter(currency_position), itemgetter(position), rows):
                total = self._totals.setdefault((table, measure, currency), [0, 0])
                total[0] += carrying
                total[1] += minor
        keys = row_keys(table, rows, documents, known_by)
        if table == "settlement_lines":
            numbers = [document and document[2] for document in documents]
            rows = list(map(add, rows, zip(numbers, keys, strict=True)))
        elif ADDED[table]:
            rows = list(map(add, rows, zip(keys, strict=True)))
        self._sink(table, rows)

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
        """The reading as it stands."""
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


def sums_by(
    group: Callable[[Row], Any], amount: Callable[[Row], int | None], rows: Sequence[Row]
) -> Iterable[tuple[Any, tuple[int, int]]]:
    """For each group of the rows: how many of them carry the amount, and its sum; nothing where none does."""
    groups, amounts = list(map(group, rows)), list(map(amount, rows))
    if None not in amounts and groups and groups.count(groups[0]) == len(groups):
        return [(groups[0], (len(amounts), sum(amounts)))]  # type: ignore[arg-type]
    found: dict[Any, tuple[int, int]] = {}
    for each, minor in zip(groups, amounts, strict=True):
        if minor is not None:
            carrying, total = found.get(each, (0, 0))
            found[each] = (carrying + 1, total + minor)
    return found.items()


def row_keys(
    table: str,
    rows: Sequence[Row],
    documents: Sequence[Document | None],
    known_by: Sequence[str] | None = None,
) -> list[str]:
    """For each row MD5 in hex of what it is within its document: what a later version of that has in common with it.

    Two rows that are alike have the same key, and their order in the file tells them apart. Card numbers that people
    typed are masked first: a digest of parts that are known otherwise would give them away. ``known_by`` are ids that
    the processor gives no other settlement line of the account: with them a line is itself in whatever document.
    """
    texts = []
    if known_by is not None:
        texts = ["\0".join((*_ACCOUNT_OF(row), each)) for row, each in zip(rows, known_by, strict=True)]
    elif table == "settlement_lines":
        merchants = redacted([row[_MERCHANT_REFERENCE] or "" for row in rows])
        for row, document, merchant in zip(rows, documents, merchants, strict=True):
            processor, account, record_type, psp, original, _, gross_currency, net_currency = _LINE_PARTS(row)
            text = (
                f"{processor}\0{account}\0{document[1] if document else ''}\0{gross_currency}\0{net_currency}\0"
                f"{record_type}\0{psp or ''}\0{original or ''}\0{merchant}"
            )
            if not (psp or original or merchant):
                line = SettlementLine(*row)
                text += f"\0{line.gross_minor}\0{line.net_minor}"
            if document is None:
                # Nothing says that another file's line takes the place of this one: only the very same line is it.
                line = SettlementLine(*row)
                amounts = f"{line.gross_minor}\0{line.fee_minor}\0{line.net_minor}"
                text += f"\0{line.occurred_at}\0{line.booked_at}\0{amounts}"
            texts.append(text)
    elif table == "bank_entries":
        for row, document in zip(rows, documents, strict=True):
            entry = BankEntry(*row)
            parts = (
                entry.bank_account, entry.currency, document[1] if document else "", entry.amount_minor,
                entry.booking_date, entry.value_date, entry.is_reversal, entry.bank_reference,
                redact(entry.customer_reference or ""), redact(entry.remittance or ""),
            )  # fmt: skip
            # No text of a file may hold what joins them.
            texts.append("\0".join(["" if part is None else str(part) for part in parts]))
    else:
        texts = [document[1] if document else "" for document in documents]
    return [_MD5(text.encode()).hexdigest() for text in texts]


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
