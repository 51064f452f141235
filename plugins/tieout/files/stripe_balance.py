"""Stripe's itemised balance reports, for accounts that pay out by hand: activity, and the payouts, a CSV each.

A manual payout takes a sum out of the balance and no transactions with it, so nobody can itemise it: the payout
reconciliation report does not have it. These two reports have every movement of the balance once, charges to fees in
the activity and payouts in the payouts; every line has gross - fee = net. There is no settlement batch: the day is the
batch, by when a movement was made, and the document too, so a report has to be of whole days. The bank's entry proves
a payout by its id; what the balance comes to only Stripe's balance summary says.

An account with automatic payouts is read from the payout reconciliation report: whoever takes that one does not take
these, as both carry the same lines. A report of activity that names an automatic payout is left to that reader.
Major units by ISO 4217, currencies in lower case. Times are in the zone the report was run for, by default UTC:
columns that end in ``_utc`` win, and others are taken as UTC. A line is known by its balance transaction, as in the
payout reconciliation: a report of nothing but lines that wait for their payout looks like an account that pays out by
hand, and its lines come again in the reconciliation that has the payout. (docs.stripe.com/reports/report-types/balance,
docs.stripe.com/reports/payout-reconciliation.)
"""

from __future__ import annotations

import contextlib
import csv
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from tieout.files.batches import Batches
from tieout.files.lines import CsvFile, Header
from tieout.files.proof import Rejected, SettlementLine, Sink, Tally, amount

PROCESSOR = "stripe"
ACCOUNTS = ("connected_account", "gateway_account")
ONLY_ACCOUNT = "default"
AUTOMATIC = "automatic_payout_id"
AVAILABLE = "available_on"
OPTIONAL = (*ACCOUNTS, AVAILABLE, f"{AVAILABLE}_utc", "charge_id", "payment_method_type", "card_brand")
METADATA = "payment_metadata["
PAYOUTS = frozenset({"payout", "payout_reversal"})
CURRENCY = re.compile(r"[A-Za-z]{3}", re.ASCII)
TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}(?: \d{2}:\d{2}(?::\d{2})?)?", re.ASCII)


@dataclass(frozen=True)
class Kind:
    """One of the two reports: its name, the columns it must have, what it names a movement by, and its document."""

    format: str
    reference: str
    moment: str
    document: str

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that must be there; the moment may be there in UTC only."""
        return (self.reference, "balance_transaction_id", "currency", "gross", "fee", "net", "reporting_category")


ACTIVITY = Kind("stripe.balance_activity", "source_id", "created", "balance_activity")
PAYOUT = Kind("stripe.payouts", "payout_id", "effective_at", "balance_payouts")


def _is(kind: Kind, header: list[str]) -> bool:
    names = {name.strip() for name in header}
    return {*kind.required} <= names and bool({kind.moment, f"{kind.moment}_utc"} & names)


def recognises_activity(head: str) -> bool:
    """Whether the beginning of a text is itemised activity of an account without automatic payouts: none is named."""
    *whole, _ = head.split("\n")
    rows = []
    with contextlib.suppress(csv.Error):  # the beginning may end within quotation marks
        for row in csv.reader([f"{line}\n" for line in whole if line.strip()], strict=True):
            rows.append(row)
    names = [name.strip() for name in rows.pop(0)] if rows else []
    if not _is(ACTIVITY, names):
        return False
    if AUTOMATIC not in names:
        return True
    at, category = names.index(AUTOMATIC), names.index("reporting_category")
    of_both = [row for row in rows if len(row) > max(at, category)]
    return bool(of_both) and not any(row[at] or row[category] in PAYOUTS for row in of_both)


def recognises_payouts(header: list[str]) -> bool:
    """Whether a CSV header is that of itemised payouts."""
    return _is(PAYOUT, header)


def _read_kind(kind: Kind, path: Path, sink: Sink) -> Tally:
    with Tally(kind.format, PROCESSOR, sink) as tally:
        _read(kind, path, tally)
    return tally


# Each: read one report; rows go to the sink as ``settlement_lines``. Raises Rejected: a line cannot be read exactly,
# does not add up, or belongs in the other report.
read_activity = partial(_read_kind, ACTIVITY)
read_payouts = partial(_read_kind, PAYOUT)


def _read(kind: Kind, path: Path, tally: Tally) -> None:
    source = CsvFile(path)
    records = iter(source)
    line, names = next(records)
    header = Header(names, line, kind.required)
    if source.cut:
        raise Rejected("the file ends within its header", line=line)
    tally.headers[source.text] = None
    used = {*kind.required, *OPTIONAL, kind.moment, f"{kind.moment}_utc"}
    used |= {name for name in header.names if name.startswith(METADATA)}
    last_needed = max(position for name, position in header.positions.items() if name in used)
    batches = Batches(tally)
    for line, cells in records:
        row = dict(zip(header.names, header.fitted(cells, line, last_needed, source.cut), strict=True))
        settlement = _line(kind, row, line, source.text)
        day = settlement.batch_reference or ""
        tally.accounts.add(settlement.processor_account)
        tally.seen(settlement.occurred_at.date())
        document = tally.document(
            kind.document, PROCESSOR, settlement.processor_account, day, settlement.net_currency
        )
        batches.add(settlement, is_payout=False, document=document, known_by=row["balance_transaction_id"])
    batches.close()


def _line(kind: Kind, row: dict[str, str], line: int, record: str) -> SettlementLine:
    category = row["reporting_category"]
    for column in ("reporting_category", kind.reference if kind is PAYOUT else "balance_transaction_id"):
        if not row[column]:
            raise Rejected("value missing", line=line, column=column)
    if (category in PAYOUTS) != (kind is PAYOUT):
        raise Rejected(
            "a movement of the other report", line=line, column="reporting_category",
            expected="payouts only" if kind is PAYOUT else "no payouts, which stand in the report of payouts",
            found=category,
        )  # fmt: skip
    if automatic := row.get(AUTOMATIC):
        raise Rejected(
            "an automatic payout in activity that begins without any", line=line, column=AUTOMATIC, expected="none",
            found=automatic,
            remedy="have the itemised payout reconciliation delivered for an account with automatic payouts",
        )  # fmt: skip
    if not CURRENCY.fullmatch(row["currency"]):
        raise Rejected("not a currency", line=line, column="currency", expected="three letters", found=row["currency"])
    currency = row["currency"].upper()
    gross, fee, net = (
        amount(row[column], currency, line, column, provider=PROCESSOR) for column in ("gross", "fee", "net")
    )
    if gross - fee != net:
        raise Rejected("the line does not add up", line=line, column="net",
                       expected=f"gross {row['gross']} less fee {row['fee']}", found=row["net"])  # fmt: skip
    occurred_at = _moment(row, kind.moment, line)
    has_available = row.get(f"{AVAILABLE}_utc") or row.get(AVAILABLE)
    method = "/".join(filter(None, (row.get("payment_method_type"), row.get("card_brand"))))
    return SettlementLine(
        line_no=line,
        processor=PROCESSOR,
        processor_account=next((row[name] for name in ACCOUNTS if row.get(name)), ONLY_ACCOUNT),
        record_type=category,
        batch_reference=occurred_at.date().isoformat(),
        psp_reference=row[kind.reference] or row["balance_transaction_id"],
        original_psp_reference=row.get("charge_id") or None,
        merchant_reference=next((row[name] for name in row if name.startswith(METADATA) and row[name]), None),
        gross_minor=gross,
        gross_currency=currency,
        fee_minor=fee,
        interchange_minor=None,
        scheme_fee_minor=None,
        net_minor=net,
        net_currency=currency,
        exchange_rate=None,
        payment_method=method or None,
        occurred_at=occurred_at,
        booked_at=_moment(row, AVAILABLE, line) if has_available else occurred_at,
        record=record,
    )


def _moment(row: dict[str, str], column: str, line: int) -> datetime:
    text = row.get(f"{column}_utc") or row.get(column) or ""
    try:
        if not TIMESTAMP.fullmatch(text):
            raise ValueError(text)
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise Rejected(
            "not a date and time", line=line, column=column, expected="YYYY-MM-DD HH:MM:SS", found=text
        ) from None
