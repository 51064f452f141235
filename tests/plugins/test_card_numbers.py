"""Card numbers: what is one, that both ways of masking are one function, and that none reaches raw."""

from __future__ import annotations

import hashlib
import logging
import random
import re
from collections.abc import Iterator
from typing import Any

import psycopg2
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2 import sql

from tieout.card_numbers import CardKey, CardKeyError, is_card_number, luhn, mask, redact
from tieout.extraction.card_masking import hmac_sha256_sql, masked
from tieout.landing.free_text import FreeText
from tieout.postgres import Cluster
from tieout.sources import Column

SECRET = "0123456789abcdef0123456789abcdef"
KEY = CardKey(SECRET)
VISA = "4111111111111111"
UUID = "4111111b-1111-4111-8111-111111111111"
# Ids that are not looked into, where a letter is among their digits.
CODE = re.compile(
    r"(?<![0-9A-Za-z])([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{24,}"
    r"|(?<=[a-z]_)[0-9A-Za-z]{16,})(?![0-9A-Za-z])"
)
# First digits and lengths of what the networks issue, written down apart from the module's own table.
ISSUED = (
    *(("4", length) for length in (13, 16, 19)),
    *((head, 16) for head in ("51", "55", "2221", "2300", "2720", "6011", "644", "65", "3528", "3589", "81", "9792")),
    ("34", 15), ("37", 15), ("300", 14), ("305", 14), ("36", 14), ("38", 16), ("6011", 19), ("62", 16), ("62", 19),
    ("5018", 13), ("6759", 16), ("6304", 19), ("58", 18), ("2200", 16), ("60", 16),
)  # fmt: skip


def card(chance: random.Random, head: str, length: int) -> str:
    body = head + "".join(chance.choice("0123456789") for _ in range(length - 1 - len(head)))
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in reversed(body[::-1][::2]))
    return body + str(-(doubled + sum(map(int, body[::-1][1::2]))) % 10)


def spread(chance: random.Random, digits: str) -> str:
    """The digits in groups of any size, or as they are printed on a card."""
    if chance.random() < 0.5:
        return " ".join(digits[at : at + 4] for at in range(0, len(digits), 4))
    return digits[0] + "".join(chance.choice(("", "", "", " ", "-")) + digit for digit in digits[1:])


def left(text: str) -> list[str]:
    """Card numbers in a text, found by trying every start and every length, and every network's first digits."""
    text = CODE.sub(lambda code: "x" if re.search("[A-Za-z]", code.group(1)) else code.group(), text)
    found = []
    for start in range(len(text)):
        if not "0" <= text[start] <= "9" or (start and "0" <= text[start - 1] <= "9"):
            continue
        digits, at = "", start
        while at < len(text) and len(digits) < 20:
            if "0" <= text[at] <= "9":
                digits += text[at]
                whole = at + 1 == len(text) or not "0" <= text[at + 1] <= "9"
                if whole and any(digits.startswith(head) and len(digits) == length for head, length in ISSUED):
                    numbers = [int(digit) for digit in digits[::-1]]
                    if (sum(numbers[::2]) + sum(sum(divmod(2 * one, 10)) for one in numbers[1::2])) % 10 == 0:
                        found.append(digits)
            elif text[at] not in " -" or text[at - 1] in " -":
                break
            at += 1
    return found


@pytest.fixture(scope="module")
def source(cluster: Cluster) -> Iterator[Any]:
    """A session that may only read, of a role that owns nothing."""
    cluster.execute("create role card_reader login")
    connection = psycopg2.connect(cluster.dsn("postgres"))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("set session authorization card_reader; set default_transaction_read_only = on")
        yield cursor
    connection.close()
    cluster.execute("drop role card_reader")


def masked_at(source: Any, texts: list[str], key: CardKey | None) -> list[str]:
    expression = masked(sql.Identifier("said"), key)
    source.execute(
        sql.SQL("select {} from unnest(%s::text[]) with ordinality as given (said, place) order by place").format(
            expression
        ),
        (texts,),
    )
    return [row[0] for row in source.fetchall()]


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        (VISA, "{card 411111******1111}"),
        ("card 4111 1111 1111 1111, thanks", "card {card 411111******1111}, thanks"),
        ("4111-1111-1111-1111.", "{card 411111******1111}."),
        ("2026-10-27 4111111111111111", "2026-10-27 {card 411111******1111}"),
        ("PAN378282246310005X", "PAN{card 378282*****0005}X"),
        ("4222222222222", "{card 422222***2222}"),
        ("12 4111 1111 1111 1111 34", "12 {card 411111******1111} 34"),
        (f"{VISA} 5555555555554444", "{card 411111******1111} {card 555555******4444}"),
        ("4111111111111112", "4111111111111112"),
        ("14111111111111111", "14111111111111111"),
        ("4111  1111 1111 1111", "4111  1111 1111 1111"),
        ("8835123412341236", "8835123412341236"),
        ("NL91ABNA0417164300", "NL91ABNA0417164300"),
        (UUID, UUID),
        ("txn_cha4111111111111111", "txn_cha4111111111111111"),
        (f"card_{VISA}", "card_{card 411111******1111}"),
        ("c5555555555554444fee000c", "c5555555555554444fee000c"),
        ("cc5555555555554444", "cc{card 555555******4444}"),
        (f"{UUID}-{VISA}", f"{UUID}-{{card 411111******1111}}"),
        ("12 345 678", "12 345 678"),
        ("{card 411111******1111}", "{card 411111******1111}"),
        ("٤١١١١١١١١١١١١١١١", "٤١١١١١١١١١١١١١١١"),
        ("", ""),
    ],
)
def test_card_numbers_are_masked_and_other_numbers_are_not(text: str, stored: str, source: Any) -> None:
    assert redact(text) == stored
    assert masked_at(source, [text], None) == [stored]


def test_a_reference_with_a_valid_check_digit_is_no_card_number() -> None:
    assert luhn("8835123412341236")
    assert not is_card_number("8835123412341236")
    assert luhn("0000000000000000")
    assert not is_card_number("0000000000000000")


def test_numbers_that_overlap_are_one_mask_that_hides_each(source: Any) -> None:
    chance = random.Random(7)
    while True:
        run = " ".join("".join(chance.choice("0123456789") for _ in range(4)) for _ in range(5))
        digits = run.replace(" ", "")
        if is_card_number(digits[:16]) and is_card_number(digits[4:]):
            break
    text, masks = mask(run, KEY)
    assert masks == 1
    assert text == f"{{card {digits[:6]}{'*' * 10}{digits[-4:]}" + "".join(
        f":{token[:8]}_{token[8:]}" for token in (KEY.token(digits[:16]), KEY.token(digits[4:]))
    ) + "}"  # fmt: skip
    assert masked_at(source, [run], KEY) == [text]


def test_a_number_known_to_be_an_id_stays(source: Any) -> None:
    line = f"ref,{VISA},note 5555 5555 5555 4444"
    assert mask(line, None, ids={VISA}) == (f"ref,{VISA},note {{card 555555******4444}}", 1)
    assert mask(line, None, ids={VISA, "5555555555554444"}) == (line, 0)


def test_the_token_is_the_hmac_of_the_digits(source: Any) -> None:
    def hmac(key: bytes, message: bytes) -> bytes:
        inner, outer = (bytes(byte ^ pad for byte in key.ljust(64, b"\0")) for pad in (0x36, 0x5C))
        return hashlib.sha256(outer + hashlib.sha256(inner + message).digest()).digest()

    # RFC 4231, test cases 1 and 2.
    vectors = [
        (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (
            b"Jefe", b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
    ]  # fmt: skip
    for key, message, digest in vectors:
        assert hmac(key, message).hex() == digest
        source.execute(
            sql.SQL("select encode({}, 'hex')").format(hmac_sha256_sql(key, sql.SQL("%s::bytea"))), (message,)
        )
        assert source.fetchone() == (digest,)
    token = hmac(hmac(SECRET.encode(), b"tieout card token"), VISA.encode()).hex()[:16]
    assert KEY.token(VISA) == token
    stored = f"{{card 411111******1111:{token[:8]}_{token[8:]}}}"
    assert mask("4111 1111 1111 1111", KEY) == (stored, 1)
    assert masked_at(source, [VISA, "4111-1111-1111-1111"], KEY) == [stored, stored]


def test_the_secret_is_not_sent(source: Any) -> None:
    statement = masked(sql.Identifier("said"), KEY).as_string(source)
    blocks = [bytes(byte ^ pad for byte in SECRET.encode()).hex() for pad in (0, 0x36, 0x5C)]
    assert not [block for block in (SECRET, *blocks) if block in statement]
    assert SECRET not in repr(KEY)


chances = st.randoms(use_true_random=False)
separators = st.sampled_from(
    [" ", "-", "\n", "\t", "  ", " -", "é", "٣", "\uff14", "\u00a0", "\U0001f4b3", "x", "{card ", "%", "\\", "'", ","]
)
numbers = st.builds(lambda chance, issued: card(chance, *issued), chances, st.sampled_from(ISSUED))
near = st.builds(
    lambda number, at, digit: number[: at % len(number)] + digit + number[at % len(number) + 1 :],
    numbers, st.integers(0, 18), st.sampled_from("0123456789٣x "),
)  # fmt: skip
pieces = st.one_of(
    numbers, near, separators, separators, st.builds(spread, chances, numbers), st.builds(spread, chances, near),
    st.text("0123456789 -", max_size=24), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)  # fmt: skip
codes = st.one_of(
    st.uuids().map(str),
    st.builds(lambda chance: "".join(chance.choices("0123456789012345678901234567890ab-", k=36)), chances),
    st.builds(lambda number, rest: f"{number}{rest}", numbers, st.text("0123456789abcdefF", max_size=12)),
)
texts = st.lists(st.one_of(pieces, codes), max_size=8).map("".join)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(given_texts=st.lists(texts, min_size=30, max_size=60), with_key=st.booleans())
def test_the_source_masks_as_python_does(source: Any, given_texts: list[str], with_key: bool) -> None:
    key = KEY if with_key else None
    here = [mask(text, key) for text in given_texts]
    assert masked_at(source, given_texts, key) == [text for text, _ in here]
    for text, (stored, masks) in zip(given_texts, here, strict=True):
        assert masks or stored is text
        assert not left(stored)
        assert mask(stored, key) == (stored, 0)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.none() | texts, texts, st.sampled_from(["8835123412341236", VISA, None])), max_size=20),
    st.booleans(),
)
def test_blocks_are_masked_as_their_texts_are(rows: list[tuple[str | None, str, str | None]], ids: bool) -> None:
    columns = [Column("note", "text", False, True), Column("record", "text", True, True)]
    free_text = FreeText([*columns, *([Column("psp_reference", "text", False)] if ids else [])], KEY)
    block = free_text.masked([pa.array([row[at] for row in rows], pa.string()) for at in range(3 if ids else 2)])
    expected = [
        [text if text is None else mask(text, KEY, {row[2]} if ids and row[2] else ()) for text in row[:2]]
        for row in rows
    ]
    assert [list(pair) for pair in zip(block[0].to_pylist(), block[1].to_pylist(), strict=True)] == [
        [one and one[0] for one in row] for row in expected
    ]
    assert free_text.rows == sum(any(one and one[1] for one in row) for row in expected)
    found = {name: sum(bool(row[at] and row[at][1]) for row in expected) for at, name in enumerate(("note", "record"))}
    assert free_text.columns == {name: count for name, count in found.items() if count}


def test_the_id_of_a_line_stays_in_its_record() -> None:
    free_text = FreeText([Column("psp_reference", "text", False), Column("record", "text", True, True)], None)
    block = [[f"ch_{VISA}", VISA], [f"ch_{VISA},paid", f"{VISA},paid with 5555 5555 5555 4444"]]
    masked = free_text.masked(list(map(pa.array, block)))
    assert masked[1].to_pylist() == [f"ch_{VISA},paid", f"{VISA},paid with {{card 555555******4444}}"]
    assert (free_text.rows, free_text.columns) == (1, {"record": 1})


def test_a_thousand_cards_of_all_networks_leave_nothing(source: Any) -> None:
    chance = random.Random(20261019)
    surroundings = ("", "order ", "n°", "2026-10-19 ", "(", "x", "\n", "card:", "12-")
    seeded = []
    for number in range(1000):
        digits = card(chance, *ISSUED[number % len(ISSUED)])
        said = spread(chance, digits) if number % 2 else digits
        seeded.append((digits, f"{chance.choice(surroundings)}{said}{chance.choice(('', ' ', '.', 'x', ' 7'))}"))
    assert all(digits in left(text) for digits, text in seeded)
    for stored in (
        [mask(text, KEY)[0] for _, text in seeded],
        masked_at(source, [text for _, text in seeded], KEY),
    ):
        assert [found for text in stored for found in left(text)] == []
        assert sum(text.count("{card ") for text in stored) == 1000
    one_text = "; ".join(text for _, text in seeded)
    assert mask(one_text, KEY)[1] == 1000
    assert masked_at(source, [one_text], KEY) == [mask(one_text, KEY)[0]]


def test_null_and_other_columns_names_mean_what_they_meant(source: Any) -> None:
    names = ["said", "run", "gap", "digits", "number", "bytes", "begins", "ends", "stop", "width", "piece_no", "flat"]
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    expressions = sql.SQL(", ").join(masked(sql.Identifier(name), None) for name in names)
    source.execute(
        sql.SQL("select {} from (values ({})) as given ({})").format(
            expressions, sql.SQL(", ").join(sql.Literal(f"{name} {VISA}") for name in names), columns
        )
    )
    assert source.fetchone() == tuple(f"{name} {{card 411111******1111}}" for name in names)
    source.execute(sql.SQL("select {}").format(masked(sql.SQL("null::text"), KEY)))
    assert source.fetchone() == (None,)


def test_an_encoding_of_one_byte_a_character(cluster: Cluster) -> None:
    cluster.execute("create database latin encoding 'LATIN1' template template0 locale 'C'")
    try:
        with cluster.connect("latin") as connection, connection.cursor() as cursor:
            assert masked_at(cursor, [f"café {VISA} ñ", "café"], None) == ["café {card 411111******1111} ñ", "café"]
    finally:
        cluster.execute("drop database latin with (force)")


@pytest.mark.parametrize("text", ["4 " * 5_000, "4" * 200_000, f"{VISA} " * 1_000, "4111 1111 1111 1111 " * 1_000])
def test_a_long_text_made_of_digits_takes_no_forever(text: str, source: Any) -> None:
    source.execute("set statement_timeout = '20s'")
    assert masked_at(source, [text], KEY) == [mask(text, KEY)[0]]


def test_the_key_comes_from_the_environment(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = CardKey.from_environment({"TIEOUT_CARD_KEY": SECRET})
        assert found is not None
        assert found.token(VISA) == KEY.token(VISA)
        assert not caplog.records
        assert CardKey.from_environment({"TIEOUT_CARD_KEY": ""}) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    with pytest.raises(CardKeyError, match="TIEOUT_CARD_KEY has 31 characters, at least 32"):
        CardKey.from_environment({"TIEOUT_CARD_KEY": SECRET[1:]})


