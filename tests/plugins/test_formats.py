"""Every format names the zone of its times, its exponents, and what proves it."""

from __future__ import annotations

from pathlib import Path

from tieout import files
from tieout.files.declared import declarations
from tieout.reading import formats

FIXTURES = Path(__file__).parent / "files" / "fixtures"


def test_every_format_that_is_read_is_listed_once() -> None:
    listed = [each.name for each in formats()]
    assert len(listed) == len(set(listed))
    for path in FIXTURES.iterdir():
        found = files.read(path, lambda table, row: None).format
        assert sum((found or "").startswith(name) for name in listed) == 1, found
    assert {each.format for each in declarations()} <= set(listed)


def test_every_format_says_what_it_goes_by() -> None:
    for each in formats():
        assert all(each), each
        refused = each.proof.startswith("refused: ")
        assert refused == ("-" in (each.time_zone, each.exponents)), each


def test_what_a_declaration_says_is_what_is_listed() -> None:
    listed = {each.name: each for each in formats()}
    assert listed["wechatpay.trade_bill"].time_zone == "Asia/Shanghai"
    assert listed["wechatpay.trade_bill"].proof == "its own counts and totals"
    assert listed["alipay.trade_bill"].proof .startswith("its own counts and totals, none of 服务费")
    assert listed["adyen.payments_accounting"].time_zone == "named on each line"
    assert listed["adyen.payments_accounting"].exponents == "major units, adyen's own"
    assert listed["checkout.payouts"].proof == "each line adds up"
    assert listed["braintree.transaction_fees"].proof.startswith("refused: fees")
