"""Declared reports: what each format's lines come to, what its totals catch, and what a declaration may say."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.plugins.rows import rows_of
from tieout.files import declared
from tieout.files.declaration import DeclarationError, load
from tieout.files.proof import Rejected


def brief(row: Any) -> tuple[Any, ...]:
    """Line, type, batch, references, gross, fee and net."""
    return (
        row.line_no, row.record_type, row.batch_reference, row.psp_reference, row.merchant_reference,
        row.gross_minor, row.gross_currency, row.fee_minor, row.net_minor, row.net_currency,
    )  # fmt: skip


LINES = {
    "checkout_breakdown.csv": [
        (2, "Charge", "0000000000A1", "pay_1", "ORDER-1", 10000, "EUR", 180, 9820, "EUR"),
        (3, "Charge", "0000000000A1", "pay_2", "ORDER-2", 50000, "SEK", 90, 4410, "EUR"),
        (4, "Refund", "0000000000A1", "pay_1", "ORDER-1", -2000, "EUR", 10, -2010, "EUR"),
        (5, "Account Updater", "0000000000A1", "pay_3", "ORDER-3", 0, "EUR", 20, -20, "EUR"),
    ],
    "checkout_payouts.csv": [
        (2, "Payout", "0000000000A1", "0000000000A1", None, -12200, "EUR", 0, -12200, "EUR"),
    ],
    "wechatpay_trade.csv": [
        (2, "SUCCESS", "2026-10-19", "4200000001", "ORDER-1", 10000, "CNY", 60, 9940, "CNY"),
        (3, "REFUND", "2026-10-19", "5030000001", "ORDER-1", -4000, "CNY", -24, -3976, "CNY"),
    ],
    # Orders and refunds are the trade bill's; what is left is the withdrawal.
    "wechatpay_fund.csv": [(4, "提现", "2026-10-19", "7770000001", "PAYOUT-1", -100000, "CNY", 0, -100000, "CNY")],
    "alipay_trade.csv": [
        (6, "交易", "2026-10-19", "2026101922001", "ORDER-1", 10000, "CNY", 60, 9940, "CNY"),
        (7, "退款", "2026-10-19", "R-1", "ORDER-1", -4000, "CNY", -24, -3976, "CNY"),
    ],
    "alipay_account.csv": [(8, "提现", "2026-10-19", "900003", None, -100000, "CNY", 0, -100000, "CNY")],
    "trustly.csv": [
        (2, "Capture", "FB1", "8000000001", "ORDER-1", 86000, "USD", 163, 85837, "USD"),
        (3, "Refund", "FB2", "8000000002", "ORDER-2", -500, "USD", 0, -500, "USD"),
    ],
    # Adyen counts the Icelandic krona in hundredths; a chargeback's gross follows from net and fees.
    "adyen_accounting.csv": [
        (3, "Settled", "42", "MOD1", "ORDER-1", 10000, "EUR", 180, 9820, "EUR"),
        (4, "Settled", "42", "MOD2", "ORDER-2", 5025, "ISK", 1, 29, "EUR"),
        (5, "Chargeback", "2026-10-19", "MOD3", "ORDER-3", -1301, "EUR", 1086, -2387, "EUR"),
    ],
}
DOCUMENTS = {
    "checkout_breakdown.csv": {("settlement_batch", "checkout|ent_shop|0000000000A1|EUR")},
    "checkout_payouts.csv": {("settlement_payout", "checkout|ent_shop|0000000000A1|EUR")},
    # A bill of payments and one of refunds may both come for a day; a bill of both is each of them.
    "wechatpay_trade.csv": {
        ("settlement_batch", "wechatpay|1600000001|2026-10-19|CNY|SUCCESS"),
        ("settlement_batch", "wechatpay|1600000001|2026-10-19|CNY|REFUND"),
    },
    "wechatpay_fund.csv": {("fund_bill", "wechatpay|default|2026-10-19|CNY")},
    "alipay_trade.csv": {("settlement_batch", "alipay|20880000000000010156|2026-10-19|CNY")},
    "alipay_account.csv": {("fund_bill", "alipay|20880000000000010156|2026-10-19|CNY")},
    "trustly.csv": {("settlement_batch", "trustly|77|FB1|USD"), ("settlement_batch", "trustly|77|FB2|USD")},
    "adyen_accounting.csv": {("payments_accounting", "adyen|ShopEU|2026-10-19")},
}


@pytest.mark.parametrize("name", LINES)
def test_lines_and_documents(name: str, read: Any, fixture_bytes: Any) -> None:
    outcome = read(fixture_bytes(name))
    assert outcome.rejected is None
    assert [brief(row) for row in outcome.rows["settlement_lines"]] == LINES[name]
    assert {document[:2] for document in outcome.reading.documents} == DOCUMENTS[name]


@pytest.mark.parametrize(
    ("name", "occurred", "booked"),
    [
        ("checkout_breakdown.csv", datetime(2026, 10, 19, 9, 15, tzinfo=UTC), datetime(2026, 10, 20, tzinfo=UTC)),
        ("wechatpay_trade.csv", datetime(2026, 10, 19, 15, 30, tzinfo=UTC), datetime(2026, 10, 19, 15, 30, tzinfo=UTC)),
        ("trustly.csv", datetime(2026, 10, 18, 9, 0, tzinfo=UTC),
         datetime(2026, 10, 19, 5, 51, 28, 297000, tzinfo=UTC)),
        ("adyen_accounting.csv", datetime(2026, 10, 19, 21, 59, 58, tzinfo=UTC),
         datetime(2026, 10, 19, 21, 59, 58, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_times_are_of_the_declared_zone(
    name: str, occurred: datetime, booked: datetime, read: Any, fixture_bytes: Any
) -> None:
    first, *_ = read(fixture_bytes(name)).rows["settlement_lines"]
    assert (first.occurred_at, first.booked_at) == (occurred, booked)


@pytest.mark.parametrize(
    ("name", "balance"),
    [("alipay_trade.csv", "-"), ("alipay_account.csv", "ok"), ("wechatpay_trade.csv", "ok"), ("trustly.csv", "ok")],
)
def test_totals_prove_a_file_where_they_cover_the_net(
    name: str, balance: str, read: Any, fixture_bytes: Any
) -> None:
    """Alipay's trade bill states the orders' amounts and none of the fees: a wrong fee is not noticed."""
    assert read(fixture_bytes(name)).reading.balance == balance


def test_a_delimiter_in_a_marked_value_is_part_of_it(read: Any, fixture_text: Any) -> None:
    first, *_ = read(fixture_text("wechatpay_trade.csv")).rows["settlement_lines"]
    assert '`tea, "green"' in first.record


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("wechatpay_trade.csv", "`2,`100.00", "`3,`100.00", "the stated count differs from the rows"),
        ("wechatpay_trade.csv", "`2,`100.00", "`2,`100.01", "the stated total differs from the rows"),
        ("wechatpay_trade.csv", "`0.36000,", "`0.36001,", "the stated total differs from the rows"),
        ("wechatpay_trade.csv", "`0.60000", "`0.60001", "at most 2 decimals"),
        ("wechatpay_trade.csv", "`CNY", "`yuan", "not a currency"),
        ("wechatpay_trade.csv", "`2026-10-19 23:30:00,", "2026-10-19 23:30:00,", "a value without its mark"),
        ("wechatpay_trade.csv", "`2,`100.00,`40.00,`0.00,`0.36000,`100.00,`40.00\n", "", "the report is cut"),
        ("wechatpay_trade.csv", "`2,`100.00", "`2,`100.00,`40.00", "totals of another width"),
        ("wechatpay_fund.csv", "`收入,", "`收,", "differs from the rows"),
        ("wechatpay_fund.csv", "`支出,`1000.00", "`出,`1000.00", "neither debit nor credit"),
        ("wechatpay_fund.csv", "`支出,`1000.00", "`支出,`-1000.00", "a sign where another column tells it"),
        ("trustly.csv", "USD,860,", "EUR,860,", "the stated total differs from the rows"),
        ("trustly.csv", "FB2,USD,-5.00", "FB1,USD,-5.00", "differs from the rows"),
        ("checkout_breakdown.csv", ",VISA,\n", ",VISA\n", "movements of another width"),
        ("trustly.csv", "L,2,", "L,3,", "the stated count differs from the rows"),
        ("trustly.csv", "FB1,USD,858.37", "FB1,USD,858.38", "the stated total differs from the rows"),
        ("trustly.csv", "F,Shop,,FB2", "F,Shop,,FB3", "the stated total differs from the rows"),
        ("trustly.csv", "F,Shop,,FB2,USD,-5.00,21,2026-10-19T10:00:00.000Z\n", "", "differs from the rows"),
        ("trustly.csv", "I,8000000002", "X,8000000002", "a row that belongs nowhere"),
        ("trustly.csv", "L,2,855.00,2,853.37\n", "", "the report is cut"),
        ("checkout_breakdown.csv", ",98.2,", ",98.3,", "the line contradicts itself"),
        ("checkout_breakdown.csv", "98.2,0,EUR,100,", "98.2,0,EUR,101,", "the line does not add up"),
        ("checkout_breakdown.csv", "-0.9,44.1,0,", "-0.9,44.1,1,", "the line contradicts itself"),
        ("checkout_breakdown.csv", "-0.2,-0.2,0,,0,", "-0.2,-0.2,0,,7,", "an amount without a currency"),
        ("checkout_breakdown.csv", "ent_shop,Refund", ",Refund", "value missing"),
        ("checkout_breakdown.csv", "2026-10-19T10:15:00.000", "2026-10-19 10:15", "not a date and time"),
        ("checkout_breakdown.csv", "2026-10-19T10:15:00.000", "٢٠٢٦-10-19T10:15:00.000", "not a date and time"),
        ("checkout_breakdown.csv", ",Holding Currency,", ",Holding,", "no reader recognises this file"),
        ("checkout_payouts.csv", ",122,", ",121,", "the line contradicts itself"),
        ("adyen_accounting.csv", "CEST,Settled,MOD1", "IST,Settled,MOD1", "unknown time zone"),
        ("adyen_accounting.csv", "EUR,98.20", "EUR,98.21", "the line does not add up"),
        ("adyen_accounting.csv", "ISK,-50.25", "JPY,-50.25", "at most 0 decimals"),
        ("adyen_accounting.csv", "EUR,-23.87", "EUR,", "value missing"),
    ],
)  # fmt: skip
def test_a_wrong_report_is_refused(name: str, old: str, new: str, reason: str, read: Any, fixture_text: Any) -> None:
    text = fixture_text(name)
    assert old in text
    assert reason in str(read(text.replace(old, new, 1)).rejected)


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("alipay_trade.csv", "1笔", "2笔", "the stated count differs from the rows"),
        ("alipay_trade.csv", "商家实收共100.00元", "商家实收共100.01元", "the stated total differs from the rows"),
        ("alipay_trade.csv", "退款共-40.00元", "退款共-40.01元", "the stated total differs from the rows"),
        ("alipay_trade.csv", "#退款合计", "#退款", "of another width"),
        ("alipay_account.csv", "共-1000.60元", "共-1000.61元", "the stated total differs from the rows"),
        ("alipay_account.csv", "共100.00元", "共100.01元", "the stated total differs from the rows"),
        ("alipay_account.csv", ",-1000.00,", ",,", "neither gross nor net"),
        ("alipay_account.csv", "-1000.00", "-1000.0O", "not an exact amount"),
        ("alipay_trade.csv", ",0.00,0.00,,-0.60", ",0.00,,-0.60", "orders of another width"),
        ("alipay_account.csv", "#收入合计", "#收入", "of another width"),
    ],
)
def test_a_wrong_alipay_bill_is_refused(
    name: str, old: str, new: str, reason: str, read: Any, fixture_bytes: Any
) -> None:
    text = fixture_bytes(name).decode("gbk")
    assert old in text
    assert reason in str(read(text.replace(old, new, 1).encode("gbk")).rejected)
    assert read(text.encode("gbk")).rejected is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("H,P11KREC,1.0.0\nL,0,0.00,0.00\n", "not of what was funded"),
        ("ROW_TYPE,SETTLEMENT_CURRENCY,NUMBER_OF_ITEMS\n", "finer than the currency's smallest unit"),
        ('Type;"Creation date";"Settlement date";Reference\n', "states no settlement"),
        ("微信支付账单明细,,,\n", "a person's export"),
    ],
)
def test_a_report_that_nothing_settles_from_says_what_to_ask_for(content: str, reason: str, read: Any) -> None:
    assert reason in str(read(content).rejected)


# A processor nobody has heard of: two header rows, decimal commas, unsigned amounts, payouts, a total in front.
NEW_PROCESSOR = {
    "format": "kasse.settlement",
    "processor": "kasse",
    "about": "A processor of the tests.",
    "encoding": "latin-1",
    "delimiter": ";",
    "trim": True,
    "preamble": 2,
    "decimal": ",",
    "time_zone": "Europe/Berlin",
    "timestamps": ["%d.%m.%Y"],
    "sections": [
        {
            "name": "summary", "role": "facts", "header": ["Konto", "Auszahlung", "Posten"],
            "expect": [
                {"column": "Posten", "is": "count", "of": "posten"},
                {"column": "Auszahlung", "is": "sum", "of": "posten", "plus": "Betrag",
                 "where": {"column": "Art", "values": "Auszahlung"}},
            ],
        },
        {
            "name": "posten", "role": "lines", "header": ["Nr", "Art", "Tag", "S/H", "Betrag", "Gebühr", "Währung"],
            "line": {
                "account": {"fact": "Konto"}, "record_type": "Art", "batch": {"constant": "1"},
                "psp_reference": "Nr", "occurred_at": "Tag", "payouts": ["Auszahlung"],
                "gross": {"plus": "Betrag", "currency": "Währung",
                          "sign": {"column": "S/H", "credit": "H", "debit": "S"}},
                "fee": {"plus": "Gebühr", "optional": True},
            },
        },
    ],
}  # fmt: skip
NEW_REPORT = """Kasse GmbH
Abrechnung

Konto;Auszahlung;Posten
4711;1230,00;3
Nr ;Art;Tag;S/H;Betrag;Gebühr;Währung
A1;Zahlung;25.10.2026;H;1300,00;20,00;EUR
A2;Erstattung;25.10.2026;S; 50,00;;EUR
P1;Auszahlung;26.10.2026;S;1230,00;;EUR
"""


def read_new(folder: Path, content: str, changes: dict[str, Any] | None = None) -> tuple[list[Any], Any]:
    (folder / "new.yml").write_text(yaml.safe_dump({**NEW_PROCESSOR, **(changes or {})}, allow_unicode=True))
    path = folder / "report"
    path.write_bytes(content.encode("latin-1"))
    rows: list[Any] = []
    tally = declared.read(load(folder / "new.yml"), path, lambda table, new: rows.extend(rows_of(table, new)))
    return rows, tally.reading()


def test_a_new_processor_needs_no_python(tmp_path: Path) -> None:
    rows, reading = read_new(tmp_path, NEW_REPORT)
    assert [brief(row) for row in rows] == [
        (7, "Zahlung", "1", "A1", None, 130000, "EUR", 2000, 128000, "EUR"),
        (8, "Erstattung", "1", "A2", None, -5000, "EUR", 0, -5000, "EUR"),
        (9, "Auszahlung", "1", "P1", None, -123000, "EUR", 0, -123000, "EUR"),
    ]
    # Midnight on either side of the night the clocks go back.
    assert [row.booked_at.astimezone(UTC).hour for row in rows] == [22, 22, 23]
    assert reading.balance == "ok"
    assert reading.totals["settlement_lines", "net_minor", "EUR"] == (3, 0)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("P1;Auszahlung;26.10.2026;S;1230,00", "P1;Auszahlung;26.10.2026;S;1230,01", "SPLIT_MISMATCH"),
        ("4711;1230,00", "4711;1230,01", "the stated total differs"),
        ("1300,00;20,00", "1300.00;20,00", "',' before the decimals"),
        ("Abrechnung\n", "Abrechnung\nund\nmehr\n", "a row that belongs nowhere"),
        ("4711;1230,00;3\n", "", "Konto: value missing"),
        ("4711;1230,00;3\n", "4711;1230,00;3\n4711;1230,00;3\n", "summary comes twice"),
        ("1230,00;3", "1230,00;x", "not an exact amount"),
        ("A2;", "Nr ;Art;Tag;S/H;Betrag;Gebühr;Währung\nA2;", "a header comes twice"),
    ],
)
def test_a_new_processor_is_held_to_its_declaration(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert old in NEW_REPORT
    with pytest.raises(Rejected) as refused:
        read_new(tmp_path, NEW_REPORT.replace(old, new, 1))
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("exponents", "text", "currency", "minor"),
    [("hundredths", "123400", "JPY", 1234), ("hundredths", "-5", "KWD", -50), ("minor_units", "1234", "JPY", 1234),
     ("adyen", "12,34", "CLP", 1234), ("iso4217", "1,234", "KWD", 1234)],
)  # fmt: skip
def test_amounts_are_read_by_the_declared_exponents(
    tmp_path: Path, exponents: str, text: str, currency: str, minor: int
) -> None:
    report = f"Konto;Betrag;Währung;Tag\n1;{text};{currency};25.10.2026\n"
    section = {
        "name": "posten", "role": "lines", "header": ["Konto", "Betrag", "Währung", "Tag"],
        "line": {"account": "Konto", "record_type": {"constant": "x"}, "occurred_at": "Tag",
                 "net": {"plus": "Betrag", "currency": "Währung"}},
    }  # fmt: skip
    rows, _ = read_new(tmp_path, report, {"exponents": exponents, "sections": [section]})
    assert [row.net_minor for row in rows] == [minor]


def changed(path: str, value: Any) -> dict[str, Any]:
    """The declaration with one place set to another value, or without it."""
    copy: dict[str, Any] = yaml.safe_load(yaml.safe_dump(NEW_PROCESSOR, allow_unicode=True))
    node: Any = copy
    *parents, last = (int(key) if key.isdigit() else key for key in path.split("/"))
    for key in parents:
        node = node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("time_zone", None, "top: time_zone is missing"),
        ("time_zone", "Europe/Berln", "time_zone: no time zone 'Europe/Berln'"),
        ("time_zone", {"column": "Zone"}, "no column Zone"),
        ("timezone", "UTC", "unknown key timezone"),
        ("encoding", "latin-99", "encoding: no encoding"),
        ("delimiter", ";;", "write one character"),
        ("decimal", "'", "use one of ., ,"),
        ("exponents", "guess", "use one of iso4217"),
        ("preamble", "two", "write a whole number"),
        ("trim", "yes", "write true or false"),
        ("timestamps", [1], "expected text, found 1"),
        ("document", {"kind": "x", "identity": ["file"]}, "document.identity[0]: found 'file'"),
        ("sections/1/role", "rows", "use one of lines, facts, ignored"),
        ("sections/1/line", None, "role and content differ"),
        ("sections/1/pattern", "x", "2 ways to know its rows"),
        ("sections/1/name", "summary", "two sections of one name"),
        ("sections/1/header", ["Nr", "Nr"], "a value stands twice"),
        ("sections/1/tags", ["x"], "columns without tags"),
        ("sections/1/line/gross", None, "neither gross nor net"),
        ("sections/1/line/gross/currency", None, "no currency"),
        ("sections/1/line/gross/currency", {"constant": "EURO"}, "ISO 4217"),
        ("sections/1/line/gross/plus", "Betrage", "no column Betrage"),
        ("sections/1/line/gross/plus", None, "no columns"),
        ("sections/1/line/psp_reference", {"constant": "a", "fact": "b"}, "2 sources of one value"),
        ("sections/1/line/account", {"fact": "Konto2"}, "Konto2 is a column of 0 facts"),
        ("sections/0/expect/0/of", "lines", "no section lines"),
        ("sections/0/expect/0/plus", "Betrag", "a sum needs columns, a count takes none"),
        ("sections/0/expect/1/plus", "Betraege", "no column Betraege in posten"),
        ("sections/0/expect/1/where/column", "Typ", "no column Typ in posten"),
        ("sections/0/expect/0/by", [{"theirs": "Nr", "ours": "Konto"}], "facts that stand many times"),
        ("sections/0/header", "[", None),
    ],
)  # fmt: skip
def test_a_wrong_declaration_names_the_place_and_the_remedy(
    tmp_path: Path, path: str, value: Any, problem: str | None
) -> None:
    file = tmp_path / "kasse.yml"
    file.write_text(yaml.safe_dump(changed(path, value), allow_unicode=True))
    with pytest.raises(DeclarationError) as refused:
        load(file)
    assert str(refused.value).startswith("kasse.yml: ")
    assert "Remedy: " in str(refused.value)
    assert problem is None or problem in str(refused.value)


@pytest.mark.parametrize("text", ["{", "- a list", "", "format: x"])
def test_what_is_no_declaration_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "kasse.yml"
    file.write_text(text)
    with pytest.raises(DeclarationError, match=r"kasse\.yml"):
        load(file)


def test_every_declaration_is_sound_and_of_another_format() -> None:
    found = declared.declarations()
    assert len({each.format for each in found}) == len(found) == len(list(declared.FOLDER.glob("*.yml")))
    for each in found:
        assert each.format.startswith(f"{each.processor}.")
        assert each.refuse or each.zone or each.zone_column
