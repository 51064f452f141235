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

The same function exists twice, in Python for files and as one SQL expression for a SELECT at a database that we may
only read (PostgreSQL 13 or later, no extension, nothing created). A test holds them together.
"""

from __future__ import annotations

import hmac
import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from psycopg2 import sql

from tieout.sources import BATCH_ID, IS_DELETED, Column, Table, raw_identifier

KEY_VARIABLE = "TIEOUT_CARD_KEY"
KEY_CHARS_MIN = 32
# The secret never leaves this process: what a source is sent is a key derived from it.
_DERIVED_FOR = b"tieout card token"
_BLOCK_BYTES = 64

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
_SUSPECT = "(?<![0-9])(?:[2-6][ -]?[0-9]|8[ -]?[12]|9[ -]?7)(?:[ -]?[0-9]){11}"
_RUN = "[0-9](?:[ -]?[0-9]){12,}"
# With a letter among the digits, so that no run of digits is as long as the code that begins where it does.
_CODE = (
    "(?<![0-9A-Za-z])(?:(?=[0-9-]{0,35}[A-Fa-f])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    "|(?=[0-9]*[A-Fa-f])[0-9A-Fa-f]{24,}|(?<=[a-z]_)(?=[0-9]*[A-Za-z])[0-9A-Za-z]{16,})(?![0-9A-Za-z])"
)
_CODE_OR_RUN = f"{_CODE}|{_RUN}"
_ISSUED = "^(?:{})".format(
    "|".join(
        "(?=(?:{})$)(?:{})".format("|".join(f"[0-9]{{{length}}}" for length in network.lengths), network.prefixes)
        for network in NETWORKS
    )
)
# What tells quickest that bytes of text have no number of that length: digits are made alike, separators dropped.
_DIGITS = bytes(ord("0") if chr(byte) in "0123456789" else ord(".") for byte in range(256))
_LONG_NUMBER = b"0" * DIGITS_MIN
_DIGITS_AND_SEPARATORS = frozenset("0123456789 -")
_suspect, _code_or_run, _group, _issued = map(re.compile, (_SUSPECT, _CODE_OR_RUN, "[0-9]+", _ISSUED))


class CardKey:
    """The key of the tokens: the same card has the same token wherever it is found, under the same key.

    :param secret: random text of at least 32 characters.
    :raises CardKeyError: it is shorter.
    """

    def __init__(self, secret: str) -> None:
        if len(secret) < KEY_CHARS_MIN:
            raise CardKeyError(
                f"{KEY_VARIABLE} has {len(secret)} characters, at least {KEY_CHARS_MIN} are needed: "
                "make one with `openssl rand -hex 32` and keep it, tokens change with it"
            )
        self._key = hmac.digest(secret.encode(), _DERIVED_FOR, "sha256")

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
        return hmac.digest(self._key, number.encode(), "sha256").hex()[:TOKEN_DIGITS]

    def token_sql(self, number: sql.Composable) -> sql.Composable:
        """The same for an expression of type bytea: the digits in ASCII."""
        return sql.SQL("left(encode({}, 'hex'), {})").format(
            hmac_sha256_sql(self._key, number), sql.Literal(TOKEN_DIGITS)
        )


def hmac_sha256_sql(key: bytes, message: sql.Composable) -> sql.Composable:
    """The SQL expression for the HMAC-SHA256 of an expression of type bytea; the key has at most 64 bytes."""
    padded = key.ljust(_BLOCK_BYTES, b"\0")
    inner, outer = (sql.Literal("\\x" + bytes(byte ^ pad for byte in padded).hex()) for pad in (0x36, 0x5C))
    return sql.SQL("sha256({}::bytea || sha256({}::bytea || {}))").format(outer, inner, message)


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


def redacted(texts: Sequence[str]) -> Sequence[str]:
    """:func:`redact` for many texts, cheap where none of them has a long number."""
    return list(map(redact, texts)) if _has_long_number(texts) else texts


class FreeText:
    """The free text of one table of files: masked by the block of rows, and what was masked counted.

    A text holds the ids of its own row, too, where it is the record as it stood in the file. They are assigned by
    systems, and stay.

    :param columns: of the rows, in order.
    """

    def __init__(self, columns: Sequence[Column], key: CardKey | None) -> None:
        self.rows = 0
        self.columns: dict[str, int] = {}
        self._key = key
        self._texts = {at: column.name for at, column in enumerate(columns) if column.free_text}
        self._ids = [at for at, column in enumerate(columns) if column.data_type == "text" and not column.free_text]

    def mask(self, block: list[Sequence[Any]]) -> None:
        """Mask the free text of some rows, which are given as columns, in place."""
        rows: set[int] = set()
        for at, name in self._texts.items():
            if not _has_long_number(filter(None, block[at])):
                continue
            ids = zip(*(block[one] for one in self._ids), strict=True) if self._ids else ((),) * len(block[at])
            texts, found = self._masked(block[at], ids)
            if found:
                block[at] = texts
                self.columns[name] = self.columns.get(name, 0) + len(found)
                rows |= found
        self.rows += len(rows)

    def _masked(
        self, texts: Sequence[str | None], ids: Iterable[tuple[str | None, ...]]
    ) -> tuple[list[str | None], set[int]]:
        long_ids = [{one for one in of_row if one and len(one) >= DIGITS_MIN} for of_row in ids]
        others = []
        for text, known in zip(texts, long_ids, strict=True):
            other = text or ""
            for one in known:
                other = other.replace(one, ".")
            others.append(other)
        if not _has_long_number(others):
            return list(texts), set()
        masked, found = list(texts), set()
        for row, (text, other, known) in enumerate(zip(texts, others, long_ids, strict=True)):
            if text and _has_long_number((other,)):
                masked[row], masks = mask(text, self._key, {"".join(_group.findall(one)) for one in known})
                if masks:
                    found.add(row)
        return masked, found


def _has_long_number(texts: Iterable[str]) -> bool:
    """Whether the texts may hold a card number; where not, they do not. A tenth of a microsecond for 100 characters."""
    return _LONG_NUMBER in "\t".join(texts).encode(errors="replace").translate(_DIGITS, b" -")


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
    groups = list(_group.finditer(run))
    for first, group in enumerate(groups):
        digits = ""
        for last in range(first, len(groups)):
            digits += groups[last].group()
            if len(digits) > DIGITS_MAX:
                break
            if len(digits) >= DIGITS_MIN and is_card_number(digits):
                yield group.start(), groups[last].end(), digits


# Text is cut at its runs of digits; of each run come its groups, from them the numbers of the right length, from those
# that are card numbers the stretches that overlap. Runs are handled as bytes, where a piece is cut out in no time: a
# megabyte of digits must not stop a load. A position counts digits; one separator stands between two groups.
_MASKED = """
case when {said} collate "C" ~ {suspect} then (
    select string_agg(gap || case when run is null then '' when run[1] ~ '[A-Za-z]' then run[1] else (
        with flat as materialized (
            select run[1]::bytea as bytes, translate(run[1], ' -', '')::bytea as digits
        ), digit_groups as (
            select group_no, sum(length(digits[1])) over (order by group_no) as ends,
                sum(length(digits[1])) over (order by group_no) - length(digits[1]) as begins
            from regexp_matches(run[1], '[0-9]+', 'g') with ordinality as found (digits, group_no)
        ), candidates as materialized (
            select head.begins, tail.ends, head.begins + head.group_no as start, tail.ends + tail.group_no - 1 as stop,
                cut.number, lpad(cut.number, {digits_max}, '0')::bytea as padded
            from digit_groups as head
            cross join generate_series({digits_min}, {digits_max}) as width
            join digit_groups as tail on tail.ends = head.begins + width
            cross join lateral (
                select encode(
                    substring((select digits from flat) from head.begins::integer + 1 for width), 'escape'
                ) as number
            ) as cut
        ), numbers as (
            select * from candidates where number ~ {issued} and mod({luhn_sum}, 10) = 0
        ), opened as (
            select *, begins >= coalesce(max(ends) over (
                order by begins, ends rows between unbounded preceding and 1 preceding
            ), 0) as opens
            from numbers
        ), numbered as (
            select *, count(*) filter (where opens) over (order by begins, ends) as stretch from opened
        ), stretches as (
            select min(begins)::integer as begins, max(ends)::integer as ends, min(start)::integer as start,
                max(stop)::integer as stop, {tokens} as tokens
            from numbered group by stretch
        ), placed as (
            select *, lag(stop, 1, 0) over (order by start) as done from stretches
        )
        select coalesce(
            string_agg(
                encode(
                    substring((select bytes from flat) from done + 1 for start - done - 1) || {opening}::bytea
                    || substring((select digits from flat) from begins + 1 for {shown_first})
                    || repeat('*', ends - begins - {shown_first} - {shown_last})::bytea
                    || substring((select digits from flat) from ends - {shown_last} + 1 for {shown_last})
                    || tokens::bytea || '}}'::bytea, 'escape'
                ), '' order by start
            ) || encode(substring((select bytes from flat) from max(stop) + 1), 'escape'),
            run[1]
        )
        from placed
    ) end, '' order by piece_no)
    from (select {said} collate "C" as said) as given
    cross join lateral rows from (regexp_split_to_table(said, {run}), regexp_matches(said, {run}, 'g'))
        with ordinality as pieces (gap, run, piece_no)
) else {said} end
"""


def masked(said: sql.Composable, key: CardKey | None) -> sql.Composable:
    """The SQL expression that masks the card numbers in a text as :func:`mask` does.

    :param said: an expression of type text, evaluated up to three times. NULL stays NULL, text without a card number
        stays as it is, byte for byte.
    :param key: for the tokens; None leaves them out.
    """
    tokens: sql.Composable = sql.SQL("''")
    if key:
        half = sql.Literal(TOKEN_DIGITS // 2)
        tokens = sql.SQL(
            "string_agg((select ':' || left(token, {}) || '_' || right(token, {}) from (select {} as token) as made), "
            "'' order by begins, ends)"
        ).format(half, half, key.token_sql(sql.SQL("number::bytea")))
    return sql.SQL(" ".join(_MASKED.split())).format(
        said=said, suspect=sql.Literal(_SUSPECT), run=sql.Literal(_CODE_OR_RUN), issued=sql.Literal(_ISSUED),
        luhn_sum=sql.SQL(" + ".join(_luhn_terms())),
        digits_min=sql.Literal(DIGITS_MIN), digits_max=sql.Literal(DIGITS_MAX), opening=sql.Literal(MASK_OPENS),
        shown_first=sql.Literal(SHOWN_FIRST), shown_last=sql.Literal(SHOWN_LAST), tokens=tokens,
    )  # fmt: skip


def _luhn_terms() -> Iterator[str]:
    """The terms of the check sum over digits that zeros fill up, on the left, to the greatest length."""
    for place in range(DIGITS_MAX):
        digit = f"(get_byte(padded, {place}) - 48)"
        doubled = (DIGITS_MAX - place) % 2 == 0
        yield f"mod({digit} * 2, 10) + {digit} / 5" if doubled else digit


def masked_rows(cursor: Any, table: Table, batch_id: int) -> tuple[int, dict[str, int]]:
    """Rows of a batch in raw that carry a mask, and how many do in which column; tombstones do not count.

    A table without free text is not looked at.
    """
    names = [column.name for column in table.columns if column.free_text]
    if not names:
        return 0, {}
    carries = [sql.SQL("strpos({}, {}) > 0").format(sql.Identifier(name), sql.Literal(MASK_OPENS)) for name in names]
    cursor.execute(
        sql.SQL("select count(*), {} from {} where {} = {} and not {} and ({})").format(
            sql.SQL(", ").join(sql.SQL("count(*) filter (where {})").format(one) for one in carries),
            raw_identifier(table), sql.Identifier(BATCH_ID), sql.Literal(batch_id), sql.Identifier(IS_DELETED),
            sql.SQL(" or ").join(carries),
        )
    )  # fmt: skip
    rows, *counts = cursor.fetchone()
    return rows, {name: count for name, count in zip(names, counts, strict=True) if count}
