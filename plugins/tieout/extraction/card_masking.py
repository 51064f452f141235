"""Card numbers masked by a database, as :mod:`tieout.card_numbers` masks them, and masks counted in raw.

For a SELECT at a database that we may only read: PostgreSQL 13 or later, no extension, nothing created.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from psycopg2 import sql

from tieout.card_numbers import (
    CODE_OR_RUN,
    DIGITS_MAX,
    DIGITS_MIN,
    ISSUED,
    MASK_OPENS,
    SHOWN_FIRST,
    SHOWN_LAST,
    SUSPECT,
    TOKEN_DIGITS,
    CardKey,
)
from tieout.sources import BATCH_ID, IS_DELETED, Table, raw_identifier

_BLOCK_BYTES = 64

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
        ).format(half, half, token_sql(key, sql.SQL("number::bytea")))
    return sql.SQL(" ".join(_MASKED.split())).format(
        said=said, suspect=sql.Literal(SUSPECT), run=sql.Literal(CODE_OR_RUN), issued=sql.Literal(ISSUED),
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


def token_sql(key: CardKey, number: sql.Composable) -> sql.Composable:
    """:meth:`CardKey.token` of an expression of type bytea: the digits in ASCII."""
    return sql.SQL("left(encode({}, 'hex'), {})").format(hmac_sha256_sql(key.key, number), sql.Literal(TOKEN_DIGITS))


def hmac_sha256_sql(key: bytes, message: sql.Composable) -> sql.Composable:
    """The SQL expression for the HMAC-SHA256 of an expression of type bytea; the key has at most 64 bytes."""
    padded = key.ljust(_BLOCK_BYTES, b"\0")
    inner, outer = (sql.Literal("\\x" + bytes(byte ^ pad for byte in padded).hex()) for pad in (0x36, 0x5C))
    return sql.SQL("sha256({}::bytea || sha256({}::bytea || {}))").format(outer, inner, message)
