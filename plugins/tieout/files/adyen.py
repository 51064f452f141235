"""Adyen's settlement details report: one CSV, one or more batches, amounts in major units.

Columns are found by name. Gross amounts are in the gross currency (GC), fees and net in the net currency (NC), each
with a debit and a credit column of which one is filled. Types are kept exactly as written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tieout.files.batches import Batches
from tieout.files.columns import MinorUnits, by_distinct, exact_sum, first_of, or_none
from tieout.files.lines import CsvFile, Header
from tieout.files.plain import Columns
from tieout.files.proof import SCHEMAS, Rejected, Sink, Tally, refuse_amount
from tieout.files.zones import OFFSETS, ZONE_REMEDY
from tieout.money import AmountError, exact

PROCESSOR = "adyen"
FEES = ("Commission (NC)", "Markup (NC)", "Scheme Fees (NC)", "Interchange (NC)")
REQUIRED = (
    "Merchant Account", "Psp Reference", "Merchant Reference", "Payment Method", "Creation Date", "TimeZone", "Type",
    "Modification Reference", "Gross Currency", "Gross Debit (GC)", "Gross Credit (GC)", "Exchange Rate",
    "Net Currency", "Net Debit (NC)", "Net Credit (NC)", *FEES, "Batch Number",
)  # fmt: skip
# Newer reports say when the line was booked; older ones only when it was created.
BOOKED = ("Booking Date", "Booking Date TimeZone")
CREATED = ("Creation Date", "TimeZone")
NET, GROSS = ("Net Debit (NC)", "Net Credit (NC)"), ("Gross Debit (GC)", "Gross Credit (GC)")
NEVER_BLANK = ("Merchant Account", "Type", "Net Currency", "Batch Number")
PAYOUT = "merchantpayout"
# A payout is announced as "TX2342222277XT batch 2, SomeAccount"; the bank statement echoes the first word.
PAYOUT_REFERENCE = re.compile(r"(TX[0-9A-Za-z]+)\b")

TIMESTAMP = r"^\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}$"
# A line's columns, without what is added to every line.
LINE = pa.schema(list(SCHEMAS["settlement_lines"])[:-2])

# A bigint in it has room to grow.
WIDE = pa.decimal128(19, 0)

known_rate = lru_cache(maxsize=1 << 10)(exact)


def recognises(header: list[str]) -> bool:
    """Whether a CSV header is that of a settlement details report."""
    return {"Merchant Account", "Type", "Net Debit (NC)", "Net Credit (NC)"} <= {name.strip() for name in header}


def read(path: Path, sink: Sink) -> Tally:
    """Read one report; rows go to the sink as ``settlement_lines``.

    :raises Rejected: a line cannot be read exactly or does not add up, or a batch differs from its payout.
    """
    with Tally("adyen.settlement_details", PROCESSOR, sink) as tally:
        _read(path, tally)
    return tally


def _read(path: Path, tally: Tally) -> None:
    source = CsvFile(path)
    line, names = source.header()
    header = Header(names, line, REQUIRED)
    if source.cut:
        raise Rejected("the file ends within its header", line=line)
    tally.headers[source.text] = None
    batches = Batches(tally)
    for lines, last_booked in header.made_by_column(source, REQUIRED, BOOKED, _lines):
        tally.accounts.update(pc.unique(lines["processor_account"]).to_pylist())
        tally.seen(last_booked.date())
        kinds = [kind for kind in pc.unique(lines["record_type"]).to_pylist() if kind.lower() == PAYOUT]
        payouts = pc.indices_nonzero(pc.is_in(lines["record_type"], pa.array(kinds, pa.string()))).to_pylist()
        batches.add_block(lines, payouts)
    batches.close()


def _lines(columns: Columns) -> tuple[pa.RecordBatch, datetime]:
    """Lines of the report, with the last moment that any was booked, in its own zone.

    :param columns: those of ``REQUIRED`` and ``BOOKED``.
    :raises Rejected: a line cannot be read exactly or does not add up; of a single line the reason is its own.
    """
    numbers, texts = columns.lines, columns.texts
    cells = dict(zip((*REQUIRED, *BOOKED), columns.cells, strict=True))
    for column in NEVER_BLANK:
        if (wrong := first_of(pc.equal(cells[column], ""))) >= 0:
            raise Rejected("value missing", line=numbers[wrong].as_py(), column=column)
    net_currencies = cells["Net Currency"]
    in_net = MinorUnits(net_currencies, PROCESSOR)
    net = _signed(cells, in_net, numbers, NET)
    parts = {column: _minor(cells, in_net, numbers, column) for column in FEES}
    fees = _added(list(parts.values()), numbers, FEES[0])
    scheme_fees, interchange = _broken_down(cells, parts)
    gross_names = cells["Gross Currency"]
    gross_currencies = pc.if_else(pc.equal(gross_names, ""), net_currencies, gross_names)
    gross = _signed(cells, MinorUnits(gross_currencies, PROCESSOR), numbers, GROSS)
    try:
        rates = by_distinct(cells["Exchange Rate"], lambda text: known_rate(text) if text else None, Decimal)
    except AmountError as error:
        refuse_amount(error, numbers[0].as_py(), "Exchange Rate")
    no_gross = pc.and_(*(pc.equal(cells[column], "") for column in GROSS))
    if no_gross.true_count:
        # Payouts and fees name a currency too, and have no gross; a line of a payment has one.
        others = pc.and_(pc.not_equal(cells["Psp Reference"], ""), pc.not_equal(gross_currencies, net_currencies))
        if (wrong := first_of(pc.and_(no_gross, others))) >= 0:
            raise Rejected(
                "the gross amount is missing, and the net is in another currency", line=numbers[wrong].as_py(),
                column=" / ".join(GROSS), expected=f"an amount in {gross_currencies[wrong]}", found="blank cells",
            )  # fmt: skip
        own_net, own_fees = (pc.if_else(no_gross, amounts, 0) for amounts in (net, fees))
        gross = pc.if_else(no_gross, _added([own_net, own_fees], numbers, NET[1]), gross)
        gross_currencies = pc.if_else(no_gross, net_currencies, gross_currencies)
    _refuse_sums(numbers, gross, fees, net, pc.equal(gross_currencies, net_currencies))
    originals, modifications = cells["Psp Reference"], cells["Modification Reference"]
    psp_references = or_none(pc.if_else(pc.equal(modifications, ""), originals, modifications))
    created, occurred_at = _moments(cells, numbers, CREATED)
    booked, booked_at = created, occurred_at
    if pc.not_equal(cells[BOOKED[0]], "").true_count:
        booked, booked_at = _moments(cells, numbers, BOOKED, (created, occurred_at))
    return pa.RecordBatch.from_arrays(
        [
            numbers, pa.repeat(PROCESSOR, len(numbers)), cells["Merchant Account"], cells["Type"],
            cells["Batch Number"], _of_payouts(cells["Type"], psp_references), or_none(originals),
            or_none(cells["Merchant Reference"]), gross, gross_currencies, fees, interchange, scheme_fees, net,
            net_currencies, rates, or_none(cells["Payment Method"]), occurred_at, booked_at, texts,
        ],
        schema=LINE,
    ), pc.max(booked).as_py()  # fmt: skip


def _broken_down(cells: dict[str, pa.StringArray], parts: dict[str, pa.Int64Array]) -> tuple[pa.Array, pa.Array]:
    """Scheme fees and interchange of lines that show any of mark-up, scheme fees and interchange; else None.

    A line with nothing but a commission says nothing of what was passed on.
    """
    shown = [pc.not_equal(cells[column], "") for column in FEES[1:]]
    is_shown = pc.or_(pc.or_(shown[0], shown[1]), shown[2])
    if not is_shown.true_count:
        nothing = pa.nulls(len(is_shown), pa.int64())
        return nothing, nothing
    return tuple(pc.if_else(is_shown, parts[column], None) for column in FEES[2:])


def _of_payouts(kinds: pa.StringArray, references: pa.StringArray) -> pa.StringArray:
    """References, of payouts only the part that the bank echoes."""
    payouts = [kind for kind in pc.unique(kinds).to_pylist() if kind.lower() == PAYOUT]
    if not payouts:
        return references
    found = [
        match[1] if kind in payouts and reference and (match := PAYOUT_REFERENCE.match(reference)) else reference
        for kind, reference in zip(kinds.to_pylist(), references.to_pylist(), strict=True)
    ]
    return pa.array(found, pa.string())


def _minor(cells: dict[str, pa.StringArray], read: MinorUnits, numbers: pa.Int64Array, column: str) -> pa.Int64Array:
    try:
        return read.of(cells[column])
    except AmountError as error:
        refuse_amount(error, numbers[0].as_py(), column)


def _added(parts: Sequence[pa.Int64Array], numbers: pa.Int64Array, column: str) -> pa.Int64Array:
    try:
        return exact_sum(parts)
    except AmountError as error:
        refuse_amount(error, numbers[0].as_py(), column)


def _signed(
    cells: dict[str, pa.StringArray], read: MinorUnits, numbers: pa.Int64Array, columns: tuple[str, str]
) -> pa.Int64Array:
    """The amounts of a debit and a credit column, negative for a debit; 0 where both are blank.

    :raises Rejected: one is no exact amount, has a sign, or both columns are filled.
    """
    debited, credited = (_minor(cells, read, numbers, column) for column in columns)
    for column, minor in zip(columns, (debited, credited), strict=True):
        if (wrong := first_of(pc.less(minor, 0))) >= 0:
            raise Rejected(
                "a sign in a debit or credit column",
                line=numbers[wrong].as_py(),
                column=column,
                expected="an unsigned amount",
                found=cells[column][wrong].as_py(),
            )
    if (wrong := first_of(pc.and_(pc.greater(debited, 0), pc.greater(credited, 0)))) >= 0:
        raise Rejected(
            "debit and credit on one line",
            line=numbers[wrong].as_py(),
            column=" / ".join(columns),
            expected="one of them",
            found=" and ".join(cells[column][wrong].as_py() for column in columns),
        )
    return pc.subtract(credited, debited)


def _refuse_sums(
    numbers: pa.Int64Array, gross: pa.Int64Array, fees: pa.Int64Array, net: pa.Int64Array, alike: pa.BooleanArray
) -> None:
    """Refuse the first line of one currency that does not add up; of two currencies none can.

    :param alike: whether gross and net are in one currency.
    """
    # Sums that wrap around would agree where the numbers do not.
    differs = pc.not_equal(pc.subtract(gross.cast(WIDE), fees.cast(WIDE)), net.cast(WIDE))
    if (wrong := first_of(pc.and_(alike, differs))) >= 0:
        g, fee, n = (amounts[wrong].as_py() for amounts in (gross, fees, net))
        raise Rejected(
            "the line does not add up",
            line=numbers[wrong].as_py(),
            column=" / ".join(NET),
            expected=f"gross {g} less fees {fee} in minor units: {g - fee}",
            found=str(n),
        )


def _moments(
    cells: dict[str, pa.StringArray], numbers: pa.Int64Array, columns: tuple[str, str],
    otherwise: tuple[pa.Array, pa.Array] | None = None,
) -> tuple[pa.Array, pa.Array]:  # fmt: skip
    """Local times, and the moments they are in the zones beside them; ``otherwise`` where the text is blank.

    :raises Rejected: one cannot be read.
    """
    texts, zones = (cells[column] for column in columns)
    if otherwise is not None and (blank := pc.equal(texts, "")).true_count:
        # What is not read is a time that can be.
        texts, zones = pc.if_else(blank, "1970-01-01 00:00:00", texts), pc.if_else(blank, "UTC", zones)
        read = _moments(dict(zip(columns, (texts, zones), strict=True)), numbers, columns)
        return tuple(pc.if_else(blank, given, found) for given, found in zip(otherwise, read, strict=True))
    encoded = zones.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    if not OFFSETS.keys() >= set(names):
        wrong = next(place for place, zone in enumerate(zones.to_pylist()) if zone not in OFFSETS)
        raise Rejected(
            "unknown time zone", line=numbers[wrong].as_py(), column=columns[1],
            expected=f"one of {', '.join(sorted(OFFSETS))}", found=zones[wrong].as_py(), remedy=ZONE_REMEDY,
        )  # fmt: skip
    try:
        if pc.match_substring_regex(texts, TIMESTAMP).false_count or pc.starts_with(texts, "0000").true_count:
            raise pa.ArrowInvalid("no such time")
        local = texts.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        raise Rejected(
            "not a date and time", line=numbers[0].as_py(), column=columns[0], expected="YYYY-MM-DD HH:MM:SS",
            found=texts[0].as_py(),
        ) from None  # fmt: skip
    offsets = pa.array([OFFSETS[name].utcoffset(None) for name in names], pa.duration("us")).take(encoded.indices)
    return local, pc.subtract(local, offsets).cast(pa.timestamp("us", "UTC"))
