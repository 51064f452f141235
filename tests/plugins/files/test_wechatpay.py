"""WeChat Pay's three trade bills of a day: of all orders, of payments, of refunds; the same refund is the same line."""

from __future__ import annotations

from typing import Any

REFUND_TIMES = ("退款申请时间", "退款成功时间")
TOTALS_OF_REFUNDS = ("退款总金额", "充值券退款总金额", "申请退款总金额")


def split(line: str) -> list[str]:
    """The values of a bill's row: with its marks, or of a header."""
    return [f"`{cell}" for cell in line[1:].split(",`")] if line.startswith("`") else line.split(",")


def bill_of_refunds(text: str, applied: str, succeeded: str) -> str:
    """The refund of a bill of all orders as the bill of refunds has it: two times more, the payment's own time."""
    header, _, refund, totals, _ = map(split, text.splitlines())
    at = header.index("微信退款单号")
    header[at:at], refund[at:at] = REFUND_TIMES, [f"`{applied}", f"`{succeeded}"]
    refund[0] = "`2026-10-12 09:00:00"
    numbers = ["`1", "`0.00", "`40.00", "`0.00", "`-0.24000", "`0.00", "`40.00"]
    return "\n".join(map(",".join, [header, refund, totals, numbers])) + "\n"


def bill_of_payments(text: str) -> str:
    """The payment of a bill of all orders as the bill of payments has it: nothing of refunds, in the totals neither."""
    header, payment, _, totals, _ = map(split, text.splitlines())
    gone = [at for at, name in enumerate(header) if "退款" in name]
    kept = [[cell for at, cell in enumerate(row) if at not in gone] for row in (header, payment)]
    left = [name for name in totals if name not in TOTALS_OF_REFUNDS]
    return "\n".join(map(",".join, [*kept, left, ["`1", "`100.00", "`0.60000", "`100.00"]])) + "\n"


def test_a_refund_is_the_same_line_of_the_same_day_in_both_bills(read: Any, fixture_text: Any) -> None:
    text = fixture_text("wechatpay_trade.csv")
    every = read(text)
    refunds = read(bill_of_refunds(text, "2026-10-19 23:40:00", "2026-10-20 00:10:00"))
    assert refunds.rejected is None
    assert refunds.reading.balance == "ok"
    (line,) = refunds.rows["settlement_lines"]
    same = every.rows["settlement_lines"][1]
    assert (line.batch_reference, line.booked_at, line.net_minor) == (same.batch_reference, same.booked_at, -3976)
    assert line.row_key == same.row_key
    assert [each.identity for each in refunds.reading.documents] == ["wechatpay|1600000001|2026-10-19|CNY|REFUND"]


def test_a_bill_of_payments_totals_no_refunds(read: Any, fixture_text: Any) -> None:
    text = bill_of_payments(fixture_text("wechatpay_trade.csv"))
    outcome = read(text)
    assert outcome.rejected is None
    assert (outcome.reading.entries, outcome.reading.balance) == (1, "ok")
    assert "the stated total differs" in str(read(text.replace("`0.60000,`100.00\n", "`0.60000,`100.01\n")).rejected)
