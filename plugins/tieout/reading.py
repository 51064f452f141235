"""``tieout read``: what the readers make of files, and which formats there are, without loading anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from tieout import files, money
from tieout.files.declaration import HUNDREDTHS, ISO, MINOR_UNITS, Declaration, Section
from tieout.files.declared import declarations
from tieout.files.proof import Reading, Rejected

READ, MISSING = 0, 2
COLUMNS = ("file", "format", "status", "statements", "entries", "signed_sum", "balance", "reason")


class Format(NamedTuple):
    """A format that is read: its times' zone, how many decimals an amount has, and what proves a file of it.

    ``name`` is a :class:`Reading`'s format, or how it begins where versions follow. A format that is known and
    refused says why in ``proof``.
    """

    name: str
    time_zone: str
    exponents: str
    proof: str


ISO_MAJOR = "major units, ISO 4217"
BATCHES = "each line adds up; the lines of a batch come to zero with its payout"
BALANCES = "opening + entries = closing; pages follow each other; the summary's counts and sums"
LEFT = "; left to the statement that books it"
CODED = (
    Format("adyen.settlement_details", "named on each line", "major units, Adyen's own (CLP 2, CVE 0, ISK 2)", BATCHES),
    Format("bai2", "none: the bank's calendar days", "minor units, ISO 4217",
           "control totals and record counts of account, group and file; opening + entries = closing"),
    Format("braintree.transactions", "UTC, as written", ISO_MAJOR, "the amount disbursed is the transaction's"),
    Format("camt.052", "none: the bank's calendar days", ISO_MAJOR, BALANCES + LEFT),
    Format("camt.053", "none: the bank's calendar days", ISO_MAJOR, BALANCES),
    Format("camt.054", "none: the bank's calendar days", ISO_MAJOR, "the summary's counts and sums" + LEFT),
    Format("ecb.eurofxref", "none: calendar days", "rates with the decimals written", "each date once, rates positive"),
    Format("mollie.balance_transactions", "UTC, as written", ISO_MAJOR,
           "each transaction adds up; the page's count; each transaction once"),
    Format("mt940", "none: the bank's calendar days", "decimal comma, ISO 4217",
           "opening + entries = closing; pages follow each other"),
    Format("mt942", "none: the bank's calendar days", "decimal comma, ISO 4217",
           "counts and sums of :90D: and :90C:" + LEFT),
    Format("paypal.settlement", "offset on each time", "hundredths of every currency",
           "section and report totals per currency, line counts"),
    Format("paypal.transaction_detail", "offset on each time", "hundredths of every currency",
           "line counts, section and report totals; left to the settlement report"),
    Format("stripe.balance_activity", "UTC columns, or UTC", ISO_MAJOR, "each line adds up"),
    Format("stripe.payout_reconciliation", "UTC columns, or UTC", ISO_MAJOR, BATCHES),
    Format("stripe.payouts", "UTC columns, or UTC", ISO_MAJOR, "each line adds up; the bank knows the payout"),
)  # fmt: skip


def formats() -> tuple[Format, ...]:
    """Every format the readers know, those of ``files/declared`` as declared, in order of their names."""
    return tuple(sorted((*CODED, *map(_declared_format, declarations()))))


def _declared_format(declaration: Declaration) -> Format:
    zone = str(declaration.zone) if declaration.zone else "named on each line" if declaration.zone_column else "-"
    units = {ISO: ISO_MAJOR, HUNDREDTHS: "hundredths of every currency", MINOR_UNITS: "minor units, ISO 4217"}
    exponents = units.get(declaration.exponents, f"major units, {declaration.exponents}'s own")
    if declaration.refuse is not None:
        return Format(declaration.format, "-", "-", f"refused: {declaration.refuse.reason}")
    (lines,) = (section for section in declaration.sections if section.is_lines)
    line = lines.line
    proofs = [
        "each line adds up" if line and (line.zero or (line.gross and line.fee and line.net)) else "",
        "the lines of a batch come to zero with its payout" if line and line.payouts else "",
        _totals_stated(declaration, lines),
    ]
    return Format(declaration.format, zone, exponents, "; ".join(filter(None, proofs)) or "-")


def _totals_stated(declaration: Declaration, lines: Section) -> str:
    """What the format's own totals prove, and which columns of the amount they leave out."""
    expects = [expected for section in declaration.sections for expected in section.expects]
    if not expects:
        return ""
    left_out = lines.amount_columns.difference(*((*expected.plus, *expected.minus) for expected in expects))
    return "its own counts and totals" + (f", none of {', '.join(sorted(left_out))}" if left_out else "")


def read_files(paths: Sequence[Path], json_output: bool, console: Console) -> int:
    """Read each file through the readers of the landing and print what it holds; load nothing.

    JSON goes out as one object a line with the keys of ``COLUMNS``; otherwise as one table.

    :returns: 0 when every file was read or quarantined in good order, 2 when a path cannot be opened.
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        names = ", ".join(map(str, missing))
        console.print(
            f"No such file: {names}. Nothing was read; check the path.", style="red", markup=False, soft_wrap=True
        )
        return MISSING
    outcomes = []
    for path in paths:
        outcome = read_file(path)
        if json_output:
            # Straight to the stream: the console would wrap a line and colour what looks like markup.
            console.file.write(json.dumps(outcome, ensure_ascii=False) + "\n")
        outcomes.append(outcome)
    if not json_output:
        console.print(_table(outcomes))
    return READ


def read_file(path: Path) -> dict[str, Any]:
    """One file's outcome, keyed by ``COLUMNS``; ``reason`` is None unless the file is quarantined."""
    reason = None
    try:
        reading = files.read(path, _discard)
    except Rejected as rejected:
        reading, reason = rejected.reading or Reading(), str(rejected)
    return {
        "file": str(path),
        "format": reading.format,
        "status": "quarantined" if reason else "ok",
        "statements": reading.statements,
        "entries": reading.entries,
        "signed_sum": _signed_sum(reading),
        "balance": reading.balance,
        "reason": reason,
    }


def _discard(table: str, rows: Any) -> None:
    """A sink for those who only count."""


def _signed_sum(reading: Reading) -> str | dict[str, str]:
    """The sum in major units: decimal text for one currency, an object by currency for several."""
    texts = {currency: f"{amount:f}" for currency, amount in reading.exact_sum.items()}
    for currency, minor in reading.signed_sum.items():
        if currency not in texts:
            texts[currency] = money.to_text(minor, currency, provider=reading.origin)
    if len(texts) > 1:
        return dict(sorted(texts.items()))
    return next(iter(texts.values()), f"{Decimal(0):f}")


def _table(outcomes: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="What the readers make of them", show_lines=True)
    for column in COLUMNS:
        table.add_column(column, overflow="fold", justify="right" if column in ("statements", "entries") else "left")
    for outcome in outcomes:
        cells = []
        for column in COLUMNS:
            value = outcome[column]
            if isinstance(value, dict):
                value = "\n".join(f"{currency} {amount}" for currency, amount in value.items())
            elif column == "file":
                value = Path(value).name
            cells.append("" if value is None else str(value).replace("[", r"\["))
        table.add_row(*cells)
    return table
