"""Stripe's itemised payout reconciliation report: one CSV, one line a balance transaction, amounts in major units.

Every line has gross - fee = net, and the lines of an automatic payout come to zero with the payout's own line, whose
net is negative: money leaves the Stripe balance. (A positive payout line is Stripe pulling a debt from the bank; the
zero still holds.) Times are UTC unless the report has ``_utc`` columns beside them, which then win.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from tieout.files.batches import Batches
from tieout.files.lines import CsvFile, Header
from tieout.files.proof import Rejected, SettlementLine, Sink, Tally, amount

PROCESSOR = "stripe"
REQUIRED = (
    "balance_transaction_id", "created", "available_on", "currency", "gross", "fee", "net", "reporting_category",
    "source_id", "automatic_payout_id",
)  # fmt: skip
ACCOUNT = "gateway_account"
# Stripe's own download of a single account has no such column and does not name the account.
ONLY_ACCOUNT = "default"
# Lines Stripe leaves without an account (its own fees) can precede the first that has one: so many are kept waiting.
WAITING_LIMIT = 1000
# Categories of reporting_category that move money to or from the bank.
PAYOUTS = frozenset({"payout", "payout_reversal"})
METADATA = "payment_metadata["
CURRENCY = re.compile(r"[A-Za-z]{3}", re.ASCII)
TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}(?: \d{2}:\d{2}(?::\d{2})?)?", re.ASCII)


def recognises(header: list[str]) -> bool:
    """Whether a CSV header is that of an itemised payout reconciliation report."""
    return {"balance_transaction_id", "reporting_category", "gross", "fee", "net"} <= {name.strip() for name in header}


def read(path: Path, sink: Sink) -> Tally:
    """Read one report; rows go to the sink as ``settlement_lines``.

    :raises Rejected: a line cannot be read exactly or does not add up, or a batch differs from its payout.
    """
    tally = Tally("stripe.payout_reconciliation", PROCESSOR, sink)
    try:
        _read(path, tally)
    except Rejected as rejected:
        rejected.reading = rejected.reading or tally.reading()
        raise
    return tally


def _read(path: Path, tally: Tally) -> None:
    source = CsvFile(path)
    records = iter(source)
    line, names = next(records)
    header = Header(names, line, REQUIRED)
    if source.cut:
        raise Rejected("the file ends within its header", line=line)
    tally.headers[source.text] = None
    last_needed = max(header.positions[name] for name in REQUIRED)
    metadata = [name for name in header.names if name.startswith(METADATA)]
    account = None if ACCOUNT in header.positions else ONLY_ACCOUNT
    waiting: list[tuple[int, dict[str, str], str]] = []
    batches = Batches(tally)

    def send(line: int, row: dict[str, str], record: str, account: str) -> None:
        settlement = _line(row, line, record, account, metadata)
        tally.seen(settlement.booked_at.date())
        batches.add(settlement, settlement.record_type in PAYOUTS)

    for line, cells in records:
        row = dict(zip(header.names, header.fitted(cells, line, last_needed, source.cut), strict=True))
        named = row.get(ACCOUNT)
        if named and account is not None and named != account:
            raise Rejected("two accounts in one report", line=line, column=ACCOUNT, expected=account, found=named)
        account = account or named or None
        waiting.append((line, row, source.text))
        if account is None:
            if len(waiting) > WAITING_LIMIT:
                raise Rejected("no line names the account", line=line, column=ACCOUNT, expected="an account id")
            continue
        for waited in waiting:
            send(*waited, account)
        waiting.clear()
    if waiting:
        raise Rejected("no line names the account", line=waiting[0][0], column=ACCOUNT, expected="an account id")
    if account is not None and tally.entries:
        tally.accounts.add(account)
    batches.close()


def _line(row: dict[str, str], line: int, record: str, account: str, metadata: list[str]) -> SettlementLine:
    for column in ("balance_transaction_id", "reporting_category"):
        if not row[column]:
            raise Rejected("value missing", line=line, column=column)
    if not CURRENCY.fullmatch(row["currency"]):
        raise Rejected("not a currency", line=line, column="currency", expected="three letters", found=row["currency"])
    currency = row["currency"].upper()
    gross, fee, net = (
        amount(row[column], currency, line, column, provider=PROCESSOR) for column in ("gross", "fee", "net")
    )
    if gross - fee != net:
        raise Rejected(
            "the line does not add up",
            line=line,
            column="net",
            expected=f"gross {row['gross']} less fee {row['fee']}",
            found=row["net"],
        )
    record_type = row["reporting_category"]
    source_id = row["source_id"] or None
    method = "/".join(filter(None, (row.get("payment_method_type"), row.get("card_brand"))))
    return SettlementLine(
        line_no=line,
        processor=PROCESSOR,
        processor_account=account,
        record_type=record_type,
        batch_reference=row["automatic_payout_id"] or None,
        psp_reference=(row["automatic_payout_id"] or source_id) if record_type in PAYOUTS else source_id,
        original_psp_reference=row.get("charge_id") or None,
        merchant_reference=next((row[name] for name in metadata if row[name]), None),
        gross_minor=gross,
        gross_currency=currency,
        fee_minor=fee,
        net_minor=net,
        net_currency=currency,
        exchange_rate=None,
        payment_method=method or None,
        occurred_at=_timestamp(row, "created", line),
        booked_at=_timestamp(row, "available_on", line),
        record=record,
    )


def _timestamp(row: dict[str, str], column: str, line: int) -> datetime:
    text = row.get(f"{column}_utc") or row[column]
    try:
        return _instant(text)
    except ValueError:
        raise Rejected(
            "not a date and time", line=line, column=column, expected="YYYY-MM-DD HH:MM:SS", found=text
        ) from None


@lru_cache(maxsize=1 << 12)
def _instant(text: str) -> datetime:
    if not TIMESTAMP.fullmatch(text):
        raise ValueError(text)
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
