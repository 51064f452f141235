"""Stripe's itemised payout reconciliation report: one CSV, one line a balance transaction, amounts in major units.

Every line has gross - fee = net, and the lines of an automatic payout come to zero with the payout's own line, whose
net is negative: money leaves the Stripe balance. (A positive payout line is Stripe pulling a debt from the bank; the
zero still holds.) Times are UTC unless the report has ``_utc`` columns beside them, which then win.

A report may have balance transactions that no payout has taken yet, and a later one has them again with their payout:
a line is known by its balance transaction, which is its own within the account, and the payout is what changes about
it. A key that holds the payout, or the line's references instead, would make them two lines and count the money twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from itertools import repeat
from operator import sub
from pathlib import Path
from typing import Any

from tieout.files.batches import Batches
from tieout.files.lines import CsvFile, Header
from tieout.files.proof import Rejected, SettlementLine, Sink, Tally, amount, as_line, or_none
from tieout.money import AmountError, to_minor_all

PROCESSOR = "stripe"
REQUIRED = (
    "balance_transaction_id", "created", "available_on", "currency", "gross", "fee", "net", "reporting_category",
    "source_id", "automatic_payout_id",
)  # fmt: skip
ACCOUNT = "gateway_account"
# What a report may have beside, and may not.
OPTIONAL = (ACCOUNT, "created_utc", "available_on_utc", "charge_id", "payment_method_type", "card_brand")
# Cells have the line's number and its text before them.
ACCOUNT_AT = 2 + len(REQUIRED)
# Stripe's own download of a single account has no such column and does not name the account.
ONLY_ACCOUNT = "default"
# Lines Stripe leaves without an account (its own fees) can precede the first that has one: so many are kept waiting.
WAITING_LIMIT = 1000
# Categories of reporting_category that move money to or from the bank.
PAYOUTS = frozenset({"payout", "payout_reversal"})
METADATA = "payment_metadata["
CURRENCY = re.compile(r"[A-Za-z]{3}", re.ASCII)
TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}(?: \d{2}:\d{2}(?::\d{2})?)?", re.ASCII)


_Cells = tuple[Any, ...]


def recognises(header: list[str]) -> bool:
    """Whether a CSV header is that of an itemised payout reconciliation report."""
    return {"balance_transaction_id", "reporting_category", "gross", "fee", "net"} <= {name.strip() for name in header}


def read(path: Path, sink: Sink) -> Tally:
    """Read one report; rows go to the sink as ``settlement_lines``.

    :raises Rejected: a line cannot be read exactly or does not add up, or a batch differs from its payout.
    """
    with Tally("stripe.payout_reconciliation", PROCESSOR, sink) as tally:
        _read(path, tally)
    return tally


def _read(path: Path, tally: Tally) -> None:
    source = CsvFile(path)
    line, names = source.header()
    header = Header(names, line, REQUIRED)
    if source.cut:
        raise Rejected("the file ends within its header", line=line)
    tally.headers[source.text] = None
    metadata = [name for name in header.names if name.startswith(METADATA)]
    pick = header.picker((*REQUIRED, *OPTIONAL, *metadata))
    known = [] if ACCOUNT in header.positions else [ONLY_ACCOUNT]
    waiting: list[_Cells] = []
    batches = Batches(tally)

    def made(rows: Sequence[tuple[int, list[str], str]]) -> list[tuple[SettlementLine, str]]:
        cells: list[_Cells] = [(line, record, *pick(values)) for line, values, record in rows]
        named = dict.fromkeys([*known, *filter(None, [each[ACCOUNT_AT] for each in cells])])
        if len(named) > 1:
            expected, found = list(named)[:2]
            raise Rejected(
                "two accounts in one report", line=cells[0][0], column=ACCOUNT, expected=expected, found=found
            )
        if not named:
            waiting.extend(cells)
            if len(waiting) > WAITING_LIMIT:
                raise Rejected("no line names the account", line=cells[0][0], column=ACCOUNT, expected="an account id")
            return []
        lines = _lines([*waiting, *cells], *named)
        known[:] = named
        waiting.clear()
        return lines

    for block in source.blocks():
        for pairs in header.made(block, REQUIRED, (*OPTIONAL, *metadata), made):
            lines, transactions = zip(*pairs, strict=True) if pairs else ((), ())
            for booked_at in {settlement.booked_at for settlement in lines}:
                tally.seen(booked_at.date())
            payouts = [each.line_no for each in lines if each.record_type in PAYOUTS]
            batches.add_all(lines, payouts, known_by=transactions)
    if waiting:
        raise Rejected("no line names the account", line=waiting[0][0], column=ACCOUNT, expected="an account id")
    if tally.entries:
        tally.accounts.update(known)
    batches.close()


def _lines(cells: Sequence[_Cells], account: str) -> list[tuple[SettlementLine, str]]:
    """Lines of the report, each with its balance transaction.

    They are worked on by column: number, text, cells of ``REQUIRED``, ``OPTIONAL`` and the metadata.

    :raises Rejected: one of them cannot be read exactly or does not add up; of a single line the reason is its own.
    """
    (
        numbers, texts, transactions, created, available, currency_texts, gross_texts, fee_texts, net_texts,
        record_types, source_ids, payouts, _, created_utc, available_utc, charges, methods, brands, *metadata,
    ) = zip(*cells, strict=True)  # fmt: skip
    for column, values in (("balance_transaction_id", transactions), ("reporting_category", record_types)):
        if "" in values:
            raise Rejected("value missing", line=numbers[values.index("")], column=column)
    currencies = list(map(_currency, currency_texts))
    if "" in currencies:
        wrong = currencies.index("")
        raise Rejected(
            "not a currency", line=numbers[wrong], column="currency", expected="three letters",
            found=currency_texts[wrong],
        )  # fmt: skip
    gross, fees, net = (
        _minor(column, values, currencies, numbers)
        for column, values in (("gross", gross_texts), ("fee", fee_texts), ("net", net_texts))
    )
    if list(map(sub, gross, fees)) != net:
        wrong = next(position for position, minor in enumerate(map(sub, gross, fees)) if minor != net[position])
        raise Rejected(
            "the line does not add up",
            line=numbers[wrong],
            column="net",
            expected=f"gross {gross_texts[wrong]} less fee {fee_texts[wrong]}",
            found=net_texts[wrong],
        )
    references: Sequence[str | None] = source_ids
    if not PAYOUTS.isdisjoint(record_types):
        references = [
            (payout or source) if record_type in PAYOUTS else source
            for record_type, payout, source in zip(record_types, payouts, source_ids, strict=True)
        ]
    merchant_references = [next(filter(None, each), None) for each in zip(*metadata, strict=True)] if metadata else None
    columns = (
        numbers, repeat(PROCESSOR), repeat(account), record_types, or_none(payouts), or_none(references),
        or_none(charges), merchant_references or repeat(None), gross, currencies, fees, repeat(None),
        repeat(None), net, currencies, repeat(None),
        [_method(method, brand) for method, brand in zip(methods, brands, strict=True)],
        _instants("created", created_utc, created, numbers),
        _instants("available_on", available_utc, available, numbers), texts,
    )  # fmt: skip
    lines = map(as_line, zip(*columns))  # noqa: B905 - some of them are endless
    return list(zip(lines, transactions, strict=True))


def _minor(column: str, texts: Sequence[str], currencies: Sequence[str], numbers: Sequence[int]) -> list[int]:
    if "" not in texts:
        with suppress(AmountError):
            return to_minor_all(texts, currencies, provider=PROCESSOR)
    for text, currency, line in zip(texts, currencies, numbers, strict=True):
        amount(text, currency, line, column, provider=PROCESSOR)
    raise AssertionError("an amount was refused and is exact")


@lru_cache(maxsize=1 << 10)
def _currency(text: str) -> str:
    """The currency in capitals; blank if it is none."""
    return text.upper() if CURRENCY.fullmatch(text) else ""


@lru_cache(maxsize=1 << 10)
def _method(method: str, brand: str) -> str | None:
    return "/".join(filter(None, (method, brand))) or None


def _instants(column: str, utc: Sequence[str], plain: Sequence[str], numbers: Sequence[int]) -> list[datetime]:
    texts = [first or second for first, second in zip(utc, plain, strict=True)]
    found: list[datetime] = []
    try:
        found.extend(map(_instant, texts))
    except ValueError:
        wrong = len(found)
        raise Rejected(
            "not a date and time", line=numbers[wrong], column=column, expected="YYYY-MM-DD HH:MM:SS",
            found=texts[wrong],
        ) from None  # fmt: skip
    return found


@lru_cache(maxsize=1 << 12)
def _instant(text: str) -> datetime:
    if not TIMESTAMP.fullmatch(text):
        raise ValueError(text)
    # Written behind the time, the offset costs an eighth of what replace() takes.
    return datetime.fromisoformat(f"{text}+00:00") if ":" in text else datetime.fromisoformat(text).replace(tzinfo=UTC)
