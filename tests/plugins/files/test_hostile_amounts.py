"""Currencies, exponents, signs and ranges, format by format: exact, or refused with the line; never a guess."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

FIXTURES = Path(__file__).parent / "fixtures"
MARK = re.compile(r"~([AC]):(.*?)~")


class Cell(NamedTuple):
    """An amount of a fixture: the text around it, with the amount as ``~A:...~`` and its currency as ``~C:...~``.

    ``unit`` is how the format writes one and a half: in major units, hundredths, or with a decimal comma.
    """

    name: str
    marked: str
    unit: str = "1.5"
    encoding: str = "utf-8"

    def written(self, **values: str) -> bytes:
        """The fixture with other values for A or C."""
        text = (FIXTURES / self.name).read_bytes().decode(self.encoding)
        before = MARK.sub(r"\2", self.marked)
        assert before in text
        after = MARK.sub(lambda mark: values.get(mark[1], mark[2]), self.marked)
        return text.replace(before, after, 1).encode(self.encoding)


CELLS = [
    Cell("camt053.xml", '<Amt Ccy="~C:EUR~">~A:89.50~</Amt>'),
    Cell("mt940.sta", ":60F:C261018~C:KWD~~A:1000,500~", "1,5"),
    Cell("bai2.bai", "03,7700012345,~C:USD~,010,~A:100000~", "150"),
    Cell("adyen.csv", "Settled,MOD0001,EUR,,100.00,1,~C:EUR~,,~A:98.20~"),
    Cell("adyen_accounting.csv", "~C:EUR~,~A:-100.00~,"),
    Cell("stripe.csv", ",~C:kwd~,~A:25.500~,"),
    Cell("stripe_activity.csv", ",~C:eur~,~A:100.00~,1.80"),
    Cell("stripe_payouts.csv", ",~C:eur~,~A:-50.00~,0.50"),
    Cell("paypal.csv", '"CR",~A:5000~,"~C:EUR~","DR",180', "150"),
    Cell("paypal_details.csv", '"CR",~A:5000~,"~C:EUR~","DR",180', "150"),
    Cell("checkout_breakdown.csv", ",~C:EUR~,0000000000A1,100,-1.8,~A:98.2~,"),
    Cell("checkout_payouts.csv", ",~C:EUR~,0000000000A1,2026-10-20T02:00:00.000,~A:122~,"),
    Cell("wechatpay_trade.csv", "`~C:CNY~,`~A:100.00~,"),
    Cell("alipay_trade.csv", ",100.00,~A:100.00~,0.00", encoding="gb18030"),
    Cell("alipay_account.csv", ", ,~A:-1000.00~,", encoding="gb18030"),
    Cell("wechatpay_fund.csv", "`~A:1000.00~,"),
    Cell("trustly.csv", ",~C:USD~,~A:860~,FB1"),
    Cell("mollie.json", '"resultAmount": {"currency": "~C:EUR~", "value": "~A:99.71~"'),
    Cell("braintree.json", '"amount": {"value": "~A:31.00~", "currencyCode": "~C:USD~"},'),
]
WITH_CURRENCY = [cell for cell in CELLS if "~C:" in cell.marked]


def ids(cell: Any) -> str | None:
    return cell.name if isinstance(cell, Cell) else None


@pytest.mark.parametrize("cell", CELLS, ids=ids)
def test_the_fixture_itself_is_read(cell: Cell, read: Any) -> None:
    assert read(cell.written()).rejected is None


@pytest.mark.parametrize("currency", ["XXX", "ZZZ", "XAU", "EURO", "E R", "٣٤٥", "978"])
@pytest.mark.parametrize("cell", WITH_CURRENCY, ids=ids)
def test_a_currency_that_is_none_is_refused(cell: Cell, currency: str, read: Any) -> None:
    assert read(cell.written(C=currency)).rejected is not None


# BAI2 writes minor units, which have no half.
@pytest.mark.parametrize("cell", [cell for cell in WITH_CURRENCY if cell.name != "bai2.bai"], ids=ids)
def test_half_a_yen_is_refused(cell: Cell, read: Any) -> None:
    assert read(cell.written(A=cell.unit, C="JPY")).rejected is not None


@pytest.mark.parametrize(
    "amount", ["92233720368547758.08", "9" * 20, "-" + "9" * 20, "1,000.00", "1.000,00", "98.2O", "+98.20", "98.201",
               "98.20 EUR", "(98.20)", "98.20-", "\u221298.20", "\u00bd", "1e2", ".", "-", "0x10", "98 .20",
               "1'000.00"],
)  # fmt: skip
@pytest.mark.parametrize("cell", CELLS, ids=ids)
def test_what_is_no_plain_amount_or_too_large_is_refused(cell: Cell, amount: str, read: Any) -> None:
    outcome = read(cell.written(A=amount))
    assert outcome.rejected is not None
    assert "\n" not in str(outcome.rejected)


@pytest.mark.parametrize("cell", CELLS, ids=ids)
def test_a_flipped_sign_contradicts_what_proves_the_amount(cell: Cell, read: Any) -> None:
    amount = next(mark[2] for mark in MARK.finditer(cell.marked) if mark[1] == "A")
    flipped = amount[1:] if amount.startswith("-") else f"-{amount}"
    assert read(cell.written(A=flipped)).rejected is not None


@pytest.mark.parametrize(("mark", "signed"), [("C", 1), ("D", -1), ("RC", -1), ("RD", 1), ("EC", 1), ("ED", -1)])
def test_the_marks_of_an_mt940_entry_are_held_to_the_balance(mark: str, signed: int, read: Any) -> None:
    text = (FIXTURES / "mt940.sta").read_text().replace("1020RC50,125", f"1020{mark}50,125")
    closing = {-1: "1200,125", 1: "1300,375"}
    right = text.replace("62F:C261231KWD1200,125", f"62F:C261231KWD{closing[signed]}")
    wrong = text.replace("62F:C261231KWD1200,125", f"62F:C261231KWD{closing[-signed]}")
    assert read(right).rows["bank_entries"][1].amount_minor == signed * 50125
    assert "does not prove itself" in str(read(wrong).rejected)


TRAILERS = ["49,237655,6", "98,237655,1,8", "99,237655,1,10"]


@pytest.mark.parametrize("trailer", TRAILERS)
def test_every_number_of_every_bai2_trailer_is_held_to_the_records(trailer: str, read: Any) -> None:
    text = (FIXTURES / "bai2.bai").read_text()
    code, *numbers = trailer.split(",")
    for at, number in enumerate(numbers):
        for wrong in (str(int(number) + 1), str(int(number) - 1), f"-{number}", "0", "", f"{number}.0", "x"):
            changed = ",".join([code, *numbers[:at], wrong, *numbers[at + 1 :]])
            rejected = read(text.replace(trailer, changed)).rejected
            assert rejected is not None, changed
            assert rejected.line == text[: text.index(trailer)].count("\n") + 1


def mt940_pages(*pages: tuple[str, str, str]) -> str:
    """One statement after another of one entry each, by number, tag of the opening and tag of the closing balance."""
    text, balance = "", 10000
    for number, opening, closing in pages:
        text += f":20:S\n:25:NL00BANK0000000001\n:28C:{number}\n:{opening}:C261018EUR{balance // 100},00\n"
        balance += 100
        text += f":61:2610191019C1,00NTRFNONREF//B-{balance}\n:{closing}:C261019EUR{balance // 100},00\n-\n"
    return text


def test_pages_of_an_mt940_statement_follow_each_other(read: Any) -> None:
    pages = (("7/1", "60F", "62M"), ("7/2", "60M", "62M"), ("7/3", "60M", "62F"), ("8/1", "60F", "62F"))
    outcome = read(mt940_pages(*pages))
    assert outcome.rejected is None
    assert [row.statement_reference for row in outcome.rows["bank_statements"]] == ["7/1", "7/2", "7/3", "8/1"]
    assert [row.sequence_number for row in outcome.rows["bank_statements"]] == [7, 7, 7, 8]


def test_a_file_may_begin_and_end_within_a_statement(read: Any) -> None:
    assert read(mt940_pages(("7/2", "60M", "62F"), ("8/1", "60F", "62M"))).rejected is None


@pytest.mark.parametrize(
    "pages",
    [
        (("7/1", "60F", "62M"), ("7/3", "60M", "62F")),
        (("7/1", "60F", "62M"), ("8/1", "60F", "62F")),
        (("7/1", "60F", "62M"), ("8/2", "60M", "62F")),
        (("7/1", "60F", "62M"), ("7/2", "60M", "62F"), ("7/3", "60M", "62F")),
    ],
)
def test_a_missing_page_of_an_mt940_statement_is_refused(pages: Any, read: Any) -> None:
    rejected = read(mt940_pages(*pages)).rejected
    assert "a page is missing or comes twice" in str(rejected)
    assert rejected.line is not None


def test_a_page_of_an_mt940_statement_begins_where_the_page_before_it_ended(read: Any) -> None:
    text = mt940_pages(("7/1", "60F", "62M"), ("7/2", "60M", "62F"))
    moved = text.replace("60M:C261018EUR101,00", "60M:C261018EUR201,00").replace("EUR102,00", "EUR202,00")
    assert "does not begin where" in str(read(moved).rejected)
