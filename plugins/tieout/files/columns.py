"""Columns of a file: its rows by the block as Arrow arrays, and what readers work out of such columns.

A block goes on as one :class:`pyarrow.RecordBatch` in its table's schema: whole numbers as int64, moments in UTC with
microseconds, and exact decimals as text that keeps every digit, since no binary type does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any, get_args, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tieout.card_numbers import LONG_NUMBER, redact
from tieout.digests import md5_hex
from tieout.money import BIGINT_MAX, BIGINT_MIN, AmountError, exponent, to_minor

NUL = "\0"
EPOCH, MICROSECOND = datetime.fromtimestamp(0, UTC), timedelta(microseconds=1)
ARROW_TYPES: dict[type, pa.DataType] = {
    int: pa.int64(),
    str: pa.string(),
    bool: pa.bool_(),
    date: pa.date32(),
    datetime: pa.timestamp("us", "UTC"),
    Decimal: pa.string(),
}
# With all the decimals of its currency, an amount of no more digits than these is a bigint.
PLAIN_DIGITS, PLAIN_DECIMALS = 15, 3
_POINT, _MINUS, _ZERO = map(ord, ".-0")


class UnstorableText(ValueError):
    """A text that is no valid Unicode; ``row`` counts from 1 within the block."""

    def __init__(self, row: int) -> None:
        super().__init__(f"row {row}: text is no valid Unicode")
        self.row = row


def value_types(kind: type[Any]) -> dict[str, type]:
    """The type of each field of a row, None left out."""
    return {
        name: next(each for each in (get_args(hint) or (hint,)) if each is not NoneType)
        for name, hint in get_type_hints(kind).items()
    }


def array_of(values: Sequence[Any], kind: type) -> pa.Array:
    """Values of one type, or None, as an Arrow array.

    :raises TypeError: a value is of another type.
    :raises ValueError: a decimal is not finite, or a moment has no time zone.
    :raises UnicodeEncodeError: a text is no valid Unicode.
    :raises OverflowError: a number is beyond the range of a bigint.
    """
    kinds = set(map(type, values))
    if not kinds <= {kind, NoneType}:
        value = next(value for value in values if type(value) not in (kind, NoneType))
        raise TypeError(f"{value!r} ({type(value).__name__}) has no exact place in a column of {kind.__name__}")
    if kind is Decimal:
        values = [None if value is None else _decimal_text(value) for value in values]
    elif kind is datetime:
        for value in values:
            if value is not None and value.tzinfo is None:
                raise ValueError(f"{value} has no time zone")
        # Arrow asks each zone for its name, which takes forty times as long.
        values = [None if value is None else (value - EPOCH) // MICROSECOND for value in values]
    return pa.array(values, ARROW_TYPES[kind])


def _decimal_text(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError(f"{value} is no number that can be stored")
    return format(value, "f")


def arrays_of(rows: Sequence[tuple[Any, ...]], types: Sequence[type]) -> list[pa.Array]:
    """Rows with values of these types as one array a column.

    :raises UnstorableText: a text is no valid Unicode.
    :raises ValueError: a row has another number of values; or as :func:`array_of`, which raises the others, too.
    """
    if set(map(len, rows)) != {len(types)}:
        found = next(len(row) for row in rows if len(row) != len(types))
        raise ValueError(f"a row has {found} values, {len(types)} columns are declared")
    try:
        return list(map(array_of, zip(*rows, strict=True), types))
    except UnicodeEncodeError as error:
        raise UnstorableText(next(number for number, row in enumerate(rows, 1) if not _is_storable(row))) from error


def _is_storable(row: Iterable[Any]) -> bool:
    try:
        "".join(value for value in row if type(value) is str).encode()
    except UnicodeEncodeError:
        return False
    return True


def joined(separator: str, *columns: pa.Array | str) -> pa.StringArray:
    """The texts of each row with a separator between them; None counts as blank."""
    parts = [part if isinstance(part, str) or not part.null_count else part.fill_null("") for part in columns]
    return pc.binary_join_element_wise(*parts, separator)


def as_bytes(texts: pa.StringArray) -> list[bytes]:
    """The texts in UTF-8."""
    found: list[bytes] = texts.view(pa.binary()).to_pylist()
    return found


def or_none(texts: pa.StringArray) -> pa.StringArray:
    """Texts with None for a blank one."""
    blank = pc.equal(texts, "")
    return pc.if_else(blank, pa.scalar(None, pa.string()), texts) if blank.true_count else texts


def first_of(condition: pa.BooleanArray) -> int:
    """Where a condition first holds; -1 where it nowhere does."""
    return pc.index(condition, True).as_py() if condition.true_count else -1


def by_distinct(texts: pa.StringArray, made: Callable[[str], Any], kind: type) -> pa.Array:
    """What is made of each text, asked once for texts that are alike.

    :raises Exception: what ``made`` raises.
    """
    encoded = texts.dictionary_encode()
    return array_of(list(map(made, encoded.dictionary.to_pylist())), kind).take(encoded.indices)


def sums_by(groups: pa.StringArray, amounts: pa.Int64Array) -> list[tuple[str | None, int, int]]:
    """For each group, in the order first seen: how many rows carry the amount, and its exact sum; no row, no group."""
    bounds = pc.min_max(amounts).as_py()
    if bounds["min"] is None:
        return []
    if max(-bounds["min"], bounds["max"]) * len(amounts) > BIGINT_MAX:
        amounts = amounts.cast(pa.decimal128(38, 0))
    encoded = groups.dictionary_encode(null_encoding="encode")
    names = encoded.dictionary.to_pylist()
    if len(names) == 1:
        return [(names[0], len(amounts) - amounts.null_count, int(pc.sum(amounts).as_py()))]
    found = (
        pa.table({"group": encoded.indices, "amount": amounts})
        .group_by("group", use_threads=False)
        .aggregate([("amount", "count"), ("amount", "sum")])
        .to_pydict()
    )
    return [
        (names[group], carrying, int(total))
        for group, carrying, total in zip(found["group"], found["amount_count"], found["amount_sum"], strict=True)
        if carrying
    ]


def exact_sum(parts: Sequence[pa.Int64Array]) -> pa.Int64Array:
    """The sum of amounts row by row.

    :raises AmountError: one of the sums is beyond the range of a bigint.
    """
    total = parts[0]
    try:
        for part in parts[1:]:
            total = pc.add_checked(total, part)
    except pa.ArrowInvalid:
        sums = list(map(sum, zip(*(part.to_pylist() for part in parts), strict=True)))
        for each in sums:
            if not BIGINT_MIN <= each <= BIGINT_MAX:
                raise AmountError("an amount within the range of a bigint", str(each)) from None
        return pa.array(sums, pa.int64())
    return total


class MinorUnits:
    """Reads amounts in major units, each in the currency beside it.

    :param provider: reckons its decimals as :func:`tieout.money.exponent` says.
    """

    def __init__(self, currencies: pa.StringArray, provider: str) -> None:
        self._currencies = currencies
        self._provider = provider
        self._decimals: int | None = None
        try:
            decimals = {exponent(each, provider) for each in pc.unique(currencies).to_pylist()}
        except AmountError:
            return  # it matters only where the currency has an amount
        if len(decimals) == 1:
            self._decimals = decimals.pop()

    def of(self, texts: pa.StringArray) -> pa.Int64Array:
        """:func:`tieout.money.to_minor` of each text; a blank one is 0.

        :raises AmountError: one of them is no exact amount.
        """
        # Nearly all are digits with all the currency's decimals; to_minor is the rule for all others.
        if self._decimals is not None and (found := _plain_amounts(texts, self._decimals)) is not None:
            return found
        return pa.array(
            [
                to_minor(text, currency, provider=self._provider) if text else 0
                for text, currency in zip(texts.to_pylist(), self._currencies.to_pylist(), strict=True)
            ],
            pa.int64(),
        )


def _plain_amounts(texts: pa.StringArray, decimals: int) -> pa.Int64Array | None:
    """Digits with so many decimals as minor units, a blank as 0; None where one is written otherwise."""
    count = len(texts)
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + count + 1]
    lengths = np.diff(offsets)
    filled = lengths > 0
    if not filled.any():
        return pa.repeat(pa.scalar(0, pa.int64()), count)
    if texts.null_count or decimals > PLAIN_DECIMALS:
        return None
    data = np.frombuffer(texts.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    ends = (offsets[1:] - offsets[0])[filled]
    negative = data[ends - lengths[filled]] == _MINUS
    pointed = 1 if decimals else 0
    whole = lengths[filled] - negative - decimals - pointed
    if whole.min() < 1 or whole.max() > PLAIN_DIGITS:
        return None
    points = ends - decimals - 1
    if pointed and (data[points] != _POINT).any():
        return None
    # What is neither sign nor point, each in its place, must be a digit.
    if np.count_nonzero(data - _ZERO < 10) != len(data) - np.count_nonzero(negative) - pointed * len(ends):
        return None
    if pointed:
        kept = np.ones(len(data), np.bool_)
        kept[points] = False
        data = data[kept]
    begins = np.zeros(count + 1, np.int32)
    np.cumsum(lengths - pointed * filled, out=begins[1:])
    marks = pa.py_buffer(np.packbits(filled, bitorder="little"))
    digits = pa.Array.from_buffers(pa.string(), count, [marks, pa.py_buffer(begins), pa.py_buffer(data)])
    return digits.cast(pa.int64()).fill_null(0)


def redacted(texts: pa.StringArray) -> pa.StringArray:
    """:func:`tieout.card_numbers.redact` of each text, None as blank; cheap where none has a long number."""
    texts = texts.fill_null("") if texts.null_count else texts
    if not pc.match_substring_regex(texts, LONG_NUMBER).true_count:
        return texts
    return pa.array(list(map(redact, texts.to_pylist())), pa.string())


def line_keys(
    columns: pa.RecordBatch, documents: pa.StringArray, alone: pa.StringArray | None, known_by: pa.StringArray | None
) -> list[str]:
    """What :func:`tieout.files.proof.row_keys` says of settlement lines."""
    psp, original = columns["psp_reference"], columns["original_psp_reference"]
    merchant = redacted(columns["merchant_reference"])
    text = joined(
        NUL, columns["processor"], columns["processor_account"], documents, columns["gross_currency"],
        columns["net_currency"], columns["record_type"], psp, original, merchant,
    )  # fmt: skip
    nameless = pc.equal(joined("", psp, original, merchant), "")
    if nameless.true_count or alone is not None:
        gross, fee, net = (columns[name].cast(pa.string()) for name in ("gross_minor", "fee_minor", "net_minor"))
    if nameless.true_count:
        text = joined("", text, pc.if_else(nameless, joined(NUL, "", gross, net), ""))
    if alone is not None:
        # Nothing says that another file's line takes the place of this one: only the very same line is it.
        text = joined("", text, pc.if_else(alone.is_valid(), joined(NUL, "", alone, gross, fee, net), ""))
    if known_by is not None and known_by.null_count < len(known_by):
        known = joined(NUL, columns["processor"], columns["processor_account"], known_by)
        text = pc.if_else(known_by.is_valid(), known, text)
    return md5_hex(as_bytes(text))


def entry_keys(columns: pa.RecordBatch, documents: pa.StringArray) -> list[str]:
    """What :func:`tieout.files.proof.row_keys` says of bank entries."""
    texts = (
        columns["bank_account"], columns["currency"], documents, columns["amount_minor"].cast(pa.string()),
        columns["booking_date"].cast(pa.string()), columns["value_date"].cast(pa.string()),
        pc.if_else(columns["is_reversal"], "True", "False"), columns["bank_reference"],
        redacted(columns["customer_reference"]), redacted(columns["remittance"]),
    )  # fmt: skip
    # No text of a file may hold what joins them.
    return md5_hex(as_bytes(joined(NUL, *texts)))


def invoice_keys(columns: pa.RecordBatch, documents: pa.StringArray) -> list[str]:
    """What :func:`tieout.files.proof.row_keys` says of invoice lines."""
    texts = (
        columns["processor"], columns["processor_account"], documents, columns["service_month"].cast(pa.string()),
        columns["fee_type"], redacted(columns["description"]), columns["currency"],
    )  # fmt: skip
    return md5_hex(as_bytes(joined(NUL, *texts)))
