"""Braintree's transactions and refunds, as its search gives them: JSON, one object each, major units, times in UTC.

What reaches the bank is a disbursement: all of a merchant account in one currency on one date, which is the batch.
Only what a disbursement date is named for, and no hold, is sent on; the rest is counted. Braintree bills its fees
apart, so the disbursed amount is the gross one. A report of disputes says what is contested and not what was taken,
and is refused. A line's number is the number of its object.

Times carry their offset (UTC); amounts are major units by ISO 4217. Nothing totals a search result: what checks it is
the bank's entry of the disbursement. Fee reports hold estimates and are refused.
(developer.paypal.com/braintree/docs/reference/response/transaction-level-fee-report-row)
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from tieout.files.batches import Batches
from tieout.files.json_items import Item, begins_with_json, load, numbered
from tieout.files.proof import Rejected, SettlementLine, Sink, Tally, calendar_date, json_text, refuse_amount
from tieout.money import AmountError, exact

PROCESSOR = "braintree"
SALE, REFUND = "Transaction", "Refund"
DISBURSEMENT = '"disbursementDetails"'
DISPUTE = '"amountDisputed"'


def recognises(head: str) -> bool:
    """Whether the beginning of a text is that of Braintree's transactions, refunds or disputes."""
    return begins_with_json(head) and (('"merchantAccountId"' in head and DISBURSEMENT in head) or DISPUTE in head)


def read(path: Path, sink: Sink) -> Tally:
    """Read one report; rows go to the sink as ``settlement_lines``.

    :raises Rejected: an object cannot be read exactly or does not add up, or it is a report of disputes.
    """
    with Tally("braintree.transactions", PROCESSOR, sink) as tally:
        _read(path, tally)
    return tally


def _read(path: Path, tally: Tally) -> None:
    batches = Batches(tally)
    for item in numbered(load(path)):
        if "amountDisputed" in item.value:
            raise Rejected(
                "a report of disputes, not of what was disbursed",
                line=item.number,
                column="amountDisputed",
                expected="transactions and refunds with their disbursement",
                found="an amount that is contested",
                remedy="have the transactions and refunds of the disbursement date delivered",
            )
        if item.get("disbursementDetails.date") is None or _held(item):
            tally.entries += 1
            continue
        line = _line(item)
        tally.accounts.add(line.processor_account)
        tally.seen(line.booked_at.date())
        # Sales and refunds of one date come in reports of their own: each is a document.
        document = tally.document(
            "settlement_batch", PROCESSOR, line.processor_account, str(line.batch_reference), line.net_currency,
            line.record_type,
        )  # fmt: skip
        batches.add(line, is_payout=False, document=document)
    batches.close()


def _held(item: Item) -> bool:
    held = item.get("disbursementDetails.fundsHeld")
    if held not in (True, False):
        raise Rejected("neither held nor paid", line=item.number, column="disbursementDetails.fundsHeld",
                       expected="true or false", found=repr(held)[:60])  # fmt: skip
    return bool(held)


def _line(item: Item) -> SettlementLine:
    is_refund = item.get("refundedTransaction") is not None
    unsigned, gross_currency = item.money("amount", "value", "currencyCode")
    if unsigned < 0:
        raise Rejected("a sign on an amount", line=item.number, column="amount.value", expected="an unsigned amount",
                       found=str(unsigned))  # fmt: skip
    gross = -unsigned if is_refund else unsigned
    net, net_currency = item.money("disbursementDetails.amount", "value", "currencyCode")
    if gross_currency == net_currency and gross != net:
        raise Rejected(
            "the disbursed amount is another",
            line=item.number,
            column="disbursementDetails.amount.value",
            expected=f"{gross} in minor units of {gross_currency}",
            found=str(net),
        )
    day = calendar_date(item.needed("disbursementDetails.date"), item.number, "disbursementDetails.date")
    return SettlementLine(
        line_no=item.number,
        processor=PROCESSOR,
        processor_account=item.needed("merchantAccountId"),
        record_type=REFUND if is_refund else SALE,
        batch_reference=day.isoformat(),
        psp_reference=item.needed("id"),
        original_psp_reference=item.needed("refundedTransaction.id") if is_refund else item.needed("id"),
        merchant_reference=item.text("orderId"),
        gross_minor=gross,
        gross_currency=gross_currency,
        fee_minor=0,
        interchange_minor=None,
        scheme_fee_minor=None,
        net_minor=net,
        net_currency=net_currency,
        exchange_rate=_rate(item),
        payment_method=None,
        occurred_at=item.instant("createdAt"),
        booked_at=datetime(day.year, day.month, day.day, tzinfo=UTC),
        record=json_text(item.value),
    )


def _rate(item: Item) -> Decimal | None:
    path = "disbursementDetails.exchangeRate"
    text = item.text(path)
    try:
        return exact(text) if text else None
    except AmountError as error:
        refuse_amount(error, item.number, path)
