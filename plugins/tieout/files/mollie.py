"""Mollie's balance transactions: one JSON page of a balance, amounts in major units, times in UTC.

Every transaction has result = initial + deductions, and the page counts what it holds. The page names its balance in
the addresses of itself and its neighbours. Pages may overlap, so each transaction is a document: it is loaded once.
The settlement resource sums a settlement up by payment method, rounded, and names no payment: it is refused.
A line's number is the number of its transaction.

Times carry their offset (UTC); amounts are major units by ISO 4217. A settlement's export as CSV aggregates the costs
per settlement and its columns are not documented: the balance's transactions have each of them.
(docs.mollie.com/reference/list-balance-transactions, docs.mollie.com/docs/settlement-report)
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tieout.files.batches import Batches
from tieout.files.json_items import Item, begins_with_json, load
from tieout.files.proof import Rejected, SettlementLine, Sink, Tally, bounded, count, json_text

PROCESSOR = "mollie"
OPENS = re.compile(r'"_embedded"\s*:\s*\{\s*"(?:balance_transactions|settlements)"|"resource"\s*:\s*"settlement"')
BALANCE = re.compile(r"/balances/(bal_[A-Za-z0-9]+)/transactions", re.ASCII)
# The event's own id, by the kinds of event that have one; a payment's is the payment.
EVENTS = ("refundId", "chargebackId", "captureId", "settlementId", "transferId", "invoiceId", "paymentId")


def recognises(head: str) -> bool:
    """Whether the beginning of a text is that of Mollie's balance transactions or settlements."""
    return begins_with_json(head) and OPENS.search(head) is not None


def read(path: Path, sink: Sink) -> Tally:
    """Read one page; rows go to the sink as ``settlement_lines``, one batch a balance and day.

    :raises Rejected: the page holds fewer than it counts, a transaction cannot be read exactly or does not add up, or
        it is a settlement's summary.
    """
    with Tally("mollie.balance_transactions", PROCESSOR, sink) as tally:
        _read(path, tally)
    return tally


def _read(path: Path, tally: Tally) -> None:
    page, *further = [Item(value, 1) for value in load(path)] or [Item({}, 1)]
    transactions = page.get("_embedded.balance_transactions")
    if further or not isinstance(transactions, list):
        raise Rejected(
            "a summary of settlements, which names no payment",
            expected="one page of balance transactions",
            found=str(page.get("resource") or "something else"),
            remedy="have the transactions of the balance delivered (List balance transactions)",
        )
    stated = count(page.needed("count"), 1, "count")
    if stated != len(transactions):
        raise Rejected("the count differs from the transactions", column="count", expected=str(stated),
                       found=str(len(transactions)))  # fmt: skip
    account = _balance(page)
    tally.accounts.add(account)
    batches = Batches(tally)
    for number, value in enumerate(transactions, 1):
        item = Item(value if isinstance(value, dict) else {}, number)
        line = _line(item, account)
        tally.seen(line.booked_at.date())
        document = tally.document("balance_transaction", PROCESSOR, item.needed("id"))
        if document.number < number:
            raise Rejected("a transaction comes twice", line=number, column="id", expected="each once",
                           found=item.needed("id"))  # fmt: skip
        batches.add(line, is_payout=False, document=document)
    batches.close()


def _balance(page: Item) -> str:
    links: Any = page.get("_links")
    named = links.values() if isinstance(links, dict) else ()
    addresses = [link.get("href") for link in named if isinstance(link, dict)]
    found = {match[1] for address in addresses if (match := BALANCE.search(str(address)))}
    if len(found) != 1:
        raise Rejected("the balance is not named", column="_links", expected="one balance in the page's addresses",
                       found=", ".join(sorted(found)) or "none")  # fmt: skip
    return found.pop()


def _line(item: Item, account: str) -> SettlementLine:
    gross, gross_currency = item.money("initialAmount", "value", "currency")
    net, net_currency = item.money("resultAmount", "value", "currency")
    fee = 0
    if item.get("deductions") is not None:
        deducted, fee_currency = item.money("deductions", "value", "currency")
        fee = -deducted
        if fee_currency != net_currency:
            raise Rejected("fee in another currency", line=item.number, column="deductions.currency",
                           expected=net_currency, found=fee_currency)  # fmt: skip
    if gross_currency == net_currency and gross - fee != net:
        raise Rejected(
            "the transaction does not add up",
            line=item.number,
            column="resultAmount.value",
            expected=f"{gross - fee} in minor units",
            found=str(net),
        )
    booked_at = item.instant("createdAt")
    return SettlementLine(
        line_no=item.number,
        processor=PROCESSOR,
        processor_account=account,
        record_type=item.needed("type"),
        batch_reference=booked_at.date().isoformat(),
        psp_reference=next(filter(None, (item.text(f"context.{name}") for name in EVENTS)), None) or item.needed("id"),
        original_psp_reference=item.text("context.paymentId"),
        merchant_reference=None,
        gross_minor=gross,
        gross_currency=gross_currency,
        fee_minor=bounded(fee, item.number, "deductions.value"),
        interchange_minor=None,
        scheme_fee_minor=None,
        net_minor=net,
        net_currency=net_currency,
        exchange_rate=None,
        payment_method=None,
        occurred_at=booked_at,
        booked_at=booked_at,
        record=json_text(item.value),
    )
