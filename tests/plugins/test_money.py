"""Money is exact: what cannot be read exactly is refused."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout import money


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("12.34", "EUR", 1234),
        ("12", "EUR", 1200),
        (".11", "USD", 11),
        ("-0.03", "USD", -3),
        ("1234", "JPY", 1234),
        ("1234.00", "JPY", 1234),
        ("25.500", "KWD", 25500),
        ("0.0001", "CLF", 1),
        ("300.00000", "EUR", 30000),
        ("000000000147.64", "EUR", 14764),
        ("-0", "EUR", 0),
        ("92233720368547758.07", "EUR", money.BIGINT_MAX),
        ("-92233720368547758.08", "EUR", money.BIGINT_MIN),
    ],
)
def test_reads_exactly(text: str, currency: str, minor: int) -> None:
    assert money.to_minor(text, currency) == minor


@pytest.mark.parametrize(
    "text",
    ["", "-", ".", "NaN", "Infinity", "-Infinity", "1_000", "1,000.00", "1 000", " 1", "1 ", "1e3", "+1", "--1", "0x10",
     "١٢", "\uff11\uff12", "1.2.3", "12.345", "92233720368547758.08", "9" * 400, "1\n", "€1"],
)  # fmt: skip
def test_refuses_what_is_no_exact_amount(text: str) -> None:
    with pytest.raises(money.AmountError):
        money.to_minor(text, "EUR")


@pytest.mark.parametrize("currency", ["XXX", "XAU", "EURO", "eur", "", "ZZZ"])
def test_refuses_currencies_without_minor_units(currency: str) -> None:
    with pytest.raises(money.AmountError):
        money.to_minor("1", currency)


def test_decimal_separator_is_declared_not_guessed() -> None:
    assert money.to_minor("1234,5", "EUR", separator=",") == 123450
    assert money.to_minor("500,", "EUR", separator=",") == 50000
    for text, separator in (("1234,5", "."), ("1234.5", ","), ("1.234,50", ",")):
        with pytest.raises(money.AmountError):
            money.to_minor(text, "EUR", separator=separator)


@pytest.mark.parametrize(("currency", "adyen", "iso"), [("CLP", 2, 0), ("CVE", 0, 2), ("ISK", 2, 0), ("KWD", 3, 3)])
def test_exponents_are_the_providers_own(currency: str, adyen: int, iso: int) -> None:
    assert money.exponent(currency, "adyen") == adyen
    assert money.exponent(currency) == money.exponent(currency, "stripe") == iso


def test_withdrawn_currencies_of_old_statements_are_known() -> None:
    assert money.to_minor("84349,74", "DEM", separator=",") == 8434974


@given(st.integers(money.BIGINT_MIN, money.BIGINT_MAX), st.sampled_from(["JPY", "EUR", "KWD", "CLF"]))
def test_text_and_minor_units_are_one_to_one(minor: int, currency: str) -> None:
    text = money.to_text(minor, currency)
    assert money.to_minor(text, currency) == minor
    assert money.to_decimal(minor, currency) == Decimal(text)
    assert "E" not in text


@given(st.text(max_size=30))
def test_never_fails_otherwise(text: str) -> None:
    for parse in (lambda: money.to_minor(text, "EUR"), lambda: money.exact(text), lambda: money.whole_number(text)):
        with suppress(money.AmountError):
            parse()


@pytest.mark.parametrize(
    ("value", "rounded"),
    [("0.5", 0), ("1.5", 2), ("2.5", 2), ("-0.5", 0), ("-1.5", -2), ("2.51", 3), ("-2.49", -2),
     ("1234567890123456.5", 1234567890123456)],
)  # fmt: skip
def test_ties_go_to_the_even_neighbour(value: str, rounded: int) -> None:
    assert money.round_half_even(Decimal(value)) == rounded


@pytest.mark.parametrize("value", ["NaN", "Infinity", "9223372036854775808"])
def test_rounding_refuses_what_no_bigint_holds(value: str) -> None:
    with pytest.raises(money.AmountError):
        money.round_half_even(Decimal(value))


@pytest.mark.parametrize(
    ("hundredths", "currency", "minor"), [(123400, "JPY", 1234), (-5, "KWD", -50), (101, "EUR", 101), (0, "JPY", 0)]
)
def test_hundredths_become_minor_units(hundredths: int, currency: str, minor: int) -> None:
    assert money.from_hundredths(hundredths, currency) == minor


@pytest.mark.parametrize(("hundredths", "currency"), [(123450, "JPY"), (-1, "JPY"), (100, "XXX"), (2**63, "EUR")])
def test_hundredths_that_are_no_minor_units_are_refused(hundredths: int, currency: str) -> None:
    with pytest.raises(money.AmountError):
        money.from_hundredths(hundredths, currency)
