"""Card numbers in free text: found, and masked before they are stored.

A card number is a run of 13 to 19 digits, whole or in groups parted by single spaces or hyphens, no further digit
beside it, that begins as the number of a card network does, has a length which that network issues, and ends in a
valid check digit. The network matters: of the 16-digit references that processors give, one in ten has a valid
check digit by chance. Codes that have a letter among their digits are not looked into: UUIDs, 24 or more hexadecimal
digits, and 16 or more letters and digits behind a word and an underscore, as in ``ch_4F...``. Otherwise one of two
thousand UUIDs would be told as a card number.

It is stored as ``{card 411111******1111:1b2c3d4e_5f607182}``: the issuer's six digits, the last four, and a token
that is the same for the same card and is worth nothing without the key. The braces keep the digits that are left
apart from digits around them; the token comes in two halves, so that its digits are no card number either. Numbers
that overlap are one mask with a token each.

The same function exists twice: here for files, and in :mod:`tieout.extraction.card_masking` as one SQL expression for
a SELECT at a database that we may only read. A test holds them together.
"""

from __future__ import annotations

import hmac
import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, NamedTuple

KEY_VARIABLE = "TIEOUT_CARD_KEY"
KEY_CHARS_MIN = 32
# The secret never leaves this process: what a source is sent is a key derived from it.
_DERIVED_FOR = b"tieout card token"

DIGITS_MIN, DIGITS_MAX = 13, 19
SHOWN_FIRST, SHOWN_LAST = 6, 4
TOKEN_DIGITS = 16
MASK_OPENS = "{card "

log = logging.getLogger(__name__)


class CardKeyError(ValueError):
    """The key for card tokens cannot be used; the message says how it should be."""


class Network(NamedTuple):
    """A card network: how its numbers begin, as alternatives of a regular expression, and their lengths in digits."""

    name: str
    prefixes: str
    lengths: tuple[int, ...]


# Public ranges. Wide where networks share them (a Maestro number may have any length): a number masked for nothing
# is told and costs a look, a card number that stays is a leak.
NETWORKS = (
    Network("visa", "4", (13, 16, 19)),
    Network("mastercard", "5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", (16,)),
    Network("american express", "3[47]", (15,)),
    Network("diners club", "30[0-5]|309|3[689]", (14, 15, 16, 17, 18, 19)),
    Network("discover", "6011|64[4-9]|65", (16, 17, 18, 19)),
    Network("jcb", "352[89]|35[3-8]", (16, 17, 18, 19)),
    Network("unionpay", "62|81", (16, 17, 18, 19)),
    Network("maestro, elo, verve", "50|5[6-8]|63|67", (13, 14, 15, 16, 17, 18, 19)),
    Network("mir", "220[0-4]", (16, 17, 18, 19)),
    Network("rupay, hipercard", "60|82", (16,)),
    Network("troy", "9792", (16,)),
)

# These are read by Python and by PostgreSQL, so they say only what both understand alike.
# Where this is not found there is no card number: it must be cheap on text without long numbers.
SUSPECT = "(?<![0-9])(?:[2-6][ -]?[0-9]|8[ -]?[12]|9[ -]?7)(?:[ -]?[0-9]){11}"
_RUN = "[0-9](?:[ -]?[0-9]){12,}"
# With a letter among the digits, so that no run of digits is as long as the code that begins where it does.
_CODE = (
    "(?<![0-9A-Za-z])(?:(?=[0-9-]{0,35}[A-Fa-f])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    "|(?=[0-9]*[A-Fa-f])[0-9A-Fa-f]{24,}|(?<=[a-z]_)(?=[0-9]*[A-Za-z])[0-9A-Za-z]{16,})(?![0-9A-Za-z])"
)
CODE_OR_RUN = f"{_CODE}|{_RUN}"
ISSUED = "^(?:{})".format(
    "|".join(
        "(?=(?:{})$)(?:{})".format("|".join(f"[0-9]{{{length}}}" for length in network.lengths), network.prefixes)
        for network in NETWORKS
    )
)
# Looser and simpler still, and the same to any engine: what tells quickest that a block of texts has none.
LONG_NUMBER = f"[0-9](?:[ -]*[0-9]){{{DIGITS_MIN - 1}}}"
# What a digit counts for in the check: as the last, the third last and so on, and as one of the others.
_COUNTS = [bytes.maketrans(b"0123456789", bytes(counts)) for counts in (range(10), (0, 2, 4, 6, 8, 1, 3, 5, 7, 9))]
_DIGITS_AND_SEPARATORS = frozenset("0123456789 -")
_DIGITS = bytes(ord("0") if chr(byte) in "0123456789" else ord(".") for byte in range(256))
_suspect, _code_or_run, _group, _issued = map(re.compile, (SUSPECT, CODE_OR_RUN, "[0-9]+", ISSUED))


class CardKey:
    """The key of the tokens: the same card has the same token wherever it is found, under the same key.

    ``key`` is what the tokens are made with, 32 bytes; it is derived from the secret.

    :param secret: random text of at least 32 characters.
    :raises CardKeyError: it is shorter.
    """

    def __init__(self, secret: str) -> None:
        if len(secret) < KEY_CHARS_MIN:
            raise CardKeyError(
                f"{KEY_VARIABLE} has {len(secret)} characters, at least {KEY_CHARS_MIN} are needed: "
                "make one with `openssl rand -hex 32` and keep it, tokens change with it"
            )
        self.key = hmac.digest(secret.encode(), _DERIVED_FOR, "sha256")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> CardKey | None:
        """The key of ``TIEOUT_CARD_KEY``; None, and a warning in the log, where it is not set.

        :raises CardKeyError: it is too short.
        """
        secret = (os.environ if environment is None else environment).get(KEY_VARIABLE)
        if secret:
            return cls(secret)
        log.warning(
            "%s is not set: card numbers are masked without a token, so one card cannot be told from another with "
            "the same first six and last four digits", KEY_VARIABLE
        )  # fmt: skip
        return None

    def token(self, number: str) -> str:
        """The first 16 hexadecimal digits of the number's HMAC-SHA256. ``number`` is digits only."""
        return hmac.digest(self.key, number.encode(), "sha256").hex()[:TOKEN_DIGITS]


def luhn(digits: str) -> bool:
    """Whether the last of these digits is their check digit."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_card_number(digits: str) -> bool:
    """Whether these digits, without anything between them, are a card number."""
    return _issued.match(digits) is not None and luhn(digits)


def mask(text: str, key: CardKey | None, ids: Collection[str] = ()) -> tuple[str, int]:
    """Replace every card number in a text.

    :param key: for the tokens; None leaves them out.
    :param ids: numbers, digits only, that are known not to be of cards: they stay.
    :returns: the text, the same object when there is no card number in it, and the number of masks put in.
    """
    if _suspect.search(text) is None:
        return text, 0
    masks = 0

    def masked_run(found: re.Match[str]) -> str:
        nonlocal masks
        run = found.group()
        if not _DIGITS_AND_SEPARATORS.issuperset(run):
            return run
        pieces, done = [], 0
        for start, stop, numbers in _overlapping(run, ids):
            pieces += [run[done:start], _mask("".join(_group.findall(run, start, stop)), numbers, key)]
            done = stop
            masks += 1
        return "".join([*pieces, run[done:]])

    changed = _code_or_run.sub(masked_run, text)
    return (changed, masks) if masks else (text, 0)


def redact(text: str) -> str:
    """The text without card numbers, for messages: masked, without tokens."""
    return mask(text, None)[0]


def may_have_long_number(text: Any) -> bool:
    """Whether a buffer of UTF-8 texts, one behind the other, may hold a card number; None is a buffer of none."""
    # Digits are made alike, separators dropped: a third of what the expression takes.
    return text is not None and b"0" * DIGITS_MIN in bytes(text).translate(_DIGITS, b" -")


def mask_beside(text: str, ids: Iterable[str | None], key: CardKey | None) -> tuple[str, int]:
    """:func:`mask` for a text that may hold ids of its own row, which are assigned by systems, and stay."""
    known = {one for one in ids if one and len(one) >= DIGITS_MIN}
    other = text
    for one in known:
        other = other.replace(one, ".")
    if not may_have_long_number(other.encode(errors="replace")):
        return text, 0
    return mask(text, key, {"".join(_group.findall(one)) for one in known})


def _mask(digits: str, numbers: list[str], key: CardKey | None) -> str:
    hidden = "*" * (len(digits) - SHOWN_FIRST - SHOWN_LAST)
    tokens = (key.token(number) for number in numbers) if key else ()
    halves = "".join(f":{token[: TOKEN_DIGITS // 2]}_{token[TOKEN_DIGITS // 2 :]}" for token in tokens)
    return f"{MASK_OPENS}{digits[:SHOWN_FIRST]}{hidden}{digits[-SHOWN_LAST:]}{halves}}}"


def _overlapping(run: str, ids: Collection[str]) -> Iterator[tuple[int, int, list[str]]]:
    """Card numbers of a run of groups: start and stop of each stretch of overlapping ones, and those numbers."""
    start, stop, numbers = 0, 0, list[str]()
    for begins, ends, number in _numbers(run):
        if number in ids:
            continue
        if numbers and begins >= stop:
            yield start, stop, numbers
            numbers = []
        if not numbers:
            start = begins
        stop = max(stop, ends)
        numbers.append(number)
    if numbers:
        yield start, stop, numbers


def _numbers(run: str) -> Iterator[tuple[int, int, str]]:
    """Every card number that whole groups of a run make, with its start and stop, by where it starts and stops."""
    groups = [found.span() for found in _group.finditer(run)]
    digits = "".join([run[start:stop] for start, stop in groups])
    stops = list(accumulate(stop - start for start, stop in groups))
    # Sums up to each digit, for numbers that end on an even place and on an odd one: the check of any stretch is a
    # difference, and a run of digits of any length and spacing costs little.
    checks = []
    for odd in (0, 1):
        counts = bytearray(len(digits))
        counts[odd::2] = digits[odd::2].encode().translate(_COUNTS[0])
        counts[1 - odd :: 2] = digits[1 - odd :: 2].encode().translate(_COUNTS[1])
        checks.append(list(accumulate(counts, initial=0)))
    long_enough = 0
    for first, (start, stop) in enumerate(groups):
        begins = stops[first] - (stop - start)
        while long_enough < len(groups) and stops[long_enough] < begins + DIGITS_MIN:
            long_enough += 1
        for last in range(long_enough, len(groups)):
            ends = stops[last]
            if ends > begins + DIGITS_MAX:
                break
            sums = checks[(ends - 1) % 2]
            if (sums[ends] - sums[begins]) % 10 == 0 and is_card_number(digits[begins:ends]):
                yield start, groups[last][1], digits[begins:ends]
