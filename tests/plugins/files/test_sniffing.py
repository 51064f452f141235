"""A file is known by its content; what nobody knows is refused with a reason."""

from __future__ import annotations

from typing import Any

import pytest

FORMATS = {
    "adyen.csv": "adyen.settlement_details",
    "stripe.csv": "stripe.payout_reconciliation",
    "paypal.csv": "paypal.settlement",
    "paypal_details.csv": "paypal.transaction_detail",
    "stripe_activity.csv": "stripe.balance_activity",
    "stripe_payouts.csv": "stripe.payouts",
    "ecb.csv": "ecb.eurofxref",
    "camt053.xml": "camt.053.001.08",
    "mt940.sta": "mt940",
    "mt942.sta": "mt942",
    "bai2.bai": "bai2",
    "checkout_breakdown.csv": "checkout.settlement_breakdown",
    "checkout_payouts.csv": "checkout.payouts",
    "wechatpay_trade.csv": "wechatpay.trade_bill",
    "wechatpay_fund.csv": "wechatpay.fund_bill",
    "alipay_trade.csv": "alipay.trade_bill",
    "alipay_account.csv": "alipay.account_bill",
    "trustly.csv": "trustly.funding",
    "adyen_accounting.csv": "adyen.payments_accounting",
    "braintree.json": "braintree.transactions",
    "mollie.json": "mollie.balance_transactions",
}


@pytest.mark.parametrize(("name", "format_name"), FORMATS.items())
def test_the_name_plays_no_part(name: str, format_name: str, read: Any, fixture_bytes: Any) -> None:
    assert read(fixture_bytes(name)).reading.format == format_name


@pytest.mark.parametrize(
    "name", [name for name in FORMATS if name not in ("mt940.sta", "alipay_trade.csv", "alipay_account.csv")]
)
def test_a_byte_order_mark_changes_nothing(name: str, read: Any, fixture_bytes: Any) -> None:
    outcome = read(b"\xef\xbb\xbf" + fixture_bytes(name))
    assert outcome.rejected is None
    assert outcome.rows == read(fixture_bytes(name)).rows


@pytest.mark.parametrize("content", ["", "  \n\n"])
def test_an_empty_file_says_so(content: str, read: Any) -> None:
    rejected = read(content).rejected
    assert "empty file" in str(rejected)
    assert rejected.reading.entries == 0


@pytest.mark.parametrize(
    "content",
    ["1\n2\n3\n", "requests\n", '{"id": 1}', "a,b,c\n1,2,3\n", "<html></html>", "<Document/>", "PK\x03\x04zip", '"open',
     "Date,Country,Rate\n2026-01-01,NL,1\n", ":NS:\n", "\ufeff"],
)  # fmt: skip
def test_what_no_reader_knows_is_refused_by_all(content: str, read: Any) -> None:
    outcome = read(content)
    assert outcome.rejected.file == "delivered"
    assert "no reader recognises this file" in str(outcome.rejected)
    assert "Remedy:" in str(outcome.rejected)
    assert not outcome.rows
    assert (outcome.rejected.reading.statements, outcome.rejected.reading.entries) == (0, 0)
