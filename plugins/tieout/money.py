"""Exact money: text of a report to integer minor units and back, without a float anywhere.

An amount is a whole number of minor units of an ISO 4217 currency; ``Decimal`` appears only at the edge,
where a person or a file needs a decimal point. What cannot be read exactly is refused, never rounded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from functools import lru_cache

from iso4217 import Currency

BIGINT_MAX = 2**63 - 1
BIGINT_MIN = -(2**63)

# Processors that count minor units in their own way. Adyen: its currency-codes page differs from ISO 4217 for three.
PROVIDER_EXPONENTS: dict[str, dict[str, int]] = {"adyen": {"CLP": 2, "CVE": 0, "ISK": 2}}

# Old statements are still read; ISO's list of withdrawn currencies gives no minor units.
WITHDRAWN_EXPONENTS = dict.fromkeys(
    ("ATS", "BGN", "CYP", "DEM", "EEK", "FIM", "FRF", "HRK", "IEP", "LTL", "LVL", "MTL", "NLG", "SIT", "SKK"), 2
)

# Fewer digits than this are no number beyond a bigint.
SAFE_DIGITS = 19
# No amount that fits a bigint has more digits; the limit keeps hostile text away from int().
_DIGITS = r"(-?)(\d{0,40})(?:%s(\d{0,40}))?"
_PATTERNS = {separator: re.compile(_DIGITS % re.escape(separator), re.ASCII) for separator in (".", ",")}


# Amounts with all their decimals and no more digits than a bigint surely has, between commas.
_PLAIN = {
    decimals: re.compile(rf"-?{digits}(?:,-?{digits})*+", re.ASCII)
    for decimals, digits in ((0, r"\d{1,15}"), (2, r"\d{1,15}\.\d{2}"), (3, r"\d{1,15}\.\d{3}"))
}
_ZEROS = {decimals: "0." + "0" * decimals if decimals else "0" for decimals in range(9)}


class AmountError(ValueError):
    """Text that is not an exact amount of the currency.

    ``expected`` and ``found`` say what was wrong, for a message that also names file, line and column.
    """

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found!r}")
        self.expected = expected
        self.found = found


@lru_cache(maxsize=1024)
def exponent(currency: str, provider: str | None = None) -> int:
    """How many decimals the currency has, by ISO 4217 or by the provider's own reckoning.

    :raises AmountError: the currency is unknown or has no minor unit (gold, XXX).
    """
    override = PROVIDER_EXPONENTS.get(provider or "", {}).get(currency)
    if override is not None:
        return override
    if currency in WITHDRAWN_EXPONENTS:
        return WITHDRAWN_EXPONENTS[currency]
    try:
        decimals = Currency(currency).exponent
    except ValueError:
        decimals = None
    if decimals is None:
        raise AmountError("an ISO 4217 currency code with minor units", currency)
    return int(decimals)


# Fees and prices repeat: most amounts of a report are known by the time they are read.
@lru_cache(maxsize=1 << 16)
def to_minor(text: str, currency: str, *, provider: str | None = None, separator: str = ".") -> int:
    """Decimal text in major units to minor units: ``("12.3", "EUR")`` is 1230, ``("12", "JPY")`` is 12.

    ASCII digits, an optional leading minus and at most one decimal separator; no thousands separators, no
    exponent, no blanks. Decimals beyond the currency's are accepted only when they are zeros.

    :raises AmountError: for anything else, and beyond the range of a bigint.
    """
    whole, _, fraction = text.partition(separator)
    digits = whole + fraction
    # Nearly every amount is digits with all the currency's decimals; the pattern is the rule for all others.
    if (
        len(digits) < SAFE_DIGITS
        and digits.isdigit()
        and digits.isascii()
        and len(fraction) == exponent(currency, provider)
    ):
        return int(digits)
    match = _PATTERNS[separator].fullmatch(text)
    if match is None or not (match[2] or match[3]):
        raise AmountError(f"a plain decimal number with {separator!r} before the decimals", text)
    decimals = exponent(currency, provider)
    fraction = match[3] or ""
    if fraction[decimals:].strip("0"):
        raise AmountError(f"at most {decimals} decimals, as {currency} has", text)
    minor = int(match[2] + fraction[:decimals].ljust(decimals, "0") or "0")
    return in_range(-minor if match[1] else minor)


def to_minor_all(texts: Sequence[str], currencies: Sequence[str], *, provider: str | None = None) -> list[int]:
    """:func:`to_minor` for many amounts, each in its currency; a blank text is 0.

    :raises AmountError: one of them is no exact amount.
    """
    blank = texts.count("")
    if blank * 2 > len(texts):
        found = [0] * len(texts)
        for position, text in enumerate(texts) if blank < len(texts) else ():
            if text:
                found[position] = to_minor(text, currencies[position], provider=provider)
        return found
    currency = currencies[0]
    if currencies.count(currency) == len(currencies):
        decimals = exponent(currency, provider)
        written = [text or _ZEROS[decimals] for text in texts] if blank else texts
        whole = ",".join(written)
        # Nearly all are digits with all the currency's decimals; to_minor is the rule for all others.
        if decimals in _PLAIN and whole.count(",") == len(texts) - 1 and _PLAIN[decimals].fullmatch(whole):
            return list(map(int, whole.replace(".", "").split(",")))
    return [
        to_minor(text, each, provider=provider) if text else 0 for text, each in zip(texts, currencies, strict=True)
    ]


def whole_number(text: str) -> int:
    """Text of an unsigned whole number in ASCII digits, such as an amount already in minor units.

    :raises AmountError: a sign, a blank, another script's digits, or beyond the range of a bigint.
    """
    if not re.fullmatch(r"\d{1,40}", text, re.ASCII):
        raise AmountError("a whole number in digits 0-9", text)
    return in_range(int(text))


def from_hundredths(hundredths: int, currency: str) -> int:
    """Hundredths of a unit to the currency's own minor units: ``(123400, "JPY")`` is 1234, ``(5, "KWD")`` is 50.

    :raises AmountError: they make no whole minor units, the currency is unknown, or a bigint does not hold them.
    """
    minor, rest = divmod(abs(hundredths) * 10 ** exponent(currency), 100)
    if rest:
        raise AmountError(f"hundredths that make whole minor units of {currency}", str(hundredths))
    return in_range(minor if hundredths >= 0 else -minor)


def in_range(minor: int) -> int:
    """The amount itself, if a bigint holds it.

    :raises AmountError: it does not.
    """
    if not BIGINT_MIN <= minor <= BIGINT_MAX:
        raise AmountError("an amount within the range of a bigint", str(minor))
    return minor


def exact(text: str, *, separator: str = ".") -> Decimal:
    """Decimal text as it stands, whatever its number of decimals.

    :raises AmountError: it is not a plain decimal number (see :func:`to_minor`).
    """
    match = _PATTERNS[separator].fullmatch(text)
    if match is None or not (match[2] or match[3]):
        raise AmountError(f"a plain decimal number with {separator!r} before the decimals", text)
    return Decimal(f"{match[1]}{match[2] or '0'}.{match[3] or ''}")


def to_decimal(minor: int, currency: str, *, provider: str | None = None) -> Decimal:
    """Minor units to major units with the currency's decimals: ``(1230, "EUR")`` is ``Decimal("12.30")``."""
    sign, digits = (1, str(-minor)) if minor < 0 else (0, str(minor))
    return Decimal((sign, tuple(map(int, digits)), -exponent(currency, provider)))


def to_text(minor: int, currency: str, *, provider: str | None = None) -> str:
    """Minor units as decimal text, never in scientific notation: ``(-5, "EUR")`` is ``"-0.05"``."""
    return f"{to_decimal(minor, currency, provider=provider):f}"


def round_half_even(value: Decimal) -> int:
    """The nearest whole number of minor units; a tie goes to the even neighbour.

    :raises AmountError: the value is no finite number, or beyond the range of a bigint.
    """
    if not value.is_finite():
        raise AmountError("a finite number", str(value))
    with localcontext() as context:
        context.prec = max(28, value.adjusted() + 2)
        return in_range(int(value.quantize(Decimal(1), rounding=ROUND_HALF_EVEN)))
